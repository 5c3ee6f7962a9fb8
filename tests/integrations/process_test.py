"""From likelihoods to rewards and advantages: the same as in our own trainer, without jax."""

import jax
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.errors import UserError
from mig_jax.integrations import process as processes
from mig_jax.integrations.advantages import process_advantages
from mig_jax.learning import advantages
from mig_jax.text.tokenizer import build_character_tokenizer

TOKENIZER = build_character_tokenizer()
STEP = "### Step {}: x\n"


def response(n_steps, answer="3"):
    steps = "".join(STEP.format(n + 1) for n in range(n_steps))
    return f"<think>\n{steps}</think>\n<answer>{answer}</answer>"


@pytest.mark.parametrize("level", advantages.CREDIT_LEVELS)
@pytest.mark.parametrize(
    "advantage, scale", [("group_mean", "group_std"), ("leave_one_out", "batch_std"), ("no_baseline", "none")]
)
def test_advantages_equal_those_of_our_own_trainer(level, advantage, scale):
    options = {"discount": 0.7, "advantage": advantage, "scale": scale, "eps": 0.01}
    want_fn = jax.jit(lambda *args, valid_qg: advantages.CREDIT_LEVELS[level](*args, **options, valid_qg=valid_qg))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        reward_qg, gain_qgk = rng.normal(size=(2, 4)), rng.normal(size=(2, 4, 5))
        n_steps = rng.integers(0, 6, (2, 4, 1))
        valid_qgk, step_bt = np.arange(5) < n_steps, rng.integers(-1, 6, (8, 12))
        step_bt = np.minimum(step_bt, n_steps.reshape(8, 1))
        valid_qg = rng.random((2, 4)) < 0.8
        got = process_advantages(reward_qg, gain_qgk, valid_qgk, step_bt, level=level, **options, valid_qg=valid_qg)
        want = want_fn(reward_qg, gain_qgk, valid_qgk, step_bt, valid_qg=valid_qg)
        np.testing.assert_allclose(got, want, atol=2e-5)


def test_unknown_names_are_an_error():
    zeros = np.zeros((1, 2)), np.zeros((1, 2, 1)), np.ones((1, 2, 1), bool), np.zeros((2, 3), int)
    with pytest.raises(UserError, match="unknown advantage 'mean'; choose one of group_mean"):
        process_advantages(*zeros, level="step", discount=1.0, advantage="mean", scale="none", eps=0.1)


def test_rewards_and_advantages_of_a_group():
    process = processes.Process(TOKENIZER, alpha=0.5, credit_level="step", process_scale="none", max_steps=4)
    completions = [response(2), response(1)]
    rows = process.encode(["q", "q"], completions, {"answer": ["3", "3"]})
    probed = process.collect(rows, [np.array([-4.0, -3.0, -1.0]), np.array([-4.0, -4.5])])
    assert probed.ell_bk.shape == (2, 5) and probed.valid_bk.sum(1).tolist() == [3, 2]
    assert probed.count_bk.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert probed.token_bk[0, 0] == len(TOKENIZER.encode("<think>\n" + STEP.format(1)))
    reward_b, gain_bk = process.credit(probed, group_size=2)
    assert reward_b.tolist() == [3.0, 0.0] and gain_bk[0].tolist() == [1, 2, 0, 0]
    metrics = process.metrics(probed, group_size=2)
    assert metrics == {"mig/ell_first": -4.0, "mig/ell_last": -2.75, "mig/steps": 1.5, "mig/process": 1.5}

    width = max(len(row.parsed.ids) for row in rows) + 3
    steps_bt = processes.token_steps(rows, width)
    got = process.advantages(probed, steps_bt, group_size=2)
    # Gains to go are 3, 2, 0 and 0, 0; half their distance to the mean of the group, since alpha is 0.5.
    own = {step: got[0][steps_bt[0] == step] for step in (0, 1, 2)}
    assert all((own[step] == value).all() and len(own[step]) for step, value in {0: 0.75, 1: 0.5, 2: 0.0}.items())
    assert (got[steps_bt < 0] == 0).all()
    np.testing.assert_array_equal(process.advantages(probed, steps_bt[1:], group_size=2, rows=slice(1, 2)), got[1:])


def test_answers_are_graded_where_the_gate_needs_it():
    process = processes.Process(TOKENIZER, credit_args={"gate": "correct"}, max_steps=2)
    rows = process.encode(["q", "q"], [response(1, "3"), response(1, "4")], {"answer": ["3", b"3"]})
    probed = process.collect(rows, [np.array([-4.0, -3.0])] * 2)
    assert probed.is_correct_b.tolist() == [True, False]
    assert process.credit(probed, group_size=2)[0].tolist() == [1.0, 0.0]


def test_kinds_may_be_a_column():
    process = processes.Process(TOKENIZER, kind="kind", max_variants=8)
    rows = process.encode(["q"] * 2, [response(1)] * 2, {"answer": ["0.5"] * 2, "kind": ["number", "text"]})
    counts = [np.asarray(row.answers.scored_ay).any(-1).sum() for row in rows]
    assert counts[0] > counts[1] == 1


def test_credit_of_one_response_equals_the_jax_rule():
    process = processes.Process(TOKENIZER, credit="segment_progress", max_steps=2)
    rows = process.encode(["q"], [response(2)], {"answer": ["3"]})
    probed = process.collect(rows, [np.array([-3.0, -1.0, -2.0])])
    group = rewards.Group(*map(np.asarray, probed))
    want = jax.jit(rewards.make_credit("segment_progress"))(group)
    np.testing.assert_allclose(process.credit(probed, group_size=1)[0], want.reward_g, rtol=1e-6)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"credit": "watermarks"}, "unknown credit rule 'watermarks'"),
        ({"credit_args": {"drawdown": 2.0}}, "drawdown=2.0 must be a number from 0 to 1"),
        ({"credit_args": {"drawdowns": 2.0}}, "credit_args="),
        ({"outcomes": {}}, "no option 'outcomes'; choose from advantage"),
    ],
)
def test_wrong_options_are_explained(options, match):
    with pytest.raises(UserError, match=match):
        processes.Process(TOKENIZER, **options)


def test_missing_columns_are_explained():
    with pytest.raises(UserError, match="the data has no column 'answer', but prompt, solution; name the one that has"):
        processes.Process(TOKENIZER).encode(["q"], ["r"], {"prompt": ["q"], "solution": ["3"]})
