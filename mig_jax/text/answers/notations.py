"""Answers in notations of their own: numerals of a base, times of the day, ratios."""

import re
from fractions import Fraction
from typing import NamedTuple

from mig_jax.text.answers.normalize import TEXT_COMMAND
from mig_jax.text.answers.quantities import parse_number

# Longest answer that is read as one of these.
MAX_CHARACTERS = 100

_BASES = {
    name: base
    for base, name in enumerate(
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split(), start=2
    )
} | {"binary": 2, "octal": 8, "decimal": 10, "hex": 16, "hexadecimal": 16}
_BASE = rf"\{{?(?:{TEXT_COMMAND} ?\{{)? ?(?:base ?\}}? ?)?(?P<base>[0-9]{{1,2}}|[a-z]+)\}}*"
_BASE_NUMERAL = re.compile(
    r"(?P<open>\()?(?P<sign>-?)(?P<digits>[0-9A-Za-f][0-9A-Za-f, ]*(?:\.[0-9A-Za-f]+)?)(?(open)\))"
    rf"(?: ?_ ?{_BASE}| ?,? ?(?:\(|\\text ?\{{)? ?(?:in )?base(?: ?\}})?[ -]?(?P<named>[0-9]{{1,2}}|[a-z]+) ?[)}}]?)"
)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

_HALF_DAYS = {
    "am": 0,
    "a.m": 0,
    "上午": 0,
    "早上": 0,
    "凌晨": 0,
    "pm": 12,
    "p.m": 12,
    "下午": 12,
    "晚上": 12,
    "中午": 12,
}
_CLOCK = re.compile(
    r"(?P<before>上午|下午|早上|晚上|中午|凌晨)?(?P<hour>[0-9]{1,2})"
    r"(?::(?P<minute>[0-5][0-9])(?::(?P<second>[0-5][0-9]))?"
    r"|[点时](?:(?P<minutes>[0-5]?[0-9])分?|(?P<half>半)|整|钟)?| ?o'clock)?"
    r" ?(?P<after>[ap]\.? ?m\.?)?",
    re.IGNORECASE,
)
_TEXT = re.compile(TEXT_COMMAND + r" ?\{([^{}]*)\}")
_RATIO_MARK = re.compile(r" *: *| +to +|比")


class BaseNumeral(NamedTuple):
    """A numeral such as 4210_7: its digits in lower case, without leading zeros, and its base."""

    digits: str
    base: int


class Clock(NamedTuple):
    """A time of the day.

    seconds: since midnight.
    marker: "12" with am or pm, "24" if its hour needs none, "" if it may be either half of the day.
    """

    seconds: int
    marker: str


def is_same_notation(response: str, reference: str) -> bool | None:
    """Return whether two normalized answers are equal numerals, times or ratios; None if they are none of these."""
    if max(len(response), len(reference)) > MAX_CHARACTERS:
        return None
    for is_same in (_is_same_base_numeral, _is_same_clock, _is_same_ratio):
        verdict = is_same(response, reference)
        if verdict is not None:
            return verdict
    return None


def parse_base_numeral(text: str) -> BaseNumeral | None:
    """Return the numeral of a base that a normalized text is, such as 4210_7, 4210_{seven} or 4210 base 7."""
    match = _BASE_NUMERAL.fullmatch(text)
    if not match:
        return None
    name = match["base"] or match["named"]
    base = int(name) if name.isdigit() else _BASES.get(name, 0)
    digits = re.sub(r"[ ,]", "", match["digits"]).lower()
    # A name with an index, such as A_2, is no numeral; nor are digits that the base lacks.
    is_valid = 2 <= base <= 36 and set(digits) - {"."} <= set(_DIGITS[:base])
    if not is_valid or not (any(map(str.isdigit, digits)) or len(digits) > 1 and match["digits"].isupper()):
        return None
    return BaseNumeral(match["sign"] + (digits.lstrip("0") or "0"), base)


def parse_clock(text: str) -> Clock | None:
    """Return the time of the day that a normalized text is: 20:34, 8:34 pm, 9 a.m., 下午3点."""
    plain = _TEXT.sub(r" \1", text)
    match = _CLOCK.fullmatch(" ".join(plain.split()))
    if not match or match[0].isdigit():
        return None
    after = (match["after"] or "").lower().replace(" ", "").rstrip(".")
    half_day = _HALF_DAYS.get(match["before"] or after)
    hour = int(match["hour"])
    if hour > 24 or half_day is not None and hour > 12 and not match["before"]:
        return None
    if half_day is not None:
        hour = hour % 12 + half_day
    minute = 30 if match["half"] else int(match["minute"] or match["minutes"] or 0)
    seconds = 3600 * hour + 60 * minute + int(match["second"] or 0)
    return Clock(seconds, "12" if half_day is not None else "" if 1 <= hour <= 12 else "24")


def parse_ratio(text: str) -> tuple[Fraction, ...] | None:
    """Return the terms of a ratio such as 3:4, 1:2:3 or 3 to 4; None if it is none."""
    parts = _RATIO_MARK.split(_TEXT.sub(r" \1 ", text).strip("() "))
    if len(parts) < 2:
        return None
    terms = [parse_number(part.strip()) for part in parts]
    if any(term is None or term.unit or term.words for term in terms):
        return None
    return tuple(term.value for term in terms if term)


def _is_same_base_numeral(response: str, reference: str) -> bool | None:
    """Return whether both are the same numeral of the same base; without its base a numeral is another one."""
    given, wanted = parse_base_numeral(response), parse_base_numeral(reference)
    return None if given is None and wanted is None else given == wanted


def _is_same_clock(response: str, reference: str) -> bool | None:
    """Return whether both are the same time; am or pm may be missing on one side."""
    given, wanted = parse_clock(response), parse_clock(reference)
    if given is None or wanted is None:
        return None
    if {given.marker, wanted.marker} == {"", "12"}:
        return given.seconds % 43200 == wanted.seconds % 43200
    return given.seconds == wanted.seconds and {given.marker, wanted.marker} != {"", "24"}


def _is_same_ratio(response: str, reference: str) -> bool | None:
    """Return whether two ratios have proportional terms; 3:4 equals 3/4, too."""
    wanted = parse_ratio(reference)
    if wanted is None or "to" in reference and ":" not in response:
        return None
    given = parse_ratio(response)
    if given is None and len(wanted) == 2:
        number = parse_number(response)
        given = (number.value, Fraction(1)) if number and not number.unit else None
    if given is None or len(given) != len(wanted):
        return False if given else None
    if not any(given) or not any(wanted):
        return given == wanted
    return all(
        one * sum(map(abs, wanted)) == other * sum(map(abs, given)) for one, other in zip(given, wanted, strict=True)
    )
