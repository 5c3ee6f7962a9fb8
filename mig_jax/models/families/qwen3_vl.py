"""Qwen3-VL (arXiv 2511.21631): a Qwen3 decoder with interleaved M-RoPE, another vision tower, and deepstack.

All versions of transformers have the fields of the text decoder in `text_config`, and so has what is written here.
"""

from collections.abc import Iterator
from typing import Any

from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.families import decoder_tensors, vision_fields
from mig_jax.models.families.decoder_tensors import TensorLayout
from mig_jax.models.families.family import Family
from mig_jax.models.families.known_fields import unknown_fields
from mig_jax.models.families.rope_fields import DICTS, rope_parameters
from mig_jax.models.families.text_errors import is_count, is_size
from mig_jax.models.qwen3_vl import VisionConfig

# Field of `VisionConfig` → field of `vision_config`.
_SIZES = {
    "width": "hidden_size",
    "layers": "depth",
    "heads": "num_heads",
    "mlp_width": "intermediate_size",
    "learned_positions": "num_position_embeddings",
    "patch_size": "patch_size",
    "temporal_patch_size": "temporal_patch_size",
    "merge_size": "spatial_merge_size",
    "channels": "in_channels",
}
_LAYERS, _ACTIVATION = "deepstack_visual_indexes", "gelu_pytorch_tanh"
# Fields that a file may leave out, with the values that transformers then uses. Of `vision_config`:
_DEFAULTS = {
    "hidden_size": 1152, "depth": 27, "num_heads": 16, "intermediate_size": 4304, "num_position_embeddings": 2304,
    "patch_size": 16, "temporal_patch_size": 2, "spatial_merge_size": 2, "in_channels": 3, "out_hidden_size": 3584,
    "hidden_act": _ACTIVATION, _LAYERS: [8, 16, 24],
}  # fmt: skip
# Of `text_config`. Versions of transformers differ in `rope_theta`, so it has to be there.
_TEXT_DEFAULTS = {
    "vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 22_016, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32,
}  # fmt: skip
# `model_type` of the parts, as versions of transformers write it.
_PARTS = {
    "text_config": (None, "qwen3_vl_text"),
    "vision_config": (None, "qwen3_vl_vision", "qwen3_vl"),
}
# Fields beside the parts; any other would be one of the decoder in the wrong place.
_OUTER = ("text_config", "vision_config", "tie_word_embeddings")


def _layer_norm(path: str, name: str) -> dict[str, TensorLayout]:
    return {f"{path}/scale": TensorLayout(f"{name}.weight", 0), f"{path}/bias": TensorLayout(f"{name}.bias", 0)}


def _linear(path: str, name: str, inputs: int = 1) -> dict[str, TensorLayout]:
    return {path: TensorLayout(f"{name}.weight", inputs), f"{path}_bias": TensorLayout(f"{name}.bias", 0)}


def _merger(path: str, name: str) -> dict[str, TensorLayout]:
    norm = _layer_norm(f"{path}/norm", f"{name}.norm")
    return norm | _linear(f"{path}/hidden", f"{name}.linear_fc1") | _linear(f"{path}/out", f"{name}.linear_fc2")


_BLOCK = "model.visual.blocks.{}"
_TENSORS = {
    **{
        path: tensor._replace(name=tensor.name.replace("model.", "model.language_model.", 1))
        for path, tensor in decoder_tensors.TENSORS.items()
    },
    "vision/patch_embedding": TensorLayout(
        "model.visual.patch_embed.proj.weight",
        1,
        lambda v: (v.channels, v.temporal_patch_size, v.patch_size, v.patch_size),
    ),
    "vision/patch_bias": TensorLayout("model.visual.patch_embed.proj.bias", 0),
    "vision/position_embedding": TensorLayout("model.visual.pos_embed.weight", None),
    **_layer_norm("vision/layers/attention_norm", f"{_BLOCK}.norm1"),
    **_linear("vision/layers/attention/qkv", f"{_BLOCK}.attn.qkv"),
    **_linear("vision/layers/attention/out", f"{_BLOCK}.attn.proj", inputs=2),
    **_layer_norm("vision/layers/mlp_norm", f"{_BLOCK}.norm2"),
    **_linear("vision/layers/mlp/hidden", f"{_BLOCK}.mlp.linear_fc1"),
    **_linear("vision/layers/mlp/out", f"{_BLOCK}.mlp.linear_fc2"),
    **_merger("vision/merger", "model.visual.merger"),
    **_merger("vision/deepstack_mergers", "model.visual.deepstack_merger_list.{}"),
}


class _Qwen3VL(Family):
    """Reads the text decoder from `text_config`, and adds what config.json holds about images."""

    def errors(self, raw: dict[str, Any]) -> Iterator[str]:
        if wrong := [part for part in _PARTS if not isinstance(raw.get(part), dict)]:
            yield from (f"{part} = {raw.get(part)!r}; supported: an object of fields" for part in wrong)
            return
        yield from vision_fields.part_errors(raw, _PARTS)
        yield from vision_fields.token_errors(raw)
        yield from unknown_fields(raw, _OUTER)
        outer, inner = raw.get("tie_word_embeddings", False), raw["text_config"].get("tie_word_embeddings")
        if inner not in (None, outer):
            yield f"tie_word_embeddings is {outer!r} in config.json, {inner!r} in its text_config; supported: one value"
        yield from super().errors(_text_fields(raw))
        yield from _rope_errors(self.defaults | raw["text_config"])
        yield from _tower_errors(raw["vision_config"], self.defaults | raw["text_config"])

    def read(self, raw: dict[str, Any]) -> dict[str, Any]:
        vision, tokens = _DEFAULTS | raw["vision_config"], vision_fields.read_tokens(raw)
        sizes = {ours: vision[theirs] for ours, theirs in _SIZES.items()}
        return super().read(_text_fields(raw)) | {
            "vision": VisionConfig(**sizes, deepstack_layers=tuple(vision[_LAYERS]), **tokens),
            "rope_sections": tuple(vision_fields.read_rope_field(raw["text_config"], "mrope_section")),
            "interleaved_sections": True,
        }

    def write(self, config: DecoderConfig) -> dict[str, Any]:
        text, tower = super().write(config), config.vision
        sections = {"mrope_section": list(config.rope_sections), "mrope_interleaved": True}
        text["rope_scaling"] = text.get("rope_scaling", {"rope_type": "default"}) | sections
        assert isinstance(tower, VisionConfig)
        return {
            "text_config": text | {"model_type": "qwen3_vl_text"},
            "vision_config": {
                "model_type": "qwen3_vl",
                **{theirs: getattr(tower, ours) for ours, theirs in _SIZES.items()},
                _LAYERS: list(tower.deepstack_layers),
                "out_hidden_size": config.width,
                "hidden_act": _ACTIVATION,
            },
            "tie_word_embeddings": config.tied_head,
            **vision_fields.write_tokens(tower),
        }

    def storage_error(self, config: DecoderConfig) -> str | None:
        if not isinstance(config.vision, VisionConfig) or not config.interleaved_sections:
            return "another vision tower"
        if len(config.rope_sections) != 3 or 2 * sum(config.rope_sections) != config.head_size:
            return f"rope_sections={config.rope_sections}; supported: three that add up to {config.head_size // 2}"
        return super().storage_error(config)


FAMILY = _Qwen3VL(
    architecture="Qwen3VLForConditionalGeneration",
    default_max_positions=128_000,
    default_head_size=128,
    defaults=_TEXT_DEFAULTS,
    qk_norm=True,
    has_vision=True,
    tensors=_TENSORS,
)


def _text_fields(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the text decoder, as those of a Qwen3 folder."""
    text = raw["text_config"] | {"tie_word_embeddings": raw.get("tie_word_embeddings", False)}
    return text | {name: _without_sections(text[name]) for name in DICTS if name in text}


def _without_sections(given: Any) -> Any:
    """Return a dict of the rotary embedding without the flag that the sections alternate."""
    return {k: v for k, v in given.items() if k != "mrope_interleaved"} if isinstance(given, dict) else given


def _rope_errors(text: dict[str, Any]) -> Iterator[str]:
    head_size = text.get("head_dim") or FAMILY.default_head_size
    sections = vision_fields.read_rope_field(text, "mrope_section")
    errors = list(vision_fields.section_errors(sections, head_size / 2 if is_size(head_size) else None))
    yield from errors
    if not errors and is_size(head_size) and max(3 * sections[1] - 2, 3 * sections[2] - 1) >= head_size // 2:
        yield f"mrope_section = {sections!r}; supported: about as many numbers of height and width as of time"
    interleaved = vision_fields.read_rope_field(text, "mrope_interleaved")
    if interleaved is not True:
        yield f"mrope_interleaved = {interleaved!r}; supported: True"
    if all(isinstance(text.get(name), dict | None) for name in DICTS):
        if rope_parameters(text, default_theta=0)["rope_theta"] == 0:
            yield "rope_theta = None; supported: a number above 1 (versions of transformers use different defaults)"


def _tower_errors(vision: dict[str, Any], text: dict[str, Any]) -> Iterator[str]:
    """Yield every unsupported field of the vision tower, with what would be supported."""
    given, vision = vision, _DEFAULTS | vision
    wrong = [name for name in _SIZES.values() if not is_size(vision[name])]
    for name in wrong:
        yield f"vision_config.{name} = {vision[name]!r}; supported: a positive integer"
    layers = vision[_LAYERS]
    if not isinstance(layers, list) or not all(map(is_count, layers)):
        yield f"vision_config.{_LAYERS} = {layers!r}; supported: a list of layers"
    elif not wrong:
        try:
            VisionConfig(**{ours: vision[theirs] for ours, theirs in _SIZES.items()}, deepstack_layers=tuple(layers))
        except ValueError as error:
            yield f"vision_config: {error}"
        if is_count(text["num_hidden_layers"]) and len(layers) > text["num_hidden_layers"]:
            yield f"vision_config.{_LAYERS} = {layers!r}; supported: no more than num_hidden_layers of the text"
    if vision["hidden_act"] != _ACTIVATION:
        yield f"vision_config.hidden_act = {vision['hidden_act']!r}; supported: {_ACTIVATION!r}"
    if vision["out_hidden_size"] != text["hidden_size"]:
        yield f"vision_config.out_hidden_size = {vision['out_hidden_size']!r}; supported: hidden_size of the text"
    yield from vision_fields.tower_rope_errors(vision)
    known = (*_SIZES.values(), _LAYERS, "out_hidden_size", "hidden_act", "rope_parameters")
    yield from unknown_fields(given, known, inside="vision_config.")
