"""Mistral from version 0.2 on (arXiv 2310.06825): Llama without biases. Version 0.1 has a window in each layer."""

from typing import Any

from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.families.family import Family


class _Mistral(Family):
    """Writes that there is no window, which transformers otherwise takes to be of 4096 tokens."""

    def write(self, config: DecoderConfig) -> dict[str, Any]:
        return super().write(config) | {"sliding_window": None}


FAMILY = _Mistral(
    architecture="MistralForCausalLM",
    default_max_positions=131_072,
    defaults={"sliding_window": 4096, "num_key_value_heads": 8},
    fixed={"attention_bias": False},
)
