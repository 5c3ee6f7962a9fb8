"""pass@k, majority vote and bootstrap intervals on hand-made tables."""

import itertools
import math

import numpy as np
import pytest

from mig_jax.records.eval_statistics import bootstrap_interval, majority_correct, pass_at_k, pass_at_k_q, reported_ks

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
def test_constant_values_have_an_interval_of_zero_width(values):
    assert bootstrap_interval(np.array(values)) == pytest.approx((values[0], values[0]))
