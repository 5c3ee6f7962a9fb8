"""Where problems come from: files and generators, behind one sequence and one resumable iterator.

    jsonl:/path/to/file.jsonl      one problem a row; the file is the split
    chain:terms=7                  our own chain arithmetic, with demonstrations (see `procedural`), which have each
                                   step wrong, or stop early and guess, as often as noise=0.2 and haste=0.2 say
    scenes:objects=4,size=84       pictures of coloured solids with questions and demonstrations (see `scenes`); also
                                   objects=3-6, colors=4, kinds=count+compare+exist, noise=0.1, haste=0.1
    reasoning_gym:chain_sum        any task of the reasoning-gym package

Sources are random-access sequences, and what stands at an index depends on the arguments of `open_source` alone: there
is nothing to save but a position.
"""

import difflib
import hashlib
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grain
import numpy as np

from mig_jax.data import procedural, rendering, scenes
from mig_jax.data.problem import Problem
from mig_jax.data.problem_files import read_jsonl

SPLITS = ("train", "test")

# A generator offers its source this many candidates for each index, one of which must be of the right split.
CANDIDATES = 64


def open_source(name: str, *, split: str, seed: int, size: int) -> Sequence[Problem]:
    """Opens a source by its name.

    Generators hold out by construction: a hash of the question, and of what its picture shows, decides its split, so
    that no seed and no size can put a test question among the training ones. A jsonl file is one split as it stands;
    keep another file for the other.

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
        return _chains(name, split=split, seed=seed, size=size, **_read_options(name, rest, CHAIN_OPTIONS))
    if kind == "scenes":
        return _scenes(name, split=split, seed=seed, size=size, options=_read_options(name, rest, SCENE_OPTIONS))
    if kind == "reasoning_gym":
        return _reasoning_gym(rest, split=split, seed=seed, size=size)
    sources = ("jsonl", "chain", "scenes", "reasoning_gym")
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
        return Problem(f"{name}:{split}:{seed}:{index}", chain.question, chain.answer, "expression", demonstration)

    return _Generated(size, make)


def _scenes(name: str, *, split: str, seed: int, size: int, options: dict) -> Sequence[Problem]:
    drawn = {key: value for key, value in options.items() if key not in WRITER_OPTIONS}
    written = {key: options[key] for key in WRITER_OPTIONS}

    def make(index: int) -> Problem:
        rng = np.random.default_rng((seed, index))
        candidates = (scenes.draw(rng, **drawn) for _ in itertools.count())
        # Where exactly a thing stands in its cell makes no new problem.
        scene, question = next(c for c in candidates if _split_of(f"{c[1].text}\n{c[0].description}") == split)
        answer, demonstration = scenes.answer(scene, question), scenes.demonstration(rng, scene, question, **written)
        kind = "expression" if question.kind == "count" else "text"
        image = rendering.to_png(rendering.render(scene))
        return Problem(f"{name}:{split}:{seed}:{index}", question.text, answer, kind, demonstration, (image,))

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
    return Problem(id, question, answer, "expression" if is_number else "reasoning_gym", demonstration)


def _split_of(question: str) -> str:
    """A quarter of all questions is held out."""
    return "test" if hashlib.sha256(question.encode()).digest()[0] % 4 == 0 else "train"


def _span(text: str) -> tuple[int, int]:
    """`3-6`, or `4` for `4-4`."""
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split("+"))


# How an option is read, what it should have been, and its value when it is left out; None: it must be given.
WRITER_OPTIONS = {"noise": (float, "float", 0.0), "haste": (float, "float", 0.0)}  # demonstrations are right
CHAIN_OPTIONS = {"terms": (int, "int", None), **WRITER_OPTIONS}
SCENE_OPTIONS = {
    "objects": (_span, "number or range", None),
    "size": (int, "int", 84),
    "colors": (int, "int", 4),
    "kinds": (_names, "list", scenes.KINDS),
    **WRITER_OPTIONS,
}


def _read_options(name: str, text: str, known: dict[str, tuple]) -> dict:
    """The options of `terms=7,noise=0.25`."""
    options, faults = {key: default for key, (_, _, default) in known.items()}, []
    for item in filter(None, text.split(",")):
        key, _, value = item.partition("=")
        if key not in known:
            faults.append(f"no option {key!r}{_did_you_mean(key, known)}")
            continue
        read, kind, _ = known[key]
        try:
            options[key] = read(value)
        except ValueError:
            faults.append(f"{key}={value!r} is no {kind}")
    missing = [f"option {key} is missing" for key, value in options.items() if value is None]
    if faults or missing:
        raise ValueError(f"source {name!r}: " + "; ".join(faults or missing))
    return options


def _did_you_mean(word: str, known) -> str:
    close = difflib.get_close_matches(word, list(known), n=3)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
