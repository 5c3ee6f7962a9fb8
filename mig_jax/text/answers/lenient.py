r"""Lenient answer extraction: find the answer anywhere in a completion, in any format.

It credits the intended answer even if the response is malformed in the sense of `response_format`. A completion is
searched from the clearest place to the least clear one:

    1. the last answer block with any content, closed or not
    2. the text after the last </think>; if that has no answer, the whole text:
       a. the last \boxed{…}; adjacent ones such as \boxed{1} and \boxed{2} are one answer
       b. what follows the last lead, such as "the answer is", "Answer:", 答案 or ####, see `leads`
       c. a rule for the kind, see `READERS`

A block or box may hold a sentence. It is then read like a text, unless it is an answer as it stands.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mig_jax.text.answers import read_math, read_words
from mig_jax.text.answers.leads import without_reason
from mig_jax.text.answers.named_choice import names_one_choice, read_choice
from mig_jax.text.answers.normalize import strip_wrappers

# Full-width characters, as typed in Chinese text, and their ASCII forms.
_TO_ASCII = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_ANSWER_TAG = re.compile(r"<(/?)(?:final[_ ]?)?answer>", re.IGNORECASE)
_THINK_CLOSE = "</think>"
# A brace, with \boxed if that is before it; escaped braces also match, to be skipped.
_BRACE = re.compile(r"\\(?:boxed|f?box|framebox) ?\{|\\[{}]|[{}]|\\boxed ?(?P<bare>[0-9A-Za-z])(?![0-9A-Za-z])")
_NON_BLANK = re.compile(r"\S")
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$]|\\[)\],;:!]|\\q?quad)*"
    r"(?:,|;|and|or|和|或|、|,\s*and|\\text ?\{[^{}]*\b(?:and|or) ?\})?"
    r"(?:[\s$]|\\[(\[,;:!]|\\q?quad)*"
)
# Without a block or box, the answer is in so many characters at the end of a completion.
MAX_READ = 10_000
# A last line that is no part of the answer.
_FAREWELL = re.compile(
    r"\n[^\n]{0,80}\b(?:hope (?:this|that|it) (?:helps|is)|feel free|let me know|if you have any)\b[^\n]{0,200}\s*\Z",
    re.IGNORECASE,
)


class Reader(NamedTuple):
    """How the answers of a kind are read.

    read: returns the answer in a text, or None.
    is_answer: returns whether the content of a block or box is an answer as it stands, no sentence around one.
    """

    read: Callable[[str, Sequence[str]], str | None]
    is_answer: Callable[[str, Sequence[str]], bool]


def extract_lenient_answer(completion: str, *, kind: str, choices: Sequence[str] = ()) -> str | None:
    r"""Return the answer of a completion; None if nothing is found. Never raises; time is linear in the length.

    The places are searched in the order of this module. Without block, box and lead, the rule for the kind is:
      number, expression: the last number or formula, except for labels (Step 5) and details (in 3 hours).
      relaxed, integer, rounded: the same, in a form that Python's `float` reads.
      choice, nearest_choice: see `named_choice`.
      yes_no: the word that begins the last line, or the first line; else the last such word.
      text, set, reasoning_gym: a reply of one line.

    Args:
      completion: any text.
      kind: how the answer will be compared, one of `kinds.KINDS`, or a user's own.
      choices: texts of the choices; () accepts all letters.
    """
    reader = _find_reader(kind)
    text = completion if reader is READERS["text"] else completion.translate(_TO_ASCII)
    if block := _last_block(text):
        return _read_content(block, reader, choices)
    conclusion = text.rpartition(_THINK_CLOSE)[2]
    for part in dict.fromkeys((conclusion, text)):
        if boxed := _last_boxed(part):
            return _read_content(boxed, reader, choices)
        if answer := reader.read(_FAREWELL.sub("", part[-MAX_READ:]), choices):
            return answer
    return None


def _find_reader(kind: str) -> Reader:
    """Return how answers of a kind are read; for a user's own kind, the content of a block or box is the answer."""
    from mig_jax.text.answers.kinds import find_kind  # which imports this module

    read = find_kind(kind).read or READERS["text"]
    return read if isinstance(read, Reader) else Reader(read, lambda text, choices: True)


def _read_content(content: str, reader: Reader, choices: Sequence[str]) -> str:
    """Return the answer in the content of a block or box: the content itself, or what is read in it."""
    inner = strip_wrappers(content)
    for text in dict.fromkeys((content, _last_boxed(content), inner, without_reason(inner))):
        if text and reader.is_answer(text, choices):
            return text
    return reader.read(inner, choices) or content


def _last_block(text: str) -> str | None:
    """Return the content of the last answer block that is not blank, closed or not."""
    pieces = _ANSWER_TAG.split(text)
    blocks = (piece.strip() for slash, piece in zip(pieces[-2::-2], pieces[::-2], strict=False) if not slash)
    return next(filter(None, blocks), None)


def _last_boxed(text: str) -> str:
    r"""Return the content of the \boxed{…} that is closed last and is not blank; "" if there is none.

    Boxes right before it, separated by a comma or "and", belong to the same answer.
    """
    boxes: list[tuple[int, int, int, int]] = []  # where the box and its content start, where they end
    opened: list[tuple[int, int] | None] = []  # for each open brace: where its \boxed and the content start, or None
    for brace in _BRACE.finditer(text):
        if brace["bare"]:
            boxes.append((brace.start(), *brace.span("bare"), brace.end()))
        elif brace[0] == "}":
            boxed = opened.pop() if opened else None
            if boxed and _NON_BLANK.search(text, boxed[1], brace.start()):
                boxes.append((*boxed, brace.start(), brace.end()))
        elif brace[0] == "{" or len(brace[0]) > 2:
            opened.append(None if brace[0] == "{" else brace.span())
    if not boxes:
        return ""
    parts = [last := boxes.pop()]
    while boxes and boxes[-1][3] <= last[0] and _BETWEEN_BOXES.fullmatch(text, boxes[-1][3], last[0]):
        parts.append(last := boxes.pop())
    return ", ".join(text[start:end].strip() for _, start, end, _ in reversed(parts))


READERS = {
    "number": Reader(read_math.read_number, read_math.is_number),
    "expression": Reader(read_math.read_formula, read_math.is_math),
    "relaxed": Reader(read_math.read_chart_answer, read_math.is_chart_answer),
    **dict.fromkeys(("integer", "rounded"), Reader(read_math.read_float, read_math.is_float)),
    **dict.fromkeys(("choice", "nearest_choice"), Reader(read_choice, names_one_choice)),
    "yes_no": Reader(read_words.read_yes_or_no, read_words.is_polar),
    "set": Reader(read_words.read_set, read_words.has_no_lead),
    **dict.fromkeys(("text", "reasoning_gym"), Reader(read_words.read_words, read_words.has_no_lead)),
}
