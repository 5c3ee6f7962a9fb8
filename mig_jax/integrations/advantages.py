"""Process advantages of tokens in numpy: the results of `mig_jax.learning.advantages`, which is the reference."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mig_jax.errors import UserError


def process_advantages(
    reward_qg: np.ndarray,
    gain_qgk: np.ndarray,
    valid_qgk: np.ndarray,
    step_bt: np.ndarray,
    *,
    level: str,
    discount: float,
    advantage: str,
    scale: str,
    eps: float,
    valid_qg: np.ndarray | None = None,
) -> np.ndarray:
    """Return the normalized process reward on every token of the reasoning, `[B, T]`, 0 elsewhere.

    Args:
      reward_qg: `[Q, G]` process rewards, in the unit of the credit rule; B = Q·G.
      gain_qgk: `[Q, G, K]` gain of each step.
      valid_qgk: `[Q, G, K]` bool, False at padding.
      step_bt: `[B, T]` step of each token of the process stream, −1 elsewhere; see `ParsedCompletion`.
      level: "trajectory" or "step", as `reward.credit_level` of the config.
      discount, advantage, scale, eps: as in `advantages.step_credit`.
      valid_qg: `[Q, G]` bool; samples marked False have no part in their group and get 0; None if all count.

    Raises:
      UserError: `level`, `advantage` or `scale` is unknown.
    """
    for key, value, table in (
        ("credit_level", level, LEVELS),
        ("advantage", advantage, _BASELINES),
        ("process_scale", scale, _SCALES),
    ):
        if value not in table:
            raise UserError(f"unknown {key} {value!r}; choose one of {', '.join(table)}")
    valid_qg = np.ones(reward_qg.shape, bool) if valid_qg is None else valid_qg
    # By trajectory there is one decision, whose value is the whole reward; by step, one for each step and the closing.
    value_qgk = reward_qg[..., None] if level == "trajectory" else _gains_to_go(gain_qgk, valid_qgk, discount)
    counts_qgk = np.broadcast_to(valid_qg[..., None], value_qgk.shape)
    centered_qgk = _BASELINES[advantage](value_qgk, counts_qgk)
    deviation_qgk = centered_qgk if advantage == "no_baseline" else _group_mean(value_qgk, counts_qgk)
    if level == "step":  # the closing has no spread of its own
        deviation_qgk, counts_qgk = deviation_qgk[..., :-1], valid_qgk & valid_qg[..., None]
    advantage_bk = (centered_qgk / _SCALES[scale](deviation_qgk, counts_qgk, eps)).reshape(len(step_bt), -1)
    index_bt = np.zeros_like(step_bt) if level == "trajectory" else np.maximum(step_bt, 0)
    return np.where(step_bt >= 0, np.take_along_axis(advantage_bk, index_bt, axis=1), 0.0)


LEVELS = ("trajectory", "step")


def _gains_to_go(gain_qgk: np.ndarray, valid_qgk: np.ndarray, discount: float) -> np.ndarray:
    """Return Gₖ = gₖ + λ Gₖ₊₁ for k = 0 … K, `[Q, G, K + 1]`; G_K is 0."""
    to_go_qgk = np.pad(np.where(valid_qgk, gain_qgk, 0.0), ((0, 0), (0, 0), (0, 1)))
    for k in reversed(range(gain_qgk.shape[2])):
        to_go_qgk[..., k] += discount * to_go_qgk[..., k + 1]
    return to_go_qgk


def _group_mean(value: np.ndarray, valid: np.ndarray) -> np.ndarray:
    # Shifted by the maximum first, so that equal rewards give exactly 0; 0 where nothing counts.
    highest = np.where(valid, value, -np.inf).max(1, keepdims=True)
    shifted = np.where(valid, value - np.where(np.isfinite(highest), highest, 0.0), 0.0)
    return np.where(valid, shifted - shifted.sum(1, keepdims=True) / np.maximum(valid.sum(1, keepdims=True), 1), 0.0)


def _leave_one_out(value: np.ndarray, valid: np.ndarray) -> np.ndarray:
    count = valid.sum(1, keepdims=True)
    return _group_mean(value, valid) * (count / np.maximum(count - 1, 1))


def _root_mean_square(x: np.ndarray, valid: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    total = np.where(valid, np.square(x), 0.0).sum(axis, keepdims=True)
    return np.sqrt(total / np.maximum(valid.sum(axis, keepdims=True), 1))


_BASELINES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "group_mean": _group_mean,
    "leave_one_out": _leave_one_out,
    "no_baseline": lambda value, valid: np.where(valid, value, 0.0),
}

_SCALES: dict[str, Callable[[np.ndarray, np.ndarray, float], Any]] = {
    "group_std": lambda x, valid, eps: _root_mean_square(x, valid, (1, 2)) + eps,
    "batch_std": lambda x, valid, eps: _root_mean_square(x, valid, (0, 1, 2)) + eps,
    "none": lambda x, valid, eps: 1.0,
}
