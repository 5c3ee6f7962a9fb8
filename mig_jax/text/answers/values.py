"""Find the numbers in a text: 42, 1,200, 2½, 1.5 × 10^3, forty-two, with their units."""

import re
from typing import NamedTuple

from mig_jax.text.answers.quantities import is_known_unit, parse_number, parse_number_answer

# Only this many characters at the end of a long text are searched; the answer is near the end.
MAX_SEARCHED = 3000
_THOUSANDS = r"[0-9]{1,3}(?:(?:,|\{,\}|,?\\[,!;:] ?|[ \u00a0\u2009\u202f])[0-9]{3})+(?![0-9])"
_DECIMAL = rf"(?:(?:{_THOUSANDS}|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
_POWER_OF_TEN = r"10 ?\^ ?(?:\{ ?[-+]?[0-9]{1,3} ?\}|[-+]?[0-9]{1,3})"
_VULGAR = "[¼-¾⅐-⅞]"
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]}])[-\N{MINUS SIGN}] ?)?(?P<money>\\?\$ ?)?"
    r"(?<![A-Za-z0-9_])(?P<digits>(?:[0-9]+ ?)?\\[dtc]?frac ?\{[0-9]+\} ?\{[0-9]+\}"
    r"|(?:[0-9]+ )?[0-9]+ ?[/\N{FRACTION SLASH}] ?[0-9]+(?![0-9/])"
    rf"|(?:{_DECIMAL} ?(?:\\times|\\cdot|[×*]) ?)?{_POWER_OF_TEN}"
    rf"|{_DECIMAL}(?:[eE][+-]?[0-9]{{1,3}}(?![0-9]))?(?: ?{_VULGAR})?|{_VULGAR})"
    r"(?P<scale>(?: (?:thousand|million|billion|trillion|dozen)\b|[kK](?![A-Za-z0-9])|[万亿])?)"
    r"(?P<percent> ?\\?%)?"
)
_UNIT_WORD = re.compile(
    r"[ -]?(?:(?P<chinese>[一-鿿]{1,4})|° ?[CF](?![A-Za-z])"
    r"|[A-Za-z]{1,12}(?: ?(?:\^ ?\{?[23]\}?|[²³]))?(?:(?:/| per )[A-Za-z]{1,12})?(?![A-Za-z]))"
)
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b")
_END = re.compile(r"\s*(?:[.,;)]|\Z)")
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {
    **{word: value for value, word in enumerate(_ONES.split())},
    **{word: value for value, word in zip(range(20, 100, 10), _TENS.split(), strict=True)},
}
_SCALE_WORDS = {"hundred": 100, "thousand": 10**3, "million": 10**6}
_ONE_WORD = "|".join((*_NUMBER_WORDS, *_SCALE_WORDS))
_WORDS = re.compile(
    rf"\b(?:{_ONE_WORD})\b(?:(?:[ -]|(?:(?<=hundred)|(?<=thousand)) and )(?:{_ONE_WORD})\b)*", re.IGNORECASE
)
_AND_A_HALF = re.compile(r" and (?:a|one) half\b", re.IGNORECASE)
# Number words are an answer only after such a word: "there are two bars", but not "the two of them".
_BEFORE_WORDS = re.compile(
    r"(?:^|\b(?:is|are|was|were|has|have|had|equals?|total of|exactly|about|only|makes?|gets?|that's|it's))\W{0,4}\Z",
    re.IGNORECASE,
)
# In a text without digits, after any word but these.
_BEFORE_ANY_WORDS = re.compile(
    r"(?<!\bthe)(?<!\bthese)(?<!\bthose)(?<!\ball)(?<!\bno)(?<!\bany)(?<!\bof)(?<!\band)\s\Z|\A\Z"
)


class Value(NamedTuple):
    """A number or formula in a text.

    start, end: characters of the text.
    text: the value as it will be compared, such as `-3`.
    """

    start: int
    end: int
    text: str


def find_numbers(text: str) -> list[Value]:
    """Return the numbers of a text in order, with sign, percent sign and unit; also those in words after a verb."""
    found = [_number(text, match) for match in _NUMBER.finditer(text) if not _is_attached(text, match.end())]
    taken = {value.start for value in found}
    before_words = _BEFORE_WORDS if found else _BEFORE_ANY_WORDS
    for match in _WORDS.finditer(text):
        if match.start() not in taken and before_words.search(text[max(0, match.start() - 20) : match.start()]):
            half = _AND_A_HALF.match(text, match.end())
            value = str(_value_of_words(match[0])) + (".5" if half else "")
            found.append(Value(match.start(), half.end() if half else match.end(), value))
    return sorted(found)


def _number(text: str, match: re.Match) -> Value:
    """Return the number of a match of `_NUMBER`."""
    sign = "-" if match["sign"] and not _is_minus(text, match) else ""
    half = _AND_A_HALF.match(text, match.end())
    if half and match["digits"].isdigit():
        number = f"{sign}{match['digits']}.5"
        return Value(match.start(), half.end(), number + unit_after(text, half.end(), number))
    number = sign + match["digits"] + match["scale"] + ("%" if match["percent"] else "")
    return Value(
        match.start(), match.end(), number + ("" if match["percent"] else unit_after(text, match.end(), number))
    )


def _is_attached(text: str, end: int) -> bool:
    """Return whether letters that are no unit follow a number directly, as in 5x and 5abc."""
    letters = re.match("[A-Za-z]+", text[end : end + 20])
    return letters is not None and not is_known_unit(letters[0]) and not _ORDINAL.match(text, end)


def _is_minus(text: str, match: re.Match) -> bool:
    """Return whether a sign subtracts, as in x - 3: it has an operand before, and blanks on both sides."""
    before = re.search(r"(?:[0-9)\]}%]|(?<![A-Za-z])[A-Za-z]) +\Z", text[max(0, match.start() - 4) : match.start()])
    return before is not None and match["sign"].endswith(" ")


def unit_after(text: str, position: int, number: str) -> str:
    """Return the known unit that follows a number or formula; "" if none."""
    match = _UNIT_WORD.match(text, position)
    word = match[0].strip(" -") if match else ""
    if word == "in" and match and not _END.match(text, match.end()):
        return ""
    lengths = range(len(word), 0, -1) if match and match["chinese"] else (len(word),)
    for unit in (word[:length] for length in lengths):
        parsed = parse_number(f"1 {unit}")
        if unit and parsed and parsed.is_percent:
            return "" if text.startswith(" point", match.end() if match else 0) else "%"
        if unit and parsed and parsed.unit:
            return f" {unit}" if parse_number_answer(number) else rf" \text{{ {unit}}}"
    return ""


def _value_of_words(words: str) -> int:
    """Return the number that words such as "two hundred and five" name."""
    total, current = 0, 0
    for word in re.findall(r"[a-z]+", words.casefold()):
        if word == "hundred":
            current = (current or 1) * 100
        elif word in _SCALE_WORDS:
            total, current = total + (current or 1) * _SCALE_WORDS[word], 0
        else:
            current += _NUMBER_WORDS.get(word, 0)
    return total + current
