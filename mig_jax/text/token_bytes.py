"""The bytes of each token, read from the tokenizer's vocabulary, and their text."""

import codecs
import itertools
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mig_jax.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def read_token_bytes(fast: "PreTrainedTokenizerFast") -> tuple[bytes, ...]:
    """Return the bytes of each id, `[V]`; empty for an id without a token.

    Raises:
      UserError: the vocabulary is neither byte-level nor in SentencePiece style.
    """
    core = fast.backend_tokenizer
    to_bytes = _bytes_reader(json.loads(core.to_str())["decoder"])
    vocabulary = core.get_vocab(with_added_tokens=False)
    added = {id: token.content for id, token in core.get_added_tokens_decoder().items()}
    table = [b""] * (1 + max([*vocabulary.values(), *added]))
    for token, id in vocabulary.items():
        # Added tokens may also be in the vocabulary, but they stand for their literal text.
        table[id] = b"" if id in added else to_bytes(token)
    for id, content in added.items():
        table[id] = content.encode()
    return tuple(table)


def _bytes_reader(decoder: dict[str, Any] | None) -> Callable[[str], bytes]:
    """Return the function that maps a token's name in the vocabulary to its bytes."""
    parts = decoder.get("decoders", [decoder]) if decoder else []
    kinds = {part["type"] for part in parts}
    if "ByteLevel" in kinds and kinds <= {"ByteLevel", "Fuse"}:
        byte_of = {character: byte for byte, character in enumerate(byte_characters())}
        return lambda token: bytes(byte_of[character] for character in token)
    replaced = [part["pattern"] for part in parts if part["type"] == "Replace"]
    if (
        "ByteFallback" in kinds
        and kinds <= {"Replace", "ByteFallback", "Fuse", "Strip"}
        and replaced == [{"String": "▁"}]
    ):
        return _sentencepiece_bytes
    raise UserError(
        f"the bytes of its tokens are unknown with the decoder {json.dumps(decoder)}: use a byte-level tokenizer, or a "
        "SentencePiece one with byte fallback"
    )


def decode_pieces(pieces: Sequence[bytes]) -> tuple[str, list[int]]:
    """Return the text of T tokens, and `[T]` how many of its characters are complete after each of them.

    Args:
      pieces: bytes of the tokens. What is not UTF-8 becomes U+FFFD.
    """
    joined = b"".join(pieces)
    try:
        text = joined.decode()
    except UnicodeDecodeError:
        return _decode_one_by_one(pieces)
    byte_end_t = list(itertools.accumulate(map(len, pieces)))
    if len(text) == len(joined):
        return text, byte_end_t
    begins_character = np.frombuffer(joined, np.uint8) & 0xC0 != 0x80
    byte_ends = np.append(np.flatnonzero(begins_character)[1:], len(joined))  # of each character
    return text, np.searchsorted(byte_ends, byte_end_t, side="right").tolist()


def _decode_one_by_one(pieces: Sequence[bytes]) -> tuple[str, list[int]]:
    """Decode bytes that are not UTF-8 as a whole, several times slower."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    parts = [decoder.decode(piece) for piece in pieces]
    parts[-1] += decoder.decode(b"", final=True)
    return "".join(parts), list(itertools.accumulate(map(len, parts)))


def byte_characters() -> list[str]:
    """Return the 256 visible characters that stand for the bytes in a byte-level vocabulary, as in GPT-2."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(stand_ins)) for byte in range(256)]


def _sentencepiece_bytes(token: str) -> bytes:
    """Return the bytes of a SentencePiece token: `▁` is a space and `<0x0A>` one byte."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()
