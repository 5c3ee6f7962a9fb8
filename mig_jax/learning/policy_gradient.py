"""The policy-gradient family: ratios of two policies, clipped objectives, and the KL; each token on its own.

`RATIOS` and `LOSSES` have the variants. The ratio of a row depends on that row alone: micro-batches do not change it.
"""

import dataclasses
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """Bounds of the ratio of πθ and π_old.

    clip_low: ε_low; the ratio is clipped at 1 − ε_low.
    clip_high: ε_high; the ratio is clipped at 1 + ε_high.
    dual_clip: c > 1, the bound where the advantage is negative, for the loss of this name.
    """

    clip_low: float
    clip_high: float
    dual_clip: float


# -------------------------------------------------------------------------------------------------------------- ratios


def token_ratio(logprob_bt: jax.Array, old_logprob_bt: jax.Array, mask_bt: jax.Array) -> jax.Array:
    """Return ρ = πθ / π_old of each token (PPO, arXiv 1707.06347).

    Args:
      logprob_bt: `[B, T]` log-probs under πθ, in nats.
      old_logprob_bt: `[B, T]` log-probs under π_old, in nats; finite.
      mask_bt: `[B, T]` bool, the tokens of the stream.

    Returns:
      ratio_bt `[B, T]`.
    """
    del mask_bt
    return bounded_exp(logprob_bt - old_logprob_bt)


def sequence_ratio(logprob_bt: jax.Array, old_logprob_bt: jax.Array, mask_bt: jax.Array) -> jax.Array:
    """Return the length-normalized ratio of the sequence, on each token (GSPO, arXiv 2507.18071, as GSPO-token).

        s = exp(1/|m| Σ_m log(πθ / π_old))        ρ_t = sg(s) · πθ / sg(πθ)

    The value is s, and the gradient goes through each token's own log-prob, so tokens may have advantages of their own.
    With equal advantages the mean of ρ over the sequence has the gradient of s. Arguments and result as in
    `token_ratio`; a sequence is what the mask holds of a row.
    """
    log_ratio_bt = jnp.where(mask_bt, logprob_bt - old_logprob_bt, 0.0)
    mean_b = log_ratio_bt.sum(1, keepdims=True) / jnp.maximum(mask_bt.sum(1, keepdims=True), 1)
    fixed_mean_b, fixed_logprob_bt = jax.lax.stop_gradient((mean_b, logprob_bt))
    return bounded_exp(fixed_mean_b + (logprob_bt - fixed_logprob_bt))


# (logprob_bt, old_logprob_bt, mask_bt) → ratio_bt
RATIOS: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "token": token_ratio,
    "sequence": sequence_ratio,
}


# -------------------------------------------------------------------------------------------------------------- losses


def clip(
    ratio_bt: jax.Array, logprob_bt: jax.Array, advantage_bt: jax.Array, settings: ClipSettings
) -> tuple[jax.Array, jax.Array]:
    """Return the clipped policy-gradient objective of each token, to be maximized.

        min(ρ A, clip(ρ, 1−ε_low, 1+ε_high) A)

    Args:
      ratio_bt: `[B, T]` ratio ρ of πθ and π_old.
      logprob_bt: `[B, T]` log-probs under πθ, in nats.
      advantage_bt: `[B, T]` advantages A.
      settings: clip bounds.

    Returns:
      (objective_bt, is_clipped_bt), both `[B, T]`. Clipped are tokens whose gradient is cut: the ratio is beyond the
      bound to which the advantage pushes it.

    References:
      PPO (arXiv 1707.06347), with separate bounds as in DAPO (arXiv 2503.14476).
    """
    del logprob_bt
    low, high = 1.0 - settings.clip_low, 1.0 + settings.clip_high
    objective_bt = jnp.minimum(ratio_bt * advantage_bt, jnp.clip(ratio_bt, low, high) * advantage_bt)
    return objective_bt, ((advantage_bt > 0) & (ratio_bt > high)) | ((advantage_bt < 0) & (ratio_bt < low))


def dual_clip(
    ratio_bt: jax.Array, logprob_bt: jax.Array, advantage_bt: jax.Array, settings: ClipSettings
) -> tuple[jax.Array, jax.Array]:
    """Return the objective of `clip`, with a second bound c where the advantage is negative.

        max(min(ρ A, clip(ρ, 1−ε_low, 1+ε_high) A), c A)        A < 0

    There ρ A has no lower bound otherwise. It is the objective of `clip` with min(ρ, c) in the place of ρ. Arguments
    and result as in `clip`; tokens with ρ > c and a negative advantage are clipped too.

    References:
      Ye et al., arXiv 1912.09729.
    """
    is_bounded_bt = (advantage_bt < 0) & (ratio_bt > settings.dual_clip)
    bounded_ratio_bt = jnp.where(is_bounded_bt, settings.dual_clip, ratio_bt)
    objective_bt, is_clipped_bt = clip(bounded_ratio_bt, logprob_bt, advantage_bt, settings)
    return objective_bt, is_clipped_bt | is_bounded_bt


def cispo(
    ratio_bt: jax.Array, logprob_bt: jax.Array, advantage_bt: jax.Array, settings: ClipSettings
) -> tuple[jax.Array, jax.Array]:
    """Return the objective of REINFORCE with clipped importance weights: no token loses its gradient.

        sg(clip(ρ, 1−ε_low, 1+ε_high)) A log πθ

    Arguments and result as in `clip`, but here clipped are tokens whose weight is. The paper sets no lower bound:
    ε_low = 1.

    References:
      MiniMax-M1 (arXiv 2506.13585), equations 4 and 5.
    """
    low, high = 1.0 - settings.clip_low, 1.0 + settings.clip_high
    weight_bt = jax.lax.stop_gradient(jnp.clip(ratio_bt, low, high))
    is_clipped_bt = (advantage_bt != 0) & ((ratio_bt < low) | (ratio_bt > high))
    return weight_bt * advantage_bt * logprob_bt, is_clipped_bt


# (ratio_bt, logprob_bt, advantage_bt, settings) → (objective_bt, is_clipped_bt)
LOSSES: dict[str, Callable[[jax.Array, jax.Array, jax.Array, ClipSettings], tuple[jax.Array, jax.Array]]] = {
    "clip": clip,
    "dual_clip": dual_clip,
    "cispo": cispo,
}

# ------------------------------------------------------------------------------------------------------------------ KL


def kl_estimate(logprob_bt: jax.Array, other_logprob_bt: jax.Array) -> jax.Array:
    """Return an estimate of KL(π ‖ π_other) from each token that π sampled, in nats.

        r − 1 − log r        r = π_other / π

    The value is unbiased and never negative; its gradient is not that of the KL, see `reference_kl`.

    Args:
      logprob_bt: `[B, T]` log-probs under π, in nats.
      other_logprob_bt: `[B, T]` log-probs under π_other, in nats.

    Returns:
      kl_bt `[B, T]`.

    References:
      J. Schulman, Approximating KL Divergence (2020), estimator k3.
    """
    chex.assert_equal_shape([logprob_bt, other_logprob_bt])
    log_ratio_bt = other_logprob_bt - logprob_bt
    return bounded_exp(log_ratio_bt) - 1.0 - log_ratio_bt


def reference_kl(logprob_bt: jax.Array, old_logprob_bt: jax.Array, ref_logprob_bt: jax.Array) -> jax.Array:
    """Return an estimate of KL(πθ ‖ π_ref) from each token that π_old sampled, in nats.

        ρ (r − 1 − log r)        ρ = πθ / π_old,  r = π_ref / πθ

    Value and gradient are unbiased, on and off policy. Without ρ, which has a gradient of its own, the gradient would
    be that of KL(π_ref ‖ πθ). The gradient of a token is −ρ log r · ∇ log πθ; it is computed as such, since a
    huge r would cancel from it only up to rounding.

    Args:
      logprob_bt: `[B, T]` log-probs under πθ, in nats.
      old_logprob_bt: `[B, T]` log-probs under π_old, in nats.
      ref_logprob_bt: `[B, T]` log-probs under π_ref, in nats.

    Returns:
      kl_bt `[B, T]`.
    """
    ratio_bt = bounded_exp(logprob_bt - old_logprob_bt)
    value_bt = jax.lax.stop_gradient(ratio_bt * kl_estimate(logprob_bt, ref_logprob_bt))
    slope_bt = ratio_bt * jax.lax.stop_gradient(logprob_bt - ref_logprob_bt)
    return value_bt + (slope_bt - jax.lax.stop_gradient(slope_bt))


def bounded_exp(log_ratio_bt: jax.Array) -> jax.Array:
    """Return exp without overflow: an infinite ratio times an advantage of 0 would be NaN."""
    return jnp.exp(jnp.clip(log_ratio_bt, -20.0, 20.0))
