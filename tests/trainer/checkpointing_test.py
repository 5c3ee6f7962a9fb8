"""Damaged checkpoints are noticed and passed over, the right ones stay, and any mesh reads what another has written."""

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
from mig_jax.learning.train_step import TrainState
from mig_jax.policy.load import load_policy
from mig_jax.trainer import train
from mig_jax.trainer.checkpointing import Checkpoints
from tests import tiny


def state_of(step):
    """Weights that tell which step they are of, and are what most of their file is made of."""
    count, skipped, in_a_row = (jnp.array(n) for n in (step, 1, 2))
    params = {"wide": step + jax.random.normal(jax.random.key(step), (64, 64)), "bias": jnp.full(3, float(step))}
    return TrainState(count, params, (jnp.full(3, step / 2),), skipped, in_a_row)


def save(checkpoints, step, figure=None):
    checkpoints.save(state_of(step), {"done": step, "stream": {}}, {"seed": 7}, figure=figure)
    checkpoints.manager.wait_until_finished()


def restore(workdir, *, check=lambda config: None):
    with Checkpoints(str(workdir), keep=3, keep_best=0) as checkpoints:
        return checkpoints.restore(state_of(0), check=check)


def assert_step(found, step):
    state, data = found
    assert data["done"] == step
    jax.tree.map(np.testing.assert_array_equal, state, state_of(step))


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("two_steps")
    with Checkpoints(str(workdir), keep=3, keep_best=0) as checkpoints:
        save(checkpoints, 4)
        save(checkpoints, 8)
    return workdir


def files_of(checkpoint):
    """Those whose content matters: what says that all was written, and when, is orbax's own."""
    orbax = ("commit_success.txt", "_CHECKPOINT_METADATA")
    return [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name not in orbax]


def test_the_newest_is_restored(two_steps):
    seen = []
    assert_step(restore(two_steps, check=seen.append), 8)
    assert seen == [{"seed": 7}] and not (two_steps / "damaged_checkpoints").exists()


def test_nothing_is_restored_from_nothing(tmp_path):
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
def test_a_damaged_file_of_any_kind_leads_back_one_checkpoint(two_steps, tmp_path, capsys, how):
    names = [path.relative_to(two_steps) for path in files_of(two_steps / "checkpoints" / "8")]
    assert {name.name for name in names} >= {"checksums.json", "_METADATA", "manifest.ocdbt", "metadata"}
    for number, name in enumerate(names):
        shutil.copytree(two_steps, tmp_path / str(number))
        damage(tmp_path / str(number) / name, how)
        assert_step(restore(tmp_path / str(number)), 4)
        said = capsys.readouterr().out
        assert "checkpoint 8 is damaged" in said and "goes back to 4" in said, name
        assert (name.name in said) or name.name == "checksums.json", said
        left = {path.name for path in (tmp_path / str(number)).glob("*/*")}
        assert left == {"4", "8"} and (tmp_path / str(number) / "damaged_checkpoints" / "8").is_dir()


def test_the_step_of_a_damaged_checkpoint_can_be_saved_again(two_steps, tmp_path):
    shutil.copytree(two_steps, tmp_path, dirs_exist_ok=True)
    for _ in range(2):
        (tmp_path / "checkpoints" / "8" / "state" / "_METADATA").write_bytes(b"{")
        with Checkpoints(str(tmp_path), keep=3, keep_best=0) as checkpoints:
            assert_step(checkpoints.restore(state_of(0), check=lambda config: None), 4)
            save(checkpoints, 8)
        assert_step(restore(tmp_path), 8)


def test_when_all_are_damaged_nothing_begins_anew(two_steps, tmp_path):
    shutil.copytree(two_steps, tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoints" / "4" / "config" / "metadata").write_bytes(b"")
    shutil.rmtree(tmp_path / "checkpoints" / "8" / "state")
    with pytest.raises(
        ValueError, match=r"(?s)no checkpoint in .* can be read; .*8: .*_METADATA.*4: .*config/metadata"
    ):
        restore(tmp_path)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"4", "8"}


def test_another_config_is_no_damage(two_steps):
    def refuse(config):
        raise ConfigError(f"not {config}")

    with pytest.raises(ConfigError, match="not {'seed': 7}"):
        restore(two_steps, check=refuse)


def test_the_newest_and_the_best_stay(tmp_path):
    """Also when the run is opened again between them; nan and what nobody evaluated is not good."""
    figures = {1: 0.5, 2: 0.9, 3: None, 4: float("nan"), 5: 0.9, 6: 0.1, 7: None}
    for steps in ((1, 2, 3), (4, 5, 6, 7)):
        with Checkpoints(str(tmp_path), keep=1, keep_best=2) as checkpoints:
            for step in steps:
                save(checkpoints, step, figures[step])
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [2, 5, 7]


def test_saving_waits_for_nothing_and_holds_what_was_saved(tmp_path, monkeypatch):
    """The writer is held up, and meanwhile the memory of the state is given to the next update."""
    may_finish = threading.Event()
    with Checkpoints(str(tmp_path), keep=1, keep_best=0) as checkpoints:
        write = checkpoints._write_checksums
        monkeypatch.setattr(
            checkpoints.manager._checkpointer, "_post_finalization_callback", lambda: may_finish.wait(60) and write()
        )
        state = state_of(3)
        checkpoints.save(state, {"done": 3, "stream": {}}, {}, figure=None)
        update = jax.jit(lambda state: jax.tree.map(lambda x: x * 0 - 1, state), donate_argnums=0)
        for _ in range(3):
            state = update(state)
        jax.block_until_ready(state)
        assert checkpoints.manager.is_saving_in_progress()
        may_finish.set()
    assert_step(restore(tmp_path), 3)


def on_mesh(shape, devices, dtype="float32", state_dtype=""):
    """The state of the quickstart's policy on a mesh; updates are not compiled."""
    config = tiny.get_quickstart(model__param_dtype=dtype, optimizer__state_dtype=state_dtype)
    mesh = sharding.make_mesh(shape, devices=devices)
    with jax.set_mesh(mesh):
        return train.build_update(load_policy(config.model, mesh, seed=0), config, "train")[0]


def test_any_mesh_reads_what_another_has_written(tmp_path):
    """Eight devices, then one, then another eight; and weights and moments, or moments alone, in a narrower dtype."""
    written = on_mesh({"fsdp": 8}, jax.devices())
    written = written._replace(opt_state=jax.tree.map(lambda x: x + jnp.ones_like(x), written.opt_state))
    assert any(not x.sharding.is_fully_replicated for x in jax.tree.leaves(written.params))
    with Checkpoints(str(tmp_path), keep=1, keep_best=0) as checkpoints:
        checkpoints.save(written, {"done": 1, "stream": {}}, {}, figure=None)
    narrower = jax.tree.map(lambda x: x.astype(jnp.bfloat16) if x.dtype == jnp.float32 else x, written)
    for shape, devices, dtypes, expected in (
        ({}, jax.devices()[:1], ("float32", ""), written),
        ({"data": 2, "tensor": 4}, jax.devices(), ("float32", ""), written),
        ({"data": 2, "tensor": 4}, jax.devices(), ("bfloat16", ""), narrower),
        ({"data": 2, "tensor": 4}, jax.devices(), ("float32", "bfloat16"), narrower._replace(params=written.params)),
    ):
        target = on_mesh(shape, devices, *dtypes)
        with Checkpoints(str(tmp_path), keep=1, keep_best=0) as checkpoints:
            found, _ = checkpoints.restore(target, check=lambda config: None)
        assert jax.tree.map(lambda x: (x.sharding, x.dtype), found) == jax.tree.map(
            lambda x: (x.sharding, x.dtype), target
        )
        jax.tree.map(np.testing.assert_array_equal, *jax.device_get((found, expected)))


def test_a_run_goes_on_with_other_devices_and_dtypes_only():
    before = tiny.get_quickstart().to_dict() | {"mode": "train"}
    before = json.loads(json.dumps(before))
    now = json.loads(json.dumps(before))
    now["mesh"]["fsdp"], now["model"]["param_dtype"], now["optimizer"]["microbatches"] = 4, "bfloat16", 2
    now["optimizer"]["state_dtype"], now["loss"]["kl_reference_on_host"] = "bfloat16", True
    train.check_resume("/workdir", before, now=now)
    now["optimizer"]["peak_lr"] = 1.0
    with pytest.raises(ConfigError, match="optimizer.peak_lr"):
        train.check_resume("/workdir", before, now=now)
