"""Three runs of the fault harness; `python tools/fault_harness.py` runs them all."""

import pytest

from tools import fault_harness


@pytest.mark.slow
def test_killed_runs_equal_the_undisturbed_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert fault_harness.run_harness(tmp_path, runs=3, jobs=1, with_faults=False), capsys.readouterr().out
    assert "| **all** | 2 | 1 | 3 of 3 |" in capsys.readouterr().out


def test_kill_table_names_what_differs():
    kills = [
        fault_harness.Kill("SIGKILL", "rollout", -9, []),
        fault_harness.Kill("SIGTERM", "rollout", 75, ["rows"]),
        fault_harness.Kill("SIGTERM", "checkpoint write", 75, []),
    ]
    table = fault_harness.kill_table(kills)
    assert "| rollout | 1 | 1 | 1 of 2 |" in table and "| **all** | 1 | 2 | 2 of 3 |" in table
    assert "SIGTERM during rollout: rows" in table and "1 × -9 of SIGKILL, 2 × 75 of SIGTERM" in table
