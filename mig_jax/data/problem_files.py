"""Problems from the user's own files: jsonl, json, csv, tsv or parquet, and TFDS or Hugging Face `datasets` folders.

`columns` has one entry for each field of a problem and tells where its value is:

    {"question": "{passage} {question}", "answer": "gold", "kind": "=number", …}

    gold                     the value of the column "gold"
    {passage} {question}     a template; each name in braces is replaced by the value of that column, {{ by {, }} by }
    =number                  the same text for all rows

Every column that an entry names must be present in some row. The exception is an optional field whose entry is the
field's own name; only question and answer are required.

Some fields take several forms:

    images     a list or a single image: files relative to the folder of the rows, data URIs, or bytes of image files
    choices    a list, or a text with a line "B. …" for each choice
    steps      a list, or a text with a line for each step; steps and answer become the solution
    answer     of a choice: its letter, its text, or both as in "B. …"; stored as the letter
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mig_jax.data import image_files
from mig_jax.data.options import did_you_mean
from mig_jax.data.problem import KINDS, Problem
from mig_jax.data.row_files import read_rows, read_saved_dataset_rows, read_tfds_rows
from mig_jax.data.rows import Row, RowError, format_errors
from mig_jax.errors import UserError

# Formats whose path is a folder, optionally followed by @split.
FOLDER_FORMATS = ("tfds", "datasets")

_REQUIRED_FIELDS = ("question", "answer")
# {column}, or an escaped brace
_TEMPLATE_PART = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
_LETTERED_LINE = re.compile(r"^[^\S\n]*\(?([A-Z])[.):](.*)", re.MULTILINE)
# The kind reasoning_gym needs an id from which its checker can rebuild the problem.
_KINDS = tuple(kind for kind in KINDS if kind != "reasoning_gym")


def read_problems(file_format: str, path: str, *, columns: Mapping[str, str]) -> tuple[Problem, ...]:
    """Read all problems of a file or folder; blank lines are skipped, all images are read and checked.

    Args:
      file_format: "jsonl", "json", "csv", "tsv", "parquet", "tfds" or "datasets".
      path: see `parse_path`.
      columns: see the module docstring; a field without an entry is not read.

    Raises:
      UserError: columns or rows are wrong; the first errors are listed with their rows.
    """
    location, split = parse_path(file_format, path)
    rows: list[Row] = []
    errors: list[str] = []
    try:
        for row in _open_rows(file_format, location, split):
            rows.append(row)
    except RowError as error:  # of the file itself: the rows after it cannot be read
        errors.append(str(error))
    column_errors = check_columns(rows, columns, required=_REQUIRED_FIELDS)
    errors += column_errors.values()
    columns = {field: column for field, column in columns.items() if field not in column_errors}
    problems: list[Problem] = []
    for row in rows:
        problem, row_errors = _read_problem(row, columns, location)
        errors += row_errors
        problems += [] if problem is None else [problem]
    repeated_ids = [id_ for id_, n in Counter(problem.id for problem in problems).items() if n > 1]
    errors += [f"id {id_!r} appears in several rows" for id_ in repeated_ids]
    if errors:
        raise UserError(format_errors(f"{len(errors)} error{'s' if len(errors) > 1 else ''} in {path}", errors))
    return tuple(problems)


def parse_path(file_format: str, path: str) -> tuple[Path, str]:
    """Return the file or folder, with ~ expanded, and the split named after the @ of a folder ("" if there is none)."""
    name, _, split = path.partition("@") if file_format in FOLDER_FORMATS else (path, "", "")
    return Path(os.path.expanduser(name)), split


def _open_rows(file_format: str, location: Path, split: str) -> Iterator[Row]:
    if file_format == "tfds":
        return read_tfds_rows(location, split)
    if file_format == "datasets":
        return read_saved_dataset_rows(location, split)
    return read_rows(location)


def _read_problem(row: Row, columns: Mapping[str, str], location: Path) -> tuple[Problem | None, list[str]]:
    """Return the problem of a row and no errors, or None and all errors of the row."""
    errors: list[str] = []

    def read(field: str, parse: Callable[[Row, str], Any], default: Any = "") -> Any:
        try:
            return parse(row, columns[field]) if columns.get(field) else default
        except RowError as error:
            errors.append(str(error))
            return default

    if row.read_error is not None:
        return None, [f"{row.location}: {row.read_error}"]
    question, answer = read("question", required_text), read("answer", required_text)
    kind = read("kind", optional_text) or "expression"
    choices, steps = read("choices", _choices, ()), read("steps", _list_or_lines, ())
    images = read("images", lambda row, column: _images(row, column, location), ())
    if kind not in _KINDS:
        errors.append(f"{row.location}: kind is {kind!r}, not one of {', '.join(_KINDS)}")
    if kind in ("choice", "nearest_choice") and choices and answer:
        letter = _choice_letter(answer, choices)
        if letter is None:
            errors.append(f"{row.location}: answer {answer!r} is none of the choices {', '.join(choices)}")
        else:
            answer = letter
    problem = Problem(
        id=read("id", optional_text) or f"{location.name}:{row.number}",
        question=question,
        answer=answer,
        kind=kind,
        solution=(steps, answer) if steps else None,
        images=images,
        choices=choices,
        level=read("level", optional_text),
        subject=read("subject", optional_text),
        source=read("source", optional_text) or location.stem,
    )
    return (None, errors) if errors else (problem, [])


# -------------------------------------------------------------------------------------------------------------- columns


def check_columns(rows: Sequence[Row], columns: Mapping[str, str], *, required: Sequence[str]) -> dict[str, str]:
    """Return an error for each field whose entry names columns that no row has.

    Args:
      rows: of a file.
      columns: see the module docstring.
      required: fields that must have a column, even if their entry is their own name.
    """
    # `csv` puts cells after the last column under None.
    present = dict.fromkeys(name for row in rows for name in row.values if name is not None)
    errors = {}
    for field, column in columns.items() if present else ():
        missing = [name for name in _columns_named_in(column) if name not in present]
        if missing and (field in required or column not in ("", field)):
            known = [*present, *(f"={kind}" for kind in _KINDS if field == "kind")]
            escape = " (for braces write {{ and }})" if _is_template(column) else ""
            unknown = "; ".join(f"no column {name!r}{did_you_mean(name, known) or escape}" for name in missing)
            errors[field] = f"data.columns.{field}: {unknown}; available: {', '.join(present)}"
        elif field == "question" and (leaked := _answer_columns_in(column, columns.get("answer", ""))):
            name = leaked[0]
            errors[field] = (
                f"data.columns.question: {{{name}}} would put the reference answer into the question; write "
                f"{{{{{name}}}}} for the text {{{name}}}"
            )
    return errors


def _answer_columns_in(question: str, answer: str) -> list[str]:
    """Return the columns of the answer that are in a template of the question."""
    if not _is_template(question):
        return []
    return [name for name in _columns_named_in(question) if name in _columns_named_in(answer)]


def _is_template(entry: str) -> bool:
    return not entry.startswith("=") and _TEMPLATE_PART.search(entry) is not None


def _columns_named_in(entry: str) -> list[str]:
    if _is_template(entry):
        return [part[1] for part in _TEMPLATE_PART.finditer(entry) if part[1]]
    return [] if entry.startswith("=") else [entry]


def required_text(row: Row, column: str) -> str:
    """Return the text that an entry of `columns` gives for a row.

    Raises:
      RowError: a column is missing or empty.
    """
    if column.startswith("="):
        return column[1:]
    if _is_template(column):
        return _TEMPLATE_PART.sub(lambda part: row.text(part[1]) if part[1] else part[0][0], column).strip()
    return row.text(column)


def optional_text(row: Row, column: str) -> str:
    """Return the text that an entry of `columns` gives for a row, "" if its column is missing or empty."""
    if column in row.values:
        return row.optional_text(column)
    is_text = _is_template(column) or column.startswith("=")
    return required_text(row, column) if is_text else ""


def _list_or_lines(row: Row, column: str) -> tuple[str, ...]:
    """Return the items of a list, which must not be empty texts, or the lines of a text that are not blank."""
    value = row.value(column)
    if isinstance(value, str):
        lines = tuple(value.split("\n"))
    else:
        lines = row.texts(column)
        if not all(line.strip() for line in lines):
            raise row.error(f"{column} has an empty item")
    return tuple(line.strip() for line in lines if line.strip())


def _choices(row: Row, column: str) -> tuple[str, ...]:
    """Return the choices, from a list or from a text (possibly a template) with the lines A. …, B. … in order."""
    is_text = _is_template(column) or column.startswith("=")
    text = required_text(row, column) if is_text else row.value(column)
    if not isinstance(text, str):
        return _list_or_lines(row, column)
    lines = _LETTERED_LINE.findall(text)
    if not lines or [letter for letter, _ in lines] != [chr(ord("A") + n) for n in range(len(lines))]:
        raise row.error(f"{column} has no lines 'A. …', 'B. …' in this order")
    choices = tuple(choice.strip() for _, choice in lines)
    if not all(choices):
        raise row.error(f"{column} has an empty item")
    return choices


def _images(row: Row, column: str, location: Path) -> tuple[bytes, ...]:
    value = row.value(column)
    if value is None:
        return ()
    references = value if isinstance(value, list | tuple) else [value]
    images, errors = image_files.read_images(references, location if location.is_dir() else location.parent)
    if errors:
        raise row.error("; ".join(errors))
    return images


def _choice_letter(answer: str, choices: Sequence[str]) -> str | None:
    """Return the letter of the choice that an answer names, None if it names none of them."""
    lettered = _LETTERED_LINE.fullmatch(answer)
    for n, choice in enumerate(choices):
        letter = chr(ord("A") + n)
        if answer in (letter, f"({letter})", choice) or (lettered and lettered[1] == letter):
            return letter
    return None
