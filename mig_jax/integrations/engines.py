"""Likelihoods from any engine that returns the log-probs of a given continuation. Needs no jax."""

from collections.abc import Callable, Sequence

import numpy as np

from mig_jax.integrations.encoding import Encoded
from mig_jax.rewards import pairs_likelihood

# (context_np, continuation_nc, pad_id) -> logprob_nc: the log-prob of each id of a continuation, in nats at
# temperature 1. Contexts are padded on the left and continuations on the right, by an id that no text has.
PaddedLogprobs = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def padded_likelihoods(
    logprobs: PaddedLogprobs,
    rows: Sequence[Encoded],
    *,
    pad_id: int,
    batch_size: int,
    context_step: int = 128,
    continuation_step: int = 8,
    over_tokens: str = "mean_logprob",
    over_spellings: str = "max",
) -> list[np.ndarray]:
    """Return ℓ before the first step and after each, for each response, by one padded row for each probe.

    Args:
      logprobs: the engine, see `PaddedLogprobs`. It is called once, with N rows.
      rows: responses with their probes.
      pad_id: id of the padding; another one that does not occur is used if a text has it.
      batch_size: N is a multiple of it.
      context_step, continuation_step: widths are multiples of them, so that few shapes are compiled.
      over_tokens, over_spellings: as in `rewards.answer_likelihood`.

    Returns:
      ell_k `[K+1]` of each response, in nats per token.
    """
    pairs = [row.pairs() for row in rows]
    flat = [pair for of_row in pairs for pair in of_row]
    pad_id = _unused_id(pad_id, [id for pair in flat for id in pair.context + pair.continuation])
    shape = round_up(len(flat), batch_size)
    context = np.full((shape, round_up(max(len(p.context) for p in flat), context_step)), pad_id, np.int32)
    continuation = np.full(
        (shape, round_up(max(len(p.continuation) for p in flat), continuation_step)), pad_id, np.int32
    )
    for n in range(shape):
        pair = flat[min(n, len(flat) - 1)]
        context[n, context.shape[1] - len(pair.context) :] = pair.context
        continuation[n, : len(pair.continuation)] = pair.continuation
    given = iter(np.asarray(logprobs(context, continuation, pad_id), np.float32))
    options = {"over_tokens": over_tokens, "over_spellings": over_spellings}
    return [
        pairs_likelihood(of_row, [next(given) for _ in of_row], row.answers, n_cuts=row.n_cuts, **options)
        for row, of_row in zip(rows, pairs, strict=True)
    ]


def round_up(n: int, step: int) -> int:
    """Return the smallest multiple of `step` that is at least `n`."""
    return -(-int(n) // step) * step


def _unused_id(pad_id: int, ids: Sequence[int]) -> int:
    """Return `pad_id`, or the smallest id that does not occur if that one does."""
    used = {*ids}
    return pad_id if pad_id not in used else next(id for id in range(len(used) + 1) if id not in used)
