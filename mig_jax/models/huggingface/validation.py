"""What config.json asks for and the decoder does not compute: all of it by name, with what would be supported.

A field that is silently ignored gives a model that runs and is wrong. Fields that change nothing at inference, or
nothing here, pass: `attention_dropout`, `initializer_range`, `use_cache`, and `pretraining_tp`, which splits the
matrix products of Llama without changing what they compute.
"""

from collections.abc import Iterator
from typing import Any

from mig_jax.models.rope import FIELDS, RopeScaling

SIZES = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_width": "intermediate_size",
}

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size")

# Fields that change the computation, and the values (that of an absent field first) that the decoder computes.
# Those from `embedding_multiplier` on belong to relatives of Llama, and to files that only call themselves Llama.
_SUPPORTED = {
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
}

_FLAGS = ("attention_bias", "tie_word_embeddings", "use_sliding_window")


def family_problem(family: object, supported: tuple[str, ...]) -> str:
    """Why a `model_type` is refused."""
    is_moe = isinstance(family, str) and ("moe" in family or family == "mixtral")
    reason = " (a mixture of experts)" if is_moe else ""
    return f"model_type = {family!r}{reason}; supported: {', '.join(supported)}"


def text_problems(raw: dict[str, Any], family: object) -> Iterator[str]:
    """Every field about the text decoder that stands in the way, with what would be supported.

    Args:
      raw: config.json, or that part of it which describes the text decoder.
      family: decides what absent fields mean; may be unknown.
    """
    yield from _size_problems(raw, family)
    for field, supported in _SUPPORTED.items():
        if raw.get(field, supported[0]) not in supported:
            yield f"{field} = {raw[field]!r}; supported: {supported[0]!r}"
    for field in _FLAGS:
        if not isinstance(raw.get(field), bool | None):
            yield f"{field} = {raw[field]!r}; supported: true or false"
    for field in _EXPERTS:
        if raw.get(field):
            yield f"{field} = {raw[field]!r} (a mixture of experts); supported: none"
    yield from _window_problems(raw, family)
    yield from _rope_problems(raw)


def rope_of(raw: dict[str, Any]) -> dict[str, Any]:
    """The rotary embedding in one spelling: `rope_type`, `rope_theta` and the fields of that type.

    transformers 4 writes `rope_theta` and, if it is scaled, `rope_scaling`; transformers 5 all in `rope_parameters`.
    """
    given = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    theta = given.get("rope_theta") or raw.get("rope_theta") or 10_000.0
    kind = given.get("rope_type") or given.get("type") or "default"
    # Qwen2.5-VL's M-RoPE scales nothing: it deals frequencies to three positions, which are equal for text.
    kind = "default" if kind == "mrope" else kind
    # What transformers takes it to be where the file does not say.
    context = {"original_max_position_embeddings": raw.get("max_position_embeddings")}
    return (context if kind in ("llama3", "yarn") else {}) | given | {"rope_theta": theta, "rope_type": kind}


def scaling_of(parameters: dict[str, Any]) -> RopeScaling | None:
    """The scaling in what `rope_of` returned, or None.

    Raises:
      ValueError: it is of an unknown kind, or lacks or cannot use a field; all of it is listed.
    """
    kind = parameters["rope_type"]
    if kind == "default":
        return None
    names = sum(FIELDS.get(kind, ((), ())), ()) if isinstance(kind, str) else ()
    fields = {name: parameters[name] for name in names if parameters.get(name) is not None}
    return RopeScaling(kind, **{"factor": None} | fields)


def _size_problems(raw: dict[str, Any], family: object) -> Iterator[str]:
    """Sizes that are missing or cannot be, and heads that do not fit each other."""
    optional = ("num_key_value_heads", "head_dim", "max_position_embeddings")
    asked = [*SIZES.values(), *(name for name in optional if raw.get(name) is not None)]
    wrong = [name for name in asked if not _is_size(raw.get(name))]
    for name in wrong:
        yield f"{name} = {raw.get(name)!r}; supported: a positive integer"
    epsilon = raw.get("rms_norm_eps", 1e-6)
    if not _is_positive(epsilon):
        yield f"rms_norm_eps = {epsilon!r}; supported: a positive number"
    if {"hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"} & set(wrong):
        return
    width, heads = raw["hidden_size"], raw["num_attention_heads"]
    kv_heads, head_size = raw.get("num_key_value_heads") or heads, raw.get("head_dim")
    if heads % kv_heads:
        yield f"num_attention_heads = {heads}, num_key_value_heads = {kv_heads}; supported: a multiple of the latter"
    if not head_size and family != "qwen3" and width % heads:
        yield f"hidden_size = {width}, num_attention_heads = {heads}; supported: a multiple of the latter, or head_dim"
    elif (head_size or (128 if family == "qwen3" else width // heads)) % 2:
        yield f"head_dim = {head_size or width // heads}; supported: an even number"


def _window_problems(raw: dict[str, Any], family: object) -> Iterator[str]:
    """Attention to the nearest tokens alone, where it is in use: Qwen files give a window that no layer has."""
    if types := raw.get("layer_types"):
        names = sorted(set(map(str, types if isinstance(types, list) else [types])) - {"full_attention"})
        if names:
            yield f"layer_types = {', '.join(names)}; supported: full_attention"
        return
    is_qwen = str(family).startswith("qwen")
    window = raw.get("sliding_window", 4096 if is_qwen and raw.get("use_sliding_window") else None)
    first_layer, layers = raw.get("max_window_layers", 28 if is_qwen else 0), raw.get("num_hidden_layers")
    has_layers = not (_is_size(first_layer) and _is_size(layers)) or first_layer < layers
    if window and raw.get("use_sliding_window", not is_qwen) and has_layers:
        yield f"sliding_window = {window!r}, in use from layer {first_layer} on; supported: none in use"


def _rope_problems(raw: dict[str, Any]) -> Iterator[str]:
    wrong = [name for name in ("rope_scaling", "rope_parameters") if not isinstance(raw.get(name), dict | None)]
    for name in wrong:
        yield f"{name} = {raw[name]!r}; supported: an object of fields"
    if wrong:
        return
    parameters = rope_of(raw)
    if nested := [name for name, value in parameters.items() if isinstance(value, dict)]:
        yield f"a rotary embedding for each of {', '.join(nested)}; supported: one for all layers"
        return
    if not _is_positive(parameters["rope_theta"]) or parameters["rope_theta"] <= 1:
        yield f"rope_theta = {parameters['rope_theta']!r}; supported: a number above 1"
    if "partial_rotary_factor" not in raw and parameters.get("partial_rotary_factor", 1) != 1:
        yield f"partial_rotary_factor = {parameters['partial_rotary_factor']!r}; supported: 1"
    try:
        scaling_of(parameters)
    except ValueError as error:
        yield from str(error).split("\n")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
