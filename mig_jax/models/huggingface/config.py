"""config.json of a folder in Hugging Face format: read into a `DecoderConfig`, and written."""

import json
import os
import pathlib
from typing import Any

from mig_jax.errors import UserError
from mig_jax.models import families
from mig_jax.models.decoder import DecoderConfig


def read_config(folder: str | os.PathLike) -> DecoderConfig:
    """Read the config of a Llama, Qwen2, Qwen2.5, Qwen2.5-VL or Qwen3 folder, as transformers 4 or 5 writes it.

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
) -> None:
    """Write generation_config.json and config.json, so that transformers 4 and 5 read them.

    Args:
      dtype: dtype of the tensors on disk.
      eos_ids: every id that ends a completion.
      pad_id: id of padding, if there is one.

    Raises:
      UserError: see `families.family_of`; nothing is written.
    """
    ids = {"bos_token_id": None, "eos_token_id": list(eos_ids) or None, "pad_token_id": pad_id}
    raw = {**families.raw_config(config), "torch_dtype": dtype, **ids}
    for name, content in (("generation_config.json", ids), ("config.json", raw)):
        unfinished = pathlib.Path(folder) / f"{name}.part"
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(unfinished.with_suffix(""))
