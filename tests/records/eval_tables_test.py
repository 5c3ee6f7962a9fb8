"""Markdown tables of results."""

from mig_jax.records import eval_tables, hallusion_bench
from mig_jax.records.eval_metrics import compute_eval_metrics
from mig_jax.records.eval_tables import render_tables
from tests.records import graded


def test_tables_are_aligned_plain_text():
    chinese = graded.problem("a", True, [True, False], level="8", subject="代数")
    both = {
        "gsm8k": compute_eval_metrics(
            [*graded.problem("a", True, [True, True]), *graded.problem("b", False, [False, True])]
        ),
        "cmm | math": compute_eval_metrics(
            [*chinese, *graded.problem("b", None, [False, False], level="10", subject="plane geometry")]
        ),
        "hallusion_bench": compute_eval_metrics(graded.hallusion_bench({"VD/a/0/0/0": True, "VD/a/0/0/1": False})),
    }
    text = render_tables(both)
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for lines in tables:
        assert len({sum(eval_tables._display_width(c) for c in line) for line in lines}) == 1, "columns are aligned"
        assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1
    assert [cell.strip() for cell in tables[0][2].split("|")][1:6] == [
        "gsm8k", "2", "50.0 [0.0, 100.0]", "50.0 [0.0, 100.0]", "75.0 [50.0, 100.0]"
    ]  # fmt: skip
    headings = (
        "benchmark problems greedy strict greedy lenient sampled strict sampled lenient pass@n strict maj@n strict"
    )
    assert tables[0][0].replace("|", " ").split() == headings.split()
    assert r"| cmm \| math" in text
    assert "Undecided responses, excluded from the means: cmm | math 1 strict, 1 lenient." in text
    assert "n = 2 (gsm8k), 2 (cmm | math), 1 (hallusion_bench)." in text
    assert [line for line in text.splitlines() if line.startswith("#")] == ["## cmm | math", "## hallusion_bench"]
    assert [line.split()[1] for line in tables[1][2:]] == ["8", "10"] and "| –" not in tables[1][2]
    assert "–" in tables[1][3], "the greedy answer to the second problem is undecided"
    assert [line.split()[1] for line in tables[3][2:]] == ["aAcc"]
    assert text.endswith("\n\nfAcc and qAcc are not reported: they need all 1,129 questions.")


def test_table_of_all_of_hallusion_bench(monkeypatch):
    monkeypatch.setattr(hallusion_bench, "QUESTIONS", 1)
    text = render_tables({"hallusion_bench": compute_eval_metrics(graded.hallusion_bench({"VD/a/0/0/0": True}))})
    assert [line.split()[1] for line in text.splitlines()[-3:]] == ["aAcc", "fAcc", "qAcc"]
    assert "not reported" not in text
