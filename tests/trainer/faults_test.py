"""Runs that are stopped, poisoned or left without room lose no more than the step that it hit."""

import json
import shutil

import jax
import numpy as np
import pytest

from mig_jax.records import metrics
from mig_jax.trainer import train
from mig_jax.trainer.nonfinite import NotFiniteError
from mig_jax.trainer.preemption import Preempted
from tests import tiny
from tests.trainer.resume_test import timeless

# Steps on demonstrations: the loop, the state and the files are those of every run.
STEPS = 6


def run(workdir, *, should_stop=lambda: False, **changes):
    config = tiny.get_config(steps=STEPS, eval__every=2, checkpoint__every=4, rollout__max_new_tokens=32, **changes)
    train.run(config, str(workdir), mode="sft", devices=jax.devices()[:1], should_stop=should_stop)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    run(workdir)
    return workdir


def rows_of(workdir):
    return json.dumps(timeless(metrics.read_metrics(str(workdir))[1]))


def assert_equal(workdir, whole):
    assert rows_of(workdir) == rows_of(whole)
    assert (workdir / "model" / "model.safetensors").read_bytes() == (
        whole / "model" / "model.safetensors"
    ).read_bytes()


def stop_behind(step):
    """It is asked before the first step and behind every one."""
    asked = iter(range(STEPS + 1))
    return lambda: next(asked) >= step


def test_a_stopped_run_goes_on_as_if_it_had_not_been(whole, tmp_path):
    """Before its first step; behind step 2, where an evaluation is due; behind that evaluation; not at its end."""
    with pytest.raises(Preempted, match="stopped behind step 0 of 6"):
        run(tmp_path, should_stop=lambda: True)
    with pytest.raises(Preempted, match="stopped behind step 2 of 6"):
        run(tmp_path, should_stop=stop_behind(2))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]
    assert metrics.read_metrics(str(tmp_path))[1][-1].keys() >= {"loss/sft"}
    with pytest.raises(Preempted, match="stopped behind step 2 of 6"):
        run(tmp_path, should_stop=lambda: True)
    run(tmp_path, should_stop=stop_behind(STEPS - 2))
    assert_equal(tmp_path, whole)


def test_behind_a_damaged_checkpoint_the_run_is_the_same(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "model")
    (tmp_path / "checkpoints" / "6" / "state" / "_METADATA").write_bytes(b"")
    run(tmp_path)
    said = capsys.readouterr().out
    assert "checkpoint 6 is damaged" in said and "the run goes back to 4" in said and "4 of 6 steps are done" in said
    assert_equal(tmp_path, whole)


def poison(monkeypatch, steps):
    """What is collected at some steps is not finite."""
    collect, count = train.make_sft_batch, iter(range(1, 100))

    def poisoned(policy, config, params, asked, key):
        batch, numbers, transcripts = collect(policy, config, params, asked, key)
        if next(count) in steps:
            batch = batch._replace(outcome_advantage_bt=batch.outcome_advantage_bt + np.nan)
        return batch, numbers, transcripts

    monkeypatch.setattr(train, "make_sft_batch", poisoned)


def test_a_bad_batch_costs_its_own_step(monkeypatch, tmp_path):
    poison(monkeypatch, {2, 3})
    run(tmp_path, optimizer__max_skipped=3)
    rows = [row for row in metrics.read_metrics(str(tmp_path))[1] if "loss/sft" in row]
    assert [row["gradient/skipped"] for row in rows] == [0, 1, 2, 2, 2, 2]
    assert [np.isnan(row["gradient/norm"]) for row in rows] == [False, True, True, False, False, False]


def test_too_many_bad_batches_end_the_run_and_are_written(monkeypatch, tmp_path):
    """They are noticed where a row is written: two steps late."""
    poison(monkeypatch, {2, 3, 4})
    with pytest.raises(NotFiniteError, match=r"in the last 3 updates \(optimizer.max_skipped=2\)"):
        run(tmp_path, optimizer__max_skipped=2, log__every=4)
    with np.load(tmp_path / "not_finite_000004.npz", allow_pickle=False) as written:
        assert np.isnan(written["outcome_advantage_bt"]).all() and written["token_bs"].shape == (16, 64)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]
    run(tmp_path, optimizer__max_skipped=2, log__every=4)
    rows = metrics.read_metrics(str(tmp_path))[1]
    assert [row["step"] for row in rows] == [0, 2, 4, 4, 6, 6] and rows[-2]["gradient/skipped"] == 3


def test_workers_that_were_replaced_are_counted():
    class Pool:
        restarts = 2

    window = train.Span(Pool())
    Pool.restarts = 5
    window.add({"rollout/tokens": 1.0, "verifier/timeouts": 0.0})
    assert window.summary({})["verifier/restarts"] == 3
