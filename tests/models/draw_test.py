"""Tokens drawn by inverse CDF: their frequencies, their log-probs, and what is never drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.aot.collectives import read_collectives
from mig_jax.distributed import sharding
from mig_jax.models.draw import draw_tokens
from mig_jax.models.sampler import _random_numbers

# The greatest number below 1 that jax.random.uniform returns.
ALMOST_ONE = 1 - 2**-23


def log_of(weight_v):
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(weight_v, np.float32))


def test_numbers_choose_ids_in_order():
    """Weights in eighths in two blocks: the first number chooses the block, the second the id within it."""
    weight_v = np.zeros(201)
    weight_v[[3, 70, 130, 131, 199]] = 4, 2, 0.5, 0.5, 1
    first, second = [0.0, 0.74, 0.76, ALMOST_ONE], [0.0, 0.3, 0.7, ALMOST_ONE]
    uniform_b2 = np.array([[u, v] for u in first for v in second])
    token_b, logprob_b = jax.jit(draw_tokens)(np.tile(log_of(weight_v), (16, 1)), uniform_b2)
    np.testing.assert_array_equal(token_b, 2 * [3, 3, 70, 70] + 2 * [130, 131, 199, 199])
    np.testing.assert_allclose(logprob_b, np.log(weight_v[token_b] / 8), atol=1e-6)


@pytest.mark.parametrize("vocab", [19, 300])
def test_frequencies_follow_the_softmax(vocab):
    """χ² of 3,000 rows over each of three seeds, at a significance of 0.001."""
    rows = 3_000
    logit_v = 1.5 * np.random.default_rng(0).normal(size=vocab).astype(np.float32)
    logit_v[::7] = -np.inf
    expected_v = np.asarray(jax.nn.softmax(logit_v)) * rows
    draw = jax.jit(lambda key: draw_tokens(jnp.tile(logit_v, (rows, 1)), _random_numbers(key, jnp.arange(rows)))[0])
    is_possible_v, is_common_v = expected_v > 0, expected_v > 5
    for seed in range(3):
        count_v = np.bincount(draw(jax.random.key(seed)), minlength=vocab)
        assert not count_v[~is_possible_v].any()
        # Rare ids count as one.
        observed, expected = (np.append(x[is_common_v], x[~is_common_v].sum() + 1e-9) for x in (count_v, expected_v))
        freedom = is_common_v.sum()
        chi_square = ((observed - expected) ** 2 / expected).sum()
        assert chi_square < freedom + 3.1 * np.sqrt(2 * freedom) + 6


def test_ids_without_probability_are_never_drawn():
    """Also not where cumulative weights differ by rounding alone, at the ends, or in the padding of a block."""
    rng = np.random.default_rng(0)
    logit_bv = 3 * rng.normal(size=(512, 1000)).astype(np.float32)
    logit_bv[rng.random(logit_bv.shape) < 0.9] = -np.inf
    logit_bv[:, 500] = 0  # at least one
    uniform_b2 = rng.choice([0.0, 1e-7, 0.5, ALMOST_ONE], size=(512, 2)).astype(np.float32)
    token_b, logprob_b = jax.jit(draw_tokens)(logit_bv, uniform_b2)
    assert np.isfinite(logit_bv[np.arange(512), token_b]).all()
    expected_bv = jax.nn.log_softmax(logit_bv)
    np.testing.assert_allclose(logprob_b, np.asarray(expected_bv)[np.arange(512), token_b], atol=2e-6)


@pytest.mark.parametrize("rare", [-25.0, -60.0, -87.5])
def test_numbers_at_the_ends_choose_no_rare_id(rare):
    """All ids around two of equal weight are rare, some so much that their weights are no normal numbers."""
    logit_v = np.full(400, rare, np.float32)
    logit_v[[200, 201]] = 0
    uniform_b2 = np.array([[u, v] for u in (0.0, ALMOST_ONE, 1 - 2**-24) for v in (0.0, ALMOST_ONE)])
    token_b, logprob_b = jax.jit(draw_tokens)(np.tile(logit_v, (6, 1)), uniform_b2)
    np.testing.assert_array_equal(token_b, 3 * [200, 201])
    np.testing.assert_allclose(logprob_b, np.log(0.5), atol=1e-6)


def test_rare_ids_of_a_large_vocabulary_are_drawn_as_often_as_they_should_be():
    """Half of the weight is spread over 150,000 ids, 3e-6 each; none of them is missed for the precision of a number.

    The lowest of 2²³ values of the second number chooses the first id of a block, the highest the last.
    """
    vocab = 151_936
    weight_v = np.ones(vocab)
    weight_v[7] = vocab
    # 75 blocks for each sixteenth of the vocabulary, the last of 24 ids. The first block has the id of great weight.
    part, block = np.divmod(np.arange(1, 1200, 40), 75)
    first_id = part * vocab // 16 + block * 128
    size = np.where(block == 74, 24, 128)
    first_u = (vocab + first_id + size / 2) / (2 * vocab)
    for second, offset in ((1e-4, 0), (ALMOST_ONE, size - 1)):
        uniform_b2 = np.stack([first_u, np.full(30, second)], axis=1).astype(np.float32)
        token_b, _ = jax.jit(draw_tokens)(np.tile(log_of(weight_v), (30, 1)), uniform_b2)
        np.testing.assert_array_equal(token_b, first_id + offset)


def test_greedy_takes_the_first_of_the_most_likely():
    logit_bv = np.zeros((2, 300), np.float32)
    logit_bv[0, [140, 141, 299]] = logit_bv[1, [5, 299]] = 2
    token_b, logprob_b = jax.jit(draw_tokens)(logit_bv, None)
    np.testing.assert_array_equal(token_b, [140, 5])
    np.testing.assert_allclose(logprob_b, np.asarray(jax.nn.log_softmax(logit_bv))[np.arange(2), token_b], atol=1e-6)


def test_sharded_logits_give_the_same_tokens_and_stay_sharded():
    rows, vocab = 8, 5 * 128 * 4 - 4 * 28
    rng = np.random.default_rng(0)
    logit_bv = jax.device_put(rng.normal(size=(rows, vocab)).astype(np.float32))
    uniform_b2 = jax.device_put(rng.random((rows, 2)).astype(np.float32))
    expected_b, expected_logprob_b = jax.jit(draw_tokens)(logit_bv, uniform_b2)
    mesh = sharding.make_mesh({"data": 2, "tensor": 4})
    spec = jax.sharding.PartitionSpec("data", "tensor")
    with jax.set_mesh(mesh):
        sharded = jax.device_put(logit_bv, jax.sharding.NamedSharding(mesh, spec))
        draw = jax.jit(draw_tokens).lower(sharded, uniform_b2).compile()
        token_b, logprob_b = draw(sharded, jax.device_put(uniform_b2, draw.input_shardings[0][1]))
    np.testing.assert_array_equal(token_b, expected_b)
    np.testing.assert_allclose(logprob_b, expected_logprob_b, atol=1e-6)
    # Some weights of blocks, and the ids of one block for each row: never the logits.
    traffic = read_collectives(draw.as_text()).values()
    assert all(t.nbytes < rows * vocab for t in traffic)
