"""Problems of the user's own files: jsonl, json, csv, tsv or parquet, and folders of TFDS or of the datasets library.

Which column holds what is said by `columns`, one entry for each field of a problem:

    {"question": "{passage} {question}", "answer": "gold", "kind": "=number", …}

An entry is the name of a column, a text in which names in braces stand for columns, or, behind an equals sign, a text
for all rows. Columns that it names must be in some row, unless it is the field's own name and the field is not needed:
needed are question and answer.

A row may have `images` (files relative to the folder of this one, data URIs, or the bytes of image files), `choices` (a
list, or a text with a line "B. …" for each) and `steps` (a list, or a text with a line for each), which make a
demonstration. The answer of a choice is its letter, its text, or both as in "B. …"; it becomes the letter.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mig_jax.data import image_files
from mig_jax.data.options import did_you_mean
from mig_jax.data.problem import KINDS, Problem
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import Row, RowError, format_errors

# What is a folder, and may have a split behind an @.
FOLDERS = ("tfds", "datasets")

_NEEDED = ("question", "answer")
_IN_BRACES = re.compile(r"\{([^{}]+)\}")
_LETTERED = re.compile(r"^[^\S\n]*\(?([A-Z])[.):](.*)", re.MULTILINE)
# The last kind needs an id from which its checker can build the problem.
_KINDS = tuple(kind for kind in KINDS if kind != "reasoning_gym")


def read_problems(form: str, path: str, *, columns: Mapping[str, str]) -> tuple[Problem, ...]:
    """Reads all problems of a file or folder. Blank lines are skipped; all images are read and checked now.

    Args:
      form: "jsonl", "json", "csv", "tsv", "parquet", "tfds" or "datasets".
      path: see `place_of`.
      columns: see the top of this file; a field without an entry is not read.

    Raises:
      ValueError: columns or rows are wrong; the first faults are listed with their rows.
    """
    place, split = place_of(form, path)
    readers = {"tfds": _tfds_rows, "datasets": _datasets_rows}
    rows, problems, faults = [], [], []
    try:
        for row in readers[form](place, split) if form in FOLDERS else read_rows(place):
            rows.append(row)
    except RowError as error:  # of the file itself: nothing behind it can be read
        faults.append(str(error))
    wrong_columns = _faults_of_columns(rows, columns)
    faults += wrong_columns.values()
    columns = {field: column for field, column in columns.items() if field not in wrong_columns}
    for row in rows:
        problem, wrong = _read_problem(row, columns, place)
        faults += wrong
        problems += [] if problem is None else [problem]
    repeated = [id for id, n in Counter(problem.id for problem in problems).items() if n > 1]
    faults += [f"id {id!r} stands in several rows" for id in repeated]
    if faults:
        raise ValueError(format_errors(f"{len(faults)} faults in {path}", faults))
    return tuple(problems)


def place_of(form: str, path: str) -> tuple[Path, str]:
    """The file or folder that is meant, and the split that is named behind the @ of a folder; ~ is the user's home."""
    name, _, split = path.partition("@") if form in FOLDERS else (path, "", "")
    return Path(os.path.expanduser(name)), split


def _read_problem(row: Row, columns: Mapping[str, str], folder: Path) -> tuple[Problem | None, list[str]]:
    """The problem of a row, or all that is wrong with it."""
    faults: list[str] = []

    def read(field: str, how, default: Any = "") -> Any:
        try:
            return how(row, columns[field]) if columns.get(field) else default
        except RowError as error:
            faults.append(str(error))
            return default

    if row.broken:
        return None, [f"{row.where}: {row.broken}"]
    question, answer = read("question", _required), read("answer", _required)
    kind = read("kind", _optional) or "expression"
    choices, steps = read("choices", _choices, ()), read("steps", _lines, ())
    images = read("images", lambda row, column: _images(row, column, folder), ())
    if kind not in _KINDS:
        faults.append(f"{row.where}: kind is {kind!r}, not one of {', '.join(_KINDS)}")
    if kind in ("choice", "nearest_choice") and choices and answer:
        letter = _letter_of(answer, choices)
        faults += [] if letter else [f"{row.where}: answer {answer!r} is none of the choices {', '.join(choices)}"]
        answer = letter
    problem = Problem(
        id=read("id", _optional) or f"{folder.name}:{row.number}",
        question=question,
        answer=answer,
        kind=kind,
        solution=(steps, answer) if steps else None,
        images=images,
        choices=choices,
        level=read("level", _optional),
        subject=read("subject", _optional),
        source=read("source", _optional) or folder.stem,
    )
    return (None, faults) if faults else (problem, [])


# -------------------------------------------------------------------------------------------------------------- columns


def _faults_of_columns(rows: Sequence[Row], columns: Mapping[str, str]) -> dict[str, str]:
    """By field, what is wrong with its entry: it names columns that are in no row."""
    # Cells that a table has beside its last column stand under None.
    there = dict.fromkeys(name for row in rows for name in row.values if name is not None)
    faults = {}
    for field, column in columns.items() if there else ():
        missing = [name for name in _names_in(column) if name not in there]
        if missing and (field in _NEEDED or column not in ("", field)):
            known = [*there, *(f"={kind}" for kind in _KINDS if field == "kind")]
            said = "; ".join(f"no column {name!r}{did_you_mean(name, known)}" for name in missing)
            faults[field] = f"columns.{field}: {said}; there are {', '.join(there)}"
    return faults


def _names_in(column: str) -> list[str]:
    """The columns that an entry names."""
    return [] if column.startswith("=") else _IN_BRACES.findall(column) or [column]


def _required(row: Row, column: str) -> str:
    """The text of a column, of a text with columns in braces, or behind an equals sign; never empty."""
    if column.startswith("="):
        return column[1:]
    if _IN_BRACES.search(column):
        return _IN_BRACES.sub(lambda name: row.text(name[1]), column).strip()
    return row.text(column)


def _optional(row: Row, column: str) -> str:
    """The same, but "" where there is nothing."""
    is_made = _names_in(column) != [column]
    return row.optional_text(column) if column in row.values else _required(row, column) if is_made else ""


def _lines(row: Row, column: str) -> tuple[str, ...]:
    """A list of texts, or the lines of a text; nothing empty in it."""
    is_text = isinstance(row.value(column), str)
    lines = tuple(row.value(column).split("\n")) if is_text else row.texts(column)
    if not is_text and not all(line.strip() for line in lines):
        raise row.fault(f"{column} holds an empty text")
    return tuple(line.strip() for line in lines if line.strip())


def _choices(row: Row, column: str) -> tuple[str, ...]:
    """A list of texts, or a text with the lines A. …, B. …, and so on; that may be made of several columns."""
    text = row.value(column) if _names_in(column) == [column] else _required(row, column)
    if not isinstance(text, str):
        return _lines(row, column)
    found = _LETTERED.findall(text)
    if not found or [letter for letter, _ in found] != [chr(ord("A") + n) for n in range(len(found))]:
        raise row.fault(f"{column} has no lines 'A. …', 'B. …' in this order")
    choices = tuple(choice.strip() for _, choice in found)
    if not all(choices):
        raise row.fault(f"{column} holds an empty text")
    return choices


def _images(row: Row, column: str, folder: Path) -> tuple[bytes, ...]:
    value = row.value(column)
    if value is None:
        return ()
    # One image need not be in a list.
    references = value if isinstance(value, list | tuple) else [value]
    images, faults = image_files.read_images(references, folder if folder.is_dir() else folder.parent)
    if faults:
        raise row.fault("; ".join(faults))
    return images


def _letter_of(answer: str, choices: Sequence[str]) -> str:
    """The letter of the choice that an answer names; "" when it names none of them."""
    letters = {chr(ord("A") + n): choice for n, choice in enumerate(choices)}
    lettered = _LETTERED.fullmatch(answer)
    for letter, choice in letters.items():
        if answer in (letter, f"({letter})", choice) or (lettered and lettered[1] == letter):
            return letter
    return ""


# -------------------------------------------------------------------------------------------------------------- folders


def _tfds_rows(folder: Path, split: str) -> Iterator[Row]:
    """The rows of a TFDS dataset in array_record, `…/name/version`; its images as the bytes that are stored."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(str(folder))
    except Exception as error:  # whatever TFDS stumbles over
        raise RowError(f"{folder}: not the folder of a TFDS dataset, name/version ({error})") from error
    split = split or next(iter(builder.info.splits), "")
    if split not in builder.info.splits:
        raise RowError(f"{folder}: no split {split!r}; there are {', '.join(builder.info.splits)}")
    kept = {
        name: tfds.decode.SkipDecoding()
        for name, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    for number, example in enumerate(builder.as_data_source(split, decoders=kept), start=1):
        yield Row(f"{folder.parent.name} ({split}), row {number}", number, _plain(example, set(kept)))


def _datasets_rows(folder: Path, split: str) -> Iterator[Row]:
    """The rows of all files of a folder, in order and numbered on from file to file."""
    folder = folder / split if split else folder
    files = _saved_files(folder)
    if not files:
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        hint = f"; name a split, as in datasets:{folder}@{inside[0]}" if inside else ""
        raise RowError(f"{folder}: no .arrow files, which save_to_disk writes{hint}")
    for number, row in enumerate((row for file in files for row in read_rows(file)), start=1):
        yield row._replace(number=number)


def _saved_files(folder: Path) -> list[Path]:
    """The files that `save_to_disk` has written, as it lists them: beside them there may be files of caches."""
    state = folder / "state.json"
    if not state.is_file():
        return sorted(folder.glob("data-*.arrow"))
    try:
        return [folder / file["filename"] for file in json.loads(state.read_bytes())["_data_files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise RowError(f"{state}: no list of files under _data_files, which save_to_disk writes") from error


def _plain(value: Any, images: set[str] = frozenset()) -> Any:
    """What TFDS yields as texts, numbers and lists; images stay bytes."""
    if isinstance(value, dict):
        return {key: item if key in images else _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.tolist() if hasattr(value, "tolist") else value
