"""An extension of griffe, for docs/api: show the fields of classes as a table.

A docstring describes a field by a line `name: text`; griffe expects such lines below `Attributes:`.
"""

import re

import griffe

# A field, and the indented lines that continue it.
_FIELD = re.compile(r"^(?P<names>\w+(?:, \w+)*): (?P<text>.*(?:\n[ ]+\S.*)*)\n?", re.MULTILINE)


class Fields(griffe.Extension):
    """Move the fields in the docstrings of classes below `Attributes:`."""

    def on_class_members(self, *, cls: griffe.Class, **_: object) -> None:
        """Rewrite the docstring of a class, if it has fields."""
        if cls.docstring:
            cls.docstring.value = move_fields(cls.docstring.value, known={*cls.members})


def move_fields(docstring: str, *, known: set[str]) -> str:
    """Return a docstring with its fields in a section at the end.

    Args:
      docstring: without indentation.
      known: names of the class's members; other lines with a colon are text.
    """
    fields = [field for field in _FIELD.finditer(docstring) if {*field["names"].split(", ")} <= known]
    text = docstring
    for field in reversed(fields):
        text = text[: field.start()] + text[field.end() :]
    lines = [
        f"    {name}: {' '.join(field['text'].split())}" for field in fields for name in field["names"].split(", ")
    ]
    return "\n".join([text.strip(), "", "Attributes:", *lines]) if fields else docstring
