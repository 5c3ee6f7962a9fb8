"""Advantages: hand-computed tables, and reductions of one baseline, scale or credit level to another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.learning import advantages

ALL = np.ones((1, 4), bool)
PLAIN = {"advantage": "group_mean", "scale": "group_std", "eps": 1e-6}
# Compiled: one program of each instead of one for each operation.
NAMES = ("advantage", "scale")
normalize_jit = jax.jit(advantages.normalize, static_argnames=NAMES)
LEVELS = {name: jax.jit(level, static_argnames=NAMES) for name, level in advantages.CREDIT_LEVELS.items()}
step_credit_jit = jax.jit(advantages.step_credit, static_argnames=NAMES)
trajectory_credit = jax.jit(advantages.trajectory_credit, static_argnames=NAMES)


def normalize(reward_qg, valid_qg=None, **changes):
    reward_qg = np.asarray(reward_qg, np.float32)
    valid_qg = np.ones(reward_qg.shape, bool) if valid_qg is None else np.asarray(valid_qg)
    return normalize_jit(reward_qg, valid_qg, **(PLAIN | changes))


# ---------------------------------------------------------------------------------------------- baselines and scales


def test_group_mean_and_std_by_hand():
    # Mean 2.5, standard deviation √1.25.
    expected = np.array([[-1.5, -0.5, 0.5, 1.5]]) / np.sqrt(1.25)
    np.testing.assert_allclose(normalize([[1.0, 2.0, 3.0, 4.0]]), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "advantage, expected",
    [("group_mean", [-3, -1, 4]), ("leave_one_out", [-4.5, -1.5, 6]), ("no_baseline", [1, 3, 8])],
)
def test_baselines_by_hand(advantage, expected):
    """Mean 4; the means of the others are 5.5, 4.5 and 2."""
    found = normalize([[1.0, 3.0, 8.0]], advantage=advantage, scale="none")
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_leave_one_out_equals_a_loop_over_the_others():
    rng = np.random.default_rng(0)
    reward, valid = rng.normal(size=(3, 5)), rng.random((3, 5)) < 0.7
    expected = np.zeros((3, 5))
    for q, g in np.argwhere(valid):
        others = [reward[q, j] for j in range(5) if j != g and valid[q, j]]
        expected[q, g] = reward[q, g] - np.mean(others) if others else 0
    found = normalize(np.array(reward, jnp.float32), valid, advantage="leave_one_out", scale="none")
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("scale", advantages.SCALES)
def test_leave_one_out_is_the_group_mean_stretched(scale):
    reward = jax.random.normal(jax.random.key(0), (3, 4))
    one_out, mean = (normalize(reward, advantage=name, scale=scale) for name in ("leave_one_out", "group_mean"))
    np.testing.assert_allclose(one_out, 4 / 3 * mean, rtol=1e-5)


@pytest.mark.parametrize("advantage", advantages.ADVANTAGES)
def test_batch_std_of_one_question_is_group_std(advantage):
    reward = jax.random.normal(jax.random.key(0), (1, 4))
    by_batch, by_group = (normalize(reward, advantage=advantage, scale=x) for x in ("batch_std", "group_std"))
    np.testing.assert_allclose(by_batch, by_group, rtol=1e-6)


def test_batch_std_by_hand():
    """Deviations ±1 and ±3, and the 9 of a sample that does not count: √((1 + 1 + 9 + 9) / 4) = √5."""
    reward, valid = [[0.0, 2.0, 9.0], [1.0, 7.0, 9.0]], [[True, True, False]] * 2
    found = normalize(reward, valid, scale="batch_std", eps=0.5)
    np.testing.assert_allclose(found, np.array([[-1, 1, 0], [-3, 3, 0]]) / (np.sqrt(5) + 0.5), rtol=1e-6)


def test_eps_is_added_to_the_deviation():
    # Mean 4, standard deviation 2: (R − 4) / (2 + ε). Dividing by max(2, ε) would give ±1 for ε = 0.5, ±0.5 for ε = 4.
    for eps, expected in ((0.5, 2 / 2.5), (2.0, 2 / 4), (4.0, 2 / 6)):
        np.testing.assert_allclose(normalize([[2.0, 6.0]], eps=eps), [[-expected, expected]], rtol=1e-6)


def test_groups_are_independent():
    np.testing.assert_allclose(normalize([[0.0, 1.0], [100.0, 102.0]]), [[-1, 1], [-1, 1]], rtol=1e-4)


@pytest.mark.parametrize("scale", advantages.SCALES)
@pytest.mark.parametrize("advantage", ["group_mean", "leave_one_out"])
def test_equal_rewards_give_exactly_zero_in_float32(advantage, scale):
    """Eight times 1.2 does not sum to 9.6 in float32, so a plain mean would differ from the rewards."""
    assert (normalize(np.full((3, 8), 1.2), advantage=advantage, scale=scale) == 0).all()


def test_equal_rewards_without_a_baseline_are_not_divided_by_zero():
    """Their deviation from 0 is 0.7, not the standard deviation 0."""
    np.testing.assert_allclose(normalize(np.full((1, 4), 0.7), advantage="no_baseline"), np.ones((1, 4)), rtol=1e-5)


@pytest.mark.parametrize("scale", advantages.SCALES)
@pytest.mark.parametrize("advantage", advantages.ADVANTAGES)
def test_invalid_samples_do_not_count_and_get_no_advantage(advantage, scale):
    valid = np.array([[True, True, False, True]])
    changes = {"advantage": advantage, "scale": scale}
    for invalid in (99.0, np.nan, np.inf):
        with_invalid = normalize([[1.0, 2.0, invalid, 3.0]], valid, **changes)
        without = normalize([[1.0, 2.0, 3.0]], **changes)
        np.testing.assert_allclose(with_invalid[0, np.array([0, 1, 3])], without[0], rtol=1e-6)
        assert with_invalid[0, 2] == 0


@pytest.mark.parametrize("scale", advantages.SCALES)
@pytest.mark.parametrize("advantage", advantages.ADVANTAGES)
def test_group_without_valid_samples_gets_zeros(advantage, scale):
    found = normalize([[1.0, 2.0, 3.0, 4.0]], ~ALL, advantage=advantage, scale=scale)
    np.testing.assert_array_equal(found, np.zeros((1, 4)))


def test_single_sample_has_no_others_to_be_compared_with():
    valid = np.array([[True, False]])
    assert (normalize([[5.0, 1.0]], valid, advantage="leave_one_out", scale="none") == 0).all()


def test_scale_none_only_subtracts_the_mean():
    np.testing.assert_array_equal(normalize([[1.0, 2.0, 3.0, 4.0]], scale="none", eps=9.0), [[-1.5, -0.5, 0.5, 1.5]])


def test_every_choice_is_different():
    reward = np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 0.0]])
    choices = [(a, s) for a in advantages.ADVANTAGES for s in advantages.SCALES]
    found = {tuple(np.ravel(normalize(reward, advantage=a, scale=s)).round(4)) for a, s in choices}
    assert len(found) == len(choices) == 9


def test_unknown_names_raise():
    with pytest.raises(ValueError, match="outcome_scale='std': choose one of group_std, batch_std, none"):
        normalize(np.zeros((1, 4)), scale="std")
    with pytest.raises(ValueError, match="advantage='mean': choose one of group_mean, leave_one_out"):
        normalize(np.zeros((1, 4)), advantage="mean")


# ------------------------------------------------------------------------------------------------------------- credit


def step_credit(gain, valid, step_bt, **changes):
    gain, valid, step_bt = np.asarray(gain, np.float32), np.asarray(valid), np.asarray(step_bt, np.int32)
    return step_credit_jit(gain, valid, step_bt, **(PLAIN | changes))


def test_trajectory_credit_is_zero_outside_the_reasoning():
    step_bt = np.array([[-1, 0, 1, -1], [0, 0, -1, -1]])
    credit = trajectory_credit(np.array([[0.0, 1.0]]), step_bt, **PLAIN)
    np.testing.assert_allclose(credit, [[0, -1, -1, 0], [1, 1, 0, 0]], rtol=1e-4)


# Three responses of 2, 2 and 1 steps; gains to go [5, 4, 0], [3, 2, 0] and [1, 0, 0]; means 3, 2 and 0.
GAIN = [[[1.0, 4.0], [1.0, 2.0], [1.0, 0.0]]]
VALID = [[[True, True], [True, True], [True, False]]]
# The last token closes the reasoning: position 2 of the first two, position 1 of the third, which −2 discourages.
STEP = [[-1, 0, 1, 2], [0, 0, 1, 2], [0, 1, -1, -1]]
CENTERED = np.array([[0, 2, 2, 0], [0, 0, 0, 0], [-2, -2, 0, 0]])


def test_step_credit_by_hand():
    np.testing.assert_allclose(step_credit(GAIN, VALID, STEP, scale="none"), CENTERED, atol=1e-6)


def test_step_credit_has_one_spread_per_group():
    """Valid steps are 2, 2, 0, 0 and −2 from their means; the closing position of the third, −2, is left out."""
    credit = step_credit(GAIN, VALID, STEP, eps=0.25)
    np.testing.assert_allclose(credit, CENTERED / (np.sqrt(12 / 5) + 0.25), rtol=1e-5, atol=1e-7)


def test_small_differences_between_late_steps_stay_small():
    """Differences of 2 at step 0 and of 0.02 at step 1: with a spread for each position both would be ±1."""
    gain = [[[2.0, 0.02], [0.0, 0.0]]]
    credit = step_credit(gain, np.ones((1, 2, 2), bool), [[0, 1], [0, 1]])
    np.testing.assert_allclose(credit[:, 1] / credit[:, 0], [0.02 / 2.02] * 2, rtol=1e-5)


def test_step_credit_of_the_batch_has_one_spread():
    gain, valid, step = (np.concatenate([np.array(x), y]) for x, y in (
        (GAIN, 3 * np.array(GAIN)), (VALID, np.array(VALID)), (STEP, np.array(STEP))
    ))  # fmt: skip
    credit = step_credit(gain, valid, step, scale="batch_std", eps=0.0)
    expected = np.concatenate([CENTERED, 3 * CENTERED]) / np.sqrt((12 + 9 * 12) / 10)
    np.testing.assert_allclose(credit, expected, rtol=1e-5, atol=1e-7)


def test_step_credit_by_leave_one_out_and_without_baseline():
    one_out = step_credit(GAIN, VALID, STEP, scale="none", advantage="leave_one_out")
    np.testing.assert_allclose(one_out, 1.5 * CENTERED, atol=1e-6)
    to_go = [[0, 5, 4, 0], [3, 3, 2, 0], [1, 0, 0, 0]]
    np.testing.assert_allclose(step_credit(GAIN, VALID, STEP, scale="none", advantage="no_baseline"), to_go, atol=1e-6)


def test_closing_is_position_n_even_with_all_probes_in_use():
    """Nobody is left with anything to gain at position K, so closing there is neither good nor bad."""
    credit = step_credit(GAIN, VALID, STEP, scale="none")
    assert credit[0, 3] == credit[1, 3] == 0
    assert credit[2, 1] == -2


def test_nothing_to_gain_gives_exactly_zero_everywhere():
    gain = np.where(np.array(VALID), 1.2, 0.0) * [1.0, 0.0]
    np.testing.assert_array_equal(step_credit(gain, VALID, STEP), np.zeros((3, 4)))


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.9, 1.0])
def test_discounted_gain_to_go_is_the_sum_over_later_steps(discount):
    gain = jax.random.normal(jax.random.key(0), (2, 3, 4))
    step_bt = np.tile(np.arange(5)[None], (6, 1))
    found = step_credit(
        gain, np.ones(gain.shape, bool), step_bt, discount=discount, scale="none", advantage="no_baseline"
    )
    g = np.asarray(gain).reshape(6, 4)
    expected = [[sum(discount ** (j - k) * row[j] for j in range(k, 4)) for k in range(5)] for row in g]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_discount_one_is_the_default_and_zero_pays_own_gains_alone():
    np.testing.assert_array_equal(step_credit(GAIN, VALID, STEP, discount=1.0), step_credit(GAIN, VALID, STEP))
    own = [[0, 0, 2, 0], [0, 0, 0, 0], [0, -2, 0, 0]]  # gains 1, 1, 1, then 4, 2, 0 with mean 2
    np.testing.assert_allclose(step_credit(GAIN, VALID, STEP, discount=0.0, scale="none"), own, atol=1e-6)


@pytest.mark.parametrize("padding", [7.0, np.nan, np.inf])
def test_gains_of_padding_have_no_effect(padding):
    gain = np.where(np.array(VALID), np.array(GAIN), padding)
    np.testing.assert_array_equal(step_credit(gain, VALID, STEP), step_credit(GAIN, VALID, STEP))


@pytest.mark.parametrize(
    "scale, eps, expected", [("none", 1e-6, 2.0), ("group_std", 2.0, 0.5), ("batch_std", 2.0, 0.5)]
)
def test_scale_and_eps_reach_both_credits(scale, eps, expected):
    """Rewards 0 and 4: mean 2, standard deviation 2."""
    reward_qg, step_bt, changes = np.array([[0.0, 4.0]]), np.zeros((2, 1), np.int32), {"scale": scale, "eps": eps}
    by_trajectory = trajectory_credit(reward_qg, step_bt, **(PLAIN | changes))
    by_step = step_credit(reward_qg[..., None], np.ones((1, 2, 1), bool), step_bt, **changes)
    for credit in (by_trajectory, by_step):
        np.testing.assert_allclose(credit, [[-expected], [expected]], rtol=1e-5)


@pytest.mark.parametrize("scale", advantages.SCALES)
@pytest.mark.parametrize("advantage", advantages.ADVANTAGES)
def test_step_credit_of_one_step_is_trajectory_credit(advantage, scale):
    reward_qg = np.array([[0.3, 1.0, 0.1], [2.0, 0.0, 0.5]])
    step_bt = np.tile(np.array([[-1, 0, 0, -1]]), (6, 1))
    options = PLAIN | {"advantage": advantage, "scale": scale}
    by_step = step_credit(reward_qg[..., None], np.ones((2, 3, 1), bool), step_bt, **options)
    np.testing.assert_allclose(by_step, trajectory_credit(reward_qg, step_bt, **options), rtol=1e-6)


@pytest.mark.parametrize("level", advantages.CREDIT_LEVELS)
def test_responses_that_do_not_count_are_as_if_they_were_not_there(level):
    gain, valid = np.array(GAIN), np.array(VALID)
    options = PLAIN | {"discount": 0.9}
    credit = LEVELS[level]
    counted = np.array([[True, False, True]])
    found = credit(gain.sum(2), gain, valid, np.array(STEP), valid_qg=counted, **options)
    rest = np.array([0, 2])
    gain, valid = gain[:, rest], valid[:, rest]
    expected = credit(gain.sum(2), gain, valid, np.array(STEP)[rest], **options)
    np.testing.assert_allclose(found[rest], expected, rtol=1e-6)
    assert (found[1] == 0).all() and (expected != 0).any()


def test_credit_levels_are_the_two_functions():
    gain, valid, step = np.array(GAIN), np.array(VALID), np.array(STEP)
    found = [LEVELS[name](gain.sum(2), gain, valid, step, discount=0.5, **PLAIN) for name in ("trajectory", "step")]
    expected = trajectory_credit(gain.sum(2), step, **PLAIN), step_credit(gain, valid, step, discount=0.5)
    jax.tree.map(np.testing.assert_array_equal, found, list(expected))
