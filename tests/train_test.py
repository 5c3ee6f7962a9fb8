"""The loop: it learns, compiles once, resumes bit for bit, and is the same on eight devices as on one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from mig_jax import checkpoints, metrics, train
from mig_jax.check_config import ConfigError
from mig_jax.models import hf_config, hf_weights, sharding
from mig_jax.policy import load_policy
from mig_jax.rollouts import Collector
from mig_jax.text.verifier import Verifier
from tests import tiny

ROOT = Path(__file__).parent.parent
# Of a row, all that is no measurement of time.
TIMELESS = (
    "loss/", "reward/", "policy/", "ratio/", "gradient/", "eval/", "ell/", "advantage/", "rollout/", "kl/", "verifier/",
)  # fmt: skip


def run_and_read(workdir, config, mode="train"):
    """One device: eight fake ones on two cores are slow, and have a test of their own."""
    train.run(config, str(workdir), mode=mode, devices=jax.devices()[:1])
    return metrics.read_metrics(str(workdir))[1]


def timeless(rows):
    return [{k: v for k, v in row.items() if k == "step" or k.startswith(TIMELESS)} for row in rows]


@pytest.fixture(scope="module")
def mig_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("mig")
    return workdir, run_and_read(workdir, tiny.get_quickstart(log__transcripts_every=1))


def test_a_run_leaves_what_it_promises(mig_run):
    workdir, rows = mig_run
    for name in ("curves.png", "gains_first.png", "gains_last.html", "metrics.jsonl", "model/config.json",
                 "model/model.safetensors", "model/tokenizer.json", "transcripts/step_000001.jsonl"):  # fmt: skip
        assert (workdir / name).stat().st_size > 0, name
    assert [row["step"] for row in rows] == [0, 1, 2, 2]


WANTED = {
    "reward/accuracy", "reward/format", "reward/gate", "reward/process", "reward/zero_variance_groups",
    "advantage/process", "advantage/outcome", "rollout/truncated", "policy/entropy", "ratio/mean", "ratio/clipped",
    "kl/old", "gradient/norm", "verifier/timeouts", "time/tokens_per_second", "time/rollout_share",
    "time/verify_share", "time/score_share", "time/train_share",
}  # fmt: skip


def test_metrics_are_complete_and_shares_add_up(mig_run):
    row = mig_run[1][1]
    assert set(row) >= WANTED
    assert sum(value for name, value in row.items() if name.endswith("_share")) == pytest.approx(1, abs=1e-6)
    assert row["ratio/mean"] == pytest.approx(1, abs=1e-4), "before the first update the ratio is 1"


def test_saved_model_is_the_trained_one(mig_run):
    """It is read again as it was written, and it has moved."""
    start, trained = (
        hf_weights.load(path, hf_config.read_config(path))
        for path in (tiny.get_quickstart().model.path, str(mig_run[0] / "model"))
    )
    manager = checkpoints.open_manager(str(mig_run[0]), keep=1)
    kept = manager.restore(2)["state"]["params"]
    for new, in_checkpoint in zip(*map(jax.tree.leaves, (trained, kept)), strict=True):
        np.testing.assert_array_equal(new, in_checkpoint)
    assert any((old != new).any() for old, new in zip(*map(jax.tree.leaves, (start, trained)), strict=True))


def test_nothing_is_compiled_after_the_first_step(tmp_path, caplog, monkeypatch):
    """Not by rollout, scoring, update, checkpoint or evaluation, with a reference and with two updates a rollout."""
    compiled_by_row = []
    write = metrics.Metrics.write

    def counting_write(self, step, values):
        compiled_by_row.append([r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling ")])
        write(self, step, values)

    monkeypatch.setattr(metrics.Metrics, "write", counting_write)
    config = tiny.get_quickstart(
        steps=5, checkpoint__every=2, loss__kappa=0.1, optimizer__updates_per_rollout=2, optimizer__microbatches=2
    )
    with jax.log_compiles():
        run_and_read(tmp_path, config)
    # Rows: evaluation, five steps, evaluation. A checkpoint is written behind the second step.
    assert len(compiled_by_row) == 7
    assert sum("train_step" in message for message in compiled_by_row[1]) == 1
    assert compiled_by_row[-1] == compiled_by_row[1], compiled_by_row[-1][len(compiled_by_row[1]) :]


def test_a_run_does_not_go_on_with_another_config(mig_run):
    """GRPO in the folder of a MIG run would be neither."""
    before = (mig_run[0] / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="loss.alpha: 1.0 before, 0.0 now"):
        run_and_read(mig_run[0], tiny.get_quickstart(loss__alpha=0.0))
    with pytest.raises(ConfigError, match="mode: 'train' before, 'sft' now"):
        run_and_read(mig_run[0], tiny.get_quickstart(), mode="sft")
    assert (mig_run[0] / "metrics.jsonl").read_bytes() == before


def test_a_finished_run_can_be_taken_further(tmp_path):
    rows = run_and_read(tmp_path, tiny.get_quickstart(steps=1))
    further = run_and_read(tmp_path, tiny.get_quickstart(steps=2))
    assert timeless(further[: len(rows)]) == timeless(rows) and [row["step"] for row in further] == [0, 1, 1, 2, 2]


def test_grpo_scores_nothing(tmp_path):
    rows = run_and_read(tmp_path, tiny.get_quickstart(loss__alpha=0.0, loss__gamma=0.0, steps=1))
    assert rows[1]["advantage/outcome"] >= 0 and "reward/process" not in rows[1]


def test_kl_holds_on_to_the_start(tmp_path):
    """κ is measured from the second step on, and pulls back."""
    free, held = (
        run_and_read(
            tmp_path / str(kappa), tiny.get_quickstart(steps=3, loss__kappa=kappa, optimizer__updates_per_rollout=2)
        )
        for kappa in (1e-9, 50.0)
    )
    assert free[1]["kl/reference"] >= 0 and free[-2]["kl/reference"] > 0
    assert held[-2]["kl/reference"] < free[-2]["kl/reference"]


def test_sft_learns(tmp_path):
    rows = run_and_read(tmp_path, tiny.get_config(steps=60, log__every=10), mode="sft")
    losses = [row["loss/sft"] for row in rows if "loss/sft" in row]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("shape", [{"data": 2, "fsdp": 2, "tensor": 2}, {"data": 1, "fsdp": 8, "tensor": 1}], ids=str)
def test_eight_devices_equal_one(shape):
    """Tokens are identical; the update agrees to rounding."""
    one, one_state, one_metrics = _one_step({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])
    many, many_state, many_metrics = _one_step(shape, jax.devices())
    np.testing.assert_array_equal(one.token_bs, many.token_bs)
    np.testing.assert_allclose(one.process_advantage_bt, many.process_advantage_bt, atol=1e-3)
    assert one_metrics["loss/total"] == pytest.approx(many_metrics["loss/total"], rel=1e-4, abs=1e-5)
    # Where a gradient is next to nothing Adam's first step has a random sign: compare what has moved for a reason.
    for a, b in zip(jax.tree.leaves(one_state.opt_state), jax.tree.leaves(many_state.opt_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def _one_step(shape, devices):
    config = tiny.get_quickstart()
    mesh = sharding.make_mesh(shape, devices=devices)
    with jax.set_mesh(mesh), Verifier(workers=1) as verifier:
        policy = load_policy(config.model, mesh, seed=0)
        problems = train.open_problems(policy, config, "train")[:8]
        state, update = train.build_update(policy, config, "train")
        batch, _, _ = Collector(policy, config, verifier).collect(state.params, problems, jax.random.key(3))
        state, metrics_ = update(state, batch)
    return jax.device_get(batch), jax.device_get(state), jax.device_get(metrics_)


# ------------------------------------------------------------------------------------------------ killed and resumed


CONFIG_FILE = """
from tests import tiny
def get_config():
    return tiny.get_quickstart(steps=8, checkpoint__every=2, optimizer__updates_per_rollout=2, data__train_size=24)
"""


def start(workdir, tmp_path):
    (tmp_path / "config.py").write_text(CONFIG_FILE)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mig_jax.main", "train", f"--config={tmp_path}/config.py", f"--workdir={workdir}"]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)


def rows_on_disk(workdir):
    path = Path(workdir) / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    """Killed at two moments that nobody chose, somewhere behind a checkpoint."""
    whole = start(tmp_path / "whole", tmp_path)
    assert whole.wait() == 0, whole.stderr.read().decode()
    for n_rows in (4, 7):
        process = start(tmp_path / "killed", tmp_path)
        while process.poll() is None and len(rows_on_disk(tmp_path / "killed")) < n_rows:
            time.sleep(0.02)
        time.sleep(random.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = start(tmp_path / "killed", tmp_path)
    assert process.wait() == 0, process.stderr.read().decode()
    expected, found = (timeless(metrics.read_metrics(str(tmp_path / name))[1]) for name in ("whole", "killed"))
    assert json.dumps(expected) == json.dumps(found)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
