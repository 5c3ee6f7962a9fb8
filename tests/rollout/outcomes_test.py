"""The outcome rewards of the package, by hand."""

import dataclasses
import datetime

import numpy as np
import pytest

from mig_jax.data.problem import Problem
from mig_jax.errors import UserError
from mig_jax.rollout import sample_json
from mig_jax.rollout.outcomes import OUTCOMES, Sample, batch_options, batch_reward, find_reward
from mig_jax.text.response_format import parse_response
from tests import tiny

RIGHT = "<think>\n### Step 1: 1 + 1 = 2\n### Step 2: done\n</think>\n<answer>2</answer>"


def make_sample(response=RIGHT, question="What is 1 + 1?", ids=range(10), row=None, **changes):
    options = {"answer": "2", "is_truncated": False, "is_correct": True, "max_tokens": 10} | changes
    problem = Problem("q", question, "2", row=row or {})
    return Sample(problem, response, parse_response(response), ids=tuple(ids), **options)


def value_of(name, sample, **args):
    return OUTCOMES[name](sample, tiny.change(tiny.get_config().reward.outcome_args, args))


def test_sample_has_short_names():
    sample = make_sample()
    assert (sample.question, sample.reference, sample.n_tokens) == ("What is 1 + 1?", "2", 10)
    assert sample.steps == ["### Step 1: 1 + 1 = 2", "### Step 2: done"] and sample.row == {}


def test_accuracy_and_format():
    assert value_of("accuracy", make_sample()) == 1 and value_of("accuracy", make_sample(is_correct=False)) == 0
    assert value_of("accuracy", make_sample(is_correct=None)) is None
    assert value_of("format", make_sample()) == 1 and value_of("format", make_sample("2")) == 0


@pytest.mark.parametrize(
    "buffer, expected",
    [(4, [0, 0, -0.25, -0.5, -0.75, -1, -1]), (0, [0, 0, 0, 0, 0, 0, -1]), (1, [0, 0, 0, 0, 0, -1, -1])],
)
def test_overlong_by_hand(buffer, expected):
    """Responses of 1 and 6 to 10 tokens of at most 10; the last two have 10, and the last one was cut off there."""
    samples = [
        *(make_sample(ids=range(n)) for n in (1, 6, 7, 8, 9, 10)),
        make_sample(ids=range(10), is_truncated=True),
    ]
    assert [value_of("overlong", sample, overlong_buffer=buffer) for sample in samples] == pytest.approx(expected)


def test_repetition_is_the_share_of_repeated_ngrams():
    assert value_of("repetition", make_sample(ids=range(10)), repetition_ngram=2) == 0
    # 1 2, 2 1, 1 2, 2 1, 1 2: three of five were there before.
    assert value_of("repetition", make_sample(ids=(1, 2, 1, 2, 1, 2)), repetition_ngram=2) == pytest.approx(-3 / 5)
    assert value_of("repetition", make_sample(ids=(1,)), repetition_ngram=2) == 0


@pytest.mark.parametrize(
    "question, response, expected",
    [
        ("How many?", RIGHT, 0),
        ("How many?", "<think>\n### Step 1: so 一二三 it\n</think>", -3 / 7),
        ("一加一等于多少 x?", "<think>\n### Step 1: $x = \\text{two}$ 是二 x\n</think>", 0),
        ("一加一等于多少?", "the answer 二", -9 / 10),
        ("いくつですか", "答えは二です", 0),
        ("1 + 1 = ?", "anything", 0),
        ("How many?", "", 0),
    ],
)
def test_language_is_the_share_of_letters_in_another_script(question, response, expected):
    assert value_of("language", make_sample(response, question)) == pytest.approx(expected)


@pytest.mark.parametrize("n, expected", [(0, -1), (1, -0.5), (2, 0), (4, 0), (5, -0.25), (9, -1)])
def test_steps_between_the_limits_are_free(n, expected):
    response = "<think>\n" + "".join(f"### Step {k + 1}: a\n" for k in range(n)) + "</think>"
    assert value_of("steps", make_sample(response), min_steps=2, max_steps=4) == pytest.approx(expected)


def test_find_reward_checks_the_signature(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def one(sample): return 1.0\ndef two(sample, row): return 1.0\nthree = 3\n")
    assert find_reward(f"{file}:one")(None) == 1
    for name, message in [("two", r"must take \(sample\), but takes \(sample, row\)"), ("three", "not a int")]:
        with pytest.raises(UserError, match=rf"reward.outcomes='{file}:{name}': .*{message}"):
            find_reward(f"{file}:{name}")


def test_batch_reward_keeps_the_function():
    @batch_reward(deadline_s=3, size=5)
    def judged(samples):
        return [1.0] * len(samples)

    assert judged([None, None]) == [1, 1]
    assert (batch_options(judged).deadline_s, batch_options(judged).size) == (3, 5)
    assert batch_options(test_find_reward_checks_the_signature) is None


def test_samples_travel_as_json():
    row = {"a": [1, {"b": None}], 2: (1.5, "x"), "image": b"\x00\xff", "n": np.int64(3), "xs": np.arange(2)}
    sample = make_sample(row=row)
    sample = dataclasses.replace(sample, problem=sample.problem._replace(images=(b"png",), choices=("a", "b")))
    ((found, other),) = [sample_json.from_line(sample_json.to_line([sample, make_sample()]))]
    assert other == make_sample() and found.steps == sample.steps and found.problem.images == (b"png",)
    assert found.row == row | {"n": 3, "xs": [0, 1]}
    assert sample_json.from_line(sample_json.to_line([make_sample(row={"on": datetime.date(2026, 1, 2)})]))[0].row == {
        "on": "2026-01-02"
    }
