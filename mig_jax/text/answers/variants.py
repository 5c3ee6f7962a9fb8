"""Variants of a reference answer: other ways to write it, for the probes (arXiv 2602.01034, Eq. 9)."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from mig_jax.text.answers.choices import CHOICE
from mig_jax.text.answers.compare import COMPARISONS, parse_share
from mig_jax.text.answers.formulas import ASSIGNMENT, choice_letters, set_members
from mig_jax.text.answers.normalize import normalize, strip_wrappers
from mig_jax.text.answers.quantities import Number, parse_number
from mig_jax.text.response_format import choices_by_letter


def answer_variants(reference: str, *, kind: str, choices: Sequence[str] = (), limit: int) -> tuple[str, ...]:
    r"""Return ways to write a reference answer, such as 1.5, 3/2 and \frac{3}{2}; the reference as given is first.

    Every variant is right by the comparison of its kind.

    Args:
      reference: the reference answer; for a choice its letter.
      kind: one of `compare.COMPARISONS`.
      choices: texts of the choices, if any.
      limit: most variants to return, at least 1.
    """
    reference = reference.strip()
    variants = VARIANTS[kind](reference, choices) if kind in VARIANTS else ()
    right = (text for text in variants if text and COMPARISONS[kind](text, reference, choices))
    return tuple(dict.fromkeys((reference, *right)))[:limit]


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
    share = parse_share(reference)
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


# Functions that yield the variants of a reference answer; that of a reasoning-gym task, which only the task's grader
# can compare, has no other.
VARIANTS: dict[str, Callable[[str, Sequence[str]], Iterator[str]]] = {
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
