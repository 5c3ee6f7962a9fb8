"""The hybrid loss: process on the reasoning, outcome on the whole completion, imitation of what was right.

Every stream is a mean over tokens, and every mean is a sum with weights that are known before the first forward
pass. So micro-batches simply add up, exactly, however unequal their masks are.
"""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp


class Batch(NamedTuple):
    """What one update learns from. A row is a prompt, padded on the left, and its completion, padded on the right.

    token_bs: `[B, S]` prompt and completion; the last T slots are the completion's.
    start_b: `[B]` slot of the first token of the prompt.
    full_mask_bt: `[B, T]` bool, tokens of the completion, its end-of-sequence included.
    cot_mask_bt: `[B, T]` bool, tokens inside the think block.
    old_logprob_bt: `[B, T]` log-probs under the policy that sampled, in nats.
    ref_logprob_bt: `[B, T]` log-probs under the frozen reference, in nats; None when no KL is asked for.
    process_advantage_bt, outcome_advantage_bt: `[B, T]`.
    gate_b: `[B]` bool, responses to imitate.
    images: what the model needs to see of the prompts' images, leading axis Q (B / Q neighbouring rows share a prompt);
      None for text.
    """

    token_bs: jax.Array
    start_b: jax.Array
    full_mask_bt: jax.Array
    cot_mask_bt: jax.Array
    old_logprob_bt: jax.Array
    ref_logprob_bt: jax.Array | None
    process_advantage_bt: jax.Array
    outcome_advantage_bt: jax.Array
    gate_b: jax.Array
    images: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Coefficients and clip bounds of the hybrid loss.

    alpha: α, weight of the process stream L_MIG.
    beta: β, weight of the outcome stream L_out.
    gamma: γ, weight of the imitation stream L_SFT.
    kl_coef: κ, weight of the KL to the reference policy; has no effect on a batch without `ref_logprob_bt`.
    clip_low: ε_low; the ratio πθ / π_old is clipped below at 1 − ε_low.
    clip_high: ε_high; the ratio is clipped above at 1 + ε_high.
    """

    alpha: float
    beta: float
    gamma: float
    kl_coef: float
    clip_low: float
    clip_high: float


class TokenWeights(NamedTuple):
    """`[B, T]` weight of each token in the mean of each stream; each sums to 1, or to 0 where a stream is empty."""

    process_bt: jax.Array
    outcome_bt: jax.Array
    sft_bt: jax.Array


def mean_weights(mask_bt: jax.Array, *, aggregate: str) -> jax.Array:
    """Weights w with Σ w·x the mean of x over a mask.

        aggregate="responses":  w = m / (|mᵦ| · number of responses with a token)     mean of the responses' means
        aggregate="tokens":     w = m / Σ m                                           mean over all tokens of the batch

    Args:
      mask_bt: `[B, T]` bool, of the whole batch.

    Raises:
      ValueError: `aggregate` is neither.
    """
    length_b = mask_bt.sum(1)
    if aggregate == "responses":
        per_row_b = 1.0 / (jnp.maximum(length_b, 1) * jnp.maximum((length_b > 0).sum(), 1))
    elif aggregate == "tokens":
        per_row_b = jnp.broadcast_to(1.0 / jnp.maximum(length_b.sum(), 1), length_b.shape)
    else:
        raise ValueError(f"aggregate={aggregate!r}: a mean is taken over 'responses' or 'tokens'")
    return jnp.where(mask_bt, per_row_b[:, None], 0.0)


def stream_token_weights(batch: Batch, *, aggregate: str) -> TokenWeights:
    """The weights of all three streams, from the masks of the whole batch."""
    return TokenWeights(
        process_bt=mean_weights(batch.cot_mask_bt, aggregate=aggregate),
        outcome_bt=mean_weights(batch.full_mask_bt, aggregate=aggregate),
        sft_bt=mean_weights(batch.full_mask_bt & batch.gate_b[:, None], aggregate=aggregate),
    )


def clipped_surrogate(
    logprob_bt: jax.Array,
    old_logprob_bt: jax.Array,
    advantage_bt: jax.Array,
    *,
    clip_low: float,
    clip_high: float,
) -> jax.Array:
    """Token by token, min(ρ A, clip(ρ, 1−ε_low, 1+ε_high) A) with ρ = πθ / π_old: to be maximised.

    References:
      arXiv 2602.01034; PPO (arXiv 1707.06347), with separate bounds as in DAPO (arXiv 2503.14476).
    """
    chex.assert_equal_shape([logprob_bt, old_logprob_bt, advantage_bt])
    ratio_bt = _exp(logprob_bt - old_logprob_bt)
    clipped_bt = jnp.clip(ratio_bt, 1.0 - clip_low, 1.0 + clip_high)
    return jnp.minimum(ratio_bt * advantage_bt, clipped_bt * advantage_bt)


def kl_estimate(logprob_bt: jax.Array, other_logprob_bt: jax.Array) -> jax.Array:
    """Token by token, KL(πθ ‖ π_other) ≈ r − 1 − log r with r = π_other / πθ: unbiased and never negative."""
    log_ratio_bt = other_logprob_bt - logprob_bt
    return _exp(log_ratio_bt) - 1.0 - log_ratio_bt


def _exp(log_ratio_bt: jax.Array) -> jax.Array:
    """exp without overflow: an infinite ratio times an advantage of 0 would be NaN."""
    return jnp.exp(jnp.clip(log_ratio_bt, -20.0, 20.0))


def total_loss(
    logprob_bt: jax.Array, entropy_bt: jax.Array, batch: Batch, token_weights: TokenWeights, config: LossConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """L = α L_MIG + β L_out + γ L_SFT + κ KL(πθ ‖ π_ref), for a batch or for the rows of a micro-batch of it.

    Args:
      logprob_bt: `[B, T]` log-probs of the completions under πθ, in nats.
      entropy_bt: `[B, T]` entropy of the policy at each token, in nats; only reported.
      batch: the same rows.
      token_weights: the same rows of `stream_token_weights` of the whole batch.
      config: coefficients and clip bounds.

    Returns:
      The loss, and metrics that add up over micro-batches.
    """
    chex.assert_equal_shape([logprob_bt, entropy_bt, batch.full_mask_bt])
    # Padding may hold any number: take it out before exp can overflow.
    old_logprob_bt = jnp.where(batch.full_mask_bt, batch.old_logprob_bt, jax.lax.stop_gradient(logprob_bt))
    clip = {"clip_low": config.clip_low, "clip_high": config.clip_high}
    process_bt = clipped_surrogate(logprob_bt, old_logprob_bt, batch.process_advantage_bt, **clip)
    outcome_bt = clipped_surrogate(logprob_bt, old_logprob_bt, batch.outcome_advantage_bt, **clip)
    parts = {
        "loss/process": -jnp.sum(token_weights.process_bt * process_bt),
        "loss/outcome": -jnp.sum(token_weights.outcome_bt * outcome_bt),
        "loss/sft": -jnp.sum(token_weights.sft_bt * logprob_bt),
    }
    loss = config.alpha * parts["loss/process"] + config.beta * parts["loss/outcome"] + config.gamma * parts["loss/sft"]
    if batch.ref_logprob_bt is not None:
        ref_logprob_bt = jnp.where(batch.full_mask_bt, batch.ref_logprob_bt, jax.lax.stop_gradient(logprob_bt))
        parts["kl/reference"] = jnp.sum(token_weights.outcome_bt * kl_estimate(logprob_bt, ref_logprob_bt))
        loss = loss + config.kl_coef * parts["kl/reference"]

    ratio_bt = _exp(logprob_bt - old_logprob_bt)
    is_clipped_bt = (ratio_bt < 1.0 - config.clip_low) | (ratio_bt > 1.0 + config.clip_high)
    metrics = parts | {
        "loss/total": loss,
        "policy/entropy": jnp.sum(token_weights.outcome_bt * entropy_bt),
        "ratio/mean": jnp.sum(token_weights.outcome_bt * ratio_bt),
        "ratio/clipped": jnp.sum(token_weights.outcome_bt * is_clipped_bt),
        "kl/old": jnp.sum(token_weights.outcome_bt * kl_estimate(old_logprob_bt, logprob_bt)),
    }
    return loss, jax.lax.stop_gradient(metrics)
