"""What is said at the start and the end of a run, from files made by hand."""

import json

import pytest

from mig_jax.records import metrics
from mig_jax.trainer import report
from tests import tiny
from tests.trainer.diagnosis_test import HEALTHY


def write_run(workdir, rows, *, mode="train", **changes):
    config = json.loads(json.dumps(tiny.get_config(**changes).to_dict() | {"mode": mode}))
    with metrics.open_metrics(str(workdir), config=config, resume_step=None) as writer:
        for row in rows:
            writer.write(row["step"], {name: value for name, value in row.items() if name != "step"})


def evaluation(step, sampled, greedy, share=1.0):
    return {"step": step, "eval/sampled": sampled, "eval/greedy": greedy, "eval/format": share}


def training(*steps, **changes):
    return [{"step": step} | HEALTHY | changes for step in steps]


@pytest.mark.parametrize(
    "rows, line",
    [
        ([evaluation(0, 0.1, 0.2), evaluation(2, 0.3, 0.4), evaluation(4, 0.5, 0.6)],
         "held-out accuracy (start → end): sampled 0.100 → 0.500, greedy 0.200 → 0.600"),
        ([evaluation(0, 0.1, 0.2)], "held-out accuracy (start): sampled 0.100, greedy 0.200"),
        ([evaluation(4, 0.1, 0.2)], "held-out accuracy (end): sampled 0.100, greedy 0.200"),
        (training(1) + training(2, **{"reward/accuracy": 0.75}),
         "held-out accuracy: not evaluated; accuracy in training: 0.500 → 0.750"),
        ([{"step": 1, "loss/sft": 1.0}], "held-out accuracy: not evaluated"),
    ],
)  # fmt: skip
def test_accuracy_line(tmp_path, rows, line):
    write_run(tmp_path, rows)
    assert report.accuracy_line(str(tmp_path)) == line


def test_accuracy_line_with_an_sft_stage(tmp_path):
    write_run(tmp_path, [evaluation(0, 0.3, 0.4), evaluation(9, 0.5, 0.6)])
    write_run(tmp_path / "sft", [evaluation(0, 0.1, 0.2), evaluation(5, 0.3, 0.4)], mode="sft")
    assert report.accuracy_line(str(tmp_path)) == (
        "held-out accuracy (start → after SFT → start of RL → end): sampled 0.100 → 0.300 → 0.300 → 0.500, "
        "greedy 0.200 → 0.400 → 0.400 → 0.600"
    )


def test_closing_lines_name_every_file_and_what_went_wrong(tmp_path, capsys):
    bad = {"reward/format": 0.0, "sft/gate": 0.0}
    write_run(tmp_path, training(1) + training(2, 3, **bad))
    (tmp_path / "model").mkdir()
    capsys.readouterr()
    report.write_report(str(tmp_path))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"everything is in {tmp_path}:"
    listed = [line.split()[1] for line in printed if line.startswith("- ")]
    assert listed == ["model/", "curves.png", "metrics.jsonl", "tensorboard/", "report.md"]
    assert any(line.startswith("warning: no response of steps 2 to 3 is well formed") for line in printed)
    assert printed[-1].startswith("held-out accuracy: not evaluated")
    text = (tmp_path / "report.md").read_text()
    assert "Warning: no response of steps 2 to 3" in text and printed[-1] in text and "- curves.png" in text


@pytest.mark.parametrize(
    "every, due", [(1, [5, 10, 20, 40, 80]), (2, [6, 10, 20, 40, 80]), (7, [7, 14, 21, 42, 84]), (50, [50, 100])]
)
def test_warnings_come_when_the_number_of_steps_has_doubled(tmp_path, monkeypatch, every, due):
    write_run(tmp_path, training(1, **{"reward/format": 0.0}))
    written = []
    monkeypatch.setattr(report.tqdm, "write", written.append)
    warned = []
    for done in range(1, 101):
        report.warn_after_step(str(tmp_path), done=done, every=every)
        warned += [done] if written else []
        written.clear()
    assert warned == due


def test_warning_before_the_first_step(tmp_path, capsys):
    write_run(tmp_path, [evaluation(0, 0.0, 0.0, share=0.0)])
    capsys.readouterr()
    report.warn_after_evaluation(str(tmp_path))
    assert capsys.readouterr().out.startswith("warning: no held-out response before the first step is well formed")
    write_run(tmp_path, [evaluation(0, 0.0, 0.0, share=0.1)])
    capsys.readouterr()
    report.warn_after_evaluation(str(tmp_path))
    assert capsys.readouterr().out == ""
