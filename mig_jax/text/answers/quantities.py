"""Parsing and comparison of numbers as people write them, with their units."""

import re
from collections import Counter
from fractions import Fraction
from typing import NamedTuple

from mig_jax.text.answers.normalize import clean_characters, normalize, strip_wrappers

# Longest text that is parsed as a number, its unit included.
MAX_CHARACTERS = 100

_DECIMAL = r"(?=\.?[0-9])(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?: [0-9]{3})+|[0-9]*)(?:\.[0-9]+)?(?![0-9])"
_NUMBER = re.compile(
    r"(?P<sign>[+-]?) ?(?:"
    rf"(?:(?P<mantissa>{_DECIMAL}) ?(?:\\times|\\cdot|\*|x) ?)?10 ?\^ ?\{{?(?P<ten>[+-]?[0-9]{{1,3}})\}}?(?![0-9])"
    r"|(?:(?P<ones>[0-9]+) ?)?\\frac ?(?:\{(?P<top>-?[0-9]+)\}|(?P<top_digit>[0-9]))"
    r" ?(?:\{(?P<bottom>[0-9]+)\}|(?P<bottom_digit>[0-9]))"
    r"|(?:(?P<whole>[0-9]+) )?(?P<over>[0-9]+) ?/ ?(?P<under>[0-9]+)"
    r"|(?P<fixed>[0-9]*\.[0-9]*)\\overline ?\{(?P<repeated>[0-9]+)\}"
    rf"|(?P<digits>{_DECIMAL})(?P<exponent>(?:[eE][+-]?[0-9]{{1,3}}(?![0-9]))?))"
)
_MONEY = re.compile(r"(?P<sign>[+-]?) ?(?:US )?(?P<money>USD|EUR|GBP|INR|Rs|[€£¥₹])\.? ?")

# Alternative notations of units, and what they are rewritten to.
_UNIT_REWRITES = tuple(
    (re.compile(pattern), unit)
    for pattern, unit in (
        (r"\\(?:text|textrm|textbf|mathrm|mbox|operatorname) ?\{([^{}]*)\}", r" \1 "),
        (r"\^ ?(?:\\circ|\{ ?\\circ ?\})|\\degree", "°"),
        (r"(?:°|\bdegrees?) ?[Cc](?:elsius)?\b", "°C"),
        (r"(?:°|\bdegrees?) ?[Ff](?:ahrenheit)?\b", "°F"),
        (r"\b([A-Za-z]+) squared\b", r"square \1"),
        (r"\b([A-Za-z]+) cubed\b", r"cubic \1"),
        (r"\bmph\b", "mi/h"),
        (r"\bk(?:m|p|mp)h\b", "km/h"),
        (r"\ban? (?=[A-Za-z]{2})", "per "),
        (r"\\cdot", " "),
    )
)
_UNIT_PART = re.compile(
    r"(?P<word>°?[A-Za-z]+(?:[-'.][A-Za-z]+)*|[%€£¥¢₹°Ω])\.?(?:(?: ?\^)?\{?(?P<power>-?[1-9])\}?)?|(?P<sign>[^ ])"
)
# Known units by their names, without the plural s. Any other word (apples) is a unit that conflicts with none.
_UNITS = {
    name: unit
    for unit, names in {
        "km": "kilometer kilometre", "m": "meter metre", "cm": "centimeter centimetre", "mm": "millimeter millimetre",
        "mi": "mile", "yd": "yard", "ft": "foot feet", "inch": "inches",
        "year": "yr", "month": "", "week": "wk", "day": "", "h": "hour hr", "min": "minute", "s": "second sec",
        "ms": "millisecond", "am": "a.m", "pm": "p.m",
        "t": "ton tonne", "kg": "kilogram", "g": "gram", "mg": "milligram", "lb": "", "oz": "ounce",
        "L": "l liter litre", "mL": "ml milliliter millilitre", "gal": "gallon",
        "$": "USD usd dollar buck", "¢": "cent", "€": "EUR eur euro", "£": "GBP gbp", "¥": "yen yuan rmb",
        "₹": "INR inr Rs rs rupee",
        "%": "percent percentage pct", "°": "degree deg", "°C": "C celsius", "°F": "F fahrenheit", "rad": "radian",
        "N": "newton", "J": "joule", "W": "watt", "V": "volt", "A": "amp ampere", "Ω": "ohm", "K": "kelvin",
        "Hz": "hz hertz", "Pa": "pascal",
    }.items()
    for name in (unit, *names.split())
}  # fmt: skip
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_PER = {"/", "per"}
# Words after which a text is not one number with a unit.
_NO_UNIT = {"or", "and", "not", "plus", "minus", "times", "divided"}
_VOCABULARY = {*_UNITS, *_SCALES, *_POWERS, *_PER, *_NO_UNIT}


class Number(NamedTuple):
    """A number as written: 50% is (50, "%"), 5 km/h is (5, "h^-1 km").

    value: exact.
    unit: the known parts of its unit, sorted; "" if there is no unit or it is unknown.
    """

    value: Fraction
    unit: str

    @property
    def is_percent(self) -> bool:
        return self.unit == "%"


def parse_number_answer(answer: str) -> Number | None:
    """Return the number that an answer is, or that follows its last equals sign; None if it is not exactly one number.

    Unevaluated expressions are not numbers, except fractions and powers of ten.
    """
    text = strip_wrappers(clean_characters(answer)).replace(r"\$", " USD ")
    # Two dollar signs delimit LaTeX, a single one is a currency.
    text = text.replace("$", " USD ") if text.count("$") == 1 else text
    return parse_number(normalize(text).replace(r"\approx", "=").rpartition("=")[2].strip())


def parse_number(text: str) -> Number | None:
    """Return the exact number of a normalized text, with its unit; None if it is not one number.

    It may be an integer, decimal, fraction, mixed number or power of ten.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    money = _MONEY.match(text)
    if money:
        text = money["sign"] + text[money.end() :]
    number = _NUMBER.match(text)
    value = number and _value_of(number)
    unit = number and _parse_unit(text[number.end() :], money["money"] if money else "")
    return None if value is None or unit is None else Number(value * unit[0], unit[1])


def is_same_number(one: Number, other: Number) -> bool:
    """Return whether two numbers are exactly equal; numbers with different known units are not.

    If only one of the two is a percentage, 50% equals both 50 and 0.5.
    """
    if one.unit and other.unit and one.unit != other.unit and not _are_compatible_degrees(one.unit, other.unit):
        return False
    if one.is_percent == other.is_percent:
        return one.value == other.value
    percent, plain = (one, other) if one.is_percent else (other, one)
    return plain.value in (percent.value, percent.value / 100)


def _are_compatible_degrees(*units: str) -> bool:
    """Return whether all units are degrees, at least one of them without a scale (° beside °C)."""
    return "°" in units and all(unit.startswith("°") for unit in units)


def _value_of(number: re.Match) -> Fraction | None:
    """Return the value of a match of `_NUMBER`; None if it divides by 0."""
    parts = number.groupdict("")
    under = parts["under"] or parts["bottom"] or parts["bottom_digit"]
    if parts["ten"]:
        value = _decimal(parts["mantissa"] or "1") * Fraction(10) ** int(parts["ten"])
    elif under:
        if int(under) == 0:
            return None
        over = parts["over"] or parts["top"] or parts["top_digit"]
        value = int(parts["whole"] or parts["ones"] or 0) + Fraction(int(over), int(under))
    elif repeated := parts["repeated"]:
        places = len(parts["fixed"].partition(".")[2])
        value = _decimal("0" + parts["fixed"]) + Fraction(int(repeated), 10**places * (10 ** len(repeated) - 1))
    else:
        value = _decimal(parts["digits"] + parts["exponent"])
    return -value if parts["sign"] == "-" else value


def _decimal(digits: str) -> Fraction:
    """Return the value of decimal digits, which may have thousands separators."""
    return Fraction(digits.replace(",", "").replace(" ", ""))


def _parse_unit(text: str, money: str) -> tuple[int, str] | None:
    """Parse the text after a number.

    Args:
      text: what follows the digits.
      money: currency written before the digits, or "".

    Returns:
      The factor of the number (10^6 for "million") and its unit; None if the text is not a unit.
    """
    for pattern, unit in _UNIT_REWRITES:
        text = pattern.sub(unit, text)
    scale, power, sign, powers = 1, 1, 1, Counter()
    for part in _UNIT_PART.finditer(text):
        word = _known_form(part["word"] or part["sign"])
        if word in _UNITS:
            powers[_UNITS[word]] += sign * power * int(part["power"] or 1)
            power = 1
        elif word in _SCALES and not powers:
            scale *= _SCALES[word]
        elif word in _POWERS:
            power = _POWERS[word]
        elif word in _PER:
            sign = -1
        elif word in _NO_UNIT or len(word) == 1 or part.start() == 0:
            # Letters that directly follow the digits are factors: 2xy.
            return None
    if money:
        powers[_UNITS[money]] = 1
    return scale, " ".join(unit if power == 1 else f"{unit}^{power}" for unit, power in sorted(powers.items()))


def _known_form(word: str) -> str:
    """Return the form of a word that is in the vocabulary, or the word itself."""
    if len(word) == 1:
        return word
    forms = (word, word.lower(), word.lower().removesuffix("s"))
    return next((form for form in forms if form in _VOCABULARY), word)
