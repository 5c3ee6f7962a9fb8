"""Samples as lines of JSON, for the processes that compute rewards: data is passed on, and never executed."""

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mig_jax.data.problem import Problem
from mig_jax.rollout.outcomes import Sample
from mig_jax.text.response_format import CharSpan, Response

_CLASSES: dict[str, Any] = {"Sample": Sample, "Problem": Problem, "Response": Response, "CharSpan": CharSpan}
_PLAIN = (str, int, float, bool, type(None))


def to_line(samples: Sequence[Sample]) -> bytes:
    """Return samples as one line. Values of rows that JSON does not have, such as dates, become texts."""
    return json.dumps([_pack(sample) for sample in samples]).encode() + b"\n"


def from_line(line: bytes) -> list[Sample]:
    """Return the samples of a line of `to_line`."""
    return [_unpack(value) for value in json.loads(line)]


def _pack(value: Any) -> Any:
    """Return a value as JSON; what JSON has not is a dict {"is": its type, "of": its content}."""
    if type(value) in _PLAIN:
        return value
    name = type(value).__name__
    if isinstance(value, Sample):
        return {"is": name, "of": [_pack(getattr(value, field.name)) for field in dataclasses.fields(value)]}
    if isinstance(value, tuple | list):
        items = list(value) if {*map(type, value)} <= {*_PLAIN} else [_pack(item) for item in value]
        return items if type(value) is list else {"is": name if name in _CLASSES else "tuple", "of": items}
    if isinstance(value, bytes):
        return {"is": "bytes", "of": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"is": "dict", "of": [[_pack(key), _pack(item)] for key, item in value.items()]}
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        return _pack(value.tolist())
    return str(value)


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    name, content = value["is"], value["of"]
    if name == "bytes":
        return base64.b64decode(content)
    items = [_unpack(item) for item in content]
    if name in ("tuple", "dict"):
        return tuple(items) if name == "tuple" else dict(items)
    return _CLASSES[name](*items)
