"""Parameters are read back bit for bit, from any dtype and number of files; all errors are reported at once."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models import decoder
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import tensor_files
from mig_jax.models.huggingface import weights as hf_weights

TIED = decoder.DecoderConfig(vocab_size=11, width=8, layers=2, heads=4, kv_heads=2, head_size=6, mlp_width=8)
FULL = dataclasses.replace(TIED, tied_head=False, qkv_bias=True, o_bias=True, qk_norm=True)
FILE = "model.safetensors"


def random_params(config):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jax.device_put(rng.normal(size=x.shape).astype(x.dtype)), decoder.abstract_params(config)
    )


@pytest.fixture
def saved(tmp_path):
    """A saved folder, its tensors by name, and a function that writes them again."""
    hf_weights.save(random_params(TIED), TIED, tmp_path)
    tensors = safetensors.numpy.load_file(tmp_path / FILE)
    return tmp_path, tensors, lambda: safetensors.numpy.save_file(tensors, tmp_path / FILE)


@pytest.mark.parametrize("config", [TIED, FULL], ids=["tied", "all flags"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_round_trip_is_exact_in_the_dtype_on_disk(config, dtype, tmp_path):
    params = random_params(config)
    rounded = jax.tree.map(lambda x: np.asarray(x).astype(jnp.dtype(dtype)).astype(np.float32), params)
    hf_weights.save(params, config, tmp_path / "new" / "folder", dtype=dtype)
    assert hf_config.read_config(tmp_path / "new" / "folder") == config
    chex.assert_trees_all_equal(hf_weights.load(tmp_path / "new" / "folder", config), rounded)


def test_loaded_parameters_have_the_dtype_of_the_config(tmp_path):
    narrow = dataclasses.replace(FULL, param_dtype="bfloat16")
    params = random_params(narrow)
    hf_weights.save(params, narrow, tmp_path, dtype="bfloat16")
    loaded = hf_weights.load(tmp_path, narrow)
    chex.assert_trees_all_equal_dtypes(loaded, decoder.abstract_params(narrow))
    chex.assert_trees_all_equal(loaded, params)


def test_layout_equals_torch_linear_layers(saved):
    """Outputs first, heads outermost; single numbers are compared, also of square matrices."""
    _, tensors, _ = saved
    layer = jax.tree.map(lambda x: np.asarray(x)[1], random_params(TIED)["layers"])
    attention, prefix = layer["attention"], "model.layers.1."
    assert tensors[prefix + "self_attn.q_proj.weight"][3 * 6 + 5, 7] == attention["query"][7, 3, 5]
    assert tensors[prefix + "self_attn.k_proj.weight"][1 * 6 + 2, 4] == attention["key"][4, 1, 2]
    assert tensors[prefix + "self_attn.o_proj.weight"][7, 3 * 6 + 5] == attention["out"][3, 5, 7]
    assert tensors[prefix + "mlp.up_proj.weight"][2, 6] == layer["mlp"]["up"][6, 2]
    with safetensors.safe_open(saved[0] / FILE, framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_shards_of_an_index(tmp_path):
    params = random_params(TIED)
    hf_weights.save(params, TIED, tmp_path, max_shard_bytes=1000)
    files = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    assert len(files) > 3 and not (tmp_path / FILE).exists()
    chex.assert_trees_all_equal(hf_weights.load(tmp_path, TIED), params)

    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-7])
    other = dataclasses.replace(TIED, layers=1)
    with pytest.raises(UserError) as caught:
        hf_weights.load(tmp_path, other)
    _, *errors = str(caught.value).split("\n  ")
    assert [error.split(":")[0] for error in errors[:2]] == [file.name for file in files[:2]]
    # Tensors of the broken files are not reported as missing; tensors that no file should have are reported.
    assert {error.split(".1.")[0] for error in errors[2:]} == {"unexpected: model.layers"}


def test_names_of_transformers_5(saved):
    """A decoder that is part of a larger model has the same tensors under another prefix."""
    folder, tensors, rewrite = saved
    for name in [name for name in tensors if name.startswith("model.")]:
        tensors[name.replace("model.", "model.language_model.", 1)] = tensors.pop(name)
    rewrite()
    chex.assert_trees_all_equal(hf_weights.load(folder, TIED), random_params(TIED))

    tensors["model.norm.weight"] = np.ones(8, np.float32)
    rewrite()
    with pytest.raises(UserError, match="on disk twice: model.norm.weight and model"):
        hf_weights.load(folder, TIED)


def test_checkpoint_has_the_dtype_of_the_parameters_by_default(tmp_path):
    narrow = dataclasses.replace(TIED, param_dtype="bfloat16")
    hf_weights.save(random_params(narrow), narrow, tmp_path)
    with safetensors.safe_open(tmp_path / FILE, framework="numpy") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_redundant_tensors_are_ignored(saved):
    folder, tensors, rewrite = saved
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(3, np.float32)
    rewrite()
    chex.assert_trees_all_equal(hf_weights.load(folder, TIED), random_params(TIED))


def test_head_of_a_tied_model_must_be_its_embedding(saved):
    """transformers 5 computes with the head that is in the file, version 4 with the embedding."""
    folder, tensors, rewrite = saved
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    tensors["lm_head.weight"][-1, -1] += 1e-6
    rewrite()
    with pytest.raises(UserError, match=r"lm_head.weight differs .* tie_word_embeddings is true .*set it to false"):
        hf_weights.load(folder, TIED)
    untied = dataclasses.replace(TIED, tied_head=False)
    np.testing.assert_array_equal(hf_weights.load(folder, untied)["head"].T, tensors["lm_head.weight"])


def test_heads_for_further_tokens_are_left_out_with_a_warning(saved, monkeypatch):
    """MiMo has one."""
    warnings = []
    monkeypatch.setattr(hf_weights.logging, "warning", lambda text, *values: warnings.append(text % values))
    folder, tensors, rewrite = saved
    tensors["model.mtp_layers.0.mlp.up_proj.weight"] = np.ones((8, 8), np.float32)
    for place in ("vision_tower.", "model.vision_tower."):
        tensors[f"{place}{len(place)}.weight"] = np.ones(8, np.float32)
    rewrite()
    chex.assert_trees_all_equal(hf_weights.load(folder, TIED), random_params(TIED))
    assert len(warnings) == 2 and "model.mtp_layers.* are not loaded" in warnings[0]
    assert "vision_tower.* are not loaded, they read images, which are refused" in warnings[1]


def test_all_errors_are_listed_at_once(saved, monkeypatch):
    folder, tensors, rewrite = saved
    del tensors["model.norm.weight"], tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.2.mlp.up_proj.weight"] = np.ones(3, np.float32)
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:-1].copy()
    tensors["model.layers.0.mlp.down_proj.weight"] = np.ones((8, 8), np.int8)
    rewrite()
    # No tensor is read before all errors are known.
    monkeypatch.setattr(tensor_files, "_read", lambda *_: pytest.fail("read a tensor"))
    with pytest.raises(UserError) as caught:
        hf_weights.load(folder, TIED)
    title, *errors = str(caught.value).split("\n  ")
    assert str(folder) in title
    assert sorted(errors) == [
        "missing: model.layers.1.mlp.up_proj.weight [8, 8]",
        "missing: model.norm.weight [8]",
        "unexpected: model.layers.2.mlp.up_proj.weight",
        "unsupported dtype: model.layers.0.mlp.down_proj.weight is I8, not a floating-point type that can be read",
        "wrong shape: model.embed_tokens.weight is [10, 8], not [11, 8]: the config has vocab_size=11, the file 10",
    ]


def test_nothing_is_written_if_save_fails(tmp_path):
    with pytest.raises(AssertionError):
        hf_weights.save(random_params(FULL), TIED, tmp_path / "a")
    unknown = dataclasses.replace(TIED, o_bias=True)
    with pytest.raises(UserError, match="no Hugging Face family"):
        hf_weights.save(random_params(unknown), unknown, tmp_path / "b")
    with pytest.raises(UserError, match="dtype='int8': parameters can be saved as float32, bfloat16, float16"):
        hf_weights.save(random_params(TIED), TIED, tmp_path / "c", dtype="int8")
    assert not list(tmp_path.iterdir())


def test_loaded_parameters_have_their_shardings(saved):
    mesh = sharding.make_mesh({"fsdp": 2, "tensor": 4})
    want = sharding.shardings(decoder.abstract_params(TIED), decoder.param_axes(TIED), mesh)
    params = hf_weights.load(saved[0], TIED, shardings=want)
    assert jax.tree.map(lambda x: x.sharding, params) == want
    chex.assert_trees_all_equal(params, random_params(TIED))
    hf_weights.save(params, TIED, saved[0] / "again")
    chex.assert_trees_all_equal(hf_weights.load(saved[0] / "again", TIED), random_params(TIED))


def test_every_part_is_read_exactly_once(saved, monkeypatch):
    """Queries [8, 4, 6] with the width in 2 parts and the heads in 4: eight parts of 24. The data axis only copies."""
    sizes, read = [], tensor_files._read

    def spy(file, name, slices):
        part = read(file, name, slices)
        if name == "model.layers.1.self_attn.q_proj.weight":
            sizes.append(part.size)
        return part

    monkeypatch.setattr(tensor_files, "_read", spy)
    for mesh_shape, want in [({"fsdp": 2, "tensor": 4}, [24] * 8), ({"data": 4, "fsdp": 2}, [96] * 2)]:
        mesh = sharding.make_mesh(mesh_shape)
        sizes.clear()
        shardings = sharding.shardings(decoder.abstract_params(TIED), decoder.param_axes(TIED), mesh)
        hf_weights.load(saved[0], TIED, shardings=shardings)
        assert sizes == want
