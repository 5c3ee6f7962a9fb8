"""The fields of classes are a section of their docstring, as griffe reads it."""

import pytest

pytest.importorskip("griffe")
from tools import docs_fields

DOCSTRING = """A thing.

name: of the thing,
  and of its parts.
low, high: bounds; `a: b` is no field.
Note: this is text.
last: the last one."""


def test_fields_move_below_attributes():
    assert docs_fields.move_fields(DOCSTRING, known={"name", "low", "high", "last"}) == (
        "A thing.\n\nNote: this is text.\n\nAttributes:\n    name: of the thing, and of its parts.\n"
        "    low: bounds; `a: b` is no field.\n    high: bounds; `a: b` is no field.\n    last: the last one."
    )


def test_docstring_without_fields_stays():
    assert docs_fields.move_fields(DOCSTRING, known={"other"}) == DOCSTRING
