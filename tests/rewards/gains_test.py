"""Credit rules: hand-computed tables, properties over seeds, and reductions of one rule to another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards

# ℓ:          -4   -3   -5   -2   -2   -1
# watermark:  -4   -3   -3   -2   -2   -1      the best so far
# gain:             1    0    1    0    1      step 2 falls; step 3 earns only what exceeds step 1
# fall:        0    0    2    0    0    0      below the watermark
ELL = np.array([-4.0, -3.0, -5.0, -2.0, -2.0, -1.0])
ALL = np.ones(6, bool)


def make_group(ell_gk, valid_gk=None, steps_gk=None, is_correct_g=None):
    """Return a group; by default all entries are valid, one step an interval, and all responses correct."""
    ell_gk = np.array(ell_gk, np.float32)
    valid_gk = np.ones(ell_gk.shape, bool) if valid_gk is None else np.array(valid_gk)
    steps_gk = valid_gk[:, 1:].astype(int) if steps_gk is None else np.array(steps_gk)
    is_correct_g = np.ones(len(ell_gk), bool) if is_correct_g is None else np.array(is_correct_g)
    return rewards.Group(*map(jax.device_put, (ell_gk, valid_gk, steps_gk, 10 * steps_gk, is_correct_g)))


def random_group(seed, n=64, k=8):
    """Return `n` random walks of ℓ from one ℓ₀, whose first entry is valid, with 1 to 3 steps an interval."""
    rng = np.random.default_rng(seed)
    ell = rng.normal(size=(n, k + 1)).cumsum(1) - 5
    ell[:, 0] = -5
    valid = np.arange(k + 1)[None] <= rng.integers(0, k + 1, size=(n, 1))
    steps = rng.integers(1, 4, size=(n, k)) * valid[:, 1:]
    return make_group(ell, valid, steps, rng.random(n) < 0.5)


@functools.cache
def compiled(name, **knobs):
    """Return the jitted `make_credit`, one of each kind, so that tests share its compilation."""
    return jax.jit(rewards.make_credit(name, **knobs))


watermark_gains = jax.jit(
    lambda ell_gk, valid_gk, threshold=0.0: jax.vmap(lambda *one: rewards.watermark_gains(*one, threshold=threshold))(
        ell_gk, valid_gk
    ),
    static_argnames="threshold",
)


def test_watermark_table():
    gain_k, watermark_k = rewards.watermark_gains(jnp.array(ELL), jnp.array(ALL))
    np.testing.assert_array_equal(gain_k, [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(watermark_k, [-4, -3, -3, -2, -2, -1])
    np.testing.assert_array_equal(rewards.watermark_falls(jnp.array(ELL), jnp.array(ALL)), [0, 0, 2, 0, 0, 0])


def test_threshold_table():
    """A rise of at most the threshold earns nothing and leaves the watermark, so small rises add up."""
    # ℓ:          0    0.5   0.75   1.5   1.25   2       δ = 0.5
    # watermark:  0    0     0.75   1.5   1.5    1.5
    # gain:            0     0.25   0.25  0      0       the last rise is exactly δ
    ell_k = jnp.array([0, 0.5, 0.75, 1.5, 1.25, 2.0])
    gain_k, watermark_k = rewards.watermark_gains(ell_k, ALL, threshold=0.5)
    np.testing.assert_array_equal(gain_k, [0, 0.25, 0.25, 0, 0])
    np.testing.assert_array_equal(watermark_k, [0, 0, 0.75, 1.5, 1.5, 1.5])
    np.testing.assert_array_equal(rewards.watermark_falls(ell_k, ALL, threshold=0.5), [0, 0, 0, 0, 0.25, 0])


def test_last_fall_is_that_of_the_last_step():
    fall_k = rewards.watermark_falls(jnp.array([*ELL[:3], 99.0, 99.0, 99.0]), jnp.array([True] * 3 + [False] * 3))
    np.testing.assert_array_equal(fall_k, [0, 0, 2, 2, 2, 2])


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
    """The same for one response and for two, of which the second only repeats the first."""
    reward, gain_k = TABLE[name]
    for size in (1, 2):
        credit = compiled(name)(make_group([ELL] * size))
        np.testing.assert_allclose(credit.reward_g, [reward] * size, rtol=1e-6)
        np.testing.assert_allclose(credit.gain_gk, [gain_k] * size, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("drawdown", [0.0, 0.25, 1.0])
def test_drawdown_table(drawdown):
    """Step 2 loses a share of its fall of 2, and step 3 regains it; a last fall of 2 is never regained."""
    regained = compiled("watermark", drawdown=drawdown)(make_group([ELL]))
    np.testing.assert_array_equal(regained.gain_gk, [[1, -2 * drawdown, 1 + 2 * drawdown, 0, 1]])
    np.testing.assert_array_equal(regained.reward_g, [3.0])
    lost = compiled("watermark", drawdown=drawdown)(make_group([ELL[:3]]))
    np.testing.assert_array_equal(lost.gain_gk, [[1, -2 * drawdown]])
    np.testing.assert_array_equal(lost.reward_g, [1 - 2 * drawdown])


def test_drawdown_with_threshold_table():
    # ℓ:     0    1     1.25   0.5       δ = 0.5, λ = 0.5
    # mark:  0    1     1      1
    # gain:       0.5   0      0  −  0.5 · (0, 0, 0.5)
    credit = compiled("watermark", threshold=0.5, drawdown=0.5)(make_group([[0, 1, 1.25, 0.5]]))
    np.testing.assert_array_equal(credit.gain_gk, [[0.5, 0, -0.25]])


@pytest.mark.parametrize("seed", range(10))
def test_watermark_properties(seed):
    group = random_group(seed)
    group = jax.tree.map(np.asarray, group)
    gain_gk, watermark_gk = map(np.asarray, watermark_gains(group.ell_gk, group.valid_gk))
    best_g = np.where(group.valid_gk, group.ell_gk, -np.inf).max(1)
    assert (gain_gk >= 0).all()
    assert (np.diff(watermark_gk, axis=1) >= 0).all()
    assert (np.where(group.valid_gk[:, 1:], 0, gain_gk) == 0).all()
    np.testing.assert_allclose(gain_gk.sum(1), best_g - group.ell_gk[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("drawdown", [0.3, 1.0])
def test_drawdown_takes_back_a_share_of_the_last_fall(seed, drawdown):
    """R = (h_K − ℓ₀) − λ (h_K − ℓ_K)."""
    group = random_group(seed)
    best_g = np.where(group.valid_gk, group.ell_gk, -np.inf).max(1)
    last_g = np.array([ell[valid][-1] for ell, valid in zip(*map(np.array, group[:2]), strict=True)])
    credit = compiled("watermark", drawdown=drawdown)(group)
    np.testing.assert_allclose(credit.reward_g, best_g + 5 - drawdown * (best_g - last_g), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_threshold_pays_the_watermark_less_a_toll_for_each_rise(seed):
    group = random_group(seed)
    credit = compiled("watermark", threshold=0.5)(group)
    mark_gk = np.asarray(watermark_gains(*group[:2], threshold=0.5)[1])
    rises_g = (np.diff(mark_gk) > 0).sum(1)
    np.testing.assert_allclose(credit.reward_g, mark_gk[:, -1] - mark_gk[:, 0] - 0.5 * rises_g, atol=1e-5)
    assert (np.diff(mark_gk)[np.diff(mark_gk) > 0] > 0.5).all()


@pytest.mark.parametrize("seed", range(3))
def test_watermark_with_all_knobs_at_zero_is_the_plain_watermark(seed):
    group = random_group(seed)
    knobs = {"threshold": 0.0, "drawdown": 0.0, "step_price": 0.0, "excess_step_price": 0.0, "gate": "all"}
    credit = compiled("watermark", **knobs)(group)
    gain_gk, _ = watermark_gains(group.ell_gk, group.valid_gk)
    np.testing.assert_array_equal(credit.gain_gk, gain_gk)
    np.testing.assert_array_equal(credit.reward_g, gain_gk.sum(1))


@pytest.mark.parametrize("seed", range(3))
def test_watermark_with_full_drawdown_is_the_delta_sum(seed):
    group = random_group(seed)
    full, delta = compiled("watermark", drawdown=1.0)(group), compiled("delta_sum")(group)
    np.testing.assert_allclose(full.reward_g, delta.reward_g, atol=1e-5)
    np.testing.assert_allclose(full.gain_gk, delta.gain_gk, atol=1e-5)


# Every rule with every knob that it takes, each alone and all together.
KNOBS = (
    {"step_price": 0.25},
    {"excess_step_price": 0.25},
    {"gate": "correct"},
    {"gate": "kept", "gate_tolerance": 0.5},
    {"step_price": 0.25, "excess_step_price": 0.5, "gate": "kept", "gate_tolerance": 1.0},
)
VARIATIONS = [
    *((name, knobs) for name in rewards.CREDITS for knobs in ({}, *KNOBS)),
    ("watermark", {"threshold": 0.5}),
    ("watermark", {"drawdown": 0.5}),
    ("watermark", {"threshold": 0.5, "drawdown": 0.5} | KNOBS[-1]),
]
vary = pytest.mark.parametrize("name, knobs", VARIATIONS)


@vary
@pytest.mark.parametrize("seed", range(3))
def test_gains_sum_to_the_reward(name, knobs, seed):
    group = random_group(seed)
    credit = compiled(name, **knobs)(group)
    start_g = group.ell_gk[:, 0] if name == "final" else 0
    np.testing.assert_allclose(credit.gain_gk.sum(1) + start_g, credit.reward_g, atol=1e-5)


@pytest.mark.parametrize("name, knobs", [variation for variation in VARIATIONS if variation[1]])
def test_every_knob_changes_rewards_and_gains(name, knobs):
    group = random_group(0)
    plain, changed = compiled(name)(group), compiled(name, **knobs)(group)
    assert not np.allclose(plain.reward_g, changed.reward_g)
    assert not np.allclose(plain.gain_gk, changed.gain_gk)


@vary
@pytest.mark.parametrize("dirt", [99.0, -jnp.inf, jnp.nan])
def test_padding_has_no_effect(name, knobs, dirt):
    clean = random_group(1)
    is_valid = np.asarray(clean.valid_gk)[:, 1:]
    dirty = clean._replace(
        ell_gk=np.where(clean.valid_gk, clean.ell_gk, np.float32(dirt)),
        steps_gk=np.where(is_valid, clean.steps_gk, np.int32(7)),
        tokens_gk=np.where(is_valid, clean.tokens_gk, np.int32(7)),
    )
    credit = compiled(name, **knobs)
    for found, expected in zip(credit(dirty), credit(clean), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert np.isfinite(found).all()
    assert (np.where(is_valid, 0, credit(clean).gain_gk) == 0).all()


@vary
def test_padded_group_earns_what_it_earns_alone(name, knobs):
    credit, is_correct_g = rewards.make_credit(name, **knobs), [True, False]  # shapes of their own
    alone = credit(make_group([ELL[:4], ELL[2:]], steps_gk=[[1, 2, 1], [1, 1, 1]], is_correct_g=is_correct_g))
    ell_gk, valid_gk = [ELL, [*ELL[2:], 9, 9]], [[True] * 4 + [False] * 2] * 2
    steps_gk = [[1, 2, 1, 0, 0], [1, 1, 1, 0, 0]]
    padded = credit(make_group(ell_gk, valid_gk, steps_gk, is_correct_g))
    np.testing.assert_allclose(padded.reward_g, alone.reward_g, rtol=1e-6)
    np.testing.assert_allclose(padded.gain_gk, np.pad(alone.gain_gk, ((0, 0), (0, 2))), rtol=1e-6)


@pytest.mark.parametrize("name, knobs", [v for v in VARIATIONS if v[0] not in ("final", "segment_progress")])
def test_constant_shift_has_no_effect(name, knobs):
    group = random_group(0)
    found, expected = (compiled(name, **knobs)(x) for x in (group._replace(ell_gk=group.ell_gk - 8), group))
    np.testing.assert_allclose(found.reward_g, expected.reward_g, atol=1e-4)
    np.testing.assert_allclose(found.gain_gk, expected.gain_gk, atol=1e-4)


def test_rules_agree_where_the_likelihood_only_rises():
    group = make_group([np.sort(ELL)])
    watermark, delta, final = (compiled(name)(group) for name in ("watermark", "delta_sum", "final"))
    np.testing.assert_allclose(watermark.gain_gk, delta.gain_gk, atol=1e-6)
    np.testing.assert_allclose(watermark.reward_g, final.reward_g - group.ell_gk[:, 0], atol=1e-6)


@vary
def test_response_without_steps_earns_nothing(name, knobs):
    group = random_group(0)
    without_g = ~np.asarray(group.valid_gk)[:, 1:].any(1)
    assert without_g.any() and not without_g.all()
    credit = compiled(name, **knobs)(group)
    np.testing.assert_array_equal(np.asarray(credit.reward_g)[without_g], -5 if name == "final" else 0)
    np.testing.assert_array_equal(np.asarray(credit.gain_gk)[without_g], 0)


@pytest.mark.parametrize("name", rewards.CREDITS)
def test_batch_without_vmap_raises(name):
    group = random_group(0)
    batch = jax.tree.map(lambda x: np.stack([x, x]), group)
    with pytest.raises(AssertionError, match="use jax.vmap for a batch"):
        compiled(name)(batch)
    found, expected = jax.vmap(compiled(name))(batch), compiled(name)(group)
    np.testing.assert_array_equal(found.gain_gk[1], expected.gain_gk)
    with pytest.raises(AssertionError, match="use jax.vmap for a batch"):
        rewards.watermark_gains(group.ell_gk, group.valid_gk)
