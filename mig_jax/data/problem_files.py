"""Problems of the user's own files: jsonl, json, csv, tsv or parquet, and folders of TFDS or of the datasets library.

Which column holds what is said by `columns`, one entry for each field of a problem:

    {"question": "{passage} {question}", "answer": "gold", "kind": "=number", …}

An entry is the name of a column (which may be missing, but for question and answer), a text in which names in braces
stand for columns, or, behind an equals sign, a text for all rows.

A row may have `images` (files relative to the folder of this one, data URIs, or the bytes of image files), `choices` (a
list, or a text with a line "B. …" for each) and `steps` (a list, or a text with a line for each), which make a
demonstration. The answer of a choice is its letter, its text, or both as in "B. …"; it becomes the letter.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mig_jax.data import image_files
from mig_jax.data.problem import KINDS, Problem
from mig_jax.data.rows import Row, RowError, read_rows

_IN_BRACES = re.compile(r"\{([^{}]+)\}")
_LETTERED = re.compile(r"^\s*\(?([A-Z])[.):]\s*(.*\S)", re.MULTILINE)
# The last kind needs an id from which its checker can build the problem.
_KINDS = tuple(kind for kind in KINDS if kind != "reasoning_gym")


def read_problems(form: str, path: str, *, columns: Mapping[str, str]) -> tuple[Problem, ...]:
    """Reads all problems of a file or folder. Blank lines are skipped; all images are read and checked now.

    Args:
      form: "jsonl", "json", "csv", "tsv", "parquet", "tfds" or "datasets".
      path: of the file; of tfds and datasets a folder, behind whose @ a split may be named.
      columns: see the top of this file; a field without an entry is not read.

    Raises:
      ValueError: with the row and the fault of everything that is wrong.
    """
    readers = {"tfds": _tfds_rows, "datasets": _datasets_rows}
    folder = Path(path.partition("@")[0] if form in readers else path)
    rows = readers[form](folder, path.partition("@")[2]) if form in readers else read_rows(folder)
    problems, faults = [], []
    while True:
        try:
            row = next(rows, None)
            if row is None:
                break
            problem, wrong = _read_problem(row, columns, folder)
        except RowError as error:  # of the file itself: nothing behind it can be read
            faults.append(str(error))
            break
        faults += wrong
        problems += [] if problem is None else [problem]
    repeated = [id for id, n in Counter(problem.id for problem in problems).items() if n > 1]
    faults += [f"id {id!r} stands in several rows" for id in repeated]
    if faults:
        raise ValueError(f"{len(faults)} faults in {path}:\n  " + "\n  ".join(faults))
    return tuple(problems)


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
        demonstration=(steps, answer) if steps else None,
        images=images,
        choices=choices,
        level=read("level", _optional),
        subject=read("subject", _optional),
        source=read("source", _optional) or folder.stem,
    )
    return (None, faults) if faults else (problem, [])


# -------------------------------------------------------------------------------------------------------------- columns


def _required(row: Row, column: str) -> str:
    """The text of a column, of a text with columns in braces, or behind an equals sign; never empty."""
    if column.startswith("="):
        return column[1:]
    if _IN_BRACES.search(column):
        return _IN_BRACES.sub(lambda name: row.text(name[1]), column).strip()
    return row.text(column)


def _optional(row: Row, column: str) -> str:
    """The same, but "" where there is nothing."""
    return row.optional_text(column) if column in row.values else _required(row, column) if _is_made(column) else ""


def _is_made(column: str) -> bool:
    return column.startswith("=") or _IN_BRACES.search(column) is not None


def _lines(row: Row, column: str) -> tuple[str, ...]:
    """A list of texts, or the lines of a text; nothing empty in it."""
    is_text = isinstance(row.value(column), str)
    lines = tuple(row.value(column).split("\n")) if is_text else row.texts(column)
    if not is_text and not all(line.strip() for line in lines):
        raise row.fault(f"{column} holds an empty text")
    return tuple(line.strip() for line in lines if line.strip())


def _choices(row: Row, column: str) -> tuple[str, ...]:
    """A list of texts, or a text with the lines A. …, B. …, and so on."""
    text = row.value(column)
    if not isinstance(text, str):
        return _lines(row, column)
    found = _LETTERED.findall(text)
    if not found or [letter for letter, _ in found] != [chr(ord("A") + n) for n in range(len(found))]:
        raise row.fault(f"{column} has no lines 'A. …', 'B. …' in this order")
    return tuple(choice for _, choice in found)


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
    """The rows of the .arrow files of a folder, in order."""
    folder = folder / split if split else folder
    files = sorted(folder.glob("*.arrow"))
    if not files:
        inside = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        hint = f"; name a split, as in datasets:{folder}@{inside[0]}" if inside else ""
        raise RowError(f"{folder}: no .arrow files, which save_to_disk writes{hint}")
    for file in files:
        yield from read_rows(file)


def _plain(value: Any, images: set[str] = frozenset()) -> Any:
    """What TFDS yields as texts, numbers and lists; images stay bytes."""
    if isinstance(value, dict):
        return {key: item if key in images else _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.tolist() if hasattr(value, "tolist") else value
