"""The checks that run in worker processes only: algebra, and the graders of tasks."""

import contextlib
import functools
import re
from collections.abc import Callable
from typing import Any

from mig_jax.text.answers import safe_expressions, sets
from mig_jax.text.answers.formulas import is_same_math
from mig_jax.text.answers.normalize import normalize
from mig_jax.text.answers.scalars import strip_unit

_IMAGINARY_UNIT = re.compile(r"(?<![A-Za-z\\])i(?![A-Za-z])")
_INDEX_I = re.compile(r"_ ?\{ ?i ?=")


def is_equal(response: str, reference: str) -> bool:
    """Return whether two answers are equal as mathematics, with algebra where their single values take it."""
    return bool(is_same_math(response, reference, algebra=is_equal_by_algebra))


def is_equal_by_algebra(given: str, wanted: str) -> bool:
    """Return whether two single values are equal, by latex2sympy and sympy.

    Each whole text is parsed as LaTeX, with upper and lower case, and without units. Numbers are compared with their 50
    first digits, so that tiny ones differ, too.
    """
    import sympy

    parse = _latex_parser()
    try:
        one, other = map(parse, (given, wanted))
        if not isinstance(one, sympy.Expr) or not isinstance(other, sympy.Expr):
            return False
        if one == other:
            return True
        one, other = one.doit(), other.doit()
        if one.has(sympy.nan, sympy.zoo, sympy.oo) or other.has(sympy.nan, sympy.zoo, sympy.oo):
            return one == other
        if one.free_symbols or other.free_symbols:
            return sympy.simplify(one - other) == 0
        if one.is_Rational and other.is_Rational:
            return one == other
        one, other = one.evalf(50), other.evalf(50)
        return bool(abs(one - other) <= abs(other) * sympy.Float("1e-40") and other.is_number)
    # Whatever sympy cannot parse or compare is not equal.
    except Exception:
        return False


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
    return bool(sets.is_same_set(response, reference, is_same=_is_equal_member))


CHECKS = {"expression": is_equal, "set": is_equal_set, "reasoning_gym": is_solution}


def parses_formula(reference: str) -> bool:
    """Return True after algebra has compared a formula with itself; equal texts alone would not be parsed."""
    is_equal_by_algebra(*[strip_unit(normalize(reference))] * 2)
    return True


def parses_members(reference: str) -> bool:
    """Return True after algebra has compared each member of a set with itself."""
    return all([parses_formula(member) for member in sets.set_members(reference)])


# Functions that check a reference against itself, in as much work as it causes in the check of an answer.
REFERENCE_CHECKS = {"expression": parses_formula, "set": parses_members, "reasoning_gym": is_own_solution}


def _is_equal_member(one: str, other: str) -> bool:
    """Return whether two members of sets are equal as mathematics, with algebra only where needed."""
    return is_equal(one, other)


@functools.cache
def _latex_parser() -> Callable[[str], Any]:
    """Return latex2sympy with our settings."""
    from latex2sympy2_extended import NormalizationConfig, latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    # With units it would drop t, h and ab, so that 2t would equal 2; with lowercase_symbols A would equal a.
    notation = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    conversion = ConversionConfig(lowercase_symbols=False)

    def parse(text: str) -> Any:
        is_complex = _IMAGINARY_UNIT.search(text) and not _INDEX_I.search(text)
        return latex2sympy(text, is_real=not is_complex, normalization_config=notation, conversion_config=conversion)

    return parse


@functools.lru_cache(maxsize=8)
def _dataset(task: str, seed: int, size: int) -> Any:
    """Return the problems of a reasoning-gym task."""
    import reasoning_gym

    return reasoning_gym.create_dataset(task, seed=seed, size=size)
