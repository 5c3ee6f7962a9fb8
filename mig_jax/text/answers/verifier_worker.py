"""The program of a verifier's worker process: reads answers to grade, writes grades, until its input ends.

An input line is [response, reference, kind, choices]. The output line is true, false, or a string: what is wrong with
the reference. If the response is null, the worker checks the reference against itself. If the reference is empty, too,
the worker imports the libraries of the kind and writes true, or an error message.
"""

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence

from mig_jax.errors import UserError
from mig_jax.text.answers import checks, kinds

# Limit of the address space, so that a number of a billion digits kills the worker, not the machine.
MAX_BYTES = 4 * 2**30


def main() -> None:
    """Run the worker; the first command-line argument is the time limit for one answer, in seconds."""
    limit_s = int(sys.argv[1])
    # Grades go to a copy of stdout, so that output printed by libraries cannot mix with them.
    grades = os.fdopen(os.dup(1), "w")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    logging.disable()
    _limit_memory()
    for line in sys.stdin:
        response, reference, kind, choices = json.loads(line)
        if response is None and not reference:
            grade = _import_libraries(kind)
            os.dup2(devnull, 2)
        else:
            # If the parent is killed, only the kernel's alarm enforces the deadline.
            signal.alarm(limit_s)
            grade = _grade(response, reference, kind, choices)
            signal.alarm(0)
        print(json.dumps(grade), file=grades, flush=True)


def _grade(response: str | None, reference: str, kind: str, choices: Sequence[str]) -> bool | str:
    """Return whether a response is right, or what is wrong with the reference."""
    if kind not in kinds.KINDS:
        return kinds.grade_own(kind, response, reference, choices)
    check, check_reference = kinds.KINDS[kind].check, kinds.KINDS[kind].check_reference
    assert check is not None and check_reference is not None, kind
    return check_reference(reference) if response is None else check(response, reference)


def _import_libraries(kind: str) -> bool | str:
    """Import the libraries that a kind of answer needs; return True, or an error message."""
    try:
        if kind not in kinds.KINDS:
            kinds.find_kind(kind)
        elif kind == "reasoning_gym":
            import reasoning_gym  # noqa: F401
        else:
            checks.is_equal_by_algebra("x+1", "1+x")
    except (ImportError, UserError) as error:
        return str(error)
    return True


def _limit_memory() -> None:
    """Limit the address space of this process."""
    import resource

    # macOS does not support this limit.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))


if __name__ == "__main__":
    main()
