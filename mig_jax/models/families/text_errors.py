"""Fields of config.json that the text decoder does not support: each by name, with what would be supported.

A field that is silently ignored gives a model that runs and is wrong. So every field is read, checked here, or listed
in `known_fields` as one that changes nothing; any other is refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

from mig_jax.models.families import rope_fields
from mig_jax.models.families.known_fields import shorten, unknown_fields

# Field of `DecoderConfig` → required field of config.json.
SIZES = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
}

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size")

# Further fields that `Family.read`, or the checks below, read.
_READ = (
    *("num_key_value_heads", "head_dim", "max_position_embeddings", "original_max_position_embeddings", "rms_norm_eps"),
    *("rope_theta", "rope_scaling", "rope_parameters", "sliding_window", "max_window_layers", "layer_types"),
)

# Fields that change the computation → values that the decoder computes; the first is the value of an absent field.
# Those from `embedding_multiplier` on belong to relatives of Llama, and to files that only call themselves Llama.
SUPPORTED = {
    "hidden_act": ("silu", "swish"),
    "mlp_bias": (False, None),
    "partial_rotary_factor": (1, None),
    "quantization_config": (None,),
    "rope_interleaved": (False, None),
    "embedding_multiplier": (1, None),
    "residual_multiplier": (1, None),
    "attention_multiplier": (None,),
    "logits_scaling": (1, None),
    "logit_scale": (1, None),
    "scale_emb": (1, None),
    "scale_depth": (None,),
    "query_pre_attn_scalar": (None,),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "clip_qkv": (None,),
    "use_qk_norm": (False, None),
    "no_rope_layers": (None, []),
    "attention_chunk_size": (None,),
    "is_causal": (True, None),
    "use_bidirectional_attention": (False, None),
    "use_mrope": (False, None),
    "attn_temperature_tuning": (False, None),
    "attn_output_gate": (False, None),
    "num_nextn_predict_layers": (0, None),
    "residual_scale": (1, None),
    "logits_scale": (1, None),
}

_FLAGS = ("attention_bias", "tie_word_embeddings", "use_sliding_window")


def text_errors(
    raw: dict[str, Any],
    *,
    default_head_size: int | None,
    default_theta: float = 10_000.0,
    fixed: Mapping[str, Any] | None = None,
    own: Iterable[str] = (),
    has_windows: bool = False,
) -> Iterator[str]:
    """Yield every unsupported field of the text decoder, with what would be supported.

    Args:
      raw: config.json, or the part of it that describes the text decoder; `Family.defaults` are filled in.
      default_head_size: size of a head where `head_dim` is absent; None: hidden_size / num_attention_heads.
      default_theta: `rope_theta` where it is absent.
      fixed: further fields with the only value that the family has.
      own: fields that the family itself reads or knows to be harmless.
      has_windows: sliding windows are supported, and checked by the caller.
    """
    own, only = {*own}, SUPPORTED | {field: (value, None) for field, value in (fixed or {}).items()}
    yield from _size_errors(raw, default_head_size)
    for field, supported in only.items():
        if field not in own and not any(_equal(raw.get(field, supported[0]), value) for value in supported):
            yield f"{field} = {shorten(raw[field])}; supported: {supported[0]!r}"
    for field in _FLAGS:
        if not isinstance(raw.get(field), bool | None):
            yield f"{field} = {raw[field]!r}; supported: true or false"
    for field in _EXPERTS:
        if raw.get(field) and field not in own:
            yield f"{field} = {raw[field]!r} (a mixture of experts); supported: none"
    if not has_windows:
        yield from _window_errors(raw)
    yield from _rope_errors(raw, default_theta)
    yield from unknown_fields(raw, {*SIZES.values(), *_READ, *only, *_FLAGS, *_EXPERTS, *own})


def _size_errors(raw: dict[str, Any], default_head_size: int | None) -> Iterator[str]:
    """Yield sizes that are missing or no sizes, and numbers of heads that do not divide each other."""
    optional = ("num_key_value_heads", "head_dim", "max_position_embeddings")
    checked = [*SIZES.values(), *(name for name in optional if raw.get(name) is not None)]
    wrong = [name for name in checked if not is_size(raw.get(name))]
    for name in wrong:
        yield f"{name} = {raw.get(name)!r}; supported: a positive integer"
    epsilon = raw.get("rms_norm_eps", 1e-6)
    if not is_positive(epsilon):
        yield f"rms_norm_eps = {epsilon!r}; supported: a positive number"
    if {"hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"} & set(wrong):
        return
    width, heads = raw["hidden_size"], raw["num_attention_heads"]
    kv_heads, head_size = raw.get("num_key_value_heads") or heads, raw.get("head_dim") or default_head_size
    if heads % kv_heads:
        yield f"num_attention_heads = {heads}, num_key_value_heads = {kv_heads}; supported: a multiple of the latter"
    if not head_size and width % heads:
        yield f"hidden_size = {width}, num_attention_heads = {heads}; supported: a multiple of the latter, or head_dim"
    elif (head_size or width // heads) % 2:
        yield f"head_dim = {head_size or width // heads}; supported: an even number"


def _window_errors(raw: dict[str, Any]) -> Iterator[str]:
    """Yield sliding-window attention, if any layer uses it; by default all layers use a window that is given.

    A window as long as the longest sequence changes nothing.
    """
    if types := raw.get("layer_types"):
        names = sorted(set(map(str, types if isinstance(types, list) else [types])) - {"full_attention"})
        if names:
            yield f"layer_types = {', '.join(names)}; supported: full_attention"
        return
    window, first_layer = raw.get("sliding_window"), raw.get("max_window_layers", 0)
    layers, longest = raw.get("num_hidden_layers"), raw.get("max_position_embeddings")
    if is_size(window) and is_size(longest) and window >= longest:
        return
    has_layers = not (is_size(first_layer) and is_size(layers)) or first_layer < layers
    if window and raw.get("use_sliding_window", True) and has_layers:
        yield f"sliding_window = {window!r}, in use from layer {first_layer} on; supported: none in use"


def _rope_errors(raw: dict[str, Any], default_theta: float) -> Iterator[str]:
    wrong = [name for name in rope_fields.DICTS if not isinstance(raw.get(name), dict | None)]
    for name in wrong:
        yield f"{name} = {raw[name]!r}; supported: an object of fields"
    if wrong:
        return
    parameters = rope_fields.rope_parameters(raw, default_theta)
    if nested := [name for name, value in parameters.items() if isinstance(value, dict)]:
        yield f"a rotary embedding for each of {', '.join(nested)}; supported: one for all layers"
        return
    yield from rope_fields.disagreements(raw)
    yield from rope_fields.field_errors(raw)
    if not is_positive(parameters["rope_theta"]) or parameters["rope_theta"] <= 1:
        yield f"rope_theta = {parameters['rope_theta']!r}; supported: a number above 1"
    if "partial_rotary_factor" not in raw and parameters.get("partial_rotary_factor", 1) != 1:
        yield f"partial_rotary_factor = {parameters['partial_rotary_factor']!r}; supported: 1"
    try:
        rope_fields.read_scaling(parameters)
    except ValueError as error:
        yield from str(error).split("\n")


def _equal(value: object, supported: object) -> bool:
    """Return whether a value of JSON is a supported one; true and 1 are different."""
    return value == supported and isinstance(value, bool) == isinstance(supported, bool)


def is_size(value: object) -> TypeGuard[int]:
    """Return whether a field is a positive integer."""
    return is_count(value) and value != 0


def is_count(value: object) -> TypeGuard[int]:
    """Return whether a field is an integer of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_positive(value: object) -> TypeGuard[float]:
    """Return whether a field is a positive number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
