"""What each step of a response has earned: from ℓ_k to gains.

Every function takes one response and is vmapped by its caller. `ell_k` holds ℓ_0 … ℓ_K (nats), so it is one longer
than `gain_k`, which holds a number for each of the K steps. Steps beyond the end of a response are padding, marked
False in `valid_k` (which is as long as `ell_k`; its first entry, "no step yet", is always there).
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class Credit(NamedTuple):
    """What a response has earned, and which step earned it.

    reward: scalar, the process reward of the whole response.
    gain_k: `[K]` the part of each step; 0 at padding.
    """

    reward: jax.Array
    gain_k: jax.Array


def watermark_gains(ell_k: jax.Array, valid_k: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gain of every step beyond the best that any earlier step had reached.

        h₀ = ℓ₀        gₖ = max(0, ℓₖ − hₖ₋₁)        hₖ = max(hₖ₋₁, ℓₖ)

    So g ≥ 0, a step that falls below the mark and climbs back earns nothing, and Σₖ gₖ = maxₖ ℓₖ − ℓ₀.

    Args:
      ell_k: `[K+1]` answer log-likelihood after each step, in nats; k = 0 is before the first.
      valid_k: `[K+1]` bool, False at padding.

    Returns:
      gain_k `[K]` and watermark_k `[K+1]` (h₀ … h_K), in nats.

    References:
      arXiv 2602.01034, Algorithm 1, lines 12–18.
    """
    chex.assert_rank([ell_k, valid_k], 1)
    chex.assert_equal_shape([ell_k, valid_k])

    def step(watermark, now):
        ell, valid = now
        raised = jnp.where(valid, jnp.maximum(watermark, ell), watermark)
        return raised, (raised - watermark, raised)

    _, (gain_k, watermark_k) = jax.lax.scan(step, ell_k[0], (ell_k[1:], valid_k[1:]))
    return gain_k, jnp.concatenate([ell_k[:1], watermark_k])


def watermark(ell_k: jax.Array, valid_k: jax.Array) -> Credit:
    """R = Σₖ gₖ, the monotonic watermark (the method; see `watermark_gains`)."""
    gain_k, _ = watermark_gains(ell_k, valid_k)
    return Credit(gain_k.sum(), gain_k)


def final(ell_k: jax.Array, valid_k: jax.Array) -> Credit:
    """R = ℓ_K, the likelihood after the last step; its parts are the signed changes from ℓ₀ (Table 4)."""
    gain_k = _changes(ell_k, valid_k)
    return Credit(ell_k[0] + gain_k.sum(), gain_k)


def delta_sum(ell_k: jax.Array, valid_k: jax.Array) -> Credit:
    """R = Σₖ (ℓₖ − ℓₖ₋₁) = ℓ_K − ℓ₀, signed (Table 4)."""
    gain_k = _changes(ell_k, valid_k)
    return Credit(gain_k.sum(), gain_k)


def position_weighted(ell_k: jax.Array, valid_k: jax.Array) -> Credit:
    """R = Σₖ k·(ℓₖ − ℓ₀) / Σₖ k, later steps weigh more (Table 4); shifted, so that no step is worth 0."""
    chex.assert_equal_shape([ell_k, valid_k])
    weight_k = jnp.where(valid_k[1:], jnp.arange(1, ell_k.shape[0]), 0)
    gain_k = jnp.where(valid_k[1:], ell_k[1:] - ell_k[0], 0.0) * weight_k / jnp.maximum(weight_k.sum(), 1)
    return Credit(gain_k.sum(), gain_k)


def segment_progress(ell_k: jax.Array, valid_k: jax.Array) -> Credit:
    """gₖ = exp ℓₖ − exp ℓₖ₋₁, signed progress in probability, as in GRPO-VPS (2604.20659) and IGPO (2510.14967)."""
    gain_k = _changes(jnp.exp(ell_k), valid_k)
    return Credit(gain_k.sum(), gain_k)


def _changes(value_k: jax.Array, valid_k: jax.Array) -> jax.Array:
    """`[K]` signed change brought by each step; 0 at padding."""
    chex.assert_rank([value_k, valid_k], 1)
    chex.assert_equal_shape([value_k, valid_k])
    return jnp.where(valid_k[1:], value_k[1:] - value_k[:-1], 0.0)


# Every way of turning ℓ into credit, by the name that the config uses.
CREDITS: dict[str, Callable[[jax.Array, jax.Array], Credit]] = {
    "watermark": watermark,
    "final": final,
    "delta_sum": delta_sum,
    "position_weighted": position_weighted,
    "segment_progress": segment_progress,
}
