r"""Comparison of answers with reference answers without algebra, by the kind of the answer.

    number          equal as numbers, regardless of separators; units must agree if both are known
    expression      equal as mathematics
    choice          the letter of the choice, its text, or both if they agree
    yes_no          affirmative or negative like the reference; True means Yes
    text            equal, ignoring case, whitespace, a final full stop and enclosing $…$ or \text{…}
    set             the same members in any order, each compared as an expression
    relaxed         within 5 % of the reference, or equal ignoring case (ChartQA)
    integer         equal when truncated to an integer (MathVista)
    rounded         equal when rounded to the decimal places of the reference (MathVista)
    nearest_choice  the choice whose letter is given, or else the nearest text by edit distance (MathVista)
    reasoning_gym   accepted by the task's own grader

Whatever needs algebra, or a task's grader, is left to the worker processes of `verifier`. `kinds` has what else depends
on the kind of an answer.
"""

import re
from collections.abc import Callable, Sequence

from mig_jax.text.answers.choices import is_nearest_choice, is_same_choice
from mig_jax.text.answers.formulas import is_same_math
from mig_jax.text.answers.normalize import clean_characters, is_same_text, normalize, strip_lead_in
from mig_jax.text.answers.quantities import is_same_number, parse_number_answer
from mig_jax.text.answers.sets import is_same_set

_WORDS = {
    True: "yes true yep yeah correct 是 是的 对 对的 正确 正确的 真 能 可以 会 有 存在 成立 √ ✓ ✔ はい 네",
    False: "no false nope incorrect 否 不 不是 不是的 错 错的 错误 错误的 不对 不对的 不正确 不正确的 假 "
    "不能 不可以 不会 没有 不存在 不成立 × ✗ ✘ いいえ 아니요",
}
_POLARITY = {word: polarity for polarity, words in _WORDS.items() for word in words.split()}
_YES_OR_NO = "|".join(sorted(map(re.escape, _POLARITY), key=len, reverse=True))
_MARKS = ".,;:!\N{EM DASH}\N{IDEOGRAPHIC FULL STOP}-"
# A yes or no and what may follow it: nothing, a mark, a new line, or a sentence that begins with one of these words.
_ANSWER_AND_REASON = re.compile(
    rf"(?P<word>{_YES_OR_NO})(?P<reason>\s*[{_MARKS}].*|\s*\n.*"
    r"|\s+(?:because|since|as|it|they|he|she|there|this|that|these|those|we|you|i|the (?!answer|other))\b.*"
    r"|,?\s*(?:因为|由于).*)?",
    re.DOTALL,
)
# The parts of a reason that may contradict the answer.
_CLAUSE = re.compile(r"[.,;:!?\n\N{EM DASH}\N{IDEOGRAPHIC FULL STOP}]|\b(?:but|and|or|however)\b")


def is_same_quantity(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether two answers are the same number, see `quantities`; the same text if the reference is no number."""
    given, wanted = parse_number_answer(response), parse_number_answer(reference)
    if wanted is None:
        return normalize(response).casefold() == normalize(reference).casefold()
    return given is not None and is_same_number(given, wanted)


def is_same_polarity(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether both answers begin with yes or both with no; the same text if the reference does neither."""
    wanted = polarity(reference)
    return is_same_text(response, reference) if wanted is None else polarity(response) is wanted


def is_relaxed_match(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether an answer is right by ChartQA's relaxed accuracy.

    A number may be off by 5 % of the reference; 7% is read as 0.07. If either is no number, or the reference is 0, the
    texts must be equal, ignoring case.

    References:
      `relaxed_correctness` of pix2struct, by which the benchmark is scored.
    """
    given, wanted = parse_share(response), parse_share(reference)
    if given is not None and wanted:
        return abs(given - wanted) / abs(wanted) <= 0.05
    return response.strip().lower() == reference.strip().lower()


def is_same_integer(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether the response, truncated to an integer, is written like the reference (MathVista's rule)."""
    try:
        return str(int(float(response))) == reference.strip()
    except (ValueError, OverflowError):
        return False


def is_same_rounded(response: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Return whether the response equals the reference when rounded to its decimal places (MathVista's rule)."""
    places = len(reference.strip().partition(".")[2])
    try:
        return round(float(response), places) == float(reference)
    except ValueError:
        return False


def needs_task_grader(response: str, reference: str, choices: Sequence[str] = ()) -> None:
    """Return None: only the grader of the reasoning-gym task can decide, see `verifier_worker`."""


COMPARISONS: dict[str, Callable[[str, str, Sequence[str]], bool | None]] = {
    "number": is_same_quantity,
    "expression": is_same_math,
    "choice": is_same_choice,
    "yes_no": is_same_polarity,
    "text": is_same_text,
    "set": is_same_set,
    "relaxed": is_relaxed_match,
    "integer": is_same_integer,
    "rounded": is_same_rounded,
    "nearest_choice": is_nearest_choice,
    "reasoning_gym": needs_task_grader,
}


def polarity(answer: str) -> bool | None:
    """Return True for yes, False for no, None for neither or both."""
    text = strip_lead_in(clean_characters(answer).replace("**", "")).casefold()
    if text in _POLARITY:
        return _POLARITY[text]
    words = set(re.findall(r"\w+", text))
    if words <= {*_POLARITY, "and", "or", "but"}:
        polarities = {_POLARITY[word] for word in words.intersection(_POLARITY)}
        return polarities.pop() if len(polarities) == 1 else None
    first = _ANSWER_AND_REASON.fullmatch(text)
    if not first:
        return None
    clauses = (_ANSWER_AND_REASON.fullmatch(strip_lead_in(clause)) for clause in _CLAUSE.split(first["reason"] or ""))
    polarities = {_POLARITY[clause["word"]] for clause in clauses if clause} | {_POLARITY[first["word"]]}
    return polarities.pop() if len(polarities) == 1 else None


def parse_share(text: str) -> float | None:
    """Return the number that a text is, with 7% read as 0.07; None if it is no number."""
    text = text.strip()
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
