"""Metrics of a benchmark from hand-made transcripts."""

import json
import random

import numpy as np
import pytest

from mig_jax.errors import UserError
from mig_jax.records import eval_metrics
from mig_jax.records.eval_metrics import compute_eval_metrics
from mig_jax.text.response_format import TRUNCATED
from tests.records import graded

# Right, wrong.
R, W = 1.0, 0.0

# -------------------------------------------------------------------------------------------------------------- votes


def test_votes_count_normalized_answers():
    answers = ["5", "$4$", "4", r"\boxed{4}", "5", "5.5"]
    sampled = [graded.transcript("p", "sampled", i in (1, 2, 3), answer=a) for i, a in enumerate(answers)]
    metrics = compute_eval_metrics([graded.transcript("p", "greedy", True), *sampled])["metrics"]
    assert metrics["maj@6"]["strict"]["mean"] == metrics["maj@6"]["lenient"]["mean"] == 1
    assert metrics["sampled"]["strict"]["mean"] == 0.5


@pytest.mark.parametrize(
    "kind, choices, answers, correct",
    [
        ("choice", ("river", "bank"), ["B", "(B)", "bank", "A", "A"], [R, R, R, W, W]),
        ("choice", (), ["B", "(B)", "B.", "A", "A"], [R, R, R, W, W]),
        ("expression", (), ["1/2", "0.5", r"\frac{1}{2}", "3", "3"], [R, R, R, W, W]),
        ("number", (), ["$18", "18.0", "18 dollars", "17", "17"], [R, R, R, W, W]),
        ("yes_no", (), ["Yes", "yes, it is", "True", "no", "no"], [R, R, R, W, W]),
    ],
)
def test_votes_count_answers_not_variants(kind, choices, answers, correct):
    sampled = [
        graded.transcript("p", "sampled", bool(c), answer=a, kind=kind, choices=choices)
        for a, c in zip(answers, correct, strict=True)
    ]
    greedy = graded.transcript("p", "greedy", True, kind=kind, choices=choices)
    metrics = compute_eval_metrics([greedy, *sampled])["metrics"]
    assert metrics["maj@5"]["strict"]["mean"] == metrics["maj@5"]["lenient"]["mean"] == 1


def test_a_response_without_an_answer_has_no_vote():
    """It does not vote for the nearest choice either."""
    options = {"kind": "nearest_choice", "choices": ("river", "bank")}
    silent = [graded.transcript("p", "sampled", False, response="I wonder", format_error="no <think>", **options)] * 2
    sampled = [*silent, graded.transcript("p", "sampled", True, answer="banks", **options)]
    metrics = compute_eval_metrics([graded.transcript("p", "greedy", True, **options), *sampled])["metrics"]
    assert metrics["maj@3"]["strict"]["mean"] == metrics["maj@3"]["lenient"]["mean"] == 1


def test_malformed_responses_vote_only_by_the_lenient_criterion():
    loose = [graded.transcript("p", "sampled", True, format_error="text outside the blocks") for _ in range(2)]
    loose = [
        *loose,
        graded.transcript("p", "sampled", False, lenient=True, response=r"\boxed{4}", format_error="no <think>"),
    ]
    tidy = [graded.transcript("p", "sampled", False, answer="5")]
    metrics = compute_eval_metrics([graded.transcript("p", "greedy", False), *loose, *tidy])["metrics"]
    assert graded.means(metrics) == {"greedy": 0, "sampled": 0, "pass@1": 0, "pass@2": 0, "pass@4": 0, "maj@4": 0}
    expected = {"greedy": 0, "sampled": 0.75, "pass@1": 0.75, "pass@2": 1, "pass@4": 1, "maj@4": 1}
    assert graded.means(metrics, "lenient") == pytest.approx(expected)


# -------------------------------------------------------------------------------------------------- a whole benchmark

BENCHMARK = [
    *graded.problem("a", True, [True, True, False, True], level="Level 10", subject="Algebra"),
    *graded.problem("b", False, [False, True, False, False], level="Level 2", subject="Algebra"),
    *graded.problem("c", None, [True, None, None, None], level="Level 2", subject=""),
]


def test_a_benchmark_by_hand():
    found = compute_eval_metrics(random.Random(0).sample(BENCHMARK, len(BENCHMARK)))
    assert (found["problems"], found["samples"]) == (3, 4)
    expected = {"greedy": 1 / 2, "sampled": 2 / 3, "pass@1": 2 / 3, "pass@2": 0.75, "pass@4": 1, "maj@4": 1 / 2}
    assert graded.means(found["metrics"]) == pytest.approx(expected)
    undecided = {name: estimates["strict"]["undecided"] for name, estimates in found["metrics"].items()}
    assert undecided == {"greedy": 1, "sampled": 0, "pass@1": 0, "pass@2": 1, "pass@4": 0, "maj@4": 1}
    assert found["timeouts"] == {"strict": 4, "lenient": 4}
    assert found["format"] == {"greedy": 1, "sampled": 1}
    assert found["truncated"] == found["malformed"] == {"greedy": 0, "sampled": 0}
    assert found["characters"] == {"greedy": len(graded.response("4")), "sampled": len(graded.response("4"))}
    assert "hallusion_bench" not in found
    assert found == json.loads(json.dumps(found))


def test_levels_and_subjects_group_the_problems():
    found = compute_eval_metrics(BENCHMARK)
    assert {name: part["problems"] for name, part in found["levels"].items()} == {"Level 2": 2, "Level 10": 1}
    assert list(found["levels"]) == ["Level 2", "Level 10"]
    level = graded.means(found["levels"]["Level 2"]["metrics"])
    assert (level["greedy"], level["sampled"], level["pass@4"]) == pytest.approx((0, (1 / 4 + 1) / 2, 1))
    assert {name: part["problems"] for name, part in found["subjects"].items()} == {"Algebra": 2, "": 1}
    assert found["subjects"][""]["metrics"]["greedy"]["strict"] == {
        "mean": None, "low": None, "high": None, "undecided": 1
    }  # fmt: skip
    assert found["sources"] == {}


def test_several_sources_have_metrics_each():
    found = compute_eval_metrics(
        [*graded.problem("a", True, [True], source="x"), *graded.problem("b", False, [True], source="y")]
    )
    greedy = {name: graded.means(part["metrics"])["greedy"] for name, part in found["sources"].items()}
    assert greedy == {"x": 1, "y": 0}
    assert found["levels"] == found["subjects"] == {}


def test_strict_and_lenient_metrics_are_separate():
    loose = {"response": r"so \boxed{4}", "format_error": "no <think>", "lenient": True}
    found = compute_eval_metrics(
        [graded.transcript("p", sampling, False, **loose) for sampling in ("greedy", "sampled")]
    )
    strict, lenient = graded.means(found["metrics"]), graded.means(found["metrics"], "lenient")
    assert set(strict.values()) == {0} and set(lenient.values()) == {1}
    assert found["format"] == {"greedy": 0, "sampled": 0}


def test_formats_by_hand():
    """Of 2 + 4 responses: greedy one cut off; sampled one cut off, two malformed."""
    cut_off, malformed = {"format_error": TRUNCATED}, {"format_error": "no <think>"}
    rows = [
        graded.transcript("a", "greedy", False, source="x", **cut_off),
        graded.transcript("a", "sampled", False, source="x", **cut_off),
        graded.transcript("a", "sampled", False, source="x", **malformed),
        graded.transcript("b", "greedy", True, source="y"),
        graded.transcript("b", "sampled", True, source="y"),
        graded.transcript("b", "sampled", False, source="y", **malformed),
    ]
    found = compute_eval_metrics(rows)
    assert found["format"] == {"greedy": 0.5, "sampled": 0.25}
    assert found["truncated"] == {"greedy": 0.5, "sampled": 0.25}
    assert found["malformed"] == {"greedy": 0, "sampled": 0.5}
    x, y = found["sources"]["x"], found["sources"]["y"]
    assert (x["truncated"], x["malformed"]) == ({"greedy": 1, "sampled": 0.5}, {"greedy": 0, "sampled": 0.5})
    assert (y["truncated"], y["malformed"]) == ({"greedy": 0, "sampled": 0}, {"greedy": 0, "sampled": 0.5})


def test_summary():
    row = eval_metrics.summarize(BENCHMARK)
    assert row["greedy"] == 0.5 and row["sampled_lenient"] == pytest.approx(2 / 3) and row["timeouts"] == 4
    assert {"sampled", "greedy_lenient", "pass@4", "maj@4_lenient", "format"} <= row.keys()
    assert all(isinstance(value, float) for value in row.values())
    unknown = eval_metrics.summarize(graded.problem("c", None, [True]))
    assert np.isnan(unknown["greedy"]) and unknown["sampled"] == 1


def test_problems_without_all_transcripts_are_listed():
    rows = [
        *graded.problem("whole", True, [True, False]),
        *graded.problem("fine", True, [True, False]),
        *graded.problem("short", True, [True]),
        *graded.problem("twice", True, [True, False]),
        graded.transcript("twice", "greedy", True),
        *graded.problem("torn", True, [True, False])[1:],
        *graded.problem("", True, [True, False]),
        *graded.problem("odd", True, [True, False]),
        graded.transcript("odd", "", True),
    ]
    with pytest.raises(UserError) as error:
        compute_eval_metrics(rows)
    assert "1 greedy transcript and 2 sampled ones" in str(error.value)
    assert str(error.value).splitlines()[1:] == [
        "  short: 1 greedy, 1 sampled, 0 other",
        "  twice: 2 greedy, 2 sampled, 0 other",
        "  torn: 0 greedy, 2 sampled, 0 other",
        "  no id: 1 greedy, 2 sampled, 0 other",
        "  odd: 1 greedy, 2 sampled, 1 other",
    ]
    with pytest.raises(UserError, match="no transcripts"):
        compute_eval_metrics([])
    with pytest.raises(UserError, match="and 5 more"):
        compute_eval_metrics(
            [*graded.problem("a", True, [True]), *(graded.transcript(str(i), "greedy", True) for i in range(25))]
        )


def test_problems_are_resampled_rather_than_samples():
    """With problems that are always right or always wrong, more samples do not narrow the interval."""
    few = compute_eval_metrics([t for i in range(10) for t in graded.problem(str(i), i < 5, [i < 5])])["metrics"]
    many = compute_eval_metrics([t for i in range(10) for t in graded.problem(str(i), i < 5, [i < 5] * 40)])["metrics"]
    assert few["sampled"] == many["sampled"]
    assert many["sampled"]["strict"]["high"] - many["sampled"]["strict"]["low"] > 0.4
