"""The data item of all sources: a question with its reference answer."""

from collections.abc import Mapping
from typing import Any, NamedTuple

# How an answer is compared with the reference answer; `text/answers/kinds.py` has what depends on it.
KINDS = (
    "number", "expression", "choice", "yes_no", "text", "set", "relaxed", "integer", "rounded", "nearest_choice",
    "reasoning_gym",
)  # fmt: skip


class Problem(NamedTuple):
    """A question with its reference answer.

    id: unique in its source. For the kind reasoning_gym it is `reasoning_gym:<task>:<seed>:<size>:<index>`, from which
      the task's own checker rebuilds the problem.
    question: the text shown to the policy, without the choices.
    answer: the reference answer, whose likelihood is probed; for a choice its letter.
    kind: one of KINDS, or a kind of the user's own: how an answer is compared with the reference.
    solution: the steps and the final answer of a written solution, None if there is none. Its final answer may be
      wrong.
    images: the images of the question in order, as the bytes of image files (PNG, JPEG …); decoded where they are used.
    choices: the choices in the order of their letters A, B, …; () for an open answer.
    level, subject: as the source names them, such as "Level 5" and "Algebra"; "" if it does not.
    source: where the problem comes from, such as "gsm8k". Problems that a benchmark collected from others name those.
    variants: other spellings of the answer that were verified as equal to it, see `mig-jax variants`.
    history: the turns of the chat before the question, as (role, text), a system message among them.
    response: a ready-made response, which SFT learns as it is; "" if there is none.
    row: every column of the row of a file, as it was read; {} for other sources.
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
    history: tuple[tuple[str, str], ...] = ()
    response: str = ""
    row: Mapping[str, Any] = {}
