"""Advantages by hand, and reductions of step credit to trajectory credit."""

import jax.numpy as jnp
import numpy as np

from mig_jax.learning import advantages

ALL = jnp.ones((1, 4), bool)


def test_group_normalize_by_hand():
    # Mean 2.5, standard deviation √1.25.
    advantage = advantages.group_normalize(jnp.array([[1.0, 2.0, 3.0, 4.0]]), ALL)
    np.testing.assert_allclose(advantage[0], np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25), rtol=1e-5)


def test_groups_do_not_mix():
    reward = jnp.array([[0.0, 1.0], [100.0, 102.0]])
    np.testing.assert_allclose(advantages.group_normalize(reward, reward > -1), [[-1, 1], [-1, 1]], rtol=1e-4)


def test_equal_rewards_give_no_advantage():
    assert (advantages.group_normalize(jnp.full((3, 4), 0.7), jnp.ones((3, 4), bool)) == 0).all()


def test_equal_rewards_are_equal_in_float32():
    """Eight times 1.2 does not sum to eight times 1.2 there."""
    assert (advantages.group_normalize(jnp.full((1, 8), 1.2), jnp.ones((1, 8), bool)) == 0).all()


def test_invalid_neither_counts_nor_gets():
    valid = jnp.array([[True, True, False, True]])
    with_it = advantages.group_normalize(jnp.array([[1.0, 2.0, 99.0, 3.0]]), valid)
    without = advantages.group_normalize(jnp.array([[1.0, 2.0, 3.0]]), ALL[:, :3])
    np.testing.assert_allclose(with_it[0, jnp.array([0, 1, 3])], without[0], rtol=1e-6)
    assert with_it[0, 2] == 0


def test_scale_none_only_subtracts_the_mean():
    advantage = advantages.group_normalize(jnp.array([[1.0, 2.0, 3.0, 4.0]]), ALL, scale="none")
    np.testing.assert_array_equal(advantage, [[-1.5, -0.5, 0.5, 1.5]])


def test_trajectory_credit_covers_the_reasoning_alone():
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


def test_one_step_makes_step_credit_trajectory_credit():
    reward_qg = jnp.array([[0.3, 1.0, 0.1], [2.0, 0.0, 0.5]])
    step_bt = jnp.tile(jnp.array([[-1, 0, 0, -1]]), (6, 1))
    by_step = advantages.step_credit(reward_qg[..., None], jnp.ones((2, 3, 1), bool), step_bt)
    np.testing.assert_allclose(by_step, advantages.trajectory_credit(reward_qg, step_bt), rtol=1e-6)
