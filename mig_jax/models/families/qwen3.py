"""Qwen3 (arXiv 2505.09388): queries and keys are normalized per head."""

from mig_jax.models.families.qwen2 import SLIDING_WINDOW, Qwen

FAMILY = Qwen(
    architecture="Qwen3ForCausalLM",
    default_max_positions=32_768,
    default_head_size=128,
    defaults=SLIDING_WINDOW,
    qk_norm=True,
    has_windows=True,
)
