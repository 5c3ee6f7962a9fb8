"""The training loop writes its files, learns, compiles once, and refuses to resume with another config."""

import contextlib
import json
from collections import Counter

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mig_jax.check_config import ConfigError
from mig_jax.distributed import sharding
from mig_jax.learning.train_step import train_all
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.policy.load import load_policy
from mig_jax.records import metrics, transcripts
from mig_jax.records.compile_timer import compiled_programs
from mig_jax.trainer import checkpointing, train
from mig_jax.trainer.export import export
from mig_jax.trainer.kl_reference import make_kl_reference
from mig_jax.trainer.update import build_step
from tests import tiny
from tests.trainer.resume_test import timeless

NO_EVAL = {"eval__at_start": False, "eval__at_end": False}


def run_and_read(workdir, config, mode="train"):
    """Train on one device: eight fake ones on two cores are slow, and have a test of their own."""
    train.run(config, str(workdir), mode=mode, devices=jax.devices()[:1])
    return metrics.read_metrics(str(workdir))[1]


@contextlib.contextmanager
def counting_programs():
    """Yield a list that gets, for each row of metrics, how often each program was compiled until then."""
    before, programs_by_row, write = len(compiled_programs()), [], metrics.MetricsWriter.write

    def counting_write(self, step, values):
        programs_by_row.append(Counter(compiled_programs()[before:]))
        write(self, step, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics.MetricsWriter, "write", counting_write)
        yield programs_by_row


def assert_compiled_in_the_first_step(programs_by_row, n_rows):
    assert len(programs_by_row) == n_rows
    assert programs_by_row[1]["train_step"] == 1
    assert programs_by_row[-1] == programs_by_row[1], programs_by_row[-1] - programs_by_row[1]


@pytest.fixture(scope="module")
def mig_run(tmp_path_factory):
    """Train on a mixture of a generator and a benchmark, whose published file is written first."""
    workdir, data_dir = tmp_path_factory.mktemp("mig"), tmp_path_factory.mktemp("data")
    rows = [{"question": f"Last digits of {n} +5 -3 *3 +8 -2 +6", "answer": f"7+5=2\n#### {n}"} for n in range(9)]
    (data_dir / "gsm8k").mkdir()
    (data_dir / "gsm8k" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = tiny.get_quickstart(log__transcripts_every=1, log__transcripts=32, data__dir=str(data_dir))
    config.data.train, config.data.eval = "3 chain:terms=7 + 1 gsm8k", "chain:terms=7"
    with counting_programs() as programs_by_row:
        return workdir, run_and_read(workdir, config), programs_by_row


def test_mixture_is_trained_on(mig_run):
    written = transcripts.read_transcripts(str(mig_run[0] / "transcripts" / "step_000001.jsonl"))
    assert Counter(t.source for t in written) == {"chain": 24, "gsm8k": 8}
    assert {t.kind for t in written if t.source == "gsm8k"} == {"number"}
    assert all(t.ell_k and t.id for t in written)


def test_run_writes_its_files(mig_run):
    workdir, rows, _ = mig_run
    for name in ("curves.png", "gains_first.png", "gains_last.html", "metrics.jsonl", "model/config.json",
                 "model/model.safetensors", "model/tokenizer.json", "model/README.md",
                 "transcripts/step_000001.jsonl"):  # fmt: skip
        assert (workdir / name).stat().st_size > 0, name
    assert [row["step"] for row in rows] == [0, 1, 2, 2]


WANTED = {
    "reward/accuracy", "reward/format", "sft/gate", "reward/process", "reward/zero_variance_groups",
    "advantage/process", "advantage/outcome", "rollout/truncated", "rollout/steps", "rollout/steps_not_probed",
    "rollout/answer_named_early", "rollout/another_step_if_correct", "ell/fall", "policy/entropy", "ratio/mean",
    "ratio/clipped_process", "ratio/clipped_outcome", "kl/old", "gradient/norm", "verifier/timeouts",
    "verifier/timeouts_paid", "time/tokens_per_second", "time/rollout_share", "time/grade_share",
    "time/score_share", "time/train_share",
}  # fmt: skip


def test_metrics_are_complete_and_shares_add_up(mig_run):
    row = mig_run[1][1]
    assert set(row) >= WANTED
    assert sum(value for name, value in row.items() if name.endswith("_share")) == pytest.approx(1, abs=1e-6)
    assert row["ratio/mean"] == pytest.approx(1, abs=1e-4), "the ratio is 1 before the first update"


def test_saved_model_is_the_trained_one(mig_run):
    """The saved model equals the checkpoint, and differs from the start."""
    start, trained = (
        hf_weights.load(path, hf_config.read_config(path))
        for path in (tiny.get_quickstart().model.path, str(mig_run[0] / "model"))
    )
    with checkpointing.Checkpoints(str(mig_run[0]), keep=1, keep_best=0, is_trainable=train_all) as kept:
        in_checkpoint = kept.manager.restore(2, args=ocp.args.Composite(state=ocp.args.StandardRestore())).state[
            "params"
        ]
    for new, saved in zip(*map(jax.tree.leaves, (trained, in_checkpoint)), strict=True):
        np.testing.assert_array_equal(new, saved)
    assert any((old != new).any() for old, new in zip(*map(jax.tree.leaves, (start, trained)), strict=True))


def test_export_of_a_finished_run_is_its_model(mig_run, tmp_path):
    exported = export(str(mig_run[0]), output=str(tmp_path), devices=jax.devices()[:1])
    assert exported.step == 2
    names = sorted(path.name for path in (mig_run[0] / "model").iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (mig_run[0] / "model" / name).read_bytes(), name
    assert "8 held-out problems of `chain:terms=7`" in (tmp_path / "README.md").read_text()


def test_nothing_is_compiled_after_the_first_step(mig_run):
    """Neither rollout, scoring, update nor evaluation recompiles. Rows: evaluation, two steps, evaluation."""
    assert_compiled_in_the_first_step(mig_run[2], 4)


@pytest.mark.slow
def test_nothing_is_compiled_later_with_a_reference_and_two_updates(tmp_path):
    """Nor does a checkpoint recompile, which is written after the second step and the fourth."""
    config = tiny.get_quickstart(
        steps=5, checkpoint__every=2, loss__kl_coef=0.1, optimizer__updates_per_rollout=2, optimizer__microbatches=2
    )
    with counting_programs() as programs_by_row:
        run_and_read(tmp_path, config)
    assert_compiled_in_the_first_step(programs_by_row, 7)


def test_resume_with_another_config_is_refused(mig_run):
    """Resuming a MIG run as GRPO would be neither."""
    before = (mig_run[0] / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="loss.alpha: 1.0 before, 0.0 now"):
        run_and_read(mig_run[0], tiny.get_quickstart(loss__alpha=0.0))
    with pytest.raises(ConfigError, match="mode: 'train' before, 'sft' now"):
        run_and_read(mig_run[0], tiny.get_quickstart(), mode="sft")
    assert (mig_run[0] / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_finished_run_can_be_extended(tmp_path):
    rows = run_and_read(tmp_path, tiny.get_quickstart(steps=1))
    further = run_and_read(tmp_path, tiny.get_quickstart(steps=2))
    assert timeless(further[: len(rows)]) == timeless(rows) and [row["step"] for row in further] == [0, 1, 1, 2, 2]


def test_grpo_scores_nothing(tmp_path):
    rows = run_and_read(tmp_path, tiny.get_quickstart(loss__alpha=0.0, loss__gamma=0.0, steps=1, **NO_EVAL))
    assert rows[0]["advantage/outcome"] >= 0 and "reward/process" not in rows[0]


@pytest.mark.slow
def test_kl_keeps_the_policy_near_the_start(tmp_path):
    """The KL term is measured from the second step on, and pulls the policy back."""
    free, held = (
        run_and_read(
            tmp_path / str(kl_coef),
            tiny.get_quickstart(steps=3, loss__kl_coef=kl_coef, optimizer__updates_per_rollout=2),
        )
        for kl_coef in (1e-9, 50.0)
    )
    assert free[1]["kl/reference"] >= 0 and free[-2]["kl/reference"] > 0
    assert held[-2]["kl/reference"] < free[-2]["kl/reference"]


def test_sft_learns(tmp_path):
    rows = run_and_read(tmp_path, tiny.get_config(steps=60, log__every=10, **NO_EVAL), mode="sft")
    losses = [row["loss/sft"] for row in rows if "loss/sft" in row]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("on_host", [False, True])
def test_kl_reference_keeps_the_initial_parameters(on_host):
    """On four devices, after an update that was donated the parameters."""
    config = tiny.get_config()
    mesh = sharding.make_mesh({"fsdp": 2, "tensor": 2}, devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        policy = load_policy(config.model, mesh, seed=0)
        start = jax.device_get(policy.params)
        places = jax.tree.map(lambda x: x.sharding, policy.params)
        before = count_on_host()
        reference = make_kl_reference(policy, on_host=on_host)
        assert (count_on_host() - before > 0) == on_host
        init = build_step(policy, config, "train").init
        state = init(policy.params)
        moved = jax.jit(lambda x: jax.tree.map(lambda w: w + 1, x), donate_argnums=0)(state.params)
        found = reference(moved)
    jax.tree.map(np.testing.assert_array_equal, found, start)
    assert jax.tree.map(lambda x: x.sharding, found) == places


def count_on_host():
    return sum(x.sharding.memory_kind == "pinned_host" for x in jax.live_arrays())
