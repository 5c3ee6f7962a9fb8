"""Qwen2 and Qwen2.5 (arXiv 2407.10671, 2412.15115): queries, keys and values have biases."""

from mig_jax.models.families.family import Family

# Qwen's files name a window that no layer uses unless `use_sliding_window` is set.
SLIDING_WINDOW = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}

FAMILY = Family(architecture="Qwen2ForCausalLM", default_max_positions=32_768, defaults=SLIDING_WINDOW, qkv_bias=True)
