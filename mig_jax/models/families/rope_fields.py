"""The rotary embedding in config.json, as transformers 4 and 5 write it: to `RopeScaling` and back."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from mig_jax.models.rope import FIELDS, RopeScaling, attention_factor

DICTS = ("rope_scaling", "rope_parameters")
# Names of the type of scaling, which transformers 4.43 changed.
_TYPES = ("rope_type", "type")
# Fields of the dicts that every type may have, and that are checked elsewhere.
_COMMON = (*_TYPES, "rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
# Fields that a type does not read → values with which they change nothing. `finetuned` is a note on how the model was
# trained. `mrope_section` splits frequencies among three positions, which are equal for text; Qwen2.5-VL checks it.
_NEUTRAL = {
    "factor": (1,),
    "attention_factor": (1,),
    "extrapolation_factor": (1,),
    "attn_factor": (1,),
    "finetuned": (True, False),
    "mrope_interleaved": (False,),
}
_UNREAD = ("mrope_section",)


def rope_parameters(raw: dict[str, Any], default_theta: float = 10_000.0) -> dict[str, Any]:
    """Return `rope_type`, `rope_theta` and the fields of that type, whichever version wrote them.

    transformers 4 writes `rope_theta` and, if the embedding is scaled, `rope_scaling`. transformers 5 writes everything
    in `rope_parameters`. Published recipes for longer contexts tell users to add `rope_scaling`, whichever version
    wrote the file. So a field counts wherever it is; `disagreements` yields those that have two values.

    Args:
      raw: config.json, or the part of it that describes the text decoder.
      default_theta: the family's `rope_theta` where none is given.
    """
    scaling, parameters = (raw.get(name) or {} for name in DICTS)
    merged = _without_nulls(parameters) | _without_nulls(scaling)
    kinds = [kind for kind in (_kind(scaling), _kind(parameters)) if kind not in (None, "default")]
    kind = kinds[0] if kinds else "default"
    theta = next(iter(_given(raw, "rope_theta").values()), default_theta)
    # transformers falls back to this context where the file gives none.
    context = raw.get("original_max_position_embeddings") or raw.get("max_position_embeddings")
    fallback = {"original_max_position_embeddings": context} if kind in ("llama3", "yarn") else {}
    return fallback | merged | {"rope_theta": theta, "rope_type": kind}


def disagreements(raw: dict[str, Any]) -> Iterator[str]:
    """Yield every field of the rotary embedding that config.json gives two values.

    A `rope_scaling` beside `rope_parameters` that scale nothing is a published recipe, see `rope_parameters`.
    """
    scaling, parameters = (raw.get(name) or {} for name in DICTS)
    fields = dict.fromkeys([*scaling, *parameters, "rope_theta", "original_max_position_embeddings"])
    for field in fields:
        values = _given(raw, field)
        if field not in _TYPES and len(dict.fromkeys(map(repr, map(_plain, values.values())))) > 1:
            given = " and ".join(f"{value!r} in {place}" for place, value in values.items())
            yield f"{field} is {given}; supported: one value"
    for name in DICTS:
        types = {_TYPE_ALIASES.get(value, value) for value in map((raw.get(name) or {}).get, _TYPES) if _is_name(value)}
        if len(types) > 1:
            yield f"{name} has the types {' and '.join(sorted(map(repr, types)))}; supported: one"
    kinds = _kind(scaling), _kind(parameters)
    if None not in kinds and kinds[0] != kinds[1] and kinds[1] != "default":
        yield f"rope type is {kinds[0]!r} in rope_scaling and {kinds[1]!r} in rope_parameters; supported: one type"


def field_errors(raw: dict[str, Any]) -> Iterator[str]:
    """Yield every field of `rope_scaling` and `rope_parameters` that its type does not read and that may matter."""
    parameters = rope_parameters(raw)
    kind = parameters["rope_type"]
    if not isinstance(kind, str) or kind != "default" and kind not in FIELDS:
        return  # `read_scaling` reports the type, whose fields nobody knows
    known = {*_COMMON, *_UNREAD, *sum(FIELDS.get(kind, ((), ())), ())}
    given = dict.fromkeys([*_without_nulls(raw.get("rope_scaling")), *_without_nulls(raw.get("rope_parameters"))])
    for field in given:
        value = parameters[field]
        neutral = _NEUTRAL.get(field, ())
        if field in known or any(value is x or value == x and not isinstance(value, bool) for x in neutral):
            continue
        is_untyped = kind == "default" and field in {name for fields in FIELDS.values() for name in sum(fields, ())}
        why = "without a rope_type that reads it" if is_untyped else f"of {kind} rope is not computed"
        yield f"{field} = {value!r} {why}; supported: {' or '.join(map(repr, neutral)) or 'absent'}"


def read_scaling(parameters: dict[str, Any]) -> RopeScaling | None:
    """Return the scaling in the result of `rope_parameters`, or None if nothing is scaled.

    Raises:
      ValueError: the type is unknown, or a field of it is missing or cannot be used; lists all such fields.
    """
    kind = parameters["rope_type"]
    if kind == "default":
        return None
    names = sum(FIELDS.get(kind, ((), ())), ()) if isinstance(kind, str) else ()
    given = {name: parameters[name] for name in names if parameters.get(name) is not None}
    fields: dict[str, Any] = {"factor": None} | given
    scaling = RopeScaling(kind, **fields)
    if scaling.attn_factor is None or scaling.attention_factor is None:
        return scaling
    # Both names of one factor, as `write_scaling` writes them.
    alone = dataclasses.replace(scaling, attention_factor=None)
    if abs(attention_factor(alone) - scaling.attention_factor) > 1e-6 * scaling.attention_factor:
        raise ValueError(
            f"attention_factor = {scaling.attention_factor!r} of yarn rope, attn_factor = {scaling.attn_factor!r}, "
            f"which makes it {attention_factor(alone):.6g}; supported: one of them"
        )
    return alone


def extended_context(scaling: RopeScaling | None) -> int:
    """Return the context in tokens to which yarn extends that of pretraining; 0 for other types.

    Qwen's recipe adds yarn and leaves `max_position_embeddings` at the context of pretraining.
    """
    if scaling is None or scaling.kind != "yarn":
        return 0
    return int(scaling.factor * (scaling.original_max_position_embeddings or 0))


def write_scaling(scaling: RopeScaling) -> dict[str, Any]:
    """Return `rope_scaling` of config.json, with only the fields that its type reads.

    Beside `attn_factor`, which serving engines read, it has the same factor as transformers reads it.
    """
    values = dataclasses.asdict(scaling)
    names = sum(FIELDS[scaling.kind], ())
    written = {"rope_type": scaling.kind, **{name: values[name] for name in names if values[name] is not None}}
    return written | ({"attention_factor": attention_factor(scaling)} if scaling.attn_factor is not None else {})


# M-RoPE of Qwen2.5-VL scales nothing: it splits the frequencies among three positions, which are equal for text.
_TYPE_ALIASES = {"mrope": "default"}


def _kind(given: dict[str, Any]) -> Any:
    """Return the type of scaling of one dict, "default" for none; None if it names no type."""
    named = next((given[name] for name in _TYPES if given.get(name)), None)
    return _TYPE_ALIASES.get(named, named) if isinstance(named, str) else named


def _given(raw: dict[str, Any], field: str) -> dict[str, Any]:
    """Return every value of a field of the rotary embedding that is not null, by the place where it is given."""
    places = {name: raw.get(name) or {} for name in DICTS}
    if field in ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings"):
        places["config.json"] = raw
    return {place: fields[field] for place, fields in places.items() if fields.get(field) is not None}


def _without_nulls(given: dict[str, Any] | None) -> dict[str, Any]:
    return {field: value for field, value in (given or {}).items() if value is not None}


def _plain(value: Any) -> Any:
    """Return a number as a float, so that 1000000 and 1000000.0 are one value."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _is_name(value: Any) -> bool:
    return isinstance(value, str)
