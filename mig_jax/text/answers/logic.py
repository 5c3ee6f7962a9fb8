"""Three-valued logic: True, False, and None for undecided."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

# Most members of a list that are compared.
MAX_MEMBERS = 200


def same_members(
    given: Sequence[Any], wanted: Sequence[Any], is_same: Callable[[Any, Any], bool | None]
) -> bool | None:
    """Return whether each member of one list is in the other, too."""
    if len(given) > MAX_MEMBERS or len(wanted) > MAX_MEMBERS:
        return list(given) == list(wanted)
    if bool(given) != bool(wanted):
        return False
    expected = (any_of(is_same(one, other) for other in wanted) for one in given if one not in wanted)
    found = (any_of(is_same(one, other) for one in given) for other in wanted if other not in given)
    return all_of(chain(expected, found))


def any_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Return True if any verdict is True, else None if any is undecided, else False (Kleene's disjunction)."""
    undecided = False
    for verdict in verdicts:
        if verdict:
            return True
        undecided |= verdict is None
    return None if undecided else False


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Return False if any verdict is False, else None if any is undecided, else True (Kleene's conjunction)."""
    any_false = any_of(None if verdict is None else not verdict for verdict in verdicts)
    return None if any_false is None else not any_false
