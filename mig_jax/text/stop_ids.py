"""The ids that end a completion: those that a model's files name, the end of a chat turn, and `model.eos`."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import logging

from mig_jax.errors import UserError
from mig_jax.text import chat_template

if TYPE_CHECKING:
    from mig_jax.text.tokenizer import Tokenizer


def with_turn_end_first(tokenizer: "Tokenizer", eos: Sequence[str] = ()) -> "Tokenizer":
    """Add the ids of `eos`, and put the id that ends a turn of the chat before the other ids that end a completion.

    A base model is often published with a chat template whose end of a turn its files do not name as end-of-sequence.
    """
    named = [_single_id(tokenizer, token) for token in eos]
    eos_ids = [*tokenizer.eos_ids, *named]
    try:
        end = _turn_end(tokenizer)
        if end not in eos_ids:
            _check_is_special(tokenizer, end)
    except UserError:
        if not named or not tokenizer.fast.chat_template:
            raise
        end = named[0]
    return dataclasses.replace(tokenizer, eos_ids=tuple(dict.fromkeys([end, *eos_ids])))


def _single_id(tokenizer: "Tokenizer", token: str) -> int:
    try:
        return tokenizer.token_id(token)
    except UserError as error:
        raise UserError(f"model.eos: {error}") from error


def _turn_end(tokenizer: "Tokenizer") -> int:
    """Return the id of the token with which the chat template begins to end a turn."""
    text = chat_template.turn_end(tokenizer.fast)
    ids = tokenizer.encode(text)
    if not ids:
        raise UserError(f"its chat template ends a turn with {text!r}, for which it has no token: set model.eos")
    return ids[0]


def _check_is_special(tokenizer: "Tokenizer", end: int) -> None:
    """Check that a token can end completions although the files do not say so, and warn that it does."""
    added = tokenizer.fast.added_tokens_decoder.get(end)
    name = repr(tokenizer.fast.convert_ids_to_tokens(end))
    if added is None or not added.special:
        raise UserError(
            f"its chat template ends a turn with {name}, id {end}, which is not an end-of-sequence (these are: "
            f"{list(tokenizer.eos_ids)}) and no special token: set model.eos to the token that ends a completion, such "
            "as --config.model.eos='</s>'"
        )
    logging.warning(
        "the chat template of %r ends a turn with %s, id %d, which its files do not name as end-of-sequence, as in "
        "base models: it ends completions too, and the saved model names it (model.eos adds others)",
        tokenizer.fast.name_or_path, name, end,
    )  # fmt: skip
