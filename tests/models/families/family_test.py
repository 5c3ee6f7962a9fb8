"""Published config.json files of text families are understood, and what is written is what was read."""

import dataclasses
import math

import jax
import pytest

from mig_jax.errors import UserError
from mig_jax.models import decoder, families
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.rope import RopeScaling
from tests.models.families import published
from tests.models.families.published import read

QWEN25_05B, SMOLLM2_135M = published.CONFIGS["Qwen2.5-0.5B"], published.CONFIGS["SmolLM2-135M"]
QWEN3_NEW_LAYOUT = {k: v for k, v in published.CONFIGS["Qwen3-0.6B"].items() if not k.startswith("rope_")} | {
    "layer_types": ["full_attention"] * 28,
    "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
}
LLAMA3 = RopeScaling(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192
)
MODEL_TYPE = {"Qwen2.5": "qwen2", "Qwen3": "qwen3", "Llama": "llama", "SmolLM2": "llama"}


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
def test_published_configs(raw, want):
    assert read(raw) == want


@pytest.mark.parametrize("name", published.CONFIGS)
def test_published_models_have_as_many_parameters_as_their_cards_say(name):
    config = read(published.CONFIGS[name])
    total = sum(math.prod(x.shape) for x in jax.tree.leaves(decoder.abstract_params(config)))
    assert total / 1e9 == pytest.approx(published.BILLIONS[name], rel=0.015)
    assert families.family_of(config) == MODEL_TYPE[name.split("-")[0]]


@pytest.mark.parametrize("name", published.CONFIGS)
def test_published_models_are_written_as_they_were_read(name):
    raw = published.CONFIGS[name]
    config = read(raw)
    written = families.raw_config(config)
    assert read(written) == config
    computed = set(raw) & set(written)
    assert len(computed) >= 11 and {field: written[field] for field in computed} == {
        field: raw[field] for field in computed
    }
    assert written.get("rope_scaling") == raw.get("rope_scaling")


def test_defaults_of_absent_fields():
    bare = {k: v for k, v in SMOLLM2_135M.items() if k in ("model_type", "vocab_size") or k.endswith("_size")}
    bare |= {"num_attention_heads": 9, "num_hidden_layers": 1}
    config = read(bare)
    assert (config.kv_heads, config.head_size, config.rope_theta, config.norm_eps) == (9, 64, 10_000.0, 1e-6)
    assert config.rope_scaling is None and not (config.tied_head or config.qkv_bias or config.o_bias)
    assert config.max_positions == 2048 and read(bare | {"model_type": "qwen2"}).max_positions == 32_768
    assert read(bare | {"model_type": "qwen3"}).head_size == 128


def test_attention_bias_adds_four_biases_except_in_qwen2():
    biases = {}
    for raw in (QWEN25_05B, SMOLLM2_135M, QWEN3_NEW_LAYOUT):
        config = read(raw | {"attention_bias": True})
        biases[raw["model_type"]] = (config.qkv_bias, config.o_bias)
    assert biases == {"qwen2": (True, False), "llama": (True, True), "qwen3": (True, True)}


@pytest.mark.parametrize("flags", [{"o_bias": True}, {"qk_norm": True, "qkv_bias": True}])
def test_config_of_no_family_is_rejected(flags):
    config = dataclasses.replace(read(SMOLLM2_135M), **flags)
    with pytest.raises(UserError, match="no Hugging Face family .* has qkv_bias=.*, o_bias=.*, qk_norm="):
        families.raw_config(config)


MISTRAL = {
    "model_type": "mistral", "vocab_size": 32768, "hidden_size": 4096, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "rope_theta": 1000000.0,
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-05, "sliding_window": None, "hidden_act": "silu",
}  # fmt: skip
SEED_OSS = QWEN25_05B | {
    "model_type": "seed_oss", "vocab_size": 155136, "hidden_size": 5120, "num_attention_heads": 80, "head_dim": 128,
    "num_key_value_heads": 8, "attention_bias": True, "attention_out_bias": False, "residual_dropout": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("raw", [MISTRAL, SEED_OSS, QWEN25_05B, SMOLLM2_135M], ids=lambda raw: raw["model_type"])
def test_model_is_written_as_its_family_if_that_is_known(raw):
    """Several families compute the same; the first of them is written where a model has no other."""
    config = read(raw)
    written = families.raw_config(config, preferred=raw["model_type"])
    assert written["model_type"] == raw["model_type"] and read(written) == config
    assert families.family_of(config) in ("llama", "qwen2")
    assert families.family_of(config, preferred="gpt2") == families.family_of(config)
    assert families.family_of(read(QWEN3_NEW_LAYOUT), preferred=raw["model_type"]) == "qwen3"


def test_mistral_is_written_without_the_window_of_its_defaults():
    written = families.raw_config(read(MISTRAL), preferred="mistral")
    assert written["sliding_window"] is None and written["architectures"] == ["MistralForCausalLM"]
    with_biases = dataclasses.replace(read(MISTRAL), qkv_bias=True, o_bias=True)
    assert families.family_of(with_biases, preferred="mistral") == "llama"


def test_layers_of_smollm3_without_a_rotary_embedding():
    raw = {k: v for k, v in SMOLLM2_135M.items() if k != "tie_word_embeddings"} | {"model_type": "smollm3"}
    config = read(raw)
    assert config.no_rope_layers == (3, 7, 11, 15, 19, 23, 27) and config.tied_head
    assert config.rope_theta == 1e5 and families.family_of(config) == "smollm3"
    assert read(families.raw_config(config)) == config
    assert read(raw | {"no_rope_layers": [0, 1, 1] * 10}).no_rope_layers == tuple(range(0, 30, 3))
    assert read(raw | {"no_rope_layer_interval": 10}).no_rope_layers == (9, 19, 29)
    assert read(raw | {"no_rope_layers": [1] * 30}) == dataclasses.replace(config, no_rope_layers=())
    for changes in ({"no_rope_layers": [1] * 29}, {"no_rope_layers": [2] * 30}, {"no_rope_layer_interval": 0}):
        (error,) = families.config_errors(raw | changes)
        assert error.startswith(f"{next(iter(changes))} = ")


def test_mimo_is_written_as_qwen2():
    raw = QWEN25_05B | {"model_type": "mimo", "attention_bias": True, "num_nextn_predict_layers": 1}
    assert read(raw) == read(QWEN25_05B) and families.family_of(read(raw), preferred="mimo") == "qwen2"
