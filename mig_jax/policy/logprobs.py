"""Log-probs of completions under a policy, as the update and the KL reference compute them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mig_jax import rewards
from mig_jax.distributed import sharding
from mig_jax.learning.losses import Batch
from mig_jax.models import decoder, sampler
from mig_jax.policy.load import Policy


def make_logprob_fn(policy: Policy, *, temperature: float, chunk: int, need_sft: bool) -> Callable:
    """Return the pure function (params, batch) -> log-prob, entropy and SFT log-prob of each completion token.

    Args:
      policy: the model's shape; the parameters are an argument of the function.
      temperature: divides the logits, as it did while sampling.
      chunk: tokens of each row whose logits are in memory at once.
      need_sft: give log-probs at temperature 1, too, for SFT; at another `temperature` this computes the logits twice.

    Returns:
      A function that gives three arrays `[B, T]`, in nats, 0 at padding. The third is the first if `temperature` is 1,
      or without `need_sft`.
    """

    def logprobs(params: Any, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        model = decoder.bind(policy.config, params)
        rows, slots = batch.token_bs.shape
        width = batch.full_mask_bt.shape[1]
        images = batch.images
        # Pixels are kept only where the vision tower is trained: features from the rollout carry no gradient.
        if images is not None and images.pixels is not None:
            images = images._replace(feature_qid=model.vision(images.pixels))
        position_bs, valid_bs = sampler.row_positions(batch.start_b, slots, images)
        # The last token predicts nothing, so it is not computed.
        hidden_bsd, _ = model(
            batch.token_bs[:, :-1],
            position_bs[:, :-1],
            valid_bs[:, :-1],
            features=sampler.row_features(images, rows, slots - 1),
        )
        unembed_pdv = sharding.copy_per_batch_shard(model.unembed_dv(), ("embed", "vocab"), rows)

        def per_shard(x_bt):
            return x_bt.reshape(len(unembed_pdv), -1, *x_bt.shape[1:])

        def logprobs_at(temperature: float) -> tuple[jax.Array, ...]:
            row_logprobs = functools.partial(
                rewards.token_logprobs, temperature=temperature, chunk=chunk, is_token_v=policy.is_token_v
            )
            found = jax.vmap(jax.vmap(row_logprobs, in_axes=(0, None, 0)))(
                per_shard(hidden_bsd[:, -width:]), unembed_pdv, per_shard(batch.token_bs[:, -width:])
            )
            # Padding that is no token has log-prob −∞.
            return tuple(jnp.where(batch.full_mask_bt, x_pbt.reshape(rows, width), 0.0) for x_pbt in found)

        logprob_bt, entropy_bt = logprobs_at(temperature)
        return logprob_bt, entropy_bt, logprobs_at(1.0)[0] if need_sft and temperature != 1 else logprob_bt

    return logprobs
