"""Problems from the user's own files: jsonl, json, csv, tsv or parquet, TFDS folders, and Hugging Face datasets.

`columns` has one entry for each field of a problem and tells where its value is; see `columns.py`:

    {"question": "{passage} {question}", "answer": "reward_model.ground_truth", "kind": "=number", …}

Every column that an entry names must be present in some row. The exception is an optional field whose entry is the
field's own name; only question and answer are required.

Some fields take several forms:

    question   a text, or chat messages, whose last user message is the question; see `chats.py`
    images     a list or a single image: files relative to the folder of the rows, data URIs, or bytes of image files;
               <image> in the question is where each stands, else they come first
    choices    see `choices.py`; an answer that names a choice is stored as its letter
    answer     a text or a number; of a written solution, the answer is taken out; see `references.py`
    steps      a list, or a text with a line for each step; steps and answer become the solution
    response   a ready-made response, which SFT learns as it is
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import NamedTuple

from absl import logging

from mig_jax.data.choices import Choices, choose_forms
from mig_jax.data.columns import check_columns
from mig_jax.data.hub_datasets import read_hub_rows
from mig_jax.data.problem import KINDS, Problem
from mig_jax.data.problem_rows import Draft, read_draft
from mig_jax.data.row_folders import find_files, read_files, read_saved_dataset_rows, read_tfds_rows
from mig_jax.data.rows import Row, RowError, format_errors
from mig_jax.errors import UserError

# Formats whose path is a folder or a name, optionally followed by @split.
FOLDER_FORMATS = ("tfds", "datasets", "hf")
# What happens to rows that cannot be used.
BAD_ROWS = ("refuse", "skip")
# Errors of skipped rows that are shown.
_SHOWN = 3

_REQUIRED_FIELDS = ("question", "answer")
# The kind reasoning_gym needs an id from which its checker can rebuild the problem.
_KINDS = tuple(kind for kind in KINDS if kind != "reasoning_gym")


class _Errors(NamedTuple):
    """What is wrong: with the file or its columns, and with rows, by their position."""

    of_file: list[str]
    of_rows: list[tuple[int, str]]


def read_problems(
    file_format: str,
    path: str,
    *,
    columns: Mapping[str, str],
    bad_rows: str = "refuse",
    choice_answers: str = "",
    purpose: str = "train",
) -> tuple[Problem, ...]:
    """Read all problems of a file or folder; blank lines are skipped, all images are read and checked.

    Args:
      file_format: "jsonl", "json", "csv", "tsv", "parquet", "tfds", "datasets" or "hf". It counts, not the suffix.
      path: see `parse_path`; of files also a pattern such as train-*.jsonl, or a folder of such files.
      columns: see the module docstring; a field without an entry is not read.
      bad_rows: one of `BAD_ROWS`; "skip" leaves them out and reports how many.
      choice_answers: how answers name a choice, one of `choices.FORMS`; "" finds it.
      purpose: "train" or "test", which chooses the split of a dataset of the hub.

    Raises:
      UserError: columns or rows are wrong; the first errors are listed with their rows.
    """
    location, split = parse_path(file_format, path)
    rows, of_file = _read_all(_open_rows(file_format, location, split, path, purpose))
    column_errors = check_columns(rows, columns, required=_REQUIRED_FIELDS, kinds=_KINDS)
    errors = _Errors([*of_file, *column_errors.values()], [])
    columns = {field: column for field, column in columns.items() if field not in column_errors}
    drafts = []
    for n, row in enumerate(rows):
        draft, row_errors = read_draft(row, columns, location, kinds=_KINDS)
        errors.of_rows.extend((n, error) for error in row_errors)
        drafts.append(draft)
    problems = _finish(drafts, choice_answers, errors)
    _report(path, len(rows), problems, errors, bad_rows)
    _report_taken(path, drafts)
    return tuple(problems)


def parse_path(file_format: str, path: str) -> tuple[Path, str]:
    """Return the file or folder, with ~ expanded, and the split named after the @ of a folder ("" if there is none)."""
    name, _, split = path.partition("@") if file_format in FOLDER_FORMATS else (path, "", "")
    return Path(os.path.expanduser(name)), split


def path_error(file_format: str, path: str) -> str | None:
    """Return "no such file" or "no such folder" if nothing is at a path; None if something is."""
    location = parse_path(file_format, path)[0]
    if file_format in FOLDER_FORMATS:
        return None if location.exists() else "no such folder"
    try:
        files = find_files(location, file_format)
    except RowError as error:
        return str(error).removeprefix(f"{location}: ")
    return None if all(file.is_file() for file in files) else "no such file"


def _open_rows(file_format: str, location: Path, split: str, path: str, purpose: str) -> Iterator[Row]:
    if file_format == "tfds":
        return read_tfds_rows(location, split)
    if file_format == "datasets":
        return read_saved_dataset_rows(location, split)
    if file_format == "hf":
        return read_hub_rows(path, purpose=purpose)
    return read_files(find_files(location, file_format), file_format)


def _read_all(rows: Iterator[Row]) -> tuple[list[Row], list[str]]:
    """Return the rows before the first error of a file, and that error; the rows after it cannot be read."""
    read: list[Row] = []
    try:
        read.extend(rows)
    except RowError as error:
        return read, [str(error)]
    return read, []


def _finish(drafts: Sequence[Draft | None], choice_answers: str, errors: _Errors) -> list[Problem]:
    """Return the problems of rows without errors; answers that name a choice become its letter."""
    named: dict[int, tuple[str, Choices]] = {
        n: (draft.problem.answer, draft.choices) for n, draft in enumerate(drafts) if draft and draft.choices
    }
    chosen = dict(zip(named, choose_forms(list(named.values()), choice_answers), strict=True))
    problems, ids = [], Counter()
    for n, draft in enumerate(drafts):
        if draft is None:
            continue
        problem, choice = draft.problem, chosen.get(n)
        if isinstance(choice, str):
            errors.of_rows.append((n, f"{draft.location}: {choice}"))
            continue
        if choice is not None:
            problem = problem._replace(answer=ascii_uppercase[choice])
        if draft.steps:
            problem = problem._replace(solution=(draft.steps, problem.answer))
        ids[problem.id] += 1
        if ids[problem.id] == 1:
            problems.append(problem)
        elif ids[problem.id] == 2:
            errors.of_rows.append((n, f"{draft.location}: id {problem.id!r} is that of an earlier row"))
    return problems


def _report(path: str, n_rows: int, problems: Sequence[Problem], errors: _Errors, bad_rows: str) -> None:
    """Raise or report the errors of a file and its rows."""
    of_rows = [error for _, error in sorted(errors.of_rows, key=lambda error: error[0])]
    n_bad = n_rows - len(problems)
    if bad_rows == "skip" and not errors.of_file and problems:
        if n_bad:
            shown = format_errors("", of_rows[:_SHOWN]).lstrip(":\n")
            logging.warning("%s: %d of %d rows skipped (data.bad_rows), such as\n%s", path, n_bad, n_rows, shown)
        return
    listed = [*errors.of_file, *of_rows]
    if listed:
        of = f" ({n_bad} of {n_rows} rows)" if of_rows and n_rows > 1 else ""
        raise UserError(format_errors(f"{len(listed)} error{'s' if len(listed) > 1 else ''} in {path}{of}", listed))


def _report_taken(path: str, drafts: Sequence[Draft | None]) -> None:
    """Report how many reference answers are taken out of written solutions, with an example of each kind."""
    taken = [draft.taken for draft in drafts if draft and draft.taken]
    for mark, count in Counter(reference.mark for reference in taken).items():
        example = next(reference.answer for reference in taken if reference.mark == mark)
        logging.warning(
            "%s: the reference answers of %d of %d rows are written solutions; the answer is taken from %s, such as %r",
            path, count, len(drafts), mark, example,
        )  # fmt: skip
