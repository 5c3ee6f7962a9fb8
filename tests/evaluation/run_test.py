"""Evaluation of several sources: files, metrics, and resuming."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import jax
import pytest

from mig_jax import commands
from mig_jax.check_config import ConfigError
from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.evaluation import evaluator, run
from mig_jax.policy.load import load_policy
from mig_jax.records.transcripts import Transcript, read_transcripts
from mig_jax.rollout.problem_set import open_eval_problems
from tests import tiny

SOURCES = "chain:terms=7,gsm8k"


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Use one device; eight fake devices are slow, and other tests use them."""
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: first)
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """Return a folder with a GSM8K of five short problems and one that is too long for the quickstart."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "gsm8k").mkdir()
    questions = [f"Last digits of {n} +5 -3 *3 +8 -2 +6" for n in range(5)] + ["7" * 100]
    rows = [{"question": question, "answer": f"Think.\n#### {n}"} for n, question in enumerate(questions)]
    (folder / "gsm8k" / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def config_of(data_dir, **changes):
    """Return the config of an evaluation of both sources."""
    return tiny.get_quickstart(
        eval__samples=2,
        eval__batch_size=4,
        eval__scored=2,
        eval__benchmarks=SOURCES,
        data__dir=str(data_dir),
        **changes,
    )


@pytest.fixture(scope="module")
def policy():
    mesh = sharding.make_mesh({}, devices=jax.devices()[:1])
    return load_policy(tiny.get_quickstart().model, mesh, seed=0)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, data_dir) -> Path:
    """Return the workdir of a finished evaluation."""
    workdir = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        first = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda: first)
        patch.setattr(jax, "device_count", lambda: 1)
        commands.evaluate(config_of(data_dir), str(workdir))
    return workdir


def test_files_and_metrics(evaluated):
    report = json.loads((evaluated / "results.json").read_text())["sources"]
    chain, gsm8k = report["chain:terms=7"], report["gsm8k"]
    assert (chain["problems"], chain["rejected"], gsm8k["problems"]) == (8, {}, 5)
    assert list(gsm8k["rejected"].values()) == [1]
    for name, results in (("chain_terms=7", chain), ("gsm8k", gsm8k)):
        rows = read_transcripts(str(evaluated / name / "transcripts.jsonl"))
        assert len(rows) == results["problems"] * 3
        correct = [row.is_correct_strict for row in rows if row.sampling == "greedy"]
        assert results["metrics"]["greedy"]["strict"]["mean"] == pytest.approx(sum(correct) / len(correct))
        assert sum(bool(row.ell_k) for row in rows) == 2
        assert (evaluated / name / "transcripts.html").stat().st_size > 0
        assert not (evaluated / name / "parts").exists()
    assert chain["metrics"]["greedy"]["strict"]["mean"] > 0.5, "the quickstart's policy is right most of the time"
    table = (evaluated / "results.md").read_text()
    assert "chain:terms=7" in table and "Rejected: 1 of 6 problems of gsm8k, with a prompt of more" in table


def files(workdir: Path) -> dict[str, bytes]:
    """Return the content of all files by relative path."""
    return {str(p.relative_to(workdir)): p.read_bytes() for p in sorted(workdir.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("batches", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_interrupted_and_resumed_equals_uninterrupted(evaluated, data_dir, tmp_path, monkeypatch, batches):
    grade, done = evaluator.grade_transcripts, []

    def grade_until_killed(*arguments):
        if len(done) == batches:
            raise KeyboardInterrupt
        done.append(None)
        return grade(*arguments)

    monkeypatch.setattr(evaluator, "grade_transcripts", grade_until_killed)
    with pytest.raises(KeyboardInterrupt):
        commands.evaluate(config_of(data_dir), str(tmp_path))
    graded = []
    monkeypatch.setattr(evaluator, "grade_transcripts", lambda *arguments: graded.append(None) or grade(*arguments))
    commands.evaluate(config_of(data_dir), str(tmp_path))
    # 8 and 5 problems: greedy in batches of 4, sampled in batches of 2.
    assert len(graded) == (2 + 4) + (2 + 3) - batches, "finished batches are not repeated"
    assert files(tmp_path) == files(evaluated)


def test_another_config_is_an_error_but_more_sources_are_not(evaluated, data_dir):
    with pytest.raises(ConfigError, match="rollout.temperature: 1.0 before, 0.5 now"):
        commands.evaluate(config_of(data_dir, rollout__temperature=0.5), str(evaluated))
    before = files(evaluated)
    config = config_of(data_dir)
    config.eval.benchmarks = "gsm8k"
    commands.evaluate(config, str(evaluated))
    commands.evaluate(config_of(data_dir), str(evaluated))
    assert files(evaluated) == before


@pytest.mark.slow
def test_parts_of_other_batches_are_not_reused(data_dir, tmp_path, monkeypatch):
    """Batches differ with the number of devices; problems in other batches are answered again."""
    grade, done = evaluator.grade_transcripts, []

    def grade_until_killed(*arguments):
        done.append(None)
        if len(done) == 3:
            raise KeyboardInterrupt
        return grade(*arguments)

    config = config_of(data_dir)
    config.eval.benchmarks = "chain:terms=7"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluator, "grade_transcripts", grade_until_killed)
        commands.evaluate(config, str(tmp_path))

    def slices_of_three(policy, config, n, samples):
        return [evaluator.EvalSlice(first, 3) for first in range(0, n, 3)]

    monkeypatch.setattr(evaluator, "eval_slices", slices_of_three)
    commands.evaluate(config, str(tmp_path))
    rows = read_transcripts(str(tmp_path / "chain_terms=7" / "transcripts.jsonl"))
    assert Counter(row.id for row in rows) == dict.fromkeys((f"chain:terms=7:test:0:{n}" for n in range(8)), 3)


def test_eval_problems_are_drawn_by_seed(data_dir, policy):
    def drawn(**changes):
        return [problem.question for problem in open_eval_problems(policy, config_of(data_dir, **changes), "gsm8k")]

    assert len(drawn()) == 5 and len(drawn(eval__problems=100)) == 5
    three = drawn(eval__problems=3)
    assert len(three) <= 3 and set(three) < set(drawn())
    assert three == drawn(eval__problems=3) != drawn(eval__problems=3, data__eval_seed=1)


def test_a_mixture_is_an_error(data_dir, policy):
    with pytest.raises(UserError, match="is a mixture; evaluate one source"):
        open_eval_problems(policy, config_of(data_dir), "gsm8k + chain:terms=7")


def test_results_of_other_problems_or_parameters_are_an_error(data_dir, tmp_path):
    def config():
        c = config_of(data_dir)
        c.eval.benchmarks, c.model.path = f"jsonl:{tmp_path}/rows.jsonl", str(tmp_path / "model")
        return c

    shutil.copytree(tiny.get_quickstart().model.path, tmp_path / "model")
    rows = [{"question": f"Last digits of {n} +5 -3 *3 +8 -2 +6", "answer": n} for n in range(2)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    commands.evaluate(config(), str(tmp_path / "out"))
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]))
    with pytest.raises(ConfigError, match="metrics of other problems"):
        commands.evaluate(config(), str(tmp_path / "out"))
    os.utime(tmp_path / "model" / "model.safetensors", (1, 1))
    with pytest.raises(ConfigError, match="weights.model.safetensors: .* before"):
        commands.evaluate(config(), str(tmp_path / "out"))


def test_a_failed_start_writes_no_config(data_dir, tmp_path):
    config = config_of(data_dir)
    config.eval.benchmarks, config.data.max_prompt_tokens = "gsm8k", 5
    with pytest.raises(UserError, match="no problem of gsm8k can be used"):
        commands.evaluate(config, str(tmp_path))
    assert not (tmp_path / "config.json").exists()


def test_page_is_limited_by_the_bytes_of_its_images():
    rows = [Transcript("?", "", "1", id=str(n), images=(bytes(10),), sampling=s) for n in range(3) for s in ("g", "s")]
    assert [t.id for t in run.select_for_page(rows, 20)] == ["0", "0", "1", "1"]
    assert [t.id for t in run.select_for_page(rows, 5)] == ["0", "0"]
    assert run.select_for_page(rows, 30) == rows


def test_right_and_wrong_responses_are_scored():
    def greedy(*correct):
        return [Transcript("?", "", "1", is_correct=c, sampling="greedy") for c in correct]

    rows = [
        Transcript("?", "", "1", is_correct=True, sampling="sampled"),
        *greedy(True, True, False, True, False, None),
    ]
    assert run.select_for_scoring(rows, 4) == [1, 2, 3, 5]
    assert run.select_for_scoring(rows, 2) == [1, 3]
    assert run.select_for_scoring(greedy(True, True, True), 2) == [0, 1]
    assert run.select_for_scoring(greedy(False, False), 3) == [0, 1]
    assert run.select_for_scoring(rows, 0) == []


def test_folder_names():
    assert run.folder_name("math:test") == "math_test"
    one, other = (run.folder_name(f"jsonl:/{folder}/my rows.jsonl") for folder in "ab")
    assert one != other and one.startswith("jsonl_my_rows.jsonl_")


def test_tables_show_folders_only_to_distinguish_sources(evaluated):
    (gsm8k,) = [f for n, f in json.loads((evaluated / "results.json").read_text())["sources"].items() if n == "gsm8k"]
    assert "| jsonl:x.jsonl |" in run.report({"jsonl:/a/x.jsonl": gsm8k})
    assert "Rejected: 1 of 6 problems of jsonl:x.jsonl, " in run.report({"jsonl:/a/x.jsonl": gsm8k})
    assert "| jsonl:/b/x.jsonl |" in run.report({"jsonl:/a/x.jsonl": gsm8k, "jsonl:/b/x.jsonl": gsm8k})


@pytest.mark.slow
def test_short_batches_are_padded_to_the_devices(data_dir, tmp_path, monkeypatch):
    """Five problems on eight devices: the padding rows are not counted."""
    monkeypatch.undo()
    config = config_of(data_dir)
    config.eval.benchmarks = "gsm8k"
    commands.evaluate(config, str(tmp_path))
    assert json.loads((tmp_path / "results.json").read_text())["sources"]["gsm8k"]["problems"] == 5
