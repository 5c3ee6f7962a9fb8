"""Runs of two processes: stopped, resumed with another number of processes, killed; and the functions of multihost."""

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
    """`mig-jax sft` in `count` background processes of one device each."""

    def __init__(self, workdir, *, count, command="sft", options=()):
        (workdir.parent / "config.py").write_text(CONFIG_FILE)
        base = [sys.executable, "-m", "mig_jax.main", command, f"--config={workdir.parent}/config.py", *options]
        base += [f"--workdir={workdir}", "--config.mesh.data=-1"]
        address = f"--coordinator=127.0.0.1:{free_port()}"
        env = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
        self.logs, self.processes = [workdir.parent / f"{workdir.name}.{i}.log" for i in range(count)], []
        for i, path in enumerate(self.logs):
            flags = [address, f"--num_processes={count}", f"--process_id={i}"] if count > 1 else []
            with path.open("ab") as log:
                self.processes.append(subprocess.Popen([*base, *flags], env=env, stdout=log, stderr=log, cwd=ROOT))

    def wait(self):
        """Return the exit codes."""
        return [process.wait(timeout=300) for process in self.processes]

    def output(self):
        """Return the logs of all processes."""
        return "\n".join(path.read_text(errors="replace") for path in self.logs)


def run_to_end(workdir, *, count):
    run = Run(workdir, count=count)
    assert set(run.wait()) == {0}, run.output()
    return run


def wait_for_step(workdir, run, step):
    """Wait until the metrics have a row of this step or a later one."""
    while all(process.poll() is None for process in run.processes):
        with contextlib.suppress(OSError, ValueError):
            if any(row["step"] >= step and "loss/sft" in row for row in metrics.read_metrics(str(workdir))[1]):
                return
        time.sleep(0.02)


def params_of(workdir):
    tensors = safetensors.numpy.load_file(workdir / "model" / "model.safetensors")
    return np.concatenate([tensors[name].ravel() for name in sorted(tensors)])


def rows_of(workdir):
    return timeless(metrics.read_metrics(str(workdir))[1])


def assert_nearly_equal(workdir, other):
    """Check equality up to rounding: sums are taken in another order, which Adam amplifies."""
    a, b = params_of(workdir), params_of(other)
    assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(b)
    assert [row["step"] for row in rows_of(workdir)] == [row["step"] for row in rows_of(other)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Return the workdir of an uninterrupted run of two processes."""
    workdir = tmp_path_factory.mktemp("processes") / "uninterrupted"
    run = run_to_end(workdir, count=2)
    assert "everything is in" in run.logs[0].read_text() and "trained" not in run.logs[1].read_text()
    return workdir


@pytest.mark.slow
def test_signal_to_one_process_stops_both_after_the_same_step(uninterrupted, tmp_path):
    """Resumed with the same number of processes, the run ends with the same bytes."""
    run = Run(tmp_path / "run", count=2)
    wait_for_step(tmp_path / "run", run, 2)
    run.processes[1].send_signal(signal.SIGTERM)
    assert run.wait() == [75, 75], run.output()
    assert len({line for path in run.logs for line in path.read_text().split("\n") if "stopped after" in line}) == 1
    run_to_end(tmp_path / "run", count=2)
    assert rows_of(tmp_path / "run") == rows_of(uninterrupted)
    np.testing.assert_array_equal(params_of(tmp_path / "run"), params_of(uninterrupted))


@pytest.mark.slow
@pytest.mark.parametrize("before, after", [(2, 1), (1, 2)])
def test_another_number_of_processes_resumes(uninterrupted, tmp_path, before, after):
    run = Run(tmp_path / "run", count=before)
    wait_for_step(tmp_path / "run", run, 2)
    run.processes[0].send_signal(signal.SIGTERM)
    assert set(run.wait()) == {75}, run.output()
    assert "resuming in" in run_to_end(tmp_path / "run", count=after).output()
    assert_nearly_equal(tmp_path / "run", uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_survivor_exits_when_a_process_is_killed(uninterrupted, tmp_path, victim):
    run = Run(tmp_path / "run", count=2)
    wait_for_step(tmp_path / "run", run, 5)
    run.processes[victim].kill()
    codes = run.wait()
    # Detected by mig-jax, or by jax, which aborts.
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] in (1, -signal.SIGABRT), run.output()
    output = run.logs[1 - victim].read_text(errors="replace")
    is_detected = codes[1 - victim] == 1
    assert ("another process of this run has ended" if is_detected else "that another task died") in output
    run_to_end(tmp_path / "run", count=2)
    assert rows_of(tmp_path / "run") == rows_of(uninterrupted)
    np.testing.assert_array_equal(params_of(tmp_path / "run"), params_of(uninterrupted))


@pytest.mark.slow
def test_two_processes_evaluate_like_one(uninterrupted, tmp_path):
    options = ["--config.data.eval_size=11", "--config.eval.samples=2", "--config.eval.scored=2"]
    for count in (1, 2):
        run = Run(tmp_path / str(count), count=count, command="eval", options=options)
        assert set(run.wait()) == {0}, run.output()
    for name in ("results.json", "results.md"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.slow
def test_config_errors_are_reported_by_all_processes(tmp_path):
    run = Run(tmp_path / "run", count=2, options=["--config.optimizer.peak_lr=-1"])
    assert run.wait() == [1, 1]
    assert run.output().count("optimizer.peak_lr=-1.0: must be more than 0") == 2 and "Traceback" not in run.output()


# ------------------------------------------------------------------------------------------------------ in one process


def test_exchange_in_one_process_needs_no_json():
    item = object()
    assert (
        multihost.is_main_process()
        and multihost.all_gather_objects(item) == [item]
        and multihost.broadcast_from_main(lambda: item) is item
    )
    assert multihost.split_work([3, 1, 2], lambda part: [10 * n for n in part]) == [30, 10, 20]
    with pytest.raises(ZeroDivisionError):
        multihost.sync_errors(lambda: 1 // 0)


def test_single_processes_are_not_initialized(monkeypatch):
    """On a laptop, and in a SLURM job with one task, which must keep all its GPUs."""
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
    "options, error",
    [
        (["train", "--config=c", "--workdir=w", "--num_processes=2"], "only --num_processes was"),
        (["train", "--config=c", "--workdir=w", "--coordinator=h:1", "--num_processes=2", "--process_id=2"],
         "--process_id=2 must be less than --num_processes=2"),
        (["sample", "--coordinator=h:1"], "sample runs in one process, without --coordinator"),
    ],
)  # fmt: skip
def test_incompatible_flags_are_rejected(options, error):
    options = [option.replace("--config=c", "--config=configs/default.py") for option in options]
    done = subprocess.run([sys.executable, "-m", "mig_jax.main", *options], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and error in done.stderr and "Traceback" not in done.stderr


def test_other_commands_reject_several_processes():
    env = os.environ | {"SLURM_STEP_NUM_TASKS": "4"}
    command = [sys.executable, "-m", "mig_jax.main", "data"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.returncode == 1 and "data runs in one process, but 4 were launched" in done.stderr


def test_peer_failures_are_told_from_other_errors(monkeypatch):
    """jax has no error class for device failures; errors raised by mig_jax are not peer failures."""
    peer_failures = (
        ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"),
        jax.errors.JaxRuntimeError("ABORTED"),
    )
    assert not any(map(multihost.may_be_peer_failure, peer_failures))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert all(map(multihost.may_be_peer_failure, peer_failures))
    others = ValueError("UNKNOWNS are in row 3"), OSError("UNKNOWN: file"), None
    assert not any(map(multihost.may_be_peer_failure, others))


def test_values_that_differ_between_processes_are_named(monkeypatch):
    multihost.assert_equal_across_processes({"config": {"seed": 0}})
    monkeypatch.setattr(multihost, "all_gather_objects", lambda value: [value, value | {"config": "another digest"}])
    with pytest.raises(ValueError, match="on all processes of this run: config; give all"):
        multihost.assert_equal_across_processes({"config": {"seed": 0}, "source 0": [8, "first", "last"]})
