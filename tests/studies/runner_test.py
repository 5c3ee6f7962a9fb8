"""Runs of studies: what is run, resumed and refused, and the page."""

import dataclasses
import json

import pytest
from matplotlib.figure import Figure

from mig_jax.errors import UserError
from mig_jax.studies import runner
from mig_jax.studies.study import Analysis, Comparison, Job, Plan, Run, Study, Table
from mig_jax.trainer.preemption import Preempted

STARTED = []


def write_seed(job: Job) -> None:
    STARTED.append(job.run.name)
    print("said by the run")
    needed = [json.loads((job.folder_of(name) / "number.json").read_text()) for name in job.run.after]
    (job.folder / "number.json").write_text(json.dumps(job.config.seed + job.config.steps + sum(needed)))


def plan_runs(plan):
    runs = [Run("start", write_seed, arm="start")]
    for seed in range(plan.seeds):
        runs += [Run(f"{a}/seed_{seed}", write_seed, {"steps": n}, seed, a, after=("start",)) for a, n in ARMS]
    return runs


ARMS = (("a", 1), ("b", 2))


def analyze(results):
    files = {a: [results.folder(run.name) / "number.json" for run in results.finished(arm=a)] for a, _ in ARMS}
    numbers = {a: [json.loads(file.read_text()) for file in of_arm] for a, of_arm in files.items()}
    figure = Figure()
    figure.subplots().plot([sum(of_arm) for of_arm in numbers.values()])
    rows = [[a, str(of_arm)] for a, of_arm in numbers.items()]
    tests = [Comparison("b − a", 1.0, 0.5, 1.5, 0.02), Comparison("a − a", 0.0, 0.0, 0.0, 0.9)]
    return Analysis(["b is more."], [Table("numbers", ["arm", "numbers"], rows)], tests, figure, numbers)


STUDY = Study("toy", "Is b more?", ("It is.",), plan_runs, analyze, settings={"rollout.questions": 4})


@pytest.fixture(autouse=True)
def nothing_started():
    STARTED.clear()


def run(workdir, **options):
    return runner.run_study(STUDY, str(workdir), Plan(2), say=lambda line: None, **options)


def read_page(workdir):
    results = json.loads((workdir / "results.json").read_text())
    del results["runs"]
    return results, (workdir / "report.md").read_text(), (workdir / "figure.png").read_bytes()


def test_finished_runs_are_not_run_again(tmp_path):
    run(tmp_path)
    assert STARTED == ["start", "a/seed_0", "b/seed_0", "a/seed_1", "b/seed_1"]
    page = read_page(tmp_path)
    assert "* b is more." in page[1] and "| a | [51, 52] |" in page[1] and "| b − a | +1.000 |" in page[1]
    assert "p corrected by Holm for 2 comparisons" in page[1] and "0.020 | 0.040 |" in page[1]
    assert "said by the run" in (tmp_path / "runs" / "start" / "output.txt").read_text()
    run(tmp_path)
    assert len(STARTED) == 5 and read_page(tmp_path) == page
    record = json.loads((tmp_path / "runs" / "b" / "seed_1" / "run.json").read_text())
    assert record["changes"] == {"steps": 2} and record["seed"] == 1 and record["commit"] and record["hardware"]


def test_stopped_and_resumed_study_has_the_same_page(tmp_path):
    run(tmp_path / "whole")
    with pytest.raises(Preempted, match="stopped before"):
        run(tmp_path / "stopped", should_stop=lambda: len(STARTED) == 5 + 3)
    assert not (tmp_path / "stopped" / "report.md").exists()
    run(tmp_path / "stopped")
    assert len(STARTED) == 10 and read_page(tmp_path / "whole") == read_page(tmp_path / "stopped")


def test_parts_make_the_same_page(tmp_path):
    for index in (1, 2):
        run(tmp_path, selection=runner.Selection(part=(index, 2)))
    run(tmp_path / "whole")
    assert STARTED.count("start") == 2
    assert read_page(tmp_path) == read_page(tmp_path / "whole")


def test_only_names_runs_with_what_they_need(tmp_path):
    run(tmp_path, selection=runner.Selection(only=("b/",)))
    assert STARTED == ["start", "b/seed_0", "b/seed_1"]
    with pytest.raises(UserError, match="no run has this in its name; there are start, a/seed_0"):
        run(tmp_path, selection=runner.Selection(only=("c",)))


def test_failed_runs_are_named_and_tried_again(tmp_path):
    def fail(job):
        raise RuntimeError("no memory")

    def plan_with(action):
        return lambda plan: [Run("a", action), Run("b", write_seed), Run("c", write_seed, after=("a",))]

    broken = dataclasses.replace(STUDY, plan_runs=plan_with(fail))
    with pytest.raises(UserError, match=r"2 runs failed \(a, c"):
        runner.run_study(broken, str(tmp_path), Plan(1), say=lambda line: None)
    assert STARTED == ["b"] and "no memory" in (tmp_path / "runs" / "a" / "output.txt").read_text()
    mended = dataclasses.replace(STUDY, plan_runs=plan_with(write_seed))
    runner.run_study(mended, str(tmp_path), Plan(1), say=lambda line: None)
    assert STARTED == ["b", "a", "c"]


def test_other_settings_are_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(UserError, match="or restore these: no --config.rollout.group_size$"):
        run(tmp_path, overrides={"rollout.group_size": 2})
    with pytest.raises(UserError, match="or restore these: study toy, no --config.steps$"):
        other = dataclasses.replace(STUDY, name="other")
        runner.run_study(other, str(tmp_path), Plan(2), overrides={"steps": 1}, say=lambda line: None)
    with pytest.raises(UserError, match="or restore these: no --smoke, no --config$"):
        runner.run_study(STUDY, str(tmp_path), Plan(2, smoke=True, config="pod"), say=lambda line: None)


def test_runs_of_another_version_are_refused(tmp_path):
    run(tmp_path)
    changed = dataclasses.replace(STUDY, plan_runs=lambda plan: [Run("start", write_seed, {"steps": 9}, arm="start")])
    with pytest.raises(UserError, match=r"start in .*runs were made with other settings"):
        runner.run_study(changed, str(tmp_path), Plan(2), say=lambda line: None)


def test_changed_defaults_are_refused_where_runs_are_left(tmp_path):
    run(tmp_path)
    stored = json.loads((tmp_path / "study.json").read_text())
    assert stored["base"]["model.path"] == "mig_jax/assets/quickstart"  # wherever the package is
    stored["base"]["rollout.group_size"] = "3"
    (tmp_path / "study.json").write_text(json.dumps(stored))
    run(tmp_path)  # the page alone
    with pytest.raises(UserError, match="or restore these: rollout.group_size=3$"):
        runner.run_study(STUDY, str(tmp_path), Plan(3), say=lambda line: None)


def test_defaults_that_do_not_matter_may_change(tmp_path):
    """How something is computed, and what the study sets itself."""
    study = dataclasses.replace(STUDY, settings={**STUDY.settings, "reward.terminator": "tag"})
    runner.run_study(study, str(tmp_path), Plan(1), say=lambda line: None)
    stored = json.loads((tmp_path / "study.json").read_text())
    stored["base"] |= {"model.remat": "layer", "reward.terminator": "tag"}  # of an older version
    (tmp_path / "study.json").write_text(json.dumps(stored))
    runner.run_study(study, str(tmp_path), Plan(2), say=lambda line: None)


def test_changes_of_arms_are_strongest(tmp_path):
    results = run(tmp_path, overrides={"steps": 7, "rollout.group_size": 2})
    config = runner.config_of(STUDY, Plan(2), results.planned[1], results, {"steps": 7, "rollout.group_size": 2})
    assert (config.steps, config.rollout.group_size, config.rollout.questions) == (1, 2, 4)
    smoke = runner.config_of(STUDY, Plan(2, smoke=True), results.planned[0], results, {})
    assert smoke.steps == 2 and smoke.model.init.width == 16


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b"])
def test_wrong_parts_are_refused(text):
    with pytest.raises(UserError, match="must be I/N"):
        runner.parse_part(text)
