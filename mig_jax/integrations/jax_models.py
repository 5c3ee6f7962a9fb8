"""Likelihoods of reference answers under a jax model of any kind that takes a mask: Linen, NNX, or plain functions."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.integrations.encoding import Encoded
from mig_jax.integrations.engines import round_up
from mig_jax.rewards import numpy_twins, stack_trees, tree_mask

# Trees are padded to a multiple of this many tokens, cuts and variants to one of the second, so that few shapes are
# compiled.
_LENGTH_STEP, _SHORT_STEP = 128, 8


def likelihoods(
    apply: Callable[..., jax.Array],
    params: Any,
    rows: Sequence[Encoded],
    *,
    batch_size: int,
    over_tokens: str = "mean_logprob",
    over_spellings: str = "max",
) -> list[np.ndarray]:
    """Return ℓ before the first step and after each, for each response, by one pass over it and all its probes.

    Args:
      apply: the model, (params, token_bt, position_bt, mask_btt) -> logits `[B, T, V]`. Token t attends to the tokens
        that are True in row t of its mask. It is compiled once for each function and shape: give the same one again.
      params: pytree of arrays.
      rows: responses with their probes.
      batch_size: responses in a pass.
      over_tokens, over_spellings: as in `rewards.answer_likelihood`.

    Returns:
      ell_k `[K+1]` of each response, in nats per token.
    """
    trees = [row.tree() for row in rows]
    width = round_up(max(len(tree.token_t) for tree in trees), _LENGTH_STEP)
    shape = [round_up(n, _SHORT_STEP) for n in np.max([tree.query_kay.shape for tree in trees], axis=0)]
    n_ids = max(np.shape(row.answers.target_aye)[2] for row in rows)
    found = []
    for first in range(0, len(rows), batch_size):
        numbers = [min(n, len(rows) - 1) for n in range(first, first + batch_size)]
        stacked = stack_trees([trees[n] for n in numbers], pad_id=0, width=width)
        query_bkay, target_bkaye = np.full((batch_size, *shape), -1), np.full((batch_size, *shape, n_ids), -1)
        for b, n in enumerate(numbers):
            target_aye, query_kay = np.asarray(rows[n].answers.target_aye), trees[n].query_kay
            query_bkay[(b, *map(slice, query_kay.shape))] = query_kay
            target_bkaye[(b, *map(slice, (*query_kay.shape, target_aye.shape[2])))] = target_aye
        inputs = stacked.token_t, stacked.position_t, tree_mask(stacked)
        logprob_bkay = np.asarray(_tree_logprobs(apply, params, inputs, query_bkay, target_bkaye))
        for logprob_kay, n in zip(logprob_bkay, numbers[: len(rows) - first], strict=False):
            own_kay = logprob_kay[tuple(map(slice, trees[n].query_kay.shape))]
            options = {"over_tokens": over_tokens, "over_spellings": over_spellings}
            found.append(numpy_twins.answer_likelihood(own_kay, np.asarray(rows[n].answers.scored_ay), **options))
    return found


@functools.partial(jax.jit, static_argnums=0)
def _tree_logprobs(apply, params, inputs, query_bkay, target_bkaye) -> jax.Array:
    """Return the log of the summed probability of each set of targets, `[B, K+1, A, Y]`."""
    logit_btv = jnp.asarray(apply(params, *inputs), jnp.float32)
    total_bt = jax.nn.logsumexp(logit_btv, axis=-1)

    def of_row(logit_tv, total_t, query_kay, target_kaye):
        slot_kay = jnp.maximum(query_kay, 0)
        picked_kaye = logit_tv[slot_kay[..., None], jnp.maximum(target_kaye, 0)]
        is_id_kaye = (target_kaye >= 0) | (query_kay < 0)[..., None]
        return jax.nn.logsumexp(jnp.where(is_id_kaye, picked_kaye, -jnp.inf), axis=-1) - total_t[slot_kay]

    return jax.vmap(of_row)(logit_btv, total_bt, query_bkay, target_bkaye)
