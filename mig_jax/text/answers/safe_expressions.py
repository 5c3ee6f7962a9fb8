"""Which answers may be handed to a checker that evaluates them.

Some tasks of reasoning-gym read an answer by Python's `eval`, or by sympy's `parse_expr`, which calls it, and so would
run what a policy writes. Expressions and nested lists are all that they ask for, and nothing else is let through.
"""

import functools
import inspect
import re

# What may be called.
FUNCTIONS = frozenset(
    ("sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "acot", "sinh", "cosh", "tanh", "asinh", "acosh",
     "atanh", "exp", "log", "ln", "sqrt", "abs", "Abs", "erf", "factorial", "Integral")
)  # fmt: skip
_CALL = re.compile(r"([^\W\d]\w*)\s*\(")
# Names of Python's own; what hides the next word; an attribute; the call of what is no name.
_SUSPECT = re.compile(r"__|[\\#]|[\w.)\]}'\"]\s*\.\s*[^\W\d]|[)\]}'\"]\s*\(")
_EVALUATION = re.compile(r"\b(eval|exec|parse_expr|sympify)\s*\(")


def is_safe_expression(text: str) -> bool:
    """Does this evaluate to numbers, symbols, and lists and calls of FUNCTIONS of these, if to anything?

    A string may be evaluated once more by what it is handed to, so that strings and calls exclude each other.
    """
    has_strings = "'" in text or '"' in text
    return not (has_strings and "(" in text or _SUSPECT.search(text) or set(_CALL.findall(text)) - FUNCTIONS)


@functools.cache
def may_evaluate(checker: type) -> bool:
    """Is there an evaluation in the module of this class?"""
    try:
        return _EVALUATION.search(inspect.getsource(inspect.getmodule(checker))) is not None
    except OSError:  # no source to look at
        return True
