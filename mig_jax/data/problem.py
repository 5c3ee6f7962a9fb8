"""What every source yields: a question, what it shows, and what its answer is checked against."""

from typing import NamedTuple

# How an answer is compared with the reference; `text/answers.py` says each in a line.
KINDS = (
    "number", "expression", "choice", "yes_no", "text", "set", "relaxed", "integer", "rounded", "nearest_choice",
    "reasoning_gym",
)  # fmt: skip


class Problem(NamedTuple):
    """A question and what its answer is checked against.

    id: unique in its source; for the kind reasoning_gym `reasoning_gym:<task>:<seed>:<size>:<index>`, from which the
      task's own checker builds the problem anew.
    question: what the policy is asked, without its choices.
    answer: the reference, whose likelihood is probed; of a choice its letter.
    kind: one of KINDS, how an answer is compared with the reference.
    solution: the steps and the answer of a written solution (its answer may be wrong), None when there is none.
    images: what the question shows, in order, as the bytes of image files (PNG, JPEG …); decoded where they are used.
    choices: what may be chosen, in the order of its letters A, B, …; () where the answer is open.
    level, subject: as the source names them, such as "Level 5" and "Algebra"; "" where it does not.
    source: where the problem comes from, such as "gsm8k"; what a benchmark has collected from others names those.
    variants: further spellings of the answer that were found equal to it, see `mig-jax variants`.
    """

    id: str
    question: str
    answer: str
    kind: str = "expression"
    solution: tuple[tuple[str, ...], str] | None = None
    images: tuple[bytes, ...] = ()
    choices: tuple[str, ...] = ()
    level: str = ""
    subject: str = ""
    source: str = ""
    variants: tuple[str, ...] = ()
