"""Evaluations at the start and the end can be switched off; the run still saves its model and its plots."""

import json
from types import SimpleNamespace

import jax
import pytest

from mig_jax.check_config import ConfigError, check_config
from mig_jax.records import metrics
from mig_jax.trainer import train
from mig_jax.trainer.run_state import RunState
from tests import tiny


@pytest.mark.parametrize(
    "every, at_end, due",
    [(0, True, [5]), (0, False, []), (2, True, [2, 4, 5]), (2, False, [2, 4]), (5, False, [5])],
)
def test_evaluations_that_are_due(every, at_end, due):
    config = tiny.get_config(eval__every=every, eval__at_end=at_end)
    runs = [SimpleNamespace(config=config, done=done, is_last=done == 5) for done in range(1, 6)]
    assert [run.done for run in runs if RunState.is_eval_due(run)] == due


@pytest.mark.slow  # train_test has runs without evaluation
def test_run_without_evaluation_needs_no_held_out_problems(tmp_path, capsys):
    rows = [{"question": f"Last digits of {n} +5 -3", "answer": "25"} for n in range(9)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = tiny.get_quickstart(steps=1, eval__at_start=False, eval__at_end=False, data__eval="")
    config.data.train = f"jsonl:{tmp_path}/rows.jsonl"
    train.run(config, str(tmp_path / "run"), mode="train", devices=jax.devices()[:1])
    assert [row["step"] for row in metrics.read_metrics(str(tmp_path / "run"))[1]] == [1]
    assert (tmp_path / "run" / "curves.png").exists() and (tmp_path / "run" / "model" / "config.json").exists()
    assert "not evaluated" in capsys.readouterr().out
    config.eval.at_end = True
    with pytest.raises(ConfigError, match="data.eval is empty"):
        check_config(config, mode="train", n_devices=1)


def test_best_checkpoints_need_evaluations():
    config = tiny.get_quickstart(eval__at_start=False, eval__at_end=False, checkpoint__keep_best=1)
    with pytest.raises(ConfigError, match="checkpoint.keep_best ranks checkpoints by their evaluations"):
        check_config(config, mode="train", n_devices=1)
