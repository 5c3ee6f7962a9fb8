"""Chunked log-probs equal plain ones at any size."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.rewards import logprobs

# Compiled, since many small operations one by one are slow.
token_logprobs = jax.jit(rewards.token_logprobs, static_argnames=("temperature", "chunk", "block"))


@jax.jit
def plain_logprobs(hidden, unembed, target, temperature=1.0):
    logits = jnp.einsum("td,dv->tv", hidden, unembed, preferred_element_type=jnp.float32) / temperature
    logprobs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(logprobs) * logprobs).sum(-1)
    return jnp.take_along_axis(logprobs, target[:, None], 1)[:, 0], entropy


def random_case(tokens, vocab, dtype, width=16):
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (tokens, width), dtype)
    unembed = jax.random.normal(keys[1], (width, vocab), dtype)
    return hidden, unembed, jax.random.randint(keys[2], (tokens,), 0, vocab)


# 151,936 is Qwen2.5's vocabulary. Losses chunked over the vocabulary have been 0.01 nats off there: no chunk of theirs
# divides it, and padded columns entered the log-sum-exp.
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "tokens, vocab, chunk, block",
    [
        (5, 11, 2, None), (8, 11, 8, 11), (3, 11, 128, None), (7, 151_936, 3, None),
        (5, 12, 2, 4), (8, 12, 8, 3), (7, 151_936, 3, 2048),
    ],
)  # fmt: skip
def test_equals_log_softmax(tokens, vocab, chunk, block, dtype):
    case = random_case(tokens, vocab, dtype)
    found = token_logprobs(*case, chunk=chunk, block=block)
    for chunked, plain in zip(found, plain_logprobs(*case), strict=True):
        assert chunked.dtype == jnp.float32
        np.testing.assert_allclose(chunked, plain, rtol=1e-5, atol=2e-5)


def test_the_output_layer_may_be_a_function():
    hidden, unembed, target = random_case(5, 11, jnp.float32)
    bias = jnp.arange(11.0) / 5

    def head(hidden_td):
        return 2 * jnp.tanh((hidden_td @ unembed + bias[None]) / 2)

    chunked = jax.jit(lambda h: rewards.token_logprobs(h, head, target, chunk=2))(hidden)
    plain = plain_logprobs(head(hidden), jnp.eye(11), target)
    for got, want in zip(chunked, plain, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("block, columns", [(None, 46), (46, 46), (23, 23)])
@pytest.mark.parametrize("chunk, expected", [(2, 2), (4, 3), (99, 6)])
def test_logits_of_one_chunk_at_a_time(chunk, expected, block, columns):
    """Forward and backward, no array with a block of the vocabulary as last axis has more rows than a chunk."""
    hidden, unembed, target = random_case(6, 46, jnp.float32, width=1)
    sets, is_token_v = random_sets(6, 46, sizes=(2, 3)), jnp.arange(46) < 40
    options = {"chunk": chunk, "block": block}

    def total(unembed):
        return rewards.token_logprobs(hidden, unembed, target, **options)[0].sum()

    def total_of_sets(unembed):
        return rewards.token_logprobs(hidden, unembed, sets, is_token_v=is_token_v, **options)[0].sum()

    for fn in (total, jax.grad(total), total_of_sets, jax.grad(total_of_sets)):
        shapes = output_shapes(jax.make_jaxpr(fn)(unembed).jaxpr)
        assert max(math.prod(shape[:-1]) for shape in shapes if shape[-1:] == (columns,)) == expected
        assert columns == 46 or all(math.prod(shape[:-1]) == 1 for shape in shapes if shape[-1:] == (46,))


@pytest.mark.parametrize(
    "vocab, block, blocks", [(151_936, 2048, 128), (8192, 2048, 4), (100, 2048, 1), (46, 23, 2), (151_937, 2048, 1)]
)
def test_blocks_are_equal_and_not_too_small(vocab, block, blocks):
    """151,936 = 2⁷ · 1187, of which no divisor makes larger blocks than 1187; 151,937 is prime."""
    assert logprobs._count_blocks(vocab, block) == blocks


def output_shapes(jaxpr):
    """Return the shapes of everything that a program computes, at any depth."""
    inner = [getattr(x, "jaxpr", x) for eqn in jaxpr.eqns for x in eqn.params.values()]
    parts = [output_shapes(x) for x in inner if hasattr(x, "eqns")]
    return {var.aval.shape for eqn in jaxpr.eqns for var in eqn.outvars}.union(*parts)


def test_temperature_divides_the_logits():
    case = random_case(6, 11, jnp.float32)
    halved, plain = plain_logprobs(*case, temperature=0.5), plain_logprobs(*case)
    chunked = token_logprobs(*case, temperature=0.5, chunk=4)
    for found, expected, other in zip(chunked, halved, plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert not np.allclose(found, other)


@pytest.mark.parametrize("block", [None, 4])
def test_gradient_equals_that_of_log_softmax(block):
    hidden, unembed, target = random_case(7, 12, jnp.float32)

    def total(hidden, unembed):
        return token_logprobs(hidden, unembed, target, chunk=3, block=block)[0].sum()

    chunked = jax.jit(jax.grad(total, (0, 1)))(hidden, unembed)
    plain = jax.jit(jax.grad(lambda h, u: plain_logprobs(h, u, target)[0].sum(), (0, 1)))(hidden, unembed)
    for found, expected in zip(chunked, plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_entropy_has_no_gradient():
    hidden, unembed, target = random_case(7, 11, jnp.float32)
    gradient = jax.grad(lambda h: token_logprobs(h, unembed, target, chunk=3)[1].sum())(hidden)
    assert (gradient == 0).all()


def random_sets(tokens, vocab, sizes):
    """Return sets of distinct ids, padded with −1; one set for each size, in turn."""
    rng = np.random.default_rng(1)
    target = np.full((tokens, max(sizes) + 1), -1, np.int32)
    for t in range(tokens):
        size = sizes[t % len(sizes)]
        target[t, rng.permutation(max(sizes) + 1)[:size]] = rng.permutation(vocab)[:size]
    return jnp.array(target)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("chunk, block", [(3, None), (128, None), (3, 4)])
def test_set_of_ids_has_the_sum_of_their_probabilities(chunk, block, dtype):
    """By the explicit softmax; the padding may be anywhere in a set, and is no id."""
    hidden, unembed, _ = random_case(8, 12, dtype)
    target = random_sets(8, 12, sizes=(1, 3, 4))
    found, entropy = token_logprobs(hidden, unembed, target, chunk=chunk, block=block)
    logits = np.array(jnp.einsum("td,dv->tv", hidden, unembed, preferred_element_type=jnp.float32), np.float64)
    prob = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = [np.log(sum(prob[t, v] for v in ids if v >= 0)) for t, ids in enumerate(target.tolist())]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(entropy, plain_logprobs(hidden, unembed, target[:, 0])[1], rtol=1e-5, atol=1e-5)


def test_set_of_one_id_is_that_id():
    hidden, unembed, target = random_case(7, 11, jnp.float32)
    one = token_logprobs(hidden, unembed, target[:, None], chunk=3)
    padded = token_logprobs(hidden, unembed, jnp.pad(target[:, None], ((0, 0), (1, 2)), constant_values=-1))
    for found in (one, padded):
        np.testing.assert_allclose(found[0], token_logprobs(hidden, unembed, target)[0], atol=1e-6)


def test_set_of_all_ids_is_certain_and_an_empty_set_impossible():
    hidden, unembed, _ = random_case(2, 11, jnp.float32)
    target = jnp.stack([jnp.arange(11), jnp.full(11, -1)])
    found, _ = token_logprobs(hidden, unembed, target)
    np.testing.assert_allclose(found[0], 0, atol=1e-6)
    assert found[1] == -jnp.inf


@pytest.mark.parametrize("block", [None, 4])
def test_gradient_of_sets_is_that_of_the_softmax(block):
    """Also beside an empty set, which has none."""
    hidden, unembed, _ = random_case(6, 12, jnp.float32)
    target = random_sets(6, 12, sizes=(0, 2, 3))
    has_ids = (target >= 0).any(1)

    def chunked(hidden, unembed):
        return jnp.where(has_ids, token_logprobs(hidden, unembed, target, chunk=4, block=block)[0], 0).sum()

    def plain(hidden, unembed):
        prob_tv = jax.nn.softmax(hidden @ unembed)
        prob_te = jnp.where(target >= 0, jnp.take_along_axis(prob_tv, jnp.maximum(target, 0), axis=1), 0)
        return jnp.log(jnp.where(has_ids, prob_te.sum(1), 1)).sum()

    for found, expected in zip(
        *(jax.jit(jax.grad(fn, (0, 1)))(hidden, unembed) for fn in (chunked, plain)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("chunk", [3, 128])
def test_ids_without_a_token_equal_a_sliced_output_matrix(chunk, dtype):
    """A matrix of 16 columns for 11 tokens, whose padding would be likely."""
    hidden, unembed, target = random_case(7, 16, dtype)
    target = target % 11
    is_token_v = np.arange(16) < 11
    found = token_logprobs(hidden, unembed, target, chunk=chunk, is_token_v=is_token_v)
    sliced = token_logprobs(hidden, unembed[:, :11], target, chunk=chunk)
    plain = token_logprobs(hidden, unembed, target, chunk=chunk)
    for masked, expected, other in zip(found, sliced, plain, strict=True):
        np.testing.assert_allclose(masked, expected, rtol=1e-5, atol=1e-5)
        assert not np.allclose(masked, other)


@pytest.mark.parametrize("block", [None, 4, 1])
def test_ids_without_a_token_have_probability_zero(block):
    """In the middle of the vocabulary, alone and in a set; the gradient is finite and leaves their columns.

    With blocks of one column, one has no token.
    """
    hidden, unembed, _ = random_case(3, 12, jnp.float32)
    options = {"is_token_v": jnp.arange(12) != 5, "block": block}
    target = jnp.array([[5, -1], [5, 2], [2, -1]])
    logprob, entropy = token_logprobs(hidden, unembed, target, **options)
    assert logprob[0] == -jnp.inf
    alone, _ = token_logprobs(hidden, unembed, jnp.array([5, 2, 2]), **options)
    np.testing.assert_allclose(alone, [-jnp.inf, logprob[1], logprob[2]], rtol=1e-6)
    assert np.isfinite(entropy).all()

    def total(unembed):
        return token_logprobs(hidden, unembed, jnp.array([2, 2, 2]), **options)[0].sum()

    gradient_dv = jax.jit(jax.grad(total))(unembed)
    assert np.isfinite(gradient_dv).all()
    assert (gradient_dv[:, 5] == 0).all() and (gradient_dv[:, 6] != 0).all()


def test_batch_without_vmap_raises():
    hidden, unembed, target = random_case(6, 11, jnp.float32)
    with pytest.raises(AssertionError, match="use jax.vmap for a batch"):
        rewards.token_logprobs(hidden[None], unembed, target[None])
