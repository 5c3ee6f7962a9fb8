"""Numbers of an evaluation on hand-made tables."""

import itertools
import json
import math
import random

import numpy as np
import pytest

from mig_jax.records import eval_metrics
from mig_jax.records.eval_metrics import compute_eval_metrics, interval, majority, pass_at_k, pass_at_k_q
from mig_jax.records.transcripts import Transcript
from mig_jax.text.response_format import render_response

R, W, U = 1.0, 0.0, np.nan


def _response(answer: str) -> str:
    return render_response(["count"], answer)


def _transcript(id, sampling, is_correct, *, answer="4", lenient="same", **fields) -> Transcript:
    return Transcript(
        question="2 + 2?",
        response=fields.pop("response", _response(answer)),
        answer="4",
        kind=fields.pop("kind", "number"),
        is_correct=is_correct,
        is_correct_lenient=is_correct if lenient == "same" else lenient,
        id=id,
        sampling=sampling,
        **fields,
    )


def _problem(id, greedy, sampled, **fields) -> list[Transcript]:
    """A problem whose samples answer 4 when they are right and else 5."""
    sides = [("greedy", greedy), *(("sampled", correct) for correct in sampled)]
    return [_transcript(id, side, correct, answer="4" if correct else "5", **fields) for side, correct in sides]


def _means(figures, reading="strict"):
    return {name: readings[reading]["mean"] for name, readings in figures.items()}


# ------------------------------------------------------------------------------------------------------------- pass@k


# All 3 subsets of 2 of 3 samples, 1 of which is right: 2 of them hold it.
@pytest.mark.parametrize(
    "n_correct, n, k, expected", [(1, 3, 2, 2 / 3), (0, 4, 2, 0), (4, 4, 1, 1), (3, 4, 2, 1), (2, 4, 1, 0.5)]
)
def test_pass_at_k_by_hand(n_correct, n, k, expected):
    assert pass_at_k(n_correct, n, k) == pytest.approx(expected)


@pytest.mark.parametrize("n_correct", range(7))
@pytest.mark.parametrize("k", range(1, 7))
def test_pass_at_k_is_the_mean_over_all_subsets(n_correct, k):
    samples = [True] * n_correct + [False] * (6 - n_correct)
    subsets = list(itertools.combinations(samples, k))
    assert pass_at_k(n_correct, 6, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="pass@5 cannot be told from 4"):
        pass_at_k(1, 4, 5)


def test_pass_at_k_of_a_table_with_undecided_samples():
    correct_qn = np.array([[R, W, W, W], [W, W, W, W], [R, R, W, W], [R, W, U, W], [U, U, U, R]])
    expected = [1 - math.comb(4 - c, 2) / math.comb(4, 2) for c in (1, 0, 2)] + [1 - math.comb(2, 2) / math.comb(3, 2)]
    np.testing.assert_allclose(pass_at_k_q(correct_qn, 2), [*expected, np.nan])
    np.testing.assert_allclose(pass_at_k_q(correct_qn, 4), [1, 0, 1, np.nan, np.nan])


@pytest.mark.parametrize("n, expected", [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_which_k_are_reported(n, expected):
    assert eval_metrics.ks(n) == expected


# -------------------------------------------------------------------------------------------------------------- maj@n


@pytest.mark.parametrize(
    "votes, correct, expected",
    [
        (["4", "5", "4"], [R, W, R], 1),
        (["4", "5", "5"], [R, W, W], 0),
        (["4", "5"], [R, W], 1 / 2),
        (["4", "5", "6", "7", "4", "5", "6"], [R, W, W, W, R, W, W], 1 / 3),
        (["", "", "", "4"], [W, W, W, R], 1),
        (["", ""], [W, W], 0),
        (["5"], [U], U),
        (["4", "4", "5"], [U, R, W], 1),
        (["4", "5", "5"], [R, U, U], U),
        (["4", "4", "5"], [R, R, U], 1),
        (["4", "5"], [R, U], U),
    ],
)
def test_majority_by_hand(votes, correct, expected):
    np.testing.assert_allclose(majority(votes, np.array(correct)), expected)


def test_votes_are_counted_in_their_normal_spelling():
    answers = ["5", "$4$", "4", r"\boxed{4}", "5", "5.5"]
    sampled = [_transcript("p", "sampled", i in (1, 2, 3), answer=a) for i, a in enumerate(answers)]
    figures = compute_eval_metrics([_transcript("p", "greedy", True), *sampled])["figures"]
    assert figures["maj@6"]["strict"]["mean"] == figures["maj@6"]["lenient"]["mean"] == 1
    assert figures["sampled"]["strict"]["mean"] == 0.5


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
def test_answers_vote_not_their_spellings(kind, choices, answers, correct):
    sampled = [
        _transcript("p", "sampled", bool(c), answer=a, kind=kind, choices=choices)
        for a, c in zip(answers, correct, strict=True)
    ]
    figures = compute_eval_metrics([_transcript("p", "greedy", True, kind=kind, choices=choices), *sampled])["figures"]
    assert figures["maj@5"]["strict"]["mean"] == figures["maj@5"]["lenient"]["mean"] == 1


def test_a_response_without_an_answer_votes_for_nothing():
    """Not even for the choice that is nearest to it."""
    options = {"kind": "nearest_choice", "choices": ("river", "bank")}
    silent = [_transcript("p", "sampled", False, response="I wonder", format_error="no <think>", **options)] * 2
    sampled = [*silent, _transcript("p", "sampled", True, answer="banks", **options)]
    figures = compute_eval_metrics([_transcript("p", "greedy", True, **options), *sampled])["figures"]
    assert figures["maj@3"]["strict"]["mean"] == figures["maj@3"]["lenient"]["mean"] == 1


def test_a_malformed_response_votes_only_leniently():
    loose = [_transcript("p", "sampled", True, format_error="text outside the blocks") for _ in range(2)]
    loose = [*loose, _transcript("p", "sampled", False, lenient=True, response=r"\boxed{4}", format_error="no <think>")]
    tidy = [_transcript("p", "sampled", False, answer="5")]
    figures = compute_eval_metrics([_transcript("p", "greedy", False), *loose, *tidy])["figures"]
    assert _means(figures) == {"greedy": 0, "sampled": 0, "pass@1": 0, "pass@2": 0, "pass@4": 0, "maj@4": 0}
    expected = {"greedy": 0, "sampled": 0.75, "pass@1": 0.75, "pass@2": 1, "pass@4": 1, "maj@4": 1}
    assert _means(figures, "lenient") == pytest.approx(expected)


# -------------------------------------------------------------------------------------------------- a whole benchmark

BENCHMARK = [
    *_problem("a", True, [True, True, False, True], level="Level 10", subject="Algebra"),
    *_problem("b", False, [False, True, False, False], level="Level 2", subject="Algebra"),
    *_problem("c", None, [True, None, None, None], level="Level 2", subject=""),
]


def test_a_benchmark_by_hand():
    found = compute_eval_metrics(random.Random(0).sample(BENCHMARK, len(BENCHMARK)))
    assert (found["problems"], found["samples"]) == (3, 4)
    means = {"greedy": 1 / 2, "sampled": 2 / 3, "pass@1": 2 / 3, "pass@2": 0.75, "pass@4": 1, "maj@4": 1 / 2}
    assert _means(found["figures"]) == pytest.approx(means)
    undecided = {name: figure["strict"]["undecided"] for name, figure in found["figures"].items()}
    assert undecided == {"greedy": 1, "sampled": 0, "pass@1": 0, "pass@2": 1, "pass@4": 1, "maj@4": 1}
    assert found["timeouts"] == {"strict": 4, "lenient": 4}
    assert found["format"] == {"greedy": 1, "sampled": 1}
    assert found["characters"] == {"greedy": len(_response("4")), "sampled": len(_response("4"))}
    assert "hallusion_bench" not in found
    assert found == json.loads(json.dumps(found))


def test_levels_and_subjects_have_their_own_problems():
    found = compute_eval_metrics(BENCHMARK)
    assert {name: part["problems"] for name, part in found["levels"].items()} == {"Level 2": 2, "Level 10": 1}
    assert list(found["levels"]) == ["Level 2", "Level 10"]
    level = _means(found["levels"]["Level 2"]["figures"])
    assert (level["greedy"], level["sampled"], level["pass@4"]) == pytest.approx((0, (1 / 4 + 1) / 2, 1))
    assert {name: part["problems"] for name, part in found["subjects"].items()} == {"Algebra": 2, "": 1}
    assert found["subjects"][""]["figures"]["greedy"]["strict"] == {
        "mean": None, "low": None, "high": None, "undecided": 1
    }  # fmt: skip
    assert found["sources"] == {}


def test_sources_are_told_apart_where_there_are_several():
    found = compute_eval_metrics([*_problem("a", True, [True], source="x"), *_problem("b", False, [True], source="y")])
    assert {name: _means(part["figures"])["greedy"] for name, part in found["sources"].items()} == {"x": 1, "y": 0}
    assert found["levels"] == found["subjects"] == {}


def test_strict_and_lenient_stand_side_by_side():
    loose = {"response": r"so \boxed{4}", "format_error": "no <think>", "lenient": True}
    found = compute_eval_metrics([_transcript("p", side, False, **loose) for side in ("greedy", "sampled")])
    assert set(_means(found["figures"]).values()) == {0} and set(_means(found["figures"], "lenient").values()) == {1}
    assert found["format"] == {"greedy": 0, "sampled": 0}


def test_headline():
    row = eval_metrics.summarize(BENCHMARK)
    assert row["greedy"] == 0.5 and row["sampled_lenient"] == pytest.approx(2 / 3) and row["timeouts"] == 4
    assert {"sampled", "greedy_lenient", "pass@4", "maj@4_lenient", "format"} <= row.keys()
    assert all(isinstance(value, float) for value in row.values())
    unknown = eval_metrics.summarize(_problem("c", None, [True]))
    assert np.isnan(unknown["greedy"]) and unknown["sampled"] == 1


def test_what_is_missing_is_listed():
    rows = [
        *_problem("whole", True, [True, False]),
        *_problem("fine", True, [True, False]),
        *_problem("short", True, [True]),
        *_problem("twice", True, [True, False]),
        _transcript("twice", "greedy", True),
        *_problem("torn", True, [True, False])[1:],
        *_problem("", True, [True, False]),
        *_problem("odd", True, [True, False]),
        _transcript("odd", "", True),
    ]
    with pytest.raises(ValueError) as error:
        compute_eval_metrics(rows)
    assert "1 greedy transcript and 2 sampled ones" in str(error.value)
    assert str(error.value).splitlines()[1:] == [
        "  short: 1 greedy, 1 sampled, 0 neither",
        "  twice: 2 greedy, 2 sampled, 0 neither",
        "  torn: 0 greedy, 2 sampled, 0 neither",
        "  no id: 1 greedy, 2 sampled, 0 neither",
        "  odd: 1 greedy, 2 sampled, 1 neither",
    ]
    with pytest.raises(ValueError, match="no transcripts"):
        compute_eval_metrics([])
    with pytest.raises(ValueError, match="and 5 more"):
        compute_eval_metrics([*_problem("a", True, [True]), *(_transcript(str(i), "greedy", True) for i in range(25))])


# ---------------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("share", [0.02, 0.4, 0.5, 0.97])
def test_the_interval_holds_the_mean_and_is_as_wide_as_theory_says(share):
    values = (np.arange(500) < 500 * share).astype(float)
    low, high = interval(values)
    assert low < share < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(share * (1 - share) / 500), rel=0.1)


def test_the_interval_shrinks_with_more_problems_and_is_the_same_every_time():
    values = np.tile([0.0, 1.0, 0.25, 0.75, 0.5], 4)
    widths = [np.subtract(*interval(np.tile(values, times))[::-1]) for times in (1, 4, 16)]
    assert widths[0] > 1.6 * widths[1] > 1.6 * 1.6 * widths[2] > 0
    assert interval(values) == interval(np.random.default_rng(3).permutation(values))


@pytest.mark.parametrize("values", [[0.0], [1.0], [1 / 3] * 7, [0.0] * 50])
def test_what_does_not_vary_has_no_width(values):
    assert interval(np.array(values)) == pytest.approx((values[0], values[0]))


def test_problems_are_resampled_not_samples():
    """Problems that are always right or always wrong: a thousand samples of ten problems are ten problems."""
    few = compute_eval_metrics([t for i in range(10) for t in _problem(str(i), i < 5, [i < 5])])["figures"]
    many = compute_eval_metrics([t for i in range(10) for t in _problem(str(i), i < 5, [i < 5] * 40)])["figures"]
    assert few["sampled"] == many["sampled"]
    assert many["sampled"]["strict"]["high"] - many["sampled"]["strict"]["low"] > 0.4


# ----------------------------------------------------------------------------------------------------- HallusionBench


def _hallusion(verdicts):
    return [
        t for id, correct in verdicts.items() for t in _problem(id, correct, [correct], source="hallusion_bench")
    ]  # fmt: skip


def test_hallusion_bench_by_hand(monkeypatch):
    verdicts = {
        # A figure and its edited version: two questions each. Question 1 is right with both, question 0 with one.
        "VD/chart/0/0/0": True, "VD/chart/0/0/1": True, "VD/chart/0/1/0": False, "VD/chart/0/1/1": True,
        # Asked without a figure, then with one: what is asked without belongs to no figure, but to its pair.
        "VS/map/0/0/0": False, "VS/map/0/0/1": True, "VS/map/0/1/0": True, "VS/map/0/1/1": True,
        # The same numbers in another subcategory are other figures and questions.
        "VS/table/0/1/0": False,
    }  # fmt: skip
    monkeypatch.setattr(eval_metrics, "HALLUSION_QUESTIONS", 9)
    found = compute_eval_metrics(_hallusion(verdicts))["hallusion_bench"]
    assert _means(found) == _means(found, "lenient") == pytest.approx({"aAcc": 6 / 9, "fAcc": 2 / 4, "qAcc": 2 / 5})
    # Without the wrong answers all figures that are left would be right.
    part = {id: correct for id, correct in verdicts.items() if correct}
    assert _means(compute_eval_metrics(_hallusion(part))["hallusion_bench"]) == {"aAcc": 1}


def test_the_whole_of_hallusion_bench_is_1129_questions():
    whole = _hallusion({f"VD/a/{n}/0/0": True for n in range(1129)})
    assert _means(compute_eval_metrics(whole)["hallusion_bench"]) == {"aAcc": 1, "fAcc": 1, "qAcc": 1}
    assert _means(compute_eval_metrics(whole[2:])["hallusion_bench"]) == {"aAcc": 1}


def test_an_undecided_question_leaves_its_figure_undecided_unless_another_is_wrong(monkeypatch):
    monkeypatch.setattr(eval_metrics, "HALLUSION_QUESTIONS", 4)
    verdicts = {"VD/a/0/0/0": None, "VD/a/0/0/1": False, "VD/a/0/1/0": None, "VD/a/0/1/1": True}
    found = compute_eval_metrics(_hallusion(verdicts))["hallusion_bench"]
    assert {name: (f["strict"]["mean"], f["strict"]["undecided"]) for name, f in found.items()} == {
        "aAcc": (1 / 2, 2),
        "fAcc": (0, 1),
        "qAcc": (0, 1),
    }


def test_another_id_of_hallusion_bench_is_refused():
    with pytest.raises(ValueError, match="set_id/figure_id/question_id: VD/12$"):
        compute_eval_metrics(_hallusion({"VD/12": True}))


# -------------------------------------------------------------------------------------------------------------- table


def test_the_table_reads_well_as_plain_text():
    chinese = _problem("a", True, [True, False], level="8", subject="代数")
    both = {
        "gsm8k": compute_eval_metrics([*_problem("a", True, [True, True]), *_problem("b", False, [False, True])]),
        "cmm | math": compute_eval_metrics(
            [*chinese, *_problem("b", None, [False, False], level="10", subject="plane geometry")]
        ),
        "hallusion_bench": compute_eval_metrics(_hallusion({"VD/a/0/0/0": True, "VD/a/0/0/1": False})),
    }
    text = eval_metrics.table(both)
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for lines in tables:
        assert len({sum(eval_metrics._width(c) for c in line) for line in lines}) == 1, "columns are aligned"
        assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
    assert [cell.strip() for cell in tables[0][2].split("|")][1:6] == [
        "gsm8k", "2", "50.0 [0.0, 100.0]", "50.0 [0.0, 100.0]", "75.0 [50.0, 100.0]"
    ]  # fmt: skip
    headings = (
        "benchmark problems greedy strict greedy lenient sampled strict sampled lenient pass@n strict maj@n strict"
    )
    assert tables[0][0].replace("|", " ").split() == headings.split()
    assert r"| cmm \| math" in text and "Undecided, left out of the means: cmm | math 1 strict and 1 lenient." in text
    assert "n = 2 (gsm8k), 2 (cmm | math), 1 (hallusion_bench)." in text
    assert [line for line in text.splitlines() if line.startswith("#")] == ["## cmm | math", "## hallusion_bench"]
    assert [line.split()[1] for line in tables[1][2:]] == ["8", "10"] and "| –" not in tables[1][2]
    assert "–" in tables[1][3], "nothing is known of the greedy answer to the second problem"
    assert [line.split()[1] for line in tables[3][2:]] == ["aAcc"]
    assert text.endswith("\n\nfAcc and qAcc are left out: they need all 1,129 questions.")


def test_the_table_of_the_whole_of_hallusion_bench(monkeypatch):
    monkeypatch.setattr(eval_metrics, "HALLUSION_QUESTIONS", 1)
    text = eval_metrics.table({"hallusion_bench": compute_eval_metrics(_hallusion({"VD/a/0/0/0": True}))})
    assert [line.split()[1] for line in text.splitlines()[-3:]] == ["aAcc", "fAcc", "qAcc"]
    assert "left out" not in text
