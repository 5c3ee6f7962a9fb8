"""The table of answers, put to a pool of workers."""

from collections import Counter

import pytest

from mig_jax.text.answers.verifier import KINDS, AnswerPair, Verifier
from tests.text.answers.answer_pairs import HOSTILE, KNOWN_WRONG, PAIRS


@pytest.fixture(scope="module")
def pool():
    with Verifier(workers=2, deadline_s=20.0) as pool:
        yield pool


def test_the_table_is_large_and_balanced():
    assert len(PAIRS) == len(set(PAIRS)) >= 500
    counts = Counter((pair.kind, pair.expected) for pair in PAIRS)
    for kind in KINDS:
        right, wrong = counts[kind, True], counts[kind, False]
        assert min(right, wrong) > 0.5 * max(right, wrong), kind


@pytest.mark.parametrize("kind", KINDS)
def test_pairs(pool, kind):
    pairs = [pair for pair in PAIRS if pair.kind == kind]
    verdicts = pool.grade([AnswerPair(*pair[:4]) for pair in pairs])
    assert [
        (pair, verdict) for pair, verdict in zip(pairs, verdicts, strict=True) if verdict is not pair.expected
    ] == []


def test_every_reference_is_right(pool):
    items = [AnswerPair(pair.reference, *pair[1:4]) for pair in PAIRS if pair.kind != "reasoning_gym"]
    assert [item for item, verdict in zip(items, pool.grade(items), strict=True) if verdict is not True] == []


def test_what_is_known_to_be_wrong(pool):
    """When one of these turns out right, it moves to the table."""
    verdicts = pool.grade([AnswerPair(*pair[:4]) for pair in KNOWN_WRONG])
    assert verdicts == [not pair.expected for pair in KNOWN_WRONG]


def test_hostile_answers_are_not_right_and_the_pool_outlives_them():
    with Verifier(workers=2, deadline_s=1.0) as hasty:
        verdicts = hasty.grade([AnswerPair(*pair[:4]) for pair in HOSTILE])
        assert [pair for pair, verdict in zip(HOSTILE, verdicts, strict=True) if verdict] == []
        # Who is late is unknown, not wrong. To one of these algebra takes for ever, whatever the machine.
        late = [pair for pair, verdict in zip(HOSTILE, verdicts, strict=True) if verdict is None]
        assert {pair.kind for pair in late} == {"expression", "set"}
        assert hasty.timeouts >= 2
        assert hasty.grade([AnswerPair("1+x", "x+1", "expression"), AnswerPair("2, 1+x", "x+1, 2", "set")]) == [True, True]
