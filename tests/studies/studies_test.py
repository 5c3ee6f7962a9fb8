"""The studies: their grids, what they find in known results, and --smoke."""

import contextlib
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from mig_jax.configs import default

from mig_jax.errors import UserError
from mig_jax.parts import find_part
from mig_jax.records.transcripts import Transcript
from mig_jax.studies import actions, cold_start, credit_rules, gamed, runner, sparse, statistics, value_proxy
from mig_jax.studies.study import Plan, Results
from mig_jax.studies.table import STUDIES, overview
from mig_jax.text.step_format import find_format
from mig_jax.trainer.preemption import Preempted
from tests.studies import fakes

KEYS = set(flatten_dict(default.get_config().to_dict(), sep="."))


@pytest.mark.parametrize("name", STUDIES)
def test_study_is_complete(name):
    """Hypotheses and limits are stated, runs are in order, and every change is of a key of the config."""
    study = STUDIES[name]
    assert study.name == name and study.hypotheses and study.limits and name in overview()
    for plan in (Plan(2), Plan(1, smoke=True)):
        runs = study.plan_runs(plan)
        runner._check_runs(runs)
        changed = {key for run in runs for key in run.changes} | set(study.settings) | set(study.smoke)
        assert {key for key in changed if not key.startswith("reward.outcomes")} <= KEYS
    seeds = {run.arm: set() for run in study.plan_runs(Plan(2))}
    for run in study.plan_runs(Plan(2)):
        seeds[run.arm].add(run.seed)
    assert all(of_arm in ({0}, {0, 1}) for of_arm in seeds.values())


@pytest.fixture
def faked(monkeypatch):
    """Replace the actions, and resample less often."""
    fakes.patch(monkeypatch)
    monkeypatch.setattr(statistics, "RESAMPLES", 200)


def finish(study, workdir, seeds=2):
    return runner.run_study(study, str(workdir), Plan(seeds), say=lambda line: None)


def read_results(workdir):
    return json.loads((workdir / "results.json").read_text())


def test_sparse_tells_arms_apart(faked, monkeypatch, tmp_path):
    monkeypatch.setattr(fakes, "SKILL", {"mig": 0.9, "grpo": 0.1, "start": 0.02})
    monkeypatch.setattr(sparse, "STARTS", {"slips_58": 0.58, "hot": None})
    monkeypatch.setattr(statistics, "RESAMPLES", 2000)  # sixteen tests need small p-values
    finish(sparse.STUDY, tmp_path)
    results = read_results(tmp_path)
    by_name = {c["what"].partition(", ")[0]: c for c in results["comparisons"]}
    grpo, sft = by_name["MIG − GRPO: β alone"], by_name["MIG − outcome and SFT: β and γ"]
    assert grpo["low"] > 0.5 and grpo["p_holm"] < 0.05 and sft["low"] > 0
    assert len(results["comparisons"]) == 16 and "GRPO is behind" in results["findings"][0]
    assert results["tables"][0]["rows"][0][:2] == ["MIG: α, β and γ", "2"]


def test_given_policies_replace_those_of_a_study():
    for plan in (Plan(2, config="mine.py"), Plan(2, model="mine")):
        assert {run.setting for run in sparse.plan_runs(plan)} == {"given"}
        assert {run.setting for run in value_proxy.plan_runs(plan)} == {"given"}
        assert not [run for run in sparse.plan_runs(plan) if run.action is actions.sft]


@pytest.mark.parametrize("study", [sparse, cold_start])
def test_arms_differ_in_what_they_name_whatever_config_is_given(study):
    """A config replaces the settings of a study, which say how credit is given where an arm does not."""
    found = rewards_of(study)
    assert found["mig"] == ("trajectory", "tag") and found["mig_step"] == ("step", "tag")
    assert found.get("mig_step_event", ("step", "event")) == ("step", "event")
    assert rewards_of(value_proxy)["samples"][1] == "tag" and rewards_of(value_proxy)["event"][1] == "event"


def rewards_of(study):
    """Return credit level and terminator of each arm, where a config is given."""
    plan, found = Plan(1, config="default"), {}
    for run in study.plan_runs(plan):
        plain = dataclasses.replace(run, model="")
        reward = runner.config_of(study.STUDY, plan, plain, Results(plan, [], Path()), {}).reward
        found[run.arm] = reward.credit_level, reward.terminator
    return found


def test_value_proxy_finds_a_known_correlation(faked, monkeypatch, tmp_path):
    policies = list(value_proxy.POLICIES.items())[:2]
    monkeypatch.setattr(value_proxy, "POLICIES", dict(policies))
    finish(STUDIES["value_proxy"], tmp_path, seeds=1)
    results = read_results(tmp_path)
    measured = results["numbers"]["chains, 165K"]
    assert measured["Spearman ρ"]["low"] > 0.9 > measured["position, ρ"]["mean"] > 0
    assert measured["ρ given position"]["mean"] > 0.9 and "above 0.6" in results["findings"][0]
    assert all(c["mean"] == 0 for c in results["comparisons"])  # all variants have the same scores


def test_credit_rules_prefer_what_follows_the_value(faked, monkeypatch, tmp_path):
    monkeypatch.setattr(credit_rules, "score_gamed", fakes.sample)
    monkeypatch.setattr(
        credit_rules, "paid", lambda transcripts, rules: dict.fromkeys(rules, {"honest": 1.0, "x": 0.5})
    )
    finish(credit_rules.STUDY, tmp_path, seeds=1)
    numbers = read_results(tmp_path)["numbers"]
    followed = numbers["gain and change of value"]
    assert followed["delta_sum"] > 0.85 and followed["delta_sum"] > followed["watermark"] > 0.5
    assert numbers["paid"]["threshold"] < numbers["paid"]["watermark"] < 1


def scored(level, ell):
    gains = tuple(np.diff(ell).tolist())
    return Transcript("q", "r", "4", id="0", level=level, ell_k=tuple(ell), gain_k=gains, steps=("s",) * len(gains))


def test_gamed_responses_are_paid_relative_to_honest_ones():
    transcripts = [scored("honest", [-4.0, -2.0, 0.0]), scored("garbage after", [-4.0, 0.0, -3.0])]
    shares = gamed.paid(transcripts, credit_rules.RULES)
    assert shares["watermark"]["garbage after"] == 1.0 and shares["delta_sum"]["garbage after"] == 0.25
    assert shares["threshold"]["garbage after"] == pytest.approx(3.75 / 3.5) and np.isnan(
        shares["price_gate"]["honest"]
    )


def test_behaviors_are_responses():
    from mig_jax.data.synthetic.generators import open_chains

    first, other = (open_chains("chain", "terms=4", split="test", seed=0, size=2)[n] for n in (0, 1))
    written = gamed.behaviors(first, other, find_format("mig"))
    assert next(iter(written)) == gamed.HONEST and len(set(written.values())) == len(written)
    assert all(text.startswith("<think>\n### Step 1: ") for text in written.values())
    assert first.answer in written["the answer named at once, right"].partition("</think>")[0]


def test_study_of_the_page_runs(faked, monkeypatch, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "studies" / "index.md").read_text(encoding="utf-8")
    file = tmp_path / "my_study.py"
    file.write_text(page.split("```python\n")[1].split("```")[0])
    study = find_part(f"{file}:STUDY", STUDIES, key="study")
    monkeypatch.setattr(fakes, "SKILL", {"small_groups": 0.0})
    finish(study, tmp_path / "out")
    rows = read_results(tmp_path / "out")["tables"][0]["rows"]
    assert rows[0][:2] == ["small_groups", "2"] and rows[0][2].startswith("0.000") and rows[1][2] > rows[0][2]


def test_own_study_is_found(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from mig_jax.studies import sparse\nimport dataclasses\n"
                    "STUDY = dataclasses.replace(sparse.STUDY, name='mine')\n")  # fmt: skip
    assert find_part(f"{file}:STUDY", STUDIES, key="study").name == "mine"
    with pytest.raises(UserError, match="did you mean sparse"):
        find_part("spars", STUDIES, key="study")


@pytest.fixture
def one_device(monkeypatch):
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: first)
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.mark.parametrize("name", ["sparse", "value_proxy", "credit_rules"])
def test_smoke_with_stand_ins(name, faked, monkeypatch, tmp_path):
    """The whole of --smoke, but for its training and sampling."""
    monkeypatch.setattr(credit_rules, "score_gamed", fakes.score_gamed)
    runner.run_study(STUDIES[name], str(tmp_path), Plan(1, smoke=True), say=lambda line: None)
    assert read_results(tmp_path)["finished"] == len(STUDIES[name].plan_runs(Plan(1, smoke=True)))


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_smoke(name, one_device, tmp_path):
    runner.run_study(STUDIES[name], str(tmp_path), Plan(1, smoke=True))
    assert (tmp_path / "report.md").read_text().startswith(f"# {name}")


@pytest.mark.slow
def test_killed_study_has_the_same_page(one_device, tmp_path):
    """A study is stopped within a training run, and once more between runs."""
    selection = runner.Selection(only=("hot/mig/seed_0",))
    asked = iter(range(100))

    def run(workdir, should_stop=lambda: False):
        runner.run_study(
            STUDIES["sparse"], str(workdir), Plan(1, smoke=True), selection=selection, should_stop=should_stop
        )

    stops = 0
    for stop_at in ({3}, {5}):
        with contextlib.suppress(Preempted):
            run(tmp_path / "stopped", lambda at=stop_at: next(asked) in at)
            stops -= 1
        stops += 1
    run(tmp_path / "stopped")
    run(tmp_path / "whole")
    assert stops == 2
    for name in ("report.md", "figure.png"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
