"""Runs that are stopped or meet non-finite batches lose at most the step that was hit."""

import json
import shutil

import jax
import numpy as np
import pytest

from mig_jax.records import metrics
from mig_jax.rollout.sft_batch import SftBatches
from mig_jax.trainer import train
from mig_jax.trainer.nonfinite import NotFiniteError
from mig_jax.trainer.preemption import Preempted
from tests import tiny
from tests.trainer.resume_test import timeless

# SFT steps: loop, state and files are the same as in RL.
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


def stop_after(step):
    """Return a `should_stop`, which is called before the first step and after every one."""
    asked = iter(range(STEPS + 1))
    return lambda: next(asked) >= step


def test_stopped_and_resumed_equals_uninterrupted(whole, tmp_path):
    """Stopped before the first step, after step 2 where an evaluation is due, after that evaluation, and later."""
    with pytest.raises(Preempted, match="stopped after step 0 of 6"):
        run(tmp_path, should_stop=lambda: True)
    with pytest.raises(Preempted, match="stopped after step 2 of 6"):
        run(tmp_path, should_stop=stop_after(2))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]
    assert metrics.read_metrics(str(tmp_path))[1][-1].keys() >= {"loss/sft"}
    with pytest.raises(Preempted, match="stopped after step 2 of 6"):
        run(tmp_path, should_stop=lambda: True)
    run(tmp_path, should_stop=stop_after(STEPS - 2))
    assert_equal(tmp_path, whole)


def test_run_is_the_same_after_a_damaged_checkpoint(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "model")
    (tmp_path / "checkpoints" / "6" / "state" / "_METADATA").write_bytes(b"")
    run(tmp_path)
    said = capsys.readouterr().out
    assert "checkpoint 6 is damaged" in said and "resuming from 4" in said and "after step 4 of 6" in said
    assert_equal(tmp_path, whole)


def poison(monkeypatch, steps):
    """Make the batches of some steps non-finite."""
    make_batch, count = SftBatches.__call__, iter(range(1, 100))

    def poisoned(self, params, prompt_batch, key):
        result = make_batch(self, params, prompt_batch, key)
        if next(count) not in steps:
            return result
        advantage_bt = result.batch.outcome_advantage_bt + np.nan
        return result._replace(batch=result.batch._replace(outcome_advantage_bt=advantage_bt))

    monkeypatch.setattr(SftBatches, "__call__", poisoned)


def test_non_finite_batch_skips_one_update(monkeypatch, tmp_path):
    poison(monkeypatch, {2, 3})
    run(tmp_path, optimizer__max_skipped=3)
    rows = [row for row in metrics.read_metrics(str(tmp_path))[1] if "loss/sft" in row]
    assert [row["gradient/skipped"] for row in rows] == [0, 1, 2, 2, 2, 2]
    assert [np.isnan(row["gradient/norm"]) for row in rows] == [False, True, True, False, False, False]


@pytest.mark.slow
def test_too_many_non_finite_batches_end_the_run_and_are_saved(monkeypatch, tmp_path):
    """They are noticed when a row is written, two steps later."""
    poison(monkeypatch, {2, 3, 4})
    with pytest.raises(NotFiniteError, match=r"in the last 3 updates \(optimizer.max_skipped=2\)"):
        run(tmp_path, optimizer__max_skipped=2, log__every=4)
    with np.load(tmp_path / "not_finite_000004.npz", allow_pickle=False) as written:
        assert np.isnan(written["outcome_advantage_bt"]).all() and written["token_bs"].shape == (16, 64)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]
    run(tmp_path, optimizer__max_skipped=2, log__every=4)
    rows = metrics.read_metrics(str(tmp_path))[1]
    assert [row["step"] for row in rows] == [0, 2, 4, 4, 6, 6] and rows[-2]["gradient/skipped"] == 3


def test_restarted_workers_are_counted():
    class Pool:
        restarts = 2

    window = metrics.LogWindow(Pool())
    Pool.restarts = 5
    window.add({"rollout/tokens": 1.0, "verifier/timeouts": 0.0})
    assert window.summary()["verifier/restarts"] == 3
