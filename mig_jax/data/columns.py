"""Where the fields of a problem are in a row: the entries of `data.columns`.

    gold                        the value of the column "gold"
    reward_model.ground_truth   a field of an object in a column
    prompt[0].content           an item of a list, from 0; [-1] is the last one
    {passage} {question}        a template; each name in braces is replaced by its value, {{ by {, }} by }
    =number                     the same text for all rows

A column whose own name has dots or brackets is found by that name first. A column of text that holds JSON is read where
something inside of it is named.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mig_jax.data.options import did_you_mean
from mig_jax.data.rows import Row, json_type
from mig_jax.parts import own_constant

# {column}, or an escaped brace
_TEMPLATE_PART = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
_PATH = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[-?\d+\])+")
_PATH_PART = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")
_MISSING = object()


def check_columns(
    rows: Sequence[Row], columns: Mapping[str, str], *, required: Sequence[str], kinds: Sequence[str] = ()
) -> dict[str, str]:
    """Return an error for each field whose entry names columns that no row has.

    Args:
      rows: of a file.
      columns: field → entry; see the module docstring.
      required: fields that must have a column, even if their entry is their own name.
      kinds: constants to suggest for the field `kind`.
    """
    # `csv` puts cells after the last column under None.
    present = dict.fromkeys(name for row in rows for name in row.values if name is not None)
    errors = {}
    for field, entry in columns.items() if present else ():
        # Paths are looked up in the rows, which takes longer.
        missing = [
            name
            for name in named_columns(entry)
            if name not in present and not (_PATH.fullmatch(name) and any(has_column(row, name) for row in rows))
        ]
        if missing and (field in required or entry not in ("", field)):
            known = [*present, *(f"={kind}" for kind in kinds if field == "kind")]
            escape = " (for braces write {{ and }})" if is_template(entry) else ""
            unknown = "; ".join(f"no column {name!r}{_hint(rows, name, known) or escape}" for name in missing)
            errors[field] = f"data.columns.{field}: {unknown}; available: {', '.join(present)}"
        elif field == "kind" and kinds and entry.startswith("=") and not (entry[1:] in kinds or own_constant(entry)):
            errors[field] = (
                f"data.columns.kind: {entry[1:]!r} is not one of {', '.join(kinds)}{did_you_mean(entry[1:], kinds)}"
            )
        elif field == "question" and (leaked := _solution_columns_in(entry, columns)):
            name = leaked[0]
            advice = f"; write {{{{{name}}}}} for the text {{{name}}}" if is_template(entry) else ""
            named = f"{{{name}}}" if is_template(entry) else repr(name)
            errors[field] = f"data.columns.question: {named} would put the reference answer into the question{advice}"
    return errors


def is_template(entry: str) -> bool:
    """Return whether an entry is a template, rather than a name or a constant."""
    return not entry.startswith("=") and _TEMPLATE_PART.search(entry) is not None


def named_columns(entry: str) -> list[str]:
    """Return the columns and paths that an entry names."""
    if is_template(entry):
        return [part[1] for part in _TEMPLATE_PART.finditer(entry) if part[1]]
    return [] if entry.startswith("=") or not entry else [entry]


def has_column(row: Row, name: str) -> bool:
    """Return whether a row has a column, or what a path names."""
    return _lookup(row.values, name) is not _MISSING


def value_of(row: Row, name: str) -> Any:
    """Return the value of a column or a path, None if the row has none.

    Raises:
      RowError: the row could not be parsed.
    """
    return _with_path(row, name).value(name)


def required_text(row: Row, entry: str) -> str:
    """Return the text that an entry gives for a row.

    Raises:
      RowError: a column is missing or empty, or not of text.
    """
    if entry.startswith("="):
        return entry[1:]
    if is_template(entry):
        replaced = _TEMPLATE_PART.sub(lambda part: _text(row, part[1]) if part[1] else part[0][0], entry)
        return replaced.strip()
    return _text(row, entry)


def optional_text(row: Row, entry: str) -> str:
    """Return the text that an entry gives for a row, "" if its column is missing or empty.

    Raises:
      RowError: it is not of text.
    """
    if is_template(entry) or entry.startswith("="):
        return required_text(row, entry)
    return _with_path(row, entry).optional_text(entry)


def _text(row: Row, name: str) -> str:
    return _with_path(row, name).text(name)


def _with_path(row: Row, name: str) -> Row:
    """Return the row with the value of a path under its name, so that errors name the path."""
    value = _MISSING if name in row.values else _lookup(row.values, name)
    return row if value is _MISSING else row._replace(values={name: value}, read_error=row.read_error)


def _lookup(values: Mapping[str, Any], name: str) -> Any:
    """Return what a name or path leads to, `_MISSING` if it leads nowhere."""
    if name in values:
        return values[name]
    if not _PATH.fullmatch(name):
        return _MISSING
    found: Any = values
    for field, index in (part.groups() for part in _PATH_PART.finditer(name)):
        found = _inside(found)
        if field is not None and isinstance(found, Mapping) and field in found:
            found = found[field]
        elif index is not None and _is_list(found) and -len(found) <= int(index) < len(found):
            found = found[int(index)]
        else:
            return _MISSING
    return found


def _inside(value: Any) -> Any:
    """Return an object or a list, also from a text that holds it as JSON; other values as they are."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _hint(rows: Sequence[Row], name: str, known: Sequence[str]) -> str:
    """Return a suggestion for a name that no row has: where a path ends, or a similar column."""
    parts = [part[0] for part in _PATH_PART.finditer(name)] if _PATH.fullmatch(name) else []
    for n in range(len(parts) - 1, 0, -1):
        before = "".join(parts[:n])
        values = [_inside(_lookup(row.values, before)) for row in rows if has_column(row, before)]
        if values:
            named = f" with {', '.join(map(str, values[0]))}" if isinstance(values[0], Mapping) else ""
            return f" ({before} is {json_type(values[0])}{named})"
    return did_you_mean(name, known)


def _solution_columns_in(question: str, columns: Mapping[str, str]) -> list[str]:
    """Return what the question names that has the answer inside, or, if it is a template, the steps or a response."""
    fields = ("answer", "steps", "response") if is_template(question) else ("answer",)
    taken = [name for field in fields for name in named_columns(columns.get(field, ""))]
    return [
        name
        for name in named_columns(question)
        if any(other == name or other.startswith((f"{name}.", f"{name}[")) for other in taken)
    ]
