"""config.json of a folder in Hugging Face format: read into a `DecoderConfig`, and written; generation_config.json."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from mig_jax.errors import UserError
from mig_jax.models import families
from mig_jax.models.decoder import DecoderConfig

# Fields of a base model's config.json that are not kept: where and by which version it was saved, what is written anew
# under other names, and code that is not copied.
_NOT_KEPT = (
    "_name_or_path", "transformers_version", "auto_map", "dtype", "text_config", "rope_scaling", "rope_parameters",
)  # fmt: skip
# Objects in config.json that describe a part of the model.
_PARTS = ("text_config", "vision_config")


def read_config(folder: str | os.PathLike) -> DecoderConfig:
    """Read the config of a folder of one of `families.FAMILIES`, as transformers 4 or 5 writes it.

    Raises:
      UserError: config.json is missing or damaged, lacks a size, or asks for what the decoder does not compute; lists
        every such field.
    """
    file = pathlib.Path(folder) / "config.json"
    raw = read_json(file)
    if errors := families.config_errors(raw):
        raise UserError(f"{file}: this model is not supported:\n  " + "\n  ".join(errors))
    return families.decoder_config(raw)


def read_json(file: pathlib.Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
      UserError: the file is missing, cannot be read, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; give a model folder in Hugging Face format") from error
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error}); the copy is damaged or unfinished, copy it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds {type(content).__name__}, not an object of fields; copy it again")
    return content


def write_config(
    config: DecoderConfig,
    folder: str | os.PathLike,
    *,
    dtype: str = "float32",
    eos_ids: tuple[int, ...] = (),
    pad_id: int | None = None,
    base: Mapping[str, Any] | None = None,
) -> None:
    """Write config.json, so that transformers 4 and 5 read it.

    Args:
      dtype: dtype of the tensors on disk.
      eos_ids: every id that ends a completion.
      pad_id: id of padding, if there is one.
      base: config.json of the model that this one was trained from. Its fields that `config` does not have are kept, if
        it is of the same family.

    Raises:
      UserError: see `families.family_of`; nothing is written.
    """
    base = base or {}
    raw = families.raw_config(config, preferred=str(base.get("model_type")))
    content = _with_kept_fields(raw, base if base.get("model_type") == raw["model_type"] else {})
    text = content["text_config"] if "text_config" in raw else content
    text |= _token_ids(_without_nesting(base), eos_ids, pad_id)
    write_json(content | {"torch_dtype": dtype}, pathlib.Path(folder) / "config.json")


def write_generation_config(
    folder: str | os.PathLike,
    *,
    eos_ids: tuple[int, ...] = (),
    pad_id: int | None = None,
    base: Mapping[str, Any] | None = None,
) -> None:
    """Write generation_config.json: that of the base model, with every id that ends a completion.

    Args:
      eos_ids, pad_id: see `write_config`.
      base: generation_config.json of the model that this one was trained from.
    """
    base = base or {}
    write_json({**base, **_token_ids(base, eos_ids, pad_id)}, pathlib.Path(folder) / "generation_config.json")


def write_json(content: Mapping[str, Any], file: pathlib.Path) -> None:
    """Write a JSON file under another name first, so that it is never half written."""
    unfinished = file.with_name(f"{file.name}.part")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(file)


def _with_kept_fields(raw: dict[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return config.json with the fields of the base model that it does not have itself, part by part.

    Fields of the text decoder are kept where `raw` has them: in `text_config`, or beside the others, where
    transformers 4 looks for those of older families.
    """
    parts = {part: _with_kept_fields(raw[part], base.get(part) or {}) for part in _PARTS if part in raw}
    outer = base if "text_config" in raw else _without_nesting(base)
    return {name: value for name, value in outer.items() if name not in _NOT_KEPT} | raw | parts


def _without_nesting(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of config.json, those of `text_config` beside the others."""
    nested = base.get("text_config")
    text = {name: value for name, value in nested.items() if name != "model_type"} if isinstance(nested, dict) else {}
    return text | dict(base)


def _token_ids(base: Mapping[str, Any], eos_ids: tuple[int, ...], pad_id: int | None) -> dict[str, Any]:
    """Return the ids of special tokens: every end-of-sequence id, and the others as the base model has them."""
    pad = base.get("pad_token_id")
    return {
        "bos_token_id": base.get("bos_token_id"),
        "eos_token_id": list(eos_ids) or None,
        "pad_token_id": pad_id if pad is None else pad,
    }
