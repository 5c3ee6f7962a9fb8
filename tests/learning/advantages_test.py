"""Advantages: hand-computed tables, and the reduction of step credit to trajectory credit."""

import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.learning import advantages

ALL = jnp.ones((1, 4), bool)


def test_group_normalize_by_hand():
    # Mean 2.5, standard deviation √1.25.
    advantage = advantages.group_normalize(jnp.array([[1.0, 2.0, 3.0, 4.0]]), ALL)
    np.testing.assert_allclose(advantage[0], np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25), rtol=1e-5)


def test_eps_is_added_to_the_deviation():
    # Mean 4, standard deviation 2: (R − 4) / (2 + ε). Dividing by max(2, ε) would give ±1 for ε = 0.5, ±0.5 for ε = 4.
    reward, valid = jnp.array([[2.0, 6.0]]), ALL[:, :2]
    for eps, expected in ((0.5, 2 / 2.5), (2.0, 2 / 4), (4.0, 2 / 6)):
        advantage = advantages.group_normalize(reward, valid, eps=eps)
        np.testing.assert_allclose(advantage, [[-expected, expected]], rtol=1e-6)


def test_groups_are_independent():
    reward = jnp.array([[0.0, 1.0], [100.0, 102.0]])
    np.testing.assert_allclose(advantages.group_normalize(reward, reward > -1), [[-1, 1], [-1, 1]], rtol=1e-4)


def test_equal_rewards_give_no_advantage():
    assert (advantages.group_normalize(jnp.full((3, 4), 0.7), jnp.ones((3, 4), bool)) == 0).all()


def test_equal_rewards_give_exactly_zero_in_float32():
    """Eight times 1.2 does not sum to 9.6 in float32, so a plain mean would differ from the rewards."""
    assert (advantages.group_normalize(jnp.full((1, 8), 1.2), jnp.ones((1, 8), bool)) == 0).all()


def test_invalid_samples_do_not_count_and_get_no_advantage():
    valid = jnp.array([[True, True, False, True]])
    with_invalid = advantages.group_normalize(jnp.array([[1.0, 2.0, 99.0, 3.0]]), valid)
    without = advantages.group_normalize(jnp.array([[1.0, 2.0, 3.0]]), ALL[:, :3])
    np.testing.assert_allclose(with_invalid[0, jnp.array([0, 1, 3])], without[0], rtol=1e-6)
    assert with_invalid[0, 2] == 0


@pytest.mark.parametrize("scale", advantages.SCALES)
def test_group_without_valid_samples_gets_zeros(scale):
    advantage = advantages.group_normalize(jnp.array([[1.0, 2.0, 3.0, 4.0]]), ~ALL, scale=scale)
    np.testing.assert_array_equal(advantage, jnp.zeros((1, 4)))


def test_scale_none_only_subtracts_the_mean():
    advantage = advantages.group_normalize(jnp.array([[1.0, 2.0, 3.0, 4.0]]), ALL, scale="none")
    np.testing.assert_array_equal(advantage, [[-1.5, -0.5, 0.5, 1.5]])


def test_unknown_scale_raises():
    with pytest.raises(ValueError, match="unknown scale 'batch_std'; use one of group_std, none"):
        advantages.group_normalize(jnp.zeros((1, 4)), ALL, scale="batch_std")


def test_trajectory_credit_is_zero_outside_the_reasoning():
    step_bt = jnp.array([[-1, 0, 1, -1], [0, 0, -1, -1]])
    credit = advantages.trajectory_credit(jnp.array([[0.0, 1.0]]), step_bt)
    np.testing.assert_allclose(credit, [[0, -1, -1, 0], [1, 1, 0, 0]], rtol=1e-4)


def test_step_credit_by_hand():
    # Gains to go: [3, 1] and [1, 1]; step 0 differs by 2, step 1 not at all. The third step exists in neither.
    gain = jnp.array([[[2.0, 1.0, 0.0], [0.0, 1.0, 0.0]]])
    valid = jnp.array([[[True, True, False]] * 2])
    step_bt = jnp.array([[-1, 0, 0, 1, -1], [0, 1, 1, 1, -1]])
    credit = advantages.step_credit(gain, valid, step_bt)
    np.testing.assert_allclose(credit, [[0, 1, 1, 0, 0], [-1, 0, 0, 0, 0]], atol=1e-4)


def test_step_credit_compares_responses_that_have_the_step():
    # Gains to go: [5, 4], [3, 2] and [1]; step 0 has mean 3, step 1 has mean 3 over the first two responses.
    gain = jnp.array([[[1.0, 4.0], [1.0, 2.0], [1.0, 0.0]]])
    valid = jnp.array([[[True, True], [True, True], [True, False]]])
    step_bt = jnp.array([[0, 1], [0, 1], [0, -1]])
    credit = advantages.step_credit(gain, valid, step_bt, scale="none")
    np.testing.assert_allclose(credit, [[2, 1], [0, -1], [-2, 0]], atol=1e-6)


@pytest.mark.parametrize("scale, eps, expected", [("none", 1e-6, 2.0), ("group_std", 2.0, 0.5)])
def test_scale_and_eps_reach_both_credits(scale, eps, expected):
    """Rewards 0 and 4: mean 2, standard deviation 2."""
    reward_qg, step_bt = jnp.array([[0.0, 4.0]]), jnp.zeros((2, 1), jnp.int32)
    by_trajectory = advantages.trajectory_credit(reward_qg, step_bt, scale=scale, eps=eps)
    by_step = advantages.step_credit(reward_qg[..., None], jnp.ones((1, 2, 1), bool), step_bt, scale=scale, eps=eps)
    for credit in (by_trajectory, by_step):
        np.testing.assert_allclose(credit, [[-expected], [expected]], rtol=1e-5)


def test_step_credit_of_one_step_is_trajectory_credit():
    reward_qg = jnp.array([[0.3, 1.0, 0.1], [2.0, 0.0, 0.5]])
    step_bt = jnp.tile(jnp.array([[-1, 0, 0, -1]]), (6, 1))
    by_step = advantages.step_credit(reward_qg[..., None], jnp.ones((2, 3, 1), bool), step_bt)
    np.testing.assert_allclose(by_step, advantages.trajectory_credit(reward_qg, step_bt), rtol=1e-6)
