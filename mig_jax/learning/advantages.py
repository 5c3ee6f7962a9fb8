"""Advantages: rewards compared within the group of a question, scaled, then spread over tokens.

Process and outcome rewards are normalized separately. If they were added first, one could drown the other.

    A = (R − baseline) / (spread + ε)

`ADVANTAGES` has the baselines, `SCALES` the spreads, and `CREDIT_LEVELS` the ways to spread a process reward over
tokens.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from mig_jax.parts import find_part

# ---------------------------------------------------------------------------------------------------------- baselines


def group_mean(reward_qg: jax.Array, valid_qg: jax.Array) -> jax.Array:
    """Return Rᵢ − mean_G R, the deviation from the mean of the group (GRPO, arXiv 2402.03300).

    Args:
      reward_qg: `[Q, G]` reward of each sample of each question; any further axes are kept apart.
      valid_qg: the same shape, bool; samples marked False do not enter the baseline and get 0.

    Returns:
      centered_qg, of the same shape. Equal rewards give exactly 0.
    """
    # Shift by the maximum first: equal rewards then give exactly 0, despite rounding.
    reward_qg = jnp.where(valid_qg, reward_qg, -jnp.inf)
    reward_qg = jnp.where(valid_qg, reward_qg - reward_qg.max(1, keepdims=True), 0.0)
    count_q = jnp.maximum(valid_qg.sum(1, keepdims=True), 1)
    return jnp.where(valid_qg, reward_qg - reward_qg.sum(1, keepdims=True) / count_q, 0.0)


def leave_one_out(reward_qg: jax.Array, valid_qg: jax.Array) -> jax.Array:
    """Return Rᵢ − mean_{j≠i} Rⱼ, the deviation from the mean of the others (RLOO, arXiv 2402.14740).

    It equals n / (n − 1) times the deviation from the mean of all n valid samples; 0 for a sample without others.
    Arguments and result as in `group_mean`.
    """
    count_q = valid_qg.sum(1, keepdims=True)
    return group_mean(reward_qg, valid_qg) * (count_q / jnp.maximum(count_q - 1, 1))


def no_baseline(reward_qg: jax.Array, valid_qg: jax.Array) -> jax.Array:
    """Return the reward itself (REINFORCE); arguments and result as in `group_mean`."""
    return jnp.where(valid_qg, reward_qg, 0.0)


# (reward_qg, valid_qg) → centered_qg
ADVANTAGES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "group_mean": group_mean,
    "leave_one_out": leave_one_out,
    "no_baseline": no_baseline,
}

# ------------------------------------------------------------------------------------------------------------- scales


def group_std(deviation_qg: jax.Array, valid_qg: jax.Array, eps: float) -> jax.Array:
    """Return std_G + ε, the biased standard deviation of each group (GRPO, arXiv 2402.03300).

    Args:
      deviation_qg: `[Q, G]` deviations, with any further axes, which are taken together.
      valid_qg: the same shape, bool; False where a deviation does not count.
      eps: ε, in the unit of the reward.

    Returns:
      The divisor: one number for each question, in an array that broadcasts with the deviations.
    """
    return _root_mean_square(deviation_qg, valid_qg, axis=tuple(range(1, deviation_qg.ndim))) + eps


def batch_std(deviation_qg: jax.Array, valid_qg: jax.Array, eps: float) -> jax.Array:
    """Return std + ε over all groups of the batch (REINFORCE++, arXiv 2501.03262); arguments as in `group_std`."""
    return _root_mean_square(deviation_qg, valid_qg, axis=tuple(range(deviation_qg.ndim))) + eps


def unscaled(deviation_qg: jax.Array, valid_qg: jax.Array, eps: float) -> jax.Array:
    """Return 1: a group whose rewards hardly differ weighs as little as it should (Dr. GRPO, arXiv 2503.20783)."""
    del valid_qg, eps
    return jnp.ones((1,) * deviation_qg.ndim)


# (deviation_qg, valid_qg, eps) → divisor
SCALES: dict[str, Callable[[jax.Array, jax.Array, float], jax.Array]] = {
    "group_std": group_std,
    "batch_std": batch_std,
    "none": unscaled,
}


def _root_mean_square(x: jax.Array, valid: jax.Array, *, axis: tuple[int, ...]) -> jax.Array:
    """Return √(mean x²) over the valid entries along some axes, which are kept with size 1; 0 if there are none."""
    total = jnp.where(valid, jnp.square(x), 0.0).sum(axis, keepdims=True)
    return jnp.sqrt(total / jnp.maximum(valid.sum(axis, keepdims=True), 1))


def _center(reward_qg: jax.Array, valid_qg: jax.Array, advantage: str) -> tuple[jax.Array, jax.Array]:
    """Return rewards minus their baseline, and the deviations that a scale measures.

    A standard deviation is about the mean of the group, whatever the baseline. Without a baseline it is about 0:
    otherwise a group of equal rewards would be divided by next to nothing.
    """
    centered_qg = find_part(advantage, ADVANTAGES, key="reward.advantage")(reward_qg, valid_qg)
    return centered_qg, centered_qg if advantage == "no_baseline" else group_mean(reward_qg, valid_qg)


def normalize(reward_qg: jax.Array, valid_qg: jax.Array, *, advantage: str, scale: str, eps: float) -> jax.Array:
    """Return the advantage of each sample over the other samples of its question.

        A = (R − mean_G) / (std_G + ε)        advantage="group_mean", scale="group_std"
        A =  R − mean_G                       advantage="group_mean", scale="none"

    Args:
      reward_qg: `[Q, G]` reward of each sample of each question.
      valid_qg: `[Q, G]` bool; samples marked False do not enter baseline and spread, and get advantage 0.
      advantage: one of `ADVANTAGES`, or a user's own, see `parts.find_part`.
      scale: one of `SCALES`, or a user's own.
      eps: ε, in the unit of the reward. A group whose deviation is well below it gets next to no advantage.

    Returns:
      advantage_qg `[Q, G]`.

    Raises:
      ValueError: `advantage` or `scale` is unknown.

    References:
      arXiv 2602.01034; the parts are those of GRPO, RLOO, REINFORCE++ and Dr. GRPO, see the tables.
    """
    chex.assert_rank([reward_qg, valid_qg], 2)
    chex.assert_equal_shape([reward_qg, valid_qg])
    centered_qg, deviation_qg = _center(reward_qg, valid_qg, advantage)
    return centered_qg / find_part(scale, SCALES, key="reward.outcome_scale")(deviation_qg, valid_qg, eps)


# ------------------------------------------------------------------------------------------------------------- credit


def trajectory_credit(
    reward_qg: jax.Array,
    step_bt: jax.Array,
    *,
    advantage: str,
    scale: str,
    eps: float,
    valid_qg: jax.Array | None = None,
) -> jax.Array:
    """Return the normalized process reward of a response on every token of its reasoning (the paper's credit).

    Args:
      reward_qg: `[Q, G]` process reward of each response, in the unit of its credit rule; B = Q·G.
      step_bt: `[B, T]` index of the reasoning step of each token, from 0; −1 outside the reasoning.
      advantage, scale, eps: as in `normalize`.
      valid_qg: as in `normalize`; None if all responses count.

    Returns:
      advantage_bt `[B, T]`, 0 outside the reasoning.

    References:
      arXiv 2602.01034.
    """
    valid_qg = jnp.ones_like(reward_qg, bool) if valid_qg is None else valid_qg
    advantage_qg = normalize(reward_qg, valid_qg, advantage=advantage, scale=scale, eps=eps)
    return jnp.where(step_bt >= 0, advantage_qg.reshape(-1, 1), 0.0)


def step_credit(
    gain_qgk: jax.Array,
    valid_qgk: jax.Array,
    step_bt: jax.Array,
    *,
    discount: float = 1.0,
    advantage: str,
    scale: str,
    eps: float,
    valid_qg: jax.Array | None = None,
) -> jax.Array:
    """Return the normalized gain-to-go of its reasoning step on every token of the reasoning.

        Gₖ = gₖ + λ Gₖ₊₁,  G_n = 0        Aₖ = (Gₖ − baseline_G Gₖ) / (spread_G + ε)

    A response of n steps has n + 1 decisions: position n closes the reasoning, with nothing left to gain. Each
    position has its own baseline over the whole group, because later steps have less left to gain. Responses that have
    ended count there with 0: closing early is worse than average wherever the others still gain something.
    The spread is one number for all positions of a group, or of the batch. Were it one for each, a position whose
    responses hardly differ would weigh as much as the one that decides.

    Args:
      gain_qgk: `[Q, G, K]` gain of each step, in the unit of its credit rule; B = Q·G.
      valid_qgk: `[Q, G, K]` bool, False at padding, whose gains may be any number.
      step_bt: `[B, T]` index of the reasoning step of each token, from 0; n, which may be K, for the tokens that close
        the reasoning after n steps; −1 elsewhere.
      discount: λ, from 0 (a step is paid for its own gain) to 1 (for its own and all later gains).
      advantage: one of `ADVANTAGES`, for the baseline.
      scale: one of `SCALES`. The spread is the root mean square of the centered values at valid steps; the closing
        positions are left out.
      eps: ε, in the unit of the gains.
      valid_qg: as in `normalize`; None if all responses count.

    Returns:
      advantage_bt `[B, T]`, 0 outside the reasoning.
    """
    chex.assert_rank([gain_qgk, valid_qgk, step_bt], [3, 3, 2])
    chex.assert_equal_shape([gain_qgk, valid_qgk])
    to_go_qgk = _gain_to_go(jnp.where(valid_qgk, gain_qgk, 0.0), discount)
    valid_qg = jnp.ones(gain_qgk.shape[:2], bool) if valid_qg is None else valid_qg
    centered_qgk, deviation_qgk = _center(to_go_qgk, jnp.broadcast_to(valid_qg[..., None], to_go_qgk.shape), advantage)
    is_step_qgk = valid_qgk & valid_qg[..., None]
    divisor = find_part(scale, SCALES, key="reward.outcome_scale")(deviation_qgk[..., :-1], is_step_qgk, eps)
    advantage_bk = (centered_qgk / divisor).reshape(-1, to_go_qgk.shape[2])
    advantage_bt = jnp.take_along_axis(advantage_bk, jnp.maximum(step_bt, 0), axis=1)
    return jnp.where(step_bt >= 0, advantage_bt, 0.0)


def _gain_to_go(gain_qgk: jax.Array, discount: float) -> jax.Array:
    """Return Gₖ = gₖ + λ Gₖ₊₁ for k = 0 … K, `[Q, G, K + 1]`; G_K is 0."""

    def add(to_go_qg, gain_qg):
        to_go_qg = gain_qg + discount * to_go_qg
        return to_go_qg, to_go_qg

    _, to_go_kqg = jax.lax.scan(add, jnp.zeros_like(gain_qgk[..., 0]), jnp.moveaxis(gain_qgk, 2, 0), reverse=True)
    return jnp.pad(jnp.moveaxis(to_go_kqg, 0, 2), ((0, 0), (0, 0), (0, 1)))


def _credit_by_trajectory(reward_qg, gain_qgk, valid_qgk, step_bt, *, discount, **options) -> jax.Array:
    del gain_qgk, valid_qgk, discount
    return trajectory_credit(reward_qg, step_bt, **options)


def _credit_by_step(reward_qg, gain_qgk, valid_qgk, step_bt, **options) -> jax.Array:
    del reward_qg
    return step_credit(gain_qgk, valid_qgk, step_bt, **options)


# (reward_qg, gain_qgk, valid_qgk, step_bt, *, discount, advantage, scale, eps, valid_qg) → advantage_bt
CREDIT_LEVELS: dict[str, Callable[..., jax.Array]] = {"trajectory": _credit_by_trajectory, "step": _credit_by_step}
