"""Rows of data files, read field by field; every error names the file, the row and the field.

for row in read_rows(Path("train.jsonl")):
    question = row.text("question")
    choices = [choice.text("text") for choice in row.rows("choices")]
"""

import base64
import math
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

from mig_jax.data import image_files
from mig_jax.errors import UserError

MAX_LISTED_ERRORS = 20


class RowError(UserError):
    """A row or a whole file that cannot be used; the message says where, and what was found."""


class Row(NamedTuple):
    """One row of a file, or an object nested in a row.

    location: for messages, such as "train.jsonl, row 3".
    number: position of the row in its file, from 1.
    values: the fields by name.
    read_error: why the row could not be parsed, None if it was; reading any field of such a row raises it.
    """

    location: str
    number: int
    values: Mapping[str, Any]
    read_error: str | None = None

    def error(self, message: str) -> RowError:
        """Return the error to raise for this row: `message` with the row's location."""
        return RowError(f"{self.location}: {message}")

    def value(self, field: str) -> Any:
        """Return the value of a field as it is, None if the field is missing.

        Raises:
          RowError: the row could not be parsed.
        """
        if self.read_error is not None:
            raise self.error(self.read_error)
        return self.values.get(field)

    def text(self, field: str) -> str:
        """Return a string or a number as a stripped string.

        Raises:
          RowError: the field is missing, empty or of another type.
        """
        text = self.optional_text(field)
        if not text:
            raise self.error(f"{field} is {'empty' if field in self.values else 'missing'}")
        return text

    def optional_text(self, field: str) -> str:
        """Return a string or a number as a stripped string, "" if the field is missing, null or NaN.

        Raises:
          RowError: the field is of another type.
        """
        value = self.value(field)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.error(f"{field} is {json_type(value)}, not a string or a number")
        # Some files write the number 8 as 8.0.
        return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()

    def one_of(self, field: str, allowed: Sequence[str]) -> str:
        """Return a string that is one of the allowed ones.

        Raises:
          RowError: the field is missing or has another value.
        """
        text = self.text(field)
        if text not in allowed:
            raise self.error(f"{field} is {text!r}, not one of {', '.join(allowed)}")
        return text

    def texts(self, field: str) -> tuple[str, ...]:
        """Return a list of strings or numbers as stripped strings; () if the field is missing or empty.

        Raises:
          RowError: the field is not a list, or an item is neither a string nor a number.
        """
        items = self._items(field)
        return tuple(items.optional_text(name) for name in items.values)

    def row(self, field: str) -> "Row":
        """Return an object nested in this row.

        Raises:
          RowError: the field is missing or not an object.
        """
        value = self.value(field)
        if not isinstance(value, Mapping):
            raise self.error(f"{field} is {json_type(value) if field in self.values else 'missing'}, not an object")
        return Row(f"{self.location}: {field}", self.number, value)

    def rows(self, field: str) -> list["Row"]:
        """Return a list of objects nested in this row; [] if the field is missing or empty.

        Raises:
          RowError: the field is not a list of objects.
        """
        items = self._items(field)
        return [items.row(name) for name in items.values]

    def image(self, field: str) -> bytes:
        """Return the bytes of an image file, given as bytes, base64, or {"bytes": …, "path": …} as tables hold it.

        Raises:
          RowError: the field is missing, or not a whole image.
        """
        value = self.value(field)
        if isinstance(value, Mapping):
            value = value.get("bytes")
        if isinstance(value, str):
            value = _decode_base64(value)
        if not isinstance(value, bytes):
            raise self.error(f"{field} is not an image" if field in self.values else f"{field} is missing")
        return self.checked_image(value, field)

    def checked_image(self, data: bytes, name: str) -> bytes:
        """Return `data` if it is a whole image; `name` names it in the message.

        Raises:
          RowError: `data` is not an image, or a damaged one.
        """
        try:
            image_files.image_format(data)
        except UserError as error:
            raise self.error(f"{name}: {error}") from error
        return data

    def _items(self, field: str) -> "Row":
        """Return a list in this row as a row whose field names are the indices; a missing list is empty."""
        value = self.value(field)
        if value is None:
            value = ()
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise self.error(f"{field} is {json_type(value)}, not a list")
        return Row(f"{self.location}: {field}", self.number, {str(n): item for n, item in enumerate(value)})


def format_errors(title: str, errors: Sequence[str]) -> str:
    """Return one message: the title, then the first MAX_LISTED_ERRORS errors a line each, then how many more."""
    n_more = len(errors) - MAX_LISTED_ERRORS
    lines = [*errors[:MAX_LISTED_ERRORS], *([f"… and {n_more} more"] if n_more > 0 else [])]
    return f"{title}:\n  " + "\n  ".join(lines)


def choice_letters(options: Sequence[Row], field: str) -> tuple[str, ...]:
    """Return the letters A, B, … of choices, and check that each choice names its own letter in `field`.

    Raises:
      RowError: a choice names another letter than its position gives.
    """
    letters = tuple(ascii_uppercase[: len(options)])
    for option, letter in zip(options, letters, strict=True):
        option.one_of(field, (letter,))
    return letters


def json_type(value: object) -> str:
    """Return the type of a value in the terms of JSON, with its article."""
    names = {type(None): "null", bool: "a boolean", str: "a string", int: "a number", float: "a number"}
    if isinstance(value, Mapping):
        return "an object"
    return names.get(type(value), "a list" if isinstance(value, Sequence) else "of another type")


def _decode_base64(text: str) -> bytes | None:
    """Return the bytes of a base64 string or data URI, None if it is neither."""
    header, _, body = text.rpartition(",")
    if header and not header.startswith("data:"):
        return None
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        return None
