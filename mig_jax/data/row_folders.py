"""Rows of several files: shards, folders of files, and TFDS and Hugging Face `datasets` folders."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mig_jax.data.row_files import form_of, read_rows
from mig_jax.data.rows import Row, RowError
from mig_jax.data.tfds_package import require_tfds

# Beginning of the name of a file or folder → its split.
SPLIT_NAMES = {
    "train": "train", "test": "test", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "eval": "validation",
}  # fmt: skip


def find_files(location: Path, form: str) -> list[Path]:
    """Return the files that a location names: one, those that a pattern such as train-*.jsonl matches, or a folder's.

    Args:
      location: a file; a pattern with *, ? or […], and ** for folders of any depth; or a folder, whose files of this
        form count.
      form: one of `FORMS`.

    Raises:
      RowError: there are none, or a folder has files of several splits.
    """
    if location.is_dir():
        files = [path for path in sorted(location.iterdir()) if path.is_file() and form_of(path) == form]
        splits = dict.fromkeys(filter(None, (split_of(path.name) for path in files)))
        if len(splits) > 1:
            names = ", ".join(splits)
            raise RowError(f"{location} has files of {names}: name some, as {form}:{location}/{next(iter(splits))}*")
        if not files:
            raise RowError(f"{location} has no .{form} files")
        return files
    if location.is_file() or not is_pattern(location):
        return [location]
    folder, pattern = _split_pattern(location)
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not files:
        raise RowError(f"{location}: no such files")
    return files


def is_pattern(location: Path) -> bool:
    """Return whether a path is a pattern for several files."""
    return any(sign in str(location) for sign in "*?[")


def read_files(files: Iterable[Path], form: str = "") -> Iterator[Row]:
    """Yield the rows of files one after the other, numbered across them.

    Args:
      files: in order.
      form: of all of them, one of `FORMS`; "" is the suffix of each.

    Raises:
      RowError: see `row_files.read_rows`; or a file is a pointer of git-lfs.
    """
    number = 0
    for file in files:
        check_pulled(file)
        for row in read_rows(file, form=form):
            number += 1
            yield row._replace(number=number)


def check_pulled(file: Path) -> None:
    """Check that a file is not a pointer of git-lfs, in a clone without its data.

    Raises:
      RowError: it is.
    """
    if file.is_file() and file.stat().st_size < 1024 and file.read_bytes().startswith(b"version https://git-lfs"):
        raise RowError(f"{file} is only a pointer of git-lfs: run `git lfs pull` in its folder")


def split_of(name: str) -> str | None:
    """Return the split that the name of a file or folder begins with, as in train-00000-of-00002.parquet."""
    word = name.lower().replace("-", ".").replace("_", ".").split(".")[0]
    return SPLIT_NAMES.get(word)


def _split_pattern(location: Path) -> tuple[Path, str]:
    """Return the folder before the first part with a wildcard, and the rest."""
    parts = location.parts
    first = next(n for n, part in enumerate(parts) if is_pattern(Path(part)))
    return Path(*parts[:first]) if first else Path(), str(Path(*parts[first:]))


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
        is_saved = subfolders and _saved_dataset_files(folder / subfolders[0])
        hint = f"; name a split, as in datasets:{folder}@{subfolders[0]}" if is_saved else ""
        hint = hint or f"; a clone of a dataset of the hub is hf:{folder}" * folder.is_dir()
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
