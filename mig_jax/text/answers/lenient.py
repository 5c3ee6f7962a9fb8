"""Lenient answer extraction: find the answer anywhere in a completion, in any format.

It credits the intended answer even if the response is malformed in the sense of `response_format`. It is used for
evaluation only; rewards never depend on it.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase

from mig_jax.text.answers.choices import is_same_choice
from mig_jax.text.response_format import ANSWER_CLOSE, ANSWER_OPEN, choices_by_letter

# A brace, with \boxed if that is before it; escaped braces also match, to be skipped.
_BRACE = re.compile(r"\\boxed ?\{|\\[{}]|[{}]")
_NON_BLANK = re.compile(r"\S")

# The words that announce an answer: "answer is" or "Answer:", with Markdown marks.
_ANSWER_CUE = r"(?i:\banswer\b[\s*_]{0,4}(?:is\b|[:\N{FULLWIDTH COLON}]))[*_:]{0,3}"
_ANSWER_CUE_WITH_TEXT = re.compile(_ANSWER_CUE + r"\s*(?=\S)")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")

# A letter that is not part of a word; in brackets, upper or lower case.
_LETTER_AFTER_CUE = re.compile(
    _ANSWER_CUE + r"[\s$\"'*]{0,8}(?:\\(?:text|mathrm|textbf)\{|(?i:option|choice) )?"
    r"(?:\((?P<bracketed>[A-Za-z])\)|(?P<bare>[A-Z])(?![\w'\N{RIGHT SINGLE QUOTATION MARK}]))"
)
_LETTER_ALONE = re.compile(
    r"\((?P<bracketed>[A-Za-z])\)|\[(?P<squared>[A-Z])\]"
    r"|\*\*\(?(?P<bold>[A-Z])(?:[.:)][^*\n]{0,200})?\*\*"
    r"|(?<![\w'\N{RIGHT SINGLE QUOTATION MARK}])(?P<last>[A-Z])[.)]?\Z"
)
_YES_OR_NO = re.compile(r"\b(?:yes|no|true|false)\b", re.IGNORECASE)
# A first word that is the answer by itself, unlike those of "No other cube is red" or "Yes or no?".
_FIRST_WORD_YES_OR_NO = re.compile(
    rf"\W*(?P<word>{_YES_OR_NO.pattern})"
    r"(?=\s*(?:[^\w\s/?-]|-\s|\Z)|\s+(?:because|since|it|that|the|there|this)\b)",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]}])[-\N{MINUS SIGN}] ?)?(?:\\?\$ ?)?"
    r"(?<![A-Za-z0-9_])(?P<digits>(?:[0-9]+ ?)?\\[dt]?frac ?\{[0-9]+\} ?\{[0-9]+\}"
    r"|(?:[0-9]+ )?[0-9]+ ?/ ?[0-9]+"
    r"|(?:[0-9]+(?:,[0-9]{3}(?![0-9]))*(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3}(?![0-9]))?)"
    r"(?P<percent> ?\\?%)?"
)


def extract_lenient_answer(completion: str, *, kind: str, choices: Sequence[str] = ()) -> str | None:
    r"""Return the answer of a completion; None if nothing is found. Never raises; time is linear in the length.

    The last answer block with any content counts, closed or not. Otherwise the last \boxed{…} counts, and otherwise a
    rule for the kind:
      number, expression, relaxed, integer, rounded: the last number.
      choice, nearest_choice: the text after the last "answer is" or "Answer:" in its line, if it names one choice. Else
        the last letter after such a cue, in brackets, in bold, or alone at the end. Else the choice named by the first
        bold words after the cue, the last line, or the last bold words.
      yes_no: the first such word after the cue. Else the one that begins the last line, or the first line. Else the
        last such word.
      text, set, reasoning_gym: the rest of the line after the cue.

    Args:
      completion: any text.
      kind: how the answer will be compared, one of `verifier.KINDS`.
      choices: texts of the choices; () accepts all letters.
    """
    extract = _EXTRACTORS.get(kind, _EXTRACTORS["text"])
    return _last_block(completion) or _last_boxed(completion) or extract(completion, choices) or None


def _last_block(text: str) -> str | None:
    """Return the content of the last answer block that is not blank, closed or not."""
    blocks = (block.partition(ANSWER_CLOSE)[0].strip() for block in reversed(text.split(ANSWER_OPEN)[1:]))
    return next(filter(None, blocks), None)


def _last_boxed(text: str) -> str:
    r"""Return the content of the \boxed{…} that is closed last and is not blank; "" if there is none."""
    start, end = 0, 0
    opened: list[int | None] = []  # for each open brace: where the content of its \boxed starts, or None
    for brace in _BRACE.finditer(text):
        if brace[0] == "}":
            boxed = opened.pop() if opened else None
            if boxed is not None and _NON_BLANK.search(text, boxed, brace.start()):
                start, end = boxed, brace.start()
        elif brace[0] == "{" or brace[0].startswith(r"\boxed"):
            opened.append(None if brace[0] == "{" else brace.end())
    return text[start:end].strip()


def _last_number(text: str, choices: Sequence[str]) -> str | None:
    """Return the last number, with its sign and percent sign."""
    *_, last = (None, *_NUMBER.finditer(text))
    return last and ("-" if last["sign"] else "") + last["digits"] + ("%" if last["percent"] else "")


def _last_share(text: str, choices: Sequence[str]) -> str | None:
    """Return the last number in a form that Python's `float` reads, except for a percent sign (as ChartQA needs)."""
    number = _last_number(text, choices)
    return number and number.replace(",", "")


def _last_float(text: str, choices: Sequence[str]) -> str | None:
    """Return the last number in a form that Python's `float` reads."""
    number = _last_share(text, choices)
    return number and number.removesuffix("%")


def _choice(text: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the choice that a text names, by the rules of `extract_lenient_answer`."""
    after_cue, last_line = _text_after_cue(text), text.rstrip().rpartition("\n")[2]
    return (
        # Before the letters, because the A of "The answer is A boat" is not one.
        _unique_choice([after_cue], choices)
        or _last_letter(text, choices)
        or _unique_choice([*_BOLD.findall(after_cue)[:1], last_line, *_BOLD.findall(text)[-1:]], choices)
    )


def _unique_choice(passages: Sequence[str], choices: Sequence[str]) -> str | None:
    """Return the letter of the first choice that a passage names, skipping passages that name none or several."""
    for passage in passages:
        letters = [letter for letter in choices_by_letter(choices) if is_same_choice(passage, letter, choices)]
        if len(letters) == 1:
            return letters[0]
    return None


def _last_letter(text: str, choices: Sequence[str]) -> str | None:
    """Return the last letter of a choice after a cue, or else in brackets, in bold, or alone at the end."""
    letters = set(choices_by_letter(choices)) or set(ascii_uppercase)
    for pattern in (_LETTER_AFTER_CUE, _LETTER_ALONE):
        found = [match[match.lastgroup or 0].upper() for match in pattern.finditer(text.rstrip())]
        if found := [letter for letter in found if letter in letters]:
            return found[-1]
    return None


def _yes_or_no(text: str, choices: Sequence[str]) -> str | None:
    """Return the yes, no, true or false that a text answers, by the rules of `extract_lenient_answer`."""
    if after_cue := _YES_OR_NO.search(_text_after_cue(text)):
        return after_cue[0]
    for line in (text.rstrip().rpartition("\n")[2], text.lstrip().partition("\n")[0]):
        if first_word := _FIRST_WORD_YES_OR_NO.match(line):
            return first_word["word"]
    *_, last = (None, *_YES_OR_NO.findall(text))
    return last


def _answer_line(text: str, choices: Sequence[str]) -> str | None:
    """Return the line after the last cue, without bold marks and a final full stop."""
    return _text_after_cue(text).strip().strip("*").rstrip(" .*")


def _text_after_cue(text: str) -> str:
    """Return the text after the last "answer is" or "Answer:" in its line, or else the next line that is not blank."""
    *_, last = (None, *_ANSWER_CUE_WITH_TEXT.finditer(text))
    return text[last.end() :].partition("\n")[0] if last else ""


_EXTRACTORS = {
    **dict.fromkeys(("number", "expression"), _last_number),
    "relaxed": _last_share,
    **dict.fromkeys(("integer", "rounded"), _last_float),
    **dict.fromkeys(("choice", "nearest_choice"), _choice),
    "yes_no": _yes_or_no,
    **dict.fromkeys(("text", "set", "reasoning_gym"), _answer_line),
}
