"""The accelerator check reports parts that fail, that hang and that have no time, and still runs the others."""

import json
import sys

import pytest

from mig_jax.errors import UserError
from tools import on_gpu, on_gpu_parts
from tools.on_gpu import Row, Runner
from tools.timing import Rows

WRITE_ROW = "import json, sys; json.dump([['speed', '3 s', '', None]], open(sys.argv[1], 'w'))"


@pytest.fixture
def make_runner(tmp_path, monkeypatch):
    """Return a function that makes a runner whose parts are Python programs."""

    def make(programs, **options):
        def command(self, part):
            return [sys.executable, "-c", programs[part], str(tmp_path / f"{part}.json")]

        monkeypatch.setattr(Runner, "command", command)
        return Runner(tmp_path, **{"is_small": True, "limit_s": 60.0} | options)

    return make


def test_a_part_that_fails_is_reported_and_the_next_one_runs(make_runner):
    runner = make_runner({"mig": "raise SystemExit('out of memory')", "grpo": WRITE_ROW})
    runner.run(["mig"])
    runner.run(["grpo"])
    failed, code, _, speed, _ = runner.rows
    assert failed[:2] == ("mig", "results") and failed.is_ok is False
    assert code == Row("mig", "exit code 1", "out of memory", "0", False)
    assert speed == Row("grpo", "speed", "3 s", "", None)


def test_rows_before_an_error_are_kept(make_runner):
    runner = make_runner({"mig": f"{WRITE_ROW}; raise SystemExit(3)"})
    runner.run(["mig"])
    assert [(row.measure, row.is_ok) for row in runner.rows[:2]] == [("speed", None), ("exit code 3", False)]


def test_a_part_that_hangs_is_killed_with_its_children(make_runner, monkeypatch):
    monkeypatch.setattr(on_gpu, "PART_LIMIT_S", 1.0)
    hang = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    runner = make_runner({"mig": hang})
    runner.run(["mig"])
    assert any(row.measure == "exit code -9" and row.is_ok is False for row in runner.rows)


def test_nothing_starts_when_the_time_is_up(make_runner):
    runner = make_runner({}, limit_s=5.0)
    runner.run(["mig", "grpo"])
    assert [(row.part, row.measure, row.is_ok) for row in runner.rows] == [
        ("mig", "not run", False), ("grpo", "not run", False)
    ]  # fmt: skip


def test_quickstart_is_read_from_its_metrics(make_runner, tmp_path):
    rows = [
        {"config": {}},
        {"step": 0, "eval/sampled": 0.25, "eval/greedy": 1.0},
        {"step": 1, "time/seconds": 2.0, "kl/old": 1e-5},
        {"step": 2, "time/seconds": 1.0, "kl/old": 9.0},
        {"step": 2, "eval/sampled": 0.5, "eval/greedy": 0.75},
    ]
    (tmp_path / "quickstart").mkdir()
    (tmp_path / "quickstart" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sampled, greedy, step, divergence = make_runner({}, is_small=False).read_quickstart("quickstart")
    assert sampled == Row("quickstart", "accuracy, sampled", "0.250 → 0.500", "≥ 0.85", False)
    assert greedy.value == "1.000 → 0.750" and step.value == "2.00 s"
    assert divergence.value == "1.0e-05 nats" and divergence.is_ok


def test_table_and_exit_code(make_runner, tmp_path, capsys, monkeypatch):
    programs = {"environment": WRITE_ROW, "mig": "raise SystemExit('a | b')"}
    make_runner(programs)
    assert on_gpu.main([f"--out={tmp_path}", "--parts", "environment", "--small"]) == 0
    assert on_gpu.main([f"--out={tmp_path}", "--parts", "mig", "--small"]) == 1
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert "| environment | speed | 3 s |  |  |" in table and "| mig | exit code 1 | a / b | 0 | **FAILED** |" in table
    assert {row["part"] for row in json.loads((tmp_path / "results.json").read_text())} == {"environment", "mig"}


def test_ratio_of_the_methods(make_runner):
    runner = make_runner({})
    runner.rows = [Row("mig", "step", "1.200 s, 5 tokens/s"), Row("grpo", "step", "1.000 s, 6 tokens/s")]
    runner.add_ratio()
    assert runner.rows[-1].value == "1.20"


def test_tests_that_need_more_devices_are_skipped():
    class Item:
        name = "test_sharding"

    def call(message):
        wrapper = on_gpu_parts.pytest_runtest_call(Item())
        next(wrapper)
        wrapper.throw(UserError(message))

    with pytest.raises(pytest.skip.Exception):
        call("mesh {'fsdp': 64} does not fit 8 devices: …")
    with pytest.raises(UserError, match="no such file"):
        call("no such file")


def test_rows_are_printed_as_they_come(capsys):
    rows = Rows()
    rows.add("speed", "3 s", "< 4", True)
    assert "speed: 3 s < 4" in capsys.readouterr().out and rows.rows == [("speed", "3 s", "< 4", True)]
