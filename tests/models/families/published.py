"""config.json of published models, as on the hub: the fields that matter for the computation."""

from mig_jax.models import families


def read(raw):
    """Return the decoder config of a config.json that must be supported."""
    assert families.config_errors(raw) == []
    return families.decoder_config(raw)


_QWEN25 = {
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 32768,
    "model_type": "qwen2",
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
}
_QWEN3 = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 40960,
    "model_type": "qwen3",
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151936,
}
_LLAMA3 = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}
_SMOLLM2 = {
    "attention_bias": False,
    "hidden_act": "silu",
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}
_SMALL = {"vocab_size": 151936, "tie_word_embeddings": True}
_LLAMA32 = {"tie_word_embeddings": True, "rope_scaling": _LLAMA3["rope_scaling"] | {"factor": 32.0}}


def _sized(family, width, layers, heads, kv_heads, mlp_width, **fields):
    return family | {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": mlp_width,
        **fields,
    }


# fmt: off
CONFIGS = {
    "Qwen2.5-0.5B": _sized(_QWEN25, 896, 24, 14, 2, 4864, **_SMALL, max_window_layers=21),
    "Qwen2.5-1.5B": _sized(_QWEN25, 1536, 28, 12, 2, 8960, **_SMALL, max_window_layers=21),
    "Qwen2.5-3B": _sized(_QWEN25, 2048, 36, 16, 2, 11008, **_SMALL, max_window_layers=70),
    "Qwen2.5-7B": _sized(_QWEN25, 3584, 28, 28, 4, 18944, vocab_size=152064, max_window_layers=28),
    "Qwen2.5-14B": _sized(_QWEN25, 5120, 48, 40, 8, 13824, vocab_size=152064, max_window_layers=70),
    "Qwen2.5-32B": _sized(_QWEN25, 5120, 64, 40, 8, 27648, vocab_size=152064, max_window_layers=70),
    "Qwen2.5-72B": _sized(_QWEN25, 8192, 80, 64, 8, 29568, vocab_size=152064, max_window_layers=70),
    "Qwen3-0.6B": _sized(_QWEN3, 1024, 28, 16, 8, 3072, tie_word_embeddings=True, max_window_layers=28),
    "Qwen3-1.7B": _sized(_QWEN3, 2048, 28, 16, 8, 6144, tie_word_embeddings=True, max_window_layers=28),
    "Qwen3-4B": _sized(_QWEN3, 2560, 36, 32, 8, 9728, tie_word_embeddings=True, max_window_layers=36),
    "Qwen3-8B": _sized(_QWEN3, 4096, 36, 32, 8, 12288, max_window_layers=36),
    "Qwen3-14B": _sized(_QWEN3, 5120, 40, 40, 8, 17408, max_window_layers=40),
    "Qwen3-32B": _sized(_QWEN3, 5120, 64, 64, 8, 25600, max_window_layers=64),
    "Llama-3.1-8B": _sized(_LLAMA3, 4096, 32, 32, 8, 14336),
    "Llama-3.1-70B": _sized(_LLAMA3, 8192, 80, 64, 8, 28672),
    "Llama-3.2-1B": _sized(_LLAMA3, 2048, 16, 32, 8, 8192, head_dim=64, **_LLAMA32),
    "Llama-3.2-3B": _sized(_LLAMA3, 3072, 28, 24, 8, 8192, head_dim=128, **_LLAMA32),
    "SmolLM2-135M": _sized(_SMOLLM2, 576, 30, 9, 3, 1536),
    "SmolLM2-360M": _sized(_SMOLLM2, 960, 32, 15, 5, 2560),
    "SmolLM2-1.7B": _sized(_SMOLLM2, 2048, 24, 32, 32, 8192, rope_theta=130000),
}
# Parameters in billions, as their cards give them (SmolLM2 and Qwen2.5: counted once where the head is tied).
BILLIONS = {
    "Qwen2.5-0.5B": 0.49, "Qwen2.5-1.5B": 1.54, "Qwen2.5-3B": 3.09, "Qwen2.5-7B": 7.61, "Qwen2.5-14B": 14.7,
    "Qwen2.5-32B": 32.5, "Qwen2.5-72B": 72.7, "Qwen3-0.6B": 0.6, "Qwen3-1.7B": 1.72, "Qwen3-4B": 4.02,
    "Qwen3-8B": 8.19, "Qwen3-14B": 14.8, "Qwen3-32B": 32.8, "Llama-3.1-8B": 8.03, "Llama-3.1-70B": 70.6,
    "Llama-3.2-1B": 1.24, "Llama-3.2-3B": 3.21, "SmolLM2-135M": 0.135, "SmolLM2-360M": 0.362, "SmolLM2-1.7B": 1.71,
}
# fmt: on
