"""Text ↔ ids, with the place in the text where every sampled token ends.

Where a step ends must be known in the tokens that were sampled, and tokenizing their text anew may give other ones. So
a completion is decoded here token by token, as bytes: a character is complete with the token that brings its last
byte, and the texts of the tokens, one after the other, are the text.
"""

import codecs
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mig_jax.text import chat_template
from mig_jax.text.response_format import ANSWER_TAGS, PLAIN_TAGS, TRIAL_ANSWERS, AnswerTags
from mig_jax.text.token_bytes import byte_characters, read_token_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# One token each in the character tokenizer, beside all bytes.
CHARACTER_WORDS = ("<think>", "</think>", "<answer>", "</answer>", "### Step ", "system", "user", "assistant")
IMAGE_SPECIALS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
CHARACTER_SPECIALS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", *IMAGE_SPECIALS)


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A fast Hugging Face tokenizer, as sampling and probing need it.

    Made by `load`, `wrap` or `build_character_tokenizer`.

    fast: the tokenizer itself.
    eos_ids: every id that ends a completion; the first one ends a turn of the chat.
    declared_pad_id: the padding that its files name, to be written into the files of a model again; None without.
    tags: how an answer is opened and closed such that no tag merges with it.
    token_bytes: the bytes of each id; none for an id that is no token.
    """

    fast: "PreTrainedTokenizerFast"
    eos_ids: tuple[int, ...]
    declared_pad_id: int | None
    tags: AnswerTags
    token_bytes: tuple[bytes, ...] = dataclasses.field(repr=False)

    @property
    def vocab_size(self) -> int:
        """How many ids there are. A model may have more rows."""
        return len(self.token_bytes)

    @property
    def pad_id(self) -> int:
        """What fills up a row; it may be a legal token, so no mask is ever read off it."""
        return 0 if self.declared_pad_id is None else self.declared_pad_id

    def token_id(self, text: str) -> int:
        """The id of a text that is one token, such as the one that stands for an image.

        Raises:
          ValueError: it is none, or several.
        """
        ids = self.encode(text)
        if len(ids) != 1:
            raise ValueError(f"{text!r} is {len(ids)} tokens of the tokenizer {self.fast.name_or_path!r}, not one")
        return ids[0]

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
          ValueError: the chat template refuses these messages.
        """
        return self.encode(chat_template.prompt_text(self.fast, messages))

    def save(self, folder: str | os.PathLike) -> None:
        """Write the tokenizer in Hugging Face format."""
        self.fast.save_pretrained(folder)

    @staticmethod
    def cut_tokens(char_end_t: Sequence[int], positions: Sequence[int]) -> list[int]:
        """How many tokens it takes to reach each character position: up to the first token end at or behind it."""
        return np.searchsorted([0, *char_end_t], positions).tolist()


def load(name: str | os.PathLike) -> Tokenizer:
    """Load a tokenizer from a folder, from a GGUF file, or from the hub by its name.

    Raises:
      ValueError: see `wrap`; or there is no such folder, file or name on the hub, or no tokenizer.json in it.
    """
    if str(name).endswith(".gguf"):
        from mig_jax.text import gguf_tokenizer

        return wrap(*gguf_tokenizer.read(name))
    from transformers import PreTrainedTokenizerFast

    folder = Path(name) if Path(name).is_dir() else _fetch(str(name))
    if not (folder / "tokenizer.json").exists():
        raise ValueError(f"{name} has no tokenizer.json: save the tokenizer in its fast form, with transformers, first")
    # Not AutoTokenizer, which rebuilds some families from their vocabulary instead of doing what tokenizer.json says.
    fast = PreTrainedTokenizerFast.from_pretrained(folder)
    fast.name_or_path = str(name)
    generation, model = (_read_json(folder / file) for file in ("generation_config.json", "config.json"))
    eos_ids = [*_as_list(generation.get("eos_token_id")), *_as_list(model.get("eos_token_id"))]
    return wrap(fast, eos_ids, generation.get("pad_token_id"))


def _fetch(name: str) -> Path:
    """A folder with the small files of a model on the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.jinja"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"no tokenizer: {name!r} is no folder here, and not to be had from the hub ({error})"
        ) from error


def wrap(fast: "PreTrainedTokenizerFast", eos_ids: Sequence[int] = (), pad_id: int | None = None) -> Tokenizer:
    """Make a Hugging Face tokenizer ready for sampling and probing, or say everything that it lacks.

    Args:
      eos_ids: ids that end a completion, beside the tokenizer's own.
      pad_id: the padding, if the tokenizer names none.

    Raises:
      ValueError: no end-of-sequence, no chat template, turns that end with something else, answers that merge with all
        tags, or tokens that cannot be placed in the text.
    """
    eos_ids = tuple(dict.fromkeys([*_as_list(fast.eos_token_id), *eos_ids]))
    pad_id = pad_id if fast.pad_token_id is None else fast.pad_token_id
    tokenizer = Tokenizer(fast, eos_ids, pad_id, PLAIN_TAGS, ())
    faults = []
    if not eos_ids:
        faults.append('it names no end-of-sequence: put "eos_token_id" into generation_config.json')
    for find in (_with_turn_end_first, _with_tags, _with_token_bytes):
        try:
            tokenizer = find(tokenizer)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError("\n  ".join([f"the tokenizer {fast.name_or_path!r} cannot be used:", *faults]))
    return tokenizer


def build_character_tokenizer() -> Tokenizer:
    """A tokenizer built from nothing: one token for every byte (so for every ASCII character), and for the tags.

    Its vocabulary is small enough for a model that learns on a laptop, yet no text is unknown to it.
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
    return wrap(fast)


def merge_problems(tokenizer: Tokenizer, answers: Sequence[str]) -> list[str]:
    """The answers whose first or last characters merge with the tags that a probe puts around them; should be none.

    A probe is encoded in three pieces. For it to be what a policy would write, encoding them as one text must give the
    same ids.
    """
    tags = tokenizer.tags
    lead_in, closing = tokenizer.encode(tags.lead_in), tokenizer.encode(tags.close)
    return [
        answer
        for answer in answers
        if tokenizer.encode(tags.lead_in + answer + tags.close) != lead_in + tokenizer.encode(answer) + closing
    ]


def _with_tags(tokenizer: Tokenizer) -> Tokenizer:
    """With the first pair of tags that merges with none of the trial answers."""
    for tags in ANSWER_TAGS:
        tokenizer = dataclasses.replace(tokenizer, tags=tags)
        merging = merge_problems(tokenizer, TRIAL_ANSWERS)
        if not merging:
            return tokenizer
    raise ValueError(
        f"probes would not be what it writes: it merges answers with every pair of tags, {tags.open!r} and "
        f"{tags.close!r} with {merging[:8]}; add a pair to ANSWER_TAGS that it leaves alone"
    )


def _with_token_bytes(tokenizer: Tokenizer) -> Tokenizer:
    return dataclasses.replace(tokenizer, token_bytes=read_token_bytes(tokenizer.fast))


def _with_turn_end_first(tokenizer: Tokenizer) -> Tokenizer:
    """With the id that ends a turn of its chat template in front of all that end a completion."""
    text = chat_template.turn_end(tokenizer.fast)
    end = next(iter(tokenizer.encode(text)), None)
    if end is None:
        raise ValueError(f"a turn of its chat ends with {text!r}, for which it has no token")
    if end not in tokenizer.eos_ids:
        raise ValueError(
            f"a turn of its chat ends with {tokenizer.fast.convert_ids_to_tokens(end)!r}, id {end}, which ends no "
            f"completion (ids that do: {list(tokenizer.eos_ids)}): add it to eos_token_id in generation_config.json"
        )
    return dataclasses.replace(tokenizer, eos_ids=tuple(dict.fromkeys([end, *tokenizer.eos_ids])))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _as_list(ids: int | list[int] | None) -> list[int]:
    return ids if isinstance(ids, list) else [] if ids is None else [ids]
