"""Where problems come from: files and generators, behind one sequence and one resumable iterator.

    jsonl:/path/to/file.jsonl      one problem a row; the file is the split
    chain:terms=7                  our own chain arithmetic, with demonstrations (see `procedural`), which have each
                                   step wrong, or stop early and guess, as often as noise=0.2 and haste=0.2 say
    reasoning_gym:chain_sum        any task of the reasoning-gym package

Sources are random-access sequences, and what stands at an index depends on the arguments of `open_source` alone: there
is nothing to save but a position.
"""

import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import grain
import numpy as np

from mig_jax.data import procedural

KINDS = ("math", "choice", "text", "reasoning_gym")
SPLITS = ("train", "test")

# A generator offers its source this many candidates for each index, one of which must be of the right split.
CANDIDATES = 64


class Problem(NamedTuple):
    """A question and what its answer is checked against.

    id: unique in its source; for the kind reasoning_gym `reasoning_gym:<task>:<seed>:<size>:<index>`, from which the
      task's own checker builds the problem anew.
    question: what the policy is asked.
    answer: the reference, whose likelihood is probed.
    kind: one of KINDS, how an answer is compared with the reference.
    demonstration: the steps and the answer of a written solution (its answer may be wrong), None when there is none.
    """

    id: str
    question: str
    answer: str
    kind: str = "math"
    demonstration: tuple[tuple[str, ...], str] | None = None


def open_source(name: str, *, split: str, seed: int, size: int) -> Sequence[Problem]:
    """Opens a source by its name.

    Generators hold out by construction: a hash of the question decides its split, so that no seed and no size can put
    a test question among the training ones. A jsonl file is one split as it stands; keep another file for the other.

    Args:
      name: `<source>:<rest>` as at the top of this file.
      split: train or test.
      seed: of a generator.
      size: problems to generate; a file is as long as it is.

    Raises:
      ValueError: the source, the split, an option or a row is wrong; all that is wrong is listed.
    """
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}{_did_you_mean(split, SPLITS)}; there are {', '.join(SPLITS)}")
    kind, _, rest = name.partition(":")
    if kind == "jsonl":
        return read_jsonl(Path(rest))
    if kind == "chain":
        return _chains(name, split=split, seed=seed, size=size, **_chain_options(name, rest))
    if kind == "reasoning_gym":
        return _reasoning_gym(rest, split=split, seed=seed, size=size)
    sources = ("jsonl", "chain", "reasoning_gym")
    raise ValueError(f"no source {kind!r}{_did_you_mean(kind, sources)}; there are {', '.join(sources)}")


def iterate(
    source: Sequence[Problem], *, seed: int, batch_size: int, host: int = 0, num_hosts: int = 1
) -> grain.DatasetIterator:
    """Endless batches of problems, in a new order every epoch.

    The shuffled stream is dealt to the hosts one problem at a time: the batches of all hosts together are the batch
    of one host that is `num_hosts` times as large, so the order of training does not depend on the number of hosts.

    Args:
      source: a random-access sequence.
      seed: of the order.
      batch_size: problems in a batch of this host.
      host: which host this is, from 0.
      num_hosts: how many there are.

    Returns:
      An iterator of `list[Problem]` whose `get_state()` is a small JSON-able dict; `set_state()` resumes exactly.

    Raises:
      ValueError: when the source is empty.
    """
    if not source:
        raise ValueError("the source holds no problem")
    stream = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    batches = stream[host::num_hosts].batch(batch_size, batch_fn=list)
    # No read-ahead: a batch takes milliseconds and a step seconds, and generators need not be thread-safe.
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)))


def read_jsonl(path: Path) -> tuple[Problem, ...]:
    """Reads problems from a file of JSON rows.

    A row has `question` and `answer`, and may have `id` (else file name and line number), `kind` (else math) and
    `steps`, a list of texts that makes it a demonstration. Other fields are left alone; blank lines are skipped.

    Raises:
      ValueError: with the line number and the fault of every bad row.
    """
    problems, faults = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            row, wrong = _read_row(line)
            faults += [f"line {number}: {fault}" for fault in wrong]
            if not wrong:
                problems.append(_row_problem(row, default_id=f"{path.name}:{number}"))
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
    if row.get("kind", "math") not in KINDS[:-1]:
        faults.append(f"kind {row['kind']!r} is not one of {', '.join(KINDS[:-1])}")
    steps = row.get("steps", [])
    if not (isinstance(steps, list) and all(isinstance(step, str) and step.strip() for step in steps)):
        faults.append("steps is not a list of texts")
    return row, faults


def _row_problem(row: dict, *, default_id: str) -> Problem:
    answer, steps = str(row["answer"]).strip(), tuple(row.get("steps", ()))
    return Problem(
        id=str(row.get("id", default_id)),
        question=str(row["question"]),
        answer=answer,
        kind=row.get("kind", "math"),
        demonstration=(steps, answer) if steps else None,
    )


def _is_text_or_number(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class _Generated(Sequence):
    """`size` problems, each made when it is asked for; the first one now, so that bad options show on opening."""

    size: int
    make: Callable[[int], Problem]

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"a source needs a size of at least 1, got {self.size}")
        self.make(0)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < self.size:
            raise IndexError(f"index {index} of a source of {self.size}")
        return self.make(index)


def _chains(
    name: str, *, split: str, seed: int, size: int, terms: int, noise: float, haste: float
) -> Sequence[Problem]:
    def make(index: int) -> Problem:
        rng = np.random.default_rng((seed, index))
        candidates = (procedural.chain(rng, terms=terms) for _ in itertools.count())
        chain = next(chain for chain in candidates if _split_of(chain.question) == split)
        demonstration = procedural.demonstration(rng, chain, noise=noise, haste=haste)
        return Problem(f"{name}:{split}:{seed}:{index}", chain.question, chain.answer, "math", demonstration)

    return _Generated(size, make)


def _reasoning_gym(task: str, *, split: str, seed: int, size: int) -> Sequence[Problem]:
    dataset = _open_task(task, seed=seed, size=size * CANDIDATES)

    def make(index: int) -> Problem:
        for candidate in range(index, size * CANDIDATES, size):
            entry = dataset[candidate]
            if _split_of(entry["question"]) == split:
                return _entry_problem(entry, id=f"reasoning_gym:{task}:{seed}:{size * CANDIDATES}:{candidate}")
        raise ValueError(f"reasoning_gym:{task} repeats itself: none of {CANDIDATES} questions is a {split} one")

    return _Generated(size, make)


def _open_task(task: str, *, seed: int, size: int) -> Sequence[dict]:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ValueError("a reasoning_gym source needs the package: pip install reasoning-gym") from error
    if task not in DATASETS:
        raise ValueError(f"reasoning_gym has no task {task!r}{_did_you_mean(task, DATASETS)}")
    return reasoning_gym.create_dataset(task, seed=seed, size=size)


def _entry_problem(entry: dict, *, id: str) -> Problem:
    if not entry["answer"]:
        raise ValueError(f"{id} has no reference answer to probe")
    question, answer = entry["question"], entry["answer"]
    is_number = re.fullmatch(r"-?\d+(\.\d+)?", answer) is not None
    # gsm_symbolic writes its solutions out: one step a line, then a line "#### <answer>".
    steps = tuple(line for line in entry["metadata"].get("answer_cot", "").split("\n") if not line.startswith("####"))
    demonstration = (steps, answer) if any(steps) else None
    return Problem(id, question, answer, "math" if is_number else "reasoning_gym", demonstration)


def _split_of(question: str) -> str:
    """A quarter of all questions is held out."""
    return "test" if hashlib.sha256(question.encode()).digest()[0] % 4 == 0 else "train"


def _chain_options(name: str, text: str) -> dict[str, int | float]:
    """`terms`, `noise` and `haste` from `terms=7,noise=0.25`; what is left out is 0: demonstrations are right."""
    types, faults = {"terms": int, "noise": float, "haste": float}, []
    options = {"noise": 0.0, "haste": 0.0}
    for item in filter(None, text.split(",")):
        key, _, value = item.partition("=")
        if key not in types:
            faults.append(f"no option {key!r}{_did_you_mean(key, types)}")
            continue
        try:
            options[key] = types[key](value)
        except ValueError:
            faults.append(f"{key}={value!r} is no {types[key].__name__}")
    if faults or "terms" not in options:
        raise ValueError(f"source {name!r}: " + "; ".join(faults or ["option terms is missing"]))
    return options


def _did_you_mean(word: str, known) -> str:
    close = difflib.get_close_matches(word, list(known), n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
