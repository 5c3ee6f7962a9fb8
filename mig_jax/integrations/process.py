"""The process reward of a trainer's rollouts, whatever the trainer is: from likelihoods to rewards and advantages.

Trainers give the likelihoods; see `transformers.likelihoods` and `tunix`. Needs no jax.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mig_jax.errors import UserError
from mig_jax.integrations.advantages import process_advantages
from mig_jax.integrations.encoding import Encoded, as_tokenizer, encode
from mig_jax.integrations.options import reward_options
from mig_jax.rewards import numpy_twins
from mig_jax.rewards.arrays import Group
from mig_jax.text.answers.verifier import AnswerPair, Verifier
from mig_jax.text.step_format import StepFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from mig_jax.text.tokenizer import Tokenizer

# Of the check of an answer, which only the gate "correct" needs.
_DEADLINE_S = 5.0


class Probed(NamedTuple):
    """Likelihoods and steps of B responses, padded to K = `max_steps`, so that processes can gather them.

    ell_bk: `[B, K+1]` likelihoods, in nats per token.
    valid_bk: `[B, K+1]` bool, False at padding.
    count_bk, token_bk: `[B, K]` steps and tokens of each interval.
    is_correct_b: `[B]` bool; False where the credit rule does not need it.
    """

    ell_bk: np.ndarray
    valid_bk: np.ndarray
    count_bk: np.ndarray
    token_bk: np.ndarray
    is_correct_b: np.ndarray


class Process:
    """How to probe responses, and what their steps earn.

    Args:
      tokenizer: the model's.
      answers: the column of the data that has the reference answers.
      format: of the responses, see `encode`.
      kind: how answers are compared, see `encode`; or the name of a column that has it.
      alpha: weight of the process advantage beside that of the trainer; None: the default of `loss.alpha`.
      **options: see `options.reward_options`.

    Raises:
      UserError: an option is unknown, or the tokenizer cannot be used.
    """

    def __init__(
        self,
        tokenizer: "Tokenizer | PreTrainedTokenizerFast",
        answers: str = "answer",
        *,
        format: str | StepFormat = "mig",
        kind: str = "expression",
        alpha: float | None = None,
        **options: Any,
    ):
        settings = reward_options(**options)
        self.tokenizer = as_tokenizer(tokenizer, format)
        self.answers, self.kind = answers, kind
        self.alpha = settings.alpha if alpha is None else alpha
        self.reward = settings.reward
        self._options = options
        try:
            self._credit = numpy_twins.make_credit(self.reward.credit, **self.reward.credit_args.to_dict())
        except ValueError as error:
            raise UserError(str(error)) from error

    @property
    def likelihood_options(self) -> dict[str, str]:
        """How ℓ is taken from tokens and variants."""
        return {"over_tokens": self.reward.over_tokens, "over_spellings": self.reward.over_spellings}

    def encode(
        self, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Sequence[Any]]
    ) -> list[Encoded]:
        """Encode responses with the reference answers of their rows.

        Raises:
          UserError: the data has no such column, or a row has no answer.
        """
        if self.answers not in columns:
            raise UserError(
                f"the data has no column {self.answers!r}, but {', '.join(map(str, columns))}; name the one that has "
                "the reference answers: answers='…'"
            )
        kinds = [_text(kind) for kind in columns[self.kind]] if self.kind in columns else self.kind
        answers = [_text(answer) for answer in columns[self.answers]]
        options = {key: self._options[key] for key in _ENCODE_OPTIONS if key in self._options}
        return encode(
            self.tokenizer, prompts, completions, answers, format=self.tokenizer.format, kinds=kinds, **options
        )

    def collect(self, rows: Sequence[Encoded], ells: Sequence[np.ndarray]) -> Probed:
        """Return likelihoods and steps as arrays.

        Args:
          rows: B responses.
          ells: `[K+1]` likelihoods of each.
        """
        width = self.reward.max_steps
        ell_bk, valid_bk = np.zeros((len(rows), width + 1), np.float32), np.zeros((len(rows), width + 1), bool)
        count_bk, token_bk = (np.zeros((len(rows), width), np.int32) for _ in range(2))
        for b, (row, ell_k) in enumerate(zip(rows, ells, strict=True)):
            n = row.n_cuts
            ell_bk[b, :n], valid_bk[b, :n] = ell_k, True
            count_bk[b, : n - 1], token_bk[b, : n - 1] = row.parsed.counts, np.diff(row.cuts.cut_k)
        return Probed(ell_bk, valid_bk, count_bk, token_bk, self._grade(rows))

    def credit(self, probed: Probed, *, group_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the process reward `[B]` and the gains of the steps `[B, K]`, in the unit of the credit rule.

        Args:
          probed: B responses, those of a question next to each other.
          group_size: G.
        """
        parts: Any = probed
        groups = [Group(*(part[g : g + group_size] for part in parts)) for g in range(0, len(parts[0]), group_size)]
        credits = [self._credit(group) for group in groups]
        return tuple(np.concatenate(part) for part in zip(*credits, strict=True))  # pyright: ignore[reportReturnType]

    def advantages(
        self, probed: Probed, step_bt: np.ndarray, *, group_size: int, rows: slice = slice(None)
    ) -> np.ndarray:
        """Return α times the process advantage of each token, `[B, T]`; 0 outside the reasoning.

        Args:
          probed: all responses, those of a question next to each other.
          step_bt: `[B, T]` steps of the tokens of `rows`, see `token_steps`.
          group_size: G.
          rows: the responses of this process; the others count in the baselines.
        """
        reward_b, gain_bk = self.credit(probed, group_size=group_size)
        everyone_bt = np.full((len(reward_b), step_bt.shape[1]), -1, np.int32)
        everyone_bt[rows] = step_bt
        unit = "probability" if self.reward.credit == "segment_progress" else "nats"
        return (
            self.alpha
            * process_advantages(
                reward_b.reshape(-1, group_size),
                gain_bk.reshape(-1, group_size, gain_bk.shape[1]),
                probed.valid_bk[:, 1:].reshape(-1, group_size, gain_bk.shape[1]),
                everyone_bt,
                level=self.reward.credit_level,
                discount=self.reward.step_discount,
                advantage=self.reward.advantage,
                scale=self.reward.process_scale,
                eps=self.reward.process_eps[unit],
            )[rows]
        )

    def metrics(self, probed: Probed, *, group_size: int) -> dict[str, float]:
        """Return means of responses: ℓ before the first step and after the last, their steps, the process reward."""
        last_b = np.take_along_axis(probed.ell_bk, probed.valid_bk.sum(1, keepdims=True) - 1, axis=1)
        return {
            "mig/ell_first": float(probed.ell_bk[:, 0].mean()),
            "mig/ell_last": float(last_b.mean()),
            "mig/steps": float(probed.count_bk.sum(1).mean()),
            "mig/process": float(self.credit(probed, group_size=group_size)[0].mean()),
        }

    def _grade(self, rows: Sequence[Encoded]) -> np.ndarray:
        """Return whether the answers are right, `[B]`; all False unless the gate needs it."""
        if self.reward.credit_args.gate != "correct":
            return np.zeros(len(rows), bool)
        pairs = [AnswerPair(row.parsed.response.answer, row.reference, row.kind) for row in rows]
        with Verifier(workers=1, deadline_s=_DEADLINE_S) as verifier:
            return np.array([grade.is_correct is True for grade in verifier.grade(pairs)])


def _text(value: Any) -> str:
    """Return a value of a column as text; None stays a missing answer."""
    return "" if value is None else value.decode() if isinstance(value, bytes) else str(value)


# Options of `encode`; the others concern what comes after it.
_ENCODE_OPTIONS = ("max_steps", "max_variants", "terminator", "process_mask")


def token_steps(rows: Sequence[Encoded], width: int) -> np.ndarray:
    """Return the step of each token of the process stream, `[B, T]`, −1 elsewhere; see `ParsedCompletion.step_t`."""
    step_bt = np.full((len(rows), width), -1, np.int32)
    for step_t, row in zip(step_bt, rows, strict=True):
        own_t = row.parsed.step_t[:width]
        step_t[: len(own_t)] = own_t
    return step_bt
