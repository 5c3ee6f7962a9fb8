"""pass@k on a hand-made table."""

import itertools

import pytest

from mig_jax.evaluate import pass_at_k


# All 3 subsets of 2 of 3 samples, 1 of which is right: 2 of them hold it.
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


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="pass@5 cannot be told from 4"):
        pass_at_k(1, 4, 5)
