"""The expected process gradient where nothing can be gained, by exact enumeration (`benchmarks/process_bias.py`)."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import process_bias
from benchmarks.process_bias import ZERO, bias, process_gradient
from mig_jax.learning import advantages, losses

INDEPENDENT, DEPENDENT = process_bias.independent_policy(), process_bias.dependent_policy()


def combinations(left, right):
    """Return all pairs of names. Those that name each of them once are fast, the others slow."""
    left, right = list(left), list(right)
    n = max(len(left), len(right))
    fast = {(left[k % len(left)], right[k % len(right)]) for k in range(n)}
    return [
        pytest.param(*pair, marks=() if pair in fast else pytest.mark.slow) for pair in itertools.product(left, right)
    ]


@pytest.mark.parametrize("params", [INDEPENDENT, DEPENDENT], ids=["independent", "dependent"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_enumeration_is_complete(params, groups):
    _, probability_p = process_bias.enumerate_batches(params, groups)
    assert math.isclose(probability_p.sum(), 1.0, abs_tol=1e-5)


def test_log_probs_have_the_tokens_of_the_responses():
    index = process_bias.RESPONSES.index(process_bias.Response(first=1, further=1, answer=0))
    sigmoid = jax.nn.log_sigmoid
    expected = [
        0.0, sigmoid(-0.4), sigmoid(math.log(1.5)), sigmoid(-math.log(1.5)), sigmoid(-2.0), 0.0,
    ]  # fmt: skip
    np.testing.assert_allclose(process_bias.logprobs(DEPENDENT)[index], expected, atol=1e-6)
    assert process_bias.steps_of_tokens("closing")[index].tolist() == [-1, 0, 1, 2, -1, -1]
    assert process_bias.steps_of_tokens("think")[index].tolist() == [-1, 0, 1, -1, -1, -1]


def test_defaults_have_no_bias_where_another_step_is_independent_of_the_first():
    gradient = process_gradient(INDEPENDENT)
    assert jnp.abs(gradient.more_kf).max() < ZERO
    assert gradient.first < -0.01  # the right first step is reinforced
    np.testing.assert_array_equal(gradient.answer_f, 0.0)


@pytest.mark.parametrize("advantage, scale", combinations(advantages.ADVANTAGES, advantages.SCALES))
def test_a_constant_normalizer_has_no_bias(advantage, scale):
    options = {"aggregate": "constant", "advantage": advantage, "scale": scale}
    assert jnp.abs(process_gradient(DEPENDENT, **options).more_kf).max() < ZERO


def test_the_scale_of_a_batch_has_no_bias():
    options = {"aggregate": "constant", "scale": "batch_std", "groups": 2}
    assert jnp.abs(process_gradient(DEPENDENT, **options).more_kf).max() < ZERO


@pytest.mark.parametrize("policy_loss, ratio", combinations(losses.LOSSES, losses.RATIOS))
def test_all_losses_agree_on_policy(policy_loss, ratio):
    expected = process_gradient(DEPENDENT)
    gradient = process_gradient(DEPENDENT, policy_loss=policy_loss, ratio=ratio)
    for x, y in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(x, y, atol=ZERO)


@pytest.mark.parametrize("mask", process_bias.MASKS)
@pytest.mark.parametrize("aggregate", losses.AGGREGATES)
def test_step_credit_has_no_gradient_where_nothing_can_be_gained(mask, aggregate):
    gradient = process_gradient(DEPENDENT, mask=mask, aggregate=aggregate, credit_level="step")
    np.testing.assert_array_equal(gradient.more_kf, 0.0)
    assert gradient.first < -0.01


def test_without_the_closing_decision_another_step_is_paid_after_a_right_step_and_fined_after_a_wrong_one():
    after_wrong, after_right, _ = bias(process_gradient(DEPENDENT, mask="think", aggregate="constant"))
    assert after_wrong < -0.2
    assert after_right > 0.2


def test_a_mean_of_responses_is_biased():
    after_wrong, after_right, _ = bias(process_gradient(DEPENDENT, aggregate="responses"))
    assert after_wrong > 0.05
    assert after_right < -0.05


def test_the_bias_of_the_token_mean_shrinks_with_the_number_of_rows():
    def largest(groups, mask):
        gradient = process_bias.gradient_of_token_mean(DEPENDENT, mask=mask, groups=groups)
        return max(map(abs, bias(gradient)))

    few, some, many = (largest(groups, "closing") for groups in (1, 4, 16))
    assert few > 0.05
    np.testing.assert_allclose([few / some, some / many], 4.0, rtol=0.25)
    assert largest(16, "think") > 0.2


def test_the_row_that_stands_for_other_groups_gives_the_gradient_of_all():
    by_row = process_bias.gradient_of_token_mean(DEPENDENT, mask="closing", groups=2)
    by_enumeration = process_gradient(DEPENDENT, groups=2)
    for x, y in zip(by_row, by_enumeration, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)


@pytest.mark.parametrize("old", [DEPENDENT, INDEPENDENT], ids=["on policy", "off policy"])
def test_kl_term_has_value_and_gradient_of_the_kl(old):
    old = old._replace(more_kf=np.broadcast_to(old.more_kf, DEPENDENT.more_kf.shape))
    ref = jax.tree.map(lambda x: x + np.linspace(-1.0, 0.7, x.size, dtype=np.float32).reshape(x.shape), DEPENDENT)
    by_sampling = jax.jit(jax.value_and_grad(process_bias.kl_by_sampling))(DEPENDENT, old, ref)
    exact = jax.jit(jax.value_and_grad(process_bias.exact_kl))(DEPENDENT, old, ref)
    assert exact[0] > 0.1
    for x, y in zip(jax.tree.leaves(by_sampling), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(x, y, atol=ZERO)


def test_gradient_of_the_plain_kl_estimate_is_that_of_the_reversed_kl():
    ref = jax.tree.map(lambda x: x + 0.5, DEPENDENT)
    plain = jax.jit(jax.grad(functools.partial(process_bias.kl_by_sampling, weighted=False)))(DEPENDENT, DEPENDENT, ref)
    exact, reverse = (
        jax.jit(jax.grad(functools.partial(process_bias.exact_kl, reverse=reverse)))(DEPENDENT, DEPENDENT, ref)
        for reverse in (False, True)
    )
    assert max(float(jnp.abs(x - y).max()) for x, y in zip(plain, exact, strict=True)) > 1e-3
    for x, y in zip(plain, reverse, strict=True):
        np.testing.assert_allclose(x, y, atol=ZERO)
