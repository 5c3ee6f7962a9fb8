"""What config.json of a Qwen2.5-VL folder says beyond its text decoder: the tower, M-RoPE, image tokens; and back.

The hub's files, and ours, have the fields of the text decoder at the top; transformers 5 writes them in `text_config`.
"""

from collections.abc import Iterator
from typing import Any

from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.qwen2_vl import ROPE_THETA, VisionConfig

FAMILY = "qwen2_5_vl"

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
# What transformers takes a size to be where the file does not say; the others must be said.
_DEFAULTS = {"patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2, "window_size": 112, "in_channels": 3}

_TOKENS = {
    "image_token_id": ("image_token_id", 151_655),
    "start_token_id": ("vision_start_token_id", 151_652),
    "end_token_id": ("vision_end_token_id", 151_653),
}


def text_part(raw: dict[str, Any]) -> dict[str, Any]:
    """The fields of the text decoder, as those of a Qwen2 folder."""
    nested = raw.get("text_config")
    # Where they say nothing, the family's files mean other values than those of Qwen2.
    text = {"rms_norm_eps": 1e-5, "rope_theta": 1e6} | (nested if isinstance(nested, dict) else raw)
    if "tie_word_embeddings" in raw:
        text["tie_word_embeddings"] = raw["tie_word_embeddings"]
    for field in ("rope_scaling", "rope_parameters"):
        given = text.get(field)
        if isinstance(given, dict):
            # "mrope" alone is no scaling: sections are read apart from it.
            text[field] = {name: value for name, value in given.items() if value != "mrope"}
    return text


def vision_problems(raw: dict[str, Any]) -> Iterator[str]:
    """Every field about images that stands in the way, with what would be supported."""
    vision, text = raw.get("vision_config"), text_part(raw)
    if not isinstance(vision, dict):
        yield f"vision_config = {vision!r}; supported: an object of fields"
        return
    wrong = [name for name, value in _raw_sizes(vision).items() if not _is_count(value) or value < 1]
    for name in wrong:
        yield f"vision_config.{name} = {_raw_sizes(vision)[name]!r}; supported: a positive integer"
    layers = vision.get("fullatt_block_indexes")
    if not isinstance(layers, list) or not all(map(_is_count, layers)):
        yield f"vision_config.fullatt_block_indexes = {layers!r}; supported: a list of layers"
    elif not wrong:
        try:
            VisionConfig(**_sizes(vision), full_layers=tuple(layers))
        except ValueError as error:
            yield f"vision_config: {error}"
    if vision.get("hidden_act", "silu") != "silu":
        yield f"vision_config.hidden_act = {vision['hidden_act']!r}; supported: 'silu'"
    angles = vision.get("rope_parameters") or {}
    if not isinstance(angles, dict):
        yield f"vision_config.rope_parameters = {angles!r}; supported: an object of fields"
    elif angles.get("rope_theta", ROPE_THETA) != ROPE_THETA:
        yield f"vision_config.rope_theta = {angles['rope_theta']!r}; supported: {ROPE_THETA}"
    if vision.get("out_hidden_size") != text.get("hidden_size"):
        yield f"vision_config.out_hidden_size = {vision.get('out_hidden_size')!r}; supported: hidden_size of the text"
    yield from _section_problems(text)
    for theirs, _ in _TOKENS.values():
        if theirs in raw and not _is_count(raw[theirs]):
            yield f"{theirs} = {raw[theirs]!r}; supported: an id"


def vision_fields(raw: dict[str, Any]) -> dict[str, Any]:
    """What `raw`, in which nothing is to be refused, says beyond its text decoder: fields of `DecoderConfig`."""
    vision = raw["vision_config"]
    tokens = {ours: raw.get(theirs, default) for ours, (theirs, default) in _TOKENS.items()}
    tower = VisionConfig(**_sizes(vision), full_layers=tuple(vision["fullatt_block_indexes"]), **tokens)
    return {"vision": tower, "rope_sections": tuple(_sections(text_part(raw)))}


def raw_vision_fields(config: DecoderConfig, raw_scaling: dict[str, Any] | None) -> dict[str, Any]:
    """`vision_fields` read backwards.

    Args:
      raw_scaling: `rope_scaling` of the text decoder, which is where M-RoPE's sections stand.
    """
    tower = vars(config.vision)
    # transformers 4 reads `type`, as the hub's files have it, and takes "mrope" to mean that nothing is scaled.
    scaling = raw_scaling | {"type": raw_scaling["rope_type"]} if raw_scaling else {"type": "mrope"}
    return {
        "vision_config": {
            "model_type": "qwen2_5_vl",
            **{theirs: tower[ours] for ours, theirs in _SIZES.items()},
            "fullatt_block_indexes": list(config.vision.full_layers),
            "out_hidden_size": config.width,
            "hidden_act": "silu",
        },
        "rope_scaling": scaling | {"mrope_section": list(config.rope_sections)},
        **{theirs: tower[ours] for ours, (theirs, _) in _TOKENS.items()},
    }


def why_not_stored(config: DecoderConfig) -> str:
    """Why the family cannot hold what `config` says, or ""."""
    if not config.qkv_bias or config.o_bias or config.qk_norm:
        return f"qkv_bias={config.qkv_bias}, o_bias={config.o_bias}, qk_norm={config.qk_norm}; True, False, False"
    if config.head_size * config.heads != config.width:
        return f"head_size={config.head_size} · heads={config.heads}; width={config.width}"
    if len(config.rope_sections) != 3 or 2 * sum(config.rope_sections) != config.head_size:
        return f"rope_sections={config.rope_sections}; three that add up to {config.head_size // 2}"
    return ""


def _section_problems(text: dict[str, Any]) -> Iterator[str]:
    sections, heads = _sections(text), text.get("num_attention_heads")
    if not isinstance(sections, list) or len(sections) != 3 or not all(map(_is_count, sections)):
        yield f"mrope_section = {sections!r}; supported: three numbers, for time, height and width"
    elif _is_count(heads) and _is_count(text.get("hidden_size")) and 2 * heads * sum(sections) != text["hidden_size"]:
        yield f"mrope_section = {sections!r}; supported: numbers that add up to half a head's size"


def _sections(text: dict[str, Any]) -> Any:
    given = text.get("rope_scaling") or text.get("rope_parameters") or {}
    return given.get("mrope_section") if isinstance(given, dict) else None


def _raw_sizes(vision: dict[str, Any]) -> dict[str, Any]:
    # The hub's files say in_chans, transformers in_channels.
    vision = {"in_channels": vision.get("in_chans", 3)} | vision
    return {theirs: vision.get(theirs, _DEFAULTS.get(theirs)) for theirs in _SIZES.values()}


def _sizes(vision: dict[str, Any]) -> dict[str, int]:
    raw = _raw_sizes(vision)
    return {ours: raw[theirs] for ours, theirs in _SIZES.items()}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
