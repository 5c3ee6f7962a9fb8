"""Micro-batches: how rows are split, and what cannot be split."""

import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.learning.microbatches import split_microbatches, sum_gradients


def test_split_keeps_the_rows_of_a_question_with_its_images():
    """4 questions of 2 rows are dealt out to 2 parts: questions 0 and 2, then 1 and 3."""
    rows_b, images_q = jnp.arange(8), jnp.arange(4)[:, None]
    split_b, split_q = split_microbatches((rows_b, images_q), 2)
    np.testing.assert_array_equal(split_b, [[0, 1, 4, 5], [2, 3, 6, 7]])
    np.testing.assert_array_equal(split_q, [[[0], [2]], [[1], [3]]])
    np.testing.assert_array_equal(split_microbatches(rows_b, 2), [[0, 2, 4, 6], [1, 3, 5, 7]])


def test_split_reports_all_rows_that_do_not_fit():
    message = r"4 rows cannot be split into 3 .*; 6 rows are no multiple of 4; .*\[4, 6, 8\]"
    with pytest.raises(ValueError, match=message):
        split_microbatches([jnp.zeros(8), jnp.zeros(4), jnp.zeros(6)], 3)


def test_sum_accumulates_in_float32():
    """257 is no bfloat16: a total of 256 would not change by 1."""
    rows = (jnp.ones(257, jnp.bfloat16),)
    assert float(sum_gradients(lambda x: x.sum(), rows, 257)) == 257
