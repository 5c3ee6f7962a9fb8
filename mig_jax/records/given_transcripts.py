"""Transcripts from files of any format and with any columns, chat messages among them.

`columns` says where the fields of a transcript are, as in `data/problem_files.py`; a transcript also has a response.
The question, the response or both may be a column of chat messages:

    {"messages": [{"role": "user", "content": "What is 3 + 4?"}, {"role": "assistant", "content": "<think>…"}], …}

Of these, the last user message is the question, what comes before it is its history, and the assistant message after it
is the response. Of a reference answer that is a written solution, the answer is taken. A column `steps` is a list of
texts that occur in the response in this order.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from absl import logging

from mig_jax.data.chats import Chat, find_messages, image_error, read_chat, response_text
from mig_jax.data.choices import choose_forms, read_choices, readings
from mig_jax.data.columns import check_columns, has_column, is_template, optional_text, required_text, value_of
from mig_jax.data.problem_rows import CHOICE_KINDS
from mig_jax.data.references import take_answer
from mig_jax.data.row_folders import find_files, is_pattern, read_files
from mig_jax.data.rows import Row, RowError, format_errors
from mig_jax.errors import UserError
from mig_jax.parts import own_constant
from mig_jax.records.transcripts import Transcript, make_transcripts

REQUIRED_FIELDS = ("question", "response", "answer")
# Fields of text; the others keep the form that they have in the file.
TEXT_FIELDS = (*REQUIRED_FIELDS, "kind", "id", "level", "subject", "source")
# Fields that a file names as it likes. The verdicts and numbers of a transcript have their own names.
FIELDS = (*TEXT_FIELDS, "choices", "images", "steps")


def read_given_transcripts(
    path: str,
    *,
    columns: Mapping[str, str],
    limit: int | None = None,
    choice_answers: str = "",
    bad_rows: str = "refuse",
) -> list[Transcript]:
    """Read the transcripts of .jsonl, .json, .csv, .tsv, .parquet or .arrow files.

    Args:
      path: the file, or a pattern such as out-*.jsonl.gz; the file names of images are relative to its folder.
      columns: field → entry, see `data/columns.py` and the module docstring.
      limit: read only the first rows; None for all.
      choice_answers: how answers name a choice, see `choices.choose_forms`.
      bad_rows: "refuse" or "skip", which leaves them out and reports how many.

    Raises:
      UserError: the file cannot be read, or columns, rows or images are wrong; lists them.
    """
    location = Path(path)
    files = find_files(location, "") if is_pattern(location) else [location]
    rows = list(itertools.islice(read_files(files), limit))
    columns = {field: columns[field] for field in FIELDS}
    required = [field for field in REQUIRED_FIELDS if not (field == "response" and _are_chats(rows, columns))]
    if column_errors := check_columns(rows, columns, required=required).values():
        title = f"{path} has other columns: name them, as in --config.data.columns.response=NAME"
        raise UserError(format_errors(title, list(column_errors)))
    values: list[dict[str, Any]] = []
    errors: list[tuple[int, str]] = []  # with the index of the row
    for n, row in enumerate(rows):
        row_values, row_errors = _map_row(row, columns)
        values.append(row_values)
        errors += [(n, error) for error in row_errors]
    n_taken = sum(map(_take_answer, values))
    errors += _read_choices(rows, columns, values, choice_answers)
    if bad_rows == "skip":
        rows, values, errors = _skip(path, rows, values, errors, own_kind=own_constant(columns["kind"]))
    if errors:
        raise UserError(format_errors(f"{path} is not a file of transcripts", [error for _, error in sorted(errors)]))
    try:
        transcripts = make_transcripts(values, folder=str(location.parent), own_kind=own_constant(columns["kind"]))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if n := sum(any(role == "system" for role, _ in t.history) for t in transcripts):
        logging.warning("%d rows have a system message; data.system_prompt, unless it is empty, takes its place", n)
    if n_taken:
        logging.warning("%s: %d reference answers are written solutions; the answer is taken from them", path, n_taken)
    return transcripts


def _skip(
    path: str,
    rows: Sequence[Row],
    values: Sequence[dict[str, Any]],
    errors: Sequence[tuple[int, str]],
    *,
    own_kind: str,
) -> tuple[list[Row], list[dict[str, Any]], list[tuple[int, str]]]:
    """Return what is left without the rows that have errors, and report how many these are; all, if no row is left."""
    reasons = {n: error for n, error in reversed(errors)}
    for n, of_row in enumerate(values):
        if n not in reasons:
            try:
                make_transcripts([of_row], folder=str(Path(path).parent), own_kind=own_kind)
            except UserError as error:
                reasons[n] = f"{rows[n].location}: {str(error).partition('row 1: ')[2]}"
    kept = [n for n in range(len(rows)) if n not in reasons]
    if not kept:
        return list(rows), list(values), sorted(reasons.items())
    if reasons:
        first = "\n  ".join(reasons[n] for n in sorted(reasons)[:3])
        logging.warning(
            "%s: %d of %d rows skipped (data.bad_rows), such as\n  %s", path, len(reasons), len(rows), first
        )
    return [rows[n] for n in kept], [values[n] for n in kept], []


def _map_row(row: Row, columns: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values of a transcript by field, and what is wrong with the row."""
    if row.read_error is not None:
        return {}, [f"{row.location}: {row.read_error}"]
    values = {name: value for name, value in row.values.items() if name not in FIELDS and value is not None}
    errors = []
    try:
        chat = _read_question(row, columns["question"])
    except RowError as error:
        return {}, [str(error)]
    if chat is not None and chat.history:
        values["history"] = chat.history
    for field in columns:
        try:
            value = _read_field(row, field, columns[field], chat)
        except RowError as error:
            errors.append(str(error))
            continue
        # An empty response is one: policies do write them.
        if value not in (None, "", [], ()) or (field == "response" and value == ""):
            values[field] = value
    if chat is not None and (error := image_error(chat, _count(values.get("images")))):
        errors.append(f"{row.location}: {error}")
    return values, errors


def _read_question(row: Row, column: str) -> Chat | None:
    """Return the question of a column of chat messages, None if it has another form."""
    messages = None if is_template(column) or column.startswith("=") else find_messages(value_of(row, column))
    return None if messages is None else read_chat(row, column, messages)


def _read_field(row: Row, field: str, column: str, chat: Chat | None) -> Any:
    """Return the value of a field, None if the row has none.

    Args:
      row: of the file.
      field: one of FIELDS.
      column: the entry of the field.
      chat: the question, if it is a chat.

    Raises:
      RowError: it cannot be read.
    """
    if field == "question" and chat is not None:
        return chat.question
    if field == "images" and chat is not None and chat.images:
        return list(chat.images)
    if field == "response":
        return _read_response(row, column, chat)
    if field in TEXT_FIELDS:
        return required_text(row, column) if is_template(column) else optional_text(row, column)
    is_text = is_template(column) or column.startswith("=")
    return required_text(row, column) if is_text else value_of(row, column)


def _read_response(row: Row, column: str, chat: Chat | None) -> str | None:
    """Return the response, from its column, else from the chat; a text keeps its whitespace."""
    if is_template(column) or column.startswith("="):
        return required_text(row, column)
    if has_column(row, column):
        value = value_of(row, column)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return optional_text(row, column) if is_number else response_text(row, column, value)
    if chat is not None and chat.response is None:
        raise row.error(
            "the question has no assistant message after it; name the column of the response in data.columns.response"
        )
    return chat.response if chat is not None else None


def _read_choices(
    rows: Sequence[Row], columns: Mapping[str, str], values: Sequence[dict[str, Any]], form: str
) -> list[tuple[int, str]]:
    """Set choices and, where an answer names one, its letter; return what is wrong, by the index of the row."""
    errors, named = [], {}
    for n, (row, of_row) in enumerate(zip(rows, values, strict=True)):
        try:
            choices = read_choices(row, columns["choices"]) if of_row.get("choices") else None
        except RowError as error:
            errors.append((n, str(error)))
            continue
        if choices:
            of_row["choices"] = list(choices.texts)
            if of_row.get("kind", "choice") in CHOICE_KINDS and of_row.get("answer"):
                named[n] = str(of_row["answer"]), choices
                of_row.setdefault("kind", "choice")
    if all("label" in readings(*answer) for answer in named.values()):
        form = form or "label"  # as in transcripts that were written here
    for n, choice in zip(named, choose_forms(list(named.values()), form), strict=True):
        if isinstance(choice, str):
            errors.append((n, f"{rows[n].location}: {choice}"))
        else:
            values[n]["answer"] = ascii_uppercase[choice]
    return errors


def _take_answer(values: dict[str, Any]) -> bool:
    """Take the answer out of a written solution; return whether there was one."""
    taken = take_answer(values["answer"]) if isinstance(values.get("answer"), str) else None
    if taken:
        values["answer"] = taken.answer
    return taken is not None


def _count(images: Any) -> int:
    return 0 if images is None else len(images) if isinstance(images, list | tuple) else 1


def _are_chats(rows: Sequence[Row], columns: Mapping[str, str]) -> bool:
    column = columns["question"]
    return any(find_messages(value_of(row, column)) is not None for row in rows if row.read_error is None)
