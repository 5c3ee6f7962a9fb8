"""The policy-gradient family: tables by hand, reductions of one variant to another, and the KL by enumeration."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.learning import policy_gradient

sequence_ratio = jax.jit(policy_gradient.sequence_ratio)
BOUNDS = policy_gradient.ClipSettings(clip_low=0.2, clip_high=0.3, dual_clip=3.0)
# One token for each ratio and sign of the advantage; the bounds are 0.8, 1.3 and, for negative advantages, 3.
RATIO = np.array([[1.0, 2.0, 2.0, 0.5, 0.5, 4.0, 4.0, 4.0]])
ADVANTAGE = np.array([[1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.0]])
# Value of the objective, factor of ∇ log πθ in its gradient, and whether the token is clipped.
TABLE = {
    "clip": [[1, 1.3, -2, 0.5, -0.8, 1.3, -4, 0], [1, 0, -2, 0.5, 0, 0, -4, 0], [0, 1, 0, 0, 1, 1, 0, 0]],
    "dual_clip": [[1, 1.3, -2, 0.5, -0.8, 1.3, -3, 0], [1, 0, -2, 0.5, 0, 0, 0, 0], [0, 1, 0, 0, 1, 1, 1, 0]],
    "cispo": [[1, 1.3, -1.3, 0.8, -0.8, 1.3, -1.3, 0], [1, 1.3, -1.3, 0.8, -0.8, 1.3, -1.3, 0], [0] + [1] * 6 + [0]],
}


@functools.partial(jax.jit, static_argnames=("name", "ratio"))
def objective(name, logprob_bt, old_logprob_bt, advantage_bt, *, ratio="token", mask_bt=None, **bounds):
    """Return the objective and what is clipped."""
    mask_bt = jnp.ones(logprob_bt.shape, bool) if mask_bt is None else mask_bt
    ratio_bt = policy_gradient.RATIOS[ratio](logprob_bt, old_logprob_bt, mask_bt)
    settings = dataclasses.replace(BOUNDS, **bounds)
    return policy_gradient.LOSSES[name](ratio_bt, logprob_bt, advantage_bt, settings)


@functools.partial(jax.jit, static_argnames=("name", "ratio"))
def gradient(name, logprob_bt, *args, **options):
    """Return the gradient of the summed objective by the log-probs: the factor of each ∇ log πθ."""
    return jax.grad(lambda x: objective(name, x, *args, **options)[0].sum())(logprob_bt)


@pytest.fixture
def random():
    """Log-probs, old log-probs with ratios beyond all bounds, and advantages, `[5, 7]`."""
    keys = jax.random.split(jax.random.key(0), 3)
    logprob, difference, advantage = (jax.random.normal(key, (5, 7)) for key in keys)
    return logprob - 2, logprob - 2 - difference, advantage


# ------------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("name", policy_gradient.LOSSES)
def test_losses_by_hand(name):
    """Old log-probs are −1 − log ρ, so log πθ is −1 and the value of cispo is −A times its weight."""
    value, factor, is_clipped = (np.array(row)[None] for row in TABLE[name])
    args = np.full(RATIO.shape, -1.0), -1.0 - np.log(RATIO), ADVANTAGE
    found, found_clipped = objective(name, *args)
    np.testing.assert_allclose(found, -value if name == "cispo" else value, rtol=1e-6)
    np.testing.assert_allclose(gradient(name, *args), factor, rtol=1e-6)
    np.testing.assert_array_equal(found_clipped, is_clipped)


@pytest.mark.parametrize("name", ["clip", "dual_clip"])
def test_clipped_are_the_tokens_whose_gradient_is_cut(random, name):
    np.testing.assert_array_equal(objective(name, *random)[1], gradient(name, *random) == 0)


@pytest.mark.parametrize("name", policy_gradient.LOSSES)
def test_clip_bounds_are_separate(name):
    args = np.zeros((1, 2)), -np.log(np.array([[2.0, 0.5]])), np.array([[1.0, -1.0]])
    wide = gradient(name, *args, clip_low=0.6, clip_high=1.1)
    np.testing.assert_allclose(wide, [[2.0, -0.5]], rtol=1e-6)
    assert gradient(name, *args, clip_low=0.1, clip_high=1.1)[0, 1] != wide[0, 1]
    assert gradient(name, *args, clip_low=0.6, clip_high=0.4)[0, 0] != wide[0, 0]


def test_dual_clip_without_a_bound_is_clip(random):
    unbounded = objective("dual_clip", *random, dual_clip=jnp.inf)
    for found, expected in zip(unbounded, objective("clip", *random), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(gradient("dual_clip", *random, dual_clip=jnp.inf), gradient("clip", *random))


def test_dual_clip_is_the_published_formula(random):
    logprob, old, advantage = (np.array(x, np.float64) for x in random)
    ratio = np.exp(logprob - old)
    plain = np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.3) * advantage)
    for c in (1.1, 2.0):
        expected = np.where(advantage < 0, np.maximum(plain, c * advantage), plain)
        np.testing.assert_allclose(objective("dual_clip", *random, dual_clip=c)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", policy_gradient.LOSSES)
def test_gradient_at_ratio_one_is_the_policy_gradient(random, name):
    """The same for all losses, and for both ratios."""
    logprob, _, advantage = random
    for ratio in policy_gradient.RATIOS:
        np.testing.assert_allclose(gradient(name, logprob, logprob, advantage, ratio=ratio), advantage, rtol=1e-5)
        assert not objective(name, logprob, logprob, advantage, ratio=ratio)[1].any()


def test_cispo_without_bounds_is_the_gradient_of_the_plain_surrogate(random):
    """Then the weight is ρ itself, and ∇ρ = ρ ∇ log πθ."""
    logprob, old, advantage = random
    expected = jax.jit(jax.grad(lambda x: (jnp.exp(x - old) * advantage).sum()))(logprob)
    np.testing.assert_allclose(gradient("cispo", *random, clip_low=1.0, clip_high=jnp.inf), expected, rtol=1e-5)


@pytest.mark.parametrize("name", policy_gradient.LOSSES)
def test_huge_ratio_without_advantage_is_no_nan(name):
    args = np.array([[1e4, -1e4]]), np.zeros((1, 2)), np.zeros((1, 2))
    value, is_clipped = objective(name, *args)
    assert (value == 0).all() and (gradient(name, *args) == 0).all() and not is_clipped.any()


# ------------------------------------------------------------------------------------------------------------- ratios


def test_sequence_ratio_by_hand():
    """Token ratios 2, 8 and, outside the mask, 100: √16 = 4 on every token, and each token's own gradient."""
    old, mask = -np.log(np.array([[2.0, 8.0, 100.0]], np.float32)), np.array([[True, True, False]])
    np.testing.assert_allclose(
        policy_gradient.sequence_ratio(np.zeros((1, 3), np.float32), old, mask), [[4, 4, 4]], rtol=1e-5
    )
    jacobian = jax.jit(jax.jacobian(lambda x_t: policy_gradient.sequence_ratio(x_t[None], old, mask)[0]))(np.zeros(3))
    np.testing.assert_allclose(jacobian, 4 * np.eye(3), rtol=1e-5)


@pytest.mark.parametrize("name", policy_gradient.LOSSES)
def test_sequence_ratio_of_one_token_is_the_token_ratio(random, name):
    for masked_tokens in (0, 3, 6):
        mask = np.tile(np.arange(7)[None] == masked_tokens, (5, 1))
        logprob, old, advantage = random
        args = logprob, old, np.where(mask, advantage, 0.0)
        by_token, by_sequence = (
            (*objective(name, *args, ratio=ratio, mask_bt=mask), gradient(name, *args, ratio=ratio, mask_bt=mask))
            for ratio in ("token", "sequence")
        )
        for x, y in zip(by_token, by_sequence, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_sequence_ratio_with_equal_advantages_has_the_gradient_of_gspo(random):
    """The mean of ρ over the sequence has the gradient of s = exp(mean log ratio), GSPO's own form."""
    logprob, old, _ = random
    mask = np.arange(7)[None] < np.array([1, 3, 5, 6, 7])[:, None]
    count = mask.sum(1)

    def gspo(x):
        return jnp.exp(jnp.where(mask, x - old, 0.0).sum(1) / count).sum()

    def gspo_token(x):
        return (jnp.where(mask, policy_gradient.sequence_ratio(x, old, mask), 0.0).sum(1) / count).sum()

    found, expected = (jax.jit(jax.value_and_grad(f))(logprob) for f in (gspo_token, gspo))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-7)


def test_sequence_ratio_depends_on_its_row_alone(random):
    logprob, old, _ = random
    args = tuple(map(np.asarray, (logprob, old, np.ones((5, 7), bool))))
    whole, rows = sequence_ratio(*args), [sequence_ratio(*(x[b : b + 1] for x in args)) for b in range(5)]
    np.testing.assert_array_equal(whole, np.concatenate(rows))


@pytest.mark.parametrize("ratio", policy_gradient.RATIOS.values())
def test_ratio_of_an_empty_mask_is_finite(random, ratio):
    assert np.isfinite(jax.jit(ratio)(*random[:2], np.zeros((5, 7), bool))).all()


# ----------------------------------------------------------------------------------------------------------------- KL


def test_kl_estimate_by_hand():
    # r = π_other / πθ = 2 and 1/2: r − 1 − log r.
    kl = policy_gradient.kl_estimate(*np.log(np.array([[[0.25, 0.5]], [[0.5, 0.25]]], np.float32)))
    np.testing.assert_allclose(kl, [[1 - np.log(2), -0.5 + np.log(2)]], rtol=1e-6)


VOCAB = 5
LOGITS, OLD_LOGITS, REF_LOGITS = jax.random.normal(jax.random.key(3), (3, VOCAB))


@jax.jit
def exact_kl(logits, other_logits):
    logprob, other_logprob = jax.nn.log_softmax(logits), jax.nn.log_softmax(other_logits)
    return jnp.sum(jnp.exp(logprob) * (logprob - other_logprob))


@functools.partial(jax.jit, static_argnames="estimate")
def expected_kl(logits, old_logits, *, estimate=policy_gradient.reference_kl):
    """Return the expectation under π_old of the estimate, by enumeration: row b is the response of token b."""
    logprob, old, ref = (jax.nn.log_softmax(x)[:, None] for x in (logits, old_logits, REF_LOGITS))
    return jnp.sum(jnp.exp(old) * estimate(logprob, old, ref))


@pytest.mark.parametrize("old_logits", [LOGITS, OLD_LOGITS], ids=["on policy", "off policy"])
def test_reference_kl_has_the_value_and_the_gradient_of_the_exact_one(old_logits):
    found = jax.jit(jax.value_and_grad(expected_kl))(LOGITS, old_logits)
    expected = jax.jit(jax.value_and_grad(exact_kl))(LOGITS, REF_LOGITS)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), found, expected)
    assert np.abs(expected[1]).max() > 0.1


SLOPE = jax.jit(jax.grad(lambda x, old, ref: policy_gradient.reference_kl(x, old, ref).sum()))


@pytest.mark.parametrize("log_ratio", [-30.0, -1.0, 0.0, 1.0, 18.0, 30.0])
def test_reference_kl_of_a_token_has_a_gradient_without_r(log_ratio):
    """It is −ρ log r, however likely the reference finds a token that the policy does not."""
    old, ref = np.full((1, 1), -31.0, np.float32), np.full((1, 1), -31.0 + log_ratio, np.float32)
    slope = SLOPE(old, old, ref)
    np.testing.assert_allclose(slope, [[-log_ratio]], rtol=1e-5)


def test_gradient_without_the_ratio_is_that_of_the_reverse_kl():
    """The usual estimate has the right value on policy, and the gradient of KL(π_ref ‖ πθ)."""
    value, found = jax.value_and_grad(expected_kl)(
        LOGITS, LOGITS, estimate=lambda logprob, old, ref: policy_gradient.kl_estimate(logprob, ref)
    )
    np.testing.assert_allclose(value, exact_kl(LOGITS, REF_LOGITS), rtol=1e-5)
    np.testing.assert_allclose(found, jax.jit(jax.grad(exact_kl, argnums=1))(REF_LOGITS, LOGITS), rtol=1e-4, atol=1e-6)
    assert not np.allclose(found, jax.jit(jax.grad(exact_kl))(LOGITS, REF_LOGITS), atol=0.05)
