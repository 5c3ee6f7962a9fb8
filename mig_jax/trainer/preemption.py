"""A run that is asked to stop by a signal ends the step that is under way, saves a checkpoint, and leaves."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)

# What sysexits.h calls EX_TEMPFAIL: the same command goes on.
EXIT_CODE = 75


class Preempted(Exception):
    """A run has ended before its last step because it was asked to; all that it has done is saved."""


@contextlib.contextmanager
def catch_stop_signals() -> Iterator[Callable[[], bool]]:
    """For as long as the block runs, the first of SIGNALS is noted, and the second ends the process at once.

        with listen() as is_asked_to_stop:
            …

    Compiling and sampling keep the main thread for minutes, in which it runs no handler of Python's. So signals are
    read by a thread, from the pipe into which the interpreter writes each one when it comes. Main thread only.
    """
    asked = threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    pipe_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reading, asked), name="signals", daemon=True)
    thread.start()
    try:
        yield asked.is_set
    finally:
        signal.set_wakeup_fd(pipe_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writing)
        thread.join()
        os.close(reading)


def _watch(reading: int, asked: threading.Event) -> None:
    """Until the pipe is closed."""
    while received := os.read(reading, 1):
        if received[0] not in SIGNALS:
            continue
        if asked.is_set():
            os._exit(128 + received[0])
        asked.set()
        name = signal.Signals(received[0]).name
        print(f"\n{name}: the step under way ends first; a second signal ends at once", file=sys.stderr, flush=True)
