"""Look up an entry in a table of functions, such as `advantages.ADVANTAGES` or `losses.LOSSES`."""

from collections.abc import Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


def lookup(table: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """Return the entry called `name`; `kind` says in the message of a ValueError what is unknown."""
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}; use one of {', '.join(table)}")
    return table[name]
