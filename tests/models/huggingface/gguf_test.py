"""A tiny GGUF, written like llama.cpp's converter, gives the same model as the safetensors folder."""

import dataclasses

import chex
import jax
import numpy as np
import pytest
from flax import traverse_util

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models import decoder, rope
from mig_jax.models.huggingface import gguf as gguf_file
from mig_jax.models.huggingface import layout
from mig_jax.models.huggingface import weights as hf_weights
from mig_jax.models.rope import RopeScaling

gguf = pytest.importorskip("gguf")

LLAMA = decoder.DecoderConfig(
    vocab_size=10, width=32, layers=2, heads=4, kv_heads=2, head_size=8, mlp_width=64, rope_theta=1e5, norm_eps=1e-5
)
QWEN2 = dataclasses.replace(LLAMA, qkv_bias=True, tied_head=False)
QWEN3 = dataclasses.replace(LLAMA, qk_norm=True, head_size=16)
BIASED = dataclasses.replace(LLAMA, qkv_bias=True, o_bias=True)
MODELS = {"llama": LLAMA, "llama with biases": BIASED, "qwen2": QWEN2, "qwen3": QWEN3}


def permute(x, heads):
    """Make pairs of neighbours of the halves of each head, as convert_hf_to_gguf.py does."""
    return x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def checkpoint(config):
    """Return random tensors with the names and shapes of Hugging Face."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in layout.disk_shapes(config).items()}


def write(file, config, tensors, *, architecture="llama", kind="F32", skip=(), metadata=None, extra=None):
    """Write a GGUF of these Hugging Face tensors, matrices quantized as `kind`, vectors in float32."""
    writer = gguf.GGUFWriter(file, architecture)
    sizes = {
        "block_count": config.layers, "context_length": config.max_positions, "embedding_length": config.width,
        "feed_forward_length": config.mlp_width, "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads, "attention.key_length": config.head_size,
        "vocab_size": config.vocab_size,
    }  # fmt: skip
    for key, value in (sizes | (metadata or {})).items():
        if key not in skip:
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
            add(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.rope.freq_base", config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_token_list([f"token {number}" for number in range(config.vocab_size)])
    number = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(number, config.layers)
    for name, x in tensors.items():
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            x = permute(x, config.heads if "q_proj" in name else config.kv_heads)
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        quantized = gguf.GGMLQuantizationType[kind if x.ndim == 2 else "F32"]
        writer.add_tensor(theirs, gguf.quants.quantize(x, quantized), raw_dtype=quantized)
    for name, x in (extra or {}).items():
        writer.add_tensor(name, x)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def to_params(config, tensors):
    """Return the parameters that a folder of these tensors loads to."""
    flat = {}
    for path, want in traverse_util.flatten_dict(decoder.abstract_params(config), sep="/").items():
        tensor = layout.tensor_table(config)[path]
        shape, inputs = layout.layer_shape(tensor, want), tensor.inputs
        parts = [tensors[name] for name in layout.disk_names(tensor, want)]
        parts = [part if inputs is None else part.T.reshape(shape) for part in parts]
        flat[path] = np.stack(parts) if layout.stacked_axes(tensor) else parts[0]
    return traverse_util.unflatten_dict(flat, sep="/")


@pytest.mark.parametrize("model", MODELS)
def test_same_model_as_the_folder(model, tmp_path):
    config, tensors, file = MODELS[model], checkpoint(MODELS[model]), tmp_path / "tiny.gguf"
    write(file, config, tensors, architecture=model.split()[0])
    assert gguf_file.is_gguf(file) and gguf_file.read_config(file) == config
    chex.assert_trees_all_equal(hf_weights.load(file, config), to_params(config, tensors))


@pytest.mark.parametrize("kind, error", [("F16", 2e-3), ("BF16", 2e-2), ("Q8_0", 2e-2), ("Q4_1", 0.2), ("Q5_0", 0.2)])
def test_quantized(kind, error, tmp_path):
    """Blocks are 32 values of a row; the order of rows is restored on bytes as well as on numbers."""
    tensors = checkpoint(LLAMA)
    write(tmp_path / "tiny.gguf", LLAMA, tensors, kind=kind)
    got, want = hf_weights.load(tmp_path / "tiny.gguf", LLAMA), to_params(LLAMA, tensors)
    chex.assert_trees_all_close(got, want, atol=error * 4)
    assert np.abs(got["layers"]["attention"]["query"] - want["layers"]["attention"]["query"]).mean() < error / 2
    np.testing.assert_array_equal(got["norm"], want["norm"])


def test_only_the_requested_part_is_read(tmp_path):
    tensors = checkpoint(LLAMA)
    write(tmp_path / "tiny.gguf", LLAMA, tensors, kind="Q8_0")
    name = "model.layers.1.self_attn.q_proj.weight"
    found, errors = gguf_file.open_file(tmp_path / "tiny.gguf", [name])
    assert not errors and found[name].dtype == "Q8_0" and found[name].shape == (32, 32)
    whole = found[name].read((slice(None), slice(None)))
    np.testing.assert_array_equal(found[name].read((slice(8, 24), slice(5, 9))), whole[8:24, 5:9])
    np.testing.assert_allclose(whole, tensors[name], atol=0.05)


def test_absent_metadata(tmp_path):
    """The vocabulary follows from the tokens, the head size from the width, the kv heads from the heads."""
    config = dataclasses.replace(LLAMA, kv_heads=4)
    absent = ("vocab_size", "attention.head_count_kv", "attention.key_length")
    file = tmp_path / "tiny.gguf"
    write(file, config, checkpoint(config), skip=absent)
    assert gguf_file.read_config(file) == config


SCALINGS = {
    "none": ({"rope.scaling.type": "none"}, None),
    "linear": ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, RopeScaling("linear", 4.0)),
    "no type": ({"rope.scaling.factor": 4.0}, RopeScaling("linear", 4.0)),
    "yarn": (
        {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 512},
        RopeScaling("yarn", 4.0, original_max_position_embeddings=512),
    ),
    "attn_factor": (
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 512,
            "rope.scaling.attn_factor": 0.875,
        },
        RopeScaling("yarn", 4.0, original_max_position_embeddings=512, attn_factor=0.875),
    ),
}


@pytest.mark.parametrize("kind", SCALINGS)
def test_rope_scaling(kind, tmp_path):
    metadata, want = SCALINGS[kind]
    write(tmp_path / "tiny.gguf", LLAMA, checkpoint(LLAMA), metadata=metadata)
    assert gguf_file.read_config(tmp_path / "tiny.gguf").rope_scaling == want


def test_rope_scaling_of_llama_3(tmp_path):
    """In the file as the factors that its frequencies are divided by."""
    theta = 500_000.0
    config = dataclasses.replace(LLAMA, head_size=64, rope_theta=theta)
    want = RopeScaling("llama3", 8.0, original_max_position_embeddings=8192, low_freq_factor=1.0, high_freq_factor=4.0)
    factor_f = rope.rope_frequencies(64, theta) / rope.rope_frequencies(64, theta, want)
    assert factor_f[0] == 1 and factor_f[-1] == 8 and len(set(factor_f.round(3))) > 2
    tensors, file = checkpoint(config), tmp_path / "tiny.gguf"
    write(file, config, tensors, extra={"rope_freqs.weight": factor_f.astype(np.float32)})
    scaled = gguf_file.read_config(file)
    assert scaled == dataclasses.replace(config, rope_scaling=want)
    chex.assert_trees_all_equal(hf_weights.load(file, scaled), to_params(config, tensors))

    other = np.linspace(1, 8, 32).astype(np.float32)
    write(tmp_path / "other.gguf", config, tensors, extra={"rope_freqs.weight": other})
    with pytest.raises(UserError, match="factors that are not those of Llama 3"):
        gguf_file.read_config(tmp_path / "other.gguf")


UNSUPPORTED = {
    "gemma": (dict(architecture="gemma"), r"'gemma' \(the first Gemma, .*\); supported: llama, qwen2, qwen3"),
    "gemma3": (dict(architecture="gemma3"), r"'gemma3' \(norm weights plus 1, .*; give the folder in Hugging Face"),
    "experts": (dict(metadata={"expert_count": 8}), r"llama.expert_count = 8; supported: 0"),
    "window": (dict(metadata={"attention.sliding_window": 64}), r"llama.attention.sliding_window = 64"),
    "longrope": (dict(metadata={"rope.scaling.type": "longrope"}), "type = 'longrope'; supported: 'none', 'linear'"),
    "yarn settings": (dict(metadata={"rope.scaling.yarn_attn_factor": 2.0}), "yarn_attn_factor: not supported"),
    "yarn without factor": (dict(metadata={"rope.scaling.type": "yarn"}), "factor"),
    "attn_factor of linear": (
        dict(metadata={"rope.scaling.factor": 2.0, "rope.scaling.attn_factor": 0.5}), "attn_factor = 0.5 of linear rope"
    ),
    "partial": (dict(metadata={"rope.dimension_count": 4}), "rope.dimension_count = 4; supported: .* 8"),
    "missing sizes": (
        dict(skip=("block_count", "embedding_length")), r"(?s)embedding_length = None.*block_count = None",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_unsupported_metadata_is_named(what, tmp_path):
    settings, message = UNSUPPORTED[what]
    tensors = {} if what.startswith("gemma") else checkpoint(LLAMA)
    write(tmp_path / "tiny.gguf", LLAMA, tensors, **settings)
    with pytest.raises(UserError, match=message):
        gguf_file.read_config(tmp_path / "tiny.gguf")


def test_all_tensor_errors_are_listed_at_once(tmp_path):
    tensors, file = checkpoint(LLAMA), tmp_path / "tiny.gguf"
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.0.self_attn.q_proj.weight"] = np.ones((40, 32), np.float32)
    write(
        file, LLAMA, tensors, extra={"blk.0.odd.weight": np.ones(3, np.float32), "blk.7.x.weight": np.ones(3, np.int8)}
    )
    with pytest.raises(UserError) as caught:
        hf_weights.load(file, dataclasses.replace(LLAMA, vocab_size=12))
    title, *errors = str(caught.value).split("\n  ")
    assert str(file) in title
    assert sorted(errors) == [
        "missing: model.layers.1.mlp.up_proj.weight [64, 32]",
        "unexpected: blk.0.odd.weight",
        "unexpected: blk.7.x.weight",
        "wrong shape: model.embed_tokens.weight is [10, 32], not [12, 32]: the config has vocab_size=12, the file 10",
        "wrong shape: model.layers.0.self_attn.q_proj.weight is [40, 32], not [32, 32]",
    ]


def test_unsupported_dtype(tmp_path):
    tensors, file = checkpoint(LLAMA), tmp_path / "tiny.gguf"
    del tensors["model.norm.weight"]
    write(file, LLAMA, tensors, extra={"output_norm.weight": np.ones(32, np.int32)})
    with pytest.raises(UserError, match="unsupported dtype: model.norm.weight is I32"):
        hf_weights.load(file, LLAMA)


def test_damaged_files(tmp_path):
    """A file that is truncated anywhere, or no GGUF at all, gives one error from the config and from the tensors."""
    write(tmp_path / "whole.gguf", LLAMA, checkpoint(LLAMA))
    whole = (tmp_path / "whole.gguf").read_bytes()
    sizes = [0, 3, 4, 20, 100, *range(200, len(whole), len(whole) // 20), len(whole) - 5]
    contents = [whole[:size] for size in sizes] + [b"not a GGUF" * 100, b"GGUF" + b"\xff" * 200]
    for number, content in enumerate(contents):
        file = tmp_path / f"{number}.gguf"
        file.write_bytes(content)
        for read in (gguf_file.read_config, lambda file: hf_weights.load(file, LLAMA)):
            with pytest.raises(UserError, match=rf"{number}\.gguf"):
                read(file)
    with pytest.raises(UserError, match="absent.gguf: No such file"):
        gguf_file.read_config(tmp_path / "absent.gguf")


def test_changed_file_is_read_again(tmp_path):
    file = tmp_path / "tiny.gguf"
    for width in (32, 64):
        config = dataclasses.replace(LLAMA, width=width)
        write(file, config, checkpoint(config))
        assert gguf_file.read_config(file) == config


def test_load_with_shardings(tmp_path):
    tensors = checkpoint(LLAMA)
    write(tmp_path / "tiny.gguf", LLAMA, tensors, kind="Q8_0")
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    want = sharding.shardings(decoder.abstract_params(LLAMA), decoder.param_axes(LLAMA), mesh)
    params = hf_weights.load(tmp_path / "tiny.gguf", LLAMA, shardings=want)
    assert jax.tree.map(lambda x: x.sharding, params) == want
    chex.assert_trees_all_equal(params, hf_weights.load(tmp_path / "tiny.gguf", LLAMA))
