"""The parts of a small training: a batch with unequal masks, a policy of six logits, a loss and an optimizer."""

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.learning import losses
from mig_jax.learning.optimizer import make_optimizer, make_schedule

LOSS_CONFIG = losses.LossSettings(
    alpha=0.7, beta=1.3, gamma=0.4, kl_coef=0.2, policy_loss="clip", ratio="token",
    clip_low=0.2, clip_high=0.3, dual_clip=1.5,
)  # fmt: skip
KEY = jax.random.key(7)  # of stochastic rounding
SCHEDULE = {"peak_lr": 0.1, "warmup_steps": 2, "total_steps": 10, "decay": "cosine"}
OPTIMIZER = {"weight_decay": 0.1, "clip_norm": 1.0, "b1": 0.9, "b2": 0.99, "state_dtype": "", "key": KEY}


def random_batch(seed=0, rows=4, width=6, with_reference=True, with_sampler_weights=False):
    """Return a batch of completions of 2 to `width` tokens, the last of which is not reasoning."""
    rng = np.random.default_rng(seed)
    length = rng.integers(2, width + 1, rows)
    full = np.arange(width)[None] < length[:, None]
    cot = full & (np.arange(width)[None] < length[:, None] - 1)

    def noise():
        return rng.normal(size=(rows, width)).astype(np.float32)

    batch = losses.Batch(
        token_bs=np.zeros((rows, width + 2), np.int32),
        start_b=np.zeros(rows, np.int32),
        full_mask_bt=full,
        cot_mask_bt=cot,
        old_logprob_bt=noise() * np.float32(0.1) - 1,
        ref_logprob_bt=noise() * np.float32(0.1) - 1 if with_reference else None,
        process_advantage_bt=np.where(cot, noise(), np.float32(0)),
        outcome_advantage_bt=np.where(full, noise(), np.float32(0)),
        gate_b=np.arange(rows) % 2 == 0,
        sampler_weight_bt=np.exp(np.float32(0.3) * noise()) if with_sampler_weights else None,
    )
    return jax.device_put(batch)


def toy_params():
    """Return the parameters of `toy_logprobs`."""
    return {"matrix": jnp.linspace(0.0, 1.0, 6), "bias": jnp.zeros(())}


def toy_logprobs(params, batch):
    """Return log-probs that depend on position and row alone, an entropy of 1 nat, and log-probs at temperature 1."""
    rows = batch.full_mask_bt.shape[0]
    logprob_t = jax.nn.log_softmax(params["matrix"]) + params["bias"]
    logprob_bt = jnp.broadcast_to(logprob_t[None], (rows, 6)) + 0.01 * batch.start_b[:, None]
    return logprob_bt, jnp.ones_like(logprob_bt), logprob_bt


def build_optimizer(**changes):
    """Return an optimizer with some knobs of OPTIMIZER or SCHEDULE changed."""
    schedule, rest = ({k: changes.get(k, v) for k, v in knobs.items()} for knobs in (SCHEDULE, OPTIMIZER))
    return make_optimizer(make_schedule(**schedule), **rest)
