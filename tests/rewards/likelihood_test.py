"""The likelihood of an answer by hand and by a loop."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards


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
    with pytest.raises(AssertionError, match="use jax.vmap for a batch"):
        rewards.answer_likelihood(jnp.zeros((5, 2, 1, 3)), jnp.ones((5, 1, 3), bool))
