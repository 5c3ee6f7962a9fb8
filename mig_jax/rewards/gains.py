"""Credit rules: from the answer likelihood ℓ_k after each step to the reward of each step.

Every function takes one response; use `jax.vmap` for a batch. All share two arguments:

    ell_k:    `[K+1]` answer log-likelihood ℓ₀ … ℓ_K, in nats per token; ℓ₀ is before the first step.
    valid_k:  `[K+1]` bool, False at padding after the last step; the first entry must be True.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Credit(NamedTuple):
    """The process reward of one response, split into its steps.

    reward: scalar, the process reward of the whole response.
    gain_k: `[K]` the share of each step; 0 at padding.
    """

    reward: jax.Array
    gain_k: jax.Array


def watermark_gains(ell_k: jax.Array, valid_k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the gain of each step over the best likelihood that any earlier step reached.

        h₀ = ℓ₀        gₖ = max(0, ℓₖ − hₖ₋₁)        hₖ = max(hₖ₋₁, ℓₖ)

    So gₖ ≥ 0, and Σₖ gₖ = maxₖ ℓₖ − ℓ₀. A step that falls below the watermark and climbs back to it earns nothing.

    Args:
      ell_k: `[K+1]` answer log-likelihood after each step, in nats per token; k = 0 is before the first step.
      valid_k: `[K+1]` bool, False at padding.

    Returns:
      gain_k `[K]` and watermark_k `[K+1]` (h₀ … h_K), in nats per token.

    Raises:
      AssertionError: the arguments differ in shape, or have a batch axis.

    References:
      arXiv 2602.01034, Algorithm 1, lines 12–18.
    """
    _assert_one_response(ell_k, valid_k)

    def step(watermark, ell_and_valid):
        ell, valid = ell_and_valid
        raised = jnp.where(valid, jnp.maximum(watermark, ell), watermark)
        return raised, (raised - watermark, raised)

    _, (gain_k, watermark_k) = jax.lax.scan(step, ell_k[0], (ell_k[1:], valid_k[1:]))
    return gain_k, jnp.concatenate([ell_k[:1], watermark_k])


def watermark(ell_k: jax.Array, valid_k: jax.Array) -> Credit:
    """Return R = Σₖ gₖ with the gains of `watermark_gains`, in nats per token (arXiv 2602.01034, the method)."""
    gain_k, _ = watermark_gains(ell_k, valid_k)
    return Credit(gain_k.sum(), gain_k)


def final(ell_k: jax.Array, valid_k: jax.Array) -> Credit:
    """Return R = ℓ_K, the likelihood after the last step (arXiv 2602.01034, Table 4).

    The gains are the signed changes ℓₖ − ℓₖ₋₁, so they sum to R − ℓ₀.
    """
    gain_k = _signed_changes(ell_k, valid_k)
    return Credit(ell_k[0] + gain_k.sum(), gain_k)


def delta_sum(ell_k: jax.Array, valid_k: jax.Array) -> Credit:
    """Return R = Σₖ (ℓₖ − ℓₖ₋₁) = ℓ_K − ℓ₀, signed (arXiv 2602.01034, Table 4)."""
    gain_k = _signed_changes(ell_k, valid_k)
    return Credit(gain_k.sum(), gain_k)


def position_weighted(ell_k: jax.Array, valid_k: jax.Array) -> Credit:
    """Return R = Σₖ k·(ℓₖ − ℓ₀) / Σₖ k, so that later steps count more (arXiv 2602.01034, Table 4).

    ℓ₀ is subtracted so that a response without steps earns 0.
    """
    _assert_one_response(ell_k, valid_k)
    weight_k = jnp.where(valid_k[1:], jnp.arange(1, ell_k.shape[0]), 0)
    rise_k = jnp.where(valid_k[1:], ell_k[1:] - ell_k[0], 0.0)
    gain_k = rise_k * weight_k / jnp.maximum(weight_k.sum(), 1)
    return Credit(gain_k.sum(), gain_k)


def segment_progress(ell_k: jax.Array, valid_k: jax.Array) -> Credit:
    """Return R = Σₖ gₖ with gₖ = exp ℓₖ − exp ℓₖ₋₁, the signed progress in probability.

    References:
      GRPO-VPS (arXiv 2604.20659); IGPO (arXiv 2510.14967).
    """
    gain_k = _signed_changes(jnp.exp(ell_k), valid_k)
    return Credit(gain_k.sum(), gain_k)


# Every credit rule, by the name that configs use.
CREDITS: dict[str, Callable[[jax.Array, jax.Array], Credit]] = {
    "watermark": watermark,
    "final": final,
    "delta_sum": delta_sum,
    "position_weighted": position_weighted,
    "segment_progress": segment_progress,
}


def _signed_changes(value_k: jax.Array, valid_k: jax.Array) -> jax.Array:
    """Return the signed change of `value_k` at each step, `[K]`; 0 at padding."""
    _assert_one_response(value_k, valid_k)
    return jnp.where(valid_k[1:], value_k[1:] - value_k[:-1], 0.0)


def _assert_one_response(ell_k: jax.Array, valid_k: jax.Array) -> None:
    chex.assert_rank([ell_k, valid_k], 1, custom_message="a credit rule takes one response: use jax.vmap for a batch")
    chex.assert_equal_shape([ell_k, valid_k])
