"""Rows of published files, read field by field: whatever is wrong names its file, its row and its field.

As in:

    for row in read_rows(Path("train.jsonl")):
        question, choices = row.text("question"), [choice.text("text") for choice in row.rows("choices")]
"""

import base64
import math
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

from mig_jax.data import image_files

# So many faults are listed, the rest is counted.
LISTED_FAULTS = 20


class RowError(ValueError):
    """A row that is not as it should be; the message says where, and what it is instead."""


class Row(NamedTuple):
    """One row of a file, or an object inside one.

    where: for messages, such as "train.jsonl, row 3".
    number: of the row in its file, from 1.
    values: its fields.
    broken: why there are none, where the row could not be read at all; then asking for any field raises this.
    """

    where: str
    number: int
    values: Mapping[str, Any]
    broken: str = ""

    def fault(self, message: str) -> RowError:
        """The error to raise when this row is not as it should be."""
        return RowError(f"{self.where}: {message}")

    def value(self, field: str) -> Any:
        """Whatever stands there; None when nothing does.

        Raises:
          RowError: the row is broken.
        """
        if self.broken:
            raise self.fault(self.broken)
        return self.values.get(field)

    def text(self, field: str) -> str:
        """A text or a number, as text without blanks around it.

        Raises:
          RowError: there is none, or it is empty.
        """
        text = self.optional_text(field)
        if not text:
            raise self.fault(f"{field} is {'empty' if field in self.values else 'missing'}")
        return text

    def optional_text(self, field: str) -> str:
        """A text or a number, as text without blanks around it; "" when there is none.

        Raises:
          RowError: it is something else.
        """
        value = self.value(field)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.fault(f"{field} is {json_type(value)}, not a text or a number")
        # 8.0 is how some files write the number 8.
        return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()

    def one_of(self, field: str, known: Sequence[str]) -> str:
        """A text that is one of those that are known.

        Raises:
          RowError: it is none of them.
        """
        text = self.text(field)
        if text not in known:
            raise self.fault(f"{field} is {text!r}, not one of {', '.join(known)}")
        return text

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts or numbers; () when it is empty or not there.

        Raises:
          RowError: it is no list, or something in it is no text.
        """
        items = self._items(field)
        return tuple(items.optional_text(name) for name in items.values)

    def row(self, field: str) -> "Row":
        """An object in this row, to be read in the same way.

        Raises:
          RowError: it is missing, or no object.
        """
        value = self.value(field)
        if not isinstance(value, Mapping):
            raise self.fault(f"{field} is {json_type(value) if field in self.values else 'missing'}, not an object")
        return Row(f"{self.where}: {field}", self.number, value)

    def rows(self, field: str) -> list["Row"]:
        """A list of objects in this row; [] when it is empty or not there.

        Raises:
          RowError: it is no list of objects.
        """
        items = self._items(field)
        return [items.row(name) for name in items.values]

    def image(self, field: str) -> bytes:
        """The bytes of an image: as they are, in base64, or as tables hold them: {"bytes": …, "path": …}.

        Raises:
          RowError: there is none, or it is damaged.
        """
        value = self.value(field)
        if isinstance(value, Mapping):
            value = value.get("bytes")
        if isinstance(value, str):
            value = _from_base64(value)
        if not isinstance(value, bytes):
            raise self.fault(f"{field} holds no image" if field in self.values else f"{field} is missing")
        return self.checked_image(value, field)

    def checked_image(self, data: bytes, name: str) -> bytes:
        """`data`, when it is an image.

        Raises:
          RowError: it is none, or a damaged one.
        """
        try:
            image_files.image_format(data)
        except ValueError as error:
            raise self.fault(f"{name}: {error}") from error
        return data

    def _items(self, field: str) -> "Row":
        """A list in this row, its places for names; without any when it is not there."""
        value = self.value(field)
        if value is None:
            value = ()
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise self.fault(f"{field} is {json_type(value)}, not a list")
        return Row(f"{self.where}: {field}", self.number, {str(n): item for n, item in enumerate(value)})


def format_errors(title: str, faults: Sequence[str]) -> str:
    """The text of an error: the first faults, one a line below a title, and how many more there are."""
    rest = [f"… and {len(faults) - LISTED_FAULTS} more"] if len(faults) > LISTED_FAULTS else []
    return f"{title}:\n  " + "\n  ".join([*faults[:LISTED_FAULTS], *rest])


def letters_of(options: Sequence[Row], field: str) -> tuple[str, ...]:
    """The letters A, B, … of choices, each an object that has its letter in a field.

    Raises:
      RowError: an option has another letter than its place says.
    """
    letters = tuple(ascii_uppercase[: len(options)])
    for option, letter in zip(options, letters, strict=True):
        option.one_of(field, (letter,))
    return letters


def _from_base64(text: str) -> bytes | None:
    header, _, body = text.rpartition(",")
    if header and not header.startswith("data:"):
        return None
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        return None


def json_type(value: object) -> str:
    """What a value is, in the words of JSON."""
    names = {type(None): "null", bool: "true or false", str: "a text", int: "a number", float: "a number"}
    if isinstance(value, Mapping):
        return "an object"
    return names.get(type(value), "a list" if isinstance(value, Sequence) else "something else")
