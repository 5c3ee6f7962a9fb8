"""Likelihoods, watermark and credit in numpy: the same results as the jax functions of these names, without jax.

For trainers in torch, and for the host. Functions that take one response in jax take any leading axes here. The jax
functions are the reference; tests compare both.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mig_jax.rewards import credit_args
from mig_jax.rewards.arrays import Credit, Group


def answer_likelihood(
    logprob_kay: ArrayLike, scored_ay: ArrayLike, *, over_tokens: str = "mean_logprob", over_spellings: str = "max"
) -> np.ndarray:
    """Return ℓ_k `[…, K+1]` from `[…, K+1, A, Y]` and `[…, A, Y]`; see `mig_jax.rewards.answer_likelihood`."""
    for key, value, table in (
        ("over_tokens", over_tokens, _OVER_TOKENS),
        ("over_spellings", over_spellings, _OVER_SPELLINGS),
    ):
        if value not in table:
            raise ValueError(f"unknown {key} {value!r}; choose one of {', '.join(table)}")
    scored_kay = np.asarray(scored_ay, bool)[..., None, :, :]
    ell_ka = _OVER_TOKENS[over_tokens](np.asarray(logprob_kay, np.float32), scored_kay)
    return _OVER_SPELLINGS[over_spellings](np.where(scored_kay.any(-1), ell_ka, -np.inf))


def watermark_gains(ell_k: ArrayLike, valid_k: ArrayLike, *, threshold: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return gain_k `[…, K]` and watermark_k `[…, K+1]`, in nats; see `mig_jax.rewards.watermark_gains`."""
    ell_k, valid_k = np.asarray(ell_k, np.float32), np.asarray(valid_k, bool)
    gain_k, watermark_k = np.zeros_like(ell_k[..., 1:]), ell_k.copy()
    for k in range(1, ell_k.shape[-1]):
        ell, mark = ell_k[..., k], watermark_k[..., k - 1]
        rises = valid_k[..., k] & (ell > mark + threshold)
        gain_k[..., k - 1] = np.where(rises, ell - mark - threshold, 0.0)
        watermark_k[..., k] = np.where(rises, ell, mark)
    return gain_k, watermark_k


def watermark_falls(ell_k: ArrayLike, valid_k: ArrayLike, *, threshold: float = 0.0) -> np.ndarray:
    """Return max(0, hₖ − ℓₖ) `[…, K+1]`, in nats; see `mig_jax.rewards.watermark_falls`."""
    _, watermark_k = watermark_gains(ell_k, valid_k, threshold=threshold)
    last = np.asarray(valid_k, bool).sum(-1, keepdims=True) - 1
    held_k = np.take_along_axis(np.asarray(ell_k), np.minimum(np.arange(watermark_k.shape[-1]), last), axis=-1)
    return np.maximum(0.0, watermark_k - held_k)


def make_credit(name: str, **args: Any) -> Callable[[Group], Credit]:
    """Return a credit rule as a function of one group of numpy arrays; see `mig_jax.rewards.make_credit`.

    Raises:
      ValueError: the rule or a parameter is unknown, or out of range.
    """
    errors = credit_args.errors(name, args, RULES, _GATES)
    if errors:
        raise ValueError("; ".join(errors))
    own, shared = credit_args.split(args, RULES[name])

    def credit(given: Group) -> Credit:
        group: Any = given._replace(**{key: np.asarray(value) for key, value in given._asdict().items()})
        fall_g = watermark_falls(group.ell_gk, group.valid_gk, threshold=own.get("threshold", 0.0))[:, -1]
        is_paid_g = _GATES[shared["gate"]](group, fall_g, shared["gate_tolerance"])
        is_first_k = np.arange(group.ell_gk.shape[1]) == 0
        paid = group._replace(valid_gk=group.valid_gk & (is_paid_g[:, None] | is_first_k[None]))
        earned = RULES[name](paid, **own)
        price_gk = shared["step_price"] * group.steps_gk + shared["excess_step_price"] * _excess_steps(group)
        price_gk = np.where(paid.valid_gk[:, 1:], price_gk, 0.0)
        return Credit(earned.reward_g - price_gk.sum(1), earned.gain_gk - price_gk)

    return credit


def _watermark(group: Any, *, threshold: float = 0.0, drawdown: float = 0.0) -> Credit:
    gain_gk, _ = watermark_gains(group.ell_gk, group.valid_gk, threshold=threshold)
    falls_gk = watermark_falls(group.ell_gk, group.valid_gk, threshold=threshold)
    return _sum_of(gain_gk - drawdown * np.diff(falls_gk))


def _final(group: Any) -> Credit:
    gain_gk = _signed_changes(group.ell_gk, group.valid_gk)
    return Credit(group.ell_gk[:, 0] + gain_gk.sum(1), gain_gk)


def _delta_sum(group: Any) -> Credit:
    return _sum_of(_signed_changes(group.ell_gk, group.valid_gk))


def _position_weighted(group: Any) -> Credit:
    valid_gk = group.valid_gk[:, 1:]
    weight_gk = np.where(valid_gk, np.arange(1, group.ell_gk.shape[1])[None], 0)
    rise_gk = np.where(valid_gk, group.ell_gk[:, 1:] - group.ell_gk[:, :1], 0.0)
    return _sum_of(rise_gk * weight_gk / np.maximum(weight_gk.sum(1, keepdims=True), 1))


def _segment_progress(group: Any) -> Credit:
    return _sum_of(_signed_changes(np.exp(group.ell_gk), group.valid_gk))


# The rules of `mig_jax.rewards.CREDITS`, with the same parameters.
RULES: dict[str, Callable[..., Credit]] = {
    "watermark": _watermark,
    "final": _final,
    "delta_sum": _delta_sum,
    "position_weighted": _position_weighted,
    "segment_progress": _segment_progress,
}

_GATES: dict[str, Callable[[Group, np.ndarray, float], Any]] = {
    "all": lambda group, fall_g, tolerance: np.ones(len(fall_g), bool),
    "correct": lambda group, fall_g, tolerance: np.asarray(group.is_correct_g, bool),
    "kept": lambda group, fall_g, tolerance: fall_g <= tolerance,
}


def _sum_of(gain_gk: Any) -> Credit:
    return Credit(gain_gk.sum(1), gain_gk)


def _signed_changes(value_gk: Any, valid_gk: Any) -> Any:
    return np.where(valid_gk[:, 1:], value_gk[:, 1:] - value_gk[:, :-1], 0.0)


def _excess_steps(group: Any) -> Any:
    count_gk = np.cumsum(np.where(group.valid_gk[:, 1:], group.steps_gk, 0), axis=1)
    excess_gk = np.maximum(0, count_gk * len(count_gk) - count_gk[:, -1].sum()) / len(count_gk)
    return np.diff(excess_gk, axis=1, prepend=0.0)


def _logsumexp(x: np.ndarray) -> np.ndarray:
    """Return the log-sum-exp over the last axis; −∞ where all entries are."""
    highest = x.max(-1, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x - highest).sum(-1)) + highest[..., 0]


def _total(logprob_kay: np.ndarray, scored_kay: np.ndarray) -> np.ndarray:
    return np.where(scored_kay, logprob_kay, 0.0).sum(-1)


def _length(scored_kay: np.ndarray) -> np.ndarray:
    return np.maximum(scored_kay.sum(-1), 1)


_OVER_TOKENS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean_logprob": lambda logprob_kay, scored_kay: _total(logprob_kay, scored_kay) / _length(scored_kay),
    "mean_prob": lambda logprob_kay, scored_kay: (
        _logsumexp(np.where(scored_kay, logprob_kay, -np.inf)) - np.log(_length(scored_kay))
    ),
    "sum_logprob": _total,
}

_OVER_SPELLINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "max": lambda ell_ka: ell_ka.max(-1),
    "logsumexp": _logsumexp,
}
