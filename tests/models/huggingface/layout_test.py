"""Any part of a parameter that a device asks for is that part of the whole, and no more of the file is read."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from flax import traverse_util

from mig_jax.models import decoder, qwen2_vl
from mig_jax.models.adapters import LoraConfig
from mig_jax.models.families import FAMILIES
from mig_jax.models.huggingface import layout as hf_layout
from mig_jax.models.huggingface.tensor_files import DiskTensor

VISION = qwen2_vl.VisionConfig(width=16, layers=3, heads=2, mlp_width=8, full_layers=(1,), patch_size=2, window_size=8)
CONFIG = decoder.DecoderConfig(
    vocab_size=11, width=8, layers=2, heads=4, kv_heads=2, head_size=6, mlp_width=8, vision=VISION
)
# name: (our shape, inputs, shape on disk)
LAYOUTS = {
    "unchanged": ((4, 6), None, (4, 6)),
    "vector": ((6,), 0, (6,)),
    "bias of heads": ((4, 6), 0, (24,)),
    "linear": ((4, 6), 1, (6, 4)),
    "query": ((6, 4, 2), 1, (8, 6)),
    "out": ((4, 2, 6), 2, (6, 8)),
    "qkv": ((6, 3, 4, 2), 1, (24, 6)),
    "convolution": ((24, 4), 1, (4, 3, 2, 2, 2)),
}


def halves(shape):
    """Return every way in which a mesh may halve the axes of an even size."""
    choices = [[slice(None)] + ([slice(0, n // 2), slice(n // 2, n)] if n % 2 == 0 else []) for n in shape]
    return itertools.product(*choices)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_part_is_read_as_part_of_the_whole(layout):
    shape, inputs, on_disk = LAYOUTS[layout]
    whole = np.arange(np.prod(shape)).reshape(shape)
    disk = hf_layout.to_disk(whole, inputs, on_disk)
    assert disk.shape == on_disk
    tensor = DiskTensor(on_disk, "I64", True, lambda slices: disk[slices])
    for index in halves(shape):
        np.testing.assert_array_equal(hf_layout.from_disk(tensor, shape, inputs, index), whole[index])


def test_only_the_part_of_a_device_is_read():
    """Query heads 2 and 3 of 4, half of the width: a quarter of the matrix."""
    disk, asked = np.zeros((8, 6)), []

    def read(slices):
        asked.append(disk[slices].size)
        return disk[slices]

    hf_layout.from_disk(DiskTensor((8, 6), "F32", True, read), (6, 4, 2), 1, (slice(0, 3), slice(2, 4), slice(None)))
    assert asked == [12]


def test_convolution_has_the_layout_of_torch():
    """Axes are channel, frame, row and column; the last varies fastest."""
    weight_cd = np.arange(24 * 4).reshape(24, 4)
    window = hf_layout.to_disk(weight_cd, 1, (4, 3, 2, 2, 2))
    assert window[3, 2, 1, 0, 1] == weight_cd[2 * 8 + 1 * 4 + 0 * 2 + 1, 3]


def test_table_has_every_parameter_of_every_flag():
    flags = dict(tied_head=False, qkv_bias=True, o_bias=True, qk_norm=True)
    config = decoder.DecoderConfig(**{**vars(CONFIG), **flags})
    table = hf_layout.tensor_table(config)
    assert table is FAMILIES["qwen2_5_vl"].tensors
    assert set(traverse_util.flatten_dict(decoder.abstract_params(config), sep="/")) == set(table)
    shapes = hf_layout.disk_shapes(config)
    assert shapes["visual.patch_embed.proj.weight"] == (16, 3, 2, 2, 2)
    assert shapes["visual.blocks.2.attn.qkv.weight"] == (48, 16)
    assert shapes["lm_head.weight"] == (11, 8)
    parameters = sum(x.size for x in jax.tree.leaves(decoder.abstract_params(config)))
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == parameters


def test_table_is_that_of_a_family_with_all_parameters():
    text = dataclasses.replace(CONFIG, vision=None)
    assert hf_layout.tensor_table(text) is FAMILIES["llama"].tensors
    assert hf_layout.tensor_table(
        dataclasses.replace(text, lora=LoraConfig(2, 4.0, ("up",)))
    ) is hf_layout.tensor_table(text)


def test_aliases():
    canonical_name = hf_layout.canonical_name
    assert canonical_name("model.language_model.layers.3.mlp.up_proj.weight") == "model.layers.3.mlp.up_proj.weight"
    assert canonical_name("language_model.model.norm.weight") == "model.norm.weight"
    assert canonical_name("model.visual.merger.ln_q.weight") == "visual.merger.ln_q.weight"
    for name in ("model.norm.weight", "visual.merger.ln_q.weight", "lm_head.weight"):
        assert canonical_name(name) == name
