"""Published checkpoints are read with every field accounted for, or refused with the reason, as docs/models.md says."""

import pathlib
import re

import pytest

from mig_jax.models import families
from mig_jax.models.families.known_fields import HARMLESS
from mig_jax.models.families.text_errors import SUPPORTED
from tests.models.families.checkpoints import ACCEPTED, REFUSED
from tests.models.families.published import read

DOCS = pathlib.Path(__file__).parents[3] / "docs" / "models.md"


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_checkpoint(name):
    config = read(ACCEPTED[name])
    written = families.raw_config(config, preferred=ACCEPTED[name]["model_type"])
    assert read(written) == config


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_field_counts_or_is_known_to_be_harmless(name):
    """A field of another name is refused, wherever it is, except in a vision tower that is not loaded."""
    raw = ACCEPTED[name]
    places = [(), *((part,) for part in ("rope_scaling", "rope_parameters", "text_config", "vision_config"))]
    for place in places:
        inner = raw.get(place[0]) if place else raw
        if not isinstance(inner, dict) or place == ("vision_config",) and read(raw).vision is None:
            continue
        changed = inner | {"surprise": 0.5}
        changed = raw | {place[0]: changed} if place else changed
        assert any("surprise" in error for error in families.config_errors(changed)), place


@pytest.mark.parametrize("name", REFUSED)
def test_refused_checkpoint(name):
    raw, reason = REFUSED[name]
    (error,) = families.config_errors(raw)
    assert reason in error and "supported: " in error and len(error) < 240


def test_no_harmless_field_is_one_that_counts():
    assert not HARMLESS & SUPPORTED.keys()


def test_docs_list_every_checkpoint():
    """In one table: accepted, or the reason."""
    rows = re.findall(r"^\| (`.*?`) \| (yes|no) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name: accepted == "yes" for names, accepted in rows for name in re.findall("`(.*?)`", names)}
    assert listed == dict.fromkeys(ACCEPTED, True) | dict.fromkeys(REFUSED, False)
    assert len(listed) >= 40
