"""The answer of a completion, wherever it stands: for those that do not keep the format of `response_format`.

A reader of this kind gives credit for what was meant. It says nothing of the format, and no reward is made of it.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase

from mig_jax.text.answers.choices import is_same_choice
from mig_jax.text.response_format import ANSWER_CLOSE, ANSWER_OPEN, choices_by_letter

# A brace, with the command before it if that boxes; what is escaped is passed over.
_BRACE = re.compile(r"\\boxed ?\{|\\[{}]|[{}]")
_BLANKS = re.compile(r"\s*")

_LEAD = r"(?i:\banswer\b[\s*_]{0,4}(?:is\b|[:\N{FULLWIDTH COLON}]))[*_:]{0,3}"
_LEAD_TO_SOMETHING = re.compile(_LEAD + r"\s*(?=\S)")
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")

# A letter that is no part of a word, in brackets of either case.
_LETTER_BEHIND = re.compile(
    _LEAD + r"[\s$\"'*]{0,8}(?:\\(?:text|mathrm|textbf)\{|(?i:option|choice) )?"
    r"(?:\((?P<bracketed>[A-Za-z])\)|(?P<bare>[A-Z])(?![\w'\N{RIGHT SINGLE QUOTATION MARK}]))"
)
_LETTER_ALONE = re.compile(
    r"\((?P<bracketed>[A-Za-z])\)|\[(?P<squared>[A-Z])\]"
    r"|\*\*\(?(?P<bold>[A-Z])(?:[.:)][^*\n]{0,200})?\*\*"
    r"|(?<![\w'\N{RIGHT SINGLE QUOTATION MARK}])(?P<last>[A-Z])[.)]?\Z"
)
_YES_OR_NO = re.compile(r"\b(?:yes|no|true|false)\b", re.IGNORECASE)
# One that is all there is to say: not that of "No other cube is red" or "Yes or no?".
_LEADING_YES_OR_NO = re.compile(
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
    r"""What a completion answers; None when nothing is found. Never raises, in time linear in the length.

    The last answer block that holds anything counts, closed or not; else the last \boxed{…}; else what the kind is
    looked for: the last number; of all others what stands behind the last "answer is" or "Answer:" in its line, or
    else of choices the last letter in brackets, in bold, or alone at the end, or the choice that the last line is, or
    the last words in bold; of yes and no the one that the last line begins with, or the whole, or the last one.

    Args:
      completion: any text.
      kind: how the answer will be compared, see `verifier.KINDS`.
      choices: what may be chosen; () for all letters.
    """
    return _last_block(completion) or _last_boxed(completion) or _BY_KIND[kind](completion, choices) or None


def _last_block(text: str) -> str | None:
    blocks = (block.partition(ANSWER_CLOSE)[0].strip() for block in reversed(text.split(ANSWER_OPEN)[1:]))
    return next(filter(None, blocks), None)


def _last_boxed(text: str) -> str:
    r"""What the \boxed{…} that is closed last holds, blank ones aside."""
    start, end = 0, 0
    opened: list[int | None] = []  # behind each open brace that boxes
    for brace in _BRACE.finditer(text):
        if brace[0] == "}":
            boxed = opened.pop() if opened else None
            if boxed is not None and _BLANKS.match(text, boxed).end() < brace.start():
                start, end = boxed, brace.start()
        elif brace[0] == "{" or brace[0].startswith(r"\boxed"):
            opened.append(None if brace[0] == "{" else brace.end())
    return text[start:end].strip()


def _last_number(text: str, choices: Sequence[str]) -> str | None:
    *_, last = (None, *_NUMBER.finditer(text))
    return last and ("-" if last["sign"] else "") + last["digits"] + ("%" if last["percent"] else "")


def _last_share(text: str, choices: Sequence[str]) -> str | None:
    """A number that Python can read but for a percent sign, as charts' answers are compared."""
    number = _last_number(text, choices)
    return number and number.replace(",", "")


def _last_float(text: str, choices: Sequence[str]) -> str | None:
    number = _last_share(text, choices)
    return number and number.removesuffix("%")


def _option(text: str, choices: Sequence[str]) -> str | None:
    behind, last_line = _behind_lead(text), text.rstrip().rpartition("\n")[2]
    return (
        # Before the letters, for the A of "The answer is A boat" is none.
        _chosen([behind], choices)
        or _last_letter(text, choices)
        or _chosen([*_BOLD.findall(behind)[:1], last_line, *_BOLD.findall(text)[-1:]], choices)
    )


def _chosen(spans: Sequence[str], choices: Sequence[str]) -> str | None:
    """The letter of the choice that the first of these spans is, of those that are one choice and no other."""
    for span in spans:
        letters = [letter for letter in choices_by_letter(choices) if is_same_choice(span, letter, choices)]
        if len(letters) == 1:
            return letters[0]
    return None


def _last_letter(text: str, choices: Sequence[str]) -> str | None:
    letters = set(choices_by_letter(choices)) or set(ascii_uppercase)
    for pattern in (_LETTER_BEHIND, _LETTER_ALONE):
        found = [match[match.lastgroup].upper() for match in pattern.finditer(text.rstrip())]
        if found := [letter for letter in found if letter in letters]:
            return found[-1]
    return None


def _yes_or_no(text: str, choices: Sequence[str]) -> str | None:
    if behind := _YES_OR_NO.search(_behind_lead(text)):
        return behind[0]
    for line in (text.rstrip().rpartition("\n")[2], text.lstrip().partition("\n")[0]):
        if leading := _LEADING_YES_OR_NO.match(line):
            return leading["word"]
    *_, last = (None, *_YES_OR_NO.findall(text))
    return last


def _line(text: str, choices: Sequence[str]) -> str | None:
    return _behind_lead(text).strip().strip("*").rstrip(" .*")


def _behind_lead(text: str) -> str:
    """What stands behind the last "answer is" or "Answer:" in its line, or in the next one that is not blank."""
    *_, last = (None, *_LEAD_TO_SOMETHING.finditer(text))
    return text[last.end() :].partition("\n")[0] if last else ""


_BY_KIND = {
    **dict.fromkeys(("number", "expression"), _last_number),
    "relaxed": _last_share,
    **dict.fromkeys(("integer", "rounded"), _last_float),
    **dict.fromkeys(("choice", "nearest_choice"), _option),
    "yes_no": _yes_or_no,
    **dict.fromkeys(("text", "set", "reasoning_gym"), _line),
}
