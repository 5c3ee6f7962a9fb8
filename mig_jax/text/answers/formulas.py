"""Formulas and sets of them, compared without algebra."""

import itertools
import re
from collections.abc import Callable, Iterable, Sequence

from mig_jax.text.answers.choices import CHOICE
from mig_jax.text.answers.normalize import is_balanced, is_same_text, normalize
from mig_jax.text.answers.quantities import Number, is_same_number, parse_number

# Brackets within brackets; time to read them doubles with each.
MAX_DEPTH = 12

ASSIGNMENT = re.compile(r"([A-Za-z](?:_\{?[0-9A-Za-z]\}?)?(?: ?\([a-z]\))?) ?= ?([^=]+)")
# A sum or product that is still to be computed. Times a power of ten is how numbers are written.
_TO_BE_COMPUTED = re.compile(
    r"[0-9a-z)}!] ?(?:[-+]|(?:\*|\\times|\\cdot|\\div)(?! ?10 ?\^))|[0-9)](?: [0-9]| ?\()", re.IGNORECASE
)
_SET_AS_TEXT = re.compile(r"\\(?:text|mathrm|mbox) ?\{[^{}]*\}")
_FACTOR = re.compile(r"(?<![A-Za-z\\])(?!x ?10 ?\^|(?:[ckm]m|kg|ft)\b)[A-Za-z]{1,3}(?![A-Za-z0-9+-])")
_UNIT_AS_TEXT = re.compile(
    r"(?:(?<=[0-9)}])|(?<=\\pi)|(?<=[^A-Za-z\\][a-z])) ?" + _SET_AS_TEXT.pattern + r"(?: ?\^ ?\{?[0-9]\}?)?\Z"
)
_SET_NAME = re.compile(r"\A[A-Za-z] ?(?:=|\\in(?![a-z])) ?(?=\\?\{)")
_SPACED_WORD = re.compile(r"\\(?:text|mathrm|mbox) ?\{ ?(and|or) ?\}")
_SEPARATOR_OR_BRACKET = re.compile(
    r"(?P<opening>[(\[{])|(?P<closing>[)\]}])|[,;]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|[和或]"
)
PLUS_MINUS = re.compile(r"\\pm(?![a-z])")
_BLANK_AT_SIGN = re.compile(r" (?!\w)|(?<!\w) ")
_LETTERS = re.compile(r"(?:([A-Z])(?!.*\1)){2,}")


def is_same_math(response: str, reference: str, choices: Sequence[str] = ()) -> bool | None:
    """Are two answers equal, as far as it can be told without algebra? None when it cannot.

    A sum or product is no answer where a number is asked for, or else repeating the question would be one.
    """
    given, wanted = _without_assignment(normalize(response), normalize(reference))
    given_number, wanted_number = _plain_number(given), _plain_number(wanted)
    if given_number and wanted_number:
        return is_same_number(given_number, wanted_number)
    given, wanted = without_unit(given), without_unit(wanted)
    if given == wanted:
        return True
    if wanted_number and _TO_BE_COMPUTED.search(given.rpartition("=")[2]):
        return False
    if _depth(given) > MAX_DEPTH:
        return False
    # To algebra (1, 2) is an interval that may be a pair, and a pair is a set.
    if {_bracket(given), _bracket(wanted)} in ({"{", "("}, {"{", "["}):
        return False
    # To algebra a word is a product of letters: Paris would equal pairs.
    if _is_prose(given) and _is_prose(wanted):
        return is_same_text(given, wanted)
    return None


def canonical(formula: str) -> str:
    """A normalized number as its value, anything else without blanks at signs; without its unit either way."""
    number = _plain_number(formula)
    return _BLANK_AT_SIGN.sub("", without_unit(formula)) if number is None else str(number.value)


def without_unit(text: str) -> str:
    """A normalized formula without the unit that is set as text behind it."""
    return _UNIT_AS_TEXT.sub("", text)


def is_same_set(
    response: str,
    reference: str,
    choices: Sequence[str] = (),
    *,
    is_same: Callable[[str, str], bool | None] = is_same_math,
) -> bool | None:
    """The same members in whatever order; None when a comparison of members that matters is not decided.

    Args:
      is_same: compares two members.
    """
    given, wanted = members(response), members(reference)
    if (letters := letters_of(wanted)) is not None:
        return letters_of(given) == letters
    known = (_settle((is_same(one, other) for other in wanted), by=True) for one in given if one not in wanted)
    found = (_settle((is_same(one, other) for one in given), by=True) for other in wanted if other not in given)
    return _settle(itertools.chain(known, found), by=False)


def members(answer: str) -> list[str]:
    r"""The members of a set that is written as {1, 2}, as 1 and 2, as x = 1 or x = 2, or as \pm 1; each once."""
    text = _SET_NAME.sub("", _SPACED_WORD.sub(r" \1 ", normalize(answer)))
    for opening, closing in ((r"\{", r"\}"), ("{", "}")):
        inner = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and is_balanced(inner):
            text = inner
    parts, depth, start = [], 0, 0
    for sign in _SEPARATOR_OR_BRACKET.finditer(text):
        depth += bool(sign["opening"]) - bool(sign["closing"])
        if depth == 0 and not sign["closing"]:
            parts.append(text[start : sign.start()])
            start = sign.end()
    parts += [] if text == r"\emptyset" else [text[start:]]
    signed = (PLUS_MINUS.sub(sign, part).strip() for part in parts for sign in ("+", "-"))
    return list(dict.fromkeys(filter(None, signed)))


def letters_of(members: Sequence[str]) -> set[str] | None:
    """The letters of choices, also without anything between them; None where there is anything else."""
    if len(members) == 1 and _LETTERS.fullmatch(members[0]):
        return set(members[0])
    letters = [CHOICE.fullmatch(member) for member in members]
    return {letter[1].upper() for letter in letters} if letters and all(letters) else None


def _without_assignment(given: str, wanted: str) -> tuple[str, str]:
    """Drops `x =` where it does not matter: on one side only, or the same on both."""
    matches = [ASSIGNMENT.fullmatch(text) for text in (given, wanted)]
    if len({match[1] for match in matches if match}) != 1:
        return given, wanted
    given, wanted = (match[2] if match else text for match, text in zip(matches, (given, wanted), strict=True))
    return given, wanted


def _plain_number(text: str) -> Number | None:
    """A number that has no letters behind it which may be factors."""
    return None if _FACTOR.search(_SET_AS_TEXT.sub("", text)) else parse_number(text)


def _depth(text: str) -> int:
    """How many brackets are open at once."""
    return max(itertools.accumulate((sign in "([{") - (sign in ")]}") for sign in text), default=0)


def _bracket(text: str) -> str:
    """What a text is enclosed in."""
    return text.lstrip("\\")[:1] if text.endswith((")", "]", "}")) else ""


def _is_prose(text: str) -> bool:
    return text.replace(" ", "").isalpha() and max(map(len, text.split())) > 2


def _settle(verdicts: Iterable[bool | None], *, by: bool) -> bool | None:
    """`by` where one verdict is, None where one is not known, else the opposite: any (by True), or all (by False)."""
    undecided = False
    for verdict in verdicts:
        if verdict is by:
            return by
        undecided |= verdict is None
    return None if undecided else not by
