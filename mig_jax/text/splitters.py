"""Splitters: where the steps of a reasoning are.

A splitter is a function of a text that returns the spans (start, end) of its steps, in order and disjoint. Blanks
around a step and steps without text are removed afterwards. Our own take time linear in the length.
"""

import difflib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mig_jax import parts
from mig_jax.errors import UserError

Splitter = Callable[[str], Sequence[tuple[int, int]]]

# Quantifiers are possessive, so that a line of blanks is read once.
_BLANKS = r"[^\S\n]*+"
_COLON = "[:\N{FULLWIDTH COLON}]"
_DASH = "[-\N{EN DASH}\N{EM DASH}]"
_NUMBER = "(?:[0-9]++|[一二三四五六七八九十]++)"
# A step's number: "Step 1", "步骤 1", "步骤一", "第1步", "第一步".
_NUMBERED = rf"(?:(?i:step){_BLANKS}[0-9]++|步[骤驟]{_BLANKS}{_NUMBER}|第{_BLANKS}{_NUMBER}{_BLANKS}步)"
_IN_WORDS = rf"(?i:step[^\S\n]++(?:one|two|three|four|five|six|seven|eight|nine|ten))\b{_BLANKS}(?:\.|{_COLON})"
_HASHES = rf"#{{1,6}}{_BLANKS}"
_BOLD = r"(?:\*\*|__)"
# "### Step 1:" and what is close to it: other marks or none, bold, blanks before the colon, a full-width colon, an
# indent.
STEP_HEADER = rf"^{_BLANKS}(?P<header>(?:{_HASHES})?+{_BOLD}?+{_NUMBERED}{_BLANKS}{_BOLD}?+{_BLANKS}{_COLON}{_BOLD}?+)"
_WORD = r"(?:(?i:step|schritt|étape|paso|passo|шаг)|步[骤驟]|ステップ|단계)"
_COUNT = r"(?:[^\S\n]|[-#_]|(?i:no\.|number))*+(?:\d++[a-z]?+|[IVX]++|[一二三四五六七八九十]++)"
# Marks before a header: of lists, quotes, emphasis and brackets, HTML and LaTeX, blanks of no width.
_MARKS = r"(?:[^\S\n]|[-+*>#`_~(\[{【\u200b]|<[a-z]{1,9}>|\\[a-z]{1,9}\{)*+"
_COLON_LIKE = rf"(?:{_COLON}|[;、→】\uff1b]|=>|(?:[.)\]]|{_DASH})(?=[\s*_`]|\Z))"
# A line that is meant as a header but is not read: no colon, another sign, number or word, marks before it; or a header
# inside of a line.
NEAR_HEADER = (
    rf"^{_BLANKS}(?:(?:[-+*>]|[0-9]{{1,3}}[.)])[^\S\n]++)?+(?:"
    rf"(?:{_HASHES}{_BOLD}?+|{_BOLD}){_NUMBERED}(?!\.[0-9])"
    rf"|{_NUMBERED}{_BLANKS}(?:{_COLON}|(?:[.)\]]|{_DASH})(?:\s|\Z)|$)"
    rf"|(?:{_HASHES})?+{_BOLD}?+{_IN_WORDS})"
    rf"|^{_MARKS}{_WORD}{_COUNT}{_BLANKS}[*_`]*+{_BLANKS}{_COLON_LIKE}"
    rf"|^{_BLANKS}#{{1,6}}[^\S\n]++{_BOLD}?+(?:[^\W\d]++{_BLANKS})?+(?:[0-9]++{_BLANKS}{_COLON}|[0-9]++\.(?=\s))"
    rf"|^{_BLANKS}(?:{_HASHES}{_BOLD}?+|{_BOLD})(?i:(?:final|next|last)[^\S\n]++)?+(?i:step){_BLANKS}{_BOLD}?+{_COLON}"
    rf"|(?<=\S)[^\S\n]++(?:#{{2,6}}{_BLANKS}{_BOLD}?+|{_BOLD}){_NUMBERED}{_BLANKS}{_BOLD}?+{_COLON}"
)

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*+\n)++")
_LINE = re.compile(r"[^\n]+")
_ELLIPSIS, _QUOTES = "\N{HORIZONTAL ELLIPSIS}", "\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"
CJK_ENDS = "。\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH QUESTION MARK}"
_CJK_BRACKET = "\N{FULLWIDTH RIGHT PARENTHESIS}"
# What ends a sentence.
SENTENCE_ENDS = f".!?{_ELLIPSIS}{CJK_ENDS}"
_SENTENCE_END = re.compile(
    rf"[.!?{_ELLIPSIS}]++[\"'{_QUOTES})\]*_]*+(?=\s)|[{CJK_ENDS}]++[{_QUOTES}」』{_CJK_BRACKET}\"']*+"
)
# What a full stop follows without ending a sentence.
_ABBREVIATIONS = frozenset("e.g i.e cf vs mr mrs ms dr prof st no eq eqs fig approx resp".split())


class HeaderSplitter(NamedTuple):
    """Steps that begin with a header, such as `### Step 1:`, and go on to the next one.

    A header without text of its own begins no step, and belongs to the step before it. Text before the first header
    belongs to no step.

    header: pattern of a header, in which ^ is the start of a line; its group `header` excludes an indent, if there is
      such a group.
    near_miss: pattern of lines that look like a header and are not read as one; "" for none. A response with such lines
      is malformed.
    """

    header: str
    near_miss: str = ""

    def __call__(self, text: str) -> list[tuple[int, int]]:
        """Return the span of each step, from its header to the next one."""
        headers = list(_compile(self.header).finditer(text))
        ends = [*(header.start() for header in headers[1:]), len(text)]
        group = "header" if "header" in _compile(self.header).groupindex else 0
        starts = [h.start(group) for h, end in zip(headers, ends, strict=False) if text[h.end() : end].strip()]
        return list(zip(starts, [*starts[1:], len(text)], strict=False))

    def without_headers(self, text: str) -> str:
        """Return a text without its headers."""
        return _compile(self.header).sub("", text)

    def without_number(self, step: str, number: int) -> str:
        """Return the text of a step without its header, if that has this number."""
        text = step.strip()
        header = _compile(self.header).match(text)
        is_numbered = header is not None and str(number) in re.findall("[0-9]+", header[0])
        return text[header.end() :].strip() if header and is_numbered else text

    def near_misses(self, text: str) -> Iterator[str]:
        """Yield the beginnings of lines that are almost headers."""
        if not self.near_miss:
            return
        header = _compile(self.header)
        for found in _compile(self.near_miss).finditer(text):
            if not header.match(text, found.start()):
                yield found[0].strip()


def split_paragraphs(text: str) -> list[tuple[int, int]]:
    """Return the spans between blank lines."""
    return _between(text, _BLANK_LINES)


def split_lines(text: str) -> list[tuple[int, int]]:
    """Return the span of each line."""
    return [line.span() for line in _LINE.finditer(text)]


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Return the span of each sentence; a line break ends one, too.

    Decimal points, list numbers, initials, usual abbreviations, and full stops before a small letter end no sentence.
    """
    spans = []
    for line in _LINE.finditer(text):
        start = line.start()
        for end in _SENTENCE_END.finditer(text, *line.span()):
            if _ends_sentence(text, start, end):
                spans.append((start, end.end()))
                start = end.end()
        spans.append((start, line.end()))
    return spans


def find_splitter(spec: str, *, key: str) -> Splitter:
    """Return the splitter that a text names: one of `SPLITTERS`, a user's function, or the pattern of a header.

    Args:
      spec: a name, `path/file.py:NAME`, `package.module:NAME`, or a regular expression.
      key: what the text is given by, for messages.

    Raises:
      UserError: the function cannot be loaded or used, or the pattern is wrong.
    """
    if spec in SPLITTERS:
        return SPLITTERS[spec]
    if parts.part_file(spec) or (parts.is_own(spec) and "." in spec):
        splitter = parts.find_part(spec, SPLITTERS, key=key)
        if error := parts.signature_error(splitter, "text") or splitter_error(splitter):
            raise UserError(f"{key}={spec!r}: {error}")
        return splitter
    names = f"choose one of {', '.join(SPLITTERS)}, a function (path/file.py:NAME), or the pattern of a header"
    if spec.isalpha() and (close := difflib.get_close_matches(spec.lower(), SPLITTERS, n=1)):
        raise UserError(f"{key}={spec!r}: did you mean {close[0]}? {names}")
    if spec.endswith(".py"):
        raise UserError(f"{key}={spec!r}: name what to use of the file, as {spec}:NAME")
    try:
        if _compile(spec).match(""):
            raise UserError(f"{key}={spec!r}: it matches an empty text; {names}")
    except re.error as error:
        raise UserError(f"{key}={spec!r}: not a regular expression ({error}); {names}") from error
    return HeaderSplitter(spec)


def splitter_error(splitter: Splitter) -> str | None:
    """Return what is wrong with a user's function, which is called with a few texts; None if nothing is."""
    for text in ("", "a", "one\n\ntwo\n\nthree", "### Step 1: a\n### Step 2: b\n", " \n\n "):
        try:
            spans = [(start, end) for start, end in splitter(text)]
        except Exception as error:  # any error of the user's code
            return f"fails for {text!r}: {parts.user_traceback(error)}; it must return the spans (start, end) of steps"
        ends = [0, *(x for span in spans for x in span), len(text)]
        if not all(isinstance(x, int) for x in ends) or ends != sorted(ends):
            return (
                f"returns {spans!r} for {text!r}; it must return the spans (start, end) of steps, in order, disjoint, "
                "and inside of the text"
            )
    return None


def _between(text: str, separator: re.Pattern) -> list[tuple[int, int]]:
    """Return the spans between matches of a separator."""
    found = list(separator.finditer(text))
    starts, ends = [0, *(match.end() for match in found)], [*(match.start() for match in found), len(text)]
    return list(zip(starts, ends, strict=True))


def _ends_sentence(text: str, start: int, end: re.Match) -> bool:
    """Return whether a sentence that begins at `start` ends with this match."""
    if not end[0].startswith(".") or end[0].startswith(".."):
        return True
    if text[end.end() : end.end() + 2].strip().islower():
        return False
    word = text[max(start, text.rfind(" ", start, end.start()) + 1) : end.start()].lstrip("([\"'*_-")
    is_mark = (word.isdigit() and not text[start : end.start()].strip("*_# \t").removesuffix(word)) or (
        len(word) == 1 and word.isalpha() and word.isupper()
    )
    return not is_mark and word.lower() not in _ABBREVIATIONS


@functools.cache
def _compile(pattern: str) -> re.Pattern:
    return re.compile(pattern, re.MULTILINE)


STEP_HEADERS = HeaderSplitter(STEP_HEADER, NEAR_HEADER)
SPLITTERS: dict[str, Splitter] = {
    "header": STEP_HEADERS,
    "paragraph": split_paragraphs,
    "line": split_lines,
    "sentence": split_sentences,
}
