"""Scenes of coloured solids in the manner of CLEVR, with questions and written steps, made without any data set.

    How many red things?                              0, 1, 2 …
    More cubes or balls?                              cubes, balls or same
    Is there a cone left of the blue ball?            yes or no

A scene is a square grid of cells, at most one solid in each. Its solution has a step for each column, from left to
right: what stands there, from top to bottom, and what is known so far, which is the count, both counts, or yes or no.

    ### Step 1: red cube, green ball: 1
    ### Step 2: none: 1
    ### Step 3: red cone: 2

Why columns: every step needs a look at another part of the picture, each can go wrong, and left and right are read off
the order of the steps. Why a cell is 28 pixels wide: that is one token of an image in Qwen2.5-VL, so that tiny models
can learn to look. Question and answer are drawn first, and a scene to fit them: all counts from none to all are alike
likely, as are the three outcomes of a comparison, as are yes and no: a question alone says nothing of its answer.

What the steps say takes at most 13 characters a thing and 17 a column.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

CELL = 28  # pixels
COLORS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("cube", "ball", "cone")
KINDS = ("count", "compare", "exist")
RADII = (8.5, 10.5)  # pixels: small and large
ROOM = 1.2  # radii around the centre of a solid that it needs, with its shadow

Look = tuple[str, str]  # colour and shape


class Thing(NamedTuple):
    """A solid: its look, its cell, and where it stands in pixels from the upper left corner."""

    color: str
    shape: str
    column: int
    row: int = 0
    x: float = 0.0
    y: float = 0.0
    radius: float = 0.0


class Scene(NamedTuple):
    """A square picture.

    size: pixels a side.
    palette: the colours that things may have here.
    ground: how bright it is; 1 is white.
    things: in reading order: by column, then by row.
    """

    size: int
    palette: tuple[str, ...]
    ground: float
    things: tuple[Thing, ...]

    @property
    def description(self) -> str:
        """All that a question may be about, without the pixels: which look stands in which cell."""
        return "; ".join(f"{t.column},{t.row}: {t.color} {t.shape}" for t in self.things)


class Question(NamedTuple):
    """What is asked of a scene.

    kind: one of KINDS.
    words: the colours or shapes that are asked for; two when they are compared.
    side: left or right, of the only thing that looks like `anchor`; for the kind exist.
    """

    kind: str
    words: tuple[str, ...]
    side: str = ""
    anchor: Look = ("", "")

    @property
    def text(self) -> str:
        word, last = self.words[0], self.words[-1]
        is_shape = word in SHAPES
        if self.kind == "count":
            return f"How many {word}s?" if is_shape else f"How many {word} things?"
        if self.kind == "compare":
            return f"More {word}s or {last}s?" if is_shape else f"More {word} or {last} things?"
        one = word if is_shape else f"{word} thing"
        return f"Is there a {one} {self.side} of the {' '.join(self.anchor)}?"


def draw(
    rng: np.random.Generator, *, objects: tuple[int, int], size: int, colors: int, kinds: Sequence[str]
) -> tuple[Scene, Question]:
    """Draws a question and a scene to ask it of.

    Args:
      rng: the only source of chance.
      objects: fewest and most things in a scene, at least 2 and at most the cells that there are.
      size: pixels a side, a multiple of CELL from 56 to 112: two to four columns, hence steps.
      colors: how many of COLORS there are, at least 3.
      kinds: of KINDS, alike likely.

    Raises:
      ValueError: lists all that is out of bounds.
    """
    _check(objects, size, colors, kinds)
    side, palette = size // CELL, COLORS[:colors]
    n = int(rng.integers(objects[0], objects[1] + 1))
    question, things = _DRAWN[_pick(rng, kinds)](rng, n, side, palette)
    ground = round(float(rng.uniform(0.86, 0.97)), 3)
    return Scene(size, palette, ground, tuple(_place(rng, thing) for thing in things)), question


def state(things: Sequence[Thing], question: Question) -> str:
    """What is known when these things have been seen: `2`; both counts, `1-2`; or `yes` or `no`."""
    counts = [sum(_is(thing, word) for thing in things) for word in question.words]
    if question.kind != "exist":
        return "-".join(map(str, counts))
    anchors = [thing.column for thing in things if (thing.color, thing.shape) == question.anchor]
    asked = [thing.column for thing in things if _is(thing, question.words[0])]
    sign = 1 if question.side == "left" else -1
    return "yes" if any((there - here) * sign > 0 for there in anchors for here in asked) else "no"


def conclude(state: str, question: Question) -> str:
    """The answer when this is known of the whole scene."""
    if question.kind != "compare":
        return state
    one, other = map(int, state.split("-"))
    word = question.words[0 if one > other else 1]
    return "same" if one == other else f"{word}s" if word in SHAPES else word


def answer(scene: Scene, question: Question) -> str:
    """The right answer."""
    return conclude(state(scene.things, question), question)


def solution(
    rng: np.random.Generator, scene: Scene, question: Question, *, slip_prob: float, early_guess_prob: float
) -> tuple[tuple[str, ...], str]:
    """The steps and the answer of a writer who sees well enough, but slips and is sometimes hasty.

    With probability `slip_prob`, each step on its own, one thing of the column is taken for another, overlooked, or seen
    where there is none, preferably so that it matters; the writer goes on from what is written. With probability
    `early_guess_prob` the writer stops before the last step, anywhere behind the first, and imagines the looks of the rest: who
    learns from this knows what can be said of the answer after any number of steps, which is what a probe asks.

    Raises:
      ValueError: when `slip_prob` or `early_guess_prob` is no probability.
    """
    for name, value in (("slip_prob", slip_prob), ("early_guess_prob", early_guess_prob)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is a probability, got {value}")
    side = scene.size // CELL
    last = int(rng.integers(1, side)) if rng.random() < early_guess_prob else side
    written, steps = [], []
    for column in range(last):
        seen = tuple(thing for thing in scene.things if thing.column == column)
        if rng.random() < slip_prob:
            readings = _misreadings(seen, column, scene.palette)
            right = state([*written, *seen], question)
            harmful = [reading for reading in readings if state([*written, *reading], question) != right]
            seen = _pick(rng, harmful or readings)
        written += seen
        names = ", ".join(f"{thing.color} {thing.shape}" for thing in seen) or "none"
        steps.append(f"{names}: {state(written, question)}")
    rest = [thing for thing in scene.things if thing.column >= last]
    imagined = [thing._replace(color=_pick(rng, scene.palette), shape=_pick(rng, SHAPES)) for thing in rest]
    return tuple(steps), conclude(state([*written, *imagined], question), question)


def _misreadings(seen: tuple[Thing, ...], column: int, palette: Sequence[str]) -> list[tuple[Thing, ...]]:
    """What else a column can be taken for: another colour or shape, one thing less, or one where there is none."""
    looks = list(itertools.product(palette, SHAPES))
    readings = [(Thing(*look, column),) for look in looks] if not seen else []
    for i, thing in enumerate(seen):
        # The eye mistakes the colour or the shape, not both.
        alike = [look for look in looks if (look[0] == thing.color) != (look[1] == thing.shape)]
        others = [(), *((thing._replace(color=color, shape=shape),) for color, shape in alike)]
        readings += [seen[:i] + other + seen[i + 1 :] for other in others]
    return readings


# ------------------------------------------------------------------------------------------------ scenes to fit answers


def _draw_count(rng: np.random.Generator, n: int, side: int, palette: Sequence[str]) -> tuple[Question, list[Thing]]:
    question = Question("count", (_pick(rng, (*palette, *SHAPES)),))
    wanted = int(rng.integers(n + 1))
    return question, _fill(rng, side, palette, question.words, (wanted,), n)


def _draw_compare(rng: np.random.Generator, n: int, side: int, palette: Sequence[str]) -> tuple[Question, list[Thing]]:
    family = _pick(rng, (palette, SHAPES))
    words = tuple(family[i] for i in rng.permutation(len(family))[:2])
    outcome = int(rng.integers(-1, 2))
    pairs = [(a, b) for a in range(n + 1) for b in range(n + 1 - a) if np.sign(a - b) == outcome]
    return Question("compare", words), _fill(rng, side, palette, words, _pick(rng, pairs), n)


def _draw_exist(rng: np.random.Generator, n: int, side: int, palette: Sequence[str]) -> tuple[Question, list[Thing]]:
    color, shape = anchor = _pick(rng, palette), _pick(rng, SHAPES)
    question = Question("exist", (_pick(rng, (*palette, *SHAPES)),), _pick(rng, ("left", "right")), anchor)
    wanted = _pick(rng, ("yes", "no"))
    while True:
        things = _fill(rng, side, palette, (), (), n)
        i = int(rng.integers(n))
        things[i] = things[i]._replace(color=color, shape=shape)
        if sum(thing[:2] == anchor for thing in things) == 1 and state(things, question) == wanted:
            return question, things


_DRAWN: dict[str, Callable] = {"count": _draw_count, "compare": _draw_compare, "exist": _draw_exist}


def _fill(
    rng: np.random.Generator, side: int, palette: Sequence[str], words: tuple[str, ...], counts: tuple[int, ...], n: int
) -> list[Thing]:
    """`n` things in cells drawn at random, of which `counts` are what the `words` say, and no more of them."""
    looks = list(itertools.product(palette, SHAPES))
    drawn = []
    for word, count in zip(words, counts, strict=True):
        fitting = [look for look in looks if word in look]
        drawn += [_pick(rng, fitting) for _ in range(count)]
    others = [look for look in looks if not set(words) & set(look)]
    drawn += [_pick(rng, others) for _ in range(n - len(drawn))]
    cells = sorted(rng.permutation(side * side)[:n].tolist())
    return [Thing(*drawn[i], *divmod(cell, side)) for i, cell in zip(rng.permutation(n), cells, strict=True)]


def _place(rng: np.random.Generator, thing: Thing) -> Thing:
    """Size and place in the cell, which the thing does not leave."""
    radius = _pick(rng, RADII)
    slack = CELL / 2 - ROOM * radius
    x, y = ((cell + 0.5) * CELL + rng.uniform(-slack, slack) for cell in (thing.column, thing.row))
    return thing._replace(x=round(float(x), 2), y=round(float(y), 2), radius=radius)


def _is(thing: Thing, word: str) -> bool:
    return word in (thing.color, thing.shape)


def _pick(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]


def _check(objects: tuple[int, int], size: int, colors: int, kinds: Sequence[str]) -> None:
    faults = []
    if size not in (56, 84, 112):
        faults.append(f"size is 56, 84 or 112, got {size}")
    elif not 2 <= objects[0] <= objects[1] <= (size // CELL) ** 2:
        faults.append(f"objects are from 2 to {(size // CELL) ** 2} in a picture of {size} pixels, got {objects}")
    if not 3 <= colors <= len(COLORS):
        faults.append(f"colors are from 3 to {len(COLORS)}, got {colors}")
    if not kinds or set(kinds) - set(KINDS):
        faults.append(f"kinds are some of {', '.join(KINDS)}, got {'+'.join(kinds) or 'none'}")
    if faults:
        raise ValueError("scenes: " + "; ".join(faults))
