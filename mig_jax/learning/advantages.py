"""From rewards to advantages: normalised within the group, then spread onto tokens."""

import chex
import jax
import jax.numpy as jnp

SCALES = ("group_std", "none")


def group_normalize(
    reward_qg: jax.Array, valid_qg: jax.Array, *, scale: str = "group_std", eps: float = 1e-6
) -> jax.Array:
    """A = (R − mean_G) / (std_G + ε) over the group of each question.

    Process and outcome rewards go through here separately: mixed first, one drowns the other.

    Args:
      reward_qg: `[Q, G]` one reward for each sample of each question.
      valid_qg: `[Q, G]` bool; the others neither count nor get an advantage.
      scale: "group_std" divides by the standard deviation of the group; "none" only subtracts the mean.
      eps: spreads well below it, in units of the reward, are taken for noise and give next to no advantage.

    Returns:
      advantage_qg `[Q, G]`.

    Raises:
      ValueError: `scale` is unknown.

    References:
      arXiv 2602.01034; GRPO (arXiv 2402.03300), whose baseline this is.
    """
    chex.assert_rank([reward_qg, valid_qg], 2)
    chex.assert_equal_shape([reward_qg, valid_qg])
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r}: one of {', '.join(SCALES)}")
    # Taken off first, so that equal rewards, whatever they are, differ by exactly nothing.
    reward_qg = jnp.where(valid_qg, reward_qg, -jnp.inf)
    reward_qg = jnp.where(valid_qg, reward_qg - reward_qg.max(1, keepdims=True), 0.0)
    count_q = jnp.maximum(valid_qg.sum(1, keepdims=True), 1)
    mean_q = jnp.where(valid_qg, reward_qg, 0.0).sum(1, keepdims=True) / count_q
    centered_qg = jnp.where(valid_qg, reward_qg - mean_q, 0.0)
    if scale == "none":
        return centered_qg
    std_q = jnp.sqrt(jnp.square(centered_qg).sum(1, keepdims=True) / count_q)
    return centered_qg / (std_q + eps)


def trajectory_credit(
    reward_qg: jax.Array, step_bt: jax.Array, *, scale: str = "group_std", eps: float = 1e-6
) -> jax.Array:
    """The normalised process reward on every token of the reasoning (the paper's credit).

    Args:
      reward_qg: `[Q, G]` process reward of each response.
      step_bt: `[B, T]` index of the step that a token belongs to, from 0; −1 outside the reasoning.
      scale, eps: as in `group_normalize`; eps in nats.

    Returns:
      advantage_bt `[B, T]`, 0 outside the reasoning.
    """
    advantage_qg = group_normalize(reward_qg, jnp.ones_like(reward_qg, bool), scale=scale, eps=eps)
    return jnp.where(step_bt >= 0, advantage_qg.reshape(-1, 1), 0.0)


def step_credit(
    gain_qgk: jax.Array, valid_qgk: jax.Array, step_bt: jax.Array, *, scale: str = "group_std", eps: float = 1e-6
) -> jax.Array:
    """The normalised gain-to-go Σ_{j≥k} gⱼ of its step on every token of the reasoning.

    Step k of a response is compared with step k of the other responses of its group: each position has its own
    baseline, because later steps have less left to gain.

    Args:
      gain_qgk: `[Q, G, K]` gain of each step.
      valid_qgk: `[Q, G, K]` bool, False at padding.
      step_bt: `[B, T]` index of the step that a token belongs to, from 0; −1 outside the reasoning.
      scale, eps: as in `group_normalize`; eps in nats.

    Returns:
      advantage_bt `[B, T]`, 0 outside the reasoning.
    """
    chex.assert_rank([gain_qgk, valid_qgk, step_bt], [3, 3, 2])
    questions, group, n_steps = gain_qgk.shape
    to_go_qgk = jnp.where(valid_qgk, jnp.cumsum(gain_qgk[..., ::-1], axis=-1)[..., ::-1], 0.0)
    by_position = [jnp.moveaxis(x, -1, 1).reshape(-1, group) for x in (to_go_qgk, valid_qgk)]
    advantage = group_normalize(*by_position, scale=scale, eps=eps)
    advantage_bk = jnp.moveaxis(advantage.reshape(questions, n_steps, group), 1, -1).reshape(-1, n_steps)
    advantage_bt = jnp.take_along_axis(advantage_bk, jnp.maximum(step_bt, 0), axis=1)
    return jnp.where(step_bt >= 0, advantage_bt, 0.0)
