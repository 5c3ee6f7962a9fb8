"""Scores and grades to advantages: by hand, and every option of the reward changes something."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.models.sampler import Completions, Prompts
from mig_jax.rollout.batch import Outcome, make_train_batch_fn
from mig_jax.rollout.scoring import ProbedSteps
from tests import tiny

# One question, four samples of six tokens; two steps each, but the last response has one. The third response has three
# steps, of which the last two share a probe.
LENGTH = jnp.array([6, 6, 5, 4])
STEPS = ProbedSteps(
    valid_bk=jnp.array([[True] * 3] * 3 + [[True, True, False]]),
    count_bk=jnp.array([[1, 1], [1, 1], [1, 2], [1, 0]]),
    token_bk=jnp.array([[3, 1], [2, 2], [3, 1], [3, 0]]),
    step_bt=jnp.array([[-1, 0, 0, 1, 2, -1], [-1, 0, 1, 1, 2, -1], [-1, 0, 0, 1, 2, -1], [-1, 0, 0, 1, -1, -1]]),
)
ELL = jnp.array([[-4.0, -2.0, -1.0], [-4.0, -3.0, -2.5], [-4.0, -5.0, -3.5], [-4.0, -4.0, 0.0]])
OUTCOME = Outcome(
    is_correct_b=np.array([True, False, True, False]),
    is_well_formed_b=np.array([True, True, False, False]),
    is_graded_b=np.array([True, True, True, True]),
    reward_b=np.array([2, 1, 1, 0], np.float32),
    is_rewarded_b=np.array([True, True, True, True]),
)
NOT_TRUNCATED = (False, False, False, False)


def make_batch(outcome=OUTCOME, ell_bk=ELL, is_truncated=NOT_TRUNCATED, **changes):
    config = tiny.get_config(rollout__group_size=4, **changes)
    completions = Completions(jnp.ones((4, 6), jnp.int32), jnp.zeros((4, 6)), LENGTH, jnp.array(is_truncated), None)
    rows = sharding.batch_sharding(sharding.make_mesh({}, devices=jax.devices()[:1]))
    prompts = Prompts(jnp.ones((1, 2), jnp.int32), jnp.zeros(1, jnp.int32))
    arguments = jax.device_put((prompts, completions, outcome, STEPS, ell_bk), rows)
    return make_train_batch_fn(config, rows, group_size=4)(*arguments)


def test_batch_by_hand():
    by_hand = {"reward__process_eps__nats": 0.0, "reward__outcome_eps": 0.0, "reward__credit_level": "trajectory"}
    batch, metrics, _, has_signal_q = make_batch(**by_hand)
    # Outcome 2, 1, 1, 0: mean 1, standard deviation √½. Process 3, 1.5, 0.5, 0: mean 1.25.
    np.testing.assert_allclose(batch.outcome_advantage_bt[:, 0], np.array([1, 0, 0, -1]) * 2**0.5, rtol=1e-5, atol=1e-6)
    process = np.array([3, 1.5, 0.5, 0])
    np.testing.assert_allclose(
        batch.process_advantage_bt[:, 1], (process - process.mean()) / process.std(), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(batch.process_advantage_bt[:, 0], 0)
    np.testing.assert_array_equal(batch.gate_b, [True, False, False, False])
    np.testing.assert_array_equal(batch.full_mask_bt.sum(1), LENGTH)
    assert (batch.outcome_advantage_bt[3, 4:] == 0).all()
    assert metrics["reward/accuracy"] == 0.5 and metrics["reward/format"] == 0.5 and metrics["sft/gate"] == 0.25
    assert metrics["reward/process"] == pytest.approx(1.25) and metrics["reward/zero_variance_groups"] == 0
    assert metrics["ell/first"] == -4 and metrics["ell/last"] == pytest.approx((-1 - 2.5 - 3.5 - 4) / 4)
    assert has_signal_q.tolist() == [True]
    np.testing.assert_array_equal(batch.cot_mask_bt.sum(1), [4, 4, 4, 3])
    assert metrics["rollout/steps"] == 2 and metrics["rollout/steps_not_probed"] == 0.25
    # Right: 1 of 2 and 2 of 3 steps are followed by another; wrong: 1 of 2 and 0 of 1.
    assert metrics["rollout/another_step_if_correct"] == pytest.approx(3 / 5)
    assert metrics["rollout/another_step_if_wrong"] == pytest.approx(1 / 3)
    assert metrics["reward/process_if_wrong"] == pytest.approx(0.75)
    assert metrics["ell/fall"] == 0


@functools.cache
def make_falling_batch(**options):
    """Return the batch where ℓ of the first response falls below its watermark, and the last response is cut off."""
    ell_bk = ELL.at[0, 2].set(-2.5)
    with jax.disable_jit():  # the options share their operations, but no program
        return make_batch(ell_bk=ell_bk, is_truncated=(False, False, False, True), **options).batch


@pytest.mark.parametrize(
    "change",
    [
        {"reward__credit": "segment_progress"}, {"reward__credit_level": "trajectory"},
        {"reward__advantage": "no_baseline"}, {"reward__advantage": "leave_one_out"},
        {"reward__process_scale": "none"}, {"reward__outcome_scale": "none"},
        {"reward__process_eps__nats": 1.0}, {"reward__outcome_eps": 1.0},
        {"reward__credit_args__threshold": 0.75}, {"reward__credit_args__drawdown": 0.5},
        {"reward__credit_args__step_price": 0.5}, {"reward__credit_args__excess_step_price": 0.5},
        {"reward__credit_args__gate": "correct"}, {"reward__credit_args__gate": "kept"},
        {"reward__overlong": "mask"},
    ],
    ids=str,
)  # fmt: skip
def test_every_reward_option_matters(change):
    plain, changed = (make_falling_batch(**options) for options in ({}, change))
    assert any(
        not np.allclose(a, b)
        for a, b in (
            (plain.process_advantage_bt, changed.process_advantage_bt),
            (plain.outcome_advantage_bt, changed.outcome_advantage_bt),
        )
    )


@pytest.mark.parametrize(
    "change, base",
    [
        ({"reward__step_discount": 0.5}, {"reward__credit_level": "step"}),
        ({"reward__credit_args__gate_tolerance": 2.0}, {"reward__credit_args__gate": "kept"}),
        ({"reward__process_eps__probability": 1.0}, {"reward__credit": "segment_progress"}),
    ],
    ids=str,
)
def test_every_option_of_an_option_matters(change, base):
    ell_bk = ELL.at[0, 2].set(-2.5)
    plain, changed = (
        make_batch(ell_bk=ell_bk, is_truncated=(False, True, False, False), **options).batch
        for options in (base, base | change)
    )
    advantages = [(b.process_advantage_bt, b.outcome_advantage_bt) for b in (plain, changed)]
    assert any(not np.allclose(a, b) for a, b in zip(*advantages, strict=True))


def test_truncated_responses_are_masked():
    batch, *_ = make_batch(is_truncated=(False, False, False, True), reward__overlong="mask")
    assert not batch.full_mask_bt[3].any() and not batch.cot_mask_bt[3].any() and batch.full_mask_bt[:3, 0].all()


def test_signal_is_that_of_the_process_reward_without_an_outcome_stream():
    equal = OUTCOME._replace(reward_b=np.ones(4, np.float32))
    assert make_batch(equal).has_signal_q.tolist() == [False]
    assert make_batch(equal, loss__beta=0.0).has_signal_q.tolist() == [True]
    assert make_batch(equal, ell_bk=jnp.full((4, 3), -1.0), loss__beta=0.0).has_signal_q.tolist() == [False]
    # Responses that cannot be graded get no advantage, so theirs is no signal.
    one_graded = equal._replace(is_graded_b=np.array([True, False, False, False]))
    assert make_batch(one_graded, loss__beta=0.0).has_signal_q.tolist() == [False]


def test_a_mean_over_nothing_is_nan():
    metrics = make_batch(OUTCOME._replace(is_correct_b=np.ones(4, bool))).metrics
    assert np.isnan(metrics["reward/process_if_wrong"]) and np.isnan(metrics["rollout/another_step_if_wrong"])


def test_step_credit_is_the_gain_to_go():
    batch, *_ = make_batch(reward__credit_level="step")
    advantage = np.array(batch.process_advantage_bt)
    # Gain of step 2: 1 in the first response, ½ in the second and third; the fourth has ended, with nothing to go. The
    # mean is ½, and the fourth pays for closing its reasoning there.
    assert advantage[0, 3] > 0 == advantage[1, 2] == advantage[2, 3] and advantage[3, 3] == -advantage[0, 3]
    assert advantage[0, 1] == advantage[0, 2] > advantage[3, 1]
    # After the last step nothing is left to any response.
    assert (advantage[:3, 4] == 0).all()


def test_response_without_an_outcome_reward_keeps_its_process_reward():
    batch, *_ = make_batch(OUTCOME._replace(is_rewarded_b=np.array([True, True, True, False])))
    assert not batch.outcome_advantage_bt[3].any() and batch.process_advantage_bt[3, 1] < 0


def test_ungraded_response_is_left_out_of_its_group():
    valid = np.array([True, True, True, False])
    ungraded = OUTCOME._replace(is_graded_b=valid, is_rewarded_b=valid)
    batch, metrics, *_ = make_batch(ungraded)
    assert batch.outcome_advantage_bt[3, 0] == 0 and not batch.process_advantage_bt[3].any()
    assert metrics["reward/accuracy"] == pytest.approx(2 / 3)
    # Without the fourth: 2, 1, 1.
    np.testing.assert_allclose(batch.outcome_advantage_bt[:3, 0], np.array([2, -1, -1]) / 2**0.5, rtol=1e-4)


def test_groups_without_signal_are_counted():
    equal = OUTCOME._replace(reward_b=np.ones(4, np.float32))
    assert make_batch(equal).metrics["reward/zero_variance_groups"] == 1
