"""Rows of published files, read field by field: whatever is wrong names its file, its row and its field.

As in:

    for row in read_rows(Path("train.jsonl")):
        question, choices = row.text("question"), [choice.text("text") for choice in row.rows("choices")]
"""

import base64
import csv
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

from mig_jax.data import image_files

# So many faults are listed, the rest is counted.
LISTED_FAULTS = 20

# Some cells of tables hold whole solutions, or images.
_LONGEST_CELL = 2**30


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
            raise self.fault(f"{field} is {_kind_of(value)}, not a text or a number")
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
            raise self.fault(f"{field} is {_kind_of(value) if field in self.values else 'missing'}, not an object")
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
            image_files.format_of(data)
        except ValueError as error:
            raise self.fault(f"{name}: {error}") from error
        return data

    def _items(self, field: str) -> "Row":
        """A list in this row, its places for names; without any when it is not there."""
        value = self.value(field)
        if value is None:
            value = ()
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise self.fault(f"{field} is {_kind_of(value)}, not a list")
        return Row(f"{self.where}: {field}", self.number, {str(n): item for n, item in enumerate(value)})


def listed(title: str, faults: Sequence[str]) -> str:
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


class ImageArchive:
    """The images of a published .zip file, read one by one without unpacking it, or of a folder where it was unpacked.

    Some have the questions beside the images: `rows`.

    Args:
      path: of the .zip file or the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self._zip = None if path.is_dir() else _open_zip(path)
        # Archives differ in the folder that everything is in: names are found by how they end. The folder's own name
        # may be part of one.
        names = self._zip.namelist() if self._zip else [p.relative_to(path.parent).as_posix() for p in path.rglob("*")]
        self._by_ending = {ending: name for name in sorted(names, reverse=True) for ending in _endings(name)}
        # Questions about one image follow each other: it is read and checked once.
        self._last = ("", b"")

    def read(self, row: Row, name: str) -> bytes:
        """The image that `row` refers to, such as "images/train/1.png" wherever in the archive that stands.

        Raises:
          RowError: it is not there, or damaged.
        """
        if name != self._last[0]:
            try:
                data = self._read(name)
            except ValueError as error:
                raise row.fault(f"image {name} {error}") from error
            self._last = (name, row.checked_image(data, f"image {name}"))
        return self._last[1]

    def rows(self, name: str, *, under: str = "", without: Sequence[str] = ()) -> Iterator[Row]:
        """The rows of a .json file in the archive; all else is as `read_rows` has it.

        Raises:
          RowError: it is not there, or not JSON.
        """
        try:
            data = self._read(name)
        except ValueError as error:
            raise RowError(f"{name} {error}") from error
        yield from _as_rows(name, _parse_json(name, data, under, without))

    def _read(self, name: str) -> bytes:
        found = self._by_ending.get(name.replace("\\", "/").removeprefix("./").strip("/"))
        if found is None:
            raise ValueError(f"is not in {self.path.name}")
        try:
            return self._zip.read(found) if self._zip else (self.path.parent / found).read_bytes()
        except (OSError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"cannot be read from {self.path.name} ({error})") from error


def read_rows(path: Path, *, under: str = "", without: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a .jsonl, .json, .csv, .tsv, .parquet or .arrow file, numbered from 1.

    Args:
      under: of a .json file that is one object, the field that holds the rows.
      without: fields that the objects of a .json file have, at any depth, and that are dropped while it is read:
        together they would not fit into memory.

    Raises:
      RowError: there is no such file; it is not what its ending says, or not in UTF-8; or it has another ending.
    """
    readers = {
        ".jsonl": _read_jsonl, ".json": lambda p: _parse_json(p.name, p.read_bytes(), under, without),
        ".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet, ".arrow": _read_arrow,
    }  # fmt: skip
    if path.suffix not in readers:
        raise RowError(f"{path}: rows are read from {', '.join(readers)}")
    if not path.is_file():
        raise RowError(f"{path}: no such file")
    yield from _as_rows(path.name, readers[path.suffix](path))


def _as_rows(name: str, numbered: Iterable[tuple[int, Any]]) -> Iterator[Row]:
    for number, values in numbered:
        where = f"{name}, row {number}"
        if isinstance(values, Mapping):
            yield Row(where, number, values)
        else:
            broken = f"not JSON ({values})" if isinstance(values, ValueError) else f"{_kind_of(values)}, not an object"
            yield Row(where, number, {}, broken)


def _read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                yield number, error


def _parse_json(name: str, data: bytes, under: str, without: Sequence[str]) -> Iterator[tuple[int, Any]]:
    def kept(values: dict[str, Any]) -> dict[str, Any]:
        return {field: value for field, value in values.items() if field not in without}

    try:
        rows = json.loads(data, object_hook=kept if without else None)
    except UnicodeDecodeError as error:
        raise _not_utf8(name, data.count(b"\n", 0, error.start) + 1) from error
    except ValueError as error:
        raise RowError(f"{name}: not JSON ({error})") from error
    if under:
        rows = rows.get(under) if isinstance(rows, dict) else None
    if not isinstance(rows, list):
        raise RowError(f"{name}: no list of rows" + (f" under {under!r}" if under else ""))
    yield from enumerate(rows, start=1)


def _read_csv(path: Path) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(_LONGEST_CELL)
    rows = csv.DictReader(_lines(path), delimiter="\t" if path.suffix == ".tsv" else ",")
    try:
        yield from enumerate(rows, start=1)
    except csv.Error as error:
        where = f"{path.name}, line {rows.line_num}"
        raise RowError(f"{where}: not a table ({error}); is a quotation mark before it never closed?") from error


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file, with their ends.

    Raises:
      RowError: a line is not in UTF-8.
    """
    # Bytes that are no UTF-8 pass as surrogates, which no line that is UTF-8 has: so it is known where they stand.
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.encode()
            except UnicodeEncodeError as error:
                raise _not_utf8(path.name, number) from error
            yield line


def _not_utf8(name: str, line: int) -> RowError:
    return RowError(f"{name}, line {line}: not in UTF-8; save the file as UTF-8")


def _read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        batches = parquet.ParquetFile(path).iter_batches(batch_size=64)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except pyarrow.ArrowException as error:
        raise RowError(f"{path.name}: not a parquet file, or a damaged one ({error})") from error


def _read_arrow(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as batches:
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except pyarrow.ArrowException as error:
        raise RowError(f"{path.name}: not an arrow file, or a damaged one ({error})") from error


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise RowError(f"{path.name}: not a zip file, or a damaged one ({error})") from error


def _endings(name: str) -> Iterator[str]:
    """a/b/c, b/c and c."""
    parts = name.split("/")
    return ("/".join(parts[n:]) for n in range(len(parts)))


def _from_base64(text: str) -> bytes | None:
    header, _, body = text.rpartition(",")
    if header and not header.startswith("data:"):
        return None
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        return None


def _kind_of(value: object) -> str:
    """What a value is, in the words of JSON."""
    names = {type(None): "null", bool: "true or false", str: "a text", int: "a number", float: "a number"}
    if isinstance(value, Mapping):
        return "an object"
    return names.get(type(value), "a list" if isinstance(value, Sequence) else "something else")
