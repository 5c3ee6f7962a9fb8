"""Scored responses, one JSON object a line: what `score` reads and writes, and what pictures are drawn from.

In memory a transcript holds the bytes of its images; in a file their names, beside it in `images/`. They are named by
their content, so that all samples of a question share one.
"""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from mig_jax.data import image_files
from mig_jax.data.rows import format_errors
from mig_jax.text.answers.verifier import KINDS


@dataclasses.dataclass(frozen=True)
class Transcript:
    """One response and what its steps have earned. Numbers are in nats; empty where nothing was probed.

    question, response, answer: texts; `answer` is the reference.
    kind: how an answer is compared with the reference, one of `verifier.KINDS`.
    is_correct: of the answer in the answer block; None when that was not decided: the check timed out, or was not made.
    is_correct_lenient: of the answer wherever it stands, see `lenient.extract_lenient_answer`; None as above.
    format_error: why the response is not well formed; "" when it is.
    steps: `[K]` text of each step that was probed.
    ell_k: `[K+1]` log-likelihood of the answer before the first step and after each.
    watermark_k: `[K+1]` the best so far.
    gain_k: `[K]` what each step has earned.
    images: what the question shows, as the bytes of image files.
    id, choices, level, subject, source: those of the `Problem`.
    sampling: "greedy" for the likeliest completion, "sampled" for one that was drawn; "" where nobody knows.
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

    @property
    def is_correct_strict(self) -> bool | None:
        """Right, and in the format that was asked for."""
        return self.is_correct if not self.format_error or self.is_correct is None else False


def write_transcripts(transcripts: Iterable[Transcript], path: str) -> None:
    """Write a file of transcripts, complete or not at all, and their images beside it.

    Raises:
      ValueError: what a transcript has for an image is none.
    """
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    name_of = functools.cache(lambda image: _write_image(image, folder))  # samples of a question share their images
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        for transcript in transcripts:
            names = [name_of(image) for image in transcript.images]
            file.write(json.dumps(dataclasses.asdict(transcript) | {"images": names}) + "\n")
    os.replace(path + ".tmp", path)


def read_transcripts(path: str) -> list[Transcript]:
    """Read rows that have at least question, response and answer.

    Images are names of files, absolute or relative to this one's folder, or base64 data URIs.

    Raises:
      ValueError: rows are none, or their images are; the first faults are listed with their lines.
    """
    transcripts, faults = [], []
    # Samples of a question share their images, in memory, too.
    read_images = functools.cache(lambda names: image_files.read_images(json.loads(names), Path(path).parent))
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                row, wrong = _parse_row(line, read_images)
                faults += [f"line {number}: {fault}" for fault in wrong]
                if row is not None:
                    transcripts.append(row)
    if faults:
        raise ValueError(format_errors(f"{path} is not a file of transcripts", faults))
    return transcripts


def _write_image(image: bytes, folder: Path) -> str:
    """The name of the image's file from `folder`; written unless it is there."""
    name = f"images/{hashlib.sha256(image).hexdigest()[:16]}.{image_files.image_format(image)}"
    if not (folder / name).exists():
        (folder / "images").mkdir(exist_ok=True)
        (folder / f"{name}.tmp").write_bytes(image)
        os.replace(folder / f"{name}.tmp", folder / name)
    return name


def _parse_row(line: str, read_images: Callable) -> tuple[Transcript | None, list[str]]:
    """The transcript of a row, or what is wrong with it. Other fields than a transcript's are left alone."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return None, [f"not JSON ({error})"]
    if not isinstance(row, dict):
        return None, ["not an object"]
    if isinstance(row.get("answer"), int | float):
        row["answer"] = str(row["answer"])
    wrong = [name for name in ("question", "response", "answer") if not isinstance(row.get(name), str)]
    # A response may be empty: policies say such things.
    wrong += [name for name in ("question", "answer") if isinstance(row.get(name), str) and not row[name].strip()]
    faults = [f"no text under {', '.join(wrong)}"] if wrong else []
    if row.get("kind", "expression") not in KINDS:
        faults.append(f"kind {row['kind']!r} is not one of {', '.join(KINDS)}")
    images, missing = read_images(json.dumps(row.get("images", [])))
    if faults or missing:
        return None, faults + missing
    known = {field.name for field in dataclasses.fields(Transcript)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items() if name in known}
    return Transcript(**values | {"images": images}), []
