"""A process that calls a user's reward: it can be ended whatever the reward does, and a reward that crashes ends alone.

Threads would not do: Python cannot end a thread, and a regular expression or C code that holds the interpreter's lock
stops every other thread as well. The parent sends lines of samples (`sample_json`), and receives lines of replies.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

from mig_jax import parts
from mig_jax.errors import UserError
from mig_jax.rollout import sample_json
from mig_jax.rollout.outcomes import Sample, batch_options, find_reward

# Seconds in which a user's file must have been imported.
START_DEADLINE_S = 300.0
# Characters of a stack trace that are kept.
MAX_TRACE = 2000


class Reply(NamedTuple):
    """What a reward gives one sample.

    value: a finite number; None for no part in its group.
    error: why there is no value, with the stack trace; None if the reward itself returned None, or a number.
    """

    value: float | None
    error: str | None = None


class RewardWorker:
    """A process that calls one reward, replaced when it is late or gone. Used by one thread at a time.

    Args:
      spec: the reward, as in `reward.outcomes`.
      deadline_s: seconds of wall clock for a call.
    """

    def __init__(self, spec: str, deadline_s: float):
        self.spec, self.deadline_s = spec, deadline_s
        self._process: subprocess.Popen | None = None

    def call(self, samples: Sequence[Sample]) -> tuple[list[Reply], bool]:
        """Return a reply for each sample, and whether the call was late. Never raises for what the reward does.

        Raises:
          UserError: the user's file cannot be loaded.
        """
        if self._process and self._process.poll() is not None:
            self.close()  # it was killed while it had nothing to do
        process = self._process or self._start()
        replies, is_late = self._exchange(process, sample_json.to_line(samples), self.deadline_s)
        if is_late or replies is None:
            end = f"no reply within {self.deadline_s:g} seconds" if is_late else f"its process ended ({_end(process)})"
            self.close()
            return [Reply(None, end)] * len(samples), is_late
        return [Reply(*reply) for reply in replies], is_late

    def close(self) -> None:
        """End the process and all that it started."""
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
            with contextlib.suppress(BrokenPipeError), process:
                pass

    def _start(self) -> subprocess.Popen:
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "mig_jax.rollout.outcome_worker", self.spec, str(self.deadline_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # The worker imports from the same places as this process, and leaves the accelerators to it.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"},
            # A group of its own, which is ended as a whole; and only the parent receives Ctrl-C.
            start_new_session=True,
        )
        error, is_late = self._exchange(process, b"", START_DEADLINE_S)
        if error != "":
            reason = error or (f"not loaded within {START_DEADLINE_S:g} seconds" if is_late else _end(process))
            self.close()
            raise UserError(f"reward.outcomes={self.spec!r}: {reason}")
        return process

    def _exchange(self, process: subprocess.Popen, line: bytes, deadline_s: float) -> tuple[Any, bool]:
        """Send a line and return the reply, None if none came, and whether that was for the deadline."""
        assert process.stdin and process.stdout
        is_late = threading.Event()

        def kill_late_process():
            is_late.set()
            _kill(process)

        # Ending the process also unblocks the write and the read below.
        timer = threading.Timer(deadline_s, kill_late_process)
        timer.start()
        reply = b""
        with contextlib.suppress(OSError):
            process.stdin.write(line)
            process.stdin.flush()
            reply = process.stdout.readline()
        timer.cancel()
        return json.loads(reply) if reply.endswith(b"\n") else None, is_late.is_set()


def call_reward(reward: Any, samples: Sequence[Sample]) -> list[Reply]:
    """Return what a reward gives samples; what it raises, and values that are no reward, become errors."""
    try:
        if batch_options(reward):
            values = list(reward(samples))
            if len(values) != len(samples):
                raise ValueError(f"{len(values)} rewards for {len(samples)} samples")
        else:
            values = [reward(sample) for sample in samples]
    except (Exception, SystemExit) as error:
        trace = "".join(traceback.format_exception(error))
        return [Reply(None, f"{parts.user_traceback(error)}\n{trace[-MAX_TRACE:]}")] * len(samples)
    return [_check(value) for value in values]


def _check(value: Any) -> Reply:
    if value is None:
        return Reply(None)
    try:
        number = float(value) if not isinstance(value, str | bytes) else None
    except (TypeError, ValueError):
        number = None
    if number is None:
        return Reply(None, f"returned a {type(value).__name__}; must be a number or None")
    return Reply(number) if math.isfinite(number) else Reply(None, f"returned {number}; must be finite")


def _end(process: subprocess.Popen) -> str:
    """Return how a process ended."""
    code = process.wait()
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def main() -> None:
    """Run the worker: load the reward, then answer each list of samples, until the input ends."""
    spec, deadline_s = sys.argv[1], float(sys.argv[2])
    # The reward may read and print: its input is empty, and its output goes to stderr.
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def send(reply: Any) -> None:
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()

    try:
        reward = find_reward(spec)
    except UserError as error:
        send(str(error))
        return
    send("")
    for line in requests:
        samples = sample_json.from_line(line)
        # If the parent is killed, only the kernel's alarm enforces the deadline.
        signal.alarm(math.ceil(deadline_s) + 1)
        reply = call_reward(reward, samples)
        signal.alarm(0)
        send(reply)


if __name__ == "__main__":
    main()
