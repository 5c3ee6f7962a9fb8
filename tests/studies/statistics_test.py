"""Intervals that hold what they should, Holm's correction, and correlations."""

import numpy as np
import pytest
from scipy import stats

from mig_jax.studies import statistics


def test_mean_interval_covers_seeds_and_problems():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        seed_s, problem_q = rng.normal(0, 0.3, (8, 1)), rng.normal(0, 0.3, (1, 30))
        found = statistics.mean_interval(seed_s + problem_q + rng.normal(0, 0.3, (8, 30)))
        covered += found.low <= 0 <= found.high
    assert 82 <= covered <= 99  # a few seeds make it a little narrow


def test_pairs_cancel_what_they_share():
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 5, (3, 40))
    found = statistics.paired_difference(shared + 0.5 + rng.normal(0, 0.1, (3, 40)), shared)
    assert 0.4 < found.low < 0.5 < found.high < 0.6 and found.p < 0.01
    with pytest.raises(ValueError, match="same seeds and problems"):
        statistics.paired_difference(shared, shared[:2])


def test_nothing_that_varies_is_no_evidence():
    found = statistics.mean_interval(np.zeros((2, 5)))
    assert found == (0.0, 0.0, 0.0, 1.0)


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0] and statistics.holm([]) == []


def test_correlations_are_scipys():
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 5, 50).astype(float), rng.normal(size=50)
    assert statistics.spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0])
    assert statistics.kendall(x, y) == pytest.approx(stats.kendalltau(x, y)[0])
    assert np.isnan(statistics.spearman(np.ones(5), np.arange(5.0)))


def test_partial_correlation_removes_what_is_given():
    rng = np.random.default_rng(3)
    given = rng.normal(size=2000)
    x, y = given + rng.normal(size=2000), given + rng.normal(size=2000)
    assert statistics.spearman(x, y) > 0.4 and abs(statistics.partial_spearman(x, y, given)) < 0.06


def test_clusters_widen_intervals():
    rng = np.random.default_rng(4)
    cluster_n = np.repeat(np.arange(10), 20)
    x = rng.normal(size=10)[cluster_n] + rng.normal(size=200) / 10
    y = rng.normal(size=10)[cluster_n] + rng.normal(size=200) / 10
    by_cluster = statistics.clustered(statistics.spearman, cluster_n, x, y)
    by_state = statistics.clustered(statistics.spearman, np.arange(200), x, y)
    assert by_cluster.high - by_cluster.low > 1.5 * (by_state.high - by_state.low)
