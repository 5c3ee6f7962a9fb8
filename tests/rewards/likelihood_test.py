"""Chunked log-probs equal plain ones at any size, and the answer likelihood by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards


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
@pytest.mark.parametrize("tokens, vocab, chunk", [(5, 11, 2), (8, 11, 8), (3, 11, 128), (7, 151_936, 3)])
def test_equals_log_softmax(tokens, vocab, chunk, dtype):
    case = random_case(tokens, vocab, dtype)
    for chunked, plain in zip(rewards.token_logprobs(*case, chunk=chunk), plain_logprobs(*case), strict=True):
        assert chunked.dtype == jnp.float32
        np.testing.assert_allclose(chunked, plain, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("chunk, expected", [(2, 2), (4, 4), (99, 6)])
def test_logits_of_one_chunk_at_a_time(chunk, expected):
    """Forward and backward, no array with the vocabulary as last axis has more rows than a chunk has tokens."""
    hidden, unembed, target = random_case(6, 23, jnp.float32, width=1)

    def total(unembed):
        return rewards.token_logprobs(hidden, unembed, target, chunk=chunk)[0].sum()

    for fn in (total, jax.grad(total)):
        shapes = output_shapes(jax.make_jaxpr(fn)(unembed).jaxpr)
        assert max(math.prod(shape[:-1]) for shape in shapes if shape[-1:] == (23,)) == expected


def output_shapes(jaxpr):
    """Return the shapes of everything that a program computes, at any depth."""
    inner = [getattr(x, "jaxpr", x) for eqn in jaxpr.eqns for x in eqn.params.values()]
    parts = [output_shapes(x) for x in inner if hasattr(x, "eqns")]
    return {var.aval.shape for eqn in jaxpr.eqns for var in eqn.outvars}.union(*parts)


def test_temperature_divides_the_logits():
    case = random_case(6, 11, jnp.float32)
    halved, plain = plain_logprobs(*case, temperature=0.5), plain_logprobs(*case)
    chunked = rewards.token_logprobs(*case, temperature=0.5, chunk=4)
    for found, expected, other in zip(chunked, halved, plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert not np.allclose(found, other)


def test_gradient_equals_that_of_log_softmax():
    hidden, unembed, target = random_case(7, 11, jnp.float32)
    chunked = jax.grad(lambda h, u: rewards.token_logprobs(h, u, target, chunk=3)[0].sum(), (0, 1))(hidden, unembed)
    plain = jax.grad(lambda h, u: plain_logprobs(h, u, target)[0].sum(), (0, 1))(hidden, unembed)
    for found, expected in zip(chunked, plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_entropy_has_no_gradient():
    hidden, unembed, target = random_case(7, 11, jnp.float32)
    gradient = jax.grad(lambda h: rewards.token_logprobs(h, unembed, target, chunk=3)[1].sum())(hidden)
    assert (gradient == 0).all()


def test_answer_likelihood_by_hand():
    # Two cuts; a variant of two tokens, one of one token, and a row that is no variant.
    logprob_kay = jnp.array([[[-1.0, -3.0], [-4.0, 99.0], [99.0, 99.0]], [[-5.0, -5.0], [-1.0, 99.0], [99.0, 99.0]]])
    scored_ay = jnp.array([[True, True], [True, False], [False, False]])
    np.testing.assert_array_equal(rewards.answer_likelihood(logprob_kay, scored_ay), [-2.0, -1.0])


def test_answer_without_variants_has_no_likelihood():
    ell_k = rewards.answer_likelihood(jnp.zeros((2, 1, 3)), jnp.zeros((1, 3), bool))
    np.testing.assert_array_equal(ell_k, [-np.inf, -np.inf])


def test_batch_without_vmap_raises():
    hidden, unembed, target = random_case(6, 11, jnp.float32)
    with pytest.raises(AssertionError, match="use jax.vmap for a batch"):
        rewards.token_logprobs(hidden[None], unembed, target[None])
    with pytest.raises(AssertionError, match="use jax.vmap for a batch"):
        rewards.answer_likelihood(jnp.zeros((5, 2, 1, 3)), jnp.ones((5, 1, 3), bool))
