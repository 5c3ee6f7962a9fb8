"""The metrics of HallusionBench on hand-made verdicts."""

import pytest

from mig_jax.errors import UserError
from mig_jax.records import hallusion_bench
from mig_jax.records.eval_metrics import compute_eval_metrics
from tests.records import graded


def test_by_hand(monkeypatch):
    verdicts = {
        # A figure and its edited version, two questions each. Question 1 is right with both, question 0 with one.
        "VD/chart/0/0/0": True, "VD/chart/0/0/1": True, "VD/chart/0/1/0": False, "VD/chart/0/1/1": True,
        # Asked without a figure, then with one. A question without a figure counts in qAcc, not in fAcc.
        "VS/map/0/0/0": False, "VS/map/0/0/1": True, "VS/map/0/1/0": True, "VS/map/0/1/1": True,
        # The same numbers in another subcategory are another figure and question.
        "VS/table/0/1/0": False,
    }  # fmt: skip
    monkeypatch.setattr(hallusion_bench, "QUESTIONS", 9)
    found = compute_eval_metrics(graded.hallusion_bench(verdicts))["hallusion_bench"]
    expected = pytest.approx({"aAcc": 6 / 9, "fAcc": 2 / 4, "qAcc": 2 / 5})
    assert graded.means(found) == graded.means(found, "lenient") == expected
    # With the correct answers alone, fAcc and qAcc would be 1.
    part = {id: correct for id, correct in verdicts.items() if correct}
    assert graded.means(compute_eval_metrics(graded.hallusion_bench(part))["hallusion_bench"]) == {"aAcc": 1}


def test_all_metrics_need_1129_questions():
    whole = graded.hallusion_bench({f"VD/a/{n}/0/0": True for n in range(1129)})
    assert graded.means(compute_eval_metrics(whole)["hallusion_bench"]) == {"aAcc": 1, "fAcc": 1, "qAcc": 1}
    assert graded.means(compute_eval_metrics(whole[2:])["hallusion_bench"]) == {"aAcc": 1}


def test_a_group_with_an_undecided_question_is_undecided_unless_another_is_wrong(monkeypatch):
    monkeypatch.setattr(hallusion_bench, "QUESTIONS", 4)
    verdicts = {"VD/a/0/0/0": None, "VD/a/0/0/1": False, "VD/a/0/1/0": None, "VD/a/0/1/1": True}
    found = compute_eval_metrics(graded.hallusion_bench(verdicts))["hallusion_bench"]
    assert {name: (e["strict"]["mean"], e["strict"]["undecided"]) for name, e in found.items()} == {
        "aAcc": (1 / 2, 2),
        "fAcc": (0, 1),
        "qAcc": (0, 1),
    }


def test_other_ids_are_an_error():
    with pytest.raises(UserError, match="set_id/figure_id/question_id:\n  VD/12$"):
        compute_eval_metrics(graded.hallusion_bench({"VD/12": True}))
