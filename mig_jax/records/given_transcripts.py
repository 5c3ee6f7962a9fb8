"""Transcripts from files of any format and with any columns, chat messages among them.

`columns` says where the fields of a transcript are, as in `data/problem_files.py`; a transcript also has a response.
The question, the response or both may be a column of chat messages:

    {"messages": [{"role": "user", "content": "What is 3 + 4?"}, {"role": "assistant", "content": "<think>…"}], …}

Of these, the only user message is the question, and the last assistant message is the response. A column `steps` is a
list of texts that occur in the response in this order.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from mig_jax.data.columns import check_columns, required_text
from mig_jax.data.row_files import read_rows
from mig_jax.data.rows import Row, RowError, format_errors
from mig_jax.errors import UserError
from mig_jax.records.transcripts import Transcript, make_transcripts

REQUIRED_FIELDS = ("question", "response", "answer")
# Fields of text; the others keep the form that they have in the file.
TEXT_FIELDS = (*REQUIRED_FIELDS, "kind", "id", "level", "subject", "source")
# Fields that a file names as it likes. The verdicts and numbers of a transcript have their own names.
FIELDS = (*TEXT_FIELDS, "choices", "images", "steps")


def read_given_transcripts(path: str, *, columns: Mapping[str, str], limit: int | None = None) -> list[Transcript]:
    """Read the transcripts of a .jsonl, .json, .csv, .tsv, .parquet or .arrow file.

    Args:
      path: the file; the file names of images are relative to its folder.
      columns: field → column, template or constant; see the module docstring.
      limit: read only the first rows; None for all.

    Raises:
      UserError: the file cannot be read, or columns, rows or images are wrong; lists them.
    """
    rows = list(itertools.islice(read_rows(Path(path)), limit))
    columns = {field: columns[field] for field in FIELDS}
    required = [field for field in REQUIRED_FIELDS if not (field == "response" and _are_chats(rows, columns))]
    if column_errors := check_columns(rows, columns, required=required).values():
        title = f"{path} has other columns: name them, as in --config.data.columns.response=NAME"
        raise UserError(format_errors(title, list(column_errors)))
    values, errors = [], []
    for row in rows:
        row_values, row_errors = _map_row(row, columns)
        values.append(row_values)
        errors += row_errors
    if errors:
        raise UserError(format_errors(f"{path} is not a file of transcripts", errors))
    if n := sum(_has_system_message(row, columns) for row in rows):
        logging.warning("%d rows have a system message; the prompt has the format instructions in its place", n)
    try:
        return make_transcripts(values, folder=str(Path(path).parent))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _map_row(row: Row, columns: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the values of a transcript by field, and what is wrong with the row."""
    if row.read_error is not None:
        return {}, [f"{row.location}: {row.read_error}"]
    values = {name: value for name, value in row.values.items() if name not in FIELDS and value is not None}
    errors = []
    for field in columns:
        try:
            value = _read_field(row, field, columns)
        except RowError as error:
            errors.append(str(error))
            continue
        # An empty response is one: policies do write them.
        if value not in (None, "", [], ()) or (field == "response" and value == ""):
            values[field] = value
    return values, errors


def _read_field(row: Row, field: str, columns: Mapping[str, str]) -> Any:
    """Return the value of a field, None if the row has none.

    Raises:
      RowError: it cannot be read.
    """
    column = columns[field]
    if column in row.values:
        value = row.values[column]
        if is_chat(value) and field in ("question", "response"):
            return _question_of(row, column) if field == "question" else _response_of(row, column)
        # A response keeps its whitespace; an answer or an id may be a number.
        if value is None or (isinstance(value, str) and field == "response"):
            return value
        return row.optional_text(column) if field in TEXT_FIELDS else value
    if field == "response" and is_chat(row.values.get(columns["question"])):
        return _response_of(row, columns["question"])
    is_name = not column.startswith("=") and "{" not in column
    return None if is_name else required_text(row, column)


def is_chat(value: Any) -> bool:
    """Return whether a value is a list of chat messages."""
    return (
        isinstance(value, Sequence)
        and len(value) > 0
        and all(isinstance(message, Mapping) and "role" in message and "content" in message for message in value)
    )


def _question_of(row: Row, column: str) -> str:
    texts = _messages(row, column, "user")
    if len(texts) != 1:
        raise row.error(f"{column} has {len(texts)} user messages; a question is one message")
    return texts[0]


def _response_of(row: Row, column: str) -> str:
    texts = _messages(row, column, "assistant")
    if not texts:
        raise row.error(f"{column} has no assistant message; name the column of the response in data.columns.response")
    return texts[-1]


def _messages(row: Row, column: str, role: str) -> list[str]:
    """Return the texts of the messages of a role.

    Raises:
      RowError: a message is not text.
    """
    texts = []
    for message in row.values[column]:
        content = message["content"]
        if isinstance(content, list):  # parts, of which each is a text or an image
            if any(not isinstance(part, Mapping) or part.get("text") is None for part in content):
                raise row.error(f"{column} has a message with an image; give images in data.columns.images")
            content = "".join(part["text"] for part in content)
        if not isinstance(content, str):
            raise row.error(f"{column} has a message without text")
        texts += [content] if message["role"] == role else []
    return texts


def _are_chats(rows: Sequence[Row], columns: Mapping[str, str]) -> bool:
    return any(is_chat(row.values.get(columns["question"])) for row in rows)


def _has_system_message(row: Row, columns: Mapping[str, str]) -> bool:
    messages = row.values.get(columns["question"])
    return is_chat(messages) and any(message["role"] == "system" for message in messages or ())
