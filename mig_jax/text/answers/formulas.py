"""Comparison of formulas, and of sets of formulas, without algebra."""

import itertools
import re
from collections.abc import Callable, Iterable, Sequence

from mig_jax.text.answers.choices import CHOICE
from mig_jax.text.answers.normalize import is_balanced, is_same_text, normalize
from mig_jax.text.answers.quantities import Number, is_same_number, parse_number

# Most nested brackets in an answer that is parsed; parsing time doubles with each level.
MAX_DEPTH = 12

ASSIGNMENT = re.compile(r"([A-Za-z](?:_\{?[0-9A-Za-z]\}?)?(?: ?\([a-z]\))?) ?= ?([^=]+)")
# A sum or product that is not evaluated. A factor 10^n is part of how a number is written, so it is excluded.
_UNEVALUATED = re.compile(
    r"[0-9a-z)}!] ?(?:[-+]|(?:\*|\\times|\\cdot|\\div)(?! ?10 ?\^))|[0-9)](?: [0-9]| ?\()", re.IGNORECASE
)
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|mbox) ?\{[^{}]*\}")
_FACTOR = re.compile(r"(?<![A-Za-z\\])(?!x ?10 ?\^|(?:[ckm]m|kg|ft)\b)[A-Za-z]{1,3}(?![A-Za-z0-9+-])")
_TRAILING_UNIT = re.compile(
    r"(?:(?<=[0-9)}])|(?<=\\pi)|(?<=[^A-Za-z\\][a-z])) ?" + _TEXT_COMMAND.pattern + r"(?: ?\^ ?\{?[0-9]\}?)?\Z"
)
_SET_NAME = re.compile(r"\A[A-Za-z] ?(?:=|\\in(?![a-z])) ?(?=\\?\{)")
_AND_OR_COMMAND = re.compile(r"\\(?:text|mathrm|mbox) ?\{ ?(and|or) ?\}")
_SEPARATOR_OR_BRACKET = re.compile(
    r"(?P<opening>[(\[{])|(?P<closing>[)\]}])|[,;]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|[和或]"
)
PLUS_MINUS = re.compile(r"\\pm(?![a-z])")
_BLANK_BESIDE_SYMBOL = re.compile(r" (?!\w)|(?<!\w) ")
_LETTERS = re.compile(r"(?:([A-Z])(?!.*\1)){2,}")


def is_same_math(response: str, reference: str, choices: Sequence[str] = ()) -> bool | None:
    """Return whether two formulas are equal; None if that takes algebra.

    If the reference is a number, an unevaluated sum or product is wrong: otherwise the question itself, repeated, would
    count as an answer.
    """
    given, wanted = _without_assignment(normalize(response), normalize(reference))
    given_number, wanted_number = _plain_number(given), _plain_number(wanted)
    if given_number and wanted_number:
        return is_same_number(given_number, wanted_number)
    given, wanted = strip_unit(given), strip_unit(wanted)
    if given == wanted:
        return True
    if wanted_number and _UNEVALUATED.search(given.rpartition("=")[2]):
        return False
    if _depth(given) > MAX_DEPTH:
        return False
    # math-verify treats (1, 2) as an interval that may be a pair, and a pair as a set.
    if {_enclosing_bracket(given), _enclosing_bracket(wanted)} in ({"{", "("}, {"{", "["}):
        return False
    # math-verify treats a word as a product of letters, so "Paris" would equal "pairs".
    if _is_prose(given) and _is_prose(wanted):
        return is_same_text(given, wanted)
    return None


def canonical_form(formula: str) -> str:
    """Return a key that is equal for equal formulas, as far as possible without algebra.

    The key of a number is its value; of any other normalized formula, its text without blanks beside symbols. Units are
    dropped.
    """
    number = _plain_number(formula)
    return _BLANK_BESIDE_SYMBOL.sub("", strip_unit(formula)) if number is None else str(number.value)


def strip_unit(text: str) -> str:
    r"""Return a normalized formula without a trailing unit such as \text{cm}."""
    return _TRAILING_UNIT.sub("", text)


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
    expected = (_any(is_same(one, other) for other in wanted) for one in given if one not in wanted)
    found = (_any(is_same(one, other) for one in given) for other in wanted if other not in given)
    return _all(itertools.chain(expected, found))


def set_members(answer: str) -> list[str]:
    r"""Return the distinct members of a set written as {1, 2}, as 1 and 2, as x = 1 or x = 2, or as \pm 1."""
    text = _SET_NAME.sub("", _AND_OR_COMMAND.sub(r" \1 ", normalize(answer)))
    for opening, closing in ((r"\{", r"\}"), ("{", "}")):
        inner = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and is_balanced(inner):
            text = inner
    parts, depth, start = [], 0, 0
    for match in _SEPARATOR_OR_BRACKET.finditer(text):
        depth += bool(match["opening"]) - bool(match["closing"])
        if depth == 0 and not match["closing"]:
            parts.append(text[start : match.start()])
            start = match.end()
    parts += [] if text == r"\emptyset" else [text[start:]]
    signed = (PLUS_MINUS.sub(sign, part).strip() for part in parts for sign in ("+", "-"))
    return list(dict.fromkeys(filter(None, signed)))


def choice_letters(members: Sequence[str]) -> set[str] | None:
    """Return the letters of choices, as in "A, C" or "AC"; None if a member is anything else."""
    if len(members) == 1 and _LETTERS.fullmatch(members[0]):
        return set(members[0])
    letters = [CHOICE.fullmatch(member) for member in members]
    found = {letter[1].upper() for letter in letters if letter}
    return found if letters and all(letters) else None


def _without_assignment(given: str, wanted: str) -> tuple[str, str]:
    """Drop `x =` from both formulas where it makes no difference: on one side only, or the same on both."""
    matches = [ASSIGNMENT.fullmatch(text) for text in (given, wanted)]
    if len({match[1] for match in matches if match}) != 1:
        return given, wanted
    given, wanted = (match[2] if match else text for match, text in zip(matches, (given, wanted), strict=True))
    return given, wanted


def _plain_number(text: str) -> Number | None:
    """Return the number that a formula is; None if letters after it may be factors."""
    return None if _FACTOR.search(_TEXT_COMMAND.sub("", text)) else parse_number(text)


def _depth(text: str) -> int:
    """Return the largest number of brackets that are open at once."""
    return max(itertools.accumulate((char in "([{") - (char in ")]}") for char in text), default=0)


def _enclosing_bracket(text: str) -> str:
    """Return the opening bracket of a text that ends with a closing bracket, else ""."""
    return text.lstrip("\\")[:1] if text.endswith((")", "]", "}")) else ""


def _is_prose(text: str) -> bool:
    """Return whether a text is only words, at least one of them longer than two letters."""
    return text.replace(" ", "").isalpha() and max(map(len, text.split())) > 2


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    """Return True if any verdict is True, else None if any is undecided, else False (Kleene's disjunction)."""
    undecided = False
    for verdict in verdicts:
        if verdict:
            return True
        undecided |= verdict is None
    return None if undecided else False


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """Return False if any verdict is False, else None if any is undecided, else True (Kleene's conjunction)."""
    any_false = _any(None if verdict is None else not verdict for verdict in verdicts)
    return None if any_false is None else not any_false
