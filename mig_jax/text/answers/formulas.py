"""Comparison of expressions: `is_same_math` asks the rules of this room, in the order of its docstring.

A single value that none of them can read, such as an integral, is left to `algebra`: in a worker process to sympy, else
the comparison is undecided.
"""

import functools
import itertools
import re
from collections.abc import Sequence
from typing import Any

from mig_jax.text.answers import structure
from mig_jax.text.answers.equations import (
    are_same_function,
    is_identity,
    is_name,
    is_number,
    less_first,
    name_key,
    proportionality,
    tuple_of_assignments,
    without_assignment,
    without_indices,
)
from mig_jax.text.answers.logic import all_of, same_members
from mig_jax.text.answers.normalize import is_same_text
from mig_jax.text.answers.notations import is_same_notation
from mig_jax.text.answers.quantities import normalize_money
from mig_jax.text.answers.regions import Interval, is_condition, region_of
from mig_jax.text.answers.scalars import Algebra, is_same_scalar
from mig_jax.text.answers.structure import MAX_DEPTH, Listing, Matrix, Node, Relation, Union_, Value

ASSIGNMENT = re.compile(r"([A-Za-z](?:_\{?[0-9A-Za-z]\}?)?(?: ?\([a-z]\))?) ?= ?([^=]+)")
# A reference that is a sentence of English, without a formula, equals only itself.
_SENTENCE = re.compile(r"\s*the answer is [^$\\]*\Z", re.IGNORECASE)
_THOUSANDS = re.compile(r"-?[0-9]{1,3}(?:,[0-9]{3})+")


def is_same_math(
    response: str, reference: str, choices: Sequence[str] = (), *, algebra: Algebra | None = None
) -> bool | None:
    """Return whether two formulas are equal; None if that takes algebra.

    If the reference is a number, an unevaluated sum or product is wrong: otherwise the question itself, repeated, would
    count as an answer.
    """
    if _SENTENCE.match(reference) and not is_same_text(response, reference):
        return False
    given, wanted = normalize_money(response), normalize_money(reference)
    if given == wanted:
        return bool(wanted)
    if not given or not wanted:
        return False
    verdict = is_same_notation(given, wanted)
    if verdict is not None:
        return verdict
    if structure.depth(given) > MAX_DEPTH:
        return False
    return _Comparison(algebra).nodes(_read(given), _read(wanted))


@functools.lru_cache(maxsize=4096)
def _read(text: str) -> Node:
    """Return the structure of an answer, unless its brackets are nested too deeply."""
    if text.startswith(r"\boxed{") and text.count("{") > text.count("}"):
        text = text.removeprefix(r"\boxed{")
    return Value(text) if structure.depth(text) > MAX_DEPTH else structure.read(text)


class _Comparison:
    """Compares the structures of two answers."""

    def __init__(self, algebra: Algebra | None):
        self.algebra = algebra or (lambda given, wanted: None)

    def nodes(self, given: Node, wanted: Node) -> bool | None:
        """Return whether two answers are equal; None if undecided."""
        given, wanted = without_assignment(given, wanted)
        if given == wanted:
            return True
        for rule in (self._regions, self._listings, self._relations, self._sequences, self._values):
            verdict = rule(given, wanted)
            if verdict is not NotImplemented:
                return verdict
        return False

    def _regions(self, given: Node, wanted: Node) -> Any:
        """Compare intervals and conditions on one variable, such as x < 2 or x > 3."""
        if not any(map(is_condition, (given, wanted))):
            return NotImplemented
        one, other = region_of(given), region_of(wanted)
        if other is not None and not other.intervals and isinstance(wanted, Listing):
            # No reference is empty, so this one means a union, unless the response is written in the same way.
            other = None if one is not None and not one.intervals else region_of(Listing(wanted.members))
        if one is None or other is None:
            return NotImplemented
        if one.name and other.name and one.name != other.name or len(one.intervals) != len(other.intervals):
            return False
        return same_members(one.intervals, other.intervals, self._intervals)

    def _intervals(self, given: Interval, wanted: Interval) -> bool | None:
        if (given.opening, given.closing) != (wanted.opening, wanted.closing):
            return False
        ends = zip((given.low, given.high), (wanted.low, wanted.high), strict=True)
        return all_of(self.nodes(end, other) for end, other in ends)

    def _listings(self, given: Node, wanted: Node) -> Any:
        """Compare lists without order."""
        for number, listing in ((given, wanted), (wanted, given)):
            if isinstance(number, Value) and isinstance(listing, Listing) and _THOUSANDS.fullmatch(number.text):
                # Without a blank, 1,234 may be a list, too.
                return tuple(map(Value, number.text.split(","))) == listing.members
        if isinstance(given, structure.Sequence) and isinstance(wanted, Listing):
            return self.nodes(given, tuple_) if (tuple_ := tuple_of_assignments(wanted)) else False
        if isinstance(wanted, structure.Sequence) and isinstance(given, Listing):
            return self.nodes(tuple_, wanted) if (tuple_ := tuple_of_assignments(given)) else False
        if isinstance(given, Listing) and isinstance(wanted, Listing):
            given, wanted = without_indices(given, wanted)
        members = [
            node.members if isinstance(node, Listing) else () if node == Value(r"\emptyset") else (node,)
            for node in (given, wanted)
        ]
        if not isinstance(given, Listing) and not isinstance(wanted, Listing):
            return NotImplemented
        distinct = [tuple(dict.fromkeys(nodes)) for nodes in members]
        return same_members(distinct[0], distinct[1], self.nodes)

    def _sequences(self, given: Node, wanted: Node) -> Any:
        """Compare tuples, intervals, vectors, matrices and unions."""
        if isinstance(given, Matrix) and isinstance(wanted, Matrix):
            if len(given.rows) != len(wanted.rows) or len(given.rows[0]) != len(wanted.rows[0]):
                return False
            cells = zip(itertools.chain(*given.rows), itertools.chain(*wanted.rows), strict=False)
            return all_of(itertools.starmap(self.nodes, cells))
        if isinstance(given, structure.Sequence) and isinstance(wanted, structure.Sequence):
            if len(given.members) != len(wanted.members) or {given.form, wanted.form} == {"row", "column"}:
                return False
            brackets = [(node.opening, node.closing) for node in (given, wanted)]
            are_vectors = ("<", ">") in brackets and set(brackets) <= {("<", ">"), ("(", ")"), ("[", "]")}
            if brackets[0] != brackets[1] and not are_vectors:
                return False
            return all_of(itertools.starmap(self.nodes, zip(given.members, wanted.members, strict=True)))
        if isinstance(given, Union_) and isinstance(wanted, Union_):
            return same_members(given.members, wanted.members, self.nodes)
        return NotImplemented if isinstance(given, Value) and isinstance(wanted, Value) else False

    def _relations(self, given: Node, wanted: Node) -> Any:
        """Compare equations and inequalities."""
        if not isinstance(given, Relation) or not isinstance(wanted, Relation):
            return False if isinstance(given, Relation) or isinstance(wanted, Relation) else NotImplemented
        if len(given.operators) == len(wanted.operators) > 1:
            chains = [less_first(node) for node in (given, wanted)]
            same = zip(*(chain.sides for chain in chains), strict=True)
            return chains[0].operators == chains[1].operators and all_of(itertools.starmap(self.nodes, same))
        if len(given.operators) != 1 or len(wanted.operators) != 1:
            return False
        given, wanted = less_first(given), less_first(wanted)
        if given.operators != wanted.operators:
            return False
        is_symmetric = wanted.operators[0] in ("=", r"\neq")
        if wanted.operators[0] == "=" and (verdict := self._assignments(given, wanted)) is not None:
            return verdict
        orders = (wanted.sides, wanted.sides[::-1])[: 1 + is_symmetric]
        if any(map(is_identity, (given, wanted))):
            # All true equations are equivalent, so that only the same one counts.
            keys = [re.sub("[()]", "", name_key(side)) for side in given.sides]
            return any(keys == [re.sub("[()]", "", name_key(side)) for side in order] for order in orders)
        sides = [all_of(itertools.starmap(self.nodes, zip(given.sides, order, strict=True))) for order in orders]
        if any(sides):
            return True
        verdict = proportionality(given, wanted)
        if verdict is None:
            return None if None in sides else False
        return bool(verdict) if is_symmetric else verdict > 0

    def _assignments(self, given: Relation, wanted: Relation) -> bool | None:
        """Compare `name = value`; None if one is another equation."""
        names = [name_key(node.sides[0]) if is_name(node.sides[0]) else "" for node in (given, wanted)]
        if all(names) and (names[0] == names[1] or are_same_function(given, wanted)):
            return self.nodes(given.sides[1], wanted.sides[1])
        if names[1] and is_number(wanted.sides[1]):
            # Another equation with this solution is the question, not the answer.
            return False
        return None

    def _values(self, given: Node, wanted: Node) -> bool | None:
        """Compare single values."""
        if not isinstance(given, Value) or not isinstance(wanted, Value):
            return False
        return is_same_scalar(given.text, wanted.text, self.algebra)
