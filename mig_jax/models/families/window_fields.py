"""The sliding window in config.json, and which layers have it: to fields of `DecoderConfig` and back.

A file lists the kind of every layer in `layer_types`. Where it does not, a rule of its family decides:

    sliding_window_pattern = 6    every sixth layer sees all tokens (Gemma 3)
    max_window_layers = 21        the first 21 layers see all tokens (Qwen2, Qwen3)
    neither                       no layer does (Mistral)
"""

from collections.abc import Iterator
from typing import Any

from mig_jax.models.decoder_config import DecoderConfig
from mig_jax.models.families.text_errors import is_count, is_size

FULL, SLIDING = "full_attention", "sliding_attention"
# Field → whether a value is supported, and what would be.
_CHECKS = {
    "sliding_window": (is_size, "a positive integer"),
    "sliding_window_pattern": (is_size, "a positive integer"),
    "max_window_layers": (is_count, "a number of layers"),
}


def window_errors(raw: dict[str, Any]) -> Iterator[str]:
    """Yield every unsupported field about windows, with what would be supported."""
    wrong = [name for name, (check, _) in _CHECKS.items() if raw.get(name) is not None and not check(raw[name])]
    for name in wrong:
        yield f"{name} = {raw[name]!r}; supported: {_CHECKS[name][1]}"
    types = raw.get("layer_types")
    if types is None or wrong:
        return
    names = types if isinstance(types, list) else [types]
    if unknown := sorted({str(name) for name in names} - {FULL, SLIDING}):
        yield f"layer_types = {', '.join(unknown)[:80]}; supported: {FULL}, {SLIDING}"
    elif len(names) != raw.get("num_hidden_layers"):
        yield f"layer_types has {len(names)} entries; supported: one for each layer"
    elif SLIDING in names and not _is_used(raw):
        yield f"layer_types has {SLIDING}, but no sliding_window is in use; supported: {FULL}"


def read_window(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields `window` and `full_layers` from a config.json without `window_errors`."""
    full_layers = tuple(layer for layer, kind in enumerate(_layer_types(raw)) if kind == FULL)
    if len(full_layers) == raw["num_hidden_layers"]:
        return {"window": None, "full_layers": ()}
    return {"window": raw["sliding_window"], "full_layers": full_layers}


def layer_types(config: DecoderConfig) -> list[str]:
    """Return `layer_types`, the kind of every layer."""
    is_full = [config.window is None or layer in config.full_layers for layer in range(config.layers)]
    return [FULL if full else SLIDING for full in is_full]


def _is_used(raw: dict[str, Any]) -> bool:
    return bool(raw.get("sliding_window") and raw.get("use_sliding_window", True))


def _layer_types(raw: dict[str, Any]) -> list[str]:
    layers = raw["num_hidden_layers"]
    if raw.get("layer_types"):
        return raw["layer_types"]
    if not _is_used(raw):
        return [FULL] * layers
    if pattern := raw.get("sliding_window_pattern"):
        return [SLIDING if (layer + 1) % pattern else FULL for layer in range(layers)]
    first = raw.get("max_window_layers") or 0
    return [FULL if layer < first else SLIDING for layer in range(layers)]
