"""The differences between model families, and the config.json fields of a text decoder, which all of them have."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.families import decoder_tensors, rope_fields, text_errors, window_fields
from mig_jax.models.families.decoder_tensors import TensorLayout
from mig_jax.models.families.text_errors import SIZES

# Fields of `DecoderConfig` that most families lack → their value where a family lacks them.
_RARE = {field.name: field.default for field in dataclasses.fields(DecoderConfig) if field.name in (
    "no_rope_layers", "window", "full_layers", "window_rope_theta", "score_divisor", "post_norms", "shifted_norms",
    "scaled_embedding", "activation", "experts",
)}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Family:
    """One `model_type` of Hugging Face.

    A family like Llama is described by these fields alone. One with more than a text decoder overrides the methods,
    see `qwen2_5_vl`.

    architecture: class of transformers that computes it, for `architectures`.
    default_max_positions: context in tokens where `max_position_embeddings` is absent or null.
    default_head_size: size of a head where `head_dim` is absent or null; None: hidden_size / num_attention_heads.
    default_theta: `rope_theta` where it is absent or null.
    defaults: values of other fields where they are absent.
    fixed: fields that have one value in this family: another is refused, and this one is written.
    harmless: fields that only this family has, and that do not change what the text decoder computes.
    qkv_bias: queries, keys and values always have biases, and the output of attention never has one,
      regardless of `attention_bias`; False: `attention_bias` decides for all four.
    qk_norm: queries and keys are normalized per head.
    has_windows: layers may have a sliding window, see `window_fields`.
    stores: further fields of `DecoderConfig`, of those that most families lack, that it reads and writes.
    has_vision: the model has a vision tower.
    has_unread_tower: it has one of which nothing is read, so that images are refused.
    is_written: transformers has the family, so that models are saved as they came; False: as another that computes the
      same.
    tensors: path of each parameter → its name and layout in a checkpoint.
    """

    architecture: str
    default_max_positions: int
    default_head_size: int | None = None
    default_theta: float = 10_000.0
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    harmless: tuple[str, ...] = ()
    qkv_bias: bool = False
    qk_norm: bool = False
    has_windows: bool = False
    stores: tuple[str, ...] = ()
    has_vision: bool = False
    has_unread_tower: bool = False
    is_written: bool = True
    tensors: dict[str, TensorLayout] = dataclasses.field(default_factory=lambda: decoder_tensors.TENSORS)

    def errors(self, raw: dict[str, Any]) -> Iterator[str]:
        """Yield every field of config.json that is not supported, with what would be supported."""
        yield from text_errors.text_errors(
            self.defaults | raw,
            default_head_size=self.default_head_size,
            default_theta=self.default_theta,
            fixed=self.fixed,
            own=self.harmless,
            has_windows=self.has_windows,
        )
        if self.has_windows:
            yield from window_fields.window_errors(self.defaults | raw)

    def read(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Return fields of `DecoderConfig` from a config.json without `errors`."""
        raw = self.defaults | raw
        heads, has_bias = raw["num_attention_heads"], raw.get("attention_bias") or False
        rope = rope_fields.rope_parameters(raw, self.default_theta)
        scaling = rope_fields.read_scaling(rope)
        positions = raw.get("max_position_embeddings") or self.default_max_positions
        return {
            **{ours: raw[theirs] for ours, theirs in SIZES.items()},
            "kv_heads": raw.get("num_key_value_heads") or heads,
            "head_size": raw.get("head_dim") or self.default_head_size or raw["hidden_size"] // heads,
            "rope_theta": float(rope["rope_theta"]),
            "rope_scaling": scaling,
            "norm_eps": raw.get("rms_norm_eps", 1e-6),
            "tied_head": raw.get("tie_word_embeddings") or False,
            "qkv_bias": has_bias or self.qkv_bias,
            "o_bias": has_bias and not self.qkv_bias,
            "qk_norm": self.qk_norm,
            "max_positions": max(positions, rope_fields.extended_context(scaling)),
            **(window_fields.read_window(raw) if self.has_windows else {}),
        }

    def write(self, config: DecoderConfig) -> dict[str, Any]:
        """Return the fields of config.json for `config`: the inverse of `read`."""
        values = vars(config)
        return {
            **{theirs: values[ours] for ours, theirs in SIZES.items()},
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_size,
            "hidden_act": "silu",
            "rms_norm_eps": config.norm_eps,
            "rope_theta": config.rope_theta,
            **({"rope_scaling": rope_fields.write_scaling(config.rope_scaling)} if config.rope_scaling else {}),
            "tie_word_embeddings": config.tied_head,
            "attention_bias": config.o_bias,
            "max_position_embeddings": config.max_positions,
            **self.fixed,
        }

    def storage_error(self, config: DecoderConfig) -> str | None:
        """Return what in `config` this family does not have, or None if it can store it."""
        stored = (*self.stores, *(("window", "full_layers") if self.has_windows else ()))
        for name, plain in _RARE.items():
            if name not in stored and vars(config)[name] != plain:
                return f"{name}={vars(config)[name]!r}"
        has_biases = config.qkv_bias and not config.o_bias if self.qkv_bias else config.qkv_bias == config.o_bias
        may_have_biases = self.qkv_bias or self.fixed.get("attention_bias", True) or not config.qkv_bias
        if has_biases and may_have_biases and config.qk_norm == self.qk_norm:
            return None
        return f"qkv_bias={config.qkv_bias}, o_bias={config.o_bias}, qk_norm={config.qk_norm}"
