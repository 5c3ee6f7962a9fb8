"""Chunked log-probs equal the plain ones at any size, and no array of size [T, V] is built."""

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


# 151,936 is Qwen2.5's vocabulary, at which others' chunked losses were off by a hundredth of a nat.
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("tokens, vocab, chunk", [(5, 11, 2), (8, 11, 8), (3, 11, 128), (7, 151_936, 3)])
def test_equals_log_softmax(tokens, vocab, chunk, dtype):
    case = random_case(tokens, vocab, dtype)
    for mine, plain in zip(rewards.token_logprobs(*case, chunk=chunk), plain_logprobs(*case), strict=True):
        assert mine.dtype == jnp.float32
        np.testing.assert_allclose(mine, plain, rtol=1e-5, atol=2e-5)


def test_temperature_divides_the_logits():
    case = random_case(6, 11, jnp.float32)
    mine, _ = rewards.token_logprobs(*case, temperature=0.5, chunk=4)
    np.testing.assert_allclose(mine, plain_logprobs(*case, temperature=0.5)[0], rtol=1e-5, atol=1e-5)
    assert not np.allclose(mine, plain_logprobs(*case)[0])


def test_gradient_equals_that_of_log_softmax():
    hidden, unembed, target = random_case(7, 11, jnp.float32)
    chunked = jax.grad(lambda h, u: rewards.token_logprobs(h, u, target, chunk=3)[0].sum(), (0, 1))(hidden, unembed)
    plain = jax.grad(lambda h, u: plain_logprobs(h, u, target)[0].sum(), (0, 1))(hidden, unembed)
    for mine, other in zip(chunked, plain, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


def test_entropy_carries_no_gradient():
    hidden, unembed, target = random_case(7, 11, jnp.float32)
    gradient = jax.grad(lambda h: rewards.token_logprobs(h, unembed, target, chunk=3)[1].sum())(hidden)
    assert (gradient == 0).all()


def test_answer_likelihood_by_hand():
    # Two cuts; "a" of two tokens, "b" of one, and a row that is no spelling.
    logprob_kap = jnp.array([[[-1.0, -3.0], [-4.0, 99.0], [99.0, 99.0]], [[-5.0, -5.0], [-1.0, 99.0], [99.0, 99.0]]])
    scored_ap = jnp.array([[True, True], [True, False], [False, False]])
    np.testing.assert_array_equal(rewards.answer_likelihood(logprob_kap, scored_ap), [-2.0, -1.0])
