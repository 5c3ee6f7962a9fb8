r"""Find the numbers and the formulas in a text: 42, 1,200, 2½, 1.5 × 10^3, forty-two; $x \geq 5$, x = 3, 2\sqrt{3}."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from mig_jax.text.answers import identities, parser
from mig_jax.text.answers.normalize import normalize
from mig_jax.text.answers.quantities import is_known_unit, parse_number, parse_number_answer

# Only this many characters at the end of a long text are searched; the answer is near the end.
MAX_SEARCHED = 3000
# Longer runs of mathematics outside $…$ are no answer.
MAX_RUN = 600

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

# A number with a unit of one letter, as in 5m²; without the exponent the letter may be a factor.
_ATTACHED_UNIT = re.compile(r"(?P<number>[0-9.,]+)(?P<unit>[A-Za-z](?:[²³]|\^[23]))")

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
# Number words are an answer only after such a word: "there are two bars", but not "the two of them".
_BEFORE_WORDS = re.compile(
    r"(?:^|\b(?:is|are|was|were|has|have|had|equals?|total of|exactly|about|only|makes?|gets?|that's|it's))\W{0,4}\Z",
    re.IGNORECASE,
)

# In a text without digits, after any word but these.
_BEFORE_ANY_WORDS = re.compile(
    r"(?<!\bthe)(?<!\bthese)(?<!\bthose)(?<!\ball)(?<!\bno)(?<!\bany)(?<!\bof)(?<!\band)\s\Z|\A\Z"
)
# What stands before a number that is a label, as in "Step 5".
_LABEL = re.compile(
    r"(?:\b(?:steps?|problems?|questions?|parts?|equations?|eqs?|figures?|fig|case|exercise|example|line|chapter|page)"
    r"\.? ?[#(]?|第 ?|#)\Z",
    re.IGNORECASE,
)
_LIST_MARKER = re.compile(r"(?:\A|\n)[ *]*\Z")
_AFTER_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b|[.)](?=\s+\S)")
_TIME = r"\s?(?:more |full |whole )?(?:(?:second|minute|hour|day|week|month|year|time)s?\b|[天周年]|小时|分钟|个月)"
_BEFORE_ADJUNCT = re.compile(r"\b(?:after|for|in|within|during|every|per|over|next|last|past)\s\Z", re.IGNORECASE)
_BEFORE_YEAR = re.compile(r"\b(?:in|since|by|from|until|of|during)\s\Z", re.IGNORECASE)
_YEAR = re.compile(r"(?:1[5-9]|20)[0-9]{2}")
_EACH = re.compile(r"\s(?:each|apiece|per)\b")
_BEFORE_EACH = re.compile(r"每.{0,3}\Z")
# After a formula, what follows such words explains it: "$y = 2x$, which has slope 2".
_REMARK = re.compile(r"[\s,;]*(?:which|where|with|because|since|about|approximately|or about|i\.e\.)\b")
_AFTER_ADJUNCT = re.compile(_TIME)
_BEFORE_COMPARED = re.compile(r"\bthan\s\Z", re.IGNORECASE)
# After a fraction, percentage or formula, a plain number or an assignment is a condition: "3/4 of the 8".
_RICH = re.compile(r"[/%\\√π^=<>]")
_POOR = re.compile(r"[-0-9.,]+|[A-Za-z] ?=[^=]+")
_BEFORE_CONDITION = re.compile(r"\b(?:in|for|of|when|where|if|with|at)(?: the| all)?\s\Z", re.IGNORECASE)
_AFTER_TIME = re.compile(rf"{_TIME}[之以]?[后内]")
_SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)|[。！？\n]")

_SPAN = re.compile(
    r"\$\$(?P<block>[^$]{1,1500})\$\$|(?<!\\)\$(?P<inline>(?:[^$\\]|\\.){1,1500})\$"
    r"|\\\((?P<round>(?:(?!\\[()]).){1,1500}?)\\\)|\\\[(?P<square>(?:(?!\\[\[\]]).){1,1500}?)\\\]",
    re.DOTALL,
)
_PLAIN_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,}(?![A-Za-z])")
_FUNCTIONS = r"(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|ln|exp|sqrt|pi|max|min|gcd|lcm|mod|det|infinity|infty|inf|oo"
_FUNCTION = re.compile(_FUNCTIONS)
# A value that the words beside it change: 5 million, 4210 base 7, 3 to 4, 5 km north, June 20, 3:30 p.m.
QUALIFIED = re.compile(
    r"-?\$?[0-9][0-9,.:/]*(?:°|\\%|%)?(?: (?:base|to) [0-9]+| [A-Za-z][A-Za-z.]*){1,3}"
    r"|[A-Z][a-z]+ [0-9]{1,2}(?:, [0-9]{4})?"
)
_TOKEN = re.compile(
    r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|operatorname|begin|end) ?\{[^{}]{0,200}\}"
    r"|\\[A-Za-z]+|\\[^A-Za-z\s]"
    rf"|(?<![A-Za-z])(?:{_FUNCTIONS})(?![A-Za-z])"
    r"|[0-9]+\.(?=\\overline)|[0-9]+(?:[.,][0-9]+)*|(?<![0-9])\.[0-9]+"
    r"|(?<![A-Za-z\\])[A-Z]{2,4}(?= ?[_=])|(?<=\\angle )[A-Z]{2,4}(?![A-Za-z])"
    r"|(?<=[0-9])(?!st|nd|rd|th|[kcm]m|kg|mg|ft|m[lL]|lb|oz|in|hr)[a-z]{2,3}(?![A-Za-z])"
    r"|(?<![A-Za-z])[A-Za-z](?![A-Za-z'\N{RIGHT SINGLE QUOTATION MARK}])"
    r"|[-+*/^_=<>|!%&(){}\[\],;:']"
    r"|[\N{MINUS SIGN}±×·÷√∞∪∩∈≤≥≠≈π°²³⁰-⁹½¼¾⅐-⅞θαβλμ]"
)
_VALUED = re.compile(r"[0-9π∞√½¼¾⅐-⅞∅]|\\[A-Za-z]{2,}|[A-Za-z)] ?[-+*/^=<>≤≥≠] ?[A-Za-z(]")
_JOINT = re.compile(r"\s*(?:(?:,|;|、|，)\s*(?:and|or|和|或)?|and|or|和|或|以及)\s*")
_DANGLING = " \t\n,;:=*"
_VARIABLE = re.compile(rf"(?<![A-Za-z\\])(?!(?:{_FUNCTIONS})(?![A-Za-z]))(?<!\\[a-z])[A-Za-z](?![A-Za-z]*\{{)")
_APPROXIMATE = re.compile(r"\\approx(?![A-Za-z])|≈")


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
            found.append(Value(match.start(), match.end(), str(_value_of_words(match[0]))))
    return sorted(found)


def find_formulas(text: str) -> list[Value]:
    r"""Return the formulas of a text in order: between $…$, \(…\) or \[…\], and runs of mathematics without words.

    Neighbors such as "$1$ and $2$" are one formula, `1, 2`.
    """
    found: list[Value] = []
    position = 0
    for span in math_spans(text):
        found += _runs(text, position, span.start)
        found.append(Value(span.start, span.end, span.text + _unit_after(text, span.end, span.text)))
        position = span.end
    found += _runs(text, position, len(text))
    return _joined(text, found)


def math_spans(text: str) -> Iterator[Value]:
    r"""Yield what a text writes between $…$, \(…\) or \[…\], unless the dollar signs are a currency."""
    for span in _SPAN.finditer(text):
        content = (span["block"] or span["inline"] or span["round"] or span["square"] or "").strip()
        if content and not _is_money(span, content):
            yield Value(span.start(), span.end(), content)


def concluding(text: str, values: Sequence[Value]) -> Value | None:
    """Return the value that concludes a text: the last one that is no label and no detail such as "in 3 hours"."""
    values = [value for value in values if not _LABEL.search(text[max(0, value.start - 14) : value.start])]
    proper = [value for value in values if not _is_ordinal(text, value)]
    for before, value in reversed([*pairwise([None, *proper])]):
        assert value is not None
        if _is_in_parentheses(text, value, proper[0]):
            continue
        is_same_sentence = before is not None and not _SENTENCE_END.search(text, before.end, value.start)
        if not (is_same_sentence and before is not None and _is_detail(text, before, value)):
            return value
    return (proper or values or [None])[-1]


def _number(text: str, match: re.Match) -> Value:
    """Return the number of a match of `_NUMBER`."""
    sign = "-" if match["sign"] and not _is_minus(text, match) else ""
    number = sign + match["digits"] + match["scale"] + ("%" if match["percent"] else "")
    return Value(
        match.start(), match.end(), number + ("" if match["percent"] else _unit_after(text, match.end(), number))
    )


def _is_attached(text: str, end: int) -> bool:
    """Return whether letters that are no unit follow a number directly, as in 5x and 5abc."""
    letters = re.match("[A-Za-z]+", text[end : end + 20])
    return letters is not None and not is_known_unit(letters[0]) and not _AFTER_ORDINAL.match(text, end)


def _is_minus(text: str, match: re.Match) -> bool:
    """Return whether a sign subtracts, as in x - 3: it has an operand before, and blanks on both sides."""
    before = re.search(r"(?:[0-9)\]}%]|(?<![A-Za-z])[A-Za-z]) +\Z", text[max(0, match.start() - 4) : match.start()])
    return before is not None and match["sign"].endswith(" ")


def _unit_after(text: str, position: int, number: str) -> str:
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


def _is_in_parentheses(text: str, value: Value, first: Value) -> bool:
    """Return whether a value is in a remark in parentheses that comes after the first value in its sentence."""
    opening = text.rfind("(", max(0, value.start - 80), value.start)
    if opening < first.end or ")" in text[opening : value.start]:
        return False
    return _SENTENCE_END.search(text, max(first.end, opening - 80), opening) is None and text[opening - 1].isspace()


def _is_ordinal(text: str, value: Value) -> bool:
    """Return whether a value is an ordinal such as 2nd, or the number of a list item."""
    after = _AFTER_ORDINAL.match(text, value.end)
    is_marker = after and after[0] in ".)" and _LIST_MARKER.search(text[max(0, value.start - 6) : value.start])
    return bool(is_marker or (after and after[0] not in ".)"))


def _is_detail(text: str, other: Value, value: Value) -> bool:
    """Return whether a value is a detail of another one before it, as in "after 3 days", "than 4", "60% of 5"."""
    before, is_rich = text[max(0, value.start - 10) : value.start], _RICH.search(other.text) is not None
    is_priced = text[other.start] in "$€£¥" and _POOR.fullmatch(value.text)
    return bool(
        _BEFORE_COMPARED.search(before)
        or _BEFORE_EACH.search(before)
        or _AFTER_TIME.match(text, value.end)
        or _EACH.match(text, value.end)
        or (_BEFORE_ADJUNCT.search(before) and _AFTER_ADJUNCT.match(text, value.end))
        or (_BEFORE_YEAR.search(before) and _YEAR.fullmatch(value.text))
        or ((is_rich or is_priced) and _BEFORE_CONDITION.search(before) and _POOR.fullmatch(value.text))
        or (is_rich and _REMARK.match(text, other.end))
    )


def _is_money(span: re.Match, content: str) -> bool:
    """Return whether the dollar signs of a span are a currency: "$2 each, so she makes $"."""
    words = [word for word in _PLAIN_WORD.findall(re.sub(r"\\[a-z]+ ?\{[^{}]*\}", "", content))]
    if span["inline"] is None or QUALIFIED.fullmatch(content):
        return False
    return any(not _FUNCTION.fullmatch(word) for word in words)


def _runs(text: str, start: int, end: int) -> Iterator[Value]:
    """Yield the runs of mathematics in a part of a text that is outside $…$."""
    run_start = run_end = -1
    for token in _TOKEN.finditer(text, start, end):
        gap = text[run_end : token.start()] if run_start >= 0 else ""
        if run_start >= 0 and (gap.strip(" ") or _is_article(text, token)):
            yield from _trimmed(text, run_start, run_end)
            run_start = -1
        if run_start < 0 and not _is_article(text, token):
            run_start = token.start()
        run_end = token.end()
    if run_start >= 0:
        yield from _trimmed(text, run_start, run_end)


def _is_article(text: str, token: re.Match) -> bool:
    """Return whether a token is the word "a" or "I"."""
    return token[0] in ("a", "A", "I") and re.match(r" [\w$]", text[token.end() : token.end() + 2]) is not None


def _trimmed(text: str, start: int, end: int) -> Iterator[Value]:
    """Yield the run without dangling punctuation and brackets, if it has a value."""
    run = text[start:end]
    while len(run) <= MAX_RUN:
        stripped = run.strip(_DANGLING)
        # A half-open interval has different brackets.
        for openings, closings in (("([", ")]"), ("{", "}")):
            surplus = sum(map(stripped.count, openings)) - sum(map(stripped.count, closings))
            if surplus < 0 and stripped.endswith(tuple(closings)) or stripped.endswith(tuple(openings)):
                stripped = stripped[:-1]
            if surplus > 0 and stripped.startswith(tuple(openings)) or stripped.startswith(tuple(closings)):
                stripped = stripped[1:]
        if stripped[:1] == "[" and stripped[-1:] == "]" and not re.search(r"[,;\[\]]", stripped[1:-1]):
            stripped = stripped[1:-1]
        if stripped == run:
            break
        run = stripped
    if len(run) <= MAX_RUN and _VALUED.search(run) and run[0] not in "^_":
        start = text.index(run, start)
        end = start + len(run)
        attached = _ATTACHED_UNIT.fullmatch(run)
        if attached and is_known_unit(normalize(attached["unit"])):
            run = f"{attached['number']} {attached['unit']}"
        yield Value(start, end, run + _unit_after(text, end, run))


def _joined(text: str, values: Sequence[Value]) -> list[Value]:
    """Return the values, with neighbors such as "1 and 2" as one."""
    joined: list[Value] = []
    for value in values:
        before = joined[-1] if joined else None
        joint = before and _JOINT.fullmatch(text, before.end, value.start)
        if before and not joint and before.end == value.start:
            joined[-1] = Value(before.start, value.end, before.text + value.text)
        elif before and joint:
            is_or = re.search("or|或", joint[0]) and re.search(r"[<>≤≥]|\\[lg]e", before.text)
            joined[-1] = Value(before.start, value.end, before.text + (" or " if is_or else ", ") + value.text)
        else:
            joined.append(value)
    return joined


def result_of(formula: str) -> str:
    r"""Return the result of a formula: the 5 of 2 + 3 = 5, and the exact side of \sqrt{2} \approx 1.41.

    A formula with variables, such as x = 5 or x + y = 5, is returned as it is.
    """
    formula = _identity_side(formula)
    *exact, _ = _APPROXIMATE.split(formula)
    if exact and re.search(r"[0-9]", exact[-1]):
        formula = exact[-1].strip()
    first, *_, last = formula.split("=") if re.search(r"[^<>!]=[^=]", formula) else (formula,) * 2
    is_closed = re.search(r"[0-9]", first) and not any(map(_VARIABLE.search, (first, last)))
    return last.strip() if is_closed and last.strip() else formula


def _identity_side(formula: str) -> str:
    """Return the last side of an identity such as (x-2)(x+2) = x^2 - 4; any other formula as it is."""
    sides = formula.split("=")
    if len(sides) != 2 or not all(map(str.strip, sides)):
        return formula
    try:
        one, other = (parser.parse_formula(normalize(side)) for side in sides)
        is_identity = len(one.names) > 0 and identities.is_same_value(one, other)
    except parser.Unreadable:
        return formula
    return sides[1].strip() if is_identity else formula
