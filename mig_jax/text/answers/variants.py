"""Variants of a reference answer: other ways to write it, for the probes (arXiv 2602.01034, Eq. 9)."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from mig_jax.text.answers.choices import CHOICE
from mig_jax.text.answers.compare import parse_share
from mig_jax.text.answers.formulas import ASSIGNMENT
from mig_jax.text.answers.normalize import clean_characters, normalize, strip_wrappers
from mig_jax.text.answers.quantities import Number, parse_number_answer
from mig_jax.text.answers.scalars import strip_unit
from mig_jax.text.answers.sets import PLUS_MINUS, choice_letters, set_members
from mig_jax.text.response_format import choices_by_letter

# Greatest denominator with which a decimal is also written as a fraction.
_MAX_DENOMINATOR = 10

# What is written before and after a number of a unit.
_UNIT_SIGNS = {"%": ("", "%"), "$": ("$", ""), "°": ("", "\N{DEGREE SIGN}"), "€": ("€", ""), "£": ("£", "")}
_TEXT_UNIT = re.compile(r"\\(?:text|mathrm|textrm|mbox) ?\{([^{}]*)\}( ?\^ ?\{?[0-9]\}?)?\Z")
_LAST_UNIT = re.compile(
    r"(?:\\?%|\^\{?\\circ\}?|°| ?\\(?:text|mathrm|textrm|mbox) ?\{[^{}]*\}(?: ?\^ ?\{?[0-9]\}?)?| [A-Za-z].*)\Z"
)
_IS_FRACTION = re.compile(r"\\frac|/")
_MIXED = re.compile(r"-?[0-9]+ ?\\frac|-?[0-9]+ [0-9]+/")
_DOLLAR = re.compile(r"\A\s*\\?\$")
_IS_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")
_IS_POWER = re.compile(r"10 ?\^")

# The first of two notations, and the second one, which models write.
_TIDY = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\[dtc]frac(?![a-z])", r"\\frac"),
        (r"\\(?:left|right)(?![A-Za-z])", ""),
        (r"\\[!,;:]|\\displaystyle(?![A-Za-z])|\\?\$", ""),
        (r"\\frac ?([0-9]) ?([0-9])", r"\\frac{\1}{\2}"),
        (r"\\sqrt ?([0-9])", r"\\sqrt{\1}"),
        (r"_ ?([0-9]{1,2})(?![0-9])", r"_{\1}"),
        (r"\^ ?([0-9]{2,})", r"^{\1}"),
        (r"\{,\}", ","),
        (r"([(\[]|\\\{) ", r"\1"),
        (r" ([)\]]|\\\})", r"\1"),
        (r" ?(\\cup(?![A-Za-z])|\\\\|&) ?", r" \1 "),
        (r"(\\begin\{[a-z]*matrix\}) ?", r"\1 "),
        (r" ?(\\end\{[a-z]*matrix\})", r" \1"),
        (r"(?<![0-9]),(?=\S)|,(?=[^0-9\s])|,(?=[0-9]{1,2}(?![0-9]))|,(?=[0-9]{4})", ", "),
    )
)
_SIGN = re.compile(r"\A[-+] ?")
_FRACTION = re.compile(
    r"(?<![A-Za-z0-9})] )(?<![A-Za-z0-9})])"
    r"\\frac\{(?P<over>(?:[^{}]|\{[^{}]*\})+)\}\{(?P<under>[^{}]+)\}(?! ?[A-Za-z0-9({\\^])"
)
_ATOM = re.compile(r"[0-9]+|[A-Za-z]|\\[a-z]+")
_PRODUCT = re.compile(r"-?[0-9]*(?: ?(?:[A-Za-z]|\\pi|\\sqrt\{[^{}]*\}))?")
_BINARY_SIGN = re.compile(r"(?<=[0-9A-Za-z)}!]) ?([-+=]) ?(?=[0-9A-Za-z(\\])")
_SIGNS = tuple(
    (re.compile(pattern), sign)
    for pattern, sign in (
        (r"\\pi(?![A-Za-z]) ?", "π"),
        (r"\\sqrt\{([0-9]+)\}", r"√\1"),
        (r"\\infty(?![A-Za-z])", "∞"),
        (r"\\cup(?![A-Za-z])", "∪"),
        (r"\\leq?(?![A-Za-z])", "≤"),
        (r"\\geq?(?![A-Za-z])", "≥"),
        (r"\\pm(?![A-Za-z]) ?", "±"),
        (r"\^(?:\\circ(?![A-Za-z])|\{\\circ\})", "\N{DEGREE SIGN}"),
    )
)


def answer_variants(reference: str, *, kind: str, choices: Sequence[str] = (), limit: int) -> tuple[str, ...]:
    r"""Return ways to write a reference answer, such as 1.5, 3/2 and \frac{3}{2}; the reference as given is first.

    Every variant is right by the comparison of its kind.

    Args:
      reference: the reference answer; for a choice its letter.
      kind: one of `kinds.KINDS`, or a user's own.
      choices: texts of the choices, if any.
      limit: most variants to return, at least 1.
    """
    from mig_jax.text.answers.kinds import find_kind, is_right  # which import this module

    reference, spell = reference.strip(), find_kind(kind).spell
    variants = spell(reference, choices) if spell else ()
    right = (text for text in variants if text and is_right(text, reference, kind, choices))
    return tuple(dict.fromkeys((reference, *right)))[:limit]


def _number_variants(reference: str, choices: Sequence[str]) -> Iterator[str]:
    """Yield ways to write a number or a formula, or the right-hand side of an assignment; likely ones first."""
    plain, tidy = normalize(reference), _tidy(reference)
    number = parse_number_answer(reference)
    assignment = ASSIGNMENT.fullmatch(plain)
    sides = [_tidy(assignment[2])] if assignment else []
    if number is None:
        yield from (tidy, _BINARY_SIGN.sub(r" \1 ", tidy))
        for text in (*sides, tidy, _tidy(strip_unit(plain))):
            yield from _formula_variants(text)
        if PLUS_MINUS.search(plain):
            yield ", ".join(_signed_members(reference))
        yield plain
        return
    if not number.unit and not number.words:
        yield from (tidy, *sides)
    for text in sides or [tidy]:
        yield from _value_variants(text, number)


def _value_variants(text: str, number: Number) -> Iterator[str]:
    """Yield ways to write a number, likely ones first.

    Args:
      text: the number as it is written, see `_tidy`.
      number: its value and unit.
    """
    digits = _DOLLAR.sub("", _LAST_UNIT.sub("", text)).strip()
    has_unit = bool(number.unit or number.words)
    plain = [*_digit_variants(digits, number.value)]
    if has_unit and not _IS_FRACTION.search(digits):
        # Money and quantities are written as decimals, money to the cent: $18.90.
        plain = [*([digits] if _IS_DECIMAL.fullmatch(digits) else []), *_decimal_variants(number.value)] or [digits]
    if number.unit in _UNIT_SIGNS:
        before, after = _UNIT_SIGNS[number.unit]
        decimals = list(dict.fromkeys(plain))
        yield from (f"{before}{decimals[0]}{after}", decimals[0])
        yield from (f"{before}{decimal}{after}" for decimal in decimals[1:])
    if unit := _TEXT_UNIT.search(text):
        power = (unit[2] or "").replace(" ", "")
        yield from (f"{digits} {unit[1].strip()}{power}", rf"{digits} \text{{ {unit[1].strip()}}}{power}")
    if number.is_percent:
        yield rf"{digits}\%"
        yield from _decimal_variants(number.value / 100)
        return
    yield from plain
    if number.unit == "°":
        yield f"{digits} degrees"


def _digit_variants(digits: str, value: Fraction) -> Iterator[str]:
    r"""Yield a number in decimal digits and as a fraction, the way first in which it is given.

    A decimal is written as a fraction only if its denominator is small: 0.5 and 1/2, but not 157/50.
    """
    over, under = value.as_integer_ratio()
    sign = "-" if over < 0 else ""
    fractions = [f"{over}/{under}", rf"{sign}\frac{{{abs(over)}}}{{{under}}}"] if under > 1 else []
    if _IS_FRACTION.search(digits) and under > 1:
        is_mixed = _MIXED.match(digits)
        fractions = fractions[::-1] if not is_mixed and r"\frac" not in digits else fractions
        decimals = [*_decimal_variants(value)]
        yield digits
        yield from (*decimals, *fractions) if is_mixed else (*fractions[:1], *decimals, *fractions[1:])
        yield digits.replace(r"\frac", r"\dfrac")
        return
    if _IS_POWER.search(digits):
        yield digits
    yield from _decimal_variants(value)
    if under <= _MAX_DENOMINATOR:
        yield from fractions


def _formula_variants(text: str) -> Iterator[str]:
    r"""Yield ways to write a formula: \pi/4 for \frac{\pi}{4}, x^2 + 1 for x^2+1, 25π for 25\pi."""
    flat = _FRACTION.sub(_to_slash, text)
    yield from (text, flat)
    yield _BINARY_SIGN.sub(r" \1 ", text)
    yield re.sub(r" ([-+=]) ", r"\1", text)
    if r"\frac" not in flat:
        for command, sign in _SIGNS:
            flat = command.sub(sign, flat)
        yield flat
    yield text.replace(r"\frac", r"\dfrac")


def _tidy(reference: str) -> str:
    r"""Return a formula as models write it: \frac{1}{2} for \frac12, (1, 2) for (1,2), 4210_{7} for 4210_7."""
    text = strip_wrappers(clean_characters(reference))
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _to_slash(fraction: re.Match) -> str:
    r"""Return \frac{\pi}{4} as \pi/4, unless one of its parts needs brackets."""
    over, under = fraction["over"], fraction["under"]
    is_simple = _ATOM.fullmatch(under) and _PRODUCT.fullmatch(over)
    return f"{over}/{under}" if is_simple else fraction[0]


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
    """Yield the letter of a choice, the letter with the text, as the question shows it, the text, and (B)."""
    letter = CHOICE.fullmatch(strip_wrappers(reference))
    if letter:
        text = choices_by_letter(choices).get(letter[1].upper(), "")
        yield letter[1].upper()
        if text:
            yield from (f"{letter[1].upper()}. {text}", text)
        yield f"({letter[1].upper()})"


def _yes_no_variants(reference: str, choices: Sequence[str]) -> Iterator[str]:
    """Yield the answer capitalized and in lower case."""
    yield from (reference.capitalize(), reference.lower())


def _set_variants(reference: str, choices: Sequence[str]) -> Iterator[str]:
    """Yield a set with and without braces; letters of choices also sorted and without separators."""
    parts = _signed_members(reference)
    if letters := choice_letters(parts):
        yield from (", ".join(sorted(letters)), "".join(sorted(letters)))
    yield from (", ".join(parts), rf"\{{{', '.join(parts)}\}}", f"{{{', '.join(parts)}}}")


def _signed_members(reference: str) -> list[str]:
    """Return the members of a set without a plus sign, and without blanks after a minus sign."""
    return [_tidy(_SIGN.sub(lambda sign: sign[0].strip(" +"), part)) for part in set_members(reference)]


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
