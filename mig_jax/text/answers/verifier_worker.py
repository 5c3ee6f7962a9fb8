"""What a worker of `verifier` runs: it reads questions and writes verdicts until its input ends.

A question is a line [response, reference, kind], a verdict a line true, false, or "what is wrong with the reference".
A question without a response (null) asks to prepare for its kind.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import signal
import sys

from mig_jax.text.answers import formulas, safe_expressions
from mig_jax.text.answers.normalize import normalize

# Address space, so that a number of a billion digits is the end of the worker and not of the machine.
MAX_BYTES = 4 * 2**30


def main() -> None:
    """Serve; the first argument is in how many seconds a question must be done."""
    backstop_s = int(sys.argv[1])
    # What a library prints must not come between the verdicts.
    verdicts = os.fdopen(os.dup(1), "w")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    logging.disable()
    _limit_memory()
    for line in sys.stdin:
        response, reference, kind = json.loads(line)
        if response is None:
            verdict = _warm_up(kind)
            os.dup2(silence, 2)
        else:
            # Should the parent be killed, nobody is left to keep the deadline but the kernel.
            signal.alarm(backstop_s)
            verdict = _CHECKS[kind](response, reference)
            signal.alarm(0)
        print(json.dumps(verdict), file=verdicts, flush=True)


def is_equal(response: str, reference: str) -> bool:
    """Equal as mathematics, for math-verify.

    As LaTeX the whole of an answer is read. As loose text its last number would be taken for it, so that 3 would equal
    3x + 1, and so would any row of guesses that ends in the right one.
    """
    import math_verify

    texts = [formulas.without_unit(normalize(text)) for text in (response, reference)]
    if any(map(formulas.PLUS_MINUS.search, texts)):
        return is_equal_set(*texts)
    # Its own time limits would take away our alarm.
    given, wanted = (math_verify.parse(f"${text}$", [_latex_config()], parsing_timeout=None) for text in texts)
    return math_verify.verify(wanted, given, allow_set_relation_comp=True, timeout_seconds=None)


def is_solution(response: str, name: str) -> bool | str:
    """Solves the problem `reasoning_gym:<task>:<seed>:<size>:<index>`, or what is wrong with this name."""
    try:
        _, task, seed, size, index = name.split(":")
        dataset = _dataset(task, int(seed), int(size))
        entry = dataset[int(index)]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if safe_expressions.may_evaluate(type(dataset)) and not safe_expressions.is_safe_expression(response):
        return False
    # The task's checker may stumble over what a policy writes; then it is wrong.
    with contextlib.suppress(Exception):
        return bool(dataset.score_answer(answer=response.strip(), entry=entry) >= 0.99)
    return False


def is_equal_set(response: str, reference: str) -> bool:
    """The same members, each equal as mathematics."""
    return formulas.is_same_set(response, reference, is_same=_is_equal_member)


_CHECKS = {"expression": is_equal, "set": is_equal_set, "reasoning_gym": is_solution}


def _is_equal_member(one: str, other: str) -> bool:
    verdict = formulas.is_same_math(one, other)
    return is_equal(one, other) if verdict is None else verdict


@functools.cache
def _latex_config():
    from math_verify import LatexExtractionConfig

    # Among what it takes for units are t, h and ab: 2t would equal 2.
    normalization = dataclasses.replace(LatexExtractionConfig().normalization_config, units=False)
    return LatexExtractionConfig(boxed_match_priority=-1, normalization_config=normalization)


@functools.lru_cache(maxsize=8)
def _dataset(task: str, seed: int, size: int):
    import reasoning_gym

    return reasoning_gym.create_dataset(task, seed=seed, size=size)


def _warm_up(kind: str) -> bool | str:
    """Import what a kind needs; True, or why that cannot be done."""
    try:
        if kind == "reasoning_gym":
            import reasoning_gym  # noqa: F401
        else:
            is_equal("x+1", "1+x")
    except ImportError as error:
        return str(error)
    return True


def _limit_memory() -> None:
    import resource

    # macOS has no such limit.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))


if __name__ == "__main__":
    main()
