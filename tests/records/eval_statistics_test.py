"""pass@k, majority vote and confidence intervals on hand-made tables."""

import itertools
import math

import numpy as np
import pytest

from mig_jax.records.eval_statistics import (
    bootstrap_interval,
    estimate_mean,
    majority_correct,
    pass_at_k,
    pass_at_k_q,
    reported_ks,
    wilson_interval,
)

# Right, wrong, undecided.
R, W, U = 1.0, 0.0, np.nan


# Of 3 samples, 1 is correct. It is in 2 of the 3 subsets of 2 samples.
@pytest.mark.parametrize(
    "n_correct, n, k, expected", [(1, 3, 2, 2 / 3), (0, 4, 2, 0), (4, 4, 1, 1), (3, 4, 2, 1), (2, 4, 1, 0.5)]
)
def test_pass_at_k_by_hand(n_correct, n, k, expected):
    assert pass_at_k(n_correct, n, k) == pytest.approx(expected)


@pytest.mark.parametrize("n_correct", range(7))
@pytest.mark.parametrize("k", range(1, 7))
def test_pass_at_k_is_the_mean_over_all_subsets(n_correct, k):
    samples = [True] * n_correct + [False] * (6 - n_correct)
    subsets = list(itertools.combinations(samples, k))
    assert pass_at_k(n_correct, 6, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_of_more_than_n_samples_is_an_error():
    with pytest.raises(ValueError, match="pass@5 cannot be estimated from 4"):
        pass_at_k(1, 4, 5)


def test_pass_at_k_is_estimated_from_decided_samples():
    correct_qn = np.array([[R, W, W, W], [W, W, W, W], [R, R, W, W], [R, W, U, W], [U, U, U, R]])
    expected = [1 - math.comb(4 - c, 2) / math.comb(4, 2) for c in (1, 0, 2)] + [1 - math.comb(2, 2) / math.comb(3, 2)]
    np.testing.assert_allclose(pass_at_k_q(correct_qn, 2), [*expected, np.nan])
    # Of all 4 samples one is right, whatever the undecided ones are.
    np.testing.assert_allclose(pass_at_k_q(correct_qn, 4), [1, 0, 1, 1, 1])


@pytest.mark.parametrize("k", range(1, 5))
def test_pass_at_k_is_left_out_only_where_undecided_samples_matter(k):
    for samples in itertools.product([R, W, U], repeat=4):
        correct_n, undecided = np.array(samples), samples.count(U)
        completed = [pass_at_k(samples.count(R) + extra, 4, k) for extra in range(undecided + 1)]
        (value,) = pass_at_k_q(correct_n[None], k)
        if completed[0] == completed[-1]:
            assert value == completed[0], samples
        elif 4 - undecided < k:
            assert np.isnan(value), samples
        else:
            assert value == pass_at_k(samples.count(R), 4 - undecided, k), samples


@pytest.mark.parametrize("n, expected", [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_reported_ks(n, expected):
    assert reported_ks(n) == expected


@pytest.mark.parametrize(
    "votes, correct, expected",
    [
        (["4", "5", "4"], [R, W, R], 1),
        (["4", "5", "5"], [R, W, W], 0),
        (["4", "5"], [R, W], 1 / 2),
        (["4", "5", "6", "7", "4", "5", "6"], [R, W, W, W, R, W, W], 1 / 3),
        (["", "", "", "4"], [W, W, W, R], 1),
        (["", ""], [W, W], 0),
        (["5"], [U], U),
        (["4", "4", "5"], [U, R, W], 1),
        (["4", "5", "5"], [R, U, U], U),
        (["4", "4", "5"], [R, R, U], 1),
        (["4", "5"], [R, U], U),
    ],
)
def test_majority_correct_by_hand(votes, correct, expected):
    np.testing.assert_allclose(majority_correct(votes, np.array(correct)), expected)


@pytest.mark.parametrize("share", [0.02, 0.4, 0.5, 0.97])
def test_interval_contains_the_mean_and_has_the_theoretical_width(share):
    values = (np.arange(500) < 500 * share).astype(float)
    low, high = bootstrap_interval(values)
    assert low < share < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(share * (1 - share) / 500), rel=0.1)


def test_interval_shrinks_with_more_problems_and_is_deterministic():
    values = np.tile([0.0, 1.0, 0.25, 0.75, 0.5], 4)
    widths = [np.subtract(*bootstrap_interval(np.tile(values, times))[::-1]) for times in (1, 4, 16)]
    assert widths[0] > 1.6 * widths[1] > 1.6 * 1.6 * widths[2] > 0
    assert bootstrap_interval(values) == bootstrap_interval(np.random.default_rng(3).permutation(values))


@pytest.mark.parametrize("values", [[0.0], [1.0], [1 / 3] * 7, [0.0] * 50])
def test_bootstrap_of_constant_values_has_zero_width(values):
    assert bootstrap_interval(np.array(values)) == pytest.approx((values[0], values[0]))


# z² / (n + z²) with z² = 3.8415, as in 3.8415 / 11.8415 = 0.3244.
@pytest.mark.parametrize("n, high", [(1, 0.7935), (4, 0.4899), (8, 0.3244), (100, 0.0370), (256, 0.0148)])
def test_interval_of_none_and_of_all_by_hand(n, high):
    none, every = estimate_mean(np.zeros(n)), estimate_mean(np.ones(n))
    assert (none["mean"], none["low"]) == (0, 0) and none["high"] == pytest.approx(high, abs=5e-5)
    assert (every["mean"], every["high"]) == (1, 1) and every["low"] == pytest.approx(1 - high, abs=5e-5)


@pytest.mark.parametrize(
    "n_correct, n, low, high", [(1, 10, 0.0179, 0.4042), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)]
)
def test_wilson_interval_by_hand(n_correct, n, low, high):
    """The last row is Newcombe's example (Statistics in Medicine 17, 1998, table I)."""
    assert wilson_interval(n_correct / n, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("mean, n", [(1 / 4, 7), (0.9, 20), (0.0, 3), (1.0, 3)])
def test_wilson_interval_has_the_shares_whose_normal_interval_contains_the_mean(mean, n):
    p = np.linspace(0, 1, 100_001)
    inside = p[np.abs(mean - p) <= 1.959964 * np.sqrt(p * (1 - p) / n)]
    assert wilson_interval(mean, n) == pytest.approx((inside[0], inside[-1]), abs=2e-5)


def test_only_known_problems_count_in_an_interval_of_equal_values():
    assert estimate_mean(np.array([W, W, U])) == {
        "mean": 0, "low": 0, "high": pytest.approx(wilson_interval(0.0, 2)[1]), "undecided": 1
    }  # fmt: skip
    assert estimate_mean(np.full(3, U)) == {"mean": None, "low": None, "high": None, "undecided": 3}


def test_equal_values_between_0_and_1_have_an_interval_too():
    """Half of the samples of each problem are right: seven problems do not make that exact."""
    estimate = estimate_mean(np.full(7, 0.5))
    assert (estimate["low"], estimate["high"]) == pytest.approx(wilson_interval(0.5, 7))
    assert estimate["low"] < 0.3 and estimate["high"] > 0.7
    third = estimate_mean(np.full(7, 1 / 3))
    assert third["low"] <= third["mean"] <= third["high"]


def test_values_that_differ_keep_the_bootstrap_interval():
    values = np.array([W] * 9 + [R])
    estimate = estimate_mean(values)
    assert (estimate["low"], estimate["high"]) == bootstrap_interval(values)
