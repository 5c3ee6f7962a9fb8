"""Rows of data files: .jsonl, .json, .csv, .tsv, .parquet and .arrow; folders are read by `row_folders`."""

import csv
import functools
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mig_jax.data.rows import Row, RowError, json_type

FORMS = ("jsonl", "json", "csv", "tsv", "parquet", "arrow")
# Bytes; some table cells hold whole solutions or images.
_MAX_CELL_SIZE = 2**30


def read_rows(path: Path, *, form: str = "", under: str = "", without: Sequence[str] = ()) -> Iterator[Row]:
    """Yield the rows of a .jsonl, .json, .csv, .tsv, .parquet or .arrow file, numbered from 1.

    Files of text may be compressed (.gz). A row that cannot be parsed is yielded with its `read_error`, so that the
    rows after it are read too.

    Args:
      path: the file.
      form: one of `FORMS`; "" is the suffix of the file.
      under: the field that holds the rows, if a .json file is one object.
      without: fields of objects in a .json file, at any depth, to drop while parsing. Use it for fields that together
        would not fit into memory.

    Raises:
      RowError: the file is missing or unreadable, has another suffix, or is not UTF-8 or not of its format.
    """
    readers: dict[str, Callable[[Path], Iterable[tuple[int, Any]]]] = {
        "jsonl": _read_jsonl,
        "json": lambda path: parse_json_rows(path.name, _read_bytes(path), under=under, without=without),
        "csv": functools.partial(_read_csv, delimiter=","),
        "tsv": functools.partial(_read_csv, delimiter="\t"),
        "parquet": _read_parquet,
        "arrow": _read_arrow,
    }
    form = form or form_of(path)
    if form not in readers:
        raise RowError(
            f"{path}: unknown suffix {path.suffix!r}; rows are read from {', '.join(f'.{name}' for name in readers)}"
        )
    if not path.is_file():
        raise RowError(f"{path}: no such file")
    try:
        yield from make_rows(path.name, readers[form](path))
    except (OSError, EOFError, zlib.error) as error:
        raise RowError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def form_of(path: Path) -> str:
    """Return the form of a file by its suffix, such as "jsonl" for rows.jsonl.gz; it may be none of `FORMS`."""
    return Path(path.name.removesuffix(".gz")).suffix[1:]


def make_rows(name: str, numbered_values: Iterable[tuple[int, Any]]) -> Iterator[Row]:
    """Yield a row for each (number, parsed value) of the file `name`; a value may be an error of it."""
    for number, values in numbered_values:
        location = f"{name}, row {number}"
        if isinstance(values, Mapping):
            yield Row(location, number, values)
        elif isinstance(values, ValueError):
            yield Row(location, number, {}, str(values) if isinstance(values, RowError) else f"not JSON ({values})")
        else:
            yield Row(location, number, {}, f"{json_type(values)}, not an object")


def parse_json_rows(name: str, data: bytes, *, under: str, without: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) for each item of a JSON list, or for each line of JSON lines; arguments as in `read_rows`.

    Raises:
      RowError: the data is not UTF-8, not JSON, or has no list of rows.
    """

    def drop_fields(values: dict[str, Any]) -> dict[str, Any]:
        return {field: value for field, value in values.items() if field not in without}

    try:
        rows = json.loads(data, object_hook=drop_fields if without else None)
    except UnicodeDecodeError as error:
        raise _utf8_error(name, data.count(b"\n", 0, error.start) + 1) from error
    except ValueError as error:
        if under or not str(error).startswith("Extra data"):
            raise RowError(f"{name}: not JSON ({error})") from error
        yield from _parse_json_lines(data.decode("utf-8-sig").split("\n"), drop_fields if without else None)
        return
    if under:
        rows = rows.get(under) if isinstance(rows, dict) else None
    if not isinstance(rows, list):
        raise RowError(f"{name}: no list of rows" + (f" under {under!r}" if under else ""))
    yield from enumerate(rows, start=1)


# ---------------------------------------------------------------------------------------------------------------- files


def _read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    return _parse_json_lines(_read_lines(path))


def _parse_json_lines(lines: Iterable[str], object_hook: Any = None) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line, object_hook=object_hook)
            except ValueError as error:
                yield number, error


def _read_csv(path: Path, delimiter: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(_MAX_CELL_SIZE)
    rows = csv.DictReader(_read_lines(path), delimiter=delimiter)
    try:
        names = rows.fieldnames or ()
        if repeated := [name for n, name in enumerate(names) if name and name in names[:n]]:
            raise RowError(f"{path.name}: two columns are named {repeated[0]!r}; rename one")
        for number, values in enumerate(rows, start=1):
            # Cells after the last column are under None, as where the comma of 1,234 is not quoted.
            # In a table with another delimiter, the missing columns are the error.
            n_more = len(values.get(None) or ()) if len(rows.fieldnames or ()) > 1 else 0
            columns = f"{n_more} more cells than the {len(rows.fieldnames or ())} columns of the first line"
            yield number, RowError(f"{columns}; quote cells with {delimiter!r}") if n_more else values
    except csv.Error as error:
        raise RowError(
            f"{path.name}, line {rows.line_num}: not a table ({error}); check for an unclosed quotation mark before it"
        ) from error


def _read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, with their line ends.

    Raises:
      RowError: a line is not UTF-8.
    """
    # Bytes that are not UTF-8 decode to surrogates, which valid UTF-8 never contains. This locates the bad line.
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.encode()
            except UnicodeEncodeError as error:
                raise _utf8_error(path.name, number) from error
            yield line


def _read_bytes(path: Path) -> bytes:
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        return file.read()


def _utf8_error(name: str, line: int) -> RowError:
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
