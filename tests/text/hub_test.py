"""A model that the hub does not provide is explained in one short line."""

import huggingface_hub
import pytest
from huggingface_hub import errors

from mig_jax.errors import UserError
from mig_jax.text import hub


class Gated(errors.GatedRepoError):
    def __init__(self):
        pass  # the real ones take a response


class Missing(errors.RepositoryNotFoundError):
    def __init__(self):
        pass


@pytest.mark.parametrize(
    "error, message",
    [
        (Gated(), "access to it must be granted on its page"),
        (Missing(), "no such model on the hub, or a private one"),
        (errors.HFValidationError("Repo id must be in the form"), "not a name on the hub, which is OWNER/NAME"),
        (errors.LocalEntryNotFoundError("Cannot find\nan appropriate"), "the hub cannot be reached, and it is not in"),
        (errors.OfflineModeIsEnabled("off"), "the hub cannot be reached, and it is not in the cache"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (OSError("a\nlong " + "word " * 99), "a long word"),
    ],
)
def test_reason_is_one_short_line(error, message, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError) as raised:
        hub.download("a/b", patterns=["*.json"])
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value) and len(str(raised.value)) <= 200


def test_parameters_in_the_own_format_of_mistral_are_not_downloaded(monkeypatch):
    calls = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **kwargs: calls.append(kwargs) or "folder")
    assert hub.download("a/b", patterns=["*.safetensors"]) == "folder"
    assert calls == [{"allow_patterns": ["*.safetensors"], "ignore_patterns": ["consolidated*"]}]
