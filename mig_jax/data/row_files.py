"""Rows."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mig_jax.data.rows import Row, RowError, json_type

# Some cells of tables hold whole solutions, or images.
_LONGEST_CELL = 2**30


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
        ".jsonl": _read_jsonl, ".json": lambda p: parse_json_rows(p.name, p.read_bytes(), under, without),
        ".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet, ".arrow": _read_arrow,
    }  # fmt: skip
    if path.suffix not in readers:
        raise RowError(f"{path}: rows are read from {', '.join(readers)}")
    if not path.is_file():
        raise RowError(f"{path}: no such file")
    yield from make_rows(path.name, readers[path.suffix](path))


def make_rows(name: str, numbered: Iterable[tuple[int, Any]]) -> Iterator[Row]:
    for number, values in numbered:
        where = f"{name}, row {number}"
        if isinstance(values, Mapping):
            yield Row(where, number, values)
        else:
            broken = f"not JSON ({values})" if isinstance(values, ValueError) else f"{json_type(values)}, not an object"
            yield Row(where, number, {}, broken)


def _read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                yield number, error


def parse_json_rows(name: str, data: bytes, under: str, without: Sequence[str]) -> Iterator[tuple[int, Any]]:
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
