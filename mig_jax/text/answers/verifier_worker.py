"""The program of a verifier's worker process: reads answers to grade, writes grades, until its input ends.

An input line is [response, reference, kind]. The output line is true, false, or a string: what is wrong with the
reference. If the response is null, the worker checks the reference against itself. If the reference is empty, too, the
worker imports the libraries of the kind and writes true, or an error message.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import signal
import sys
from typing import Any

from mig_jax.text.answers import formulas, safe_expressions
from mig_jax.text.answers.normalize import normalize

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
        response, reference, kind = json.loads(line)
        if response is None and not reference:
            grade = _import_libraries(kind)
            os.dup2(devnull, 2)
        else:
            # If the parent is killed, only the kernel's alarm enforces the deadline.
            signal.alarm(limit_s)
            grade = _SELF_CHECKS[kind](reference) if response is None else _GRADERS[kind](response, reference)
            signal.alarm(0)
        print(json.dumps(grade), file=grades, flush=True)


def is_equal(response: str, reference: str) -> bool:
    """Return whether two answers are equal as mathematics, by math-verify.

    Each whole answer is parsed as LaTeX. As plain text only its last number would count: 3 would equal 3x + 1, and a
    list of guesses that ends in the right one would be right.
    """
    import math_verify

    texts = [formulas.strip_unit(normalize(text)) for text in (response, reference)]
    if any(map(formulas.PLUS_MINUS.search, texts)):
        return is_equal_set(*texts)
    # The time limits of math-verify would cancel our alarm.
    given, wanted = (
        math_verify.parse(f"${text}$", [_latex_config()], parsing_timeout=None)  # pyright: ignore[reportArgumentType] - None is no limit
        for text in texts
    )
    return math_verify.verify(wanted, given, allow_set_relation_comp=True, timeout_seconds=None)


def is_solution(response: str, problem_id: str) -> bool | str:
    """Return whether a response solves a reasoning-gym problem, or an error message if there is no such problem.

    Args:
      response: the answer to grade.
      problem_id: `reasoning_gym:<task>:<seed>:<size>:<index>`.
    """
    try:
        _, task, seed, size, index = problem_id.split(":")
        dataset = _dataset(task, int(seed), int(size))
        entry = dataset[int(index)]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if safe_expressions.may_evaluate(type(dataset)) and not safe_expressions.is_safe_expression(response):
        return False
    # A response on which the task's grader raises an exception is wrong.
    with contextlib.suppress(Exception):
        return bool(dataset.score_answer(answer=response.strip(), entry=entry) >= 0.99)
    return False


def is_own_solution(problem_id: str) -> bool | str:
    """Return whether the reference answer of a reasoning-gym problem solves it, or an error message; see `is_solution`.

    A reference answer that is no text is graded as the text that it prints as.
    """
    try:
        _, task, seed, size, index = problem_id.split(":")
        answer = _dataset(task, int(seed), int(size))[int(index)]["answer"]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return is_solution(str(answer), problem_id)


def is_equal_set(response: str, reference: str) -> bool:
    """Return whether two sets have the same members, each equal as mathematics."""
    return bool(formulas.is_same_set(response, reference, is_same=_is_equal_member))


_GRADERS = {"expression": is_equal, "set": is_equal_set, "reasoning_gym": is_solution}


def parses_formula(reference: str) -> bool:
    """Return whether a formula equals itself by algebra, which parses it. The comparison of equal texts would not."""
    text = formulas.strip_unit(normalize(reference))
    return parses_members(text) if formulas.PLUS_MINUS.search(text) else is_equal(text, text)


def parses_members(reference: str) -> bool:
    """Return whether each member of a set equals itself by algebra."""
    return all([is_equal(member, member) for member in formulas.set_members(reference)])


# Functions that check a reference against itself, in as much work as it causes in the check of an answer.
_SELF_CHECKS = {"expression": parses_formula, "set": parses_members, "reasoning_gym": is_own_solution}


def _is_equal_member(one: str, other: str) -> bool:
    """Return whether two members of sets are equal as mathematics, with algebra only where needed."""
    grade = formulas.is_same_math(one, other)
    return is_equal(one, other) if grade is None else grade


@functools.cache
def _latex_config() -> Any:
    """Return math-verify's settings for parsing LaTeX."""
    from math_verify import LatexExtractionConfig

    # It would treat t, h and ab as units and drop them, so that 2t would equal 2.
    normalization = dataclasses.replace(LatexExtractionConfig().normalization_config, units=False)
    return LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normalization)


@functools.lru_cache(maxsize=8)
def _dataset(task: str, seed: int, size: int) -> Any:
    """Return the problems of a reasoning-gym task."""
    import reasoning_gym

    return reasoning_gym.create_dataset(task, seed=seed, size=size)


def _import_libraries(kind: str) -> bool | str:
    """Import the libraries that a kind of answer needs; return True, or an error message."""
    try:
        if kind == "reasoning_gym":
            import reasoning_gym  # noqa: F401
        else:
            is_equal("x+1", "1+x")
    except ImportError as error:
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
