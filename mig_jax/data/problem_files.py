"""Files of problems: one JSON object a line."""

import json
from pathlib import Path

from mig_jax.data import image_files
from mig_jax.data.problem import KINDS, Problem

def read_jsonl(path: Path) -> tuple[Problem, ...]:
    """Reads problems from a file of JSON rows.

    A row has `question` and `answer`, and may have `id` (else file name and line number), `kind` (else math), `steps`,
    a list of texts that makes it a demonstration, and `images`, a list of files (relative to the folder of this one) or
    data URIs. Other fields are left alone; blank lines are skipped. All images are read and checked now.

    Raises:
      ValueError: with the line number and the fault of every bad row.
    """
    problems, faults = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            row, wrong = _read_row(line)
            images, missing = image_files.read_images(row.get("images", ()), path.parent)
            faults += [f"line {number}: {fault}" for fault in wrong + missing]
            if not wrong + missing:
                problems.append(_row_problem(row, images, default_id=f"{path.name}:{number}"))
    if faults:
        raise ValueError(f"{len(faults)} faults in {path}:\n  " + "\n  ".join(faults))
    return tuple(problems)


def _read_row(line: str) -> tuple[dict, list[str]]:
    """A row and what is wrong with it."""
    try:
        row = json.loads(line)
    except ValueError as error:
        return {}, [f"not JSON ({error})"]
    if not isinstance(row, dict):
        return {}, ["not a JSON object"]
    faults = [f"{field} is missing" for field in ("question", "answer") if field not in row]
    for field in ("id", "question", "answer"):
        if field in row and not (_is_text_or_number(row[field]) and str(row[field]).strip()):
            faults.append(f"{field} is neither text nor a number, or empty")
    # The last kind needs an id from which its checker can build the problem.
    if row.get("kind", "expression") not in KINDS[:-1]:
        faults.append(f"kind {row['kind']!r} is not one of {', '.join(KINDS[:-1])}")
    steps = row.get("steps", [])
    if not (isinstance(steps, list) and all(isinstance(step, str) and step.strip() for step in steps)):
        faults.append("steps is not a list of texts")
    return row, faults


def _row_problem(row: dict, images: tuple[bytes, ...], *, default_id: str) -> Problem:
    answer, steps = str(row["answer"]).strip(), tuple(row.get("steps", ()))
    return Problem(
        id=str(row.get("id", default_id)),
        question=str(row["question"]),
        answer=answer,
        kind=row.get("kind", "expression"),
        demonstration=(steps, answer) if steps else None,
        images=images,
    )


def _is_text_or_number(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
