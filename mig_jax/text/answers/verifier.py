"""Is this answer right? Checked by processes that may hang or die without taking anybody along.

Algebra on whatever a policy writes can take for ever ($9^{9^{9}}$), and no exception ends a computation that is stuck
in C. So answers are checked by worker processes, and one that is not done by the deadline is killed and replaced.
What can be told without algebra (see `answers`) is decided on the spot, without a worker.

A worker runs `mig_jax.text.answers.verifier_worker`. Parent and worker share nothing but two pipes with one JSON value
a line.
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

from mig_jax.text.answers import compare

KINDS = tuple(compare.COMPARISONS)

# Nothing longer is an answer.
MAX_CHARACTERS = 2000

# To import the libraries, on a busy machine.
START_DEADLINE_S = 120.0

# How often in a row a worker is started that is killed before it is ready.
MAX_STARTS = 5


class AnswerPair(NamedTuple):
    """One check.

    response: the answer that was given, None when there is none.
    reference: the right answer, of a choice its letter; for the kind reasoning_gym the problem's
      `reasoning_gym:<task>:<seed>:<size>:<index>`.
    kind: one of KINDS, how the two are compared; see `answers`.
    choices: what may be chosen, in the order of its letters A, B, …; () where the answer is open.
    """

    response: str | None
    reference: str
    kind: str
    choices: tuple[str, ...] = ()


class Verifier:
    """A pool of workers, started when first needed, ended with the `with` block.

        with Verifier(workers=2, deadline_s=5.0) as verifier:
            verifier.grade([AnswerPair("3/2", "1.5", "expression")])  # [True]

    Args:
      workers: processes.
      deadline_s: seconds of wall clock for one item.
    """

    def __init__(self, *, workers: int = 2, deadline_s: float = 5.0):
        self._workers = [_Worker(deadline_s) for _ in range(workers)]
        # The last to come back is the next to go, so that no more processes are started than there is work for.
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="verifier")

    @property
    def timeouts(self) -> int:
        """How many items have passed their deadline so far."""
        return sum(worker.timeouts for worker in self._workers)

    @property
    def restarts(self) -> int:
        """How many processes have had to be replaced so far."""
        return sum(max(0, worker.starts - 1) for worker in self._workers)

    def grade(self, items: Sequence[AnswerPair]) -> list[bool | None]:
        """Is each answer right? None: not known, because the check took too long or killed its worker twice.

        Raises:
          ValueError: an unknown kind, or a reference that names no problem of reasoning-gym.
          RuntimeError: a worker cannot be started.
        """
        unknown = {item.kind for item in items}.difference(KINDS)
        if unknown:
            raise ValueError(f"no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
        # Keyed by item, because a group of samples has few different answers.
        verdicts = {item: _decide(item) for item in items}
        hard = [item for item, verdict in verdicts.items() if verdict is None]
        verdicts.update(zip(hard, self._threads.map(self._ask, hard), strict=True))
        return [verdicts[item] for item in items]

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        for worker in self._workers:
            worker.stop()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.clean_up()

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _ask(self, item: AnswerPair) -> bool | None:
        worker = self._idle.get()
        try:
            return worker.grade(item)
        finally:
            self._idle.put(worker)


def _decide(item: AnswerPair) -> bool | None:
    """The verdict, where no worker is needed for it."""
    if item.response is None or not item.response.strip() or len(item.response) > MAX_CHARACTERS:
        return False
    if len(item.reference) > MAX_CHARACTERS:
        return compare.is_same_text(item.response, item.reference)
    return compare.COMPARISONS[item.kind](item.response, item.reference, item.choices)


class _Worker:
    """A process, replaced when it is late or dead. Used by one thread at a time."""

    def __init__(self, deadline_s: float):
        self.deadline_s = deadline_s
        self.timeouts = self.starts = 0
        self._process: subprocess.Popen | None = None
        self._prepared: set[str] = set()
        self._is_stopped = False

    def grade(self, item: AnswerPair) -> bool | None:
        """The verdict; None when the process was late, or died twice of this item."""
        for _ in range(2):
            self._prepare(item.kind)
            reply, is_late = self._exchange(item, self.deadline_s)
            if isinstance(reply, str):
                raise ValueError(f"nothing can be checked against {item.reference!r}: {reply}")
            if reply is not None or is_late:
                self.timeouts += is_late
                return reply
        return None

    def stop(self) -> None:
        """Kill the process, and start no other. From any thread."""
        self._is_stopped = True
        if process := self._process:
            process.kill()

    def clean_up(self) -> None:
        """Take leave of the process, alive or dead."""
        process, self._process = self._process, None
        self._prepared.clear()
        if process is not None:
            process.kill()
            # Waits, and closes the pipes, one of which may still hold what nobody is going to read.
            with contextlib.suppress(BrokenPipeError), process:
                pass

    def _prepare(self, kind: str) -> None:
        """Have a process that has imported what a kind needs: that takes seconds, which count for no item."""
        if kind in self._prepared:
            return
        for _ in range(MAX_STARTS):
            fault = self._try_to_prepare(kind)
            if fault is None:
                self._prepared.add(kind)
                return
        raise RuntimeError(f"no worker can be started for {kind}: {fault}")

    def _try_to_prepare(self, kind: str) -> str | None:
        """None; or that somebody has killed the process meanwhile, which is no reason not to start another.

        Raises:
          RuntimeError: it cannot be started.
        """
        with tempfile.TemporaryFile() as errors:
            if self._process is None:
                self._start(errors)
            process = self._process
            reply, is_late = self._exchange(AnswerPair(None, "", kind), START_DEADLINE_S)
            if reply is True:
                return None
            if reply is None and not is_late and process.returncode < 0:
                return f"{MAX_STARTS} were killed by signal {-process.returncode}"
            errors.seek(0)
            reason = reply or errors.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"no worker can be started for {kind}: {reason}")

    def _start(self, errors: IO[bytes]) -> None:
        if self._is_stopped:
            raise RuntimeError("the verifier is closed")
        self.starts += 1
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mig_jax.text.answers.verifier_worker", str(math.ceil(self.deadline_s) + 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # It imports from where this process does, and its algebra needs no threads.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
            # Ctrl-C is for the parent, which then ends its workers.
            start_new_session=True,
        )

    def _exchange(self, item: AnswerPair, deadline_s: float) -> tuple[bool | str | None, bool]:
        """The reply and False, or None and whether it is late; then the process is gone."""
        process, is_late = self._process, threading.Event()

        def give_up():
            is_late.set()
            process.kill()

        # Kills whoever is stuck, in reading as in computing; both calls below then return.
        timer = threading.Timer(deadline_s, give_up)
        timer.start()
        line = b""
        with contextlib.suppress(BrokenPipeError):
            # What is chosen is told without a worker.
            process.stdin.write(json.dumps(item[:3]).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        timer.cancel()
        if line.endswith(b"\n"):
            return json.loads(line), False
        self.clean_up()
        # Its own alarm may be the first to ring.
        return None, is_late.is_set() or process.returncode == -signal.SIGALRM
