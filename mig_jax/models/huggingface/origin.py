"""What a trained model takes over from the model it was trained from: other fields of its configs, and its license."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import gguf as gguf_file

# Fields of a model card's front matter that state a license, on the hub; in GGUF metadata they begin with "general.".
_LICENSE_FIELDS = ("license", "license_name", "license_link")


@dataclasses.dataclass(frozen=True)
class Origin:
    """The files of the model that a run starts from, as far as they say more than parameters, shape and tokenizer.

    They are read when the model is loaded, because its folder may be gone at the end of a run.

    config: its config.json; empty for a GGUF file and for random parameters.
    generation: its generation_config.json; empty if there is none.
    license: the fields `_LICENSE_FIELDS` that its model card or GGUF metadata states.
    """

    config: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    generation: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    license: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def without_token_ids(self) -> "Origin":
        """Return this without ids of special tokens, for a model that has another tokenizer."""
        config, generation = (
            {name: value for name, value in fields.items() if not name.endswith("_token_id")}
            for fields in (self.config, self.generation)
        )
        return dataclasses.replace(self, config=config, generation=generation)


def read_origin(path: str | os.PathLike) -> Origin:
    """Read what a model in Hugging Face format or in a GGUF file passes on to models trained from it.

    Raises:
      UserError: a file is damaged.
    """
    if gguf_file.is_gguf(path):
        return Origin(license=gguf_file.read_license(path))
    folder = pathlib.Path(path)
    generation = folder / "generation_config.json"
    return Origin(
        config=hf_config.read_json(folder / "config.json"),
        generation=hf_config.read_json(generation) if generation.exists() else {},
        license=_card_license(folder / "README.md"),
    )


def _card_license(card: pathlib.Path) -> dict[str, str]:
    """Return the license fields in the front matter of a model card; {} if it has none."""
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}  # the card says nothing about the model's computation
    front = re.match(r"---\s*\n(.*?\n)---\s*\n", text, re.DOTALL)
    fields = re.findall(r"^(\w+):[ \t]*(\S.*?)\s*$", front[1], re.MULTILINE) if front else []
    return {name: value for name, value in fields if name in _LICENSE_FIELDS}
