"""A family of Llama's shape is one file and its line: nothing else is touched to read, compute and write it."""

import importlib.util
import json
import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mig_jax.errors import UserError
from mig_jax.models import decoder, families
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.families.family import Family
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import weights as hf_weights
from tests.models.families import published
from tests.models.families.published import read

# The one file: a Llama whose queries and keys are normalized, with a field of its own that changes nothing.
FILE = '''"""Camel: Llama with norms of queries and keys."""

from mig_jax.models.families.family import Family

FAMILY = Family(
    architecture="CamelForCausalLM",
    default_max_positions=4096,
    default_theta=500_000.0,
    qk_norm=True,
    harmless=("hump_count",),
)
'''
RAW = {
    "model_type": "camel", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 11, "hidden_act": "silu", "hump_count": 2,
}  # fmt: skip
SHAPE = DecoderConfig(
    vocab_size=11, width=8, layers=2, heads=4, kv_heads=2, head_size=2, mlp_width=12, tied_head=False, qk_norm=True,
    rope_theta=500_000.0, max_positions=4096,
)  # fmt: skip


def load_file(folder):
    """Import the family's file from a folder."""
    (folder / "camel.py").write_text(FILE)
    spec = importlib.util.spec_from_file_location("camel", folder / "camel.py")
    assert spec and spec.loader
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


@pytest.fixture
def checkpoint(tmp_path):
    """A tiny checkpoint of it, as its authors would save one, and the parameters in it."""
    rng = np.random.default_rng(0)
    shapes = decoder.abstract_params(SHAPE)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)
    hf_weights.save(params, SHAPE, tmp_path)
    for file in tmp_path.glob("*.json"):
        os.remove(file)
    (tmp_path / "config.json").write_text(json.dumps(RAW))
    return tmp_path, params


def test_one_file_and_one_line_read_compute_and_write_it(checkpoint, tmp_path, monkeypatch):
    folder, params = checkpoint
    with pytest.raises(UserError, match="model_type = 'camel'; supported: llama, "):
        hf_config.read_config(folder)
    monkeypatch.setitem(families.FAMILIES, "camel", load_file(tmp_path).FAMILY)  # the line

    config = hf_config.read_config(folder)
    assert config == SHAPE
    loaded = hf_weights.load(folder, config)
    chex.assert_trees_all_equal(loaded, params)
    token_bt, valid_bt = jnp.array([[3, 1, 4, 1, 5]]), jnp.ones((1, 5), bool)
    hidden_btd, _ = decoder.bind(config, loaded)(token_bt, jnp.arange(5)[None], valid_bt)
    assert hidden_btd.shape == (1, 5, 8) and bool(jnp.isfinite(hidden_btd).all())

    hf_weights.save(loaded, config, tmp_path / "saved")
    hf_config.write_config(config, tmp_path / "saved", base=RAW)
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert (saved["model_type"], saved["architectures"], saved["hump_count"]) == ("camel", ["CamelForCausalLM"], 2)
    assert hf_config.read_config(tmp_path / "saved") == config
    before, after = (safetensors.numpy.load_file(path / "model.safetensors") for path in (folder, tmp_path / "saved"))
    chex.assert_trees_all_equal(before, after)


def test_its_other_fields_are_still_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(families.FAMILIES, "camel", load_file(tmp_path).FAMILY)
    assert families.config_errors(RAW) == []
    (error,) = families.config_errors(RAW | {"hump_scale": 3.0})
    assert "hump_scale" in error


def test_flags_of_a_new_family(monkeypatch):
    mistral = Family(
        "MistralForCausalLM", default_max_positions=4096, default_head_size=64, qk_norm=True, qkv_bias=True
    )
    monkeypatch.setitem(families.FAMILIES, "mistral", mistral)
    smollm2 = published.CONFIGS["SmolLM2-135M"]
    bare = {k: v for k, v in smollm2.items() if k != "max_position_embeddings"} | {"model_type": "mistral"}
    config = read(bare | {"hidden_size": 512})
    assert (config.head_size, config.max_positions, config.qk_norm, config.qkv_bias) == (64, 4096, True, True)
    assert families.raw_config(config)["architectures"] == ["MistralForCausalLM"]
    assert read(families.raw_config(config)) == config
