"""Log-probs of completions under a policy, as the update and the KL reference compute them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mig_jax import rewards
from mig_jax.distributed import sharding
from mig_jax.learning.losses import Batch
from mig_jax.models import decoder, sampler
from mig_jax.policy.load import Policy

# Columns of an output matrix whose logits a CPU computes at once where no gradient is needed, so that they stay in its
# caches: at V = 151,936, one core takes half of the time and a 25th of the memory. A gradient, which needs each block
# twice, takes as long with blocks as without.
CPU_BLOCK = 2048


def vocab_block(policy: Policy) -> int | None:
    """Return the `block` of `rewards.batch_logprobs` for a forward pass alone: `CPU_BLOCK` on CPUs, elsewhere None.

    Accelerators are fastest with large matrices, and a vocabulary that is split over devices must stay whole.
    """
    is_cpu = policy.mesh.devices.flat[0].platform == "cpu"
    return CPU_BLOCK if is_cpu and policy.mesh.shape["tensor"] == 1 else None


def make_logprob_fn(
    policy: Policy,
    *,
    temperature: float,
    chunk: int,
    block: int | None = None,
    need_sft: bool = False,
    need_entropy: bool = False,
    need_load: bool = False,
) -> Callable:
    """Return the pure function (params, batch) -> log-prob, entropy and SFT log-prob of each completion token.

    Args:
      policy: the model's shape; the parameters are an argument of the function.
      temperature: divides the logits, as it did while sampling.
      chunk: tokens of a device whose logits are in memory at once, whatever the number of rows.
      block: as in `rewards.batch_logprobs`; `vocab_block` where no gradient is taken.
      need_sft: give log-probs at temperature 1, too, for SFT; they come from the same logits.
      need_entropy: give the entropy, too.
      need_load: give the load of the model's routers by the tokens of prompts and completions, too.

    Returns:
      A function that gives three arrays `[B, T]`, in nats, 0 at padding. The second is None without `need_entropy`. The
      third is the first if `temperature` is 1, or without `need_sft`. With `need_load`, a `RouterLoad` comes fourth.
    """
    temperatures = (temperature, 1.0) if need_sft and temperature != 1 else (temperature,)

    def logprobs(params: Any, batch: Batch) -> tuple[Any, ...]:
        model = decoder.bind(policy.config, params)
        rows, slots = batch.token_bs.shape
        width = batch.full_mask_bt.shape[1]
        images = batch.images
        # Pixels are kept only where the vision tower is trained: features from the rollout carry no gradient.
        if images is not None and images.pixels is not None:
            images = images._replace(feature_qid=model.vision(images.pixels))
        position_bs, valid_bs = sampler.row_positions(batch.start_b, slots, images)
        # The last token predicts nothing, so it is not computed.
        is_token_bs = jnp.concatenate([valid_bs[:, :-width], batch.full_mask_bt], axis=1) if need_load else None
        hidden_bsd, _, load = model.run(
            batch.token_bs[:, :-1],
            position_bs[:, :-1],
            valid_bs[:, :-1],
            features=sampler.row_features(images, rows, slots - 1),
            counted_bt=None if is_token_bs is None else is_token_bs[:, :-1],
        )
        unembed_pdv = sharding.copy_per_batch_shard(model.unembed_dv(), ("embed", "vocab"), rows)
        found = rewards.batch_logprobs(
            hidden_bsd[:, -width:],
            unembed_pdv,
            batch.token_bs[:, -width:],
            temperatures=temperatures,
            need_entropy=need_entropy,
            chunk=chunk,
            block=block,
            parts=len(unembed_pdv),
            is_token_v=policy.is_token_v,
        )
        # Padding that is no token has log-prob −∞.
        all_logprobs, entropy_bt = jax.tree.map(lambda x_bt: jnp.where(batch.full_mask_bt, x_bt, 0.0), found)
        return all_logprobs[0], entropy_bt, all_logprobs[-1], *([load] if need_load else [])

    return logprobs
