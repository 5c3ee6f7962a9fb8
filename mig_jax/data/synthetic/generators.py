"""Problems that are made: chain arithmetic, pictures of coloured solids, tasks of reasoning-gym.

What stands at an index depends on the arguments alone. Generators hold out by construction: a hash of the question, and
of what its picture shows, decides its split, so that no seed and no size can put a test question among the training
ones.
"""

import functools
import hashlib
import itertools
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mig_jax.data.options import did_you_mean, read_options
from mig_jax.data.problem import Problem
from mig_jax.data.synthetic import chains as procedural
from mig_jax.data.synthetic import rendering, scenes

# A generator offers its source this many candidates for each index, one of which must be of the right split.
CANDIDATES = 64


def _span(text: str) -> tuple[int, int]:
    """`3-6`, or `4` for `4-4`."""
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split("+"))


# How an option is read, what it should have been, and its value when it is left out; None: it must be given.
WRITER_OPTIONS = {
    "slip_prob": (float, "float", 0.0),
    "early_guess_prob": (float, "float", 0.0),
}  # demonstrations are right
CHAIN_OPTIONS = {"terms": (int, "int", None), **WRITER_OPTIONS}
SCENE_OPTIONS = {
    "objects": (_span, "number or range", None),
    "size": (int, "int", 84),
    "colors": (int, "int", 4),
    "kinds": (_names, "list", scenes.KINDS),
    **WRITER_OPTIONS,
}


OPTIONS = {"chain": CHAIN_OPTIONS, "scenes": SCENE_OPTIONS}


@dataclass(frozen=True)
class _Generated(Sequence):
    """`size` problems, each made when it is asked for; the first one now, so that bad options show on opening."""

    size: int
    make: Callable[[int], Problem]

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"a source needs a size of at least 1, got {self.size}")
        # Pictures take milliseconds to draw, and every epoch asks for them again.
        object.__setattr__(self, "make", functools.cache(self.make))
        self.make(0)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < self.size:
            raise IndexError(f"index {index} of a source of {self.size}")
        return self.make(index)


def chains(name: str, options: str, *, split: str, seed: int, size: int) -> Sequence[Problem]:
    """Chain arithmetic with written solutions, see `procedural`; the options are those of CHAIN_OPTIONS.

    Raises:
      ValueError: an option is unknown, missing or cannot be read.
    """
    o = read_options(name, options, CHAIN_OPTIONS)

    def make(index: int) -> Problem:
        rng = np.random.default_rng((seed, index))
        candidates = (procedural.chain(rng, terms=o["terms"]) for _ in itertools.count())
        chain = next(chain for chain in candidates if _split_of(chain.question) == split)
        solution = procedural.solution(rng, chain, slip_prob=o["slip_prob"], early_guess_prob=o["early_guess_prob"])
        return Problem(
            f"{name}:{split}:{seed}:{index}", chain.question, chain.answer, "expression", solution, source="chain"
        )

    return _Generated(size, make)


def scene_questions(name: str, options: str, *, split: str, seed: int, size: int) -> Sequence[Problem]:
    """Pictures of coloured solids with questions and written solutions, see `scenes`; options: SCENE_OPTIONS.

    Raises:
      ValueError: an option is unknown, missing or cannot be read.
    """
    o = read_options(name, options, SCENE_OPTIONS)
    drawn = {key: value for key, value in o.items() if key not in WRITER_OPTIONS}
    written = {key: o[key] for key in WRITER_OPTIONS}

    def make(index: int) -> Problem:
        rng = np.random.default_rng((seed, index))
        candidates = (scenes.draw(rng, **drawn) for _ in itertools.count())
        # Where exactly a thing stands in its cell makes no new problem.
        scene, question = next(c for c in candidates if _split_of(f"{c[1].text}\n{c[0].description}") == split)
        answer, solution = scenes.answer(scene, question), scenes.solution(rng, scene, question, **written)
        kind = "expression" if question.kind == "count" else "text"
        image = rendering.to_png(rendering.render(scene))
        return Problem(
            f"{name}:{split}:{seed}:{index}",
            question.text,
            answer,
            kind,
            solution,
            (image,),
            subject=question.kind,
            source="scenes",
        )

    return _Generated(size, make)


def reasoning_gym_task(task: str, *, split: str, seed: int, size: int) -> Sequence[Problem]:
    """A task of the reasoning-gym package.

    Raises:
      ValueError: the package is not installed, there is no such task, or it never has an answer.
    """
    dataset, lock = _open_task(task, seed=seed, size=size * CANDIDATES), threading.Lock()

    def make(index: int) -> Problem:
        for candidate in range(index, size * CANDIDATES, size):
            with lock:  # batches are read ahead by threads, and not all tasks expect that
                entry = dataset[candidate]
            if _split_of(entry["question"]) == split:
                return _entry_problem(entry, task, id=f"reasoning_gym:{task}:{seed}:{size * CANDIDATES}:{candidate}")
        raise ValueError(f"reasoning_gym:{task} repeats itself: none of {CANDIDATES} questions is a {split} one")

    return _Generated(size, make)


def _open_task(task: str, *, seed: int, size: int) -> Sequence[dict]:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise ValueError("a reasoning_gym source needs the package: pip install reasoning-gym") from error
    if task not in DATASETS:
        raise ValueError(f"reasoning_gym has no task {task!r}{did_you_mean(task, DATASETS)}")
    return reasoning_gym.create_dataset(task, seed=seed, size=size)


def _entry_problem(entry: dict, task: str, *, id: str) -> Problem:
    if not entry["answer"]:
        raise ValueError(f"{id} has no reference answer to probe")
    question, answer = entry["question"], entry["answer"]
    is_number = re.fullmatch(r"-?\d+(\.\d+)?", answer) is not None
    # gsm_symbolic writes its solutions out: one step a line, then a line "#### <answer>".
    steps = tuple(line for line in entry["metadata"].get("answer_cot", "").split("\n") if not line.startswith("####"))
    solution = (steps, answer) if any(steps) else None
    return Problem(id, question, answer, "expression" if is_number else "reasoning_gym", solution, source=task)


def _split_of(question: str) -> str:
    """A quarter of all questions is held out."""
    return "test" if hashlib.sha256(question.encode()).digest()[0] % 4 == 0 else "train"
