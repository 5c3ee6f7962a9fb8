"""Grading of answers in worker processes that may hang or crash without affecting anything else.

Algebra on arbitrary model output can run forever ($9^{9^{9}}$), and no Python exception interrupts a computation inside
C code. So answers are graded by worker processes, and a worker that misses its deadline is killed and replaced.
Answers that need no algebra (see `compare`) are graded directly, without a worker.

An answer whose check runs out of time is wrong if its reference alone is checked in time: then the answer is what
hangs, and a policy must not learn that hanging pays. Otherwise it is neither right nor wrong.

A worker runs `mig_jax.text.answers.verifier_worker`. Parent and worker share only two pipes, with one JSON value per
line.
"""

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NamedTuple

from mig_jax import parts
from mig_jax.errors import UserError
from mig_jax.text.answers.kinds import KINDS as ALL_KINDS
from mig_jax.text.answers.kinds import find_kind
from mig_jax.text.answers.normalize import is_same_text

# Names of our kinds.
KINDS = tuple(ALL_KINDS)

# Longer responses are wrong.
MAX_CHARACTERS = 2000

# Time for a worker to import its libraries, on a busy machine.
START_DEADLINE_S = 120.0

# Most attempts in a row to start a worker that gets killed before it is ready.
MAX_STARTS = 5


class AnswerPair(NamedTuple):
    """An answer and the reference answer to compare it with.

    response: the given answer; None if there is none.
    reference: the reference answer; for a choice its letter; for the kind reasoning_gym the id of the problem,
      `reasoning_gym:<task>:<seed>:<size>:<index>`.
    kind: how the two are compared, one of `KINDS` or a kind of the user's own; see `kinds`.
    choices: texts of the choices, in the order of their letters A, B, …; () for an open question.
    """

    response: str | None
    reference: str
    kind: str
    choices: tuple[str, ...] = ()


class Grade(NamedTuple):
    """The grade of an answer.

    is_correct: whether the answer is right; None if that is unknown, because even its reference cannot be checked.
    timed_out: the check missed its deadline, or killed its worker twice.
    """

    is_correct: bool | None
    timed_out: bool = False


class Verifier:
    """A pool of worker processes that grade answers. Use it as a context manager; workers start when first needed.

        with Verifier(workers=2, deadline_s=5.0) as verifier:
            verifier.grade([AnswerPair("3/2", "1.5", "expression")])  # [Grade(True, False)]

    Args:
      workers: number of processes.
      deadline_s: wall-clock seconds for one answer.
    """

    def __init__(self, *, workers: int = 2, deadline_s: float = 5.0):
        self._workers = [_Worker(deadline_s) for _ in range(workers)]
        # Last in, first out, so that no more processes are started than there is work for.
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="verifier")
        # Whether the reference alone is checked in time, by reference and kind; only of answers that were not.
        self._is_reference_checked: dict[tuple[str, str], bool] = {}
        self._timeouts = 0

    @property
    def timeouts(self) -> int:
        """The number of answers so far whose check ran out of time, or killed its worker twice."""
        return self._timeouts

    @property
    def restarts(self) -> int:
        """The number of processes that have been replaced so far."""
        return sum(max(0, worker.starts - 1) for worker in self._workers)

    def grade(self, pairs: Sequence[AnswerPair]) -> list[Grade]:
        """Return the grade of each answer.

        Equal pairs are graded once.

        Raises:
          ValueError: a kind is unknown.
          UserError: a reference names no problem of reasoning-gym, or a kind of the user's own cannot be loaded.
          RuntimeError: a worker cannot be started.
        """
        other_kinds = {pair.kind for pair in pairs}.difference(KINDS)
        unknown = {kind for kind in other_kinds if not parts.is_own(kind)}
        if unknown:
            raise ValueError(f"unknown kind of answer {', '.join(sorted(unknown))}; use one of {', '.join(KINDS)}")
        for kind in other_kinds:
            find_kind(kind)
        # Keyed by pair, because the samples of a group give few distinct answers.
        verdicts = {pair: _grade_without_worker(pair) for pair in pairs}
        undecided = [pair for pair, verdict in verdicts.items() if verdict is None]
        verdicts.update(zip(undecided, self._threads.map(self._check_with_worker, undecided), strict=True))
        timed_out = [pair for pair, verdict in verdicts.items() if verdict is None]
        self._timeouts += len(timed_out)
        is_checked = self._check_references(timed_out)
        grades = {pair: Grade(verdict) for pair, verdict in verdicts.items()}
        for pair in timed_out:
            grades[pair] = Grade(False if is_checked[pair.reference, pair.kind] else None, timed_out=True)
        return [grades[pair] for pair in pairs]

    def close(self) -> None:
        """Kill all workers, even while they grade."""
        for worker in self._workers:
            worker.stop()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.discard_process()

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _check_references(self, pairs: Sequence[AnswerPair]) -> dict[tuple[str, str], bool]:
        """Return whether the reference of each pair, by reference and kind, is checked in time against itself."""
        known = self._is_reference_checked
        missing = {(pair.reference, pair.kind): pair._replace(response=None) for pair in pairs}
        new = {key: pair for key, pair in missing.items() if key not in known}
        checks = self._threads.map(self._check_with_worker, new.values())
        known.update((key, check is not None) for key, check in zip(new, checks, strict=True))
        return known

    def _check_with_worker(self, pair: AnswerPair) -> bool | None:
        worker = self._idle.get()
        try:
            return worker.check(pair)
        finally:
            self._idle.put(worker)


def _grade_without_worker(pair: AnswerPair) -> bool | None:
    """Return whether an answer is right; None if that takes a worker."""
    if pair.response is None or not pair.response.strip() or len(pair.response) > MAX_CHARACTERS:
        return False
    if len(pair.reference) > MAX_CHARACTERS:
        return is_same_text(pair.response, pair.reference)
    # The functions of a user's own kind may hang or crash.
    kind = ALL_KINDS.get(pair.kind)
    return kind and kind.compare(pair.response, pair.reference, pair.choices)


class _Reply(NamedTuple):
    """The reply of a worker process.

    value: whether the answer is right, or what is wrong with the reference; None if no reply came. The process is then
      gone.
    timed_out: whether the deadline was missed.
    exit_code: of the process if it is gone, negative for the signal that killed it; else None.
    """

    value: bool | str | None
    timed_out: bool = False
    exit_code: int | None = None


class _Worker:
    """A worker process that is replaced when it times out or dies. Used by one thread at a time."""

    def __init__(self, deadline_s: float):
        self.deadline_s = deadline_s
        self.starts = 0
        self._process: subprocess.Popen | None = None
        self._prepared_kinds: set[str] = set()
        self._is_stopped = False

    def check(self, pair: AnswerPair) -> bool | None:
        """Return whether an answer is right; None if the process timed out, or died twice.

        Without a response, the reference is checked against itself.
        """
        for _ in range(2):
            process = self._ensure_prepared(pair.kind)
            reply = self._exchange(process, pair, self.deadline_s)
            if isinstance(reply.value, str):
                raise UserError(f"no answer can be graded with the reference {pair.reference!r}: {reply.value}")
            if reply.value is not None or reply.timed_out:
                return reply.value
        return None

    def stop(self) -> None:
        """Kill the process, and start no other. May be called from any thread."""
        self._is_stopped = True
        if process := self._process:
            process.kill()

    def discard_process(self) -> None:
        """Kill the process if it is alive, and release its resources."""
        process, self._process = self._process, None
        self._prepared_kinds.clear()
        if process is not None:
            process.kill()
            # Waits for the process and closes its pipes. Closing flushes, which fails if the process left input unread.
            with contextlib.suppress(BrokenPipeError), process:
                pass

    def _ensure_prepared(self, kind: str) -> subprocess.Popen:
        """Return a process that has imported the libraries of a kind.

        The imports take seconds, which must not count towards an answer's deadline.

        Raises:
          RuntimeError: no process can be started.
        """
        if kind in self._prepared_kinds and self._process is not None:
            return self._process
        error: str | None = None
        for _ in range(MAX_STARTS):
            with tempfile.TemporaryFile() as stderr:
                process = self._process or self._start(stderr)
                error = self._prepare(process, kind, stderr)
            if error is None:
                self._prepared_kinds.add(kind)
                return process
        raise RuntimeError(f"no verifier worker can be started for {kind}: {error}")

    def _prepare(self, process: subprocess.Popen, kind: str, stderr: IO[bytes]) -> str | None:
        """Let a process import the libraries of a kind.

        Returns:
          None, or an error message if the process was killed meanwhile, after which a new one may still start.

        Raises:
          RuntimeError: the libraries cannot be imported.
        """
        reply = self._exchange(process, AnswerPair(None, "", kind), START_DEADLINE_S)
        if reply.value is True:
            return None
        if reply.exit_code is not None and reply.exit_code < 0 and not reply.timed_out:
            return f"{MAX_STARTS} were killed by signal {-reply.exit_code}"
        stderr.seek(0)
        reason = reply.value or stderr.read().decode(errors="replace")[-2000:]
        raise RuntimeError(f"no verifier worker can be started for {kind}: {reason}")

    def _start(self, stderr: IO[bytes]) -> subprocess.Popen:
        """Start a process."""
        if self._is_stopped:
            raise RuntimeError("the verifier is closed")
        self.starts += 1
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mig_jax.text.answers.verifier_worker", str(math.ceil(self.deadline_s) + 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            # The worker imports from the same places as this process, and its algebra needs no threads.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
            # Only the parent receives Ctrl-C; it then ends its workers.
            start_new_session=True,
        )
        return self._process

    def _exchange(self, process: subprocess.Popen, pair: AnswerPair, deadline_s: float) -> _Reply:
        """Send a pair to the process and wait for the reply; without one, discard the process."""
        assert process.stdin and process.stdout
        timed_out = threading.Event()

        def kill_late_process():
            timed_out.set()
            process.kill()

        # Killing the process also unblocks the write and the read below.
        timer = threading.Timer(deadline_s, kill_late_process)
        timer.start()
        line = b""
        with contextlib.suppress(BrokenPipeError):
            kind = parts.loadable_spec(parts.absolute_spec(pair.kind))
            process.stdin.write(json.dumps(pair._replace(kind=kind)).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        timer.cancel()
        if line.endswith(b"\n"):
            return _Reply(json.loads(line))
        self.discard_process()
        # The worker's own alarm may go off first.
        return _Reply(None, timed_out.is_set() or process.returncode == -signal.SIGALRM, process.returncode)
