"""Statistics of graded samples: pass@k, majority vote, and means with confidence intervals.

Shapes: `Q` problems, `n` samples of each. `correct_qn` is 1 where a sample is correct, 0 where it is wrong, and nan
where it is undecided. `value_q` is the contribution of each problem to a mean, nan where it is unknown.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

RESAMPLES, SEED = 2000, 0
PERCENTILES = (2.5, 97.5)
Z = 1.959964  # the 97.5th percentile of the standard normal distribution


class Estimate(TypedDict):
    """A mean over problems, ready for JSON.

    mean, low, high: the mean of the known values and its 95 % confidence interval; None when no value is known.
    undecided: number of problems whose value is unknown; they are excluded from the mean.
    """

    mean: float | None
    low: float | None
    high: float | None
    undecided: int


def estimate_mean(value_q: np.ndarray) -> Estimate:
    """Estimate the mean of the known values, which are from 0 to 1.

    The interval is a bootstrap over problems. Where all known values are equal, as where no problem is solved, every
    resample has the same mean; the interval is then Wilson's, with the number of known problems as n.
    """
    known = value_q[~np.isnan(value_q)]
    undecided = value_q.size - known.size
    if not known.size:
        return {"mean": None, "low": None, "high": None, "undecided": undecided}
    is_constant = known.min() == known.max()
    low, high = wilson_interval(float(known[0]), known.size) if is_constant else bootstrap_interval(known)
    return {"mean": float(known.mean()), "low": low, "high": high, "undecided": undecided}


def bootstrap_interval(value_q: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean over problems.

    A resample draws Q problems with replacement, each with all its samples. Its mean depends only on how often each
    distinct value is drawn, so these counts are drawn directly, from a multinomial, for all resamples at once.
    """
    values, counts = np.unique(value_q, return_counts=True)
    drawn = np.random.default_rng(SEED).multinomial(value_q.size, counts / value_q.size, size=RESAMPLES)
    low, high = np.percentile(drawn @ values / value_q.size, PERCENTILES)
    return float(low), float(high)


def wilson_interval(mean: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share: all p with |mean − p| ≤ z √(p (1 − p) / n).

    For no success it is [0, z² / (n + z²)]: [0, 0.32] for 8 problems, [0, 0.037] for 100. Values between 0 and 1 vary
    less than successes and failures of the same mean, so for them it is too wide rather than too narrow.

    Args:
      mean: the share, or the mean of values from 0 to 1.
      n: number of problems, not of samples: samples of one problem depend on each other.

    References:
      E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    center = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(mean * (1 - mean) / n + (Z / (2 * n)) ** 2)
    # Exactly 0 and 1 at the ends, and never beyond the mean, whatever the rounding.
    return max(0.0, min(mean, center - half)), min(1.0, max(mean, center + half))


def mean_decided(correct_n: np.ndarray) -> float:
    """Return the share of correct samples among the decided ones, or nan if none is decided."""
    decided = correct_n[~np.isnan(correct_n)]
    return float(decided.mean()) if decided.size else np.nan


def reported_ks(n: int) -> list[int]:
    """Return the k for which pass@k is reported: the powers of 2 up to n, and n."""
    return sorted({*(2**i for i in range(n.bit_length())), n})


def pass_at_k(n_correct: int, n: int, k: int) -> float:
    """Return the probability that at least one of k samples is correct, unbiased from n ≥ k samples.

    pass@k = 1 − C(n−c, k) / C(n, k), with c correct samples.

    Raises:
      ValueError: k is not from 1 to n.

    References:
      arXiv 2107.03374, section 2.1.
    """
    if not 0 < k <= n:
        raise ValueError(f"pass@{k} cannot be estimated from {n} samples")
    wrong = np.arange(n - n_correct - k + 1, n - n_correct + 1)
    return 1.0 if n - n_correct < k else 1.0 - float(np.prod(wrong / np.arange(n - k + 1, n + 1)))


def pass_at_k_q(correct_qn: np.ndarray, k: int) -> np.ndarray:
    """Return pass@k of each problem, `[Q]`.

    It is estimated from the decided samples, if there are k. With fewer it is 1 if any k samples contain a correct one,
    even if all undecided samples are wrong; else nan.
    """
    n, decided_q, correct_q = correct_qn.shape[1], (~np.isnan(correct_qn)).sum(1), np.nansum(correct_qn, 1)
    is_certain_q = (n - correct_q < k) & (decided_q < k)
    values = zip(correct_q.astype(int), np.where(is_certain_q, n, decided_q), strict=True)
    return np.array([pass_at_k(int(c), int(of), k) if of >= k else np.nan for c, of in values])


def majority_correct(votes: Sequence[str], correct_n: np.ndarray) -> float:
    """Return 1 if the most frequent answer is correct, else 0; among tied answers, the share that is correct.

    Args:
      votes: `[n]` normalized answer of each sample; "" if it has none, which is not counted.
      correct_n: `[n]` whether each sample is correct.

    Returns:
      A number from 0 to 1; 0 if there are no votes, nan if all samples of a leading answer are undecided.
    """
    correct_by_answer = defaultdict(list)
    for vote, correct in zip(votes, correct_n, strict=True):
        if vote:
            correct_by_answer[vote].append(correct)
    most = max(map(len, correct_by_answer.values()), default=0)
    leading = [mean_decided(np.array(c)) for c in correct_by_answer.values() if len(c) == most]
    return float(np.mean(leading)) if leading else 0.0
