"""Studies of levels, strategies, weights, noise and width: what they find in known results."""

import json
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from mig_jax.records.transcripts import Transcript, write_transcripts
from mig_jax.studies import actions, arms, cold_start, levels, runner, scale, statistics, strategies, weights
from mig_jax.studies.step_density import operations_by_step
from mig_jax.studies.study import Plan
from mig_jax.studies.table import STUDIES
from tests.studies import fakes

SMALL = "### Step 1: 7+5=2\n### Step 2: 2-3=9\n### Step 3: 9*3=7"
LARGE = "### Step 1: 7+5-3=9\n### Step 2: 9*3=7"


def test_operations_of_steps_are_counted():
    assert operations_by_step(SMALL) == (1, 1, 1) and operations_by_step(LARGE) == (2, 1)
    assert operations_by_step("no steps") == () and operations_by_step("### Step 1: ") == (0,)


def test_levels_are_sources_and_are_found_in_ids():
    assert levels.mixture((3, 7), "a=1") == "1 chain:terms=3,a=1 + 1 chain:terms=7,a=1"
    assert levels.benchmarks((3, 7)) == "chain:terms=3,chain:terms=7"
    ids = ("chain:terms=3:test:0:1", "chain:terms=3,a=1:test:0:2", "chain:terms=33:test:0:1")
    transcripts = [Transcript("q", "r", "4", id=i, sampling="sampled", is_correct=True) for i in ids]
    results = SimpleNamespace(transcripts=lambda run: transcripts)
    assert list(levels.sampled_by_problem(results, None, 3)) == sorted(ids[:2])
    assert levels.correct_qn(levels.sampled_by_problem(results, None)).tolist() == [[True]] * 3


@pytest.fixture
def faked(monkeypatch):
    fakes.patch(monkeypatch)
    monkeypatch.setattr(statistics, "RESAMPLES", 200)
    monkeypatch.setattr(actions, "evaluate", evaluate)


# Arm → share of right responses by length of the chain, and the share written in large steps.
SKILL: dict[str, dict[int, float]] = {}
LARGE_SHARE: dict[str, float] = {}


def evaluate(job):
    """Write sampled responses to ten problems of each benchmark, or of chains of seven terms."""
    rng, arm = np.random.default_rng(job.run.seed), job.run.arm.removesuffix("_eval")
    sources = (job.config.eval.benchmarks or "chain:terms=7").split(",")
    transcripts = [
        Transcript(
            "q",
            LARGE if rng.random() < LARGE_SHARE.get(arm, 0.5) else SMALL,
            "4",
            id=f"{source}:test:0:{n}",
            sampling=sampling,
            is_correct=bool(rng.random() < SKILL.get(arm, {}).get(int(source[-1]), 0.5)),
        )
        for source in sources
        for n in range(10)
        for sampling in ("greedy", *["sampled"] * 8)
    ]
    (job.folder / "chain").mkdir()
    write_transcripts(transcripts, str(job.folder / "chain" / "transcripts.jsonl"))


def run(name, workdir, seeds=2):
    runner.run_study(STUDIES[name], str(workdir), Plan(seeds), say=lambda line: None)
    return json.loads((workdir / "results.json").read_text())


def test_sft_ablation_tells_levels_apart(faked, monkeypatch, tmp_path):
    monkeypatch.setitem(SKILL, "sft", {3: 1.0, 7: 0.0})
    monkeypatch.setitem(SKILL, "no_sft", {3: 0.0, 7: 1.0})
    results = run("sft_ablation", tmp_path)
    means = {c["what"]: c["mean"] for c in results["comparisons"]}
    assert means["γ = 0.1 − γ = 0, Level 1, 2 seeds"] == 1 and means["γ = 0.1 − γ = 0, Level 5, 2 seeds"] == -1
    passes = {tuple(row[:2]): row[2:] for row in results["tables"][1]["rows"]}
    assert passes["γ = 0.1", "1"] == ["1.000"] * 4 and passes["γ = 0.1", "5"] == ["0.000"] * 4
    assert all(float(a) <= float(b) for a, b in zip(*[passes["γ = 1", "1"][i:] for i in (0, 1)], strict=False))


def test_step_density_reads_steps_and_accuracy(faked, monkeypatch, tmp_path):
    monkeypatch.setitem(LARGE_SHARE, "price", 1.0)
    monkeypatch.setitem(LARGE_SHARE, "default", 0.0)
    monkeypatch.setitem(SKILL, "price", {3: 1.0, 7: 0.0})
    results = run("step_density", tmp_path)
    rows = {(row[0], row[1]): row for row in results["tables"][0]["rows"]}
    assert rows["step price 0.2 nats", "easy"][4:] == ["2.00", "1.50", "0.00"]
    assert rows["MIG, closing decision in the mask", "hard"][4:] == ["3.00", "1.00", "0.00"]
    means = {c["what"]: c["mean"] for c in results["comparisons"]}
    assert means["step price 0.2 nats − MIG, closing decision in the mask, easy"] > 0.3


def test_strategies_that_are_new_and_gone(faked, monkeypatch, tmp_path):
    monkeypatch.setitem(LARGE_SHARE, "start", 0.0)
    monkeypatch.setitem(LARGE_SHARE, "mig_sft", 1.0)
    monkeypatch.setitem(LARGE_SHARE, "grpo", 0.0)
    results = run("strategies", tmp_path)
    rows = {row[0]: row for row in results["tables"][0]["rows"]}
    assert rows["MIG, γ = 0.1"][4:] == ["0.000", "1.000", "1.000"] and rows["GRPO"][4:] == ["0.000", "0.000", "0.000"]
    assert 0 < float(rows["MIG without SFT"][4]) <= 0.694 and results["comparisons"]


def test_measures_of_strategies():
    a, b = (1, 1, 1), (2, 1)
    start = strategies.Found(np.ones((1, 2)), np.zeros(1), {"x": Counter({a: 3})})
    found = strategies.Found(np.ones((1, 2)), np.zeros(1), {"x": Counter({a: 1, b: 1}), "y": Counter()})
    assert strategies.novelty(found, start) == 0.5 and strategies.lost(found, start) == 0
    assert strategies._entropy([2, 2]) == pytest.approx(math.log(2)) and math.isnan(strategies._entropy([]))


def test_weights_ranks_points(faked, monkeypatch, tmp_path):
    monkeypatch.setitem(SKILL, weights.name_point(1.0, 3.0, 0.1), {7: 1.0})
    results = run("weights", tmp_path, seeds=1)
    assert results["tables"][0]["rows"][0][:5] == ["1", "3", "0.1", "1", "1.000 [1.000, 1.000]"]
    assert len(results["tables"][0]["rows"]) == 27 and "1, 3, 0.1, with 1.000" in results["findings"][0]
    assert "0 points" not in results["findings"][1]


def test_cold_start_finds_when_the_gate_opens(faked, monkeypatch, tmp_path):
    monkeypatch.setattr(cold_start, "weaken", fakes.train)
    monkeypatch.setitem(SKILL, "mig_sft", {7: 1.0})
    monkeypatch.setitem(SKILL, "grpo", {7: 0.0})
    results = run("cold_start", tmp_path)
    means = {c["what"]: c["mean"] for c in results["comparisons"]}
    assert means["MIG with SFT − GRPO: β alone, noise 0.15, 2 seeds"] == 1
    assert results["tables"][0]["rows"][0][-1] == "never, never"  # the stand-in has no sft/gate


def test_gate_opens_at_the_first_step_above_its_share():
    rows = [{"step": n, "sft/gate": gate} for n, gate in enumerate((0.0, 0.005, 0.02, 0.0), start=1)]
    results = SimpleNamespace(rows=lambda run: rows)
    assert cold_start.steps_until_open(results, None) == 3


def test_scale_has_estimates_without_a_compiler(faked, tmp_path):
    selection = runner.Selection(only=("72b",))
    runner.run_study(STUDIES["scale"], str(tmp_path), Plan(1, smoke=True), selection=selection, say=lambda line: None)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [record["run"] for record in results["runs"]] == ["estimate/qwen2_5_72b"]
    (row,) = results["tables"][0]["rows"]
    assert row[:3] == ["qwen2_5_72b", "72.7B", "v5p:4x4x8"] and row[4] == "not compiled"
    assert row[3] == f"{16 * 72.7062e9 / 128 / 2**30:.1f} of 95.7"
    assert scale.STATE_BYTES == 16


def test_noise_is_relative_to_each_parameter(tmp_path, monkeypatch):
    import jax
    import jax.numpy as jnp

    params = {"a": jnp.full((64, 64), 2.0), "b": jnp.full(4096, -0.01)}
    saved = {}
    monkeypatch.setattr(cold_start.api, "load_policy", lambda config: SimpleNamespace(params=params))
    monkeypatch.setattr(cold_start, "save_policy", lambda policy, params, folder, config: saved.update(params))
    job = SimpleNamespace(config=None, folder=tmp_path, run=SimpleNamespace(seed=0, options={"strength": 0.1}))
    cold_start.weaken(job)
    spread = jax.tree.map(lambda noisy, x: float((noisy - x).std() / jnp.abs(x).mean()), saved, params)
    assert spread == {"a": pytest.approx(0.1, rel=0.05), "b": pytest.approx(0.1, rel=0.05)}


def test_pairs_have_the_same_seeds():
    """Also where an arm lacks a seed that is finished in the other."""
    a_sq, b_sq = np.array([[0.0], [1.0], [2.0]]), np.array([[10.0], [12.0]])
    pair = arms.pair_by_seed([0, 1, 2], a_sq, [0, 2], b_sq)
    assert [x.tolist() for x in pair] == [[[0.0], [2.0]], [[10.0], [12.0]]]
