r"""Find the formulas in a text: $x \geq 5$, x = 3, 2\sqrt{3}."""

import re
from collections.abc import Iterator, Sequence

from mig_jax.text.answers.identities import is_same_value
from mig_jax.text.answers.normalize import normalize
from mig_jax.text.answers.parser import Unreadable, parse_formula
from mig_jax.text.answers.quantities import is_known_unit
from mig_jax.text.answers.values import Value, unit_after

# Longer runs of mathematics outside $…$ are no answer.
MAX_RUN = 600
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
# A number with a unit of one letter, as in 5m²; without the exponent the letter may be a factor.
_ATTACHED_UNIT = re.compile(r"(?P<number>[0-9.,]+)(?P<unit>[A-Za-z](?:[²³]|\^[23]))")
_VARIABLE = re.compile(rf"(?<![A-Za-z\\])(?!(?:{_FUNCTIONS})(?![A-Za-z]))(?<!\\[a-z])[A-Za-z](?![A-Za-z]*\{{)")
_APPROXIMATE = re.compile(r"\\approx(?![A-Za-z])|≈")


def find_formulas(text: str) -> list[Value]:
    r"""Return the formulas of a text in order: between $…$, \(…\) or \[…\], and runs of mathematics without words.

    Neighbors such as "$1$ and $2$" are one formula, `1, 2`.
    """
    found: list[Value] = []
    position = 0
    for span in math_spans(text):
        found += _runs(text, position, span.start)
        found.append(Value(span.start, span.end, span.text + unit_after(text, span.end, span.text)))
        position = span.end
    found += _runs(text, position, len(text))
    return _joined(text, found)


def math_spans(text: str) -> Iterator[Value]:
    r"""Yield what a text writes between $…$, \(…\) or \[…\], unless the dollar signs are a currency."""
    for span in _SPAN.finditer(text):
        content = (span["block"] or span["inline"] or span["round"] or span["square"] or "").strip()
        if content and not _is_money(span, content):
            yield Value(span.start(), span.end(), content)


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
        yield Value(start, end, run + unit_after(text, end, run))


def _joined(text: str, values: Sequence[Value]) -> list[Value]:
    """Return the values, with neighbors such as "1 and 2" as one."""
    joined: list[Value] = []
    for value in values:
        before = joined[-1] if joined else None
        joint = before and _JOINT.fullmatch(text, before.end, value.start)
        if before and not joint and before.end == value.start:
            joined[-1] = Value(before.start, value.end, before.text + value.text)
        elif before and joint:
            word = re.search("or|或|and|和", joint[0]) if re.search(r"[<>≤≥]|\\[lg]e", before.text) else None
            mark = ", " if word is None else " or " if word[0] in ("or", "或") else " and "
            joined[-1] = Value(before.start, value.end, before.text + mark + value.text)
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
        one, other = (parse_formula(normalize(side)) for side in sides)
        is_identity = len(one.names) > 0 and is_same_value(one, other)
    except Unreadable:
        return formula
    return sides[1].strip() if is_identity else formula
