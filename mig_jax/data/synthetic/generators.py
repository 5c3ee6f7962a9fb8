"""Sources of generated problems: chain arithmetic, scenes of colored solids, and tasks of reasoning-gym.

The problem at an index depends on the arguments only. A hash of the question (and of what its image shows) decides the
split of a problem, so no seed or size can put a test question into the training split.
"""

import functools
import hashlib
import itertools
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mig_jax.data.options import Option, did_you_mean, read_options
from mig_jax.data.problem import Problem
from mig_jax.data.synthetic import chains, rendering, scenes
from mig_jax.errors import UserError

# Entries of a reasoning-gym task that are tried for each index until one is of the requested split.
MAX_CANDIDATES = 64


def _parse_range(text: str) -> tuple[int, int]:
    """Parse `3-6`, or `4` as `4-4`."""
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def _parse_names(text: str) -> tuple[str, ...]:
    return tuple(text.split("+"))


SOLUTION_OPTIONS = {
    "slip_prob": Option(float, "a float", 0.0),
    "early_guess_prob": Option(float, "a float", 0.0),
}
ASKED = ("digits", "last")
CHAIN_SOLUTION = (*SOLUTION_OPTIONS, "merge_prob")
CHAIN_OPTIONS = {
    "terms": Option(int, "an int", None),
    "asked": Option(lambda text: ASKED[ASKED.index(text)], "digits or last", "digits"),
    **SOLUTION_OPTIONS,
    "merge_prob": Option(float, "a float", 0.0),
}
SCENE_OPTIONS = {
    "objects": Option(_parse_range, "a number or range", None),
    "size": Option(int, "an int", 84),
    "colors": Option(int, "an int", 4),
    "kinds": Option(_parse_names, "a list", scenes.KINDS),
    **SOLUTION_OPTIONS,
}
OPTIONS = {"chain": CHAIN_OPTIONS, "scenes": SCENE_OPTIONS}


@dataclass(frozen=True)
class _GeneratedProblems(Sequence[Problem]):
    """`size` problems, each made on first access; the first is made at once, so that bad options fail on opening."""

    size: int
    make: Callable[[int], Problem]

    def __post_init__(self):
        if self.size < 1:
            raise UserError(f"a source needs a size of at least 1, got {self.size}")
        # Drawing an image takes milliseconds, and every epoch needs it again.
        object.__setattr__(self, "make", functools.cache(self.make))
        self.make(0)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Problem:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices
        if not 0 <= index < self.size:
            raise IndexError(f"index {index} is out of range for a source of {self.size} problems")
        return self.make(index)


def open_chains(name: str, options: str, *, split: str, seed: int, size: int) -> Sequence[Problem]:
    """Open chain arithmetic with solutions, see `chains`.

    Args:
      name: the full name of the source, used in ids and error messages.
      options: text of the options, see CHAIN_OPTIONS.
      split: "train" or "test".
      seed: of the generator.
      size: number of problems.

    Raises:
      UserError: an option is unknown, missing, cannot be parsed or is out of range.
    """
    o = read_options(name, options, CHAIN_OPTIONS)

    def make(index: int) -> Problem:
        rng = np.random.default_rng((seed, index))
        candidates = (chains.draw_chain(rng, terms=o["terms"]) for _ in itertools.count())
        chain = next(chain for chain in candidates if _split_of(chain.question) == split)
        steps, answer = chains.write_solution(rng, chain, **{name: o[name] for name in CHAIN_SOLUTION})
        is_last = o["asked"] == "last"
        return Problem(
            id=f"{name}:{split}:{seed}:{index}",
            question=chain.question.replace("digits", "digit") if is_last else chain.question,
            answer=chain.answer[-1] if is_last else chain.answer,
            solution=(steps, answer[-1] if is_last else answer),
            source="chain",
        )

    return _GeneratedProblems(size, make)


def open_scenes(name: str, options: str, *, split: str, seed: int, size: int) -> Sequence[Problem]:
    """Open images of colored solids with questions and solutions, see `scenes`.

    Args:
      name: the full name of the source, used in ids and error messages.
      options: text of the options, see SCENE_OPTIONS.
      split: "train" or "test".
      seed: of the generator.
      size: number of problems.

    Raises:
      UserError: an option is unknown, missing, cannot be parsed or is out of range.
    """
    o = read_options(name, options, SCENE_OPTIONS)
    scene_options = {key: value for key, value in o.items() if key not in SOLUTION_OPTIONS}
    solution_options = {key: o[key] for key in SOLUTION_OPTIONS}

    def make(index: int) -> Problem:
        rng = np.random.default_rng((seed, index))
        candidates = (scenes.draw_scene(rng, **scene_options) for _ in itertools.count())
        # The position of an object within its cell is not part of the hash: it does not make another problem.
        scene, question = next(
            (scene, question)
            for scene, question in candidates
            if _split_of(f"{question.text}\n{scene.description}") == split
        )
        return Problem(
            id=f"{name}:{split}:{seed}:{index}",
            question=question.text,
            answer=scenes.correct_answer(scene, question),
            kind="expression" if question.kind == "count" else "text",
            solution=scenes.write_solution(rng, scene, question, **solution_options),
            images=(rendering.to_png(rendering.render(scene)),),
            subject=question.kind,
            source="scenes",
        )

    return _GeneratedProblems(size, make)


def open_reasoning_gym(task: str, *, split: str, seed: int, size: int) -> Sequence[Problem]:
    """Open a task of the reasoning-gym package.

    Args:
      task: its name in reasoning-gym, such as "chain_sum".
      split: "train" or "test".
      seed: of the task.
      size: number of problems.

    Raises:
      UserError: the package is not installed, the task does not exist or has no reference answers, or it repeats so
        few questions that none is of the split.
    """
    n_entries = size * MAX_CANDIDATES
    dataset, lock = _open_task(task, seed=seed, size=n_entries), threading.Lock()

    def make(index: int) -> Problem:
        for candidate in range(index, n_entries, size):
            with lock:  # problems are read in threads, and not all tasks are thread-safe
                entry = dataset[candidate]
            if _split_of(entry["question"]) == split:
                return _entry_problem(entry, task, id_=f"reasoning_gym:{task}:{seed}:{n_entries}:{candidate}")
        raise UserError(f"reasoning_gym:{task} repeats its questions: none of {MAX_CANDIDATES} is of the {split} split")

    return _GeneratedProblems(size, make)


def _open_task(task: str, *, seed: int, size: int) -> Any:
    """Return a reasoning-gym dataset, which maps an index to an entry."""
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise UserError("a reasoning_gym source needs the package: pip install reasoning-gym") from error
    if task not in DATASETS:
        raise UserError(f"reasoning_gym has no task {task!r}{did_you_mean(task, DATASETS)}")
    return reasoning_gym.create_dataset(task, seed=seed, size=size)


def _entry_problem(entry: dict[str, Any], task: str, *, id_: str) -> Problem:
    """Convert an entry of a reasoning-gym dataset.

    Raises:
      UserError: the entry has no answer.
    """
    question, answer = entry["question"], entry["answer"]
    if not answer:
        raise UserError(f"{id_} has no reference answer to probe")
    is_number = re.fullmatch(r"-?\d+(\.\d+)?", answer) is not None
    # gsm_symbolic has written solutions: a line per step, then a line "#### <answer>".
    steps = tuple(line for line in entry["metadata"].get("answer_cot", "").split("\n") if not line.startswith("####"))
    return Problem(
        id=id_,
        question=question,
        answer=answer,
        kind="expression" if is_number else "reasoning_gym",
        solution=(steps, answer) if any(steps) else None,
        source=task,
    )


def _split_of(content: str) -> str:
    """Assign a quarter of all problems to the test split, by a hash of their content."""
    return "test" if hashlib.sha256(content.encode()).digest()[0] % 4 == 0 else "train"
