"""Text ↔ ids, with the position in the text where each sampled token ends.

The ends of steps must be known in the sampled tokens, and re-encoding their text may give other tokens. So completions
are decoded as the bytes of their tokens. A character belongs to the token that brings its last byte, so the texts of
the tokens, concatenated, are the text.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from mig_jax.errors import UserError
from mig_jax.text import chat_template, hub, stop_ids, tokenizer_files
from mig_jax.text.prompts import PromptStyle
from mig_jax.text.response_format import TRIAL_ANSWERS
from mig_jax.text.step_format import MIG, SPACES, StepFormat
from mig_jax.text.token_bytes import byte_characters, decode_pieces, read_token_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Single tokens of the character tokenizer, in addition to all bytes.
CHARACTER_WORDS = ("<think>", "</think>", "<answer>", "</answer>", "### Step ", "system", "user", "assistant")
IMAGE_SPECIALS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
CHARACTER_SPECIALS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", *IMAGE_SPECIALS)

# Text before a piece, where a tokenizer encodes the beginning of a text in another way, and texts that show it. A line
# break merges with nothing in SentencePiece vocabularies.
_SENTINEL, _SENTINEL_TRIALS = "\n", ("7", "a")


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A fast Hugging Face tokenizer with what sampling and probing need.

    Made by `load`, `wrap` or `build_character_tokenizer`.

    fast: the tokenizer itself.
    eos_ids: every id that ends a completion; the first one ends a turn of the chat.
    declared_pad_id: the padding id named in its files, which saved models name again; None if there is none.
    format: of the responses, with whitespace around answers so that tags never merge with them; see `with_format`.
    token_bytes: `[V]` the bytes of each id; empty for an id without a token.
    files: the files it was read from, by their path in the folder; empty if it was not read from a folder.
    style: how its prompts are written; see `policy.prompts.with_style`.
    sentinel: text put before a piece that stands inside a text, so that it is not encoded as the beginning of one;
      see `encode`.
    is_limited: the tokenizer has ids that the model has no row for, see `limit_to`.
    """

    fast: "PreTrainedTokenizerFast"
    eos_ids: tuple[int, ...]
    declared_pad_id: int | None
    format: StepFormat
    token_bytes: tuple[bytes, ...] = dataclasses.field(repr=False)
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)
    style: PromptStyle = PromptStyle()
    sentinel: str = ""
    is_limited: bool = False

    @property
    def vocab_size(self) -> int:
        """The number of ids V. A model's embedding may have more rows."""
        return len(self.token_bytes)

    @property
    def pad_id(self) -> int:
        """The id that pads rows. It may also be a legal token, so masks are never inferred from it."""
        return 0 if self.declared_pad_id is None else self.declared_pad_id

    def token_id(self, text: str) -> int:
        """Return the id of a text that is a single token, such as the image placeholder.

        Raises:
          UserError: the text is not exactly one token.
        """
        ids = self.encode(text)
        if len(ids) != 1:
            raise UserError(f"the tokenizer {self.fast.name_or_path!r} encodes {text!r} as {len(ids)} tokens, not one")
        return ids[0]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text that stands inside a sequence, such as a response; adds no special tokens.

        SentencePiece tokenizers put a space before a text, which only belongs at the beginning of a sequence. So the
        text is encoded after a sentinel, whose own ids are left out.
        """
        return self.encode_start(self.sentinel + text)[self._sentinel_length :] if text else []

    def encode_start(self, text: str) -> list[int]:
        """Return the ids of a text that begins a sequence, such as a prompt; adds no special tokens."""
        try:
            ids = self.fast.encode(text, add_special_tokens=False)
        except TypeError as error:  # raised for lone surrogates, which no UTF-8 has
            raise UserError(f"a text cannot be encoded as UTF-8: {text[:60]!r}") from error
        if self.is_limited and ids and max(ids) >= self.vocab_size:
            token = self.fast.convert_ids_to_tokens(max(ids))
            raise UserError(f"the model has no row for the token {token!r}, id {max(ids)}, of the text {text[:60]!r}")
        return ids

    @functools.cached_property
    def _sentinel_length(self) -> int:
        return len(self.encode_start(self.sentinel)) if self.sentinel else 0

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included; see `decode_with_ends`."""
        return self.decode_with_ends(ids)[0]

    def decode_with_ends(self, ids: Sequence[int]) -> tuple[str, list[int]]:
        """Decode T ids.

        Bytes that are not UTF-8 become U+FFFD; ids without a token become nothing.

        Returns:
          The text, and `[T]` how many of its characters are complete after each token. The last of these counts is
          always the length of the text.
        """
        return decode_pieces([self.token_bytes[id] if 0 <= id < self.vocab_size else b"" for id in ids])

    def chat_prompt(self, messages: list[dict[str, Any]]) -> list[int]:
        """Return the ids of a chat up to the start of the assistant's turn.

        Raises:
          UserError: the chat template refuses these messages.
        """
        return self.encode_start(self.chat_text(messages))

    def chat_text(self, messages: list[dict[str, Any]]) -> str:
        """Return the text of a chat up to the start of the assistant's turn.

        Raises:
          UserError: the chat template refuses these messages.
        """
        return chat_template.prompt_text(self.fast, messages, self.style)

    def save(self, folder: str | os.PathLike) -> None:
        """Write the tokenizer in Hugging Face format: the files it was read from; see `tokenizer_files.write_files`."""
        tokenizer_files.write_files(self.files, self.fast, folder)

    def with_format(self, format: StepFormat) -> "Tokenizer":
        """Return the tokenizer for responses of another format, with the whitespace around answers that it needs.

        Raises:
          UserError: it merges answers with the tags of this format, whatever whitespace is between them.
        """
        return _with_space(dataclasses.replace(self, format=format))

    def limit_to(self, rows: int) -> "Tokenizer":
        """Return the tokenizer for a model that embeds the first `rows` ids, if only added tokens are left out.

        Some published tokenizers have a padding token that was added without adding its row. It is never used: texts
        that hold it are refused, and rows are padded with id 0.

        Raises:
          UserError: ordinary tokens have no row, or the token that ends a turn has none.
        """
        if self.vocab_size <= rows:
            return self
        ordinary = self.fast.backend_tokenizer.get_vocab(with_added_tokens=False)
        added = {id: token.content for id, token in self.fast.added_tokens_decoder.items() if id >= rows}
        if self.eos_ids[0] >= rows or any(id >= rows and id not in added for id in ordinary.values()):
            raise UserError(
                f"the tokenizer has {self.vocab_size} tokens, the model embeds {rows}: use the model's own tokenizer "
                "(model.tokenizer='')"
            )
        logging.warning(
            "the tokenizer %r has tokens that the model has no rows for, and that are never used: %s",
            self.fast.name_or_path, ", ".join(map(repr, added.values())),
        )  # fmt: skip
        pad_id = self.declared_pad_id
        return dataclasses.replace(
            self,
            eos_ids=tuple(id for id in self.eos_ids if id < rows),
            declared_pad_id=None if pad_id is None or pad_id >= rows else pad_id,
            token_bytes=self.token_bytes[:rows],
            is_limited=True,
        )

    @staticmethod
    def cut_tokens(char_end_t: Sequence[int], positions: Sequence[int]) -> list[int]:
        """Return, for each character position, the number of tokens up to the first token end at or after it."""
        return np.searchsorted([0, *char_end_t], positions).tolist()


def load(
    name: str | os.PathLike,
    *,
    model_folder: str | os.PathLike = "",
    format: StepFormat = MIG,
    eos: Sequence[str] = (),
) -> Tokenizer:
    """Load a tokenizer from a folder, from a GGUF file, or by its name on the Hugging Face hub.

    Args:
      name: folder, file or name.
      model_folder: folder of the model that uses it, if that is another one, as for a folder of adapters. Its
        end-of-sequence ids count as well, and its padding id if the tokenizer's own folder has none.
      format: of the responses.
      eos: see `wrap`.

    Raises:
      UserError: there is no such folder, file or name on the hub, it has no tokenizer.json, a file is damaged, or the
        tokenizer lacks something, see `wrap`.
    """
    if str(name).endswith(".gguf"):
        from mig_jax.text import gguf_tokenizer

        return wrap(*gguf_tokenizer.read(name), format=format, eos=eos)
    from transformers import PreTrainedTokenizerFast

    folder = Path(name) if Path(name).is_dir() else _download(str(name))
    if not (folder / "tokenizer.json").exists():
        advice = (
            " (convert its tokenizer.model: pip install sentencepiece, then "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR))"
        )
        raise UserError(
            f"{name} has no tokenizer.json: save a fast tokenizer there first, with transformers"
            f"{advice if (folder / 'tokenizer.model').exists() else ''}"
        )
    # Not AutoTokenizer, which rebuilds the tokenizers of some families from their vocabulary, ignoring tokenizer.json.
    try:
        fast = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # The libraries raise many types, even plain Exception, for damaged files.
        raise UserError(f"the tokenizer files of {name} cannot be read, they may be damaged: {error!r}") from error
    fast.name_or_path = str(name)
    folders = [folder, *([Path(model_folder)] if model_folder else [])]
    files = [_read_json(place / file) for place in folders for file in ("generation_config.json", "config.json")]
    parts = [part for content in files for part in (content, content.get("text_config")) if isinstance(part, dict)]
    eos_ids = [id for part in parts for id in _as_list(part.get("eos_token_id"))]
    pad_ids = [id for content in files[::2] for id in _as_list(content.get("pad_token_id"))]
    tokenizer = wrap(fast, eos_ids, next(iter(pad_ids), None), format=format, eos=eos)
    return dataclasses.replace(tokenizer, files=tokenizer_files.read_files(folder))


def _download(name: str) -> Path:
    """Download the small files of a model from the Hugging Face hub and return their folder."""
    try:
        return Path(hub.download(name, patterns=["*.json", *tokenizer_files.PATTERNS]))
    except UserError as error:
        raise UserError(
            f"no tokenizer {name!r}: it is not a local folder, and it cannot be downloaded from the hub ({error})"
        ) from error


def wrap(
    fast: "PreTrainedTokenizerFast",
    eos_ids: Sequence[int] = (),
    pad_id: int | None = None,
    *,
    format: StepFormat = MIG,
    eos: Sequence[str] = (),
) -> Tokenizer:
    """Prepare a Hugging Face tokenizer for sampling and probing.

    Args:
      fast: the tokenizer.
      eos_ids: ids that end a completion, in addition to the tokenizer's own.
      pad_id: the padding id, if the tokenizer names none.
      format: of the responses.
      eos: further tokens that end a completion (`model.eos`). The first ends a turn if the chat template ends turns
        with neither an end-of-sequence nor a special token.

    Raises:
      UserError: there is no end-of-sequence or no chat template, turns end with some other token, answers merge with
        every pair of tags, or the bytes of the tokens are unknown. All errors are listed at once.
    """
    eos_ids = tuple(dict.fromkeys([*_as_list(fast.eos_token_id), *eos_ids]))
    own_pad_ids = _as_list(fast.pad_token_id)
    tokenizer = Tokenizer(fast, eos_ids, own_pad_ids[0] if own_pad_ids else pad_id, format, ())
    tokenizer = _with_sentinel(tokenizer)
    errors = []
    for complete in (functools.partial(stop_ids.with_turn_end_first, eos=eos), _with_space, _with_token_bytes):
        try:
            tokenizer = complete(tokenizer)
        except ValueError as error:
            errors.append(str(error))
    if not tokenizer.eos_ids:
        errors.append("it names no end-of-sequence: set model.eos to the token that ends a completion")
    if errors:
        raise UserError("\n  ".join([f"the tokenizer {fast.name_or_path!r} cannot be used:", *errors]))
    return tokenizer


def build_character_tokenizer(*, format: StepFormat = MIG) -> Tokenizer:
    """Build a tokenizer from scratch: one token per byte (so per ASCII character) and per tag, V = 270.

    Its vocabulary is small enough for a model that trains on a laptop, yet it encodes any text.
    """
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Core
    from transformers import PreTrainedTokenizerFast

    characters = {character: byte for byte, character in enumerate(byte_characters())}
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
        chat_template=chat_template.CHAT_TEMPLATE,
    )
    return wrap(fast, format=format)


def merging_answers(tokenizer: Tokenizer, answers: Sequence[str]) -> list[str]:
    """Return the answers whose first or last characters merge with the tags of a probe; there should be none.

    A probe is encoded in three pieces: lead-in, answer, closing tag. It equals what a policy would generate only if
    encoding the pieces as one text gives the same ids.
    """
    before, after = tokenizer.format.lead_in, tokenizer.format.close
    lead_in, closing = tokenizer.encode(before), tokenizer.encode(after)
    return [
        answer
        for answer in answers
        if tokenizer.encode(before + answer + after) != lead_in + tokenizer.encode(answer) + closing
    ]


def _with_space(tokenizer: Tokenizer) -> Tokenizer:
    """Set the first whitespace around answers with which the tags merge with none of the trial answers."""
    for space in SPACES:
        tokenizer = dataclasses.replace(tokenizer, format=dataclasses.replace(tokenizer.format, space=space))
        if not merging_answers(tokenizer, TRIAL_ANSWERS):
            return tokenizer
    raise UserError(
        "it merges answers with every pair of tags, so probes would not match what the model generates: "
        f"{tokenizer.format.lead_in!r} and {tokenizer.format.close!r} merge with "
        f"{merging_answers(tokenizer, TRIAL_ANSWERS)[:8]}; choose another response_format"
    )


def _with_sentinel(tokenizer: Tokenizer) -> Tokenizer:
    """Set the text before pieces that stand inside a text; none if a piece is encoded alike everywhere."""
    sentinel = tokenizer.encode_start(_SENTINEL)
    for text in _SENTINEL_TRIALS:
        ids = tokenizer.encode_start(_SENTINEL + text)
        if ids[: len(sentinel)] == sentinel and ids[len(sentinel) :] != tokenizer.encode_start(text):
            return dataclasses.replace(tokenizer, sentinel=_SENTINEL)
    return tokenizer


def _with_token_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """Set the bytes of each id."""
    return dataclasses.replace(tokenizer, token_bytes=read_token_bytes(tokenizer.fast))


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file; {} if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read, it may be damaged: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} has {type(content).__name__}, not an object; it may be damaged")
    return content


def _as_list(ids: Any) -> list[int]:
    """Return the ids of a config entry that holds one id, a list of ids or None."""
    return ids if isinstance(ids, list) else [] if ids is None else [ids]
