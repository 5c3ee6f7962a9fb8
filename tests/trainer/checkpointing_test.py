"""Damaged checkpoints are skipped, the right ones are kept, and any mesh reads what another has written."""

import json
import random
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.check_config import ConfigError
from mig_jax.distributed import sharding
from mig_jax.learning.train_step import TrainState, train_all
from mig_jax.policy.load import load_policy
from mig_jax.trainer.checkpointing import Checkpoints
from mig_jax.trainer.run_state import check_resume
from mig_jax.trainer.update import build_update
from tests import tiny


def state_of(step):
    """Parameters that tell their step, and make up most of their file."""
    count, skipped, in_a_row = (np.array(n, np.int32) for n in (step, 1, 2))
    wide = step + np.random.default_rng(step).normal(size=(64, 64)).astype(np.float32)
    params = {"wide": wide, "bias": np.full(3, step, np.float32)}
    return jax.device_put(TrainState(count, params, (np.full(3, step / 2, np.float32),), skipped, in_a_row))


def open_checkpoints(workdir, **keep):
    return Checkpoints(str(workdir), is_trainable=train_all, **keep)


def save(checkpoints, step, score=None):
    checkpoints.save(state_of(step), {"done": step, "stream": {}}, {"seed": 7}, score=score)
    checkpoints.manager.wait_until_finished()


def restore(workdir, *, check=lambda config: None):
    with open_checkpoints(workdir, keep=3, keep_best=0) as checkpoints:
        return checkpoints.restore(state_of(0), check=check)


def assert_step(found, step):
    state, data = found
    assert data["done"] == step
    jax.tree.map(np.testing.assert_array_equal, state, state_of(step))


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("two_steps")
    with open_checkpoints(workdir, keep=3, keep_best=0) as checkpoints:
        save(checkpoints, 4)
        save(checkpoints, 8)
    return workdir


def files_of(checkpoint):
    """The files whose content matters; orbax's own bookkeeping does not."""
    orbax = ("commit_success.txt", "_CHECKPOINT_METADATA")
    return [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name not in orbax]


def test_newest_checkpoint_is_restored(two_steps):
    seen = []
    assert_step(restore(two_steps, check=seen.append), 8)
    assert seen == [{"seed": 7}] and not (two_steps / "damaged_checkpoints").exists()


def test_empty_workdir_restores_nothing(tmp_path):
    assert restore(tmp_path) is None


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 0x10
    content = {"truncated": content[: len(content) // 2], "garbage": random.Random(0).randbytes(len(content))}.get(
        how, content
    )
    path.unlink() if how == "missing" else path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "garbage", "flipped", "missing"])
def test_any_damaged_file_falls_back_to_the_previous_checkpoint(two_steps, tmp_path, capsys, how):
    names = [path.relative_to(two_steps) for path in files_of(two_steps / "checkpoints" / "8")]
    assert {name.name for name in names} >= {"checksums.json", "_METADATA", "manifest.ocdbt", "metadata"}
    for number, name in enumerate(names):
        shutil.copytree(two_steps, tmp_path / str(number))
        damage(tmp_path / str(number) / name, how)
        assert_step(restore(tmp_path / str(number)), 4)
        said = capsys.readouterr().out
        assert "checkpoint 8 is damaged" in said and "resuming from 4" in said, name
        assert (name.name in said) or name.name == "checksums.json", said
        left = {path.name for path in (tmp_path / str(number)).glob("*/*")}
        assert left == {"4", "8"} and (tmp_path / str(number) / "damaged_checkpoints" / "8").is_dir()


def test_step_of_a_damaged_checkpoint_can_be_saved_again(two_steps, tmp_path):
    shutil.copytree(two_steps, tmp_path, dirs_exist_ok=True)
    for _ in range(2):
        (tmp_path / "checkpoints" / "8" / "state" / "_METADATA").write_bytes(b"{")
        with open_checkpoints(tmp_path, keep=3, keep_best=0) as checkpoints:
            assert_step(checkpoints.restore(state_of(0), check=lambda config: None), 4)
            save(checkpoints, 8)
        assert_step(restore(tmp_path), 8)


def test_all_damaged_is_an_error(two_steps, tmp_path):
    shutil.copytree(two_steps, tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoints" / "4" / "config" / "metadata").write_bytes(b"")
    shutil.rmtree(tmp_path / "checkpoints" / "8" / "state")
    with pytest.raises(
        ValueError, match=r"(?s)all checkpoints in .* are damaged; .*8: .*_METADATA.*4: .*config/metadata"
    ):
        restore(tmp_path)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"4", "8"}


def test_other_config_is_not_damage(two_steps):
    def refuse(config):
        raise ConfigError(f"not {config}")

    with pytest.raises(ConfigError, match="not {'seed': 7}"):
        restore(two_steps, check=refuse)


def test_newest_and_best_are_kept(tmp_path):
    """Also when the run is reopened in between; NaN and unevaluated checkpoints are never best."""
    scores = {1: 0.5, 2: 0.9, 3: None, 4: float("nan"), 5: 0.9, 6: 0.1, 7: None}
    for steps in ((1, 2, 3), (4, 5, 6, 7)):
        with open_checkpoints(tmp_path, keep=1, keep_best=2) as checkpoints:
            for step in steps:
                save(checkpoints, step, scores[step])
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [2, 5, 7]


def test_saving_is_asynchronous_and_keeps_the_saved_values(tmp_path, monkeypatch):
    """The writer is blocked while the next update takes over the memory of the state."""
    may_finish = threading.Event()
    with open_checkpoints(tmp_path, keep=1, keep_best=0) as checkpoints:
        write = checkpoints._write_checksums
        monkeypatch.setattr(
            checkpoints.manager._checkpointer, "_post_finalization_callback", lambda: may_finish.wait(60) and write()
        )
        state = state_of(3)
        checkpoints.save(state, {"done": 3, "stream": {}}, {}, score=None)
        update = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 1, state), donate_argnums=0)
        for _ in range(3):
            state = update(state)
        jax.block_until_ready(state)
        assert checkpoints.manager.is_saving_in_progress()
        may_finish.set()
    assert_step(restore(tmp_path), 3)


def on_mesh(shape, devices, dtype="float32", state_dtype=""):
    """Return the quickstart policy's state on a mesh; updates are not compiled."""
    config = tiny.get_quickstart(model__param_dtype=dtype, optimizer__state_dtype=state_dtype)
    mesh = sharding.make_mesh(shape, devices=devices)
    with jax.set_mesh(mesh):
        return build_update(load_policy(config.model, mesh, seed=0), config, "train")[0]


@pytest.mark.parametrize("is_narrower", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_any_mesh_reads_what_another_has_written(tmp_path, is_narrower):
    """Eight devices, one, eight otherwise; parameters and moments, or moments alone, in a narrower dtype."""
    written = on_mesh({"fsdp": 8}, jax.devices())
    add_one = jax.jit(lambda state: jax.tree.map(lambda x: x + jnp.ones_like(x), state))
    written = written._replace(opt_state=add_one(written.opt_state))
    assert any(not x.sharding.is_fully_replicated for x in jax.tree.leaves(written.params))
    with open_checkpoints(tmp_path, keep=1, keep_best=0) as checkpoints:
        checkpoints.save(written, {"done": 1, "stream": {}}, {}, score=None)
    narrower = jax.tree.map(
        lambda x: np.asarray(x).astype(jnp.bfloat16 if x.dtype == jnp.float32 else x.dtype), written
    )
    as_wide = (
        ({}, jax.devices()[:1], ("float32", ""), written),
        ({"data": 2, "tensor": 4}, jax.devices(), ("float32", ""), written),
    )
    in_bfloat16 = (
        ({"data": 2, "tensor": 4}, jax.devices(), ("bfloat16", ""), narrower),
        ({"data": 2, "tensor": 4}, jax.devices(), ("float32", "bfloat16"), narrower._replace(params=written.params)),
    )
    for shape, devices, dtypes, expected in in_bfloat16 if is_narrower else as_wide:
        target = on_mesh(shape, devices, *dtypes)
        with open_checkpoints(tmp_path, keep=1, keep_best=0) as checkpoints:
            found, _ = checkpoints.restore(target, check=lambda config: None)
        assert jax.tree.map(lambda x: (x.sharding, x.dtype), found) == jax.tree.map(
            lambda x: (x.sharding, x.dtype), target
        )
        jax.tree.map(np.testing.assert_array_equal, *jax.device_get((found, expected)))


def test_resume_permits_other_devices_and_dtypes_only():
    before = tiny.get_quickstart().to_dict() | {"mode": "train"}
    before = json.loads(json.dumps(before))
    now = json.loads(json.dumps(before))
    now["mesh"]["fsdp"], now["model"]["param_dtype"], now["optimizer"]["microbatches"] = 4, "bfloat16", 2
    now["optimizer"]["state_dtype"], now["loss"]["kl_reference_on_host"] = "bfloat16", True
    check_resume("/workdir", before, now=now)
    now["optimizer"]["peak_lr"] = 1.0
    with pytest.raises(ConfigError, match="optimizer.peak_lr"):
        check_resume("/workdir", before, now=now)
