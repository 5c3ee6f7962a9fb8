"""Adapters in a tree of parameters: added, removed, and merged into the projections.

Without its adapters, a tree is that of the base model and has the same buffers. So a KL reference that is the base
needs no second copy:

    params = lora.add(params, config, key)              # config.lora describes the adapters
    base = decoder.bind(dataclasses.replace(config, lora=None), lora.strip(params))
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from mig_jax.models import adapters
from mig_jax.models.adapters import PROJECTIONS, LoraConfig
from mig_jax.models.decoder import DecoderConfig


def is_adapter(path: str) -> bool:
    """Return whether the parameter at a path, such as "layers/mlp/up_lora_a", belongs to an adapter."""
    return path.endswith(("_lora_a", "_lora_b"))


def add(params: dict[str, Any], config: DecoderConfig, key: jax.Array) -> dict[str, Any]:
    """Return `params` with new adapters; the other parameters are the same buffers in both.

    Args:
      params: of a decoder without adapters.
      config: of the result, with `lora`.
      key: for the random values of A.
    """
    flat, rngs, lora = _flatten(params), nnx.Rngs(params=key), require_lora(config)
    for name in lora.modules:
        path = param_path(name)
        shape = flat[path].shape
        for suffix, adapter in adapters.init_adapter(name, shape, ("",) * len(shape), lora.rank, rngs).items():
            flat[path + suffix] = adapter[...]
    return traverse_util.unflatten_dict(flat, sep="/")


def strip(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of the base model, without adapters: the same buffers."""
    kept = {path: x for path, x in _flatten(params).items() if not is_adapter(path)}
    return traverse_util.unflatten_dict(kept, sep="/")


def merge(params: dict[str, Any], config: DecoderConfig) -> dict[str, Any]:
    """Return W + (alpha / rank) · A B in place of W, A and B; summed in float32 and rounded to the dtype of W."""
    flat, lora = _flatten(params), require_lora(config)
    for name in lora.modules:
        path = param_path(name)
        w, a, b = flat[path], flat.pop(path + "_lora_a"), flat.pop(path + "_lora_b")
        delta = jax.vmap(functools.partial(jnp.tensordot, axes=1))(a, b) * (lora.alpha / lora.rank)
        flat[path] = (w.astype(jnp.float32) + delta).astype(w.dtype)
    return traverse_util.unflatten_dict(flat, sep="/")


def param_path(name: str) -> str:
    """Return the path of a projection, such as "layers/mlp/up"."""
    return f"layers/{PROJECTIONS[name].module}/{name}"


def require_lora(config: DecoderConfig) -> LoraConfig:
    """Return `config.lora` of a config that has one."""
    assert config.lora is not None, "this config has no adapters"
    return config.lora


def _flatten(params: dict[str, Any]) -> dict[str, Any]:
    return dict(traverse_util.flatten_dict(params, sep="/"))
