"""What is being compiled is shown at a terminal, and nothing is shown elsewhere."""

import io
import time

import jax
import jax.numpy as jnp
import pytest

from mig_jax.records import compile_timer


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(compile_timer, "SHOW_AFTER_S", 0.0)
    monkeypatch.setattr(compile_timer, "REFRESH_S", 0.01)


def compile_slowly():
    """Compile a new program."""

    @jax.jit
    def slow_program(x):
        return jnp.sin(x) * time.monotonic()

    return slow_program(1.0)


def test_events_of_jax_give_the_program_that_is_compiled(monkeypatch, quick):
    terminal, seen = Terminal(), []
    monkeypatch.setattr("sys.stderr", terminal)
    note = compile_timer.CompileTimer.note

    def noting(self, event, duration, **details):
        note(self, event, duration, **details)
        if self.current and not seen and "slow_program" in self.text():
            seen.append(self.text())
            time.sleep(0.1)  # the compilation itself takes too short a time to be drawn

    monkeypatch.setattr(compile_timer.CompileTimer, "note", noting)
    with compile_timer.show_compile_time():
        compile_slowly()
        assert not compile_timer._timers[0].current
    assert seen == ["compiling slow_program: 0 s"]
    assert "compiling slow_program: 0 s" in terminal.getvalue() and not compile_timer._timers


def test_short_compilations_are_not_shown():
    timer = compile_timer.CompileTimer()
    timer.note(compile_timer._LOWERED, 0.1, fun_name="jit(f)")
    assert timer.text() == ""
    timer.current = {1: compile_timer.Compilation("f", time.monotonic() - 42), 2: timer.current.popitem()[1]}
    assert timer.text() == "compiling f: 42 s"


def test_nothing_is_written_into_a_file(monkeypatch, quick):
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    with compile_timer.show_compile_time():
        assert not compile_timer._timers
        compile_slowly()
    assert file.getvalue() == ""
