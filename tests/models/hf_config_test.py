"""Published config.json files are understood, what cannot be computed is refused by name, and we write what we read."""

import dataclasses
import json

import pytest

from mig_jax.models import hf_config
from mig_jax.models.decoder import DecoderConfig

QWEN25_05B = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 896,
    "initializer_range": 0.02,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151936,
}
SMOLLM2_135M = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}
QWEN3_NEW_LAYOUT = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "layer_types": ["full_attention"] * 28,
    "max_position_embeddings": 40960,
    "model_type": "qwen3",
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
    "sliding_window": None,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


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
                rope_theta=1e6, norm_eps=1e-6, tied_head=False, qk_norm=True, max_positions=40960,
            ),
        ),
    ],
    ids=["qwen2.5-0.5b", "smollm2-135m", "qwen3-0.6b-new-layout"],
)  # fmt: skip
def test_published_configs(raw, want, tmp_path):
    assert hf_config.read_config(write(tmp_path, raw)) == want


def test_defaults_of_what_old_files_leave_out(tmp_path):
    bare = {k: v for k, v in SMOLLM2_135M.items() if k in ("model_type", "vocab_size") or k.endswith("_size")}
    bare |= {"num_attention_heads": 9, "num_hidden_layers": 1}
    config = hf_config.read_config(write(tmp_path, bare))
    assert (config.kv_heads, config.head_size, config.rope_theta, config.norm_eps) == (9, 64, 10_000.0, 1e-6)
    assert not (config.tied_head or config.qkv_bias or config.o_bias)
    assert hf_config.read_config(write(tmp_path, bare | {"model_type": "qwen3"})).head_size == 128


def test_attention_bias_is_four_biases_but_in_qwen2(tmp_path):
    biases = {}
    for raw in (QWEN25_05B, SMOLLM2_135M, QWEN3_NEW_LAYOUT):
        config = hf_config.read_config(write(tmp_path, raw | {"attention_bias": True}))
        biases[raw["model_type"]] = (config.qkv_bias, config.o_bias)
    assert biases == {"qwen2": (True, False), "llama": (True, True), "qwen3": (True, True)}


def test_everything_unsupported_is_listed_at_once(tmp_path):
    changes = {
        "model_type": "gemma3",
        "hidden_act": "gelu",
        "mlp_bias": True,
        "use_sliding_window": True,
        "hidden_size": None,
        "layer_types": ["full_attention", "sliding_attention"],
        "partial_rotary_factor": 0.5,
        "quantization_config": {"bits": 4},
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
    }
    with pytest.raises(ValueError) as caught:
        hf_config.read_config(write(tmp_path, QWEN25_05B | changes))
    message = str(caught.value)
    assert str(tmp_path / "config.json") in message and message.count("supported:") == len(changes)
    for part in (
        "model_type = 'gemma3'; supported: llama, qwen2, qwen3",
        "hidden_act = 'gelu'; supported: 'silu'",
        "mlp_bias = True; supported: False",
        "use_sliding_window = True; supported: False",
        "hidden_size = None; supported: a positive integer",
        "layer_types = sliding_attention; supported: full_attention",
        "partial_rotary_factor = 0.5; supported: 1",
        "quantization_config = {'bits': 4}; supported: None",
        "rope type = 'yarn'; supported: 'default'",
    ):
        assert part in message


@pytest.mark.parametrize("old_style", [{"type": "linear", "factor": 2.0}, {"rope_type": "llama3", "factor": 8.0}])
def test_scaled_rope_is_refused_in_both_spellings(old_style, tmp_path):
    for field in ("rope_scaling", "rope_parameters"):
        with pytest.raises(ValueError, match="rope type"):
            hf_config.read_config(write(tmp_path, SMOLLM2_135M | {field: old_style}))


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
