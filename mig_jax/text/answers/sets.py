"""Comparison of sets of answers, and of letters of several choices."""

import re
from collections.abc import Callable, Sequence

from mig_jax.text.answers import structure
from mig_jax.text.answers.choices import CHOICE
from mig_jax.text.answers.formulas import is_same_math
from mig_jax.text.answers.logic import same_members
from mig_jax.text.answers.quantities import normalize_money

_SET_NAME = re.compile(r"\A[A-Za-z] ?(?:=|\\in(?![a-z])) ?(?=\\?\{)")
PLUS_MINUS = re.compile(r"\\pm(?![a-z])")
_LETTERS = re.compile(r"(?:([A-Z])(?!.*\1)){2,}")
_LETTER_LIST = re.compile(r"[A-Z](?: ?(?:[,;]| and ) ?[A-Z])*|[A-Z]{2,}")
_THOUSANDS = re.compile(r"-?[0-9]{1,3}(?:,[0-9]{3})+")
_BRACKETED_LETTERS = re.compile(r"(?:\([A-Z]\)){2,}")


def is_same_set(
    response: str,
    reference: str,
    choices: Sequence[str] = (),
    *,
    is_same: Callable[[str, str], bool | None] = is_same_math,
) -> bool | None:
    """Return whether two sets have the same members, in any order; None if that depends on an undecided comparison.

    Args:
      response: the given answer, see `set_members` for how a set may be written.
      reference: the reference answer.
      choices: not used.
      is_same: compares two members; None if undecided.
    """
    given, wanted = set_members(response), set_members(reference)
    if (letters := choice_letters(wanted)) is not None:
        return choice_letters(given) == letters
    return same_members(given, wanted, is_same)


def set_members(answer: str) -> list[str]:
    r"""Return the distinct members of a set written as {1, 2}, as 1 and 2, as x = 1 or x = 2, or as \pm 1."""
    text = _SET_NAME.sub("", normalize_money(answer))
    inner = structure.enclosed(text)
    if inner and inner[0] in ("{", r"\{"):
        text = inner[1]
    elif inner and (_LETTER_LIST.fullmatch(inner[1]) or inner[0] + inner[2] == "[]" and inner[1].count(",") > 1):
        text = inner[1]
    if _BRACKETED_LETTERS.fullmatch(text.replace(" ", "")):
        text = ", ".join(re.findall("[A-Z]", text))
    if _THOUSANDS.fullmatch(text):
        return [text]
    parts, _ = structure.split(text, structure.SEPARATOR) if text != r"\emptyset" else ([], [])
    signed = (PLUS_MINUS.sub(sign, part).strip() for part in parts for sign in ("+", "-"))
    return list(dict.fromkeys(filter(None, signed)))


def choice_letters(members: Sequence[str]) -> set[str] | None:
    """Return the letters of choices, as in "A, C", "A & C" or "AC"; None if a member is anything else."""
    if len(members) == 1 and _LETTERS.fullmatch(together := re.sub("[ &]", "", members[0])):
        return set(together)
    letters = [CHOICE.fullmatch(member) for member in members]
    found = {letter[1].upper() for letter in letters if letter}
    return found if letters and all(letters) else None
