"""Hugging Face folders (config.json, model.safetensors) to `decoder` parameters and back, by one table.

Loading looks at every header first and reports all that is wrong at once; only then are tensors read, one stacked
parameter at a time. Nothing is half loaded and, since files are renamed into place, nothing is half saved.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from mig_jax.models import decoder, hf_config
from mig_jax.models.decoder import DecoderConfig

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_DTYPES = ("F32", "F16", "BF16")


class _Tensor(NamedTuple):
    """How Hugging Face stores a parameter: `name`, with {} for the layer; and its layout.

    inputs: how many of our leading axes are inputs. A linear layer has its inputs first here and last there, and no
      separate axes for heads: `[D, N, H]` (1 input) is stored as `[N·H, D]`, `[N, H, D]` (2 inputs) as `[D, N·H]`.
      0: a vector there. None: the same layout.
    """

    name: str
    inputs: int | None


_TABLE = {
    "embedding": _Tensor("model.embed_tokens.weight", None),
    "norm": _Tensor("model.norm.weight", 0),
    "head": _Tensor("lm_head.weight", 1),
    "layers/attention_norm": _Tensor("model.layers.{}.input_layernorm.weight", 0),
    "layers/attention/query": _Tensor("model.layers.{}.self_attn.q_proj.weight", 1),
    "layers/attention/key": _Tensor("model.layers.{}.self_attn.k_proj.weight", 1),
    "layers/attention/value": _Tensor("model.layers.{}.self_attn.v_proj.weight", 1),
    "layers/attention/out": _Tensor("model.layers.{}.self_attn.o_proj.weight", 2),
    "layers/attention/query_bias": _Tensor("model.layers.{}.self_attn.q_proj.bias", 0),
    "layers/attention/key_bias": _Tensor("model.layers.{}.self_attn.k_proj.bias", 0),
    "layers/attention/value_bias": _Tensor("model.layers.{}.self_attn.v_proj.bias", 0),
    "layers/attention/out_bias": _Tensor("model.layers.{}.self_attn.o_proj.bias", 0),
    "layers/attention/query_norm": _Tensor("model.layers.{}.self_attn.q_norm.weight", 0),
    "layers/attention/key_norm": _Tensor("model.layers.{}.self_attn.k_norm.weight", 0),
    "layers/mlp_norm": _Tensor("model.layers.{}.post_attention_layernorm.weight", 0),
    "layers/mlp/gate": _Tensor("model.layers.{}.mlp.gate_proj.weight", 1),
    "layers/mlp/up": _Tensor("model.layers.{}.mlp.up_proj.weight", 1),
    "layers/mlp/down": _Tensor("model.layers.{}.mlp.down_proj.weight", 1),
}


def load(folder: str | os.PathLike, config: DecoderConfig, *, shardings: Any = None) -> dict[str, Any]:
    """Parameters of `config`, in its `param_dtype`, from model.safetensors or the shards of its index.

    Args:
      shardings: a sharding for each parameter (`sharding.shardings`); None puts all on the default device.

    Raises:
      ValueError: files are missing or broken; or tensors are missing, unexpected, of another shape or of a dtype that
        is no float. All are listed.
    """
    folder = pathlib.Path(folder)
    expected = traverse_util.flatten_dict(decoder.abstract_params(config), sep="/")
    placed = traverse_util.flatten_dict(shardings, sep="/") if shardings else dict.fromkeys(expected)
    stored, problems = _open(folder)
    problems = problems or list(_mismatches(expected, stored, config))
    if problems:
        raise ValueError(f"{folder}: not the weights that the config asks for:\n  " + "\n  ".join(problems))
    params = {path: jax.device_put(_read(path, want, stored), placed[path]) for path, want in expected.items()}
    return traverse_util.unflatten_dict(params, sep="/")


def save(
    params: dict[str, Any],
    config: DecoderConfig,
    folder: str | os.PathLike,
    *,
    dtype: str = "float32",
    eos_ids: tuple[int, ...] = (),
    pad_id: int | None = None,
) -> None:
    """Write a folder that transformers, and `load`, can read: model.safetensors, then the two configs.

    Args:
      dtype: of the stored tensors, "float32", "bfloat16" or "float16".
      eos_ids, pad_id: see `write_config`.

    Raises:
      ValueError: no family of Hugging Face has this config; nothing is written.
      AssertionError: the parameters are not those of the config.
    """
    chex.assert_trees_all_equal_shapes(params, decoder.abstract_params(config))
    hf_config.family_of(config)
    tensors = {}
    for path, param in traverse_util.flatten_dict(params, sep="/").items():
        value = np.asarray(param).astype(jnp.dtype(dtype))
        parts = value if _is_stacked(path) else [value]
        for name, part in zip(_names(path, len(parts)), parts, strict=True):
            tensors[name] = np.ascontiguousarray(_to_hf(part, _TABLE[path].inputs))
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # A name that no reader looks for, until all is written.
    unfinished = folder / f"{_SINGLE}.part"
    safetensors.numpy.save_file(tensors, unfinished, metadata={"format": "pt"})
    unfinished.replace(folder / _SINGLE)
    hf_config.write_config(config, folder, dtype=dtype, eos_ids=eos_ids, pad_id=pad_id)


def _open(folder: pathlib.Path) -> tuple[dict[str, Any], list[str]]:
    """The open file that holds each tensor, and what is wrong with the files."""
    index, files, problems = folder / _INDEX, [_SINGLE], []
    if not (folder / _SINGLE).exists() and index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    stored = {}
    for file in files:
        try:
            opened = safetensors.safe_open(folder / file, framework="numpy")
        except (OSError, safetensors.SafetensorError) as error:
            problems.append(f"{file}: {error}")
        else:
            stored |= dict.fromkeys(opened.keys(), opened)
    return stored, problems


def _mismatches(expected: dict[str, Any], stored: dict[str, Any], config: DecoderConfig) -> Iterator[str]:
    """Every tensor that is missing, unexpected, or not what the table makes of the config; headers only."""
    unexpected = set(stored)
    for path, want in expected.items():
        part_shape = want.shape[1:] if _is_stacked(path) else want.shape
        shape = _hf_shape(part_shape, _TABLE[path].inputs)
        for name in _names(path, want.shape[0]):
            unexpected.discard(name)
            if name not in stored:
                yield f"missing: {name} {list(shape)}"
                continue
            header = stored[name].get_slice(name)
            if tuple(header.get_shape()) != shape:
                yield f"wrong shape: {name} is {header.get_shape()}, not {list(shape)}"
            if header.get_dtype() not in _DTYPES:
                yield f"unsupported dtype: {name} is {header.get_dtype()}, not one of {', '.join(_DTYPES)}"
    for name in sorted(unexpected):
        is_copy_of_embedding = config.tied_head and name == _TABLE["head"].name
        if not is_copy_of_embedding and not name.endswith("rotary_emb.inv_freq"):
            yield f"unexpected: {name}"


def _read(path: str, want: jax.ShapeDtypeStruct, stored: dict[str, Any]) -> np.ndarray:
    """One parameter, its layers stacked."""
    value = np.empty(want.shape, want.dtype)
    parts = value if _is_stacked(path) else value[None]
    for part, name in zip(parts, _names(path, len(parts)), strict=True):
        part[...] = _from_hf(stored[name].get_tensor(name), part.shape, _TABLE[path].inputs)
    return value


def _is_stacked(path: str) -> bool:
    return "{}" in _TABLE[path].name


def _names(path: str, layers: int) -> list[str]:
    """What Hugging Face calls the layers of a parameter; one name for what is not stacked."""
    return [_TABLE[path].name.format(layer) for layer in range(layers if _is_stacked(path) else 1)]


def _hf_shape(shape: tuple[int, ...], inputs: int | None) -> tuple[int, ...]:
    if inputs is None:
        return shape
    size_in, size_out = math.prod(shape[:inputs]), math.prod(shape[inputs:])
    return (size_out, size_in) if inputs else (size_out,)


def _to_hf(x: np.ndarray, inputs: int | None) -> np.ndarray:
    hf_shape = _hf_shape(x.shape, inputs)
    return x if inputs is None else x.reshape(hf_shape[::-1]).T


def _from_hf(x: np.ndarray, shape: tuple[int, ...], inputs: int | None) -> np.ndarray:
    return x if inputs is None else x.T.reshape(shape)
