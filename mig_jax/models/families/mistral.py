"""Mistral (arXiv 2310.06825): Llama without biases. Version 0.1 has a window in each layer, later ones have none."""

from collections.abc import Iterator
from typing import Any

from mig_jax.models.decoder_config import DecoderConfig
from mig_jax.models.families.family import Family
from mig_jax.models.families.window_fields import SLIDING


class _Mistral(Family):
    """All layers have the window, or none has one."""

    def errors(self, raw: dict[str, Any]) -> Iterator[str]:
        yield from super().errors(raw)
        types = raw.get("layer_types")
        if raw.get("sliding_window", True) and isinstance(types, list) and set(types) != {SLIDING}:
            yield f"layer_types, which transformers does not read in this family; supported: {SLIDING} in each layer"

    def write(self, config: DecoderConfig) -> dict[str, Any]:
        # Without the field, transformers takes the window to be of 4096 tokens.
        return super().write(config) | {"sliding_window": config.window}

    def storage_error(self, config: DecoderConfig) -> str | None:
        if config.full_layers:
            return f"full_layers={config.full_layers!r}"
        return super().storage_error(config)


FAMILY = _Mistral(
    architecture="MistralForCausalLM",
    default_max_positions=131_072,
    defaults={"sliding_window": 4096, "num_key_value_heads": 8},
    fixed={"attention_bias": False},
    has_windows=True,
)
