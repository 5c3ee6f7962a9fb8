"""Completions as models write them, read leniently and graded."""

import pytest

from mig_jax.text.answers.lenient import extract_lenient_answer
from mig_jax.text.answers.verifier import AnswerPair, Grade, Verifier
from tests.text.answers.answer_pairs import PAIRS
from tests.text.answers.readings import READINGS


@pytest.fixture(scope="module")
def grades():
    """Read and grade all completions in one call."""
    answers = [extract_lenient_answer(of.completion, kind=of.kind, choices=of.choices) for of in READINGS]
    pairs = [AnswerPair(answer, *of[1:4]) for answer, of in zip(answers, READINGS, strict=True)]
    with Verifier(workers=1) as verifier:
        return dict(zip(READINGS, zip(answers, verifier.grade(pairs), strict=True), strict=True))


@pytest.mark.parametrize("kind", dict.fromkeys(reading.kind for reading in READINGS))
def test_completions_are_read_as_they_are_meant(grades, kind):
    errors = [
        (reading, answer)
        for reading, (answer, grade) in grades.items()
        if reading.kind == kind and grade != Grade(reading.expected)
    ]
    assert errors == []


# What completions write around an answer; "$…$" only around mathematics.
FRAMES = (
    r"So \boxed{%s}.",
    "<answer>%s</answer>",
    "<think>\n### Step 1: maybe \\boxed{99}\n</think>\n<answer>%s</answer>",
    "The answer is %s.",
    "Let x be 3.\n\n**Answer:** %s",
    "因此答案是%s。",
    "答案：%s",
    "The answer is **%s**.",
    "Answer:\n%s",
    "The answer is $%s$.",
    "The answer is $%s$, which we found in 3 steps.",
    "Therefore we get $%s$.",
    "Answer:\n$$\n%s\n$$",
)


def test_answers_in_any_frame_are_graded_like_the_answers_alone():
    """Allow for few differences: a sentence in a box is read, and marks inside marks may be lost."""
    cases = [
        (pair, frame)
        for pair in PAIRS[::5]
        for frame in FRAMES
        if pair.kind in ("number", "expression", "choice", "text", "set")
        if not ("$" in frame and ("$" in pair.response or pair.kind not in ("number", "expression")))
        if not any(mark in pair.response for mark in ("\n", "boxed", "**", "answer", "答"))
    ]
    read = [
        AnswerPair(extract_lenient_answer(frame % pair.response, kind=pair.kind, choices=pair.choices), *pair[1:4])
        for pair, frame in cases
    ]
    with Verifier(workers=1) as verifier:
        alone = verifier.grade([AnswerPair(*pair[:4]) for pair, _ in cases])
        framed = verifier.grade(read)
    different = [
        case for case, one, other in zip(cases, alone, framed, strict=True) if one.is_correct != other.is_correct
    ]
    assert len(cases) > 800
    assert len(different) < 0.02 * len(cases), different
    wrong = [
        pair for pair, one, other in zip(read, alone, framed, strict=True) if other.is_correct and not one.is_correct
    ]
    assert len(wrong) < 0.01 * len(cases), wrong
