r"""Is an answer right? As far as it can be told without algebra, by the kind of the answer.

    number          equal as numbers; units, currency signs and thousands separators aside, unless both name units
    expression      equal as mathematics
    choice          the letter of the choice, its text, or both, if they do not contradict each other
    yes_no          as affirmative or negative as the reference; True is Yes
    text            equal but for case, white space, a full stop at the end, and $…$ or \text{…} around it
    set             the same members in whatever order, each compared as an expression
    relaxed         within 5 % of the reference, or else equal but for case (ChartQA)
    integer         equal when cut off behind the decimal point (MathVista)
    rounded         equal when rounded to the decimal places of the reference (MathVista)
    nearest_choice  the choice whose letter is given, or else the one that is spelled most alike (MathVista)
    reasoning_gym   right for the task's own checker

What needs algebra, or the checker, is left to the worker processes of `verifier`. A kind is a function with a line in
`COMPARISONS`; one whose answers can be spelled in several ways also has one in `_SPELLINGS`, and one in `_VOTES`.
"""

import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from mig_jax.text.answers.choices import CHOICE, is_nearest_choice, is_same_choice
from mig_jax.text.answers.formulas import ASSIGNMENT, canonical, is_same_math, is_same_set, letters_of, members
from mig_jax.text.answers.normalize import is_same_text, narrow, normalize, unwrap
from mig_jax.text.answers.quantities import Number, is_same_number, parse_number, read_number
from mig_jax.text.response_format import choices_by_letter

_POLARITY = {"yes": True, "true": True, "no": False, "false": False}
_YES_OR_NO = re.compile(r"(yes|no|true|false)(?:\s*[.,;:!\N{EM DASH}-].*|\s+(?:because|since)\b.*)?", re.DOTALL)


def answer_variants(reference: str, *, kind: str, choices: Sequence[str] = (), limit: int) -> tuple[str, ...]:
    r"""Spellings of an answer that are all right, the reference as given first, such as 1.5, 3/2, \frac{3}{2}.

    Args:
      reference: the right answer; of a choice its letter.
      kind: one of COMPARISONS.
      choices: what may be chosen.
      limit: most spellings to return, at least 1.
    """
    reference = reference.strip()
    spellings = _SPELLINGS[kind](reference, choices) if kind in _SPELLINGS else ()
    right = (text for text in spellings if text and COMPARISONS[kind](text, reference, choices))
    return tuple(dict.fromkeys((reference, *right)))[:limit]


def vote_key(answer: str, *, kind: str, choices: Sequence[str] = ()) -> str:
    """What an answer votes for: the same for answers that are the same, as far as that can be told of each by itself.

    Numbers vote with their values, whatever their units: 18, $18 and 18.00 are one vote, 50% is one for 50. Choices
    vote with their letters, as far as the choices tell, sets with their members in order. "" is no vote.
    """
    vote = _VOTES[kind](answer, choices) if kind in _VOTES else ""
    return (vote or normalize(answer)).casefold()


def is_same_quantity(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """The same number, see `quantities`; where the reference is none, the same text."""
    given, wanted = read_number(response), read_number(reference)
    if wanted is None:
        return normalize(response).casefold() == normalize(reference).casefold()
    return given is not None and is_same_number(given, wanted)


def is_same_polarity(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Both yes or both no, whatever follows it; where the reference is neither, the same text."""
    wanted = _polarity(reference)
    return is_same_text(response, reference) if wanted is None else _polarity(response) is wanted


def is_about_as_much(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """ChartQA's relaxed accuracy: 5 % off at most, where 7% is 0.07; the same text where one is no number, or it is 0.

    The rule of pix2struct's `relaxed_correctness`, by which the benchmark is scored.
    """
    given, wanted = _share(response), _share(reference)
    if given is not None and wanted:
        return abs(given - wanted) / abs(wanted) <= 0.05
    return response.strip().lower() == reference.strip().lower()


def is_same_integer(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """MathVista's rule for integers: the response without what is behind its decimal point is spelled the same."""
    try:
        return str(int(float(response))) == reference.strip()
    except (ValueError, OverflowError):
        return False


def is_same_rounded(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """MathVista's rule for decimal numbers: the response, rounded to as many places as the reference has, equals it."""
    places = len(reference.strip().partition(".")[2])
    try:
        return round(float(response), places) == float(reference)
    except ValueError:
        return False


def is_left_to_its_task(response: str, reference: str, choices: Sequence[str] = ()) -> None:
    """Only the task of reasoning-gym can tell."""


COMPARISONS: dict[str, Callable[[str, str, Sequence[str]], bool | None]] = {
    "number": is_same_quantity,
    "expression": is_same_math,
    "choice": is_same_choice,
    "yes_no": is_same_polarity,
    "text": is_same_text,
    "set": is_same_set,
    "relaxed": is_about_as_much,
    "integer": is_same_integer,
    "rounded": is_same_rounded,
    "nearest_choice": is_nearest_choice,
    "reasoning_gym": is_left_to_its_task,
}


def _polarity(answer: str) -> bool | None:
    """Yes or no; None when it is neither, or both."""
    text = unwrap(narrow(answer).replace("**", "")).casefold()
    words = set(re.findall(r"\w+", text))
    if words <= {*_POLARITY, "and", "or", "but"}:
        said = {_POLARITY[word] for word in words.intersection(_POLARITY)}
        return said.pop() if len(said) == 1 else None
    first = _YES_OR_NO.fullmatch(text)
    return _POLARITY[first[1]] if first else None


def _share(text: str) -> float | None:
    text = text.strip()
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _spell_number(reference: str, choices: Sequence[str]) -> Iterator[str]:
    plain = normalize(reference)
    assignment = ASSIGNMENT.fullmatch(plain)
    for text in filter(None, (plain, assignment and assignment[2])):
        yield text
        yield from _respell(parse_number(text))


def _respell(number: Number | None) -> Iterator[str]:
    """How else people write a number, likely spellings first."""
    if number is None:
        return
    value = number.value
    if number.is_percent:
        yield from (f"{text}{sign}" for text in _decimals(value) for sign in ("%", r"\%"))
        value /= 100
    yield from _decimals(value)
    over, under = value.as_integer_ratio()
    if 1 < under <= 100:
        sign = "-" if over < 0 else ""
        yield from (f"{over}/{under}", rf"{sign}\frac{{{abs(over)}}}{{{under}}}")
    if 0 < value < 1 and 100 % under == 0 and not number.is_percent:
        yield f"{value * 100}%"


def _decimals(value: Fraction) -> Iterator[str]:
    """A number in digits, when that takes at most four decimal places; large integers also with separators."""
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


def _spell_choice(reference: str, choices: Sequence[str]) -> Iterator[str]:
    letter = CHOICE.fullmatch(unwrap(reference))
    if letter:
        yield from (letter[1].upper(), f"({letter[1].upper()})", choices_by_letter(choices).get(letter[1].upper(), ""))


def _spell_yes_or_no(reference: str, choices: Sequence[str]) -> Iterator[str]:
    yield from (reference.capitalize(), reference.lower())


def _spell_set(reference: str, choices: Sequence[str]) -> Iterator[str]:
    parts = members(reference)
    yield from (", ".join(parts), rf"\{{{', '.join(parts)}\}}")
    if letters := letters_of(parts):
        yield from (", ".join(sorted(letters)), "".join(sorted(letters)))


def _vote_number(answer: str, choices: Sequence[str]) -> str:
    number = read_number(answer)
    return "" if number is None else str(number.value)


def _vote_formula(answer: str, choices: Sequence[str]) -> str:
    text = normalize(answer)
    assignment = ASSIGNMENT.fullmatch(text)
    return canonical(assignment[2] if assignment else text)


def _vote_letter(answer: str, choices: Sequence[str], *, is_same: Callable[[str, str, Sequence[str]], bool]) -> str:
    letters = choices_by_letter(choices) or map(chr, range(ord("A"), ord("Z") + 1))
    return next((letter for letter in letters if is_same(answer, letter, choices)), "")


def _vote_yes_or_no(answer: str, choices: Sequence[str]) -> str:
    return {True: "yes", False: "no", None: ""}[_polarity(answer)]


def _vote_set(answer: str, choices: Sequence[str]) -> str:
    parts = members(answer)
    return ", ".join(sorted(letters_of(parts) or {canonical(part).casefold() for part in parts}))


def _vote_share(answer: str, choices: Sequence[str]) -> str:
    share = _share(answer)
    return "" if share is None or not math.isfinite(share) else str(share)


# How else an answer is written; of other kinds there is one spelling.
_SPELLINGS: dict[str, Callable[[str, Sequence[str]], Iterator[str]]] = {
    "number": _spell_number,
    "expression": _spell_number,
    "choice": _spell_choice,
    "yes_no": _spell_yes_or_no,
    "set": _spell_set,
    "nearest_choice": _spell_choice,
}

# What tells answers apart; of other kinds it is how they are spelled.
_VOTES: dict[str, Callable[[str, Sequence[str]], str]] = {
    "number": _vote_number,
    "expression": _vote_formula,
    "choice": functools.partial(_vote_letter, is_same=is_same_choice),
    "yes_no": _vote_yes_or_no,
    "set": _vote_set,
    **dict.fromkeys(("relaxed", "integer", "rounded"), _vote_share),
    "nearest_choice": functools.partial(_vote_letter, is_same=is_nearest_choice),
}
