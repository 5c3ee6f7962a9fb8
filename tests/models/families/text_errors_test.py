"""Unsupported fields are all listed by name; fields that change nothing are accepted."""

import pytest

from mig_jax.models import families
from mig_jax.models.families.text_errors import SUPPORTED
from tests.models.families import checkpoints, published
from tests.models.families.published import read

QWEN, LLAMA = published.CONFIGS["Qwen2.5-0.5B"], published.CONFIGS["SmolLM2-135M"]
LLAMA3 = published.CONFIGS["Llama-3.1-8B"]["rope_scaling"]
MOE = checkpoints.QWEN3_MOE
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
QWEN_1M = {"use_sliding_window": True, "sliding_window": 4096}


def test_all_errors_are_listed_at_once():
    changes = {
        "hidden_act": "gelu",
        "mlp_bias": True,
        "hidden_size": None,
        "layer_types": ["full_attention", "sliding_attention"],
        "partial_rotary_factor": 0.5,
        "quantization_config": {"bits": 4},
        "rope_scaling": {"rope_type": "longrope", "factor": 4.0},
        "num_experts": 60,
    }
    assert families.config_errors(QWEN | changes) == [
        "hidden_size = None; supported: a positive integer",
        "hidden_act = 'gelu'; supported: 'silu'",
        "mlp_bias = True; supported: False",
        "partial_rotary_factor = 0.5; supported: 1",
        "quantization_config = {'bits': 4}; supported: None",
        "num_experts = 60 (a mixture of experts); supported: none",
        "rope type = 'longrope'; supported: 'default', 'linear', 'llama3', 'yarn'",
        "layer_types has 2 entries; supported: one for each layer",
    ]


def test_unknown_family_is_named_once():
    """Its other fields follow from the family, and are not listed as errors of their own."""
    gemma = {"model_type": "gemma2", "hidden_act": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256}
    (error,) = families.config_errors(QWEN | gemma)
    assert error.startswith("model_type = 'gemma2' (capped logits and attention scores); supported: ")
    assert "; supported: llama, qwen2, qwen3" in error
    assert not set(families.UNSUPPORTED) & set(families.FAMILIES)


@pytest.mark.parametrize(
    "raw, changes, want",
    [
        (
            QWEN,
            {"model_type": "qwen2_moe"},
            "model_type = 'qwen2_moe' (a mixture of experts with one that all tokens share)",
        ),
        (MOE, {"decoder_sparse_step": 2}, "decoder_sparse_step = 2 (layers without experts); supported: 1"),
        (MOE, {"mlp_only_layers": [0, 5]}, "mlp_only_layers = [0, 5] (layers without experts); supported: []"),
        (MOE, {"shared_expert_intermediate_size": 512}, "(an expert that all tokens share); supported: 0"),
        (MOE, {"num_experts": 0}, "num_experts = 0; supported: a positive integer"),
        (MOE, {"num_experts_per_tok": 129}, "num_experts_per_tok = 129; supported: up to num_experts = 128"),
        (MOE, {"num_local_experts": 64}, "num_experts = 128, num_local_experts = 64; supported: one"),
        (MOE, {"norm_topk_prob": 1}, "norm_topk_prob = 1; supported: true or false"),
        (MOE, {"use_sliding_window": True, "sliding_window": 4096}, "sliding_window = 4096, in use from layer 0 on"),
        (MOE, {"n_shared_experts": 1}, "n_shared_experts = 1, which this family does not have; supported: absent"),
        (LLAMA, {"model_type": "mixtral"}, "model_type = 'mixtral' (a mixture of experts)"),
        (LLAMA, {"model_type": "llamix"}, "model_type = 'llamix'; supported"),
        (LLAMA, {"model_type": "mistral", "sliding_window": -1}, "sliding_window = -1; supported: a positive integer"),
        (LLAMA, {"model_type": "mistral", "layer_types": ["full_attention"] * 30}, "transformers does not read"),
        (LLAMA, {"model_type": "mistral", "attention_bias": True}, "attention_bias = True; supported: False"),
        (LLAMA, {"model_type": "seed_oss", "attention_bias": False}, "attention_bias = False; supported: True"),
        (LLAMA, {"model_type": "seed_oss", "attention_out_bias": True}, "attention_out_bias = True; supported: False"),
        (LLAMA, {"num_nextn_predict_layers": 1}, "num_nextn_predict_layers = 1; supported: 0"),
        (LLAMA, {"model_type": None}, "model_type = None; supported"),
        (LLAMA, {"model_type": ["llama"]}, "model_type = ['llama']; supported"),
        (LLAMA, {"num_local_experts": 8}, "num_local_experts = 8"),
        (QWEN, {"moe_intermediate_size": 1408}, "moe_intermediate_size = 1408"),
        (QWEN, QWEN_1M | {"max_window_layers": "21"}, "max_window_layers = '21'; supported: a number of layers"),
        (QWEN, {"layer_types": ["sliding_attention"] * 24}, "but no sliding_window is in use; supported: full_att"),
        (QWEN, {"layer_types": ["chunked_attention"] * 24}, "layer_types = chunked_attention; supported: full_att"),
        (QWEN | {"model_type": "mimo"}, QWEN_1M | {"attention_bias": True}, "sliding_window = 4096, in use from l"),
        (LLAMA, {"sliding_window": 4096}, "sliding_window = 4096, in use from layer 0 on"),
        (QWEN, {"use_sliding_window": "yes"}, "use_sliding_window = 'yes'; supported: true or false"),
        (LLAMA, {"rope_interleaved": True}, "rope_interleaved = True; supported: False"),
        (LLAMA, {"embedding_multiplier": 12.0}, "embedding_multiplier = 12.0; supported: 1"),
        (LLAMA, {"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0"),
        (LLAMA, {"num_key_value_heads": 2}, "num_attention_heads = 9, num_key_value_heads = 2"),
        (LLAMA, {"num_key_value_heads": 0}, "num_key_value_heads = 0; supported: a positive integer"),
        (LLAMA, {"hidden_size": 577}, "hidden_size = 577, num_attention_heads = 9"),
        (LLAMA, {"head_dim": 63}, "head_dim = 63; supported: an even number"),
        (LLAMA, {"hidden_size": 9 * 7}, "head_dim = 7; supported: an even number"),
        (LLAMA, {"num_hidden_layers": True}, "num_hidden_layers = True; supported: a positive integer"),
        (LLAMA, {"vocab_size": "49152"}, "vocab_size = '49152'; supported: a positive integer"),
        (LLAMA, {"rms_norm_eps": None}, "rms_norm_eps = None; supported: a positive number"),
        (LLAMA, {"rope_theta": "1e4"}, "rope_theta = '1e4'; supported: a number above 1"),
        (LLAMA, {"rope_scaling": "linear"}, "rope_scaling = 'linear'; supported: an object of fields"),
        (LLAMA, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope type = 'dynamic'; supported: 'default'"),
        (LLAMA, {"rope_scaling": {"type": ["yarn"], "factor": 2.0}}, "rope type = ['yarn']; supported: 'default'"),
        (
            LLAMA,
            {"rope_scaling": {"type": "linear"}},
            "factor = None of linear rope; supported: a number of at least 1",
        ),
        (LLAMA, {"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor = 0.5 of linear rope"),
        (LLAMA, {"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "low_freq_factor = None of llama3 rope"),
        (QWEN, {"rope_scaling": {"type": "yarn", "factor": 4, "truncate": "no"}}, "truncate = 'no' of yarn rope"),
        (QWEN, {"rope_scaling": {"type": "yarn", "factor": 4, "beta_fast": 0.5}}, "beta_slow > beta_fast of yarn rope"),
        (LLAMA, {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "a rotary embedding for each of full_"),
        (
            LLAMA,
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}},
            "partial_rotary_factor = 0.25",
        ),
        (LLAMA, {"rope_scaling": {"factor": 4.0}}, "factor = 4.0 without a rope_type that reads it"),
        (LLAMA, {"rope_scaling": LLAMA3 | {"rope_type": None}}, "high_freq_factor = 4.0 without a rope_type"),
        (QWEN, {"rope_scaling": YARN | {"extrapolation_factor": 0.5}}, "extrapolation_factor = 0.5 of yarn rope"),
        (QWEN, {"rope_scaling": YARN | {"llama_4_scaling_beta": 0.1}}, "llama_4_scaling_beta = 0.1 of yarn rope"),
        (QWEN, {"rope_parameters": {"rope_type": "default", "surprise": 1}}, "surprise = 1 of default rope"),
        (QWEN, {"rope_scaling": {"rope_type": "default", "mrope_interleaved": True}}, "mrope_interleaved = True"),
        (LLAMA, {"rope_scaling": LLAMA3 | {"attention_factor": 1.2}}, "attention_factor = 1.2 of llama3 rope"),
        (QWEN, {"rope_scaling": YARN | {"attention_factor": 1.0, "attn_factor": 1.0}}, "attn_factor = 1.0, which make"),
        (QWEN, {"rope_scaling": YARN | {"rope_type": "default"}}, "rope_scaling has the types 'default' and 'yarn'"),
        (QWEN, {"rope_parameters": {"rope_theta": 5e5}}, "rope_theta is 500000.0 in rope_parameters and 1000000.0 in "),
        (
            QWEN,
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": YARN},
            "factor is 2.0 in rope_scaling and 4.0 in rope_parameters; supported: one value",
        ),
        (
            QWEN,
            {"rope_scaling": {"type": "default"}, "rope_parameters": YARN},
            "rope type is 'default' in rope_scaling and 'yarn' in rope_parameters; supported: one type",
        ),
        (
            QWEN,
            {"rope_scaling": YARN, "original_max_position_embeddings": 8192},
            "original_max_position_embeddings is 32768 in rope_scaling and 8192 in config.json",
        ),
        (LLAMA, {"is_causal": False}, "is_causal = False; supported: True"),
        (LLAMA, {"is_causal": 1}, "is_causal = 1; supported: True"),
        (LLAMA, {"use_mrope": True}, "use_mrope = True; supported: False"),
        (LLAMA, {"use_sinks": True}, "use_sinks = True, which this family does not have; supported: absent"),
        (LLAMA, {"sinks": False}, "sinks = False, which this family does not have; supported: absent"),
        (LLAMA, {"expansion_ratio": 2}, "expansion_ratio = 2, which this family does not have; supported: absent"),
        (LLAMA, {"compression_config": {"format": "pack-quantized", "config": "x" * 99}}, "xxx…, which this family"),
    ],
)
def test_unsupported_fields(raw, changes, want):
    errors = families.config_errors(raw | changes)
    assert any(want in error for error in errors) and all("supported: " in error for error in errors), errors


@pytest.mark.parametrize(
    "raw, changes",
    [
        (QWEN, QWEN_1M | {"max_window_layers": 24}),
        (QWEN, QWEN_1M | {"layer_types": ["full_attention"] * 24}),
        (QWEN, {"use_sliding_window": True, "sliding_window": None}),
        (LLAMA, {"sliding_window": 4096, "use_sliding_window": False}),
        (LLAMA, {"sliding_window": None}),
        (LLAMA, {"sliding_window": 8192}),  # as many as positions
        (LLAMA, {"pretraining_tp": 4}),
        (LLAMA, {"attention_dropout": 0.1}),
        (LLAMA, {"hidden_act": "swish"}),
        (LLAMA, {"num_experts": 0}),
        (LLAMA, {"embedding_multiplier": 1.0, "quantization_config": None}),
        (LLAMA, {"rope_parameters": {"rope_theta": 1e5, "rope_type": "default", "partial_rotary_factor": 1.0}}),
        (LLAMA, {"rope_scaling": {}}),
        (LLAMA, {"rope_scaling": {"rope_type": "default", "factor": 1.0, "original_max_position_embeddings": 2048}}),
        (LLAMA, {"rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [16, 24, 24]}}),
        (QWEN, {"rope_parameters": {"rope_theta": 1000000}}),
        (LLAMA, {"is_causal": True, "use_mrope": False, "surprise": None, "unsloth_version": "2025.3.19"}),
        (LLAMA, {"use_sinks": False, "hidden_dropout_prob": 0.1}),
        (LLAMA, {"residual_dropout": 0.1, "_attn_implementation_autoset": True, "temperature": 0.7, "id2label": {}}),
    ],
)
def test_fields_that_change_nothing_are_accepted(raw, changes):
    assert read(raw | changes) == read(raw)


@pytest.mark.parametrize("field", SUPPORTED)
def test_supported_values_equal_an_absent_field(field):
    for value in SUPPORTED[field]:
        assert read(LLAMA | {field: value}) == read(LLAMA)
    assert len(families.config_errors(LLAMA | {field: 0.123})) == 1
