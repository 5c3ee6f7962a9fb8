"""The tokenizer inside a GGUF file.

A GGUF file names its pre-tokenizer, which splits text before byte pairs are merged (`tokenizer.ggml.pre`), but does not
contain the split pattern. This module holds the patterns, as in the models' own tokenizer.json. A wrong pattern would
silently give other tokens than those the model was trained on, so a file with a missing or unknown name is refused.
"""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from mig_jax import gguf_file
from mig_jax.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Core
    from transformers import PreTrainedTokenizerFast

# The two differ only in digits: one at a time, or up to three.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# Name in a file → one of those that `_build` knows. GPT-2's pattern is built into the tokenizers library; SmolLM uses
# it after splitting off single digits. The other names are those that llama.cpp takes for the same pre-tokenizer.
_PRE_TOKENIZERS = {
    "gpt-2": "gpt-2",
    "smollm": "smollm",
    "qwen2": "qwen2",
    "deepseek-r1-qwen": "qwen2",
    "llama-bpe": "llama-bpe",
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
}

# The values of `tokenizer.ggml.token_type` that need care; 1 is a normal token.
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5


class GgufTokenizer(NamedTuple):
    """The tokenizer of a GGUF file.

    fast: the tokenizer itself.
    eos_ids: the ids that end a completion.
    pad_id: the padding id that the file declares, or None.
    """

    fast: "PreTrainedTokenizerFast"
    eos_ids: list[int]
    pad_id: int | None


def read(path: str | os.PathLike) -> GgufTokenizer:
    """Read the tokenizer of a GGUF file.

    Raises:
      UserError: it is not a GGUF file, or its tokenizer is not a byte-level BPE with a known pre-tokenizer.
    """
    from transformers import PreTrainedTokenizerFast

    metadata = gguf_file.read(path).metadata
    # Keyed by the last part of each name.
    meta = {name.split(".")[-1]: value for name, value in metadata.items() if name.startswith("tokenizer.")}
    _check_metadata(meta, path)
    ids: dict[str, int | None] = {role: meta.get(f"{role}_token_id") for role in ("bos", "eos", "eot", "padding")}
    tokens = {role: None if id is None else meta["tokens"][id] for role, id in ids.items()}
    # Some files mark their padding token as unused.
    meta["token_type"] = [*meta["token_type"]]
    for id in ids.values():
        if id is not None:
            meta["token_type"][id] = _CONTROL
    fast = PreTrainedTokenizerFast(
        tokenizer_object=_build(_PRE_TOKENIZERS[meta["pre"]], meta["tokens"], meta["token_type"], meta["merges"]),
        name_or_path=str(path),
        bos_token=tokens["bos"],
        eos_token=tokens["eos"],
        pad_token=tokens["padding"],
        clean_up_tokenization_spaces=False,
        chat_template=meta.get("chat_template"),
    )
    return GgufTokenizer(fast, [id for id in (ids["eos"], ids["eot"]) if id is not None], ids["padding"])


def _check_metadata(meta: dict[str, Any], path: str | os.PathLike) -> None:
    """Raise if a tokenizer cannot be rebuilt from its metadata."""
    if meta.get("model") != "gpt2" or meta.get("pre") not in _PRE_TOKENIZERS:
        raise UserError(
            f"{path}: unsupported tokenizer of model {meta.get('model')!r} with pre-tokenizer {meta.get('pre')!r} "
            f"(tokenizer.ggml.pre); supported is gpt2 (byte-level BPE) with {', '.join(_PRE_TOKENIZERS)}: use the "
            "model's tokenizer.json instead"
        )
    missing = [f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges") if name not in meta]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: use the model's tokenizer.json instead")


def _build(pre: str, tokens: list[str], kinds: list[int], merges: list[str]) -> "Core":
    """Build the byte-level BPE tokenizer.

    Args:
      pre: a value of `_PRE_TOKENIZERS`.
      tokens: `[V]` the name of each id.
      kinds: `[V]` the token type of each id.
      merges: pairs of names, separated by a space.
    """
    from tokenizers import AddedToken, decoders, models, normalizers
    from tokenizers import Tokenizer as Core

    typed_tokens = list(zip(tokens, kinds, strict=True))
    # Unused tokens only fill up rows of the embedding. Added tokens take part in no merge, but must keep their ids.
    vocabulary = {token: id for id, (token, kind) in enumerate(typed_tokens) if kind != _UNUSED}
    pairs = [(first, second) for first, second in (merge.split(" ") for merge in merges)]
    # Llama 3 has whole words in its vocabulary that no merges produce.
    core = Core(models.BPE(vocabulary, pairs, ignore_merges=pre == "llama-bpe"))
    if pre == "qwen2":
        core.normalizer = normalizers.NFC()
    core.pre_tokenizer = _pre_tokenizer(pre)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t, kind in typed_tokens if kind == _CONTROL]
    )
    core.add_tokens([AddedToken(t, normalized=False) for t, kind in typed_tokens if kind == _USER_DEFINED])
    return core


def _pre_tokenizer(pre: str) -> Any:
    """Return the pre-tokenizer of this name."""
    from tokenizers import Regex, pre_tokenizers

    if pre == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    split = pre_tokenizers.Split(Regex(_QWEN2 if pre == "qwen2" else _LLAMA3), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
