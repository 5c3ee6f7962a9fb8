"""Count compiled programs, and show at a terminal what is being compiled; compiling a large model takes minutes."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax

from mig_jax.records.progress import progress

# jax reports the time of each stage of a compilation when the stage ends. Compiling itself follows lowering.
_LOWERED, _COMPILED = "/jax/core/compile/jaxpr_to_mlir_module_duration", "/jax/core/compile/backend_compile_duration"
# Seconds before a compilation is shown, and between two updates of its line.
SHOW_AFTER_S, REFRESH_S = 2.0, 1.0


class Compilation(NamedTuple):
    """A program that is being compiled: its name, and `time.monotonic()` at its beginning."""

    name: str
    start: float


class CompileTimer:
    """Notes what is being compiled, from the events of `jax.monitoring`, and shows it on a line of its own.

    current: what is being compiled by each thread.
    """

    def __init__(self):
        self.current: dict[int, Compilation] = {}
        self._stop = threading.Event()

    def note(self, event: str, duration_secs: float, **details: str | int) -> None:
        """Note an event of `jax.monitoring`."""
        del duration_secs
        thread = threading.get_ident()
        if event == _LOWERED:
            self.current[thread] = Compilation(_short_name(str(details.get("fun_name", ""))), time.monotonic())
        elif event == _COMPILED:
            self.current.pop(thread, None)

    def text(self) -> str:
        """Return the line to show now; "" for none."""
        longest = min(list(self.current.values()), key=lambda compilation: compilation.start, default=None)
        seconds = time.monotonic() - longest.start if longest else 0.0
        return f"compiling {longest.name}: {seconds:.0f} s" if longest and seconds >= SHOW_AFTER_S else ""

    def run(self) -> None:
        """Show the line until `stop`; for a thread."""
        line = None
        while not self._stop.wait(REFRESH_S):
            text = self.text()
            if text and line is None:
                line = progress(bar_format="{desc}", leave=False)
            if text and line is not None:
                line.set_description_str(text)
            elif line is not None:
                line.close()
                line = None
        if line is not None:
            line.close()

    def stop(self) -> None:
        """End `run`."""
        self._stop.set()


# What notes the events now, and the programs compiled so far. jax keeps listeners for ever, so there is one for all.
_timers: list[CompileTimer] = []
_programs: list[str] = []
_is_listening = threading.Event()


def _note(event: str, duration_secs: float, **details: str | int) -> None:
    if event == _COMPILED:
        _programs.append(_short_name(str(details.get("fun_name", ""))))
    for timer in _timers:
        timer.note(event, duration_secs, **details)


def _listen() -> None:
    if not _is_listening.is_set():
        jax.monitoring.register_event_duration_secs_listener(_note)
        _is_listening.set()


def compiled_programs() -> list[str]:
    """Return the names of the programs that this process has compiled since the first call of this function.

    A program is named as often as it was compiled, for every size; so are those that were read from disk.
    """
    _listen()
    return list(_programs)


@contextlib.contextmanager
def show_compile_time() -> Iterator[None]:
    """Show what is being compiled while the block runs, if the standard error is a terminal; else do nothing."""
    if not sys.stderr.isatty():
        yield
        return
    _listen()
    timer = CompileTimer()
    thread = threading.Thread(target=timer.run, name="compile timer", daemon=True)
    _timers.append(timer)
    thread.start()
    try:
        yield
    finally:
        _timers.remove(timer)
        timer.stop()
        thread.join()


def _short_name(name: str) -> str:
    """Return `train_step` for `jit(train_step)`."""
    return name.removeprefix("jit(").removesuffix(")") or "a program"
