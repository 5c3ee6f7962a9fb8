"""Scenes: answers against a second implementation that parses the question, steps, slips and early guesses."""

import collections
import re

import numpy as np
import pytest

from mig_jax.data.synthetic import scenes
from mig_jax.data.synthetic.scenes import Question, Scene, SceneObject

OPTIONS = {"objects": (3, 6), "size": 84, "colors": 4, "kinds": scenes.KINDS}
LEFT, MIDDLE, RIGHT = 0, 1, 2
BY_HAND = Scene(
    84,
    ("red", "green", "blue"),
    0.9,
    (
        SceneObject("red", "cube", LEFT),
        SceneObject("green", "ball", LEFT, 2),
        SceneObject("red", "cone", RIGHT, 1),
    ),
)


def _drawn(n: int, **changed) -> list[tuple[Scene, Question]]:
    return [scenes.draw_scene(np.random.default_rng((0, i)), **OPTIONS | changed) for i in range(n)]


def _written(scene, question, *, seed=0, slip_prob=0.0, early_guess_prob=0.0) -> tuple[tuple[str, ...], str]:
    return scenes.write_solution(
        np.random.default_rng(seed), scene, question, slip_prob=slip_prob, early_guess_prob=early_guess_prob
    )


def _parse_and_answer(question: str, objects) -> str:
    """Return the answer from the text of the question and the table of objects."""

    def having(word: str) -> list:
        word = word.removesuffix("s")
        return [o for o in objects if word in {o.color, o.shape}]

    if match := re.fullmatch(r"How many (\w+)( things)?\?", question):
        return str(len(having(match[1])))
    if match := re.fullmatch(r"More (\w+) or (\w+)( things)?\?", question):
        surplus = len(having(match[1])) - len(having(match[2]))
        return "same" if not surplus else match[1] if surplus > 0 else match[2]
    match = re.fullmatch(r"Is there a (\w+)( thing)? (left|right) of the (\w+) (\w+)\?", question)
    (anchor,) = [o for o in objects if (o.color, o.shape) == (match[4], match[5])]
    if match[3] == "left":
        return "yes" if min((o.column for o in having(match[1])), default=9) < anchor.column else "no"
    return "yes" if max((o.column for o in having(match[1])), default=-9) > anchor.column else "no"


@pytest.mark.parametrize(
    "question, text, partial_answers, answer",
    [
        (Question("count", ("red",)), "How many red things?", ("1", "1", "2"), "2"),
        (Question("count", ("ball",)), "How many balls?", ("1", "1", "1"), "1"),
        (Question("compare", ("green", "red")), "More green or red things?", ("1-1", "1-1", "1-2"), "red"),
        (Question("compare", ("cube", "ball")), "More cubes or balls?", ("1-1", "1-1", "1-1"), "same"),
        (
            Question("exist", ("cube",), "left", ("red", "cone")),
            "Is there a cube left of the red cone?",
            ("no", "no", "yes"),
            "yes",
        ),
        (
            Question("exist", ("red",), "right", ("red", "cone")),
            "Is there a red thing right of the red cone?",
            ("no", "no", "no"),
            "no",
        ),
    ],
)
def test_questions_solved_by_hand(question, text, partial_answers, answer):
    assert question.text == text
    columns = ("red cube, green ball", "none", "red cone")
    steps = tuple(f"{names}: {partial}" for names, partial in zip(columns, partial_answers, strict=True))
    assert _written(BY_HAND, question) == (steps, answer)
    assert scenes.correct_answer(BY_HAND, question) == answer


@pytest.mark.parametrize("size, objects, colors", [(56, (4, 4), 4), (84, (3, 6), 4), (112, (2, 16), 6)])
def test_answers_match_a_second_implementation(size, objects, colors):
    for scene, question in _drawn(500, size=size, objects=objects, colors=colors):
        assert scenes.correct_answer(scene, question) == _parse_and_answer(question.text, scene.objects), (
            question.text,
            scene,
        )


def test_objects_do_not_overlap_and_stay_in_the_image():
    for scene, _ in _drawn(500):
        reach = [(o.x, o.y, scenes.EXTENT * o.radius) for o in scene.objects]
        for i, (x, y, r) in enumerate(reach):
            assert r <= x <= scene.size - r and r <= y <= scene.size - r
            for other_x, other_y, other_r in reach[:i]:
                assert max(abs(x - other_x), abs(y - other_y)) >= r + other_r - 0.02


def test_objects_are_ordered_by_column_and_lie_in_their_cells():
    for scene, _ in _drawn(200):
        cells = [(o.column, o.row) for o in scene.objects]
        assert cells == [(int(o.x // scenes.CELL), int(o.y // scenes.CELL)) for o in scene.objects]
        assert cells == sorted(set(cells)) and 3 <= len(cells) <= 6


def test_steps_without_slips_list_the_scene_and_end_with_the_answer():
    for scene, question in _drawn(500):
        steps, answer = _written(scene, question)
        listed = [step.rpartition(": ")[0].split(", ") for step in steps]
        assert [names for names in listed if names != ["none"]] == [
            [f"{o.color} {o.shape}" for o in scene.objects if o.column == column]
            for column in range(3)
            if any(o.column == column for o in scene.objects)
        ]
        last = steps[-1].rpartition(": ")[2]
        if question.kind == "compare":
            one, other = map(int, last.split("-"))
            assert (answer == "same") == (one == other)
        else:
            assert last == answer
        assert answer == scenes.correct_answer(scene, question)


def test_question_alone_does_not_predict_the_answer():
    answers = collections.defaultdict(collections.Counter)
    for scene, question in _drawn(3000, objects=(4, 4)):
        kind = f"exist {'shape' if question.words[0] in scenes.SHAPES else 'color'}"
        outcome = scenes.correct_answer(scene, question)
        if question.kind == "compare":
            outcome = "same" if outcome == "same" else outcome.removesuffix("s") == question.words[0]
        answers[kind if question.kind == "exist" else question.kind][outcome] += 1
    assert set(answers) == {"count", "compare", "exist shape", "exist color"}
    for kind, counted in answers.items():
        likely = {"count": 0.2, "compare": 1 / 3}.get(kind, 0.5)
        for outcome, times in counted.items():
            assert times / counted.total() == pytest.approx(likely, rel=0.2), (kind, outcome)


def test_slips_carry_over_to_later_steps_and_the_answer():
    slipped = wrong = 0
    for seed, (scene, question) in enumerate(_drawn(500)):
        right, _ = _written(scene, question)
        steps, answer = _written(scene, question, seed=seed, slip_prob=0.2)
        names = [step.rpartition(": ")[0] for step in steps]
        slipped += sum(name != was.rpartition(": ")[0] for name, was in zip(names, right, strict=True))
        wrong += answer != scenes.correct_answer(scene, question)
        # A solution is consistent: its answer is that of the scene that its steps describe.
        described = [
            SceneObject(*name.split(), column)
            for column, n in enumerate(names)
            if n != "none"
            for name in n.split(", ")
        ]
        assert scenes.final_answer(scenes.partial_answer(described, question), question) == answer
        assert steps[-1].endswith(f": {scenes.partial_answer(described, question)}")
    assert slipped / 1500 == pytest.approx(0.2, abs=0.04)
    assert wrong / 500 > 0.2


def test_slip_prob_one_changes_every_step():
    for seed, (scene, question) in enumerate(_drawn(50)):
        steps = zip(_written(scene, question)[0], _written(scene, question, seed=seed, slip_prob=1.0)[0], strict=True)
        assert all(right.rpartition(":")[0] != slip.rpartition(":")[0] for right, slip in steps)


def test_early_guess_drops_steps_and_guesses_the_rest():
    counts, right = collections.Counter(), 0
    for seed, (scene, question) in enumerate(_drawn(500)):
        steps, answer = _written(scene, question, seed=seed, early_guess_prob=1.0)
        assert steps == _written(scene, question)[0][: len(steps)]
        counts[len(steps)] += 1
        right += answer == scenes.correct_answer(scene, question)
    assert set(counts) == {1, 2} and 0.4 < right / 500 < 0.85


@pytest.mark.parametrize("size, objects", [(56, 4), (84, 6), (112, 16)])
def test_solution_length_is_bounded(size, objects):
    for seed, (scene, question) in enumerate(_drawn(300, size=size, objects=(objects, objects), colors=6)):
        steps, _ = _written(scene, question, seed=seed, slip_prob=0.5)
        assert sum(map(len, steps)) <= 13 * objects + 17 * size // scenes.CELL


def test_scenes_are_determined_by_the_generator():
    assert _drawn(5) == _drawn(5)
    assert len({scene.description for scene, _ in _drawn(50)}) == 50


def test_wrong_arguments_are_reported_at_once():
    with pytest.raises(ValueError) as caught:
        scenes.draw_scene(np.random.default_rng(0), objects=(1, 99), size=84, colors=2, kinds=("counts",))
    message = str(caught.value)
    assert "objects must be from 2 to 9" in message and "colors must be from 3 to 6" in message
    assert "got counts" in message
    with pytest.raises(ValueError, match="size must be 56, 84 or 112, got 60"):
        scenes.draw_scene(np.random.default_rng(0), **OPTIONS | {"size": 60})
    with pytest.raises(ValueError, match="slip_prob must be a probability"):
        _written(BY_HAND, Question("count", ("red",)), slip_prob=2.0)
