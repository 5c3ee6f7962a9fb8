"""SmolLM3 (https://huggingface.co/blog/smollm3): Llama with layers that have no rotary embedding ("NoPE")."""

from collections.abc import Iterator
from typing import Any

from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.families.family import Family
from mig_jax.models.families.text_errors import is_size

_FLAGS, _INTERVAL = "no_rope_layers", "no_rope_layer_interval"


class _SmolLM3(Family):
    """Reads and writes which layers have a rotary embedding."""

    def errors(self, raw: dict[str, Any]) -> Iterator[str]:
        yield from super().errors(raw)
        layers, flags, interval = raw.get("num_hidden_layers"), raw.get(_FLAGS), raw.get(_INTERVAL)
        are_flags = isinstance(flags, list) and len(flags) == layers and all(flag in (0, 1) for flag in flags)
        if flags is not None and not are_flags:
            yield f"{_FLAGS} = {flags!r}; supported: a 1 for each layer with a rotary embedding, a 0 for each without"
        if interval is not None and not is_size(interval):
            yield f"{_INTERVAL} = {interval!r}; supported: a positive integer"

    def read(self, raw: dict[str, Any]) -> dict[str, Any]:
        fields, interval = super().read(raw), raw.get(_INTERVAL) or 4
        flags = raw.get(_FLAGS) or [(layer + 1) % interval for layer in range(fields["layers"])]
        return fields | {"no_rope_layers": tuple(layer for layer, flag in enumerate(flags) if not flag)}

    def write(self, config: DecoderConfig) -> dict[str, Any]:
        flags = [int(layer not in config.no_rope_layers) for layer in range(config.layers)]
        return super().write(config) | {_FLAGS: flags}


FAMILY = _SmolLM3(
    architecture="SmolLM3ForCausalLM",
    default_max_positions=32_768,
    default_theta=2e6,
    defaults={"num_key_value_heads": 4, "tie_word_embeddings": True, "use_sliding_window": False},
    harmless=(_FLAGS, _INTERVAL),
    stores=("no_rope_layers",),
)
