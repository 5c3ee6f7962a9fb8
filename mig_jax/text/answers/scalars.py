"""Comparison of single values: numbers with units, words, formulas."""

import contextlib
import functools
import re
from collections.abc import Callable

from mig_jax.text.answers import identities
from mig_jax.text.answers.conversions import conversion_factor
from mig_jax.text.answers.logic import any_of
from mig_jax.text.answers.normalize import TEXT_COMMAND
from mig_jax.text.answers.notations import parse_base_numeral
from mig_jax.text.answers.parser import Formula, parse_formula
from mig_jax.text.answers.quantities import (
    are_compatible_units,
    is_known_unit,
    is_same_number,
    parse_number,
    parse_unit,
)
from mig_jax.text.answers.tokens import NotAFormula, Unreadable, product_letters

# Compares two single values that take algebra; None if undecided.
Algebra = Callable[[str, str], bool | None]

# A sum or product that is not evaluated. A factor 10^n is part of how a number is written, so it is excluded.
UNEVALUATED = re.compile(
    r"[0-9a-z)}!] ?(?:[-+]|(?:\*|\\times|\\cdot|\\div)(?! ?10 ?\^))|(?<!_)[0-9)](?: [0-9]| ?\()", re.IGNORECASE
)
# 2020-01-01 is a date, no difference.
_DATE = re.compile(r"[0-9]{4}([-/])[0-9]{1,2}\1[0-9]{1,2}|[0-9]{1,2}([-/])[0-9]{1,2}\2[0-9]{4}")
_TRAILING_TEXT = re.compile(rf"(?: ?(?:{TEXT_COMMAND} ?\{{[^{{}}]*\}}|\\cdot|/)(?: ?\^ ?\{{?-?[0-9]\}}?)?)+\Z")
_TRAILING_SIGN = re.compile(r" ?(?:%|\^ ?(?:\\circ|\{ ?\\circ ?\})(?: ?[CF])?)\Z")
_TRAILING_WORDS = re.compile(
    r"(?:(?<=[0-9)}%])|(?<=\\pi)|(?<=\\pi ))(?: [A-Za-z°][^=<>+*()]*| ?[\u3400-\u9fff\uac00-\ud7af].*)\Z"
)
_MONEY = re.compile(
    rf"(?P<sign>-?) ?(?:USD|Rs\.?|€|£|¥|₹|{TEXT_COMMAND} ?\{{ ?(?:USD|Rs\.?|EUR|RMB) ?\}}) ?(?P<sign_after>-?)"
)
_ANGLE_OF_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])[^+]*\Z")
_BLANK_BESIDE_SYMBOL = re.compile(r" (?!\w)|(?<!\w) ")


def is_same_scalar(given: str, wanted: str, algebra: Algebra) -> bool | None:
    """Return whether two single values are equal; None if `algebra` cannot decide.

    Numbers are compared exactly, with their units; formulas without their units.
    """
    if given == wanted:
        return True
    one, other = parse_number(given), parse_number(wanted)
    if bool(one) != bool(other):
        # 5m is 5 meters only if the other one is in meters.
        attached = parse_number(given if other else wanted, letters="all")
        unit = one.unit if one else other.unit if other else ""
        if attached and attached.unit and (attached.unit == unit or conversion_factor(attached.unit, unit)):
            one, other = one or attached, other or attached
    if one and other:
        return is_same_number(one, other) and _are_same_words(one.words, other.words)
    (given, unit, words), (wanted, wanted_unit, wanted_words) = split_unit(given), split_unit(wanted)
    if not _are_same_words(words, wanted_words):
        return False
    if not are_compatible_units(unit, wanted_unit):
        factor = conversion_factor(unit, wanted_unit)
        if factor is None or other and UNEVALUATED.search(given):
            return False
        given = rf"({given}) \cdot \frac{{{factor.numerator}}}{{{factor.denominator}}}"
        return _is_same_formula(given, wanted, algebra)
    if given == wanted and ("%" in (unit, wanted_unit)) == (unit == wanted_unit == "%"):
        return True
    if other and UNEVALUATED.search(given):
        return False
    if {unit, wanted_unit} == {"", "%"}:
        percent, plain = (given, wanted) if unit == "%" else (wanted, given)
        return any_of(
            (_is_same_formula(percent, plain, algebra), _is_same_formula(rf"\frac{{{percent}}}{{100}}", plain, algebra))
        )
    return _is_same_formula(given, wanted, algebra)


def _is_same_formula(given: str, wanted: str, algebra: Algebra) -> bool | None:
    """Compare formulas by their values, or by algebra."""
    if (
        any(map(is_word, (given, wanted)))
        or _DATE.fullmatch(wanted)
        or parse_base_numeral(given)
        or parse_base_numeral(wanted)
    ):
        return _words_key(given) == _words_key(wanted)
    if {given.lstrip("+- "), wanted.lstrip("+- ")} & {r"\infty"}:
        return given.lstrip("+ ") == wanted.lstrip("+ ")
    given, wanted = _with_same_imaginary_unit(given, wanted)
    formulas = [_parse_or_text(text) for text in (given, wanted)]
    if None in formulas:
        return _words_key(given) == _words_key(wanted)
    one, other = formulas
    if isinstance(one, Formula) and isinstance(other, Formula):
        with contextlib.suppress(Unreadable):
            verdict = identities.is_same_value(one, other)
            if verdict is not None:
                return verdict
    if _text_key(given) == _text_key(wanted):
        return True
    return algebra(given, wanted)


@functools.lru_cache(maxsize=4096)
def _parse_or_text(text: str) -> "Formula | str | None":
    """Return the formula that a text is, the text itself if it takes algebra, None if it is no formula."""
    try:
        return parse_formula(text)
    except NotAFormula:
        return None
    except Unreadable:
        return text


def strip_unit(text: str) -> str:
    r"""Return a normalized formula without a trailing unit such as \text{cm}."""
    return split_unit(text)[0]


def _text_key(text: str) -> str:
    """Return a text without blanks beside symbols and braces around single characters."""
    return without_blanks(re.sub(r"\{(\w)\}", r" \1", text))


def without_blanks(text: str) -> str:
    """Return a text without blanks beside symbols."""
    return _BLANK_BESIDE_SYMBOL.sub("", text)


@functools.lru_cache(maxsize=4096)
def split_unit(text: str) -> tuple[str, str, str]:
    r"""Return a value without its unit, the unit, and other words: 2\pi, "cm", "" for 2\pi\text{ cm}."""
    money = _MONEY.match(text)
    if money and money.end() < len(text):
        body, unit, words = split_unit(text[money.end() :])
        sign = money["sign"] or money["sign_after"]
        known = parse_unit(money[0].strip(" -."))
        return (f"{sign}{body}", unit or (known[0] if known else ""), words)
    for pattern in (_TRAILING_TEXT, _TRAILING_SIGN, _TRAILING_WORDS):
        match = pattern.search(text)
        body = text[: match.start()].strip() if match else ""
        if not match or not body or body[-1] in "+-*/=^_({[" or is_word(body):
            continue
        if pattern is _TRAILING_SIGN and _ANGLE_OF_FUNCTION.search(body):
            continue
        if pattern is _TRAILING_WORDS and match[0].lstrip()[0].isascii() and not _is_bare_unit(match[0], body):
            continue
        found = parse_unit(match[0].strip())
        if found is not None and not (pattern is _TRAILING_TEXT and found == ("", "")):
            return body, *found
    return text, "", ""


def _is_bare_unit(unit: str, body: str) -> bool:
    """Return whether words after a formula without variables are a known unit."""
    try:
        return is_known_unit(unit) and len(unit.strip()) > 1 and not parse_formula(body).names
    except Unreadable:
        return False


@functools.lru_cache(maxsize=4096)
def is_word(text: str) -> bool:
    """Return whether an answer is letters that are no product of variables."""
    letters = re.sub(rf"{TEXT_COMMAND} ?\{{([^{{}}]*)\}}", r"\1", text).replace(" ", "")
    return len(letters) > 1 and letters.isalpha() and not product_letters(letters)


def _words_key(text: str) -> str:
    """Return the form in which two answers with words are compared."""
    key = re.sub(rf"{TEXT_COMMAND} ?\{{([^{{}}]*)\}}", r" \1 ", text)
    key = _text_key(" ".join(key.split())).lstrip(" .")
    key = key if key.endswith("..") else key.rstrip(" .")
    return key.casefold() if re.search("[^ -~]|[A-Za-z]{3}", key) else key


def _are_same_words(given: str, wanted: str) -> bool:
    return not given or not wanted or _singular(given) == _singular(wanted)


def _singular(words: str) -> str:
    return " ".join(word.lower().removesuffix("s") for word in words.split())


def _with_same_imaginary_unit(given: str, wanted: str) -> tuple[str, str]:
    """Return both with i for the imaginary unit where one of them has I for it."""
    has = [
        {letter for letter in "iI" if re.search(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])", text)}
        for text in (given, wanted)
    ]
    if has == [{"I"}, {"i"}]:
        return re.sub(r"(?<![A-Za-z\\])I(?![A-Za-z])", "i", given), wanted
    if has == [{"i"}, {"I"}]:
        return given, re.sub(r"(?<![A-Za-z\\])I(?![A-Za-z])", "i", wanted)
    return given, wanted
