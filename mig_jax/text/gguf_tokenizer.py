"""The tokenizer inside a GGUF file.

A file names the way in which text is cut before byte pairs are merged (`tokenizer.ggml.pre`), but not the pattern
itself: the patterns are here, as the models' own tokenizer.json have them. A wrong one gives other tokens than those
the model was trained on, without any error; so a file that names none, or one that is not known here, is refused.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core
    from transformers import PreTrainedTokenizerFast

# Digits one by one, or in threes: that is all that sets these two apart.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# Digits one by one and then GPT-2's pattern, which the library knows as its own, are SmolLM's way.
_KNOWN = ("gpt-2", "smollm", "qwen2", "llama-bpe")

# The kinds of tokens that matter, in `tokenizer.ggml.token_type`; 1 is a normal one.
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5


def read(path: str | os.PathLike) -> tuple["PreTrainedTokenizerFast", list[int], int | None]:
    """The tokenizer of a GGUF file, the ids that end a completion, and the padding it declares.

    Raises:
      ValueError: it is no GGUF file, or its tokenizer is no byte-level BPE that cuts text in a way known here.
      ImportError: the package gguf is not installed.
    """
    from transformers import PreTrainedTokenizerFast

    meta = _read_metadata(path)
    _check(meta, path)
    ids = {role: meta.get(f"{role}_token_id") for role in ("bos", "eos", "eot", "padding")}
    tokens = {role: None if id is None else meta["tokens"][id] for role, id in ids.items()}
    # Some files call their padding an unused token.
    for id in {*ids.values()} - {None}:
        meta["token_type"][id] = _CONTROL
    fast = PreTrainedTokenizerFast(
        tokenizer_object=_build(meta["pre"], meta["tokens"], meta["token_type"], meta["merges"]),
        name_or_path=str(path),
        bos_token=tokens["bos"],
        eos_token=tokens["eos"],
        pad_token=tokens["padding"],
        clean_up_tokenization_spaces=False,
        chat_template=meta.get("chat_template"),
    )
    return fast, [ids[role] for role in ("eos", "eot") if ids[role] is not None], ids["padding"]


def _read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """What a file says of its tokenizer, by the last part of the name."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ImportError(f"reading {path} takes the package gguf: pip install gguf") from error
    try:
        fields = GGUFReader(path).fields
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise ValueError(f"{path} is no GGUF file, or a damaged one: {error}") from error
    return {name.split(".")[-1]: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}


def _check(meta: dict[str, Any], path: str | os.PathLike) -> None:
    if meta.get("model") != "gpt2" or meta.get("pre") not in _KNOWN:
        raise ValueError(
            f"{path}: a tokenizer of kind {meta.get('model')!r} that cuts text by {meta.get('pre')!r} "
            f"(tokenizer.ggml.pre) is not known here; known are gpt2 (byte-level BPE) with {', '.join(_KNOWN)}: take "
            "the tokenizer.json of the model instead"
        )
    missing = [f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges") if name not in meta]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}")


def _build(pre: str, tokens: list[str], kinds: list[int], merges: list[str]) -> "Core":
    from tokenizers import AddedToken, decoders, models, normalizers
    from tokenizers import Tokenizer as Core

    kinded = list(zip(tokens, kinds, strict=True))
    # Unused tokens only fill the model's rows up. Those that are added need no merges, but must have their ids.
    vocabulary = {token: id for id, (token, kind) in enumerate(kinded) if kind != _UNUSED}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    # Llama 3 knows whole words that no merges lead to.
    core = Core(models.BPE(vocabulary, pairs, ignore_merges=pre == "llama-bpe"))
    if pre == "qwen2":
        core.normalizer = normalizers.NFC()
    core.pre_tokenizer = _pre_tokenizer(pre)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, kind in kinded if kind == _CONTROL])
    core.add_tokens([AddedToken(t, normalized=False) for t, kind in kinded if kind == _USER_DEFINED])
    return core


def _pre_tokenizer(pre: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    if pre == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    cut = pre_tokenizers.Split(Regex(_QWEN2 if pre == "qwen2" else _LLAMA3), behavior="isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
