"""Equations and inequalities: what a name before an equals sign means, and which ones are equivalent."""

import re
from typing import TypeGuard

from mig_jax.text.answers import identities
from mig_jax.text.answers.normalize import TEXT_COMMAND
from mig_jax.text.answers.parser import Formula, NotAFormula, Unreadable, parse_formula
from mig_jax.text.answers.quantities import parse_number
from mig_jax.text.answers.scalars import strip_unit
from mig_jax.text.answers.structure import Listing, Node, Relation, Sequence, Value

_ONE_LETTER = r"(?:[A-Za-z]|\\[A-Za-z]+)'*(?: ?_ ?(?:\{[^{}]*\}|\w))?"
_SHORT_NAME = re.compile(_ONE_LETTER + r"(?: ?\( ?[a-z] ?\))?")
_CONSTANTS = (r"\pi", "e", "i", r"\infty", r"\emptyset")
# What may be on the left of an equals sign whose right-hand side is the answer.
_NAME = re.compile(
    rf"(?:{_ONE_LETTER}(?: ?\^ ?\{{?-1\}}?)?(?: ?\((?:[^()=]|\([^()]*\))*\))?"  # x, a_n, f(x), P(A)
    rf"|\(? ?{_ONE_LETTER}(?:, ?{_ONE_LETTER})+ ?\)?"  # (x, y)
    r"|m? ?\\(?:angle|overline|vec|triangle|mathbf) ?\{? ?[A-Za-z]{1,4}(?:_\w)? ?\}?|m?∠ ?[A-Z]{1,3}"
    r"|\|? ?[A-Z]{2,4} ?\|?|\[[A-Z]{3,}\]|[a-z](?: ?: ?[a-z])+"
    r"|[A-Z]{1,2} ?[:/] ?[A-Z]{1,2}|\\frac ?\{ ?[A-Z]{1,2} ?\} ?\{ ?[A-Z]{1,2} ?\}"
    rf"|{TEXT_COMMAND} ?\{{[^{{}}]*\}}(?: ?_\w)?"
    r"|(?!.*\b(?:not|never|wrong|if|unless)\b)[A-Za-z ]*[A-Za-z]{3,}[A-Za-z ]*)"
)
# What is asked for rather than an equation: x + y, ab, a/b, cos A.
_SUM_OF_NAMES = re.compile(
    rf"{_ONE_LETTER}(?: ?(?:[-+*/]|\\cdot)? ?{_ONE_LETTER})*|\\(?:sin|cos|tan|log|ln)(?:\^2)? ?\(?{_ONE_LETTER}\)?"
    r"|\\frac ?\{[A-Za-z]+\} ?\{[A-Za-z]+\}"
)
_NEGATION = re.compile(r"\b(?:not|never|wrong|if|unless)\b")
_FUNCTION = re.compile(r"[A-Za-z](?:_\w)? ?\( ?([A-Za-z]) ?\)")
_FLIPPED = {"<": ">", r"\leq": r"\geq", ">": "<", r"\geq": r"\leq"}


def without_assignment(given: Node, wanted: Node) -> tuple[Node, Node]:
    """Drop what precedes the last equals sign where only one answer has it, and the middle of chains in both."""
    given, wanted = named_first(given), named_first(wanted)
    if is_equation(wanted) and not isinstance(given, Relation) and is_name(wanted.sides[0]):
        return given, wanted.sides[-1]
    if is_equation(given) and not isinstance(wanted, Relation) and _has_answer_on_the_right(given):
        return given.sides[-1], wanted
    if is_equation(given) and is_equation(wanted):
        return _ends(given), _ends(wanted)
    return given, wanted


def is_equation(node: Node) -> TypeGuard[Relation]:
    return isinstance(node, Relation) and set(node.operators) == {"="}


def _ends(node: Relation) -> Relation:
    return Relation((node.sides[0], node.sides[-1]), ("=",))


def named_first(node: Node) -> Node:
    """Return 2 = x as x = 2."""
    if is_equation(node) and len(node.sides) == 2 and not is_name(node.sides[0]) and is_short_name(node.sides[1]):
        return Relation(node.sides[::-1], ("=",))
    return node


def _has_answer_on_the_right(equation: Relation) -> bool:
    """Return whether the last side of an equation may be meant as the answer.

    So it is after a name, after a number that has this value, and in x + y = 5; but not in x^2 - 4 = 0 or x = x + 1.
    """
    left, right = equation.sides[0], equation.sides[-1]
    if is_name(left):
        formula = _formula(right)
        return formula is None or name_key(left) not in formula.names
    if not isinstance(left, Value) or _NEGATION.search(left.text):
        return False
    try:
        formula = parse_formula(strip_unit(left.text))
    except Unreadable:
        return True
    if not formula.names and isinstance(right, Value):
        return _is_true_equation(formula, right.text)
    number = parse_number(right.text) if isinstance(right, Value) else None
    return number is not None and number.value != 0 and _SUM_OF_NAMES.fullmatch(left.text) is not None


def _is_true_equation(left: Formula, right: str) -> bool:
    try:
        return identities.is_same_value(left, parse_formula(right if "%" in right else strip_unit(right))) is not False
    except Unreadable:
        return True


def is_name(node: Node) -> bool:
    if isinstance(node, Value):
        return _NAME.fullmatch(node.text) is not None and parse_number(node.text) is None
    return isinstance(node, Sequence) and all(map(is_short_name, node.members))


def is_short_name(node: Node) -> bool:
    """Return whether a node is a single letter, with its index or argument, that is no constant."""
    if not isinstance(node, Value) or node.text in _CONSTANTS:
        return False
    return _SHORT_NAME.fullmatch(node.text) is not None


def are_same_function(given: Relation, wanted: Relation) -> bool:
    """Return whether one equation begins with y and the other with f(x), or both define the same constant function."""
    names = [name_key(node.sides[0]) for node in (given, wanted)]
    functions = [_FUNCTION.fullmatch(name) for name in names]
    if all(functions) and names[0][0] == names[1][0]:
        return is_number(given.sides[-1]) and is_number(wanted.sides[-1])
    return "y" in names and any(function and function[1] != "y" for function in functions)


def tuple_of_assignments(listing: Listing) -> Node | None:
    """Return (1, 3) for x = 1, y = 3, in the order of the names; None for another list."""
    values: dict[str, Node] = {}
    for node in map(named_first, listing.members):
        if not is_equation(node) or not is_short_name(node.sides[0]):
            return None
        values[name_key(node.sides[0])] = node.sides[-1]
    if len(values) != len(listing.members) or len(values) < 2:
        return None
    return Sequence("(", tuple(values[name] for name in sorted(values)), ")")


def without_indices(given: Listing, wanted: Listing) -> tuple[Listing, Listing]:
    """Return the values of x = 1, x = 2 and of x_1 = 1, x_2 = 2, where one is written so and the other so."""
    names: list[set[str]] = []
    for listing in (given, wanted):
        members = [*map(named_first, listing.members)]
        if not members or not all(is_equation(node) and is_short_name(node.sides[0]) for node in members):
            return given, wanted
        names.append({name_key(node.sides[0]) for node in members if is_equation(node)})
    for plain, indexed in (names, names[::-1]):
        if len(plain) == 1 and all(re.fullmatch(rf"{re.escape(min(plain))}_[0-9]", name) for name in indexed):
            values = [
                tuple(node.sides[-1] for node in map(named_first, listing.members) if is_equation(node))
                for listing in (given, wanted)
            ]
            return Listing(values[0]), Listing(values[1])
    return given, wanted


def is_number(node: Node) -> bool:
    """Return whether a node is a constant."""
    if not isinstance(node, Value):
        return False
    try:
        return not parse_formula(strip_unit(node.text)).names
    except Unreadable:
        return parse_number(node.text) is not None


def is_identity(node: Relation) -> bool:
    """Return whether an equation is true for all values, or has no variables."""
    if node.operators != ("=",):
        return False
    one, other = map(_formula, node.sides)
    if not one or not other:
        return False
    try:
        return not one.names and not other.names or identities.is_same_value(one, other) is True
    except Unreadable:
        return False


def _formula(node: Node) -> Formula | None:
    try:
        return parse_formula(strip_unit(node.text)) if isinstance(node, Value) else None
    except Unreadable:
        return None


def name_key(node: Node) -> str:
    return re.sub(r"[ {}]", "", node.text) if isinstance(node, Value) else str(node)


def less_first(node: Relation) -> Relation:
    """Return 3 > x as x < 3."""
    if node.operators[0] not in (">", r"\geq") or any(operator not in _FLIPPED for operator in node.operators):
        return node
    return Relation(node.sides[::-1], tuple(_FLIPPED[operator] for operator in reversed(node.operators)))


def proportionality(given: Relation, wanted: Relation) -> int | None:
    """Return the sign of the ratio of two relations, each as left minus right; 0 if it is not constant."""
    try:
        one, other = (
            identities.difference(*(parse_formula(side.text) for side in node.sides if isinstance(side, Value)))
            for node in (given, wanted)
            if all(isinstance(side, Value) for side in node.sides)
        )
        return identities.is_proportional(one, other)
    except NotAFormula:
        return 0
    except (Unreadable, ValueError):
        return None
