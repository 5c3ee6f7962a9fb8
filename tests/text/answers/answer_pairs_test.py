"""The table of answer pairs, graded by a pool of workers."""

from collections import Counter

import pytest

from mig_jax.text.answers.verifier import KINDS, AnswerPair, Grade, Verifier
from tests.text.answers.answer_pairs import HOSTILE, KNOWN_WRONG, PAIRS


@pytest.fixture(scope="module")
def pool():
    with Verifier(workers=2, deadline_s=20.0) as pool:
        yield pool


def test_table_is_large_and_balanced():
    assert len(PAIRS) == len(set(PAIRS)) >= 500
    counts = Counter((pair.kind, pair.expected) for pair in PAIRS)
    for kind in KINDS:
        right, wrong = counts[kind, True], counts[kind, False]
        assert min(right, wrong) > 0.5 * max(right, wrong), kind


@pytest.mark.parametrize("kind", KINDS)
def test_pairs(pool, kind):
    pairs = [pair for pair in PAIRS if pair.kind == kind]
    grades = pool.grade([AnswerPair(*pair[:4]) for pair in pairs])
    assert [(pair, grade) for pair, grade in zip(pairs, grades, strict=True) if grade != Grade(pair.expected)] == []


def test_every_reference_is_right(pool):
    pairs = [AnswerPair(pair.reference, *pair[1:4]) for pair in PAIRS if pair.kind != "reasoning_gym"]
    assert [pair for pair, grade in zip(pairs, pool.grade(pairs), strict=True) if grade != Grade(True)] == []


def test_known_errors(pool):
    """Check that these are still graded wrongly. Move a pair to the table once it is graded right."""
    grades = pool.grade([AnswerPair(*pair[:4]) for pair in KNOWN_WRONG])
    assert grades == [Grade(not pair.expected) for pair in KNOWN_WRONG]


@pytest.mark.slow  # verifier_test has a hung and a dead worker
def test_hostile_answers_are_wrong_and_the_pool_survives():
    with Verifier(workers=2, deadline_s=3.0) as impatient:
        grades = impatient.grade([AnswerPair(*pair[:4]) for pair in HOSTILE])
        assert [pair for pair, grade in zip(HOSTILE, grades, strict=True) if grade.is_correct is not False] == []
        # For one of these, algebra never ends on any machine.
        timed_out = [pair for pair, grade in zip(HOSTILE, grades, strict=True) if grade.timed_out]
        assert {pair.kind for pair in timed_out} == {"expression", "set"}
        assert impatient.timeouts == len(set(timed_out)) >= 2
        pairs = [AnswerPair("1+x", "x+1", "expression"), AnswerPair("2, 1+x", "x+1, 2", "set")]
        assert impatient.grade(pairs) == [Grade(True)] * 2
