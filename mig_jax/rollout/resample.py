"""Dynamic sampling: more rollouts take the place of groups whose samples all earn the same (DAPO)."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.learning.losses import Batch
from mig_jax.policy.prompts import PromptBatch
from mig_jax.rollout import widths
from mig_jax.rollout.rollout import RolloutResult

# Metrics that count what is done or found; the times are others.
SUMS = ("rollout/tokens", "verifier/timeouts", "verifier/timeouts_paid")

# The same of outcome rewards.
SUM_SUFFIXES = ("_failed", "_seconds")

# Folded into the key of a step for its second rollout. The sampler folds the indices of tokens into that of the first.
FIRST_KEY = 2**31


class Resampler:
    """A rollout that samples new prompts until every group has signal: (params, prompt_batches, key) -> result.

    A group without signal teaches nothing. It is replaced by a group of the next prompts, for at most
    `max_resamples` further rollouts; groups that are left without signal then stay. Metrics are means over all
    rollouts, so those of the policy do not depend on what was chosen.

    Args:
      rollout: (params, prompt_batch, key) -> `RolloutResult`.
      row_sharding: of the batch's rows.
      max_resamples: most rollouts after the first; 0 is the plain rollout.

    References:
      DAPO, arXiv 2503.14476, section 3.2.
    """

    def __init__(self, rollout: Callable[..., RolloutResult], row_sharding: Any, *, max_resamples: int):
        self.rollout, self.max_resamples = rollout, max_resamples
        self.merge = jax.jit(merge_batches, out_shardings=row_sharding)

    def __call__(self, params: Any, prompt_batches: Iterator[PromptBatch], key: jax.Array) -> RolloutResult:
        result = self.rollout(params, next(prompt_batches), key)
        # Of a rollout that is merged, only the metrics are kept, so that its batch takes no memory.
        metrics, n_replaced = [result.metrics], 0
        for n in range(self.max_resamples):
            if result.has_signal_q.all():
                break
            other = self.rollout(params, next(prompt_batches), jax.random.fold_in(key, FIRST_KEY + n))
            metrics.append(other.metrics)
            chosen_q = choose_groups(result.has_signal_q, other.has_signal_q)
            n_replaced += int((chosen_q >= len(chosen_q)).sum())
            result = result._replace(
                batch=self.merge(result.batch, other.batch, chosen_q),
                transcripts=pick_groups([*result.transcripts, *other.transcripts], chosen_q),
                has_signal_q=np.concatenate([result.has_signal_q, other.has_signal_q])[chosen_q],
            )
            del other
        if not self.max_resamples:
            return result
        counts = {
            "rollout/rollouts": float(len(metrics)),
            "rollout/groups_replaced": float(n_replaced),
            "rollout/groups_without_signal": float((~result.has_signal_q).sum()),
        }
        return result._replace(metrics=merge_metrics(metrics) | counts)


def choose_groups(has_signal_q: np.ndarray, other_signal_q: np.ndarray) -> np.ndarray:
    """Return the group `[Q]` for each place of a batch: q keeps it, Q + j takes group j of the other batch."""
    chosen_q = np.arange(len(has_signal_q))
    empty, found = np.flatnonzero(~has_signal_q), np.flatnonzero(other_signal_q)
    n = min(len(empty), len(found))
    chosen_q[empty[:n]] = len(has_signal_q) + found[:n]
    return chosen_q


def merge_batches(batch: Batch, other: Batch, chosen_q: jax.Array) -> Batch:
    """Return the batch made of the chosen groups of two batches, as wide as both; see `choose_groups`."""
    questions = chosen_q.shape[0]
    prompt, completion = map(max, zip(widths.widths_of(batch), widths.widths_of(other), strict=True))
    batch, other = widths.widen(batch, prompt, completion), widths.widen(other, prompt, completion)

    def pick(x: jax.Array, y: jax.Array) -> jax.Array:
        both = jnp.concatenate([x, y]).reshape(2 * questions, -1, *x.shape[1:])
        return both[chosen_q].reshape(x.shape)

    return jax.tree.map(pick, batch, other)


def pick_groups(rows: list, chosen_q: np.ndarray) -> list:
    """Return the rows of the chosen groups; `rows` are those of two batches."""
    group_size = len(rows) // (2 * len(chosen_q))
    return [row for q in chosen_q for row in rows[q * group_size : (q + 1) * group_size]]


def merge_metrics(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metrics of several rollouts as one: times and counts add up, the others are means."""
    names = dict.fromkeys(name for part in parts for name in part)
    merged = {}
    for name in names:
        values = [part[name] for part in parts if name in part]
        is_sum = name.startswith("time/") or name in SUMS or name.endswith(SUM_SUFFIXES)
        merged[name] = sum(values) / (1 if is_sum else len(values))
    return merged
