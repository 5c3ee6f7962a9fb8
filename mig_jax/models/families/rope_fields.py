"""The rotary embedding in config.json, as transformers 4 and 5 write it: to `RopeScaling` and back."""

import dataclasses
from typing import Any

from mig_jax.models.rope import FIELDS, RopeScaling


def rope_parameters(raw: dict[str, Any]) -> dict[str, Any]:
    """Return `rope_type`, `rope_theta` and the fields of that type, whichever version wrote them.

    transformers 4 writes `rope_theta` and, if the embedding is scaled, `rope_scaling`. transformers 5 writes everything
    in `rope_parameters`.
    """
    given = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    theta = given.get("rope_theta") or raw.get("rope_theta") or 10_000.0
    kind = given.get("rope_type") or given.get("type") or "default"
    # M-RoPE of Qwen2.5-VL scales nothing: it splits the frequencies among three positions, which are equal for text.
    kind = "default" if kind == "mrope" else kind
    # transformers falls back to this context where the file gives none.
    context = {"original_max_position_embeddings": raw.get("max_position_embeddings")}
    return (context if kind in ("llama3", "yarn") else {}) | given | {"rope_theta": theta, "rope_type": kind}


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
    return RopeScaling(kind, **fields)


def write_scaling(scaling: RopeScaling) -> dict[str, Any]:
    """Return `rope_scaling` of config.json, with only the fields that its type reads."""
    values = dataclasses.asdict(scaling)
    names = sum(FIELDS[scaling.kind], ())
    return {"rope_type": scaling.kind, **{name: values[name] for name in names if values[name] is not None}}
