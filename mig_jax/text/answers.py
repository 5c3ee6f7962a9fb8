"""Spellings of an answer, and what can be said about two answers at once, without algebra.

What needs algebra is left to the worker processes of `verifier`, which read answers in the same normal spelling.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

# What may stand around a whole answer.
_WRAPPERS = (
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("**", "**"),
    *((rf"\{command}{{", "}") for command in ("boxed", "text", "textbf", "mathrm", "mathbf")),
)

# Different ways to write the same; the left one is replaced.
_SYNONYMS = (
    (r"\dfrac", r"\frac"),
    (r"\tfrac", r"\frac"),
    (r"\displaystyle", " "),
    (r"\!", ""),
    (r"\,", " "),
    (r"\;", " "),
    ("{,}", ","),
    (r"\$", " "),
    ("$", " "),
    (r"\%", "%"),
    ("**", "^"),
    ("\N{MINUS SIGN}", "-"),
    ("\N{DEGREE SIGN}", r"^\circ"),
    ("\N{GREEK SMALL LETTER PI}", r"\pi "),
    ("\N{MULTIPLICATION SIGN}", r"\times "),
    ("\N{MIDDLE DOT}", r"\cdot "),
)
_SIZED_BRACKET = re.compile(r"\\(?:left|right)(?![A-Za-z])")
_BARE_PI = re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])")

_ASSIGNMENT = re.compile(r"([A-Za-z]) ?= ?([^=]+)")
_NUMBER = re.compile(
    r"(?P<sign>[+-]?) ?"
    r"(?:(?=\.?[0-9])(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]*)(?P<part>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)"
    r"|(?P<over>[0-9]+) ?/ ?(?P<under>[0-9]+)"
    r"|\\frac ?\{(?P<top>[0-9]+)\} ?\{(?P<bottom>[0-9]+)\})"
    r" ?(?P<percent>%?)"
)
# A sum or product that is still to be computed. Times a power of ten is how numbers are written.
_TO_BE_COMPUTED = re.compile(
    r"[0-9a-z)}!] ?(?:[-+]|(?:\*|\\times|\\cdot|\\div)(?! ?10 ?\^))|[0-9)](?: [0-9]| ?\()", re.IGNORECASE
)
_CHOICE = re.compile(r"\(?([A-Za-z])(?:[.):]+(?:\s.*)?)?", re.DOTALL)

# No answer that is compared digit by digit is longer.
MAX_DIGITS = 100


class Number(NamedTuple):
    """A number as it is written: 50% is (50, True)."""

    value: Fraction
    is_percent: bool


def answer_variants(reference: str, *, limit: int) -> tuple[str, ...]:
    r"""Equivalent spellings of an answer, the reference as given first, such as 1.5, 3/2, \frac{3}{2}.

    Args:
      reference: the right answer.
      limit: most spellings to return, at least 1.
    """
    plain = normalize(reference)
    assignment = _ASSIGNMENT.fullmatch(plain)
    spellings = [reference.strip(), plain]
    for text in filter(None, (plain, assignment and assignment[2])):
        spellings += [text, *_respell(parse_number(text))]
    return tuple(dict.fromkeys(filter(None, spellings)))[:limit]


def normalize(answer: str) -> str:
    """One spelling for what differs only in dress: wrappers, brackets' sizes, spaces, LaTeX and Unicode synonyms."""
    text = _unwrap(answer)
    for old, new in _SYNONYMS:
        text = text.replace(old, new)
    text = _BARE_PI.sub(r"\\pi ", _SIZED_BRACKET.sub("", text))
    return " ".join(text.split())


def parse_number(text: str) -> Number | None:
    """The exact value of a normalized integer, decimal, fraction or percentage; None for anything else."""
    match = _NUMBER.fullmatch(text) if len(text) <= MAX_DIGITS else None
    if not match:
        return None
    if match["under"] or match["bottom"]:
        over, under = int(match["over"] or match["top"]), int(match["under"] or match["bottom"])
    else:
        over, under = Fraction(match["whole"].replace(",", "") + match["part"]), 1
    if under == 0:
        return None
    return Number(Fraction(over, under) * (-1 if match["sign"] == "-" else 1), bool(match["percent"]))


def is_same_number(one: Number, other: Number) -> bool:
    """Exact equality. When only one of the two is written as a percentage, 50% is both 50 and 0.5."""
    if one.is_percent == other.is_percent:
        return one.value == other.value
    percent, plain = (one, other) if one.is_percent else (other, one)
    return plain.value in (percent.value, percent.value / 100)


def is_same_choice(response: str, reference: str) -> bool:
    """The same letter, whether B, b, (B), B., **B** or "B) because…"; without letters, the same text."""
    one, other = (_CHOICE.fullmatch(_unwrap(text)) for text in (response, reference))
    if one and other:
        return one[1].lower() == other[1].lower()
    return is_same_text(response, reference)


def is_same_text(response: str, reference: str) -> bool:
    """Equal but for case and white space."""
    one, other = (" ".join(text.casefold().split()) for text in (response, reference))
    return one == other


def is_same_math(response: str, reference: str) -> bool | None:
    """Are two answers equal, as far as it can be told without algebra? None when it cannot.

    A sum or product is no answer where a number is asked for, or else repeating the question would be one.
    """
    given, wanted = _without_assignment(normalize(response), normalize(reference))
    if given == wanted:
        return True
    given_number, wanted_number = parse_number(given), parse_number(wanted)
    if given_number and wanted_number:
        return is_same_number(given_number, wanted_number)
    if wanted_number and _TO_BE_COMPUTED.search(given.rpartition("=")[2]):
        return False
    # To algebra a word is a product of letters: Paris would equal pairs.
    if _is_prose(given) and _is_prose(wanted):
        return is_same_text(given, wanted)
    return None


def _without_assignment(given: str, wanted: str) -> tuple[str, str]:
    """Drops `x =` where it does not matter: on one side only, or the same on both."""
    matches = [_ASSIGNMENT.fullmatch(text) for text in (given, wanted)]
    if len({match[1] for match in matches if match}) != 1:
        return given, wanted
    given, wanted = (match[2] if match else text for match, text in zip(matches, (given, wanted), strict=True))
    return given, wanted


def _is_prose(text: str) -> bool:
    return text.replace(" ", "").isalpha() and max(map(len, text.split())) > 2


def _unwrap(text: str) -> str:
    """Takes off a full stop, and what stands around the whole of a text, layer by layer."""
    text = text.strip().removesuffix(".").rstrip()
    for opening, closing in _WRAPPERS:
        inner = text[len(opening) : -len(closing)]
        is_wrapped = text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening + closing)
        if is_wrapped and opening not in inner and _is_balanced(inner):
            return _unwrap(inner)
    return text


def _is_balanced(text: str) -> bool:
    """No brace is closed before it was opened."""
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return True


def _respell(number: Number | None) -> Iterator[str]:
    """How else people write a number, likely spellings first."""
    if number is None:
        return
    value, is_percent = number
    if is_percent:
        yield from (f"{text}{sign}" for text in _decimals(value) for sign in ("%", r"\%"))
        value /= 100
    yield from _decimals(value)
    over, under = value.as_integer_ratio()
    if 1 < under <= 100:
        sign = "-" if over < 0 else ""
        yield from (f"{over}/{under}", rf"{sign}\frac{{{abs(over)}}}{{{under}}}")
    if 0 < value < 1 and 100 % under == 0 and not is_percent:
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
