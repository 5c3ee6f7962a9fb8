"""Fields of config.json that families with a vision tower of Qwen share: parts, image tokens, rotary embeddings."""

from collections.abc import Iterator, Mapping
from typing import Any

from mig_jax.models.families.known_fields import unknown_fields
from mig_jax.models.families.rope_fields import DICTS
from mig_jax.models.families.text_errors import is_count
from mig_jax.models.qwen2_vl import ROPE_THETA

# Field of a vision tower's config → field of config.json, and its value where absent.
_TOKENS = {
    "image_token_id": ("image_token_id", 151_655),
    "start_token_id": ("vision_start_token_id", 151_652),
    "end_token_id": ("vision_end_token_id", 151_653),
}


def read_tokens(raw: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of the image tokens, under the names of `vision.VisionShape`."""
    return {ours: raw.get(theirs, default) for ours, (theirs, default) in _TOKENS.items()}


def write_tokens(tower: Any) -> dict[str, int]:
    """Return the ids of the image tokens for config.json."""
    return {theirs: getattr(tower, ours) for ours, (theirs, _) in _TOKENS.items()}


def token_errors(raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield every image token that is no id."""
    for theirs, _ in _TOKENS.values():
        if theirs in raw and not is_count(raw[theirs]):
            yield f"{theirs} = {raw[theirs]!r}; supported: an id"


def part_errors(raw: Mapping[str, Any], parts: Mapping[str, tuple[str | None, ...]]) -> Iterator[str]:
    """Yield every part of another family.

    Args:
      raw: config.json.
      parts: name of a part, such as `text_config` → values of its `model_type`; the second is named in messages.
    """
    for part, supported in parts.items():
        fields = raw.get(part)
        found = fields.get("model_type") if isinstance(fields, dict) else None
        if found not in supported:
            yield f"{part}.model_type = {found!r}; supported: {supported[1]!r}"


def tower_rope_errors(vision: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is not supported in the rotary embedding of the tower, which transformers 5 writes."""
    rope, inside = vision.get("rope_parameters") or {}, "vision_config.rope_parameters"
    if not isinstance(rope, dict):
        yield f"{inside} = {rope!r}; supported: an object of fields"
        return
    if rope.get("rope_theta", ROPE_THETA) != ROPE_THETA:
        yield f"vision_config.rope_theta = {rope['rope_theta']!r}; supported: {ROPE_THETA}"
    if rope.get("rope_type", "axial") not in ("axial", "default"):
        yield f"{inside}.rope_type = {rope['rope_type']!r}; supported: 'axial'"
    yield from unknown_fields(rope, ("rope_theta", "rope_type"), inside=f"{inside}.")


def read_rope_field(text: Mapping[str, Any], field: str) -> Any:
    """Return a field such as `mrope_section` of the dicts of the decoder's rotary embedding; None if absent."""
    given = [text[name] for name in DICTS if isinstance(text.get(name), dict)]
    return next((fields[field] for fields in given if field in fields), None)


def section_errors(sections: Any, half_head: Any) -> Iterator[str]:
    """Yield an error if `mrope_section` is not three numbers of frequencies that add up to half a head's size."""
    if not isinstance(sections, list) or len(sections) != 3 or not all(map(is_count, sections)):
        yield f"mrope_section = {sections!r}; supported: three numbers, for time, height and width"
    elif half_head is not None and sum(sections) != half_head:
        yield f"mrope_section = {sections!r}; supported: numbers that add up to half a head's size"
