"""Runs with several seeds: their commands, what is run again, and the table."""

import json
import math
import os
import sys

import pytest
from flax.traverse_util import flatten_dict
from mig_jax.configs import quickstart

from tools import quickstart_seeds
from tools.quickstart_seeds import Run

# A stand-in for `mig-jax train`: it writes three rows of metrics and a model.
TRAIN = """
import json, os, sys
folder, seed = sys.argv[1], int(sys.argv[2])
if os.path.exists(folder + "/fail"):
    raise SystemExit("out of disk")
rows = [{"config": {}}, {"step": 0, "eval/sampled": 0.1, "eval/greedy": 1.0}]
rows += [{"step": 1, "rollout/steps": 4.0 + seed, "rollout/length": 60, "time/seconds": 30}]
rows += [{"step": 1, "eval/sampled": 0.5 + seed / 10, "eval/greedy": 1.0}]
with open(folder + "/metrics.jsonl", "a") as file:
    file.write("".join(json.dumps(row) + chr(10) for row in rows))
os.makedirs(folder + "/model")
open(folder + "/model/config.json", "w").close()
"""


@pytest.fixture
def stand_in(monkeypatch):
    def command(run, flags):
        return [sys.executable, "-c", TRAIN, str(run.folder), str(run.seed), *flags]

    monkeypatch.setattr(quickstart_seeds, "command", command)


def run_main(workdir, *arguments):
    return quickstart_seeds.main([f"--workdir={workdir}", "--variants", "mig", "grpo", *arguments])


def test_finished_runs_are_not_run_again(stand_in, tmp_path, capsys):
    assert run_main(tmp_path, "--seeds", "0", "1", "--parallel=2") == 0
    before = os.stat(tmp_path / "mig" / "seed_0" / "metrics.jsonl").st_mtime_ns
    assert run_main(tmp_path, "--seeds", "0", "1", "2") == 0
    assert os.stat(tmp_path / "mig" / "seed_0" / "metrics.jsonl").st_mtime_ns == before
    assert "| 3 of 3 | 0.600 ± 0.248 | 1.000 ± 0.000 | 5.000 ± 2.484 | 60.000 ± 0.000 |" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert [(row["variant"], row["seed"], row["sampled"]) for row in numbers[:2]] == [
        ("mig", 0, 0.5), ("grpo", 0, 0.5)
    ]  # fmt: skip


def test_failed_runs_are_reported_and_end_the_rest(stand_in, tmp_path, capsys):
    for seed in range(4):
        for variant in ("mig", "grpo"):
            folder = tmp_path / variant / f"seed_{seed}"
            folder.mkdir(parents=True)
            (folder / "fail").touch()
    assert run_main(tmp_path, "--seeds", "0", "1", "2", "3") == 1
    out = capsys.readouterr().out
    assert out.count("ended with code 1: out of disk") == quickstart_seeds.MAX_FAILURES
    assert "| mig (the quickstart as it is) | 0 of 4 | – |" in out


def test_time_limit_stops_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(quickstart_seeds, "command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    assert run_main(tmp_path, "--seeds", "0", "--limit_s=1") == 1
    assert "stopping 1 runs, 1 not started" in capsys.readouterr().out


def test_each_slot_has_its_own_cores():
    cores = sorted(os.sched_getaffinity(0))
    slots = quickstart_seeds.slot_cores(len(cores), 1)
    assert [core for slot in slots for core in slot] == cores
    assert quickstart_seeds.slot_cores(len(cores) + 1, 1)[-1] == {cores[0]}


def test_interval_is_students_t():
    mean, half = quickstart_seeds.mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0 and half == pytest.approx(2.776 * math.sqrt(2.5 / 5), rel=1e-3)
    assert quickstart_seeds.format_interval([0.5]) == "0.500" and quickstart_seeds.format_interval([]) == "–"


def test_variants_change_existing_keys():
    keys = set(flatten_dict(quickstart.get_config().to_dict(), sep="."))
    changed = {change.partition("=")[0] for changes in quickstart_seeds.VARIANTS.values() for change in changes}
    assert changed <= keys


def test_command_line_of_a_run(tmp_path):
    line = quickstart_seeds.command(Run("grpo", 3, tmp_path), ["--config.steps=2"])
    assert line[3:] == [
        "train", "--config=configs/quickstart.py", f"--workdir={tmp_path}", "--config.seed=3",
        "--config.loss.alpha=0", "--config.loss.gamma=0", "--config.steps=2",
    ]  # fmt: skip
