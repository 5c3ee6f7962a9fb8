"""Choose the value that concludes a text, among those that are labels, details and conditions."""

import re
from collections.abc import Sequence
from itertools import pairwise

from mig_jax.text.answers.conversions import conversion_factor
from mig_jax.text.answers.quantities import parse_number_answer
from mig_jax.text.answers.values import Value

# What stands before a number that is a label, as in "Step 5".
_LABEL = re.compile(
    r"(?:\b(?:steps?|problems?|questions?|parts?|equations?|eqs?|figures?|fig|case|exercise|example|line|chapter|page)"
    r"\.? ?[#(]?|第 ?|#)\Z",
    re.IGNORECASE,
)
# What stands before a value that is not the answer, or that is another one with the words before it.
_REJECTED = re.compile(
    r"(?:\b(?:not|never|rather than|instead of)|n['’]t)(?: be| equal)? (?:\$|\\\()?\Z", re.IGNORECASE
)
_CHANGING = re.compile(
    r"(?:\b(?:(?:root|square|cube|reciprocal|inverse|half|third|quarter|logarithm|factorial)s? of|between \S+ and"
    r"|either \S+ or|(?:more|less|fewer|greater|larger|smaller|bigger) than)|(?<!from )(?<![0-9.])[0-9][0-9.]* to)"
    r" (?:\$|\\\()?\Z",
    re.IGNORECASE,
)
_COMPOUND = re.compile(r"[ A-Za-z]{0,12}(?: and|,)? ")
_LIST_MARKER = re.compile(r"(?:\A|\n)[ *]*\Z")
_AFTER_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b|[.)](?=\s+\S)")
_TIME = r"\s?(?:more |full |whole )?(?:(?:second|minute|hour|day|week|month|year|time)s?\b|[天周年]|小时|分钟|个月)"
_BEFORE_ADJUNCT = re.compile(
    r"\b(?:after|for|in|within|during|every|per|over|next|last|past|end of(?: the)?)\s\Z", re.IGNORECASE
)
_BEFORE_YEAR = re.compile(r"\b(?:in|since|by|from|until|of|during)\s\Z", re.IGNORECASE)
_YEAR = re.compile(r"(?:1[5-9]|20)[0-9]{2}")
_EACH = re.compile(r"\s(?:each|apiece|per)\b")
_BEFORE_EACH = re.compile(r"每.{0,3}\Z")
# After a formula, what follows such words explains it: "$y = 2x$, which has slope 2".
_REMARK = re.compile(r"[\s,;]*(?:which|where|with|because|since|about|approximately|or about|i\.e\.)\b")
# After a number, the same in other units: "16 pounds, which is 256 ounces".
_RESTATED = re.compile(r"(?: [A-Za-z]{1,20}){0,3}, (?:which is|or|i\.e\.,?) (?=[-$]?[0-9])")
_AFTER_ADJUNCT = re.compile(_TIME)
_BEFORE_COMPARED = re.compile(r"\bthan\s\Z", re.IGNORECASE)
# After a fraction, percentage or formula, a plain number or an assignment is a condition: "3/4 of the 8".
_RICH = re.compile(r"[/%\\√π^=<>]")
_POOR = re.compile(r"[-0-9.,]+|[A-Za-z] ?=[^=]+")
_BEFORE_CONDITION = re.compile(r"\b(?:in|for|of|when|where|if|with|at)(?: the| all)?\s\Z", re.IGNORECASE)
_AFTER_TIME = re.compile(rf"{_TIME}[之以]?[后内]")
_SENTENCE_END = re.compile(r"[.!?](?=\s|\Z)|[。！？\n]")


def concluding(text: str, values: Sequence[Value]) -> Value | None:
    """Return the value that concludes a text: the last one that is no label and no detail such as "in 3 hours"."""
    values = [value for value in values if not _LABEL.search(text[max(0, value.start - 14) : value.start])]
    values = [value for value in values if not _REJECTED.search(text[max(0, value.start - 20) : value.start])]
    found = _concluding(text, values)
    # Of "2 hours and 30 minutes, or 150 minutes" the last one.
    return next((value for value in (found, *values[-1:]) if value and not _is_changed(text, value, values)), None)


def _concluding(text: str, values: Sequence[Value]) -> Value | None:
    proper = [value for value in values if not _is_ordinal(text, value)]
    for before, value in reversed([*pairwise([None, *proper])]):
        assert value is not None
        if _is_in_parentheses(text, value, proper):
            continue
        is_same_sentence = before is not None and not _SENTENCE_END.search(text, before.end, value.start)
        if not (is_same_sentence and before is not None and _is_detail(text, before, value)):
            return value
    return (proper or values or [None])[-1]


def _is_changed(text: str, value: Value, values: Sequence[Value]) -> bool:
    """Return whether words before a value make it another one: "the square root of 2", "3 to 4", "6 feet 2 inches"."""
    if _CHANGING.search(text[max(0, value.start - 40) : value.start]):
        return True
    before = next((other for other in reversed(values) if other.end <= value.start), None)
    if before is None or not _COMPOUND.fullmatch(text, before.end, value.start):
        return False
    units = [number.unit if (number := parse_number_answer(part.text)) else "" for part in (before, value)]
    return conversion_factor(*units) not in (None, 1)


def _is_in_parentheses(text: str, value: Value, values: Sequence[Value]) -> bool:
    """Return whether a value is in a remark in parentheses, after another value of its sentence."""
    opening = text.rfind("(", max(0, value.start - 80), value.start)
    if opening < 1 or ")" in text[opening : value.start] or not text[opening - 1].isspace():
        return False
    others = [other for other in values if opening - 80 < other.end <= opening]
    return bool(others) and not _SENTENCE_END.search(text, others[-1].end, opening)


def _is_ordinal(text: str, value: Value) -> bool:
    """Return whether a value is an ordinal such as 2nd, or the number of a list item."""
    after = _AFTER_ORDINAL.match(text, value.end)
    is_marker = after and after[0] in ".)" and _LIST_MARKER.search(text[max(0, value.start - 6) : value.start])
    return bool(is_marker or (after and after[0] not in ".)"))


def _is_detail(text: str, other: Value, value: Value) -> bool:
    """Return whether a value is a detail of another one before it, as in "after 3 days", "than 4", "60% of 5"."""
    before, is_rich = text[max(0, value.start - 12) : value.start], _RICH.search(other.text) is not None
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
        or _RESTATED.match(text, other.end)
    )
