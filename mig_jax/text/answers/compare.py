r"""Comparison of answers with reference answers without algebra, by the kind of the answer.

    number          equal as numbers, regardless of separators; units must agree if both are known
    expression      equal as mathematics
    choice          the letter of the choice, its text, or both if they agree
    yes_no          affirmative or negative like the reference; True means Yes
    text            equal, ignoring case, whitespace, a final full stop and enclosing $…$ or \text{…}
    set             the same members in any order, each compared as an expression
    relaxed         within 5 % of the reference, or equal ignoring case (ChartQA)
    integer         equal when truncated to an integer (MathVista)
    rounded         equal when rounded to the decimal places of the reference (MathVista)
    nearest_choice  the choice whose letter is given, or else the nearest text by edit distance (MathVista)
    reasoning_gym   accepted by the task's own grader

Whatever needs algebra, or a task's grader, is left to the worker processes of `verifier`. To add a kind, write a
function and add it to `COMPARISONS`. If its answers can be written in several ways, add functions to `_VARIANTS` (other
ways to write the reference answer) and to `_VOTE_KEYS` (for majority votes).
"""

import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from mig_jax.text.answers.choices import CHOICE, is_nearest_choice, is_same_choice
from mig_jax.text.answers.formulas import (
    ASSIGNMENT,
    canonical_form,
    choice_letters,
    is_same_math,
    is_same_set,
    set_members,
)
from mig_jax.text.answers.normalize import clean_characters, is_same_text, normalize, strip_wrappers
from mig_jax.text.answers.quantities import Number, is_same_number, parse_number, parse_number_answer
from mig_jax.text.response_format import choices_by_letter

_POLARITY = {"yes": True, "true": True, "no": False, "false": False}
_YES_OR_NO = re.compile(r"(yes|no|true|false)(?:\s*[.,;:!\N{EM DASH}-].*|\s+(?:because|since)\b.*)?", re.DOTALL)


def answer_variants(reference: str, *, kind: str, choices: Sequence[str] = (), limit: int) -> tuple[str, ...]:
    r"""Return ways to write a reference answer, such as 1.5, 3/2 and \frac{3}{2}; the reference as given is first.

    Every variant is right by the comparison of its kind.

    Args:
      reference: the reference answer; for a choice its letter.
      kind: one of `COMPARISONS`.
      choices: texts of the choices, if any.
      limit: most variants to return, at least 1.
    """
    reference = reference.strip()
    variants = _VARIANTS[kind](reference, choices) if kind in _VARIANTS else ()
    right = (text for text in variants if text and COMPARISONS[kind](text, reference, choices))
    return tuple(dict.fromkeys((reference, *right)))[:limit]


def vote_key(answer: str, *, kind: str, choices: Sequence[str] = ()) -> str:
    """Return the key under which an answer counts in a majority vote; "" is no vote.

    Equal answers have equal keys, as far as that is possible without comparing them. Numbers vote with their values,
    regardless of their units: 18, $18 and 18.00 are one vote, 50% counts as 50. Choices vote with their letters, if the
    choices are known. Sets vote with their sorted members.
    """
    key = _VOTE_KEYS[kind](answer, choices) if kind in _VOTE_KEYS else ""
    return (key or normalize(answer)).casefold()


def is_same_quantity(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether two answers are the same number, see `quantities`; the same text if the reference is no number."""
    given, wanted = parse_number_answer(response), parse_number_answer(reference)
    if wanted is None:
        return normalize(response).casefold() == normalize(reference).casefold()
    return given is not None and is_same_number(given, wanted)


def is_same_polarity(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether both answers begin with yes or both with no; the same text if the reference does neither."""
    wanted = _polarity(reference)
    return is_same_text(response, reference) if wanted is None else _polarity(response) is wanted


def is_relaxed_match(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether an answer is right by ChartQA's relaxed accuracy.

    A number may be off by 5 % of the reference; 7% is read as 0.07. If either is no number, or the reference is 0, the
    texts must be equal, ignoring case.

    References:
      `relaxed_correctness` of pix2struct, by which the benchmark is scored.
    """
    given, wanted = _parse_share(response), _parse_share(reference)
    if given is not None and wanted:
        return abs(given - wanted) / abs(wanted) <= 0.05
    return response.strip().lower() == reference.strip().lower()


def is_same_integer(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether the response, truncated to an integer, is written like the reference (MathVista's rule)."""
    try:
        return str(int(float(response))) == reference.strip()
    except (ValueError, OverflowError):
        return False


def is_same_rounded(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether the response equals the reference when rounded to its decimal places (MathVista's rule)."""
    places = len(reference.strip().partition(".")[2])
    try:
        return round(float(response), places) == float(reference)
    except ValueError:
        return False


def needs_task_grader(response: str, reference: str, choices: Sequence[str] = ()) -> None:
    """Return None: only the grader of the reasoning-gym task can decide, see `verifier_worker`."""


COMPARISONS: dict[str, Callable[[str, str, Sequence[str]], bool | None]] = {
    "number": is_same_quantity,
    "expression": is_same_math,
    "choice": is_same_choice,
    "yes_no": is_same_polarity,
    "text": is_same_text,
    "set": is_same_set,
    "relaxed": is_relaxed_match,
    "integer": is_same_integer,
    "rounded": is_same_rounded,
    "nearest_choice": is_nearest_choice,
    "reasoning_gym": needs_task_grader,
}


def _polarity(answer: str) -> bool | None:
    """Return True for yes, False for no, None for neither or both."""
    text = strip_wrappers(clean_characters(answer).replace("**", "")).casefold()
    words = set(re.findall(r"\w+", text))
    if words <= {*_POLARITY, "and", "or", "but"}:
        polarities = {_POLARITY[word] for word in words.intersection(_POLARITY)}
        return polarities.pop() if len(polarities) == 1 else None
    first = _YES_OR_NO.fullmatch(text)
    return _POLARITY[first[1]] if first else None


def _parse_share(text: str) -> float | None:
    """Return the number that a text is, with 7% read as 0.07; None if it is no number."""
    text = text.strip()
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _number_variants(reference: str, choices: Sequence[str]) -> Iterator[str]:
    """Yield ways to write a number, or the right-hand side of an assignment."""
    plain = normalize(reference)
    assignment = ASSIGNMENT.fullmatch(plain)
    for text in filter(None, (plain, assignment and assignment[2])):
        yield text
        yield from _value_variants(parse_number(text))


def _value_variants(number: Number | None) -> Iterator[str]:
    """Yield ways to write a number, likely ones first."""
    if number is None:
        return
    value = number.value
    if number.is_percent:
        yield from (f"{text}{sign}" for text in _decimal_variants(value) for sign in ("%", r"\%"))
        value /= 100
    yield from _decimal_variants(value)
    over, under = value.as_integer_ratio()
    if 1 < under <= 100:
        sign = "-" if over < 0 else ""
        yield from (f"{over}/{under}", rf"{sign}\frac{{{abs(over)}}}{{{under}}}")
    if 0 < value < 1 and 100 % under == 0 and not number.is_percent:
        yield f"{value * 100}%"


def _decimal_variants(value: Fraction) -> Iterator[str]:
    """Yield a number in decimal digits if four places suffice; integers from 1000 also with separators."""
    if value.denominator == 1:
        yield f"{value}"
        if abs(value) >= 1000:
            yield f"{value.numerator:,}"
        return
    for places in range(1, 5):
        scaled = abs(value) * 10**places
        if scaled.denominator == 1:
            digits = f"{scaled.numerator:0{places + 1}}"
            yield f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
            return


def _choice_variants(reference: str, choices: Sequence[str]) -> Iterator[str]:
    """Yield the letter, the letter in brackets, and the text of a choice."""
    letter = CHOICE.fullmatch(strip_wrappers(reference))
    if letter:
        yield from (letter[1].upper(), f"({letter[1].upper()})", choices_by_letter(choices).get(letter[1].upper(), ""))


def _yes_no_variants(reference: str, choices: Sequence[str]) -> Iterator[str]:
    """Yield the answer capitalized and in lower case."""
    yield from (reference.capitalize(), reference.lower())


def _set_variants(reference: str, choices: Sequence[str]) -> Iterator[str]:
    """Yield a set with and without braces; letters of choices also sorted and without separators."""
    parts = set_members(reference)
    yield from (", ".join(parts), rf"\{{{', '.join(parts)}\}}")
    if letters := choice_letters(parts):
        yield from (", ".join(sorted(letters)), "".join(sorted(letters)))


def _text_variants(reference: str, choices: Sequence[str]) -> Iterator[str]:
    """Yield a text without wrappers; as given, with a capital first letter, and in lower case."""
    text = strip_wrappers(reference)
    yield from (text, text[:1].upper() + text[1:], text.lower())


def _relaxed_variants(reference: str, choices: Sequence[str]) -> Iterator[str]:
    """Yield ways to write a number that have exactly its value, or the cases of a text."""
    share = _parse_share(reference)
    if share is None or not math.isfinite(share):
        yield from (reference, reference[:1].upper() + reference[1:], reference.lower())
        return
    is_percent = reference.endswith("%")
    # From its shortest digits, because 0.1 is no binary fraction.
    value = Fraction(repr(float(reference.rstrip("%"))))
    if is_percent:
        yield from (f"{text}%" for text in _decimal_variants(value))
        value /= 100
    yield from _decimal_variants(value)
    if value.denominator == 1:
        yield f"{value}.0"
    if 0 < value < 1 and not is_percent:
        yield from (f"{text}%" for text in _decimal_variants(100 * value))


def _integer_variants(reference: str, choices: Sequence[str]) -> Iterator[str]:
    """Yield an integer without and with a decimal place."""
    if re.fullmatch("-?[0-9]{1,50}", reference):
        yield from (reference, f"{reference}.0")


def _rounded_variants(reference: str, choices: Sequence[str]) -> Iterator[str]:
    """Yield a decimal number as short as possible, and with one zero more."""
    if re.fullmatch(r"-?[0-9]{1,50}(\.[0-9]{1,50})?", reference):
        yield from _decimal_variants(Fraction(reference))
        yield f"{reference}0" if "." in reference else f"{reference}.0"


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
    return {True: "yes", False: "no", None: ""}[_polarity(answer)]


def _set_key(answer: str, choices: Sequence[str]) -> str:
    """Return the sorted members of a set, in canonical form."""
    parts = set_members(answer)
    return ", ".join(sorted(choice_letters(parts) or {canonical_form(part).casefold() for part in parts}))


def _share_key(answer: str, choices: Sequence[str]) -> str:
    """Return the finite number that a text is, or ""."""
    share = _parse_share(answer)
    return "" if share is None or not math.isfinite(share) else str(share)


# Functions that yield the variants of a reference answer; that of a reasoning-gym task, which only the task's grader
# can compare, has no other.
_VARIANTS: dict[str, Callable[[str, Sequence[str]], Iterator[str]]] = {
    "number": _number_variants,
    "expression": _number_variants,
    "choice": _choice_variants,
    "yes_no": _yes_no_variants,
    "set": _set_variants,
    "text": _text_variants,
    "relaxed": _relaxed_variants,
    "integer": _integer_variants,
    "rounded": _rounded_variants,
    "nearest_choice": _choice_variants,
}

# Functions that return the key of an answer in a majority vote; for other kinds it is the normalized text.
_VOTE_KEYS: dict[str, Callable[[str, Sequence[str]], str]] = {
    "number": _number_key,
    "expression": _expression_key,
    "choice": functools.partial(_choice_key, is_same=is_same_choice),
    "yes_no": _yes_no_key,
    "set": _set_key,
    **dict.fromkeys(("relaxed", "integer", "rounded"), _share_key),
    "nearest_choice": functools.partial(_choice_key, is_same=is_nearest_choice),
}
