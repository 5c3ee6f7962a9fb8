"""Runs of two processes: stopped, resumed by another number of them, killed, and what is said of them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from mig_jax.distributed import multihost
from mig_jax.records import metrics
from tests.trainer.resume_test import timeless
from tools.device_table import free_port

ROOT = Path(__file__).parents[2]
STEPS = 8
CONFIG_FILE = f"""
from tests import tiny


def get_config():
    return tiny.get_config(steps={STEPS}, eval__every=3, checkpoint__every=4, rollout__max_new_tokens=32)
"""


class Run:
    """`mig-jax sft` in `count` processes of one device each, in the background."""

    def __init__(self, workdir, *, count, command="sft", options=()):
        (workdir.parent / "config.py").write_text(CONFIG_FILE)
        base = [sys.executable, "-m", "mig_jax.main", command, f"--config={workdir.parent}/config.py", *options]
        base += [f"--workdir={workdir}", "--config.mesh.data=-1"]
        address = f"--coordinator=127.0.0.1:{free_port()}"
        env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
        self.logs, self.processes = [workdir.parent / f"{workdir.name}.{i}.log" for i in range(count)], []
        for i, path in enumerate(self.logs):
            several = [address, f"--num_processes={count}", f"--process_id={i}"] if count > 1 else []
            with path.open("ab") as log:
                self.processes.append(subprocess.Popen([*base, *several], env=env, stdout=log, stderr=log, cwd=ROOT))

    def wait(self):
        """The exit codes."""
        return [process.wait(timeout=300) for process in self.processes]

    def said(self):
        return "\n".join(path.read_text(errors="replace") for path in self.logs)


def run_to_end(workdir, *, count):
    run = Run(workdir, count=count)
    assert set(run.wait()) == {0}, run.said()
    return run


def wait_for_step(workdir, run, step):
    """Until there is a row of it."""
    while all(process.poll() is None for process in run.processes):
        with contextlib.suppress(OSError, ValueError):
            if any(row["step"] >= step and "loss/sft" in row for row in metrics.read_metrics(str(workdir))[1]):
                return
        time.sleep(0.02)


def weights_of(workdir):
    tensors = safetensors.numpy.load_file(workdir / "model" / "model.safetensors")
    return np.concatenate([tensors[name].ravel() for name in sorted(tensors)])


def rows_of(workdir):
    return timeless(metrics.read_metrics(str(workdir))[1])


def assert_nearly_equal(workdir, other):
    """Sums are taken in another order, and Adam makes more of it."""
    a, b = weights_of(workdir), weights_of(other)
    assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(b)
    assert [row["step"] for row in rows_of(workdir)] == [row["step"] for row in rows_of(other)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run of two processes."""
    workdir = tmp_path_factory.mktemp("processes") / "whole"
    run = run_to_end(workdir, count=2)
    assert "the trained model/ are in" in run.logs[0].read_text() and "trained" not in run.logs[1].read_text()
    return workdir


@pytest.mark.slow
def test_a_signal_at_one_process_stops_both_behind_the_same_step(whole, tmp_path):
    """And the same number of processes ends with the same bytes."""
    run = Run(tmp_path / "run", count=2)
    wait_for_step(tmp_path / "run", run, 2)
    run.processes[1].send_signal(signal.SIGTERM)
    assert run.wait() == [75, 75], run.said()
    assert len({line for path in run.logs for line in path.read_text().split("\n") if "stopped behind" in line}) == 1
    run_to_end(tmp_path / "run", count=2)
    assert rows_of(tmp_path / "run") == rows_of(whole)
    np.testing.assert_array_equal(weights_of(tmp_path / "run"), weights_of(whole))


@pytest.mark.slow
@pytest.mark.parametrize("before, after", [(2, 1), (1, 2)])
def test_another_number_of_processes_goes_on(whole, tmp_path, before, after):
    run = Run(tmp_path / "run", count=before)
    wait_for_step(tmp_path / "run", run, 2)
    run.processes[0].send_signal(signal.SIGTERM)
    assert set(run.wait()) == {75}, run.said()
    assert "going on in" in run_to_end(tmp_path / "run", count=after).said()
    assert_nearly_equal(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_the_other_leaves(whole, tmp_path, victim):
    run = Run(tmp_path / "run", count=2)
    wait_for_step(tmp_path / "run", run, 5)
    run.processes[victim].kill()
    codes = run.wait()
    # Noticed by us, or by jax, which aborts.
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] in (1, -signal.SIGABRT), run.said()
    said = run.logs[1 - victim].read_text(errors="replace")
    by_us = codes[1 - victim] == 1
    assert ("another process of this run has ended" if by_us else "that another task died") in said
    run_to_end(tmp_path / "run", count=2)
    assert rows_of(tmp_path / "run") == rows_of(whole)
    np.testing.assert_array_equal(weights_of(tmp_path / "run"), weights_of(whole))


@pytest.mark.slow
def test_two_processes_evaluate_as_one(whole, tmp_path):
    options = ["--config.data.eval_size=11", "--config.eval.samples=2", "--config.eval.scored=2"]
    for count in (1, 2):
        run = Run(tmp_path / str(count), count=count, command="eval", options=options)
        assert set(run.wait()) == {0}, run.said()
    for name in ("results.json", "results.md"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.slow
def test_what_is_wrong_is_said_by_all_and_none_waits(tmp_path):
    run = Run(tmp_path / "run", count=2, options=["--config.optimizer.peak_lr=-1"])
    assert run.wait() == [1, 1]
    assert run.said().count("optimizer.peak_lr=-1.0: must be more than 0") == 2 and "Traceback" not in run.said()


# ------------------------------------------------------------------------------------------------- in one process alone


def test_one_process_agrees_with_itself_and_needs_no_json():
    item = object()
    assert (
        multihost.is_main_process()
        and multihost.all_gather_objects(item) == [item]
        and multihost.broadcast_from_main(lambda: item) is item
    )
    assert multihost.split_work([3, 1, 2], lambda part: [10 * n for n in part]) == [30, 10, 20]
    with pytest.raises(ZeroDivisionError):
        multihost.sync_errors(lambda: 1 // 0)


def test_nothing_is_started_where_there_is_one_process(monkeypatch):
    """A laptop, and a job of SLURM with one task, which is to keep all its GPUs."""
    called = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **options: called.append((args, options)))
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    multihost.initialize(None, None, None)
    assert called == []
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "16")
    multihost.initialize(None, None, None)
    multihost.initialize("host:1234", 2, 1)
    (_, launched), (given, by_hand) = called
    assert launched["num_processes"] == 16 and given == ("host:1234", 2, 1)
    assert by_hand["cluster_detection_method"] == "deactivate"
    assert launched["heartbeat_timeout_seconds"] == by_hand["heartbeat_timeout_seconds"] == multihost.HEARTBEAT_S


@pytest.mark.parametrize(
    "options, said",
    [
        (["train", "--config=c", "--workdir=w", "--num_processes=2"], "there is only --num_processes"),
        (["train", "--config=c", "--workdir=w", "--coordinator=h:1", "--num_processes=2", "--process_id=2"],
         "--process_id=2 is not below --num_processes=2"),
        (["sample", "--coordinator=h:1"], "sample runs in one process, without --coordinator"),
    ],
)  # fmt: skip
def test_flags_that_do_not_belong_together_are_said(options, said):
    options = [option.replace("--config=c", "--config=configs/default.py") for option in options]
    done = subprocess.run([sys.executable, "-m", "mig_jax.main", *options], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


def test_other_commands_refuse_to_be_several():
    env = os.environ | {"SLURM_STEP_NUM_TASKS": "4"}
    command = [sys.executable, "-m", "mig_jax.main", "data"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 1 and "data runs in one process, and 4 were launched" in done.stderr


def test_the_end_of_another_process_is_told_from_other_errors(monkeypatch):
    """jax has no class of its own for what devices report; what we say ourselves is no such thing."""
    lost = (
        ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"),
        jax.errors.JaxRuntimeError("ABORTED"),
    )
    assert not any(map(multihost.may_be_peer_failure, lost))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert all(map(multihost.may_be_peer_failure, lost))
    ours = ValueError("UNKNOWNS are in row 3"), OSError("UNKNOWN: file"), None
    assert not any(map(multihost.may_be_peer_failure, ours))


def test_what_differs_between_processes_is_named(monkeypatch):
    multihost.assert_equal_across_processes({"config": {"seed": 0}})
    monkeypatch.setattr(multihost, "all_gather_objects", lambda here: [here, here | {"config": "another digest"}])
    with pytest.raises(ValueError, match="on all processes of this run: config; give all"):
        multihost.assert_equal_across_processes({"config": {"seed": 0}, "source 0": [8, "first", "last"]})
