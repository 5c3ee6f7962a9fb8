"""config.json of more published checkpoints, with all of their fields, and why some are refused.

Values were typed from the published files. Those that differ only in sizes are in `published`.
"""

from tests.models.families import published, qwen3_vl_test
from tests.models.families.qwen2_5_vl_test import HUB_3B, LARGER, nested

QWEN2 = published.CONFIGS["Qwen2.5-7B"] | {"architectures": ["Qwen2ForCausalLM"], "transformers_version": "4.43.1"}
QWEN3 = published.CONFIGS["Qwen3-8B"] | {"architectures": ["Qwen3ForCausalLM"], "transformers_version": "4.51.0"}
LLAMA3 = published.CONFIGS["Llama-3.1-8B"] | {"architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16"}

# fmt: off
LLAMA2 = {
    "_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": None, "tie_word_embeddings": False, "torch_dtype": "float16", "transformers_version": "4.31.0",
    "use_cache": True, "vocab_size": 32000,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": None,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.42.0.dev0",
    "use_cache": True, "vocab_size": 32768,
}
SEED_OSS = {
    "architectures": ["SeedOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.1,
    "attention_out_bias": False, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "head_dim": 128,
    "hidden_act": "silu", "hidden_size": 5120, "initializer_range": 0.02, "intermediate_size": 27648,
    "max_position_embeddings": 524288, "mlp_bias": False, "model_type": "seed_oss", "num_attention_heads": 80,
    "num_hidden_layers": 64, "num_key_value_heads": 8, "residual_dropout": 0.1, "rms_norm_eps": 1e-06,
    "rope_scaling": {"rope_type": "default"}, "rope_theta": 10000000.0, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.55.0", "use_cache": True, "vocab_size": 155136,
}
MIMO = {
    "architectures": ["MiMoForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_mimo.MiMoConfig", "AutoModel": "modeling_mimo.MiMoModel"},
    "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096,
    "initializer_range": 0.02, "intermediate_size": 11008, "max_position_embeddings": 32768, "max_window_layers": 36,
    "model_type": "mimo", "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
    "num_nextn_predict_layers": 1, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 640000,
    "sliding_window": 32768, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
    "use_cache": True, "use_sliding_window": False, "vocab_size": 151680,
}
DISTILL_QWEN = QWEN2 | {
    "max_position_embeddings": 131072, "rope_theta": 10000, "sliding_window": 4096, "use_mrope": False,
    "hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2,
    "vocab_size": 151936, "max_window_layers": 21, "bos_token_id": 151646, "eos_token_id": 151643,
}
R1_QWEN3 = QWEN3 | {
    "max_position_embeddings": 131072, "eos_token_id": 151645, "transformers_version": "4.51.0",
    "rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768,
        "attn_factor": 0.8782488562869419,
    },
}
GEMMA3 = {
    "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "attn_logit_softcapping": None, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 106],
    "final_logit_softcapping": None, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152,
    "initializer_range": 0.02, "intermediate_size": 6912, "max_position_embeddings": 32768,
    "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
    "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
    "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6,
    "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0", "use_cache": True, "vocab_size": 262144,
}
GEMMA3_270M = {name: value for name, value in GEMMA3.items() if name != "sliding_window_pattern"} | {
    "_sliding_window_pattern": 6, "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3, "rope_local_base_freq": 10000.0,
    "rope_theta": 1000000.0, "transformers_version": "4.55.0.dev0", "use_bidirectional_attention": False,
}
# From 4B on, the files leave out the defaults of transformers.
GEMMA3_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999, "eoi_token_index": 256000,
    "eos_token_id": [1, 106], "image_token_index": 262144, "initializer_range": 0.02, "mm_tokens_per_image": 256,
    "model_type": "gemma3", "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0",
    "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
    "vision_config": {
        "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "model_type": "siglip_vision_model",
        "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": False},
}
GEMMA3_12B = GEMMA3_4B | {"text_config": GEMMA3_4B["text_config"] | {
    "hidden_size": 3840, "intermediate_size": 15360, "num_attention_heads": 16, "num_hidden_layers": 48,
    "num_key_value_heads": 8}}
GEMMA3_27B = GEMMA3_4B | {"text_config": GEMMA3_4B["text_config"] | {
    "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504, "num_attention_heads": 32,
    "num_hidden_layers": 62, "num_key_value_heads": 16, "query_pre_attn_scalar": 168}}
# As transformers 5 saves it.
GEMMA3_V5 = {name: value for name, value in GEMMA3_270M.items() if name not in (
    "rope_theta", "rope_scaling", "rope_local_base_freq", "torch_dtype", "cache_implementation")} | {
    "dtype": "bfloat16", "tie_word_embeddings": True, "transformers_version": "5.24.0",
    "rope_parameters": {
        "full_attention": {"rope_theta": 1000000.0, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}},
}
SMOLLM3 = {
    "architectures": ["SmolLM3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": None,
    "eos_token_id": 128012, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
    "intermediate_size": 11008, "layer_types": ["full_attention"] * 36, "max_position_embeddings": 65536,
    "max_window_layers": 28, "mlp_bias": False, "model_type": "smollm3",
    "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9, "num_attention_heads": 16,
    "num_hidden_layers": 36, "num_key_value_heads": 4, "pad_token_id": 128004, "pretraining_tp": 2,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 5000000.0, "sliding_window": None,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.54.0.dev0", "use_cache": False,
    "use_sliding_window": False, "vocab_size": 128256,
}
QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643,
    "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
    "initializer_range": 0.02, "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48,
    "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 768, "norm_topk_prob": True,
    "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48,
    "num_key_value_heads": 4, "output_router_logits": False, "rms_norm_eps": 1e-06, "rope_scaling": None,
    "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "sliding_window": None, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3_MOE_2507 = QWEN3_MOE | {"max_position_embeddings": 262144, "rope_theta": 10000000}
PHI3 = {
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_act": "silu", "hidden_size": 3072,
    "intermediate_size": 8192, "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 32, "original_max_position_embeddings": 4096, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05,
    "rope_scaling": None, "rope_theta": 10000.0, "sliding_window": 2047, "vocab_size": 32064,
}
GPTQ = {"bits": 4, "group_size": 128, "desc_act": False, "quant_method": "gptq", "sym": True}
BITSANDBYTES = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "quant_method": "bitsandbytes"}
VL_SHORT = {
    name: value for name, value in (HUB_3B | LARGER)["vision_config"].items()
    if name in ("hidden_size", "in_chans", "model_type", "spatial_patch_size", "tokens_per_second")
}

ACCEPTED = published.CONFIGS | {
    "Qwen2-7B-Instruct": QWEN2 | {"sliding_window": 131072, "use_sliding_window": False},
    "Qwen2.5-Math-7B": QWEN2 | {"max_position_embeddings": 4096, "rope_theta": 10000, "sliding_window": 4096},
    "Qwen2.5-Coder-7B-Instruct": QWEN2 | {"sliding_window": 131072, "rope_theta": 1000000.0},
    "Qwen2.5-7B-Instruct, README's YaRN": QWEN2 | {
        "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}},
    "QwQ-32B": published.CONFIGS["Qwen2.5-32B"] | {
        "max_position_embeddings": 40960, "sliding_window": 32768, "max_window_layers": 64},
    "Qwen3-4B-Instruct-2507": published.CONFIGS["Qwen3-4B"] | {
        "max_position_embeddings": 262144, "rope_theta": 5000000},
    "Qwen3-8B-Base": QWEN3 | {"max_position_embeddings": 32768, "bos_token_id": 151643, "eos_token_id": 151643},
    "Qwen3-30B-A3B": QWEN3_MOE,
    "Qwen3-30B-A3B-Base": QWEN3_MOE | {
        "max_position_embeddings": 32768, "eos_token_id": 151643, "router_aux_loss_coef": 0.001},
    "Qwen3-30B-A3B-Instruct-2507": QWEN3_MOE_2507,
    "Qwen3-30B-A3B-Thinking-2507": QWEN3_MOE_2507,
    "Qwen3-Coder-30B-A3B-Instruct": QWEN3_MOE_2507 | {
        "intermediate_size": 5472, "max_window_layers": 28, "qkv_bias": False, "router_aux_loss_coef": 0.0,
        "shared_expert_intermediate_size": 0, "transformers_version": "4.52.3", "use_qk_norm": True},
    "Qwen3-235B-A22B": QWEN3_MOE | {
        "hidden_size": 4096, "intermediate_size": 12288, "max_window_layers": 94, "moe_intermediate_size": 1536,
        "num_attention_heads": 64, "num_hidden_layers": 94},
    "Qwen3-30B-A3B, transformers 5": {
        name: value for name, value in QWEN3_MOE.items()
        if name not in ("num_experts", "rope_theta", "rope_scaling", "torch_dtype", "max_window_layers")} | {
        "dtype": "bfloat16", "num_local_experts": 128, "rope_parameters": {
            "rope_theta": 1000000.0, "rope_type": "default"}},
    "DeepSeek-R1-Distill-Qwen-1.5B": DISTILL_QWEN,
    "DeepSeek-R1-Distill-Llama-8B": LLAMA3 | {"eos_token_id": 128001, "transformers_version": "4.43.0.dev0"},
    "DeepSeek-R1-0528-Qwen3-8B": R1_QWEN3,
    "OpenReasoning-Nemotron-7B": QWEN2 | {"max_position_embeddings": 131072, "sliding_window": None},
    "Llama-2-7b-hf": LLAMA2,
    "Yarn-Llama-2-7b-64k": LLAMA2 | {
        "max_position_embeddings": 65536, "auto_map": {"AutoConfig": "configuration_llama.LlamaConfig"},
        "rope_scaling": {
            "factor": 16.0, "original_max_position_embeddings": 4096, "type": "yarn", "finetuned": True}},
    "vicuna-7b-v1.5": LLAMA2 | {"max_length": 4096, "pad_token_id": 0, "temperature": 0.9, "top_p": 0.6},
    "TinyLlama-1.1B-Chat-v1.0": LLAMA2 | {
        "attention_bias": False, "hidden_size": 2048, "intermediate_size": 5632, "max_position_embeddings": 2048,
        "num_hidden_layers": 22, "num_key_value_heads": 4, "rope_theta": 10000.0},
    "Meta-Llama-3-8B-Instruct": LLAMA3 | {
        "max_position_embeddings": 8192, "rope_scaling": None, "eos_token_id": 128009},
    "Llama-3.3-70B-Instruct": published.CONFIGS["Llama-3.1-70B"] | {"head_dim": 128},
    "unsloth/Llama-3.2-1B-Instruct": published.CONFIGS["Llama-3.2-1B"] | {
        "_name_or_path": "meta-llama/Llama-3.2-1B-Instruct", "pad_token_id": 128004, "unsloth_fixed": True},
    "deepseek-math-7b-rl": LLAMA2 | {
        "attention_bias": False, "num_hidden_layers": 30, "vocab_size": 102400, "bos_token_id": 100000,
        "eos_token_id": 100001, "rms_norm_eps": 1e-06, "rope_theta": 10000},
    "Yi-1.5-9B-Chat": LLAMA2 | {
        "num_hidden_layers": 48, "num_key_value_heads": 4, "rope_theta": 5000000.0, "vocab_size": 64000,
        "rms_norm_eps": 1e-06, "attention_dropout": 0.0},
    "Falcon3-7B-Instruct": LLAMA3 | {
        "head_dim": 256, "hidden_size": 3072, "intermediate_size": 23040, "num_attention_heads": 12,
        "num_hidden_layers": 28, "num_key_value_heads": 4, "rope_scaling": None, "rope_theta": 1000042,
        "max_position_embeddings": 32768, "vocab_size": 131072, "activation": None},
    "Llama-3.1-Nemotron-Nano-8B-v1": LLAMA3 | {"head_dim": 128, "transformers_version": "4.47.1"},
    "SmolLM2-1.7B-Instruct": published.CONFIGS["SmolLM2-1.7B"] | {
        "transformers.js_config": {"dtype": "q4", "kv_cache_dtype": {"q4f16": "float16"}}},
    "Mistral-7B-v0.1": MISTRAL | {"sliding_window": 4096, "rope_theta": 10000.0, "vocab_size": 32000},
    "Mistral-7B-v0.3": MISTRAL,
    "Mistral-7B-Instruct-v0.3": MISTRAL,
    "Mistral-Nemo-Instruct-2407": MISTRAL | {
        "head_dim": 128, "hidden_size": 5120, "num_hidden_layers": 40, "max_position_embeddings": 1024000,
        "vocab_size": 131072},
    "Mistral-Small-24B-Instruct-2501": MISTRAL | {
        "head_dim": 128, "hidden_size": 5120, "intermediate_size": 32768, "num_hidden_layers": 40,
        "rope_theta": 100000000.0, "vocab_size": 131072},
    "Seed-OSS-36B-Instruct": SEED_OSS,
    "MiMo-7B-RL": MIMO,
    "SmolLM3-3B": SMOLLM3,
    "SmolLM3-3B, defaults left out": {
        name: value for name, value in SMOLLM3.items() if not name.startswith("no_rope") and name != "layer_types"},
    "gemma-3-270m-it": GEMMA3_270M,
    "gemma-3-270m-it, transformers 5": GEMMA3_V5,
    "gemma-3-1b-it": GEMMA3,
    "gemma-3-4b-it": GEMMA3_4B,
    "gemma-3-12b-it": GEMMA3_12B,
    "gemma-3-27b-it": GEMMA3_27B,
    "Qwen2.5-VL-3B-Instruct": HUB_3B,
    "Qwen2.5-VL-7B-Instruct": HUB_3B | LARGER,
    "Qwen2.5-VL-7B, transformers 4.49": HUB_3B | LARGER | {"vision_config": VL_SHORT},
    "Qwen2.5-VL-3B, transformers 5": nested(HUB_3B),
    **{
        f"Qwen3-VL-{size}-{kind}": raw
        for size, raw in qwen3_vl_test.PUBLISHED.items() for kind in ("Instruct", "Thinking")},
    "Qwen3-VL-4B, transformers 5": qwen3_vl_test.saved_by_transformers_5(qwen3_vl_test.HUB_4B),
}
# Name → config.json and the words that the reason must have.
REFUSED = {
    "Qwen2.5-7B-Instruct-1M": (QWEN2 | {
        "dual_chunk_attention_config": {"chunk_size": 262144, "local_size": 8192},
        "max_position_embeddings": 1010000}, "dual_chunk_attention_config"),
    "Qwen2.5-7B-Instruct-GPTQ-Int4": (QWEN2 | {"quantization_config": GPTQ}, "quantization_config"),
    "Llama-3.1-8B-Instruct-bnb-4bit": (LLAMA3 | {"quantization_config": BITSANDBYTES}, "quantization_config"),
    "Qwen1.5-MoE-A2.7B": (QWEN2 | {
        "model_type": "qwen2_moe", "num_experts": 60, "shared_expert_intermediate_size": 5632},
        "'qwen2_moe' (a mixture of experts with one that all tokens share)"),
    "Mixtral-8x7B-v0.1": (MISTRAL | {"model_type": "mixtral", "num_local_experts": 8}, "'mixtral' (a mixture of"),
    "gpt-oss-20b": ({"model_type": "gpt_oss", "num_local_experts": 32, "sliding_window": 128}, "attention sinks"),
    "Llama-4-Scout-17B-16E": ({"model_type": "llama4", "text_config": {}}, "'llama4' (a mixture of experts"),
    "DeepSeek-V3": ({"model_type": "deepseek_v3", "n_routed_experts": 256}, "'deepseek_v3' (a mixture of experts"),
    "gemma-2-2b-it": ({"model_type": "gemma2", "final_logit_softcapping": 30.0}, "capped logits"),
    "gemma-3n-E4B-it": ({"model_type": "gemma3n", "text_config": GEMMA3}, "embeddings per layer"),
    "Phi-3-mini-4k-instruct": (PHI3, "queries, keys and values in one matrix"),
    "Phi-4-mini-instruct": (PHI3 | {"partial_rotary_factor": 0.75}, "queries, keys and values in one matrix"),
    "Qwen2-VL-2B-Instruct": (HUB_3B | {"model_type": "qwen2_vl"}, "another vision tower"),
    "Qwen3-VL-30B-A3B-Instruct": (
        qwen3_vl_test.HUB_4B | {"model_type": "qwen3_vl_moe"}, "Qwen3-VL with a mixture of experts"),
    "Mistral-Small-3.1-24B": ({"model_type": "mistral3", "text_config": MISTRAL}, "another vision tower"),
    "glm-4-9b-chat-hf": ({"model_type": "glm", "partial_rotary_factor": 0.5}, "a partial rotary embedding"),
    "OLMo-2-1124-7B": ({"model_type": "olmo2", "hidden_size": 4096}, "norms after each part"),
    "granite-3.3-2b-instruct": ({"model_type": "granite", "logits_scaling": 8.0}, "multipliers"),
    "Nemotron-H-8B": ({"model_type": "nemotron_h"}, "state-space layers"),
    "Qwen-7B-Chat": ({"model_type": "qwen", "seq_length": 8192}, "the first Qwen"),
    "MiniCPM3-4B": ({"model_type": "minicpm3"}, "latent attention"),
}
# fmt: on
