"""Credit rules: hand-computed tables, properties over seeds, and reductions of one rule to another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards

# ℓ:          -4   -3   -5   -2   -2   -1
# watermark:  -4   -3   -3   -2   -2   -1      the best so far
# gain:             1    0    1    0    1      step 2 falls; step 3 earns only what exceeds step 1
ELL = jnp.array([-4.0, -3.0, -5.0, -2.0, -2.0, -1.0])
ALL = jnp.ones(6, bool)


def random_ells(seed, n=64, k=8):
    """Return `n` random walks of ℓ, and validity masks whose first entry is True."""
    rng = np.random.default_rng(seed)
    ell = rng.normal(size=(n, k + 1)).cumsum(1) - 5
    valid = np.arange(k + 1)[None] <= rng.integers(0, k + 1, size=(n, 1))
    return jnp.array(ell, jnp.float32), jnp.array(valid)


def test_watermark_table():
    gain_k, watermark_k = rewards.watermark_gains(ELL, ALL)
    np.testing.assert_array_equal(gain_k, [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(watermark_k, [-4, -3, -3, -2, -2, -1])


# Reward and gain of each step for ELL, with all steps valid.
TABLE = {
    "watermark": (3.0, [1, 0, 1, 0, 1]),
    "final": (-1.0, [1, -2, 3, 0, 1]),
    "delta_sum": (3.0, [1, -2, 3, 0, 1]),
    # (1·1 + 2·(−1) + 3·2 + 4·2 + 5·3) / 15 = 28/15
    "position_weighted": (28 / 15, [1 / 15, -2 / 15, 6 / 15, 8 / 15, 15 / 15]),
    "segment_progress": (np.exp(-1) - np.exp(-4), np.diff(np.exp(np.array(ELL)))),
}


@pytest.mark.parametrize("name", rewards.CREDITS)
def test_credit_table(name):
    credit = rewards.CREDITS[name](ELL, ALL)
    reward, gain_k = TABLE[name]
    np.testing.assert_allclose(credit.reward, reward, rtol=1e-6)
    np.testing.assert_allclose(credit.gain_k, gain_k, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("seed", range(10))
def test_watermark_properties(seed):
    ell_bk, valid_bk = random_ells(seed)
    gain_bk, watermark_bk = jax.vmap(rewards.watermark_gains)(ell_bk, valid_bk)
    best_b = jnp.where(valid_bk, ell_bk, -jnp.inf).max(1)
    assert (gain_bk >= 0).all()
    assert (jnp.diff(watermark_bk, axis=1) >= 0).all()
    assert (jnp.where(valid_bk[:, 1:], 0, gain_bk) == 0).all()
    np.testing.assert_allclose(gain_bk.sum(1), best_b - ell_bk[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", rewards.CREDITS)
@pytest.mark.parametrize("seed", range(3))
def test_padding_has_no_effect(name, seed):
    ell_bk, valid_bk = random_ells(seed)
    credit = jax.vmap(rewards.CREDITS[name])
    clean, dirty = credit(ell_bk, valid_bk), credit(jnp.where(valid_bk, ell_bk, 99.0), valid_bk)
    np.testing.assert_array_equal(clean.reward, dirty.reward)
    np.testing.assert_array_equal(clean.gain_k, dirty.gain_k)
    assert np.isfinite(clean.reward).all() and np.isfinite(clean.gain_k).all()


@pytest.mark.parametrize("name", rewards.CREDITS)
def test_padded_response_earns_what_it_earns_alone(name):
    alone = rewards.CREDITS[name](ELL[:4], ALL[:4])
    padded = rewards.CREDITS[name](ELL, jnp.arange(6) < 4)
    np.testing.assert_allclose(padded.reward, alone.reward, rtol=1e-6)
    np.testing.assert_allclose(padded.gain_k, jnp.pad(alone.gain_k, (0, 2)), rtol=1e-6)


@pytest.mark.parametrize("name", ["watermark", "delta_sum", "position_weighted"])
def test_constant_shift_has_no_effect(name):
    ell_bk, valid_bk = random_ells(0)
    credit = jax.vmap(rewards.CREDITS[name])
    np.testing.assert_allclose(credit(ell_bk, valid_bk).reward, credit(ell_bk - 7, valid_bk).reward, atol=1e-4)


def test_rules_agree_where_the_likelihood_only_rises():
    ell_k = jnp.sort(ELL)
    watermark, delta, final = (rewards.CREDITS[name](ell_k, ALL) for name in ("watermark", "delta_sum", "final"))
    np.testing.assert_allclose(watermark.gain_k, delta.gain_k, atol=1e-6)
    np.testing.assert_allclose(watermark.reward, final.reward - ell_k[0], atol=1e-6)


@pytest.mark.parametrize("name", rewards.CREDITS)
def test_response_without_steps_earns_nothing(name):
    credit = rewards.CREDITS[name](ELL, jnp.arange(6) == 0)
    assert credit.reward == (ELL[0] if name == "final" else 0)
    np.testing.assert_array_equal(credit.gain_k, jnp.zeros(5))


@pytest.mark.parametrize("rule", [rewards.watermark_gains, *rewards.CREDITS.values()])
def test_batch_without_vmap_raises(rule):
    with pytest.raises(AssertionError, match="use jax.vmap for a batch"):
        rule(jnp.stack([ELL, ELL]), jnp.stack([ALL, ALL]))
