"""Note stop signals. `train.train_loop` then saves a checkpoint, and `main.run_command` exits with `EXIT_CODE`."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)

# EX_TEMPFAIL of sysexits.h: rerun the same command to resume.
EXIT_CODE = 75


class Preempted(Exception):
    """A run was stopped before its last step; everything it has done is saved."""


@contextlib.contextmanager
def catch_stop_signals() -> Iterator[Callable[[], bool]]:
    """Note the first of SIGNALS while the block runs; the second one ends the process at once.

        with catch_stop_signals() as should_stop:
            …

    Compiling and sampling block the main thread for minutes, during which no Python signal handler runs. So a thread
    reads the signals from the pipe that the interpreter writes them to. Use it in the main thread only.
    """
    stop = threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    old_handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    old_pipe = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reading, stop), name="signals", daemon=True)
    thread.start()
    try:
        yield stop.is_set
    finally:
        signal.set_wakeup_fd(old_pipe)
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        os.close(writing)
        thread.join()
        os.close(reading)


def _watch(reading: int, stop: threading.Event) -> None:
    """Read signals until the pipe is closed."""
    while received := os.read(reading, 1):
        if received[0] not in SIGNALS:
            continue
        if stop.is_set():
            os._exit(128 + received[0])
        stop.set()
        name = signal.Signals(received[0]).name
        print(f"\n{name}: stopping after the current step; a second signal stops at once", file=sys.stderr, flush=True)
