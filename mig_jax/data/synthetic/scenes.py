"""Scenes of colored solids in the style of CLEVR: generated questions with step-by-step solutions.

    How many red things?                              0, 1, 2 …
    More cubes or balls?                              cubes, balls or same
    Is there a cone left of the blue ball?            yes or no

A scene is a square grid of cells with at most one object per cell. A solution has one step per column, from left to
right. A step lists the objects of the column from top to bottom, then the partial answer for all columns so far: the
count, both counts, or yes or no.

    ### Step 1: red cube, green ball: 1
    ### Step 2: none: 1
    ### Step 3: red cone: 2

Why columns: each step needs another part of the image and can go wrong on its own, and left and right follow from the
order of the steps. Why a cell is 28 pixels wide: that is one image token in Qwen2.5-VL, so tiny models can learn to
see.

Question and answer are drawn first, then a scene that fits them. All counts from none to all are equally likely, as are
the three outcomes of a comparison, and yes and no. A question alone does not help to predict its answer.

The steps take at most 13 characters per object and 17 per column.

Reference for CLEVR: arXiv 1612.06890.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from mig_jax.data.options import check_probabilities
from mig_jax.errors import UserError

CELL = 28  # pixels
COLORS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("cube", "ball", "cone")
KINDS = ("count", "compare", "exist")
RADII = (8.5, 10.5)  # pixels: small and large
EXTENT = 1.2  # radii from the center of an object to the edge of its drawing, shadow included

T = TypeVar("T")


class SceneObject(NamedTuple):
    """A solid with its cell, and with the position of its center in pixels from the upper left corner."""

    color: str
    shape: str
    column: int
    row: int = 0
    x: float = 0.0
    y: float = 0.0
    radius: float = 0.0


class Scene(NamedTuple):
    """A square image.

    size: side length in pixels.
    palette: the colors that objects of this scene can have.
    background: brightness; 1 is white.
    objects: in reading order, by column, then by row.
    """

    size: int
    palette: tuple[str, ...]
    background: float
    objects: tuple[SceneObject, ...]

    @property
    def description(self) -> str:
        """Color and shape of the object in each cell: all that a question can ask about, without pixel positions."""
        return "; ".join(f"{o.column},{o.row}: {o.color} {o.shape}" for o in self.objects)


class Question(NamedTuple):
    """A question about a scene.

    kind: one of KINDS.
    words: the colors or shapes that are asked for; two for a comparison, else one.
    side: "left" or "right" of the anchor, for the kind exist.
    anchor: color and shape of the reference object, which is unique in its scene, for the kind exist.
    """

    kind: str
    words: tuple[str, ...]
    side: str = ""
    anchor: tuple[str, str] = ("", "")

    @property
    def text(self) -> str:
        word, last = self.words[0], self.words[-1]
        is_shape = word in SHAPES
        if self.kind == "count":
            return f"How many {word}s?" if is_shape else f"How many {word} things?"
        if self.kind == "compare":
            return f"More {word}s or {last}s?" if is_shape else f"More {word} or {last} things?"
        target = word if is_shape else f"{word} thing"
        return f"Is there a {target} {self.side} of the {' '.join(self.anchor)}?"


def draw_scene(
    rng: np.random.Generator, *, objects: tuple[int, int], size: int, colors: int, kinds: Sequence[str]
) -> tuple[Scene, Question]:
    """Draw a question, and a scene to ask it about.

    Args:
      rng: the only source of randomness.
      objects: the fewest and the most objects in a scene, at least 2 and at most the number of cells.
      size: side length of the image in pixels: 56, 84 or 112, which is two to four columns and as many steps.
      colors: how many of COLORS are used, at least 3.
      kinds: some of KINDS, equally likely.

    Raises:
      UserError: arguments are out of range; all of them are listed.
    """
    _check_options(objects, size, colors, kinds)
    n_columns, palette = size // CELL, COLORS[:colors]
    n_objects = int(rng.integers(objects[0], objects[1] + 1))
    question, in_cells = _DRAW_FNS[_choose(rng, kinds)](rng, n_objects, n_columns, palette)
    background = round(float(rng.uniform(0.86, 0.97)), 3)
    return Scene(size, palette, background, tuple(_place_in_cell(rng, item) for item in in_cells)), question


def partial_answer(objects: Sequence[SceneObject], question: Question) -> str:
    """Return what these objects imply for the question: a count `2`, both counts `1-2`, or `yes` or `no`."""
    counts = [sum(_matches(item, word) for item in objects) for word in question.words]
    if question.kind != "exist":
        return "-".join(map(str, counts))
    anchor_columns = [item.column for item in objects if (item.color, item.shape) == question.anchor]
    target_columns = [item.column for item in objects if _matches(item, question.words[0])]
    sign = 1 if question.side == "left" else -1
    return "yes" if any((a - t) * sign > 0 for a in anchor_columns for t in target_columns) else "no"


def final_answer(partial: str, question: Question) -> str:
    """Convert the partial answer for the whole scene to the answer of the question."""
    if question.kind != "compare":
        return partial
    first, second = map(int, partial.split("-"))
    word = question.words[0 if first > second else 1]
    return "same" if first == second else f"{word}s" if word in SHAPES else word


def correct_answer(scene: Scene, question: Question) -> str:
    """Return the correct answer."""
    return final_answer(partial_answer(scene.objects, question), question)


def write_solution(
    rng: np.random.Generator, scene: Scene, question: Question, *, slip_prob: float, early_guess_prob: float
) -> tuple[tuple[str, ...], str]:
    """Return the steps and the answer of a solution with random slips and early guesses.

    A slip misreads one object of a column, omits it, or adds one to an empty column. Misreadings that change the
    partial answer are preferred. Later steps and the answer use the written objects.

    An early guess drops the last steps, but never the first one, and guesses color and shape of the remaining objects.
    A model trained on such solutions learns to predict the answer after any number of steps, as probes require.

    Args:
      rng: the only source of randomness.
      scene: the scene.
      question: the question to solve.
      slip_prob: probability of a slip, independent for each step.
      early_guess_prob: probability of an early guess.

    Raises:
      UserError: `slip_prob` or `early_guess_prob` is outside [0, 1].
    """
    check_probabilities(slip_prob=slip_prob, early_guess_prob=early_guess_prob)
    n_columns = scene.size // CELL
    n_written = int(rng.integers(1, n_columns)) if rng.random() < early_guess_prob else n_columns
    written: list[SceneObject] = []
    steps = []
    for column in range(n_written):
        read = tuple(item for item in scene.objects if item.column == column)
        if rng.random() < slip_prob:
            misreadings = _misreadings(read, column, scene.palette)
            correct = partial_answer([*written, *read], question)
            harmful = [wrong for wrong in misreadings if partial_answer([*written, *wrong], question) != correct]
            read = _choose(rng, harmful or misreadings)
        written += read
        names = ", ".join(f"{item.color} {item.shape}" for item in read) or "none"
        steps.append(f"{names}: {partial_answer(written, question)}")
    rest = [item for item in scene.objects if item.column >= n_written]
    guessed = [item._replace(color=_choose(rng, scene.palette), shape=_choose(rng, SHAPES)) for item in rest]
    return tuple(steps), final_answer(partial_answer([*written, *guessed], question), question)


def _misreadings(read: tuple[SceneObject, ...], column: int, palette: Sequence[str]) -> list[tuple[SceneObject, ...]]:
    """Return what a column can be misread as: one wrong color or shape, one object less, or one in an empty column."""
    appearances = list(itertools.product(palette, SHAPES))
    if not read:
        return [(SceneObject(color, shape, column),) for color, shape in appearances]
    misreadings = []
    for i, item in enumerate(read):
        # Either the color or the shape is wrong, not both.
        similar = [(color, shape) for color, shape in appearances if (color == item.color) != (shape == item.shape)]
        replacements = [(), *((item._replace(color=color, shape=shape),) for color, shape in similar)]
        misreadings += [read[:i] + replacement + read[i + 1 :] for replacement in replacements]
    return misreadings


# ------------------------------------------------------------------------------------------------- scenes for an answer


def _draw_count(
    rng: np.random.Generator, n_objects: int, n_columns: int, palette: Sequence[str]
) -> tuple[Question, list[SceneObject]]:
    question = Question("count", (_choose(rng, (*palette, *SHAPES)),))
    count = int(rng.integers(n_objects + 1))
    return question, _draw_objects(rng, n_columns, palette, question.words, (count,), n_objects)


def _draw_compare(
    rng: np.random.Generator, n_objects: int, n_columns: int, palette: Sequence[str]
) -> tuple[Question, list[SceneObject]]:
    vocabulary = _choose(rng, (palette, SHAPES))
    words = tuple(vocabulary[int(i)] for i in rng.permutation(len(vocabulary))[:2])
    outcome = int(rng.integers(-1, 2))
    pairs = [(a, b) for a in range(n_objects + 1) for b in range(n_objects + 1 - a) if np.sign(a - b) == outcome]
    counts = _choose(rng, pairs)
    return Question("compare", words), _draw_objects(rng, n_columns, palette, words, counts, n_objects)


def _draw_exist(
    rng: np.random.Generator, n_objects: int, n_columns: int, palette: Sequence[str]
) -> tuple[Question, list[SceneObject]]:
    color, shape = anchor = _choose(rng, palette), _choose(rng, SHAPES)
    question = Question("exist", (_choose(rng, (*palette, *SHAPES)),), _choose(rng, ("left", "right")), anchor)
    answer = _choose(rng, ("yes", "no"))
    while True:
        objects = _draw_objects(rng, n_columns, palette, (), (), n_objects)
        i = int(rng.integers(n_objects))
        objects[i] = objects[i]._replace(color=color, shape=shape)
        if sum(item[:2] == anchor for item in objects) == 1 and partial_answer(objects, question) == answer:
            return question, objects


_DRAW_FNS: dict[str, Callable[..., tuple[Question, list[SceneObject]]]] = {
    "count": _draw_count,
    "compare": _draw_compare,
    "exist": _draw_exist,
}


def _draw_objects(
    rng: np.random.Generator,
    n_columns: int,
    palette: Sequence[str],
    words: tuple[str, ...],
    counts: tuple[int, ...],
    n_objects: int,
) -> list[SceneObject]:
    """Draw `n_objects` in random cells, of which exactly `counts` match the `words`."""
    appearances = list(itertools.product(palette, SHAPES))
    drawn = []
    for word, count in zip(words, counts, strict=True):
        matching = [appearance for appearance in appearances if word in appearance]
        drawn += [_choose(rng, matching) for _ in range(count)]
    others = [appearance for appearance in appearances if not set(words) & set(appearance)]
    drawn += [_choose(rng, others) for _ in range(n_objects - len(drawn))]
    cells = sorted(rng.permutation(n_columns * n_columns)[:n_objects].tolist())
    order = rng.permutation(n_objects)
    return [SceneObject(*drawn[i], *divmod(cell, n_columns)) for i, cell in zip(order, cells, strict=True)]


def _place_in_cell(rng: np.random.Generator, item: SceneObject) -> SceneObject:
    """Draw a radius, and a position at which the object stays inside its cell."""
    radius = _choose(rng, RADII)
    slack = CELL / 2 - EXTENT * radius
    x, y = ((cell + 0.5) * CELL + rng.uniform(-slack, slack) for cell in (item.column, item.row))
    return item._replace(x=round(float(x), 2), y=round(float(y), 2), radius=radius)


def _matches(item: SceneObject, word: str) -> bool:
    return word in (item.color, item.shape)


def _choose(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def _check_options(objects: tuple[int, int], size: int, colors: int, kinds: Sequence[str]) -> None:
    errors = []
    if size not in (56, 84, 112):
        errors.append(f"size must be 56, 84 or 112, got {size}")
    elif not 2 <= objects[0] <= objects[1] <= (size // CELL) ** 2:
        n_cells = (size // CELL) ** 2
        errors.append(f"objects must be from 2 to {n_cells} in an image of {size} pixels, got {objects}")
    if not 3 <= colors <= len(COLORS):
        errors.append(f"colors must be from 3 to {len(COLORS)}, got {colors}")
    if not kinds or set(kinds) - set(KINDS):
        errors.append(f"kinds must be some of {', '.join(KINDS)}, got {'+'.join(kinds) or 'none'}")
    if errors:
        raise UserError("scenes: " + "; ".join(errors))
