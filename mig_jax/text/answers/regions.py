"""Unions of intervals, as intervals or as conditions on one variable: (1, 2], 1 < x ≤ 2, x ≠ 3."""

import functools
import itertools

from mig_jax.text.answers import identities
from mig_jax.text.answers.equations import is_short_name, less_first, name_key
from mig_jax.text.answers.parser import Unreadable, parse_formula
from mig_jax.text.answers.structure import Listing, Node, Relation, Sequence, Union_, Value

_LESS = ("<", r"\leq")


class Interval:
    """An interval; its ends are nodes."""

    def __init__(self, opening: str, low: Node, high: Node, closing: str):
        low_is_open, high_is_open = _is_infinite(low), _is_infinite(high)
        self.opening, self.closing = "(" if low_is_open else opening, ")" if high_is_open else closing
        self.low, self.high = low, high


class Region:
    """A union of intervals of a variable; "" if it has no name."""

    def __init__(self, intervals: list[Interval], name: str = ""):
        self.intervals, self.name = intervals, name


_LOWEST, _HIGHEST = Value(r"-\infty"), Value(r"\infty")


def _is_infinite(node: Node) -> bool:
    return isinstance(node, Value) and node.text.lstrip("-+ ") == r"\infty"


def is_condition(node: Node) -> bool:
    """Return whether a node is a union, or a condition such as x > 2."""
    if isinstance(node, Listing):
        return bool(node.members) and (
            all(map(is_condition, node.members))
            or node.word == "or"
            and all(isinstance(member, Sequence) for member in node.members)
        )
    return isinstance(node, Union_) or isinstance(node, Relation) and "=" not in node.operators


def region_of(node: Node) -> Region | None:
    """Return the region that a node describes; None if it is none on one variable."""
    if isinstance(node, Sequence):
        if len(node.members) != 2 or node.opening not in "([" or node.closing not in ")]":
            return None
        return Region([Interval(node.opening, *node.members, node.closing)])
    if isinstance(node, Relation):
        return _region_of_condition(node)
    if not isinstance(node, Union_ | Listing) or not node.members:
        return None
    regions = [region_of(member) for member in node.members]
    found = [region for region in regions if region]
    names = {region.name for region in found if region.name}
    if len(found) < len(regions) or len(names) > 1:
        return None
    name = next(iter(names), "")
    if isinstance(node, Listing) and node.word != "or" and all(isinstance(member, Relation) for member in node.members):
        return _intersection(found, name, is_union=not node.word)
    return Region([interval for region in found for interval in region.intervals], name)


def _region_of_condition(node: Relation) -> Region | None:
    """Return the region of x > 2, x ≠ 2 or 1 < x < 2."""
    if "=" in node.operators:
        return None
    if node.operators == (r"\neq",):
        name, point = node.sides if is_short_name(node.sides[0]) else node.sides[::-1]
        if not is_short_name(name):
            return None
        return Region([Interval("(", _LOWEST, point, ")"), Interval("(", point, _HIGHEST, ")")], name_key(name))
    node = less_first(node)
    if any(operator not in _LESS for operator in node.operators):
        return None
    openings = ["(" if operator == "<" else "[" for operator in node.operators]
    closings = [")" if operator == "<" else "]" for operator in node.operators]
    if len(node.sides) == 3 and is_short_name(node.sides[1]):
        return Region([Interval(openings[0], node.sides[0], node.sides[2], closings[1])], name_key(node.sides[1]))
    if len(node.sides) != 2:
        return None
    if is_short_name(node.sides[0]):
        return Region([Interval("(", _LOWEST, node.sides[1], closings[0])], name_key(node.sides[0]))
    if is_short_name(node.sides[1]):
        return Region([Interval(openings[0], node.sides[0], _HIGHEST, ")")], name_key(node.sides[1]))
    return None


def _intersection(regions: list[Region], name: str, *, is_union: bool) -> Region | None:
    """Return where all conditions hold; None if the order of their bounds is unknown.

    If nowhere, `is_union` says whether their union is meant: x < 2, x > 3 is one, but x < 2 and x > 3 is empty.
    """
    both = functools.reduce(_meet, (region.intervals for region in regions))
    if both is None:
        return None
    if not both and is_union and all(len(region.intervals) == 1 for region in regions):
        both = [interval for region in regions for interval in region.intervals]
    return Region(both, name)


def _meet(one: "list[Interval] | None", other: "list[Interval] | None") -> "list[Interval] | None":
    """Return the intersection of two unions of intervals; None if the order of their ends is unknown."""
    if one is None or other is None:
        return None
    found = []
    for first, second in itertools.product(one, other):
        low = _inner_end((first.low, first.opening), (second.low, second.opening), _LOWEST, 1)
        high = _inner_end((first.high, first.closing), (second.high, second.closing), _HIGHEST, -1)
        if low is None or high is None:
            return None
        interval = Interval(low[1], low[0], high[0], high[1])
        ends = _constant(interval.low), _constant(interval.high)
        if None in ends and not (_is_infinite(interval.low) or _is_infinite(interval.high)):
            # Bounds on both sides, in letters: a < x and x < b.
            if len(one) == len(other) == 1:
                return [interval]
            return None
        if ends[0] is None or ends[1] is None or ends[0] < ends[1]:
            found.append(interval)
    return found


def _inner_end(one: tuple[Node, str], other: tuple[Node, str], outermost: Node, sign: int) -> tuple[Node, str] | None:
    """Return the end that is further inside, with its bracket; None if that is unknown."""
    if one[0] == outermost or other[0] == outermost:
        return other if one[0] == outermost else one
    values = _constant(one[0]), _constant(other[0])
    if values[0] is None or values[1] is None:
        return None
    if values[0] == values[1]:
        return one if one[1] in "()" else other
    return max((values[0], one), (values[1], other), key=lambda end: sign * end[0])[1]


def _constant(node: Node) -> float | None:
    if not isinstance(node, Value):
        return None
    try:
        return identities.constant_value(parse_formula(node.text))
    except Unreadable:
        return None
