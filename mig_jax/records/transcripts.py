"""Transcripts: graded and scored responses, one JSON object per line.

`mig-jax score` reads and writes these files; pages and plots are drawn from them. In memory a transcript holds the
bytes of its images. A file holds their names in the folder `images/` next to it. The names are content hashes, so all
samples of a question share one file.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TextIO

from mig_jax.data import image_files
from mig_jax.data.problem_rows import CHOICE_KINDS
from mig_jax.data.rows import format_errors, json_type
from mig_jax.errors import UserError
from mig_jax.parts import is_own, row_part_error
from mig_jax.records.atomic_file import replace_file
from mig_jax.text.answers.verifier import KINDS

# Of earlier turns.
ROLES = ("system", "user", "assistant", "tool", "function")


@dataclasses.dataclass(frozen=True)
class Transcript:
    """One response with its verdicts and the gains of its steps.

    ℓ, the watermark and gains are in nats; they are empty if the response was not scored.

    question, response: text of each.
    answer: the reference answer.
    kind: how an answer is compared with the reference answer, one of `verifier.KINDS`.
    is_correct: whether the answer in the answer block is correct; None if undecided: not graded, or grading timed out.
    is_correct_lenient: the same for the answer wherever it is, see `lenient.extract_lenient_answer`.
    answered: the answer in its answer block or box, "" if it has none; None if it was not read.
    answered_lenient: the same for the answer wherever it is.
    rewards: outcome rewards by name, without their weights, None for no part in the group; {} outside of training.
    format_error: why the response is malformed; "" if it is well formed.
    steps: `[K]` text of each scored step.
    ell_k: `[K+1]` log-likelihood ℓ of the reference answer before the first step and after each step.
    watermark_k: `[K+1]` running maximum of `ell_k`.
    gain_k: `[K]` gain of each step.
    images: the question's images, as bytes of image files.
    id, choices, level, subject, source, history: those of the `Problem`.
    sampling: "greedy", "sampled", or "" if unknown.
    """

    question: str
    response: str
    answer: str
    kind: str = "expression"
    is_correct: bool | None = None
    is_correct_lenient: bool | None = None
    format_error: str = ""
    steps: tuple[str, ...] = ()
    ell_k: tuple[float, ...] = ()
    watermark_k: tuple[float, ...] = ()
    gain_k: tuple[float, ...] = ()
    images: tuple[bytes, ...] = ()
    id: str = ""
    choices: tuple[str, ...] = ()
    level: str = ""
    subject: str = ""
    source: str = ""
    sampling: str = ""
    history: tuple[tuple[str, str], ...] = ()
    answered: str | None = None
    answered_lenient: str | None = None
    rewards: Mapping[str, float | None] = dataclasses.field(default_factory=dict)

    @property
    def is_correct_strict(self) -> bool | None:
        """Return whether the response is well formed and correct; None if undecided."""
        return self.is_correct if not self.format_error or self.is_correct is None else False

    def _repr_html_(self) -> str:
        """Return the response with the gain of each step as HTML, for notebooks."""
        from mig_jax.records import gains_html  # which imports this module

        return gains_html.gains_fragment([self])


def write_transcripts(transcripts: Iterable[Transcript], path: str) -> None:
    """Write a file of transcripts atomically, and their images next to it.

    Raises:
      UserError: an image is damaged or not an image, or the file cannot be written.
    """
    with replace_file(path) as file:
        TranscriptWriter(file, Path(path).parent).write(transcripts)


class TranscriptWriter:
    """Writes transcripts to an open file; what is written survives when the process is killed.

    Args:
      file: open for writing.
      folder: the folder of the file, which receives the folder `images/`.
    """

    def __init__(self, file: TextIO, folder: Path):
        self._file = file
        # Samples of a question share their images.
        self._write_image = functools.cache(lambda image: _write_image(image, folder))

    def write(self, transcripts: Iterable[Transcript]) -> None:
        """Write some transcripts."""
        for transcript in transcripts:
            names = [self._write_image(image) for image in transcript.images]
            self._file.write(json.dumps(dataclasses.asdict(transcript) | {"images": names}) + "\n")
        self._file.flush()


def read_transcripts(path: str, *, own_kind: str = "") -> list[Transcript]:
    """Read a file whose rows have at least question, response and answer; unknown fields are ignored.

    Images are file names, absolute or relative to the file's folder, or base64 data URIs.

    Args:
      path: of the file.
      own_kind: the kind of the user's own that rows may have, which names code; "" for none.

    Raises:
      UserError: the file cannot be read, or rows or images are wrong; lists them with their lines.
    """
    transcripts, errors = [], []
    # Samples of a question share their images in memory, too.
    read_once = functools.cache(lambda names: image_files.read_images(json.loads(names), Path(path).parent))
    for number, line in _read_lines(path):
        transcript, row_errors = _parse_line(line, lambda images: read_once(json.dumps(images)), own_kind)
        errors += [f"line {number}: {error}" for error in row_errors]
        if transcript is not None:
            transcripts.append(transcript)
    if errors:
        raise UserError(format_errors(f"{path} is not a file of transcripts", errors))
    return transcripts


def make_transcripts(
    rows: Iterable[Transcript | Mapping[str, Any]], folder: str = "", *, own_kind: str = ""
) -> list[Transcript]:
    """Return transcripts of rows in memory.

    Args:
      rows: transcripts, or mappings with the fields of a row of a file; their images may also be bytes of image files.
      folder: what the file names of images are relative to.
      own_kind: the kind of the user's own that mappings may have, which names code; "" for none.

    Raises:
      UserError: rows are wrong; lists them with their numbers, from 1.
    """
    transcripts, errors = [], []
    read_images = functools.partial(image_files.read_images, folder=Path(folder))
    for number, row in enumerate(rows, start=1):
        is_read = isinstance(row, Transcript)
        transcript, row_errors = (row, []) if is_read else _parse_row(row, read_images, own_kind)
        errors += [f"row {number}: {error}" for error in row_errors]
        if transcript is not None:
            transcripts.append(transcript)
    if errors:
        raise UserError(format_errors("these rows are not transcripts", errors))
    return transcripts


def _write_image(image: bytes, folder: Path) -> str:
    """Write an image unless it exists, and return its name relative to `folder`."""
    name = f"images/{hashlib.sha256(image).hexdigest()[:16]}.{image_files.image_format(image)}"
    if not (folder / name).exists():
        (folder / "images").mkdir(exist_ok=True)
        (folder / f"{name}.tmp").write_bytes(image)
        os.replace(folder / f"{name}.tmp", folder / name)
    return name


def _read_lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield the non-empty lines of a file with their numbers, from 1."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path}: not UTF-8 ({error}); save the file as UTF-8") from error


def _parse_line(line: str, read_images: Callable, own_kind: str) -> tuple[Transcript | None, list[str]]:
    """Return the transcript of a line, or None and its errors."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, [f"not JSON ({error})"]
    return _parse_row(row, read_images, own_kind)


def _parse_row(row: Any, read_images: Callable, own_kind: str) -> tuple[Transcript | None, list[str]]:
    """Return the transcript of a row, or None and its errors."""
    if not isinstance(row, Mapping):
        return None, ["not an object"]
    row = dict(row)
    if isinstance(row.get("answer"), int | float):
        row["answer"] = str(row["answer"])
    images, errors = read_images(row.get("images", []))
    errors = _find_row_errors(row, own_kind) + errors
    if errors:
        return None, errors
    known = {field.name for field in dataclasses.fields(Transcript)}
    values: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in row.items() if name in known}
    return Transcript(**values | {"images": images, "history": tuple(map(tuple, row.get("history") or ()))}), []


def _find_row_errors(row: dict[str, Any], own_kind: str) -> list[str]:
    missing = [name for name in ("question", "response", "answer") if not isinstance(row.get(name), str)]
    # A response may be empty: policies do generate those.
    missing += [name for name in ("question", "answer") if isinstance(row.get(name), str) and not row[name].strip()]
    errors = [f"no text in {', '.join(missing)}"] if missing else []
    errors += [
        f"{name} is not a list of texts"
        for name in ("choices", "steps")
        if not isinstance(row.get(name, []), list | tuple)
        or not all(isinstance(text, str) for text in row.get(name, []))
    ]
    errors += [
        f"{name} is {json_type(row[name])}, not {meaning}; give columns of another meaning another name"
        for name, (is_right, meaning) in _OWN_FIELDS.items()
        if row.get(name) is not None and not is_right(row[name])
    ]
    kind = row.get("kind", "expression")
    if not errors and kind in CHOICE_KINDS and row.get("choices"):
        letters = tuple(ascii_uppercase[: len(row["choices"])])
        if row["answer"].strip() not in letters:
            errors.append(f"answer {row['answer']!r} is not the letter of a choice: {', '.join(letters)}")
    if kind not in (*KINDS, own_kind):
        is_code = isinstance(kind, str) and is_own(kind)
        errors.append(row_part_error("kind", kind) if is_code else f"kind {kind!r} is not one of {', '.join(KINDS)}")
    return errors


def _is_history(value: Any) -> bool:
    """Return whether a value is a list of pairs of role and text; pairs of texts are not."""
    return isinstance(value, list | tuple) and all(
        isinstance(turn, list | tuple) and len(turn) == 2 and turn[0] in ROLES and isinstance(turn[1], str)
        for turn in value
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_number, value))


def _are_rewards(value: Any) -> bool:
    return isinstance(value, Mapping) and all(x is None or _is_number(x) for x in value.values())


_TEXT = (lambda value: isinstance(value, str), "a text")
_VERDICT = (lambda value: isinstance(value, bool), "true, false or null")
_NUMBERS = (_are_numbers, "a list of numbers")
# Fields that a row has only if it was written here: a function that tells whether a value is right, and what it is.
_OWN_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "is_correct": _VERDICT,
    "is_correct_lenient": _VERDICT,
    "answered": _TEXT,
    "answered_lenient": _TEXT,
    "format_error": _TEXT,
    "sampling": _TEXT,
    "ell_k": _NUMBERS,
    "watermark_k": _NUMBERS,
    "gain_k": _NUMBERS,
    "rewards": (_are_rewards, "an object of numbers"),
    "history": (_is_history, f"a list of pairs of role ({', '.join(ROLES)}) and text"),
}
