"""Outcome rewards: what a whole response earns; those of the package, and the shape of a user's own.

    def shortness(sample: Sample) -> float | None:
        return -sample.n_tokens / 1000

    @batch_reward(deadline_s=60)
    def judged(samples: Sequence[Sample]) -> Sequence[float | None]: ...

`reward.outcomes` gives each reward its weight: {"accuracy": 1.0, "my_file.py:shortness": 0.1}. This file is light to
import: a user's own rewards run in processes of their own, see `outcome_worker`.
"""

import collections
import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mig_jax.config import OutcomeArgsConfig
from mig_jax.data.problem import Problem
from mig_jax.errors import UserError
from mig_jax.parts import find_part, signature_error
from mig_jax.text.response_format import Response


@dataclasses.dataclass(frozen=True)
class Sample:
    """A sampled response and all that a reward may look at.

    problem: the data item; `problem.images` are bytes of image files.
    response: its text, without the end-of-sequence.
    parts: positions of its steps, and whether it is well formed (`parts.format_error`).
    answer: what the response answered, as read by `reward.reading`; None if it did not.
    ids: its token ids, with the end-of-sequence unless it is truncated.
    is_truncated: it was cut off by the length limit.
    is_correct: the answer is right; None if grading timed out.
    max_tokens: the length limit, `rollout.max_new_tokens`.
    """

    problem: Problem
    response: str
    parts: Response
    answer: str | None
    ids: tuple[int, ...]
    is_truncated: bool
    is_correct: bool | None
    max_tokens: int

    @property
    def question(self) -> str:
        """The text of the question."""
        return self.problem.question

    @property
    def reference(self) -> str:
        """The reference answer."""
        return self.problem.answer

    @property
    def row(self) -> Mapping[str, Any]:
        """Every column of the data row that the problem was read from; {} for generated problems."""
        return self.problem.row

    @property
    def n_tokens(self) -> int:
        """The number of its tokens."""
        return len(self.ids)

    @property
    def steps(self) -> list[str]:
        """The texts of its reasoning steps."""
        return [self.response[step.start : step.end] for step in self.parts.steps]


# Of one response: a finite number, or None for no part in its group.
Reward = Callable[[Sample], float | None]
F = TypeVar("F", bound=Callable[[Sequence[Sample]], Sequence[float | None]])


@dataclasses.dataclass(frozen=True)
class BatchOptions:
    """How a batch reward is called; see `batch_reward`."""

    deadline_s: float
    size: int


def batch_reward(*, deadline_s: float, size: int = 64) -> Callable[[F], F]:
    """Mark a reward that takes many samples at once and returns a number, or None, for each.

    Args:
      deadline_s: seconds for one call. A later call ends, and its samples have no part in their groups.
      size: most samples of a call. The samples of a question are next to each other and stay in one call.
    """

    def mark(function: F) -> F:
        function.mig_jax_batch = BatchOptions(deadline_s, size)  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return mark


def find_reward(spec: str) -> Any:
    """Return a user's reward, see `parts.find_part`.

    Raises:
      UserError: there is no such reward, or it cannot be called with a sample, or with a list of them.
    """
    reward = find_part(spec, OUTCOMES, key="reward.outcomes")
    if error := reward_error(reward):
        raise UserError(f"reward.outcomes={spec!r}: {error}")
    return reward


def reward_error(reward: Any) -> str | None:
    """Return why a user's reward cannot be called with a sample, or with a list of them; or None."""
    return signature_error(reward, "samples" if batch_options(reward) else "sample")


def batch_options(reward: Any) -> BatchOptions | None:
    """Return how a batch reward is called; None for a reward of one sample."""
    return getattr(reward, "mig_jax_batch", None)


# ----------------------------------------------------------------------------------------------- rewards of the package


def accuracy(sample: Sample, args: OutcomeArgsConfig) -> float | None:
    """Return 1 for a right answer, else 0; None if grading timed out."""
    del args
    return None if sample.is_correct is None else float(sample.is_correct)


def well_formed(sample: Sample, args: OutcomeArgsConfig) -> float:
    """Return 1 for a response in the requested format, else 0."""
    del args
    return float(sample.parts.format_error is None)


def overlong(sample: Sample, args: OutcomeArgsConfig) -> float:
    """Return DAPO's soft penalty of long responses, from 0 to −1 (arXiv 2503.14476, equation 13).

         0                                    |z| ≤ max − buffer
        ((max − buffer) − |z|) / buffer       max − buffer < |z| ≤ max
        −1                                    truncated

    The buffer is `overlong_buffer` tokens; 0 penalizes truncated responses alone.
    """
    if sample.is_truncated:
        return -1.0
    buffer = args.overlong_buffer
    return min(0.0, max(-1.0, (sample.max_tokens - buffer - sample.n_tokens) / max(buffer, 1)))


def repetition(sample: Sample, args: OutcomeArgsConfig) -> float:
    """Return −(share of the response's n-grams of tokens that occurred before in it), from 0 to −1."""
    n = args.repetition_ngram
    grams = [sample.ids[start : start + n] for start in range(len(sample.ids) - n + 1)]
    return len(set(grams)) / len(grams) - 1.0 if grams else 0.0


def language(sample: Sample, args: OutcomeArgsConfig) -> float:
    """Return −(share of the response's letters in another script than the question's), from 0 to −1.

    Scripts, not languages: English and French look the same. Formulas, tags and single letters do not count.
    """
    del args
    asked, written = _scripts(sample.question), _scripts(sample.response)
    if not asked or not written:
        return 0.0
    script = asked.most_common(1)[0][0]
    return written[script] / written.total() - 1.0


def step_count(sample: Sample, args: OutcomeArgsConfig) -> float:
    """Return the penalty of too few or too many steps, from 0 to −1.

    −(min − n) / min        n < `min_steps`
    −(n − max) / max        n > `max_steps`, at least −1
     0                      between
    """
    n = len(sample.parts.steps)
    few = (args.min_steps - n) / max(args.min_steps, 1)
    many = (n - args.max_steps) / args.max_steps
    return -min(1.0, max(0.0, few, many))


# (sample, reward.outcome_args) → a number, or None; by the name that configs use.
OUTCOMES: dict[str, Callable[[Sample, OutcomeArgsConfig], float | None]] = {
    "accuracy": accuracy,
    "format": well_formed,
    "overlong": overlong,
    "repetition": repetition,
    "language": language,
    "steps": step_count,
}

_NO_PROSE = re.compile(r"\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\[a-zA-Z]+|<[^<>]*>|^#+ \w+", re.DOTALL | re.MULTILINE)
_WORD = re.compile(r"[^\W\d_]+")
# Scripts that are written together.
_TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}


def _scripts(text: str) -> collections.Counter[str]:
    """Return the number of letters of each script in the words of a text, single Latin and Greek letters left out."""
    counts: collections.Counter[str] = collections.Counter()
    for word in _WORD.findall(_NO_PROSE.sub(" ", text)):
        scripts = [_script(letter) for letter in word]
        if len(word) > 1 or scripts[0] not in ("LATIN", "GREEK"):
            counts.update(scripts)
    return counts


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "UNKNOWN").split(" ")[0]
    return _TOGETHER.get(name, name)
