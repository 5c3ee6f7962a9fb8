"""Published config.json files are understood, and we write what we read; refusals are in hf_refusals_test.py."""

import dataclasses
import json
import math

import jax
import pytest

from mig_jax.models import decoder
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.rope import RopeScaling
from tests.models.huggingface import published

QWEN25_05B, SMOLLM2_135M = published.CONFIGS["Qwen2.5-0.5B"], published.CONFIGS["SmolLM2-135M"]
QWEN3_NEW_LAYOUT = {k: v for k, v in published.CONFIGS["Qwen3-0.6B"].items() if not k.startswith("rope_")} | {
    "layer_types": ["full_attention"] * 28,
    "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
}
LLAMA3 = RopeScaling(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192
)
YARN = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
FAMILY = {"Qwen2.5": "qwen2", "Qwen3": "qwen3", "Llama": "llama", "SmolLM2": "llama"}


def write(folder, raw):
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


@pytest.mark.parametrize(
    "raw, want",
    [
        (
            QWEN25_05B,
            DecoderConfig(
                vocab_size=151936, width=896, layers=24, heads=14, kv_heads=2, head_size=64, mlp_width=4864,
                rope_theta=1e6, norm_eps=1e-6, tied_head=True, qkv_bias=True, max_positions=32768,
            ),
        ),
        (
            SMOLLM2_135M,
            DecoderConfig(
                vocab_size=49152, width=576, layers=30, heads=9, kv_heads=3, head_size=64, mlp_width=1536,
                rope_theta=1e5, norm_eps=1e-5, tied_head=True, max_positions=8192,
            ),
        ),
        (
            QWEN3_NEW_LAYOUT,
            DecoderConfig(
                vocab_size=151936, width=1024, layers=28, heads=16, kv_heads=8, head_size=128, mlp_width=3072,
                rope_theta=1e6, norm_eps=1e-6, tied_head=True, qk_norm=True, max_positions=40960,
            ),
        ),
        (
            published.CONFIGS["Llama-3.1-8B"],
            DecoderConfig(
                vocab_size=128256, width=4096, layers=32, heads=32, kv_heads=8, head_size=128, mlp_width=14336,
                rope_theta=5e5, rope_scaling=LLAMA3, norm_eps=1e-5, tied_head=False, max_positions=131072,
            ),
        ),
    ],
    ids=["qwen2.5-0.5b", "smollm2-135m", "qwen3-0.6b-new-layout", "llama-3.1-8b"],
)  # fmt: skip
def test_published_configs(raw, want, tmp_path):
    assert hf_config.read_config(write(tmp_path, raw)) == want


@pytest.mark.parametrize("name", published.CONFIGS)
def test_published_models_have_as_many_parameters_as_their_cards_say(name, tmp_path):
    config = hf_config.read_config(write(tmp_path, published.CONFIGS[name]))
    total = sum(math.prod(x.shape) for x in jax.tree.leaves(decoder.abstract_params(config)))
    assert total / 1e9 == pytest.approx(published.BILLIONS[name], rel=0.015)
    assert hf_config.family_of(config) == FAMILY[name.split("-")[0]]


@pytest.mark.parametrize("name", published.CONFIGS)
def test_published_models_are_written_as_they_were_read(name, tmp_path):
    raw = published.CONFIGS[name]
    config = hf_config.read_config(write(tmp_path, raw))
    hf_config.write_config(config, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert hf_config.read_config(tmp_path) == config
    computed = set(raw) & set(written) - {"torch_dtype", "bos_token_id", "eos_token_id"}
    assert len(computed) >= 11 and {field: written[field] for field in computed} == {
        field: raw[field] for field in computed
    }
    assert written.get("rope_scaling") == raw.get("rope_scaling")


def test_defaults_of_what_old_files_leave_out(tmp_path):
    bare = {k: v for k, v in SMOLLM2_135M.items() if k in ("model_type", "vocab_size") or k.endswith("_size")}
    bare |= {"num_attention_heads": 9, "num_hidden_layers": 1}
    config = hf_config.read_config(write(tmp_path, bare))
    assert (config.kv_heads, config.head_size, config.rope_theta, config.norm_eps) == (9, 64, 10_000.0, 1e-6)
    assert config.rope_scaling is None and not (config.tied_head or config.qkv_bias or config.o_bias)
    assert hf_config.read_config(write(tmp_path, bare | {"model_type": "qwen3"})).head_size == 128


def test_attention_bias_is_four_biases_but_in_qwen2(tmp_path):
    biases = {}
    for raw in (QWEN25_05B, SMOLLM2_135M, QWEN3_NEW_LAYOUT):
        config = hf_config.read_config(write(tmp_path, raw | {"attention_bias": True}))
        biases[raw["model_type"]] = (config.qkv_bias, config.o_bias)
    assert biases == {"qwen2": (True, False), "llama": (True, True), "qwen3": (True, True)}


SCALINGS = {
    "linear": ({"type": "linear", "factor": 2.0}, RopeScaling("linear", 2.0)),
    "qwen's recipe": (YARN, RopeScaling("yarn", 4.0, original_max_position_embeddings=32768)),
    "yarn, context unsaid": (
        {"rope_type": "yarn", "factor": 2, "beta_fast": None},
        RopeScaling("yarn", 2, original_max_position_embeddings=32768),
    ),
    "yarn, all said": (
        YARN | {"attention_factor": 1.5, "beta_fast": 16, "beta_slow": 2, "truncate": False, "finetuned": True},
        RopeScaling(
            "yarn", 4.0, original_max_position_embeddings=32768, attention_factor=1.5, beta_fast=16, beta_slow=2,
            truncate=False,
        ),
    ),
    "yarn, deepseek's": (
        YARN | {"mscale": 1.0, "mscale_all_dim": 0.5},
        RopeScaling("yarn", 4.0, original_max_position_embeddings=32768, mscale=1.0, mscale_all_dim=0.5),
    ),
    "llama3": (published.CONFIGS["Llama-3.1-8B"]["rope_scaling"], LLAMA3),
    "default": ({"type": "default"}, None),
}  # fmt: skip


@pytest.mark.parametrize("raw, want", SCALINGS.values(), ids=SCALINGS)
def test_scaled_rope_is_read_in_both_spellings_and_written_back(raw, want, tmp_path):
    old = hf_config.read_config(write(tmp_path, QWEN25_05B | {"rope_scaling": raw}))
    without = {k: v for k, v in QWEN25_05B.items() if k != "rope_theta"}
    new = hf_config.read_config(write(tmp_path, without | {"rope_parameters": raw | {"rope_theta": 1e6}}))
    assert old == new == dataclasses.replace(old, rope_scaling=want, rope_theta=1e6)
    hf_config.write_config(old, tmp_path)
    assert hf_config.read_config(tmp_path) == old


def test_a_kind_is_written_with_its_own_fields_alone(tmp_path):
    config = hf_config.read_config(write(tmp_path, SMOLLM2_135M | {"rope_scaling": {"type": "linear", "factor": 2.0}}))
    hf_config.write_config(config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}


@pytest.mark.parametrize(
    "family, flags",
    [
        ("llama", {}),
        ("llama", {"qkv_bias": True, "o_bias": True, "tied_head": False}),
        ("qwen2", {"qkv_bias": True, "rope_theta": 12345.0}),
        ("qwen3", {"qk_norm": True, "norm_eps": 1e-5, "head_size": 10}),
        ("qwen3", {"qk_norm": True, "qkv_bias": True, "o_bias": True}),
    ],
)
def test_what_is_written_is_read_back(family, flags, tmp_path):
    sizes = dict(vocab_size=9, width=8, layers=2, heads=4, kv_heads=2, head_size=2, mlp_width=5, max_positions=77)
    config = DecoderConfig(**sizes | flags)
    hf_config.write_config(config, tmp_path, dtype="bfloat16", eos_ids=(3, 4), pad_id=5)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert hf_config.read_config(tmp_path) == config
    assert (raw["model_type"], raw["torch_dtype"], raw["eos_token_id"]) == (family, "bfloat16", [3, 4])
    assert json.loads((tmp_path / "generation_config.json").read_text())["pad_token_id"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "generation_config.json"]


@pytest.mark.parametrize("flags", [{"o_bias": True}, {"qk_norm": True, "qkv_bias": True}])
def test_what_no_family_computes_is_not_written(flags, tmp_path):
    config = dataclasses.replace(hf_config.read_config(write(tmp_path, SMOLLM2_135M)), **flags)
    with pytest.raises(ValueError, match="no Hugging Face family"):
        hf_config.write_config(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()
