"""Text ↔ ids, with the place in the text where every sampled token ends.

Where a step ends must be known in the tokens that were sampled, and tokenizing their text anew may give other ones. So
a completion is decoded here token by token, as bytes: a character is complete with the token that brings its last
byte, and the texts of the tokens, one after the other, are the text.
"""

import codecs
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mig_jax.text.response_format import ANSWER_CLOSE, ANSWER_LEAD_IN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# One token each in the character tokenizer, beside all bytes.
CHARACTER_WORDS = ("<think>", "</think>", "<answer>", "</answer>", "### Step ", "system", "user", "assistant")
CHARACTER_SPECIALS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A fast Hugging Face tokenizer, as sampling and probing need it; made by `load` or `build_character_tokenizer`.

    fast: the tokenizer itself.
    eos_ids: every id that ends a completion; the first one ends a turn of the chat.
    pad_id: what fills up a row; it may be a legal token, so no mask is ever read off it.
    token_bytes: the bytes of each id; none for an id that is no token.
    """

    fast: "PreTrainedTokenizerFast"
    eos_ids: tuple[int, ...]
    pad_id: int
    token_bytes: tuple[bytes, ...] = dataclasses.field(repr=False)

    @property
    def vocab_size(self) -> int:
        """How many ids there are. A model may have more rows."""
        return len(self.token_bytes)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, and nothing added to them."""
        return self.fast.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included; see `decode_with_ends`."""
        return self.decode_with_ends(ids)[0]

    def decode_with_ends(self, ids: Sequence[int]) -> tuple[str, list[int]]:
        """The text of T ids, and `[T]` how many of its characters are complete after each token.

        Whatever is no UTF-8 becomes U+FFFD, ids that are no tokens become nothing. The last number is always the
        length of the text.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        parts, char_end_t, length = [], [], 0
        for token in ids:
            parts.append(decoder.decode(self.token_bytes[token] if 0 <= token < self.vocab_size else b""))
            length += len(parts[-1])
            char_end_t.append(length)
        parts.append(decoder.decode(b"", final=True))
        if char_end_t:
            char_end_t[-1] += len(parts[-1])
        return "".join(parts), char_end_t

    def chat_prompt(self, messages: list[dict[str, Any]]) -> list[int]:
        """The ids of a chat up to where the assistant begins to speak.

        Raises:
          ValueError: the tokenizer has no chat template.
        """
        if not self.fast.chat_template:
            raise ValueError(f"the tokenizer {self.fast.name_or_path!r} has no chat template")
        return self.fast.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    def save(self, folder: str | os.PathLike) -> None:
        """Write the tokenizer in Hugging Face format."""
        self.fast.save_pretrained(folder)

    @staticmethod
    def cut_tokens(char_end_t: Sequence[int], positions: Sequence[int]) -> list[int]:
        """How many tokens it takes to reach each character position: up to the first token end at or behind it."""
        return np.searchsorted([0, *char_end_t], positions).tolist()


def load(name: str | os.PathLike) -> Tokenizer:
    """Load a tokenizer from a folder, or from the hub by its name.

    Raises:
      ValueError: it names no end-of-sequence, or decodes in a way that is not known here.
      OSError: there is none.
    """
    from transformers import PreTrainedTokenizerFast

    # Not AutoTokenizer, which rebuilds some families from their vocabulary instead of doing what tokenizer.json says.
    fast = PreTrainedTokenizerFast.from_pretrained(name)
    return _wrap(fast, _generation_eos(name))


def build_character_tokenizer() -> Tokenizer:
    """A tokenizer built from nothing: one token for every byte (so for every ASCII character), and for the tags.

    Its vocabulary is small enough for a model that learns on a laptop, yet no text is unknown to it.
    """
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Core
    from transformers import PreTrainedTokenizerFast

    characters = {character: byte for byte, character in enumerate(_byte_characters())}
    core = Core(models.BPE(vocab=characters, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_tokens([AddedToken(word, normalized=False) for word in CHARACTER_WORDS])
    core.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in CHARACTER_SPECIALS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
    return _wrap(fast, ())


def merge_problems(tokenizer: Tokenizer, answers: Sequence[str]) -> list[str]:
    """The answers whose first or last characters merge with the tags that a probe puts around them; should be none.

    A probe is encoded in three pieces. For it to be what a policy would write, encoding them as one text must give the
    same ids.
    """
    lead_in, closing = tokenizer.encode(ANSWER_LEAD_IN), tokenizer.encode(ANSWER_CLOSE)
    return [
        answer
        for answer in answers
        if tokenizer.encode(ANSWER_LEAD_IN + answer + ANSWER_CLOSE) != lead_in + tokenizer.encode(answer) + closing
    ]


def _wrap(fast: "PreTrainedTokenizerFast", generation_eos: Sequence[int]) -> Tokenizer:
    eos_ids = [] if fast.eos_token_id is None else [fast.eos_token_id]
    eos_ids = tuple(dict.fromkeys([*eos_ids, *generation_eos]))
    if not eos_ids:
        raise ValueError(f"the tokenizer {fast.name_or_path!r} names no end-of-sequence")
    pad_id = eos_ids[0] if fast.pad_token_id is None else fast.pad_token_id
    return Tokenizer(fast, eos_ids, pad_id, _token_bytes(fast))


def _generation_eos(name: str | os.PathLike) -> list[int]:
    """The ids that end a completion according to generation_config.json, if there is one."""
    path = Path(name, "generation_config.json")
    if not Path(name).is_dir():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            path = Path(hf_hub_download(str(name), path.name))
        except EntryNotFoundError:
            return []
    ids = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


# ------------------------------------------------------------------------------------------------- the bytes of a token


def _token_bytes(fast: "PreTrainedTokenizerFast") -> tuple[bytes, ...]:
    core = fast.backend_tokenizer
    to_bytes = _bytes_reader(json.loads(core.to_str())["decoder"])
    vocabulary = core.get_vocab(with_added_tokens=False)
    added = {id: token.content for id, token in core.get_added_tokens_decoder().items()}
    table = [b""] * (1 + max([*vocabulary.values(), *added]))
    for token, id in vocabulary.items():
        table[id] = to_bytes(token)
    for id, content in added.items():
        table[id] = content.encode()
    return tuple(table)


def _bytes_reader(decoder: dict | None) -> Callable[[str], bytes]:
    """How to read the bytes of a token off its name in the vocabulary.

    Raises:
      ValueError: the vocabulary is neither byte-level nor in the manner of sentencepiece.
    """
    parts = decoder.get("decoders", [decoder]) if decoder else []
    kinds = {part["type"] for part in parts}
    if "ByteLevel" in kinds and kinds <= {"ByteLevel", "Fuse"}:
        byte_of = {character: byte for byte, character in enumerate(_byte_characters())}
        return lambda token: bytes(byte_of[character] for character in token)
    replaced = [part["pattern"] for part in parts if part["type"] == "Replace"]
    if (
        "ByteFallback" in kinds
        and kinds <= {"Replace", "ByteFallback", "Fuse", "Strip"}
        and replaced == [{"String": "▁"}]
    ):
        return _sentencepiece_bytes
    raise ValueError(f"where a token ends in the text cannot be told with the decoder {json.dumps(decoder)}")


def _byte_characters() -> list[str]:
    """The 256 visible characters that stand for bytes in a byte-level vocabulary, as GPT-2 has it."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(stand_ins)) for byte in range(256)]


def _sentencepiece_bytes(token: str) -> bytes:
    """`▁` is a space and `<0x0A>` a byte."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()
