"""Evaluation of several sources: what is written, what is counted, and that an interruption changes nothing."""

import json
from pathlib import Path

import jax
import pytest

from mig_jax import benchmarks, commands, evaluate
from mig_jax.check_config import ConfigError
from mig_jax.data import builders
from mig_jax.transcripts import Transcript, read_transcripts
from tests import tiny

SOURCES = "chain:terms=7,gsm8k"


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Eight fake devices on two cores are slow, and have their tests elsewhere."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: first)
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """A GSM8K of five short problems and one that is too long for the quickstart's prompts."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "gsm8k").mkdir()
    questions = [f"Last digits of {n} +5 -3 *3 +8 -2 +6" for n in range(5)] + ["7" * 100]
    rows = [{"question": question, "answer": f"Think.\n#### {n}"} for n, question in enumerate(questions)]
    (folder / "gsm8k" / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def config_of(data_dir, **changes):
    return tiny.get_quickstart(
        eval__samples=2,
        eval__batch_size=4,
        eval__scored=2,
        eval__benchmarks=SOURCES,
        data__dir=str(data_dir),
        **changes,
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, data_dir) -> Path:
    workdir = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        first = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda: first)
        patch.setattr(jax, "device_count", lambda: 1)
        commands.evaluate(config_of(data_dir), str(workdir))
    return workdir


def test_what_is_written(evaluated):
    report = json.loads((evaluated / "results.json").read_text())["sources"]
    chain, gsm8k = report["chain:terms=7"], report["gsm8k"]
    assert (chain["problems"], chain["left_out"], gsm8k["problems"]) == (8, {}, 5)
    assert list(gsm8k["left_out"].values()) == [1]
    for name, figures in (("chain_terms=7", chain), ("gsm8k", gsm8k)):
        rows = read_transcripts(str(evaluated / name / "transcripts.jsonl"))
        assert len(rows) == figures["problems"] * 3
        right = [row.is_correct_strict for row in rows if row.sampling == "greedy"]
        assert figures["figures"]["greedy"]["strict"]["mean"] == pytest.approx(sum(right) / len(right))
        assert sum(bool(row.ell_k) for row in rows) == 2
        assert (evaluated / name / "transcripts.html").stat().st_size > 0
        assert not (evaluated / name / "parts").exists()
    assert chain["figures"]["greedy"]["strict"]["mean"] > 0.5, "greedily the quickstart's policy is right"
    table = (evaluated / "results.md").read_text()
    assert "chain:terms=7" in table and "Left out: 1 of 6 problems of gsm8k, with a prompt of more" in table


def files(workdir: Path) -> dict[str, bytes]:
    return {str(p.relative_to(workdir)): p.read_bytes() for p in sorted(workdir.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("batches", [1, 4])
def test_interrupted_and_resumed_it_is_the_same(evaluated, data_dir, tmp_path, monkeypatch, batches):
    judge, done = evaluate.judge, []

    def judge_until_killed(*arguments):
        if len(done) == batches:
            raise KeyboardInterrupt
        done.append(None)
        return judge(*arguments)

    monkeypatch.setattr(evaluate, "judge", judge_until_killed)
    with pytest.raises(KeyboardInterrupt):
        commands.evaluate(config_of(data_dir), str(tmp_path))
    judged = []
    monkeypatch.setattr(evaluate, "judge", lambda *arguments: judged.append(None) or judge(*arguments))
    commands.evaluate(config_of(data_dir), str(tmp_path))
    # 8 and 5 problems: greedily in batches of 4, sampled in batches of 2.
    assert len(judged) == (2 + 4) + (2 + 3) - batches, "what was done is not done again"
    assert files(tmp_path) == files(evaluated)


def test_another_config_is_refused_and_more_sources_are_not(evaluated, data_dir):
    with pytest.raises(ConfigError, match="rollout.temperature: 1.0 before, 0.5 now"):
        commands.evaluate(config_of(data_dir, rollout__temperature=0.5), str(evaluated))
    before = files(evaluated)
    config = config_of(data_dir)
    config.eval.benchmarks = "gsm8k"
    commands.evaluate(config, str(evaluated))
    commands.evaluate(config_of(data_dir), str(evaluated))
    assert files(evaluated) == before


def test_a_part_of_a_source_is_drawn_once(data_dir):
    problems = builders.open_benchmark("gsm8k", split="", data_dir=data_dir)
    assert len(problems) == 6 and {problem.kind for problem in problems} == {"number"}


def test_the_page_shows_right_and_wrong_ones():
    def greedy(*correct):
        return [Transcript("?", "", "1", is_correct=c, sampling="greedy") for c in correct]

    rows = [
        Transcript("?", "", "1", is_correct=True, sampling="sampled"),
        *greedy(True, True, False, True, False, None),
    ]
    assert benchmarks.some_of_both(rows, 4) == [1, 2, 3, 5]
    assert benchmarks.some_of_both(rows, 2) == [1, 3]
    assert benchmarks.some_of_both(greedy(True, True, True), 2) == [0, 1]
    assert benchmarks.some_of_both(greedy(False, False), 3) == [0, 1]
    assert benchmarks.some_of_both(rows, 0) == []


def test_folders_of_sources():
    assert benchmarks.folder_name("math:test") == "math_test"
    assert benchmarks.folder_name("jsonl:/data/my rows.jsonl") == "jsonl_my_rows.jsonl"


def test_several_devices_fill_up_what_is_short(data_dir, tmp_path, monkeypatch):
    """Five problems on eight devices: what is short of a part is filled up, and not counted."""
    monkeypatch.undo()
    config = config_of(data_dir)
    config.eval.benchmarks = "gsm8k"
    commands.evaluate(config, str(tmp_path))
    assert json.loads((tmp_path / "results.json").read_text())["sources"]["gsm8k"]["problems"] == 5
