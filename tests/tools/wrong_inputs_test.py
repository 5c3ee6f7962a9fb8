"""Wrong inputs print what docs/errors.md says: short, and without a stack trace."""

import subprocess
import sys

import pytest

from tools import wrong_inputs
from tools.wrong_inputs import Outcome


@pytest.mark.slow  # a minute on idle cores
def test_every_message_is_short_and_that_of_the_page():
    command = [sys.executable, "-m", "tools.wrong_inputs", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=wrong_inputs.PAGE.parent.parent)
    assert done.returncode == 0, done.stderr + f"run {wrong_inputs.COMMAND}"


def test_page_has_every_case():
    page = wrong_inputs.PAGE.read_text(encoding="utf-8")
    commands = [command for commands in wrong_inputs.CASES.values() for command in commands]
    assert len(set(commands)) == len(commands) >= 40 and f"Below are {len(commands)} wrong inputs" in page
    assert all(f"$ mig-jax {command}\n" in page for command in commands) and "Traceback" not in page


@pytest.mark.parametrize(
    "outcome, found",
    [
        (Outcome("mig-jax train: wrong\n", 1), []),
        (Outcome("mig-jax train: wrong\n", 0), ["exit code 0"]),
        (Outcome("", 1), ["0 lines"]),
        (Outcome("line\n" * 7, 1), ["7 lines"]),
        (Outcome("word " * 100, 1), ["a line of 500 characters"]),
        (Outcome("Traceback (most recent call last):\nValueError: wrong\n", 1), ["a stack trace"]),
    ],
)
def test_bad_messages_are_found(outcome, found):
    assert wrong_inputs.faults(outcome) == found
