"""A filter for answers that a grader would evaluate as code.

Some tasks of reasoning-gym parse answers with Python's `eval`, or with sympy's `parse_expr`, which calls it, and would
thus run what a policy generates. They only ask for expressions and nested lists, so nothing else is let through.
"""

import functools
import inspect
import re

# The only functions that an answer may call.
FUNCTIONS = frozenset(
    ("sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "acot", "sinh", "cosh", "tanh", "asinh", "acosh",
     "atanh", "exp", "log", "ln", "sqrt", "abs", "Abs", "erf", "factorial", "Integral")
)  # fmt: skip
_CALL = re.compile(r"([^\W\d]\w*)\s*\(")
# Dunder names; characters that hide the next word; attributes; calls of something other than a name.
_SUSPECT = re.compile(r"__|[\\#]|[\w.)\]}'\"]\s*\.\s*[^\W\d]|[)\]}'\"]\s*\(")
_EVALUATION = re.compile(r"\b(eval|exec|parse_expr|sympify)\s*\(")


def is_safe_expression(text: str) -> bool:
    """Return whether a text can only evaluate to numbers, symbols, lists of these, and calls of FUNCTIONS on these.

    A called function may evaluate a string argument again, so a text with both strings and calls is not safe.
    """
    has_strings = "'" in text or '"' in text
    return not (has_strings and "(" in text or _SUSPECT.search(text) or set(_CALL.findall(text)) - FUNCTIONS)


@functools.cache
def may_evaluate(checker: type) -> bool:
    """Return whether the module of a task's class contains a call that evaluates text, or has no source to inspect."""
    module = inspect.getmodule(checker)
    try:
        return module is None or _EVALUATION.search(inspect.getsource(module)) is not None
    except OSError:
        return True
