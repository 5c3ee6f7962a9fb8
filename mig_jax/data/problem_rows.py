"""One row to a problem, whose answer may still have to be read as a choice."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mig_jax.data import image_files
from mig_jax.data.chats import Chat, find_messages, image_error, read_chat, response_text
from mig_jax.data.choices import Choices, read_choices
from mig_jax.data.columns import is_template, optional_text, required_text, value_of
from mig_jax.data.problem import Problem
from mig_jax.data.references import Reference, take_answer
from mig_jax.data.rows import Row, RowError
from mig_jax.parts import is_own, own_constant, row_part_error

# <<48/2=24>>: a calculator's annotation.
_CALCULATION = re.compile(r"<<.*?>>")
# Where ms-swift and verl put a video into a question; its file is in the column `videos`.
VIDEO_MARK = "<video>"
# Kinds whose answer is a choice.
CHOICE_KINDS = ("choice", "nearest_choice")


class Draft(NamedTuple):
    """A problem that is read from a row by itself.

    problem: without a solution; its answer is as in the row.
    choices: those that the answer names one of; None if it is not a choice.
    steps: of the solution; () if there is none.
    taken: how the answer was taken out of a written solution; None if it was not.
    location: of the row, for messages.
    """

    problem: Problem
    choices: Choices | None
    steps: tuple[str, ...]
    taken: Reference | None
    location: str


def read_draft(
    row: Row, columns: Mapping[str, str], location: Path, *, kinds: Sequence[str]
) -> tuple[Draft | None, list[str]]:
    """Return the draft of a row and no errors, or None and all errors of the row.

    Args:
      row: of a file.
      columns: field → entry, see `columns.py`.
      location: the file or folder, which names problems and sources that have no names, and where images are.
      kinds: those that a row may have.
    """
    errors: list[str] = []

    def read(field: str, parse: Callable[[Row, str], Any], default: Any = "") -> Any:
        try:
            return parse(row, columns[field]) if columns.get(field) else default
        except RowError as error:
            errors.append(str(error))
            return default

    if row.read_error is not None:
        return None, [f"{row.location}: {row.read_error}"]
    asked: Chat = read("question", _read_question, Chat(""))
    choices: Choices | None = read("choices", read_choices, None)
    kind = read("kind", optional_text) or ("choice" if choices else "expression")
    answer = read("answer", lambda row, column: _read_answer(row, column, kind))
    taken = take_answer(answer)
    if kind not in kinds and kind != own_constant(columns.get("kind", "")):
        unknown = f"kind is {kind!r}, not one of {', '.join(kinds)}"
        errors.append(f"{row.location}: {row_part_error('kind', kind) if is_own(kind) else unknown}")
    folder = location if location.is_dir() else location.parent
    images = read("images", lambda row, column: _read_images(row, column, asked, folder), ())
    if not errors and (error := image_error(asked, len(images))):
        errors.append(f"{row.location}: {error}")
    if row.values.get("videos") or VIDEO_MARK in asked.question:
        errors.append(f"{row.location}: the question has a video; videos are not read")
    problem = Problem(
        id=read("id", optional_text) or f"{location.name}:{row.number}",
        question=asked.question,
        answer=taken.answer if taken else answer,
        kind=kind,
        images=images,
        choices=choices.texts if choices else (),
        level=read("level", optional_text),
        subject=read("subject", optional_text),
        source=read("source", optional_text) or source_name(location),
        history=asked.history,
        response=read("response", _read_response) or asked.response or "",
        row=row.values,
    )
    steps = read("steps", _list_or_lines, ())
    return (None, errors) if errors else (
        Draft(problem, choices if kind in CHOICE_KINDS else None, steps, taken, row.location), []
    )  # fmt: skip


def source_name(location: Path) -> str:
    """Return the name of a file without suffixes and wildcards, of a dataset of the hub without its owner."""
    name = location.name.removesuffix(".gz")
    stem = Path(name).stem if Path(name).suffix[1:].isalpha() else name
    return stem.split(":")[0].rstrip("*?-_.") or location.parent.name


def _read_question(row: Row, column: str) -> Chat:
    """Return the question of a column of text, of a template, or of chat messages."""
    if not is_template(column) and not column.startswith("="):
        messages = find_messages(value_of(row, column))
        if messages is not None:
            return read_chat(row, column, messages)
    return Chat(required_text(row, column))


def _read_answer(row: Row, column: str, kind: str) -> str:
    """Return the text of an answer; true and false are yes and no, where answers are these."""
    value = None if is_template(column) or column.startswith("=") else value_of(row, column)
    if kind == "yes_no" and isinstance(value, bool):
        return "yes" if value else "no"
    return required_text(row, column)


def _read_response(row: Row, column: str) -> str:
    """Return a ready-made response: a text, or the last assistant message of a chat. Other values are none."""
    if is_template(column) or column.startswith("="):
        return required_text(row, column)
    value = value_of(row, column)
    is_response = isinstance(value, str) or find_messages(value) is not None
    return (response_text(row, column, value) or "") if is_response else ""


def _read_images(row: Row, column: str, asked: Chat, folder: Path) -> tuple[bytes, ...]:
    """Return the images in the messages of a row, else those of its column."""
    value = asked.images or value_of(row, column)
    if value is None:
        return ()
    references = value if isinstance(value, list | tuple) else [value]
    images, errors = image_files.read_images(references, folder)
    if errors:
        raise row.error("; ".join(errors))
    return images


def _list_or_lines(row: Row, column: str) -> tuple[str, ...]:
    """Return the items of a list, which must not be empty texts, or the lines of a text that are not blank.

    A last line that gives the answer after #### is left out; so are calculations in <<…>> before it, as in GSM8K.
    """
    value = value_of(row, column)
    if isinstance(value, str):
        marked = take_answer(value)
        if marked and marked.mark == "####":
            value = _CALCULATION.sub("", marked.steps)
        lines = tuple(value.split("\n"))
    else:
        lines = Row(row.location, row.number, {column: value}).texts(column)
        if not all(line.strip() for line in lines):
            raise row.error(f"{column} has an empty item")
    return tuple(line.strip() for line in lines if line.strip())
