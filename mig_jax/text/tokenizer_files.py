"""The files of a tokenizer: read from a model's folder, and written beside a trained model as they were.

A tokenizer that is loaded and saved again may be another one: transformers 5 names classes, and writes fields, that
transformers 4 and the servers built on it do not know. So a model that was trained from a folder gets the files of that
folder. They are read when the tokenizer is loaded, because the folder may be gone at the end of a run.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mig_jax.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONFIG = "tokenizer_config.json"
# All that transformers and the servers built on it read of a tokenizer.
PATTERNS = (
    "tokenizer.json", CONFIG, "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja",
    "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "*.tiktoken",
)  # fmt: skip

# The class of transformers 5 for a tokenizer that is all in tokenizer.json, and its name in transformers 4 and 5.
_NEW_CLASS, _CLASS = "TokenizersBackend", "PreTrainedTokenizerFast"
# What a tokenizer returns by default in transformers 5. In 4 there are `token_type_ids` too, which `generate` refuses.
_INPUTS = ["input_ids", "attention_mask"]


def read_files(folder: str | os.PathLike) -> dict[str, bytes]:
    """Return the content of a tokenizer's files, by their path in the folder.

    Raises:
      UserError: a file cannot be read.
    """
    try:
        return {name: (Path(folder) / name).read_bytes() for name in _find_names(Path(folder))}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error


def write_files(files: Mapping[str, bytes], fast: "PreTrainedTokenizerFast", folder: str | os.PathLike) -> None:
    """Write a tokenizer, so that transformers 4 and 5 open it.

    Files are copied byte for byte. tokenizer_config.json alone is changed, and only if transformers 5 has written it;
    see `portable_config`. Files of another tokenizer in the folder are removed.

    Args:
      files: from `read_files`; empty if the tokenizer was not read from a folder, and has to be written.
      fast: the tokenizer itself.
      folder: to write to; created if needed.
    """
    folder = Path(folder)
    stale = set(_find_names(folder))
    if files:
        for name, content in files.items():
            _replace_file(folder / name, _portable(content) if name == CONFIG else content)
        written = set(files)
    else:
        written = {Path(path).relative_to(folder).as_posix() for path in fast.save_pretrained(folder)}
        _replace_file(folder / CONFIG, _portable((folder / CONFIG).read_bytes()))
    for name in stale - written:
        (folder / name).unlink()


def portable_config(raw: dict[str, Any]) -> dict[str, Any]:
    """Return tokenizer_config.json so that transformers 4 reads it as transformers 5 does, which wrote it.

    transformers 4 does not know the class `TokenizersBackend`, and takes `extra_special_tokens` for a mapping. Their
    names in both versions are `PreTrainedTokenizerFast` and, for a list, `additional_special_tokens`. The class has
    other inputs in transformers 4, so they are named.
    """
    raw = dict(raw)
    if raw.get("tokenizer_class") == _NEW_CLASS:
        raw["tokenizer_class"] = _CLASS
    if raw.get("tokenizer_class") == _CLASS and raw.get("backend"):  # transformers 4 writes no "backend"
        raw.setdefault("model_input_names", _INPUTS)
    if isinstance(raw.get("extra_special_tokens"), list):
        extra = raw.pop("extra_special_tokens")
        known = raw.get("additional_special_tokens") or []
        raw["additional_special_tokens"] = [*known, *(token for token in extra if token not in known)]
    return raw


def _portable(content: bytes) -> bytes:
    """Return the content of tokenizer_config.json, unchanged if transformers 4 can open it."""
    raw = json.loads(content)
    changed = portable_config(raw)
    if changed == raw:
        return content
    return (json.dumps(changed, indent=2, ensure_ascii=False) + "\n").encode()


def _find_names(folder: Path) -> list[str]:
    """Return the paths of a tokenizer's files in a folder."""
    found = (path for pattern in PATTERNS for path in sorted(folder.glob(pattern)) if path.is_file())
    return [path.relative_to(folder).as_posix() for path in found]


def _replace_file(path: Path, content: bytes) -> None:
    """Write a file under another name first, so that it is never half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_bytes(content)
    unfinished.replace(path)
