"""A finished run started again says so, and leaves its model as it is; an incomplete model is written again."""

import json

import jax
import pytest

from mig_jax.trainer import saved_model, train
from tests import tiny


@pytest.mark.slow
def test_finished_run_started_again(tmp_path, capsys):
    def run(steps):
        train.run(tiny.get_quickstart(steps=steps), str(tmp_path), mode="train", devices=jax.devices()[:1])
        return capsys.readouterr().out

    told = run(1).splitlines()
    assert [line.split(":")[0].split(" ")[0] for line in told[:6]] == [
        "train", "model", "problems", "steps", "evaluation", "the",
    ]  # fmt: skip
    assert told[-1].startswith("held-out accuracy (start → end): sampled")
    assert any(line.startswith("- model/") for line in told) and any("gains_last.html" in line for line in told)
    weights = tmp_path / "model" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    again = run(1)
    assert f"this run is finished: 1 of 1 steps are done, and the model is in {tmp_path}/model" in again
    assert "--config.steps=2" in again and "resuming" not in again and weights.stat().st_mtime_ns == written
    # Killed while the model was replaced.
    saved_model.begin_saving(str(tmp_path))
    assert not saved_model.is_saved(str(tmp_path), step=1)
    run(1)
    assert saved_model.is_saved(str(tmp_path), step=1) and weights.stat().st_mtime_ns > written


def test_model_of_fewer_steps_or_with_a_damaged_config_is_not_the_one(tmp_path):
    (tmp_path / "model").mkdir()
    config = tmp_path / "model" / "mig_jax_config.json"
    (tmp_path / "model" / "adapter_config.json").write_text("{}")
    for text, step in (("{", 2), ("[]", 2), (json.dumps({"steps": 2}), 4)):
        config.write_text(text)
        assert not saved_model.is_saved(str(tmp_path), step=step)
    assert saved_model.is_saved(str(tmp_path), step=2)
