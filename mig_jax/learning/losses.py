"""The hybrid loss: process advantages on the reasoning, outcome advantages on the completion, and imitation.

    L = α L_MIG + β L_out + γ L_SFT + κ KL(πθ ‖ π_ref)

Every stream is a mean over tokens, and every mean is a weighted sum whose weights are known before the forward pass.
So the losses and gradients of micro-batches add up exactly, however unequal their masks are.
"""

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp


class Batch(NamedTuple):
    """The rows of one update. A row is a prompt, padded on the left, and its completion, padded on the right.

    token_bs: `[B, S]` token ids of prompt and completion; the last T of the S slots are the completion's.
    start_b: `[B]` slot of the first token of the prompt.
    full_mask_bt: `[B, T]` bool, True on the tokens of the completion, its end-of-sequence included.
    cot_mask_bt: `[B, T]` bool, True on the tokens inside the think block.
    old_logprob_bt: `[B, T]` log-probs under the policy that sampled, in nats.
    ref_logprob_bt: `[B, T]` log-probs under the frozen reference policy, in nats; None without a KL term.
    process_advantage_bt: `[B, T]` advantage of the process stream, 0 outside `cot_mask_bt`.
    outcome_advantage_bt: `[B, T]` advantage of the outcome stream, 0 outside `full_mask_bt`.
    gate_b: `[B]` bool, True for the responses to imitate.
    images: features of the prompts' images as the model takes them, leading axis Q (B / Q neighboring rows share a
      prompt); None for text.
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
class LossSettings:
    """Coefficients and clip bounds of the hybrid loss.

    alpha: α, the coefficient of the process stream L_MIG.
    beta: β, the coefficient of the outcome stream L_out.
    gamma: γ, the coefficient of the imitation stream L_SFT.
    kl_coef: κ, the coefficient of the KL to the reference policy; without effect if `Batch.ref_logprob_bt` is None.
    clip_low: ε_low; the ratio πθ / π_old is clipped at 1 − ε_low.
    clip_high: ε_high; the ratio πθ / π_old is clipped at 1 + ε_high.
    """

    alpha: float
    beta: float
    gamma: float
    kl_coef: float
    clip_low: float
    clip_high: float


class TokenWeights(NamedTuple):
    """The weight of each token in the mean of each stream, `[B, T]`; they sum to 1, or to 0 if the stream is empty.

    process_bt: over the reasoning.
    outcome_bt: over the completions.
    sft_bt: over the completions to imitate.
    """

    process_bt: jax.Array
    outcome_bt: jax.Array
    sft_bt: jax.Array


def mean_weights(mask_bt: jax.Array, *, aggregate: str) -> jax.Array:
    """Return weights w such that Σ w·x is the mean of x over a mask m.

        aggregate="responses":  w = m / (|mᵦ| · number of responses with a token)     mean of the responses' means
        aggregate="tokens":     w = m / Σ m                                           mean over all tokens of the batch

    Args:
      mask_bt: `[B, T]` bool, of the whole batch and not of a micro-batch.
      aggregate: "responses" or "tokens".

    Returns:
      weight_bt `[B, T]`, all 0 if the mask is empty.

    Raises:
      ValueError: `aggregate` is unknown.
    """
    length_b = mask_bt.sum(1)
    if aggregate == "responses":
        weight_b = 1.0 / (jnp.maximum(length_b, 1) * jnp.maximum((length_b > 0).sum(), 1))
    elif aggregate == "tokens":
        weight_b = jnp.broadcast_to(1.0 / jnp.maximum(length_b.sum(), 1), length_b.shape)
    else:
        raise ValueError(f"unknown aggregate {aggregate!r}; use 'responses' or 'tokens'")
    return jnp.where(mask_bt, weight_b[:, None], 0.0)


def stream_token_weights(batch: Batch, *, aggregate: str) -> TokenWeights:
    """Return the token weights of all three streams of a whole batch; `aggregate` is that of `mean_weights`."""
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
    """Return the clipped policy-gradient objective of each token, to be maximized.

        min(ρ A, clip(ρ, 1−ε_low, 1+ε_high) A)        ρ = πθ / π_old

    Args:
      logprob_bt: `[B, T]` log-probs under πθ, in nats.
      old_logprob_bt: `[B, T]` log-probs under π_old, in nats.
      advantage_bt: `[B, T]` advantages A.
      clip_low: ε_low.
      clip_high: ε_high.

    Returns:
      objective_bt `[B, T]`.

    References:
      arXiv 2602.01034; PPO (arXiv 1707.06347), with separate bounds as in DAPO (arXiv 2503.14476).
    """
    chex.assert_equal_shape([logprob_bt, old_logprob_bt, advantage_bt])
    ratio_bt = _exp(logprob_bt - old_logprob_bt)
    clipped_ratio_bt = jnp.clip(ratio_bt, 1.0 - clip_low, 1.0 + clip_high)
    return jnp.minimum(ratio_bt * advantage_bt, clipped_ratio_bt * advantage_bt)


def kl_estimate(logprob_bt: jax.Array, other_logprob_bt: jax.Array) -> jax.Array:
    """Return an estimate of KL(πθ ‖ π_other) from each token that πθ sampled, in nats.

        r − 1 − log r        r = π_other / πθ

    The value is unbiased and never negative.

    Args:
      logprob_bt: `[B, T]` log-probs under πθ, in nats.
      other_logprob_bt: `[B, T]` log-probs under π_other, in nats.

    Returns:
      kl_bt `[B, T]`.

    References:
      J. Schulman, Approximating KL Divergence (2020), estimator k3.
    """
    chex.assert_equal_shape([logprob_bt, other_logprob_bt])
    log_ratio_bt = other_logprob_bt - logprob_bt
    return _exp(log_ratio_bt) - 1.0 - log_ratio_bt


def total_loss(
    logprob_bt: jax.Array, entropy_bt: jax.Array, batch: Batch, token_weights: TokenWeights, config: LossSettings
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return L = α L_MIG + β L_out + γ L_SFT + κ KL(πθ ‖ π_ref) of a batch, or of some of its rows.

        L_MIG = − Σ w_cot  min(ρ A_MIG, clip(ρ, 1−ε_low, 1+ε_high) A_MIG)        ρ = πθ / π_old
        L_out = − Σ w_full min(ρ A_out, clip(ρ, 1−ε_low, 1+ε_high) A_out)
        L_SFT = − Σ w_gate log πθ

    GRPO is α = γ = 0.

    Args:
      logprob_bt: `[B, T]` log-probs of the completions under πθ, in nats.
      entropy_bt: `[B, T]` entropy of πθ at each token, in nats; only reported.
      batch: the same rows.
      token_weights: the same rows of `stream_token_weights` of the whole batch.
      config: coefficients and clip bounds.

    Returns:
      The loss, a scalar, and metrics. Both add up over the micro-batches of a batch.

    References:
      arXiv 2602.01034.
    """
    chex.assert_equal_shape([logprob_bt, entropy_bt, batch.full_mask_bt])
    clip = {"clip_low": config.clip_low, "clip_high": config.clip_high}
    old_logprob_bt = _fill_padding(batch.old_logprob_bt, logprob_bt, batch.full_mask_bt)
    process_bt = clipped_surrogate(logprob_bt, old_logprob_bt, batch.process_advantage_bt, **clip)
    outcome_bt = clipped_surrogate(logprob_bt, old_logprob_bt, batch.outcome_advantage_bt, **clip)
    process = -jnp.sum(token_weights.process_bt * process_bt)
    outcome = -jnp.sum(token_weights.outcome_bt * outcome_bt)
    sft = -jnp.sum(token_weights.sft_bt * logprob_bt)
    loss = config.alpha * process + config.beta * outcome + config.gamma * sft
    metrics = {"loss/process": process, "loss/outcome": outcome, "loss/sft": sft}
    if batch.ref_logprob_bt is not None:
        ref_logprob_bt = _fill_padding(batch.ref_logprob_bt, logprob_bt, batch.full_mask_bt)
        kl = jnp.sum(token_weights.outcome_bt * kl_estimate(logprob_bt, ref_logprob_bt))
        loss = loss + config.kl_coef * kl
        metrics["kl/reference"] = kl

    ratio_bt = _exp(logprob_bt - old_logprob_bt)
    is_clipped_bt = (ratio_bt < 1.0 - config.clip_low) | (ratio_bt > 1.0 + config.clip_high)
    metrics |= {
        "loss/total": loss,
        "policy/entropy": jnp.sum(token_weights.outcome_bt * entropy_bt),
        "ratio/mean": jnp.sum(token_weights.outcome_bt * ratio_bt),
        "ratio/clipped": jnp.sum(token_weights.outcome_bt * is_clipped_bt),
        "kl/old": jnp.sum(token_weights.outcome_bt * kl_estimate(old_logprob_bt, logprob_bt)),
    }
    return loss, jax.lax.stop_gradient(metrics)


def _fill_padding(stored_bt: jax.Array, logprob_bt: jax.Array, mask_bt: jax.Array) -> jax.Array:
    """Return stored log-probs, which may be any number at padding, with those of πθ there: the ratio becomes 1."""
    return jnp.where(mask_bt, stored_bt, jax.lax.stop_gradient(logprob_bt))


def _exp(log_ratio_bt: jax.Array) -> jax.Array:
    """Return exp without overflow: an infinite ratio times an advantage of 0 would be NaN."""
    return jnp.exp(jnp.clip(log_ratio_bt, -20.0, 20.0))
