"""Completions as models write them, read leniently and graded."""

import pytest

from mig_jax.text.answers.lenient import extract_lenient_answer
from mig_jax.text.answers.verifier import AnswerPair, Grade, Verifier
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
