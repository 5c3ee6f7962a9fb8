"""Chunked log-probs equal plain ones at any size, and the answer likelihood by hand and by a loop."""

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


def test_the_output_layer_may_be_a_function():
    hidden, unembed, target = random_case(5, 11, jnp.float32)
    bias = jnp.arange(11.0) / 5

    def head(hidden_td):
        return 2 * jnp.tanh((hidden_td @ unembed + bias[None]) / 2)

    chunked = jax.jit(lambda h: rewards.token_logprobs(h, head, target, chunk=2))(hidden)
    plain = plain_logprobs(head(hidden), jnp.eye(11), target)
    for got, want in zip(chunked, plain, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("chunk, expected", [(2, 2), (4, 3), (99, 6)])
def test_logits_of_one_chunk_at_a_time(chunk, expected):
    """Forward and backward, no array with the vocabulary as last axis has more rows than a chunk has tokens."""
    hidden, unembed, target = random_case(6, 23, jnp.float32, width=1)
    sets, is_token_v = random_sets(6, 23, sizes=(2, 3)), jnp.arange(23) < 20

    def total(unembed):
        return rewards.token_logprobs(hidden, unembed, target, chunk=chunk)[0].sum()

    def total_of_sets(unembed):
        return rewards.token_logprobs(hidden, unembed, sets, chunk=chunk, is_token_v=is_token_v)[0].sum()

    for fn in (total, jax.grad(total), total_of_sets, jax.grad(total_of_sets)):
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


def random_sets(tokens, vocab, sizes):
    """Return sets of distinct ids, padded with −1; one set for each size, in turn."""
    rng = np.random.default_rng(1)
    target = np.full((tokens, max(sizes) + 1), -1, np.int32)
    for t in range(tokens):
        size = sizes[t % len(sizes)]
        target[t, rng.permutation(max(sizes) + 1)[:size]] = rng.permutation(vocab)[:size]
    return jnp.array(target)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("chunk", [3, 128])
def test_set_of_ids_has_the_sum_of_their_probabilities(chunk, dtype):
    """By the explicit softmax; the padding may be anywhere in a set, and is no id."""
    hidden, unembed, _ = random_case(8, 11, dtype)
    target = random_sets(8, 11, sizes=(1, 3, 4))
    found, entropy = rewards.token_logprobs(hidden, unembed, target, chunk=chunk)
    logits = np.array(jnp.einsum("td,dv->tv", hidden, unembed, preferred_element_type=jnp.float32), np.float64)
    prob = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = [np.log(sum(prob[t, v] for v in ids if v >= 0)) for t, ids in enumerate(target.tolist())]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(entropy, plain_logprobs(hidden, unembed, target[:, 0])[1], rtol=1e-5, atol=1e-5)


def test_set_of_one_id_is_that_id():
    hidden, unembed, target = random_case(7, 11, jnp.float32)
    one = rewards.token_logprobs(hidden, unembed, target[:, None], chunk=3)
    padded = rewards.token_logprobs(hidden, unembed, jnp.pad(target[:, None], ((0, 0), (1, 2)), constant_values=-1))
    for found in (one, padded):
        np.testing.assert_allclose(found[0], rewards.token_logprobs(hidden, unembed, target)[0], atol=1e-6)


def test_set_of_all_ids_is_certain_and_an_empty_set_impossible():
    hidden, unembed, _ = random_case(2, 11, jnp.float32)
    target = jnp.stack([jnp.arange(11), jnp.full(11, -1)])
    found, _ = rewards.token_logprobs(hidden, unembed, target)
    np.testing.assert_allclose(found[0], 0, atol=1e-6)
    assert found[1] == -jnp.inf


def test_gradient_of_sets_is_that_of_the_softmax():
    """Also beside an empty set, which has none."""
    hidden, unembed, _ = random_case(6, 11, jnp.float32)
    target = random_sets(6, 11, sizes=(0, 2, 3))
    has_ids = (target >= 0).any(1)

    def chunked(hidden, unembed):
        return jnp.where(has_ids, rewards.token_logprobs(hidden, unembed, target, chunk=4)[0], 0).sum()

    def plain(hidden, unembed):
        prob_tv = jax.nn.softmax(hidden @ unembed)
        prob_te = jnp.where(target >= 0, jnp.take_along_axis(prob_tv, jnp.maximum(target, 0), axis=1), 0)
        return jnp.log(jnp.where(has_ids, prob_te.sum(1), 1)).sum()

    for found, expected in zip(*(jax.grad(fn, (0, 1))(hidden, unembed) for fn in (chunked, plain)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("chunk", [3, 128])
def test_ids_without_a_token_equal_a_sliced_output_matrix(chunk, dtype):
    """A matrix of 16 columns for 11 tokens, whose padding would be likely."""
    hidden, unembed, target = random_case(7, 16, dtype)
    target = target % 11
    is_token_v = np.arange(16) < 11
    found = rewards.token_logprobs(hidden, unembed, target, chunk=chunk, is_token_v=is_token_v)
    sliced = rewards.token_logprobs(hidden, unembed[:, :11], target, chunk=chunk)
    plain = rewards.token_logprobs(hidden, unembed, target, chunk=chunk)
    for masked, expected, other in zip(found, sliced, plain, strict=True):
        np.testing.assert_allclose(masked, expected, rtol=1e-5, atol=1e-5)
        assert not np.allclose(masked, other)


def test_ids_without_a_token_have_probability_zero():
    """In the middle of the vocabulary, alone and in a set; the gradient is finite and leaves their columns."""
    hidden, unembed, _ = random_case(3, 11, jnp.float32)
    is_token_v = jnp.arange(11) != 5
    target = jnp.array([[5, -1], [5, 2], [2, -1]])
    logprob, entropy = rewards.token_logprobs(hidden, unembed, target, is_token_v=is_token_v)
    assert logprob[0] == -jnp.inf
    alone, _ = rewards.token_logprobs(hidden, unembed, jnp.array([5, 2, 2]), is_token_v=is_token_v)
    np.testing.assert_allclose(alone, [-jnp.inf, logprob[1], logprob[2]], rtol=1e-6)
    assert np.isfinite(entropy).all()

    def total(unembed):
        return rewards.token_logprobs(hidden, unembed, jnp.array([2, 2, 2]), is_token_v=is_token_v)[0].sum()

    gradient_dv = jax.grad(total)(unembed)
    assert np.isfinite(gradient_dv).all()
    assert (gradient_dv[:, 5] == 0).all() and (gradient_dv[:, 6] != 0).all()


def test_answer_likelihood_by_hand():
    # Two cuts; a variant of two tokens, one of one token, and a row that is no variant.
    logprob_kay = jnp.array([[[-1.0, -3.0], [-4.0, 99.0], [99.0, 99.0]], [[-5.0, -5.0], [-1.0, 99.0], [99.0, 99.0]]])
    scored_ay = jnp.array([[True, True], [True, False], [False, False]])
    np.testing.assert_array_equal(rewards.answer_likelihood(logprob_kay, scored_ay), [-2.0, -1.0])


# One cut; the probabilities of a variant's tokens are 1/2 and 1/8, and 1/4 for the only token of the other.
PROBABILITY_AY = np.array([[1 / 2, 1 / 8], [1 / 4, 1]])
SCORED_AY = np.array([[True, True], [True, False]])
BY_HAND = {
    ("mean_logprob", "max"): 1 / 4,  # √(1/16) = 1/4, and 1/4
    ("mean_logprob", "logsumexp"): 1 / 2,
    ("mean_prob", "max"): 5 / 16,  # (1/2 + 1/8) / 2 = 5/16, and 1/4
    ("mean_prob", "logsumexp"): 9 / 16,
    ("sum_logprob", "max"): 1 / 4,  # 1/16, and 1/4
    ("sum_logprob", "logsumexp"): 5 / 16,
}
every_option = pytest.mark.parametrize("over_tokens, over_spellings", BY_HAND)


def test_options_by_hand_are_all_options():
    assert set(BY_HAND) == {
        (tokens, spellings) for tokens in rewards.OVER_TOKENS for spellings in rewards.OVER_SPELLINGS
    }


@every_option
def test_options_by_hand(over_tokens, over_spellings):
    options = {"over_tokens": over_tokens, "over_spellings": over_spellings}
    ell_k = rewards.answer_likelihood(jnp.log(PROBABILITY_AY)[None], jnp.array(SCORED_AY), **options)
    np.testing.assert_allclose(np.exp(ell_k), [BY_HAND[over_tokens, over_spellings]], rtol=1e-6)


def loop_answer_likelihood(logprob_kay, scored_ay, over_tokens, over_spellings):
    """Return ℓ_k from lists, in float64."""
    ell_k = []
    for logprob_ay in logprob_kay:
        ells = []
        for row, is_scored in zip(logprob_ay, scored_ay, strict=True):
            logprobs = [float(x) for x, scored in zip(row, is_scored, strict=True) if scored]
            if not logprobs:
                continue
            if over_tokens == "mean_prob":
                ells.append(math.log(sum(map(math.exp, logprobs)) / len(logprobs)))
            else:
                ells.append(sum(logprobs) / (len(logprobs) if over_tokens == "mean_logprob" else 1))
        ell_k.append(max(ells) if over_spellings == "max" else math.log(sum(map(math.exp, ells))))
    return ell_k


@every_option
@pytest.mark.parametrize("seed", range(3))
def test_options_equal_a_loop(over_tokens, over_spellings, seed):
    rng = np.random.default_rng(seed)
    logprob_kay = -rng.exponential(2, size=(4, 5, 6)).astype(np.float32)
    scored_ay = np.arange(6)[None] < np.array([3, 1, 0, 6, 2])[:, None]
    options = {"over_tokens": over_tokens, "over_spellings": over_spellings}
    expected = loop_answer_likelihood(logprob_kay, scored_ay, over_tokens, over_spellings)
    found = rewards.answer_likelihood(jnp.array(logprob_kay), jnp.array(scored_ay), **options)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@every_option
@pytest.mark.parametrize("dirt", [0.0, 99.0, -jnp.inf, jnp.nan])
def test_padding_adds_nothing(over_tokens, over_spellings, dirt):
    """Neither tokens nor variants that are padding, whatever they hold, and however many."""
    options = {"over_tokens": over_tokens, "over_spellings": over_spellings}
    logprob_kay = jnp.log(PROBABILITY_AY)[None].at[0, 1, 1].set(dirt)
    tight = rewards.answer_likelihood(jnp.log(PROBABILITY_AY)[None], jnp.array(SCORED_AY), **options)
    wide_kay = jnp.pad(logprob_kay, ((0, 0), (0, 2), (0, 3)), constant_values=dirt)
    wide = rewards.answer_likelihood(wide_kay, jnp.pad(jnp.array(SCORED_AY), ((0, 2), (0, 3))), **options)
    np.testing.assert_allclose(wide, tight, rtol=1e-6)


@pytest.mark.parametrize("over_spellings", rewards.OVER_SPELLINGS)
def test_all_means_over_one_token_are_equal(over_spellings):
    logprob_kay, scored_ay = jnp.array([[[-1.5, 9.0], [-0.5, 9.0]]]), jnp.array([[True, False]] * 2)
    ells = [
        rewards.answer_likelihood(logprob_kay, scored_ay, over_tokens=name, over_spellings=over_spellings)
        for name in rewards.OVER_TOKENS
    ]
    np.testing.assert_allclose(ells, jnp.stack([ells[0]] * 3), rtol=1e-6)


@pytest.mark.parametrize("over_tokens", rewards.OVER_TOKENS)
def test_maximum_and_sum_of_one_variant_are_equal(over_tokens):
    logprob_kay, scored_ay = jnp.array([[[-1.5, -2.0], [9.0, 9.0]]]), jnp.array([[True, True], [False, False]])
    ells = [
        rewards.answer_likelihood(logprob_kay, scored_ay, over_tokens=over_tokens, over_spellings=name)
        for name in rewards.OVER_SPELLINGS
    ]
    np.testing.assert_allclose(ells[0], ells[1], rtol=1e-6)


@every_option
def test_answer_without_variants_has_no_likelihood(over_tokens, over_spellings):
    options = {"over_tokens": over_tokens, "over_spellings": over_spellings}
    ell_k = rewards.answer_likelihood(jnp.zeros((2, 1, 3)), jnp.zeros((1, 3), bool), **options)
    np.testing.assert_array_equal(ell_k, [-np.inf, -np.inf])


def test_unknown_options_raise():
    case = jnp.zeros((2, 1, 3)), jnp.ones((1, 3), bool)
    with pytest.raises(ValueError, match="over_tokens='mean': choose one of mean_logprob, mean_prob"):
        rewards.answer_likelihood(*case, over_tokens="mean")
    with pytest.raises(ValueError, match="over_spellings='min': choose one of max, logsumexp"):
        rewards.answer_likelihood(*case, over_spellings="min")


def test_batch_without_vmap_raises():
    hidden, unembed, target = random_case(6, 11, jnp.float32)
    with pytest.raises(AssertionError, match="use jax.vmap for a batch"):
        rewards.token_logprobs(hidden[None], unembed, target[None])
    with pytest.raises(AssertionError, match="use jax.vmap for a batch"):
        rewards.answer_likelihood(jnp.zeros((5, 2, 1, 3)), jnp.ones((5, 1, 3), bool))
