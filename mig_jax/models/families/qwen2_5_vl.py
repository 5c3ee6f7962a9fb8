"""Qwen2.5-VL (arXiv 2502.13923): a Qwen2 decoder with M-RoPE, a vision tower and image tokens.

The hub's files, and ours, have the fields of the text decoder at the top. Those of transformers 4.52 and newer have
them in `text_config`, or in both places. Files leave out what equals the defaults of transformers.
"""

from collections.abc import Iterator
from typing import Any

from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.families import decoder_tensors, qwen2, vision_fields
from mig_jax.models.families.decoder_tensors import TensorLayout
from mig_jax.models.families.family import Family
from mig_jax.models.families.known_fields import HARMLESS, unknown_fields
from mig_jax.models.families.rope_fields import DICTS
from mig_jax.models.families.text_errors import is_count, is_size
from mig_jax.models.qwen2_vl import VisionConfig

# Field of `VisionConfig` → field of `vision_config`.
_SIZES = {
    "width": "hidden_size",
    "layers": "depth",
    "heads": "num_heads",
    "mlp_width": "intermediate_size",
    "patch_size": "patch_size",
    "temporal_patch_size": "temporal_patch_size",
    "merge_size": "spatial_merge_size",
    "window_size": "window_size",
    "channels": "in_channels",
}
# Fields that a file may leave out, with the values that transformers then uses. Of `vision_config`:
_DEFAULTS = {
    "hidden_size": 3584, "depth": 32, "num_heads": 16, "intermediate_size": 3420, "patch_size": 14,
    "temporal_patch_size": 2, "spatial_merge_size": 2, "window_size": 112, "in_channels": 3, "out_hidden_size": 3584,
    "fullatt_block_indexes": [7, 15, 23, 31],
}  # fmt: skip
# Of `text_config`, or of the whole file:
_TEXT_DEFAULTS = {
    "vocab_size": 152_064, "hidden_size": 8192, "intermediate_size": 29_568, "num_hidden_layers": 80,
    "num_attention_heads": 64, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "max_window_layers": 80,
}  # fmt: skip
# Fields of `vision_config` for videos, which are not read, and a name of the patch size that nobody reads.
_VISION_HARMLESS = ("in_chans", "tokens_per_second", "spatial_patch_size", "fullatt_block_indexes", "out_hidden_size")

_TOWER_TENSORS = {
    "vision/patch_embedding": TensorLayout(
        "visual.patch_embed.proj.weight", 1, lambda v: (v.channels, v.temporal_patch_size, v.patch_size, v.patch_size)
    ),
    "vision/layers/attention_norm": TensorLayout("visual.blocks.{}.norm1.weight", 0),
    "vision/layers/attention/qkv": TensorLayout("visual.blocks.{}.attn.qkv.weight", 1),
    "vision/layers/attention/qkv_bias": TensorLayout("visual.blocks.{}.attn.qkv.bias", 0),
    "vision/layers/attention/out": TensorLayout("visual.blocks.{}.attn.proj.weight", 2),
    "vision/layers/attention/out_bias": TensorLayout("visual.blocks.{}.attn.proj.bias", 0),
    "vision/layers/mlp_norm": TensorLayout("visual.blocks.{}.norm2.weight", 0),
    "vision/layers/mlp/gate": TensorLayout("visual.blocks.{}.mlp.gate_proj.weight", 1),
    "vision/layers/mlp/gate_bias": TensorLayout("visual.blocks.{}.mlp.gate_proj.bias", 0),
    "vision/layers/mlp/up": TensorLayout("visual.blocks.{}.mlp.up_proj.weight", 1),
    "vision/layers/mlp/up_bias": TensorLayout("visual.blocks.{}.mlp.up_proj.bias", 0),
    "vision/layers/mlp/down": TensorLayout("visual.blocks.{}.mlp.down_proj.weight", 1),
    "vision/layers/mlp/down_bias": TensorLayout("visual.blocks.{}.mlp.down_proj.bias", 0),
    "vision/merger/norm": TensorLayout("visual.merger.ln_q.weight", 0),
    "vision/merger/hidden": TensorLayout("visual.merger.mlp.0.weight", 1),
    "vision/merger/hidden_bias": TensorLayout("visual.merger.mlp.0.bias", 0),
    "vision/merger/out": TensorLayout("visual.merger.mlp.2.weight", 1),
    "vision/merger/out_bias": TensorLayout("visual.merger.mlp.2.bias", 0),
}


class _Qwen25VL(Family):
    """Adds to the text decoder what config.json holds about images."""

    def errors(self, raw: dict[str, Any]) -> Iterator[str]:
        if not isinstance(raw.get("text_config"), dict | None):
            yield f"text_config = {raw['text_config']!r}; supported: an object of fields"
            return
        yield from vision_fields.part_errors(raw, _PARTS)
        yield from _place_errors(raw)
        text = _text_fields(raw)
        yield from super().errors(text)
        yield from _vision_errors(raw, self.defaults | text)

    def read(self, raw: dict[str, Any]) -> dict[str, Any]:
        text, vision = _text_fields(raw), raw["vision_config"]
        tokens = vision_fields.read_tokens(raw)
        tower = VisionConfig(**_tower_sizes(vision), full_layers=tuple(_full_layers(vision)), **tokens)
        return super().read(text) | {"vision": tower, "rope_sections": tuple(_sections(text))}

    def write(self, config: DecoderConfig) -> dict[str, Any]:
        raw, tower = super().write(config), vars(config.vision)
        # transformers 4 reads `type`, as in the hub's files, and takes "mrope" to mean that nothing is scaled.
        scaling = raw.get("rope_scaling")
        scaling = scaling | {"type": scaling["rope_type"]} if scaling else {"type": "mrope"}
        return raw | {
            "vision_config": {
                "model_type": "qwen2_5_vl",
                **{theirs: tower[ours] for ours, theirs in _SIZES.items()},
                "fullatt_block_indexes": list(tower["full_layers"]),
                "out_hidden_size": config.width,
                "hidden_act": "silu",
            },
            "rope_scaling": scaling | {"mrope_section": list(config.rope_sections)},
            **vision_fields.write_tokens(config.vision),
        }

    def storage_error(self, config: DecoderConfig) -> str | None:
        if not isinstance(config.vision, VisionConfig) or config.interleaved_sections:
            return "another vision tower"
        if flags := super().storage_error(config):
            return f"{flags}; supported: True, False, False"
        if config.head_size * config.heads != config.width:
            return f"head_size={config.head_size}, heads={config.heads}; supported: a product of width={config.width}"
        if len(config.rope_sections) != 3 or 2 * sum(config.rope_sections) != config.head_size:
            return f"rope_sections={config.rope_sections}; supported: three that add up to {config.head_size // 2}"
        return None


FAMILY = _Qwen25VL(
    architecture="Qwen2_5_VLForConditionalGeneration",
    default_max_positions=32_768,
    default_theta=1e6,
    defaults=qwen2.SLIDING_WINDOW | _TEXT_DEFAULTS,
    harmless=("vision_config", "text_config"),
    qkv_bias=True,
    has_vision=True,
    tensors=decoder_tensors.TENSORS | _TOWER_TENSORS,
)


def _text_fields(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the text decoder, as those of a Qwen2 folder."""
    text = raw | (raw.get("text_config") or {})
    if "tie_word_embeddings" in raw:
        text["tie_word_embeddings"] = raw["tie_word_embeddings"]
    return text | {name: _without_mrope(text[name]) for name in DICTS if name in text}


def _place_errors(raw: dict[str, Any]) -> Iterator[str]:
    """Yield every field that has one value in `text_config` and another beside it; transformers ignores the latter."""
    for field, inner in (raw.get("text_config") or {}).items():
        if field in HARMLESS or field == "tie_word_embeddings" or field.endswith("_token_id") or field not in raw:
            continue
        outer = raw[field]
        if field in DICTS:
            inner, outer = (
                {k: v for k, v in (_without_mrope(x) or {}).items() if v != "default"} for x in (inner, outer)
            )
        if inner != outer:
            yield f"{field} is {raw[field]!r} in config.json and {inner!r} in its text_config; supported: one value"


def _without_mrope(given: Any) -> Any:
    """Return a dict of the rotary embedding without the type "mrope", which scales nothing."""
    return {name: value for name, value in given.items() if value != "mrope"} if isinstance(given, dict) else given


# `model_type` of the parts, as versions of transformers write it.
_PARTS = {
    "text_config": (None, "qwen2_5_vl_text", "qwen2_5_vl", "qwen2"),
    "vision_config": (None, "qwen2_5_vl", "qwen2_5_vl_vision"),
}


def _vision_errors(raw: dict[str, Any], text: dict[str, Any]) -> Iterator[str]:
    """Yield every unsupported field about images, with what would be supported."""
    vision = raw.get("vision_config")
    if not isinstance(vision, dict):
        yield f"vision_config = {vision!r}; supported: an object of fields"
        return
    yield from _tower_errors(vision)
    width = vision.get("out_hidden_size", _DEFAULTS["out_hidden_size"])
    if width != text.get("hidden_size"):
        yield f"vision_config.out_hidden_size = {width!r}; supported: hidden_size of the text"
    width, heads = text.get("hidden_size"), text.get("num_attention_heads")
    half_head = width / heads / 2 if is_size(width) and is_size(heads) else None
    yield from vision_fields.section_errors(_sections(text), half_head)
    yield from vision_fields.token_errors(raw)


def _tower_errors(vision: dict[str, Any]) -> Iterator[str]:
    channels = [vision[name] for name in ("in_chans", "in_channels") if name in vision]
    if len(channels) == 2 and channels[0] != channels[1]:
        yield f"vision_config.in_chans = {channels[0]!r}, in_channels = {channels[1]!r}; supported: one value"
    sizes, layers = _raw_sizes(vision), _full_layers(vision)
    wrong = [name for name, value in sizes.items() if not is_size(value)]
    for name in wrong:
        yield f"vision_config.{name} = {sizes[name]!r}; supported: a positive integer"
    if not isinstance(layers, list) or not all(map(is_count, layers)):
        yield f"vision_config.fullatt_block_indexes = {layers!r}; supported: a list of layers"
    elif not wrong:
        try:
            VisionConfig(**_tower_sizes(vision), full_layers=tuple(layers))
        except ValueError as error:
            yield f"vision_config: {error}"
    if vision.get("hidden_act", "silu") != "silu":
        yield f"vision_config.hidden_act = {vision['hidden_act']!r}; supported: 'silu'"
    yield from vision_fields.tower_rope_errors(vision)
    known = (*_SIZES.values(), *_VISION_HARMLESS, "hidden_act", "rope_parameters")
    yield from unknown_fields(vision, known, inside="vision_config.")


def _sections(text: dict[str, Any]) -> Any:
    """Return `mrope_section`: how many frequencies belong to time, height and width."""
    return vision_fields.read_rope_field(text, "mrope_section")


def _full_layers(vision: dict[str, Any]) -> Any:
    return vision.get("fullatt_block_indexes", _DEFAULTS["fullatt_block_indexes"])


def _raw_sizes(vision: dict[str, Any]) -> dict[str, Any]:
    """Return the sizes of the tower under the names of transformers, absent ones filled in."""
    # The hub's files call it in_chans, transformers in_channels.
    vision = {"in_channels": vision.get("in_chans", 3)} | vision
    return {theirs: vision.get(theirs, _DEFAULTS.get(theirs)) for theirs in _SIZES.values()}


def _tower_sizes(vision: dict[str, Any]) -> dict[str, int]:
    raw = _raw_sizes(vision)
    return {ours: raw[theirs] for ours, theirs in _SIZES.items()}
