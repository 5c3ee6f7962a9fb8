"""Evaluation of several sources: what is written, what is counted, and that an interruption changes nothing."""

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
from mig_jax.evaluation import evaluator, run
from mig_jax.policy.load import load_policy
from mig_jax.records.transcripts import Transcript, read_transcripts
from mig_jax.rollout.problem_set import open_held_out
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
def policy():
    mesh = sharding.make_mesh({}, devices=jax.devices()[:1])
    return load_policy(tiny.get_quickstart().model, mesh, seed=0)


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
    assert (chain["problems"], chain["rejected"], gsm8k["problems"]) == (8, {}, 5)
    assert list(gsm8k["rejected"].values()) == [1]
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
    judge, done = evaluator.judge, []

    def judge_until_killed(*arguments):
        if len(done) == batches:
            raise KeyboardInterrupt
        done.append(None)
        return judge(*arguments)

    monkeypatch.setattr(evaluator, "judge", judge_until_killed)
    with pytest.raises(KeyboardInterrupt):
        commands.evaluate(config_of(data_dir), str(tmp_path))
    judged = []
    monkeypatch.setattr(evaluator, "judge", lambda *arguments: judged.append(None) or judge(*arguments))
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


def test_parts_of_other_batches_are_not_taken_for_these(data_dir, tmp_path, monkeypatch):
    """Another number of devices means other batches; what an interrupted call has left is then asked again."""
    judge, done = evaluator.judge, []

    def judge_until_killed(*arguments):
        done.append(None)
        if len(done) == 3:
            raise KeyboardInterrupt
        return judge(*arguments)

    config = config_of(data_dir)
    config.eval.benchmarks = "chain:terms=7"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evaluator, "judge", judge_until_killed)
        commands.evaluate(config, str(tmp_path))
    monkeypatch.setattr(evaluator, "batches", lambda policy, config, n, samples: [(i, 3) for i in range(0, n, 3)])
    commands.evaluate(config, str(tmp_path))
    rows = read_transcripts(str(tmp_path / "chain_terms=7" / "transcripts.jsonl"))
    assert Counter(row.id for row in rows) == dict.fromkeys((f"chain:terms=7:test:0:{n}" for n in range(8)), 3)


def test_eval_problems_draws_a_part_by_its_seed(data_dir, policy):
    def drawn(**changes):
        return [problem.question for problem in open_held_out(policy, config_of(data_dir, **changes), "gsm8k")]

    assert len(drawn()) == 5 and len(drawn(eval__problems=100)) == 5
    three = drawn(eval__problems=3)
    assert len(three) <= 3 and set(three) < set(drawn())
    assert three == drawn(eval__problems=3) != drawn(eval__problems=3, data__eval_seed=1)


def test_a_source_that_is_no_mixture_of_several_is_asked_for(data_dir, policy):
    with pytest.raises(ValueError, match="figures are those of one source"):
        open_held_out(policy, config_of(data_dir), "gsm8k + chain:terms=7")


def test_figures_of_other_problems_or_weights_are_not_reported_again(data_dir, tmp_path):
    def config():
        c = config_of(data_dir)
        c.eval.benchmarks, c.model.path = f"jsonl:{tmp_path}/rows.jsonl", str(tmp_path / "model")
        return c

    shutil.copytree(tiny.get_quickstart().model.path, tmp_path / "model")
    rows = [{"question": f"Last digits of {n} +5 -3 *3 +8 -2 +6", "answer": n} for n in range(2)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    commands.evaluate(config(), str(tmp_path / "out"))
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]))
    with pytest.raises(ConfigError, match="figures of other problems"):
        commands.evaluate(config(), str(tmp_path / "out"))
    os.utime(tmp_path / "model" / "model.safetensors", (1, 1))
    with pytest.raises(ConfigError, match="weights.model.safetensors: .* before"):
        commands.evaluate(config(), str(tmp_path / "out"))


def test_a_start_that_failed_locks_nothing(data_dir, tmp_path):
    config = config_of(data_dir)
    config.eval.benchmarks, config.data.max_prompt_tokens = "gsm8k", 5
    with pytest.raises(ValueError, match="no problem of gsm8k can be used"):
        commands.evaluate(config, str(tmp_path))
    assert not (tmp_path / "config.json").exists()


def test_the_page_holds_as_many_images_as_browsers_open():
    rows = [Transcript("?", "", "1", id=str(n), images=(bytes(10),), sampling=s) for n in range(3) for s in ("g", "s")]
    assert [t.id for t in run.some_problems(rows, 20)] == ["0", "0", "1", "1"]
    assert [t.id for t in run.some_problems(rows, 5)] == ["0", "0"]
    assert run.some_problems(rows, 30) == rows


def test_the_page_shows_right_and_wrong_ones():
    def greedy(*correct):
        return [Transcript("?", "", "1", is_correct=c, sampling="greedy") for c in correct]

    rows = [
        Transcript("?", "", "1", is_correct=True, sampling="sampled"),
        *greedy(True, True, False, True, False, None),
    ]
    assert run.some_of_both(rows, 4) == [1, 2, 3, 5]
    assert run.some_of_both(rows, 2) == [1, 3]
    assert run.some_of_both(greedy(True, True, True), 2) == [0, 1]
    assert run.some_of_both(greedy(False, False), 3) == [0, 1]
    assert run.some_of_both(rows, 0) == []


def test_folders_of_sources():
    assert run.folder_name("math:test") == "math_test"
    one, other = (run.folder_name(f"jsonl:/{folder}/my rows.jsonl") for folder in "ab")
    assert one != other and one.startswith("jsonl_my_rows.jsonl_")


def test_tables_have_no_folders_in_them_unless_they_are_needed(evaluated):
    (gsm8k,) = [f for n, f in json.loads((evaluated / "results.json").read_text())["sources"].items() if n == "gsm8k"]
    assert "| jsonl:x.jsonl |" in run.report({"jsonl:/a/x.jsonl": gsm8k})
    assert "Left out: 1 of 6 problems of jsonl:x.jsonl, " in run.report({"jsonl:/a/x.jsonl": gsm8k})
    assert "| jsonl:/b/x.jsonl |" in run.report({"jsonl:/a/x.jsonl": gsm8k, "jsonl:/b/x.jsonl": gsm8k})


def test_several_devices_fill_up_what_is_short(data_dir, tmp_path, monkeypatch):
    """Five problems on eight devices: what is short of a part is filled up, and not counted."""
    monkeypatch.undo()
    config = config_of(data_dir)
    config.eval.benchmarks = "gsm8k"
    commands.evaluate(config, str(tmp_path))
    assert json.loads((tmp_path / "results.json").read_text())["sources"]["gsm8k"]["problems"] == 5
