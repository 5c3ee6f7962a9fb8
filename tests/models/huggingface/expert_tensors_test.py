"""Experts on disk: a tensor for each, or one for all of a layer; a device reads those that it holds."""

import dataclasses

import jax
import numpy as np
import pytest
import safetensors.numpy

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models import decoder
from mig_jax.models.experts import ExpertsConfig
from mig_jax.models.families import qwen3_moe
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import layout, weights
from mig_jax.models.huggingface.tensor_files import DiskTensor

SHAPE = decoder.DecoderConfig(
    vocab_size=11, width=8, layers=2, heads=2, kv_heads=1, head_size=4, mlp_width=12, qk_norm=True,
    experts=ExpertsConfig(count=4, per_token=2, width=6, is_normalized=True),
)  # fmt: skip


@pytest.fixture(scope="module")
def params():
    return jax.jit(decoder.init_params, static_argnums=0)(SHAPE, jax.random.key(0))


def fuse(tensors):
    """Return tensors of all experts of a layer in place of one for each, as transformers 5 can write them."""
    fused = {name: x for name, x in tensors.items() if ".experts." not in name}
    for layer in range(SHAPE.layers):
        start = f"model.layers.{layer}.mlp.experts"
        gate, up, down = (
            np.stack([tensors[f"{start}.{expert}.{name}_proj.weight"] for expert in range(4)])
            for name in ("gate", "up", "down")
        )
        fused |= {f"{start}.gate_up_proj": np.concatenate([gate, up], axis=1), f"{start}.down_proj": down}
    return fused


def test_folder_is_read_as_it_was_saved_in_both_spellings(params, tmp_path):
    weights.save(params, SHAPE, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    np.testing.assert_array_equal(
        tensors["model.layers.1.mlp.experts.3.down_proj.weight"], np.asarray(params["layers"]["mlp"]["down"])[1, 3].T
    )
    assert hf_config.read_config(tmp_path).experts == SHAPE.experts
    mesh = sharding.make_mesh({"fsdp": 2, "tensor": 4})
    shardings = sharding.shardings(decoder.abstract_params(SHAPE), decoder.param_axes(SHAPE), mesh)
    for spelling in (tensors, fuse(tensors)):
        safetensors.numpy.save_file(spelling, file)
        for options in ({}, {"shardings": shardings}):
            loaded = weights.load(tmp_path, SHAPE, **options)
            jax.tree.map(np.testing.assert_array_equal, loaded, params)
    gate = loaded["layers"]["mlp"]["gate"]
    assert gate.sharding.shard_shape(gate.shape) == (2, 1, 4, 6)


def test_missing_and_wrong_experts_are_named(params, tmp_path):
    weights.save(params, SHAPE, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = fuse(safetensors.numpy.load_file(file))
    tensors["model.layers.0.mlp.experts.gate_up_proj"] = np.zeros((3, 12, 8), np.float32)
    safetensors.numpy.save_file(tensors, file)
    with pytest.raises(UserError) as raised:
        weights.load(tmp_path, SHAPE)
    lines = str(raised.value).splitlines()[1:]
    assert [line.strip() for line in lines] == [
        f"missing: model.layers.0.mlp.experts.3.{name}_proj.weight [6, 8]" for name in ("gate", "up")
    ]
    wider = dataclasses.replace(SHAPE, experts=dataclasses.replace(SHAPE.experts, count=400))
    with pytest.raises(UserError, match=r"and \d+ more$"):
        weights.load(tmp_path, wider)


def test_only_the_experts_of_a_device_are_read():
    asked = []

    def tensor(expert):
        matrix = np.arange(48.0).reshape(6, 8) + 100 * expert

        def read(slices):
            asked.append((expert, matrix[slices].size))
            return matrix[slices]

        return DiskTensor((6, 8), "F32", True, read)

    table = qwen3_moe.FAMILY.tensors["layers/mlp/gate"]
    part = layout.layer_from_disk(
        [tensor(expert) for expert in range(4)], table, (4, 8, 6), (slice(2, 4), slice(0, 4), slice(None))
    )
    assert asked == [(2, 24), (3, 24)]
    np.testing.assert_array_equal(part[1], (np.arange(48).reshape(6, 8) + 300)[:, :4].T)
