"""Advantages: rewards normalized within the group of a question, then spread over tokens.

Process and outcome rewards are normalized separately. If they were added first, one could drown the other.
"""

import functools

import chex
import jax
import jax.numpy as jnp

# How an advantage is scaled: by the standard deviation of its group, or not at all.
SCALES = ("group_std", "none")


def group_normalize(
    reward_qg: jax.Array, valid_qg: jax.Array, *, scale: str = "group_std", eps: float = 1e-6
) -> jax.Array:
    """Return the advantage of each sample over the other samples of its question.

        A = (R − mean_G) / (std_G + ε)        scale="group_std"
        A =  R − mean_G                       scale="none"

    The mean and the (biased) standard deviation are those of the valid samples of the group.

    Args:
      reward_qg: `[Q, G]` reward of each sample of each question.
      valid_qg: `[Q, G]` bool; samples marked False do not enter the mean and the deviation, and get advantage 0.
      scale: one of `SCALES`.
      eps: ε, in the unit of the reward. A group whose deviation is well below it gets next to no advantage.

    Returns:
      advantage_qg `[Q, G]`.

    Raises:
      ValueError: `scale` is unknown.

    References:
      arXiv 2602.01034; the baseline is that of GRPO (arXiv 2402.03300).
    """
    chex.assert_rank([reward_qg, valid_qg], 2)
    chex.assert_equal_shape([reward_qg, valid_qg])
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; use one of {', '.join(SCALES)}")
    # Shift by the maximum first: equal rewards then give exactly 0, despite rounding.
    reward_qg = jnp.where(valid_qg, reward_qg, -jnp.inf)
    reward_qg = jnp.where(valid_qg, reward_qg - reward_qg.max(1, keepdims=True), 0.0)
    count_q = jnp.maximum(valid_qg.sum(1, keepdims=True), 1)
    centered_qg = jnp.where(valid_qg, reward_qg - reward_qg.sum(1, keepdims=True) / count_q, 0.0)
    if scale == "none":
        return centered_qg
    std_q = jnp.sqrt(jnp.square(centered_qg).sum(1, keepdims=True) / count_q)
    return centered_qg / (std_q + eps)


def trajectory_credit(
    reward_qg: jax.Array, step_bt: jax.Array, *, scale: str = "group_std", eps: float = 1e-6
) -> jax.Array:
    """Return the normalized process reward of a response on every token of its reasoning (the paper's credit).

    Args:
      reward_qg: `[Q, G]` process reward of each response, in nats; B = Q·G.
      step_bt: `[B, T]` index of the reasoning step of each token, from 0; −1 outside the reasoning.
      scale: as in `group_normalize`.
      eps: as in `group_normalize`, in nats.

    Returns:
      advantage_bt `[B, T]`, 0 outside the reasoning.

    References:
      arXiv 2602.01034.
    """
    advantage_qg = group_normalize(reward_qg, jnp.ones_like(reward_qg, bool), scale=scale, eps=eps)
    return jnp.where(step_bt >= 0, advantage_qg.reshape(-1, 1), 0.0)


def step_credit(
    gain_qgk: jax.Array, valid_qgk: jax.Array, step_bt: jax.Array, *, scale: str = "group_std", eps: float = 1e-6
) -> jax.Array:
    """Return the normalized gain-to-go of its reasoning step on every token of the reasoning.

        Gₖ = Σ_{j≥k} gⱼ        Aₖ = (Gₖ − mean_G Gₖ) / (std_G Gₖ + ε)

    Step k of a response is compared with step k of the other responses of its group that have one. Each position has
    its own baseline because later steps have less left to gain.

    Args:
      gain_qgk: `[Q, G, K]` gain of each step, in nats; 0 at padding.
      valid_qgk: `[Q, G, K]` bool, False at padding.
      step_bt: `[B, T]` index of the reasoning step of each token, from 0; −1 outside the reasoning; B = Q·G.
      scale: as in `group_normalize`.
      eps: as in `group_normalize`, in nats.

    Returns:
      advantage_bt `[B, T]`, 0 outside the reasoning.
    """
    chex.assert_rank([gain_qgk, valid_qgk, step_bt], [3, 3, 2])
    to_go_qgk = jnp.cumsum(gain_qgk[..., ::-1], axis=-1)[..., ::-1]
    normalize = functools.partial(group_normalize, scale=scale, eps=eps)
    advantage_qgk = jax.vmap(normalize, in_axes=2, out_axes=2)(to_go_qgk, valid_qgk)
    advantage_bk = advantage_qgk.reshape(-1, gain_qgk.shape[2])
    advantage_bt = jnp.take_along_axis(advantage_bk, jnp.maximum(step_bt, 0), axis=1)
    return jnp.where(step_bt >= 0, advantage_bt, 0.0)
