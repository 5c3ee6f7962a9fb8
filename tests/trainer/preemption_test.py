"""The first signal is noted, the second one ends the process at once, also while no handler of Python's can run."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from mig_jax.trainer import preemption, train

with warnings.catch_warnings():
    # ml_collections loads the file of a config in a way that later Pythons drop.
    warnings.simplefilter("ignore", DeprecationWarning)
    from mig_jax import main

ROOT = Path(__file__).parents[2]

# pbkdf2 keeps the main thread in C for hours, without the lock of the interpreter: as compiling does.
BUSY = """
import hashlib
from mig_jax.trainer.preemption import catch_stop_signals as listen
with listen():
    print("listening", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.mark.parametrize("number", preemption.SIGNALS)
def test_the_second_signal_ends_a_process_that_is_busy(number):
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "listening\n"
        process.send_signal(number)
        assert process.stderr.readline() == "\n"
        assert "the step under way ends first; a second signal ends at once" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number


def test_behind_the_block_signals_do_what_they_did():
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
    """`mig-jax train` with something else in the place of training."""
    monkeypatch.setattr(train, "run", run)
    monkeypatch.setattr(main, "WORKDIR", SimpleNamespace(value="/workdir"))
    for name in ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID"):
        monkeypatch.setattr(main, name, SimpleNamespace(value=None))
    monkeypatch.setattr(main, "chosen_config", lambda: None)
    main.run_command(["train"])


def test_a_stopped_run_leaves_with_a_code_of_its_own(monkeypatch, capsys):
    def run(config, workdir, *, mode, should_stop):
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(should_stop)
        raise preemption.Preempted("stopped behind step 3 of 10")

    with pytest.raises(SystemExit) as ended:
        run_main(monkeypatch, run)
    assert ended.value.code == 75
    assert "mig-jax train: stopped behind step 3 of 10; the same command goes on" in capsys.readouterr().err


def test_a_full_disk_is_said_without_a_stack_trace(monkeypatch):
    """Also when a library has wrapped it, or stumbled while it cleaned up."""

    def run(config, workdir, *, mode, should_stop):
        try:
            raise OSError(28, "No space left on device", "/workdir/metrics.jsonl")
        except OSError:
            raise RuntimeError("could not close") from None

    with pytest.raises(SystemExit, match="^mig-jax train: the disk is full; make room, and the same command goes on"):
        run_main(monkeypatch, run)


def test_other_faults_keep_their_stack_trace(monkeypatch):
    def run(config, workdir, *, mode, should_stop):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_main(monkeypatch, run)
