"""A run is resumed with the parameters and data rows that it was started with."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.policy.load import load_policy
from mig_jax.policy.save import save_policy
from mig_jax.trainer import fingerprints, train
from mig_jax.trainer.fingerprints import check_fingerprints, fingerprint_params
from tests import tiny

ADAPTERS = {"model__lora__rank": 2}
checksum = jax.jit(fingerprints.checksum)


def one_device():
    return sharding.make_mesh({}, devices=jax.devices()[:1])


def fingerprint(mesh=None, *, mode="train", change=None, seed=0, **changes):
    config = tiny.get_config(**changes)
    policy = load_policy(config.model, mesh or one_device(), seed=seed)
    if change:
        policy = dataclasses.replace(policy, params=change(policy.params))
    return fingerprint_params(policy, config, mode)


def test_checksum_by_hand():
    x = np.array([[1, 2, 3], [4, 5, 2**31 + 7]], np.uint32)
    expected = sum(int(value) * (2 * i + 1) for i, value in enumerate(x.ravel())) % 2**32
    assert int(checksum(x.view(np.float32))) == expected
    half = jnp.array([1.0, -2.0], jnp.bfloat16)
    assert int(checksum(half)) == (0x3F80 + 3 * 0xC000) % 2**32
    assert int(checksum(jnp.float32(1.0))) == 0x3F800000


def test_checksum_notices_one_bit_and_the_order():
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    flipped, negated = x.copy(), x.copy()
    flipped.view(np.uint32)[1, 2, 3] ^= 1
    negated[0, 0, 0] *= -1
    sums = [int(checksum(y)) for y in (x, flipped, x[::-1], x[:, :, ::-1], negated)]
    assert len(set(sums)) == len(sums)


@pytest.mark.parametrize("shape", [pytest.param({"fsdp": 2}, marks=pytest.mark.slow), {"data": 2, "tensor": 2}])
def test_fingerprint_does_not_depend_on_the_mesh(shape):
    devices = jax.devices()[: int(np.prod(list(shape.values())))]
    assert fingerprint(sharding.make_mesh(shape, devices=devices), **ADAPTERS) == fingerprint(**ADAPTERS)


def test_only_parameters_that_are_read_anew_have_fingerprints():
    frozen = fingerprint(**ADAPTERS)
    assert list(frozen) == ["base parameters (float32)", "base parameters (bfloat16)"]
    assert fingerprint() == {}
    # The KL reference is a copy of the start, or with adapters the base.
    copied = fingerprint(loss__kl_coef=0.1)
    assert list(copied) == list(frozen)
    assert copied != fingerprint(loss__kl_coef=0.1, seed=1)
    assert fingerprint(loss__kl_coef=0.1, mode="sft") == {}
    assert fingerprint(loss__kl_coef=0.1, **ADAPTERS) == frozen
    # Adapters are in the checkpoint.
    assert (
        fingerprint(change=lambda params: jax.tree_util.tree_map_with_path(move_adapters, params), **ADAPTERS) == frozen
    )


def move_adapters(path, x):
    return x + 1 if "lora" in jax.tree_util.keystr(path) else x


def test_frozen_vision_tower_is_part_of_the_fingerprint():
    config = tiny.get_scenes()
    policy = load_policy(config.model, one_device(), seed=0)
    assert len(fingerprint_params(policy, config, "train")) == 2
    assert fingerprint_params(dataclasses.replace(policy, freeze_vision=False), config, "train") == {}


@pytest.mark.slow
def test_parameters_of_another_type_are_compared_as_far_as_they_are_exact(tmp_path):
    config = tiny.get_config(model__path=str(tmp_path))
    policy = load_policy(tiny.get_config().model, one_device(), seed=0)
    save_policy(policy, policy.params, str(tmp_path), config=config)
    changes = {"model__path": str(tmp_path), **ADAPTERS}
    wide, narrow = fingerprint(**changes), fingerprint(model__param_dtype="bfloat16", **changes)
    assert list(narrow) == ["base parameters (bfloat16)"]
    check_fingerprints("run", before=wide, now=narrow)
    check_fingerprints("run", before=narrow, now=wide)
    other = fingerprint(change=lambda params: jax.tree.map(lambda x: x * 1.1, params), **changes)
    for before, now in ((wide, other), (narrow, other), (other, narrow)):
        with pytest.raises(UserError, match=r"base parameters \(bfloat16\)$"):
            check_fingerprints("run", before=before, now=now)


def test_all_changes_are_named_at_once():
    before = {"rows": "a", "parameters": "b", "other": "c"}
    check_fingerprints("run", before=before, now={"rows": "a", "new": "d"})
    with pytest.raises(UserError, match="^run was started with other files; .* read from: rows, parameters$"):
        check_fingerprints("run", before=before, now={"rows": "x", "parameters": "y", "other": "c"})
    with pytest.raises(UserError, match="run was started by an earlier version.*use a new workdir"):
        check_fingerprints("run", before=None, now=before)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """An SFT run from a model in a folder, with rows from a file, adapters, and one more step to do."""
    folder = tmp_path_factory.mktemp("started")
    policy = load_policy(tiny.get_config().model, one_device(), seed=0)
    save_policy(policy, policy.params, str(folder / "base"), config=tiny.get_config())
    rows = [{"id": str(n), "question": f"{n}+1?", "answer": str(n + 1), "kind": "number", "steps": [f"{n}+1={n + 1}"]}
            for n in range(32)]  # fmt: skip
    for name in ("train", "eval"):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run(folder, steps=1)
    return folder


def run(folder, *, steps, **changes):
    config = tiny.get_config(
        steps=steps, model__path=str(folder / "base"), model__tokenizer="", data__train=f"jsonl:{folder}/train.jsonl",
        data__eval=f"jsonl:{folder}/eval.jsonl", rollout__max_new_tokens=100,
        **({"eval__problems": 4} | ADAPTERS | changes),
    )  # fmt: skip
    train.run(config, str(folder / "run"), mode="sft", devices=jax.devices()[:1])


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return lambda: path.write_text(text)


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("train", '"question": "3+1?"', '"question": "3+1=?"'),
        ("train", '"answer": "4"', '"answer": "4.0"'),
        ("train", '"steps": ["3+1=4"]', '"steps": ["1+3=4"]'),
        ("train", '"id": "3"', '"id": "x"'),
        ("eval", "?", "??"),
    ],
)
def test_other_rows_are_noticed(started, name, old, new):
    restore = edit(started / f"{name}.jsonl", old, new)
    kind = {"train": "training", "eval": "held-out"}[name]
    with pytest.raises(UserError, match=f"{re.escape(str(started / 'run'))} was started with other files.*: {kind} "):
        run(started, steps=2)
    restore()


def test_other_base_is_noticed(started):
    path = started / "base" / "model.safetensors"
    stored = path.read_bytes()
    path.write_bytes(stored[:-4] + bytes([stored[-4] ^ 1]) + stored[-3:])
    with pytest.raises(UserError, match=r"started with other files.*: base parameters \(float32\)$"):
        run(started, steps=2)
    path.write_bytes(stored)


@pytest.mark.slow
def test_other_settings_are_resumed(started, capsys):
    """The number of held-out problems may change, and with it what is read of them."""
    run(started, steps=2, eval__problems=3)
    assert "after step 1 of 2" in capsys.readouterr().out
