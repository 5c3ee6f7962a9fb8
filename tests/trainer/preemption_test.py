"""The first signal is noted, the second ends the process at once, even while no Python handler can run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mig_jax import main
from mig_jax.trainer import preemption, train

ROOT = Path(__file__).parents[2]

# pbkdf2 keeps the main thread in C for hours and releases the GIL, as compiling does.
BUSY = """
import hashlib
from mig_jax.trainer.preemption import catch_stop_signals
with catch_stop_signals():
    print("listening", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.mark.parametrize("number", preemption.SIGNALS)
def test_second_signal_ends_a_busy_process(number):
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "listening\n"
        process.send_signal(number)
        assert process.stderr.readline() == "\n"
        assert "stopping after the current step; a second signal stops at once" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number


def test_handlers_are_restored_after_the_block():
    before = [signal.getsignal(number) for number in preemption.SIGNALS]
    with preemption.catch_stop_signals() as should_stop:
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(should_stop)
    assert [signal.getsignal(number) for number in preemption.SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1
    with preemption.catch_stop_signals() as should_stop:
        assert not should_stop()


def wait_until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited for 30 seconds")


def run_main(monkeypatch, run):
    """Run `mig-jax train` with a stand-in for training."""
    monkeypatch.setattr(train, "run", run)
    monkeypatch.setattr(main, "WORKDIR", SimpleNamespace(value="/workdir"))
    for name in ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID", "DEBUG"):
        monkeypatch.setattr(main, name, SimpleNamespace(value=None))
    monkeypatch.setattr(main, "chosen_config", lambda command: None)
    main.run_command(["train"])


def test_stopped_run_has_its_own_exit_code(monkeypatch, capsys):
    def run(config, workdir, *, mode, should_stop):
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(should_stop)
        raise preemption.Preempted("stopped after step 3 of 10")

    with pytest.raises(SystemExit) as ended:
        run_main(monkeypatch, run)
    assert ended.value.code == 75
    assert "mig-jax train: stopped after step 3 of 10; rerun the same command to resume" in capsys.readouterr().err


def test_full_disk_is_reported_without_a_trace(monkeypatch):
    """Even when a library wrapped the error, or failed while cleaning up."""

    def run(config, workdir, *, mode, should_stop):
        try:
            raise OSError(28, "No space left on device", "/workdir/metrics.jsonl")
        except OSError:
            raise RuntimeError("could not close") from None

    with pytest.raises(
        SystemExit, match="^mig-jax train: the disk is full; free some space and rerun the same command to resume"
    ):
        run_main(monkeypatch, run)


def test_other_faults_keep_their_stack_trace(monkeypatch):
    def run(config, workdir, *, mode, should_stop):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_main(monkeypatch, run)
