"""Qwen2 and Qwen2.5 (arXiv 2407.10671, 2412.15115): queries, keys and values have biases."""

from typing import Any

from mig_jax.models.decoder_config import DecoderConfig
from mig_jax.models.families import window_fields
from mig_jax.models.families.family import Family

# Qwen's files name a window that no layer uses unless `use_sliding_window` is set.
SLIDING_WINDOW = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}


class Qwen(Family):
    """Writes the window of the layers from `max_window_layers` on."""

    def write(self, config: DecoderConfig) -> dict[str, Any]:
        raw = super().write(config)
        if config.window is None:
            return raw
        types = window_fields.layer_types(config)
        first = types.index(window_fields.SLIDING)
        windows = {"use_sliding_window": True, "sliding_window": config.window, "max_window_layers": first}
        return raw | windows | {"layer_types": types}


FAMILY = Qwen(
    architecture="Qwen2ForCausalLM",
    default_max_positions=32_768,
    defaults=SLIDING_WINDOW,
    qkv_bias=True,
    has_windows=True,
)
