"""A run that learns nothing says so: each symptom from rows made by hand, and no warning for a healthy run."""

import pytest

from mig_jax.trainer import diagnosis
from tests import tiny

HEALTHY = {
    "reward/accuracy": 0.5, "reward/format": 0.9, "rollout/steps": 3.0, "reward/zero_variance_groups": 0.3,
    "rollout/truncated": 0.02, "sft/gate": 0.5, "verifier/timeouts": 0.0, "gradient/norm": 0.4,
    "gradient/skipped": 0.0, "gradient/skipped_in_a_row": 0.0,
}  # fmt: skip


def rows_of(n=3, **changes):
    """Return n training rows; changes have __ for a slash."""
    changes = {name.replace("__", "/"): value for name, value in changes.items()}
    return [{"step": step} | HEALTHY | changes for step in range(1, n + 1)]


def find(rows, *, mode="train", **changes):
    findings = diagnosis.diagnose(rows, tiny.get_config(**changes), mode=mode)
    return {finding.name: finding.message for finding in findings}


def test_healthy_run_has_no_symptom():
    evals = [{"step": 0, "eval/format": 0.9}, {"step": 3, "eval/format": 1.0}]
    assert find([*rows_of(), *evals]) == {} and find([]) == {}
    # A metric that a run does not have is no symptom.
    assert find([{"step": 1, "gradient/norm": 0.1, "loss/sft": 2.0}], mode="sft") == {}


@pytest.mark.parametrize(
    "name, changes, words",
    [
        ("skipped", {"gradient__skipped_in_a_row": 3.0, "gradient__norm": float("nan")},
         ["steps 1 to 3", "not finite", "optimizer.peak_lr (now 0.01)"]),
        ("all_truncated", {"rollout__truncated": 1.0, "reward__format": 0.0, "sft__gate": 0.0, "rollout__steps": 0.0,
                           "reward__zero_variance_groups": 1.0, "reward__accuracy": 0.0, "gradient__norm": 0.0},
         ["100% of the responses", "limit of 40 tokens", "rollout.max_new_tokens", "sft.steps"]),
        ("truncated", {"rollout__truncated": 0.625}, ["62% of the responses", "rollout.max_new_tokens"]),
        ("malformed", {"reward__format": 0.0, "sft__gate": 0.0, "reward__zero_variance_groups": 1.0},
         ["no response of steps 1 to 3 is well formed (", "data.system_prompt=format", "sft.steps", "transcripts/"]),
        ("malformed", {"reward__format": 0.0, "sft__gate": 0.0, "rollout__steps": 0.0}, ["well formed nor has a step"]),
        ("no_steps", {"rollout__steps": 0.0}, ["### Step 1:", "process stream has nothing to credit"]),
        ("no_signal", {"reward__zero_variance_groups": 1.0, "reward__accuracy": 0.0, "sft__gate": 0.0},
         ["no answer is right", "easier problems", "rollout.group_size (now 2)", "only the process stream"]),
        ("no_signal", {"reward__zero_variance_groups": 1.0, "reward__accuracy": 1.0},
         ["all answers are right", "harder problems"]),
        ("no_signal", {"reward__zero_variance_groups": 1.0}, ["rollout.temperature (now 1)"]),
        ("closed_gate", {"sft__gate": 0.0, "reward__accuracy": 0.0}, ["both right and well formed", "loss.gamma=0.1"]),
        ("timeouts", {"verifier__timeouts": 2.0},
         ["12.5% of the answers", "verifier.deadline_s (now 5 seconds)", "verifier.workers (now 1)"]),
        ("outcome_failed", {"reward__judged_failed": 2.0, "reward__short_failed": 0.0},
         ["reward judged failed for 12.5% of the responses", "reward.outcome_args.deadline_s (now 10 seconds)"]),
        ("no_gradient", {"gradient__norm": 0.0}, ["gradient of steps 1 to 3 is zero", "loss.alpha=1"]),
    ],
)  # fmt: skip
def test_symptom_is_named_with_its_cause_and_what_to_turn(name, changes, words):
    """And it hides its consequences."""
    found = find(rows_of(**changes))
    assert list(found) == [name]
    assert all(word in found[name] for word in words), found[name]
    # Once is enough to be healthy.
    if name not in ("skipped", "timeouts", "truncated", "outcome_failed"):
        assert name not in find([*rows_of(**changes), {"step": 4} | HEALTHY])


@pytest.mark.parametrize(
    "changes, config",
    [
        ({"rollout__steps": 0.0}, {"loss__alpha": 0.0}),
        ({"reward__zero_variance_groups": 1.0}, {"loss__beta": 0.0}),
        ({"sft__gate": 0.0, "reward__accuracy": 0.0}, {"loss__gamma": 0.0}),
        ({"rollout__truncated": 0.4}, {}),
        ({"verifier__timeouts": 0.1}, {}),
        ({"gradient__skipped_in_a_row": 2.0}, {}),
    ],
)
def test_what_a_run_does_not_use_is_no_symptom(changes, config):
    assert find(rows_of(**changes), **config) == {}


def test_signal_without_a_process_stream():
    found = find(rows_of(reward__zero_variance_groups=1.0), loss__alpha=0.0, rollout__temperature=0.5)
    assert "nothing is learned from them" in found["no_signal"] and "(now 0.5)" in found["no_signal"]


def test_skipped_updates_are_counted_over_several_in_a_step():
    rows = rows_of(gradient__skipped_in_a_row=5.0)
    assert "skipped" in find(rows, optimizer__updates_per_rollout=2)
    assert "skipped" not in find(rows, optimizer__updates_per_rollout=2, optimizer__minibatches=2)


def test_no_signal_of_own_rewards_names_their_metrics():
    rows = rows_of(reward__zero_variance_groups=1.0)
    assert "reward/NAME_std" in find(rows, reward__outcomes={"mine.py:judged": 1.0})["no_signal"]


def test_timeouts_are_counted_over_all_steps_of_a_row():
    """Twenty steps of 16 responses, 4 of which timed out: 1.25 %."""
    rows = [{"step": step} | HEALTHY | {"verifier/timeouts": 2.0} for step in (10, 20)]
    assert "1.2% of the answers of steps 10 to 20" in find(rows, log__every=10)["timeouts"]


@pytest.mark.parametrize(
    "rows, mode, expected",
    [
        ([{"step": 0, "eval/format": 0.0}], "train", "no held-out response before the first step is well formed"),
        ([{"step": 0, "eval/format": 0.0}], "sft", None),  # SFT is there to change that
        ([{"step": 0, "eval/format": 0.0}, {"step": 3, "eval/format": 0.1}], "train", None),
        ([{"step": 3, "eval/format": 0.0}], "sft", "no held-out response after step 3 is well formed. Train longer"),
    ],
)
def test_malformed_evaluation(rows, mode, expected):
    training = rows_of() if rows[-1]["step"] else []
    assert (
        expected in find([*training, *rows], mode=mode).get("evaluation", "")
        if expected
        else (find([*training, *rows], mode=mode) == {})
    )


def test_flat_sft_loss():
    rows = [{"step": n, "loss/sft": 2.0 - 0.001 * n, "gradient/norm": 1.0} for n in range(8)]
    assert "2 in the first row of steps 0 to 7, 1.99 in the last" in find(rows, mode="sft")["flat_sft_loss"]
    assert find(rows[:7], mode="sft") == {} and find(rows, mode="train") == {}
    assert find([row | {"loss/sft": 2.0 - 0.1 * row["step"]} for row in rows], mode="sft") == {}
    assert find([row | {"loss/sft": 0.01} for row in rows], mode="sft") == {}


def test_recent_rows_are_the_second_half():
    rows = [{"step": 0, "eval/format": 1.0}, *rows_of(5), {"step": 5, "eval/format": 1.0}]
    assert [row["step"] for row in diagnosis.recent(rows)] == [3, 4, 5, 5]
    assert diagnosis.recent(rows[:1]) == rows[:1] and diagnosis.recent([]) == []


def test_symptoms_hide_known_ones():
    names = set(diagnosis.SYMPTOMS)
    assert all(set(symptom.hides) <= names for symptom in diagnosis.SYMPTOMS.values())


def test_lines_fit_a_terminal():
    findings = diagnosis.diagnose(rows_of(reward__format=0.0), tiny.get_config(), mode="train")
    text = diagnosis.render(findings)
    assert text.startswith("warning: no response") and max(map(len, text.splitlines())) <= 100
