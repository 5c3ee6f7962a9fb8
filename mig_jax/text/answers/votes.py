"""Keys of answers in majority votes: equal answers have equal keys."""

import functools
import math
from collections.abc import Callable, Sequence

from mig_jax.text.answers.choices import is_nearest_choice, is_same_choice
from mig_jax.text.answers.compare import parse_share, polarity
from mig_jax.text.answers.formulas import ASSIGNMENT, canonical_form, choice_letters, set_members
from mig_jax.text.answers.normalize import normalize
from mig_jax.text.answers.quantities import parse_number_answer
from mig_jax.text.response_format import choices_by_letter


def vote_key(answer: str, *, kind: str, choices: Sequence[str] = ()) -> str:
    """Return the key under which an answer counts in a majority vote; "" is no vote.

    Equal answers have equal keys, as far as that is possible without comparing them. Numbers vote with their values,
    regardless of their units: 18, $18 and 18.00 are one vote, 50% counts as 50. Choices vote with their letters, if the
    choices are known. Sets vote with their sorted members.
    """
    key = VOTE_KEYS[kind](answer, choices) if kind in VOTE_KEYS else ""
    return (key or normalize(answer)).casefold()


def _number_key(answer: str, choices: Sequence[str]) -> str:
    """Return the value of a number, or ""."""
    number = parse_number_answer(answer)
    return "" if number is None else str(number.value)


def _expression_key(answer: str, choices: Sequence[str]) -> str:
    """Return the canonical form of a formula, or of the right-hand side of an assignment."""
    text = normalize(answer)
    assignment = ASSIGNMENT.fullmatch(text)
    return canonical_form(assignment[2] if assignment else text)


def _choice_key(answer: str, choices: Sequence[str], *, is_same: Callable[[str, str, Sequence[str]], bool]) -> str:
    """Return the letter of the choice that an answer names, or ""; without choices any letter from A to Z."""
    letters = choices_by_letter(choices) or map(chr, range(ord("A"), ord("Z") + 1))
    return next((letter for letter in letters if is_same(answer, letter, choices)), "")


def _yes_no_key(answer: str, choices: Sequence[str]) -> str:
    """Return "yes", "no" or ""."""
    return {True: "yes", False: "no", None: ""}[polarity(answer)]


def _set_key(answer: str, choices: Sequence[str]) -> str:
    """Return the sorted members of a set, in canonical form."""
    parts = set_members(answer)
    return ", ".join(sorted(choice_letters(parts) or {canonical_form(part).casefold() for part in parts}))


def _share_key(answer: str, choices: Sequence[str]) -> str:
    """Return the finite number that a text is, or ""."""
    share = parse_share(answer)
    return "" if share is None or not math.isfinite(share) else str(share)


# Functions that return the key of an answer in a majority vote; for other kinds it is the normalized text.
VOTE_KEYS: dict[str, Callable[[str, Sequence[str]], str]] = {
    "number": _number_key,
    "expression": _expression_key,
    "choice": functools.partial(_choice_key, is_same=is_same_choice),
    "yes_no": _yes_no_key,
    "set": _set_key,
    **dict.fromkeys(("relaxed", "integer", "rounded"), _share_key),
    "nearest_choice": functools.partial(_choice_key, is_same=is_nearest_choice),
}
