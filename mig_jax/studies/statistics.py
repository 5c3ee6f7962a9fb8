"""Statistics over seeds and problems: paired bootstrap intervals, Holm's correction, rank correlations.

Shapes: `S` seeds, `Q` problems, `N` states. Resamples draw seeds and problems with replacement, independently of each
other, and the same ones for both arms of a pair: what a seed or a problem does to both arms cancels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES, SEED = 2000, 0
PERCENTILES = (2.5, 97.5)


class Interval(NamedTuple):
    """A statistic with its 95 % percentile bootstrap interval, and the two-sided p-value of its being 0."""

    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(value_sq: np.ndarray) -> Interval:
    """Return the mean over seeds and problems `[S, Q]`, both resampled.

    With one seed, only problems are resampled: the interval is then about this seed.
    """
    value_sq = np.atleast_2d(np.asarray(value_sq, float))
    rng = np.random.default_rng(SEED)
    n_seeds, n_problems = value_sq.shape
    weight_rs = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=RESAMPLES) / n_seeds
    weight_rq = rng.multinomial(n_problems, np.full(n_problems, 1 / n_problems), size=RESAMPLES) / n_problems
    mean_r = np.einsum("rs,sq,rq->r", weight_rs, value_sq, weight_rq, optimize=True)
    return _interval(float(value_sq.mean()), mean_r)


def paired_difference(a_sq: np.ndarray, b_sq: np.ndarray) -> Interval:
    """Return the mean of a − b, `[S, Q]` each: the same seeds and problems, in the same order.

    Raises:
      ValueError: the shapes differ.
    """
    if np.shape(a_sq) != np.shape(b_sq):
        raise ValueError(f"pairs need the same seeds and problems, got {np.shape(a_sq)} and {np.shape(b_sq)}")
    return mean_interval(np.asarray(a_sq, float) - np.asarray(b_sq, float))


def clustered(statistic: Callable[..., float], cluster_n: Sequence[int] | np.ndarray, *columns: np.ndarray) -> Interval:
    """Return a statistic of states; for its interval problems are resampled, as states of one depend on each other.

    Args:
      statistic: of the columns, `[N]` each.
      cluster_n: `[N]` the problem of each state.
      *columns: `[N]` values of the states.
    """
    _, cluster_n = np.unique(np.asarray(cluster_n), return_inverse=True)
    members = [np.flatnonzero(cluster_n == cluster) for cluster in range(cluster_n.max() + 1)]
    rng = np.random.default_rng(SEED)
    resampled = []
    for _ in range(RESAMPLES // 4):
        rows = np.concatenate([members[c] for c in rng.integers(len(members), size=len(members))])
        resampled.append(statistic(*(column[rows] for column in columns)))
    return _interval(statistic(*columns), np.array(resampled))


def _interval(mean: float, resampled: np.ndarray) -> Interval:
    known = resampled[np.isfinite(resampled)]
    if not known.size:
        return Interval(mean, float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(known, PERCENTILES)
    # Ties count for both sides, and a bootstrap cannot tell less than one in its number of resamples.
    tail = (1 + min((known <= 0).sum(), (known >= 0).sum())) / (1 + known.size)
    return Interval(mean, float(low), float(high), float(min(1.0, 2 * tail)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method.

    References:
      S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979).
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def pearson(x_n: np.ndarray, y_n: np.ndarray) -> float:
    """Return Pearson's correlation; nan if either is constant."""
    if np.ptp(x_n) == 0 or np.ptp(y_n) == 0:
        return float("nan")
    return float(np.corrcoef(x_n, y_n)[0, 1])


def spearman(x_n: np.ndarray, y_n: np.ndarray) -> float:
    """Return Spearman's rank correlation; nan if either is constant."""
    return pearson(stats.rankdata(x_n), stats.rankdata(y_n))


def kendall(x_n: np.ndarray, y_n: np.ndarray) -> float:
    """Return Kendall's τ-b; nan if either is constant."""
    if np.ptp(x_n) == 0 or np.ptp(y_n) == 0:
        return float("nan")
    return float(stats.kendalltau(x_n, y_n)[0])  # pyright: ignore[reportArgumentType]  # a result object


def partial_spearman(x_n: np.ndarray, y_n: np.ndarray, given_n: np.ndarray) -> float:
    """Return the rank correlation of x and y given a third: that of the residuals of ranks on its ranks."""
    xy, xz, yz = spearman(x_n, y_n), spearman(x_n, given_n), spearman(y_n, given_n)
    scale = np.sqrt((1 - xz**2) * (1 - yz**2))
    return float((xy - xz * yz) / scale) if scale > 1e-9 else float("nan")
