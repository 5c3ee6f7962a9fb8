"""Scores and grades to advantages: by hand, and every option of the reward changes something."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.distributed import sharding
from mig_jax.models.sampler import Completions, Prompts
from mig_jax.rollout.batch import Outcome, make_train_batch_fn
from mig_jax.rollout.scoring import compute_scores
from tests import tiny

# One question, four samples of six tokens; two steps each, but the last response has one.
LENGTH = jnp.array([6, 6, 5, 4])
STEP = jnp.array([[-1, 0, 0, 1, -1, -1], [-1, 0, 1, 1, -1, -1], [-1, 0, 0, 1, -1, -1], [-1, 0, 0, -1, -1, -1]])
ELL = jnp.array([[-4.0, -2.0, -1.0], [-4.0, -3.0, -2.5], [-4.0, -5.0, -3.5], [-4.0, -4.0, 0.0]])
CUTS = rewards.Cuts(jnp.array([[1, 3, 4]] * 4), jnp.array([[True] * 3] * 3 + [[True, True, False]]))
OUTCOME = Outcome(
    is_correct_b=np.array([True, False, True, False]),
    is_well_formed_b=np.array([True, True, False, False]),
    is_graded_b=np.array([True, True, True, True]),
)


def make_batch(outcome=OUTCOME, **changes):
    config = tiny.get_config(rollout__group_size=4, **changes)
    scores = compute_scores(ELL, CUTS.valid_k, config.reward)
    completions = Completions(jnp.ones((4, 6), jnp.int32), jnp.zeros((4, 6)), LENGTH, jnp.zeros(4, bool), None)
    rows = sharding.batch_sharding(sharding.make_mesh({}, devices=jax.devices()[:1]))
    prompts = Prompts(jnp.ones((1, 2), jnp.int32), jnp.zeros(1, jnp.int32))
    arguments = jax.device_put((prompts, completions, outcome, STEP, scores, CUTS), rows)
    return make_train_batch_fn(config, rows, group_size=4)(*arguments)


def test_batch_by_hand():
    batch, metrics = make_batch(reward__process_eps=0.0, reward__outcome_eps=0.0)
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
    assert metrics["rollout/steps"] == pytest.approx(7 / 4)


@pytest.mark.parametrize(
    "change",
    [
        {"reward__credit": "segment_progress"}, {"reward__credit_level": "step"}, {"reward__scale": "none"},
        {"reward__process_eps": 1.0}, {"reward__outcome_eps": 1.0}, {"reward__accuracy": 0.5}, {"reward__format": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_every_reward_option_matters(change):
    plain, changed = make_batch()[0], make_batch(**change)[0]
    assert any(
        not np.allclose(a, b)
        for a, b in (
            (plain.process_advantage_bt, changed.process_advantage_bt),
            (plain.outcome_advantage_bt, changed.outcome_advantage_bt),
        )
    )


def test_step_credit_is_the_gain_to_go():
    batch, _ = make_batch(reward__credit_level="step")
    advantage = np.array(batch.process_advantage_bt)
    # Gain of step 2: 1 in the first response, ½ in the second, ½ above the watermark in the third; none in the fourth.
    assert advantage[0, 3] > 0 > advantage[1, 2] and advantage[1, 2] == pytest.approx(advantage[2, 3])
    assert advantage[0, 1] == advantage[0, 2] > advantage[3, 1]


def test_ungraded_response_is_left_out_of_its_group():
    ungraded = OUTCOME._replace(is_graded_b=np.array([True, True, True, False]))
    batch, metrics = make_batch(ungraded)
    assert batch.outcome_advantage_bt[3, 0] == 0 and metrics["reward/accuracy"] == pytest.approx(2 / 3)
    # Without the fourth: 2, 1, 1.
    np.testing.assert_allclose(batch.outcome_advantage_bt[:3, 0], np.array([2, -1, -1]) / 2**0.5, rtol=1e-4)


def test_groups_without_signal_are_counted():
    equal = OUTCOME._replace(is_correct_b=np.ones(4, bool), is_well_formed_b=np.ones(4, bool))
    assert make_batch(equal)[1]["reward/zero_variance_groups"] == 1
