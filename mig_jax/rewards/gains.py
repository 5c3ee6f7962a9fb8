"""Credit rules: from the answer likelihood ℓ_k after each step to the reward of each step.

A rule takes the group of one question; use `jax.vmap` for several questions. `CREDITS` holds all rules.
`mig_jax.rewards.credit` adds the prices of steps and the gates, which are the same for every rule.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mig_jax.parts import find_part
from mig_jax.rewards.arrays import Credit, Group


class CreditRule(NamedTuple):
    """An entry of `CREDITS`.

    apply: `(Group, **parameters) -> Credit`; its keyword-only arguments with their defaults are its parameters.
    unit: unit of the reward, "nats" (per token) or "probability".
    """

    apply: Callable[..., Credit]
    unit: str


def watermark_gains(ell_k: jax.Array, valid_k: jax.Array, *, threshold: float = 0.0) -> tuple[jax.Array, jax.Array]:
    """Return the gain of each step over the best likelihood that any earlier step reached.

        h₀ = ℓ₀        if ℓₖ > hₖ₋₁ + δ:  gₖ = ℓₖ − hₖ₋₁ − δ,  hₖ = ℓₖ        else:  gₖ = 0,  hₖ = hₖ₋₁

    So gₖ ≥ 0, and without a threshold Σₖ gₖ = maxₖ ℓₖ − ℓ₀. A step that falls below the watermark and climbs back to
    it earns nothing.

    Args:
      ell_k: `[K+1]` answer log-likelihood after each step, in nats per token; k = 0 is before the first step.
      valid_k: `[K+1]` bool, False at padding.
      threshold: δ ≥ 0, in nats per token; a rise of at most δ earns nothing and leaves the watermark.

    Returns:
      gain_k `[K]` and watermark_k `[K+1]` (h₀ … h_K), in nats per token.

    Raises:
      AssertionError: the arguments differ in shape, or have a batch axis.

    References:
      arXiv 2602.01034, Algorithm 1, lines 12–18; there δ = 0.
    """
    _assert_one_response(ell_k, valid_k)

    def step(watermark, ell_and_valid):
        ell, valid = ell_and_valid
        rises = valid & (ell > watermark + threshold)
        gain = jnp.where(rises, ell - watermark - threshold, 0.0)
        raised = jnp.where(rises, ell, watermark)
        return raised, (gain, raised)

    _, (gain_k, watermark_k) = jax.lax.scan(step, ell_k[0], (ell_k[1:], valid_k[1:]))
    return gain_k, jnp.concatenate([ell_k[:1], watermark_k])


def watermark_falls(ell_k: jax.Array, valid_k: jax.Array, *, threshold: float = 0.0) -> jax.Array:
    """Return how far the likelihood is below the watermark after each step: max(0, hₖ − ℓₖ), in nats per token.

    Args and errors are those of `watermark_gains`.

    Returns:
      fall_k `[K+1]`; padding repeats the last step, so the last entry is h_K − ℓ_K of the response.
    """
    _, watermark_k = watermark_gains(ell_k, valid_k, threshold=threshold)
    last = valid_k.sum() - 1
    held_k = ell_k[jnp.minimum(jnp.arange(ell_k.shape[0]), last)]
    return jnp.maximum(0.0, watermark_k - held_k)


def watermark(group: Group, *, threshold: float = 0.0, drawdown: float = 0.0) -> Credit:
    """Return R = Σₖ gₖ − λ (h_K − ℓ_K), in nats per token (arXiv 2602.01034, the method; there δ = λ = 0).

    Step k loses λ times what the likelihood falls further below the watermark, and regains what it climbs back.

    Args:
      group: the responses of one question.
      threshold: δ of `watermark_gains`.
      drawdown: λ from 0 to 1; 1 is `delta_sum` where δ = 0.
    """
    gain_gk, _ = jax.vmap(functools.partial(watermark_gains, threshold=threshold))(group.ell_gk, group.valid_gk)
    return _sum_of(gain_gk - drawdown * jnp.diff(falls(group, threshold)))


def final(group: Group) -> Credit:
    """Return R = ℓ_K, the likelihood after the last step (arXiv 2602.01034, Table 4).

    The gains are the signed changes ℓₖ − ℓₖ₋₁, so they sum to R − ℓ₀.
    """
    gain_gk = _signed_changes(group.ell_gk, group.valid_gk)
    return Credit(group.ell_gk[:, 0] + gain_gk.sum(1), gain_gk)


def delta_sum(group: Group) -> Credit:
    """Return R = Σₖ (ℓₖ − ℓₖ₋₁) = ℓ_K − ℓ₀, signed (arXiv 2602.01034, Table 4)."""
    return _sum_of(_signed_changes(group.ell_gk, group.valid_gk))


def position_weighted(group: Group) -> Credit:
    """Return R = Σₖ k·(ℓₖ − ℓ₀) / Σₖ k, so that later steps count more (arXiv 2602.01034, Table 4).

    ℓ₀ is subtracted so that a response without steps earns 0.
    """
    valid_gk = group.valid_gk[:, 1:]
    weight_gk = jnp.where(valid_gk, jnp.arange(1, group.ell_gk.shape[1])[None], 0)
    rise_gk = jnp.where(valid_gk, group.ell_gk[:, 1:] - group.ell_gk[:, :1], 0.0)
    return _sum_of(rise_gk * weight_gk / jnp.maximum(weight_gk.sum(1, keepdims=True), 1))


def segment_progress(group: Group) -> Credit:
    """Return R = Σₖ gₖ with gₖ = exp ℓₖ − exp ℓₖ₋₁, the signed progress in probability.

    References:
      GRPO-VPS (arXiv 2604.20659); IGPO (arXiv 2510.14967).
    """
    return _sum_of(_signed_changes(jnp.exp(group.ell_gk), group.valid_gk))


# Every credit rule, by the name that configs use.
CREDITS: dict[str, CreditRule] = {
    "watermark": CreditRule(watermark, "nats"),
    "final": CreditRule(final, "nats"),
    "delta_sum": CreditRule(delta_sum, "nats"),
    "position_weighted": CreditRule(position_weighted, "nats"),
    "segment_progress": CreditRule(segment_progress, "probability"),
}


def find_rule(name: str) -> CreditRule:
    """Return a credit rule: one of `CREDITS`, or a user's own, see `parts.find_part`.

    A user's own is a `CreditRule`, or a function like those of `CREDITS`, whose unit is then nats.

    Raises:
      UserError: there is none.
    """
    rule: Any = find_part(name, CREDITS, key="reward.credit")
    return rule if isinstance(rule, CreditRule) else CreditRule(rule, "nats")


def falls(group: Group, threshold: float) -> jax.Array:
    """Return `watermark_falls` of each response, `[G, K+1]`."""
    return jax.vmap(functools.partial(watermark_falls, threshold=threshold))(group.ell_gk, group.valid_gk)


def _sum_of(gain_gk: jax.Array) -> Credit:
    """Return the credit of responses whose reward is the sum of their gains."""
    return Credit(gain_gk.sum(1), gain_gk)


def _signed_changes(value_gk: jax.Array, valid_gk: jax.Array) -> jax.Array:
    """Return the signed change of `value_gk` at each step, `[G, K]`; 0 at padding."""
    return jnp.where(valid_gk[:, 1:], value_gk[:, 1:] - value_gk[:, :-1], 0.0)


def _assert_one_response(ell_k: jax.Array, valid_k: jax.Array) -> None:
    message = "the watermark takes one response: use jax.vmap for a batch"
    chex.assert_rank([ell_k, valid_k], 1, custom_message=message)
    chex.assert_equal_shape([ell_k, valid_k])
