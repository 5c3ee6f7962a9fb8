"""Scored responses, one JSON object a line: what `score` reads and writes, and what pictures are drawn from."""

import dataclasses
import json
import os
from collections.abc import Iterable

from mig_jax.text.verifier import KINDS


@dataclasses.dataclass(frozen=True)
class Transcript:
    """One response and what its steps have earned. Numbers are in nats; empty where nothing was probed.

    question, response, answer: texts; `answer` is the reference.
    kind: how an answer is compared with the reference: math, choice or text.
    is_correct: None when it was not decided (the check timed out, or there was none).
    problem: why the response is not well formed; "" when it is.
    steps: `[K]` text of each step that was probed.
    ell_k: `[K+1]` log-likelihood of the answer before the first step and after each.
    watermark_k: `[K+1]` the best so far.
    gain_k: `[K]` what each step has earned.
    """

    question: str
    response: str
    answer: str
    kind: str = "math"
    is_correct: bool | None = None
    problem: str = ""
    steps: tuple[str, ...] = ()
    ell_k: tuple[float, ...] = ()
    watermark_k: tuple[float, ...] = ()
    gain_k: tuple[float, ...] = ()


def write_transcripts(transcripts: Iterable[Transcript], path: str) -> None:
    """Write a file of transcripts; complete or not at all."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(dataclasses.asdict(t)) + "\n" for t in transcripts)
    os.replace(path + ".tmp", path)


def read_transcripts(path: str) -> list[Transcript]:
    """Read rows that have at least question, response and answer.

    Raises:
      ValueError: every row that is not one, with its line number and what is wrong.
    """
    transcripts, faults = [], []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                row, fault = _parse_row(line)
                if fault:
                    faults.append(f"line {number}: {fault}")
                else:
                    transcripts.append(row)
    if faults:
        raise ValueError(f"{path} is not a file of transcripts:\n  " + "\n  ".join(faults))
    return transcripts


def _parse_row(line: str) -> tuple[Transcript | None, str]:
    """The transcript of a row, or what is wrong with it. Other fields than a transcript's are left alone."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return None, f"not JSON ({error})"
    if not isinstance(row, dict):
        return None, "not an object"
    if isinstance(row.get("answer"), int | float):
        row["answer"] = str(row["answer"])
    wrong = [name for name in ("question", "response", "answer") if not isinstance(row.get(name), str)]
    # A response may be empty: policies say such things.
    wrong += [name for name in ("question", "answer") if isinstance(row.get(name), str) and not row[name].strip()]
    if wrong:
        return None, f"no text under {', '.join(wrong)}"
    if row.get("kind", "math") not in KINDS:
        return None, f"kind {row['kind']!r} is not one of {', '.join(KINDS)}"
    known = {field.name for field in dataclasses.fields(Transcript)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items() if name in known}
    return Transcript(**values), ""
