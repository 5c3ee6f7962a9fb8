"""Markdown tables of results."""

from mig_jax.records import eval_tables, hallusion_bench
from mig_jax.records.eval_metrics import compute_eval_metrics
from mig_jax.records.eval_tables import render_tables
from mig_jax.text.response_format import TRUNCATED
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
        "benchmark problems greedy strict greedy lenient sampled strict sampled lenient pass@n strict maj@n strict "
        "cut off malformed"
    )
    assert tables[0][0].replace("|", " ").split() == headings.split()
    assert r"| cmm \| math" in text and "Warning" not in text
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


def test_pass_and_majority_of_one_sample_are_not_shown():
    """They would repeat the sampled accuracy."""
    one = compute_eval_metrics(graded.problem("a", True, [False]))
    text = render_tables({"one": one})
    headings = [cell.strip() for cell in text.splitlines()[0].split("|")]
    assert headings[-4:] == ["sampled lenient", "cut off", "malformed", ""]
    both = render_tables({"one": one, "two": compute_eval_metrics(graded.problem("a", True, [False, True]))})
    assert "pass@n strict" in both and "n = 1 (one), 2 (two)." in both


def test_interval_of_equal_values_is_not_a_point():
    text = render_tables({"none": compute_eval_metrics([t for n in "abcd" for t in graded.problem(n, False, [False])])})
    assert text.count("0.0 [0.0, 49.0]") == 4


def test_shares_are_shown_and_high_ones_are_warned_of():
    cut_off, malformed = {"format_error": TRUNCATED}, {"format_error": "no <think>"}
    greedy = [graded.transcript(str(n), "greedy", n > 0, **(cut_off if n == 0 else {})) for n in range(16)]
    sampled = [graded.transcript(str(n), "sampled", n > 4, **(malformed if n < 4 else {})) for n in range(16)]
    text = render_tables({"chain": compute_eval_metrics([*greedy, *sampled])})
    assert text.splitlines()[2].endswith("| 6.2 / 0.0 | 0.0 / 25.0 |")
    cut_off_line, malformed_line = [line for line in text.splitlines() if line.startswith("Warning")]
    assert cut_off_line == (
        "Warning: 6.2 % of the greedy and 0.0 % of the sampled responses to chain were cut off by the length limit: "
        "raise rollout.max_new_tokens."
    )
    assert malformed_line.startswith(
        "Warning: 0.0 % of the greedy and 25.0 % of the sampled responses to chain are malformed, and count as wrong"
    )


def test_shares_at_the_limit_are_not_warned_of():
    rows = [graded.transcript(str(n), s, True) for n in range(20) for s in ("greedy", "sampled")]
    rows[0] = graded.transcript("0", "greedy", True, format_error=TRUNCATED)
    rows[2:9:2] = [graded.transcript(str(n), "greedy", True, format_error="no step") for n in range(1, 5)]
    text = render_tables({"chain": compute_eval_metrics(rows)})
    assert text.splitlines()[2].endswith("| 5.0 / 0.0 | 20.0 / 0.0 |") and "Warning" not in text
