"""Rows of data files (.jsonl, .json, .csv, .tsv, .parquet, .arrow) and of TFDS and Hugging Face `datasets` folders."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mig_jax.data.rows import Row, RowError, json_type
from mig_jax.data.tfds_package import require_tfds

# Bytes; some table cells hold whole solutions or images.
_MAX_CELL_SIZE = 2**30


def read_rows(path: Path, *, under: str = "", without: Sequence[str] = ()) -> Iterator[Row]:
    """Yield the rows of a .jsonl, .json, .csv, .tsv, .parquet or .arrow file, numbered from 1.

    A row that cannot be parsed is yielded with its `read_error`, so that the rows after it are read too.

    Args:
      path: the file.
      under: the field that holds the rows, if a .json file is one object.
      without: fields of objects in a .json file, at any depth, to drop while parsing. Use it for fields that together
        would not fit into memory.

    Raises:
      RowError: the file is missing or unreadable, has another suffix, or is not UTF-8 or not of its format.
    """
    readers: dict[str, Callable[[Path], Iterable[tuple[int, Any]]]] = {
        ".jsonl": _read_jsonl,
        ".json": lambda path: parse_json_rows(path.name, path.read_bytes(), under=under, without=without),
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": _read_parquet,
        ".arrow": _read_arrow,
    }
    if path.suffix not in readers:
        raise RowError(f"{path}: unknown suffix {path.suffix!r}; rows are read from {', '.join(readers)}")
    if not path.is_file():
        raise RowError(f"{path}: no such file")
    try:
        yield from make_rows(path.name, readers[path.suffix](path))
    except OSError as error:
        raise RowError(f"{path}: cannot be read ({error.strerror or error})") from error


def make_rows(name: str, numbered_values: Iterable[tuple[int, Any]]) -> Iterator[Row]:
    """Yield a row for each (number, parsed value) of the file `name`; a value may be the ValueError of parsing it."""
    for number, values in numbered_values:
        location = f"{name}, row {number}"
        if isinstance(values, Mapping):
            yield Row(location, number, values)
        elif isinstance(values, ValueError):
            yield Row(location, number, {}, f"not JSON ({values})")
        else:
            yield Row(location, number, {}, f"{json_type(values)}, not an object")


def parse_json_rows(name: str, data: bytes, *, under: str, without: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) for each item of a JSON list; arguments as in `read_rows`.

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
        raise RowError(f"{name}: not JSON ({error})") from error
    if under:
        rows = rows.get(under) if isinstance(rows, dict) else None
    if not isinstance(rows, list):
        raise RowError(f"{name}: no list of rows" + (f" under {under!r}" if under else ""))
    yield from enumerate(rows, start=1)


# ---------------------------------------------------------------------------------------------------------------- files


def _read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_read_lines(path), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                yield number, error


def _read_csv(path: Path) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(_MAX_CELL_SIZE)
    rows = csv.DictReader(_read_lines(path), delimiter="\t" if path.suffix == ".tsv" else ",")
    try:
        yield from enumerate(rows, start=1)
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
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.encode()
            except UnicodeEncodeError as error:
                raise _utf8_error(path.name, number) from error
            yield line


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


# -------------------------------------------------------------------------------------------------------------- folders


def read_tfds_rows(folder: Path, split: str) -> Iterator[Row]:
    """Yield the rows of a TFDS dataset in array_record; its images as the stored bytes.

    Args:
      folder: `…/name/version`.
      split: "" is the first split.

    Raises:
      RowError: the folder is not a TFDS dataset, or has no such split.
      UserError: TFDS cannot be imported.
    """
    require_tfds()
    import tensorflow_datasets as tfds

    try:
        builder: Any = tfds.builder_from_directory(str(folder))
    except Exception as error:  # TFDS raises many types for a folder that is not a dataset
        raise RowError(f"{folder}: not the folder of a TFDS dataset, name/version ({error})") from error
    split = split or next(iter(builder.info.splits), "")
    if split not in builder.info.splits:
        raise RowError(f"{folder}: no split {split!r}; available: {', '.join(builder.info.splits)}")
    images = {name for name, feature in builder.info.features.items() if isinstance(feature, tfds.features.Image)}
    examples = builder.as_data_source(split, decoders={name: tfds.decode.SkipDecoding() for name in images})
    for number, example in enumerate(examples, start=1):
        yield Row(f"{folder.parent.name} ({split}), row {number}", number, _from_tfds(example, images))


def read_saved_dataset_rows(folder: Path, split: str) -> Iterator[Row]:
    """Yield the rows that `save_to_disk` of the `datasets` library wrote, numbered across its files.

    Args:
      folder: a saved dataset, or the folder of a saved dataset dict.
      split: a subfolder of `folder`; "" is the folder itself.

    Raises:
      RowError: there is no saved dataset, or a file is damaged.
    """
    folder = folder / split if split else folder
    files = _saved_dataset_files(folder)
    if not files:
        subfolders = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        hint = f"; name a split, as in datasets:{folder}@{subfolders[0]}" if subfolders else ""
        raise RowError(f"{folder}: no .arrow files as written by save_to_disk{hint}")
    for number, row in enumerate((row for file in files for row in read_rows(file)), start=1):
        yield row._replace(number=number)


def _saved_dataset_files(folder: Path) -> list[Path]:
    """Return the data files in the order that `save_to_disk` lists them; other .arrow files there are caches."""
    state = folder / "state.json"
    if not state.is_file():
        return sorted(folder.glob("data-*.arrow"))
    try:
        return [folder / file["filename"] for file in json.loads(state.read_bytes())["_data_files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise RowError(f"{state}: no list of files under _data_files, which save_to_disk writes") from error


def _from_tfds(value: Any, images: set[str] | frozenset[str] = frozenset()) -> Any:
    """Return a TFDS example as Python strings, numbers and lists; images stay bytes."""
    if isinstance(value, dict):
        return {key: item if key in images else _from_tfds(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.tolist() if hasattr(value, "tolist") else value
