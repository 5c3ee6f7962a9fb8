"""Gemma 3 (arXiv 2503.19786), text: norms after each part, windows in five of six layers, two rotary bases.

    gemma3_text    the models of 270M and 1B
    gemma3         those from 4B on, which also have a vision tower: the text decoder alone is read, and saved as
                   gemma3_text; images are refused

transformers 4 writes the rotary bases as `rope_theta` and `rope_local_base_freq`, transformers 5 as objects of
`rope_parameters`, one for each kind of layer. Files leave out what equals the defaults of transformers.
"""

from collections.abc import Iterator
from typing import Any

from mig_jax.models.decoder_config import DecoderConfig
from mig_jax.models.families import window_fields
from mig_jax.models.families.decoder_tensors import TENSORS, TensorLayout
from mig_jax.models.families.family import Family
from mig_jax.models.families.known_fields import unknown_fields
from mig_jax.models.families.text_errors import is_positive

_ACTIVATION = "gelu_pytorch_tanh"
_DEFAULTS = {
    "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "sliding_window": 4096,
    "sliding_window_pattern": 6, "tie_word_embeddings": True,
}  # fmt: skip
_SCALAR, _LOCAL, _ROPES = "query_pre_attn_scalar", "rope_local_base_freq", "rope_parameters"
_LOCAL_THETA = 10_000.0
_KINDS = (window_fields.FULL, window_fields.SLIDING)
# What every model of the family has.
_FLAGS = {"post_norms": True, "shifted_norms": True, "scaled_embedding": True, "activation": "gelu_tanh"}


class _Gemma3(Family):
    """Reads and writes the rotary embedding of layers with a window, and the scale of attention."""

    def errors(self, raw: dict[str, Any]) -> Iterator[str]:
        flat, errors = _flatten_ropes(raw)
        yield from errors
        yield from super().errors(flat)
        for name in ("hidden_act", "hidden_activation"):
            if flat.get(name, _ACTIVATION) not in (_ACTIVATION, None):
                yield f"{name} = {flat[name]!r}; supported: {_ACTIVATION!r}"
        for name in (_SCALAR, _LOCAL):
            if not is_positive(flat.get(name, 1)):
                yield f"{name} = {flat[name]!r}; supported: a positive number"

    def read(self, raw: dict[str, Any]) -> dict[str, Any]:
        flat, _ = _flatten_ropes(raw)
        fields, scalar = super().read(flat), flat.get(_SCALAR, _DEFAULTS[_SCALAR])
        has_window = fields["window"] is not None
        return fields | _FLAGS | {
            "window_rope_theta": float(flat.get(_LOCAL, _LOCAL_THETA)) if has_window else None,
            "score_divisor": None if scalar == fields["head_size"] else float(scalar),
        }  # fmt: skip

    def write(self, config: DecoderConfig) -> dict[str, Any]:
        raw = super().write(config)
        del raw["hidden_act"]
        divisor = config.score_divisor or config.head_size
        return raw | {
            "hidden_activation": _ACTIVATION,
            _SCALAR: int(divisor) if float(divisor).is_integer() else divisor,
            _LOCAL: config.window_rope_theta or _LOCAL_THETA,
            "sliding_window": config.window or _DEFAULTS["sliding_window"],
            "layer_types": window_fields.layer_types(config),
        }

    def storage_error(self, config: DecoderConfig) -> str | None:
        for name, value in _FLAGS.items():
            if vars(config)[name] != value:
                return f"{name}={vars(config)[name]!r}"
        if config.window is not None and config.window_rope_theta is None:
            return "window_rope_theta=None"
        return super().storage_error(config)


class _Gemma3WithTower(_Gemma3):
    """The text decoder of a model that also has a vision tower."""

    def errors(self, raw: dict[str, Any]) -> Iterator[str]:
        text = raw.get("text_config")
        if not isinstance(text, dict):
            yield f"text_config = {text!r}; supported: an object of fields"
            return
        if text.get("model_type", "gemma3_text") != "gemma3_text":
            yield f"text_config.model_type = {text['model_type']!r}; supported: 'gemma3_text'"
        tied = {fields.get("tie_word_embeddings", True) for fields in (raw, text)}
        if len(tied) > 1:
            yield "tie_word_embeddings differs between config.json and its text_config; supported: one value"
        yield from unknown_fields(raw, ("text_config", "vision_config", "mm_tokens_per_image", "tie_word_embeddings"))
        yield from super().errors(text)

    def read(self, raw: dict[str, Any]) -> dict[str, Any]:
        return super().read(raw["text_config"])


def _flatten_ropes(raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields as transformers 4 names them, and what is wrong with the objects of transformers 5.

    The object of layers that see all tokens stays in `rope_parameters`, without the others.
    """
    ropes = raw.get(_ROPES)
    if not isinstance(ropes, dict):
        return raw, []  # another type is refused by all families
    errors = [
        f"{_ROPES}.{name} = {value!r}; supported: an object of fields for each of {', '.join(_KINDS)}"
        for name, value in ropes.items()
        if name not in _KINDS or not isinstance(value, dict | None)
    ]
    if errors:
        return {name: value for name, value in raw.items() if name != _ROPES}, errors
    full, local = (ropes.get(kind) or {} for kind in _KINDS)
    if local.get("rope_type", "default") != "default":
        errors.append(f"rope_type = {local['rope_type']!r} of layers with a window; supported: 'default'")
    errors += unknown_fields(local, ("rope_type", "rope_theta"), inside=f"{_ROPES}.{window_fields.SLIDING}.")
    flat = raw | {_ROPES: full, _LOCAL: local.get("rope_theta", raw.get(_LOCAL, _LOCAL_THETA))}
    if raw.get(_LOCAL, flat[_LOCAL]) != flat[_LOCAL]:
        errors.append(f"{_LOCAL} = {raw[_LOCAL]!r}, but rope_parameters has {flat[_LOCAL]!r}; supported: one value")
    return flat, errors


_SETTINGS: dict[str, Any] = {
    "default_max_positions": 131_072,
    "default_head_size": 256,
    "default_theta": 1e6,
    "defaults": _DEFAULTS,
    # `cache_implementation` is a setting of generation in transformers.
    "harmless": ("hidden_act", "hidden_activation", _SCALAR, _LOCAL, "sliding_window_pattern", "cache_implementation"),
    "qk_norm": True,
    "has_windows": True,
    "stores": (*_FLAGS, "window_rope_theta", "score_divisor"),
    "tensors": TENSORS
    | {
        "layers/attention_post_norm": TensorLayout("model.layers.{}.post_attention_layernorm.weight", 0),
        "layers/mlp_norm": TensorLayout("model.layers.{}.pre_feedforward_layernorm.weight", 0),
        "layers/mlp_post_norm": TensorLayout("model.layers.{}.post_feedforward_layernorm.weight", 0),
    },
}
FAMILY = _Gemma3(architecture="Gemma3ForCausalLM", **_SETTINGS)
FAMILY_WITH_TOWER = _Gemma3WithTower(
    architecture="Gemma3ForConditionalGeneration", is_written=False, has_unread_tower=True, **_SETTINGS
)
