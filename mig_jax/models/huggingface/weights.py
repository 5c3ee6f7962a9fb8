"""Weights on disk (Hugging Face folders of safetensors, GGUF files) to `decoder` parameters and back, by one table.

Loading looks at every header first and reports all that is wrong at once; only then are tensors read, one layer of one
parameter at a time and of that only what the devices of this process hold, straight to where it belongs. So the host
never holds more than a layer, or the embedding, in the dtype of the file; the cast happens on the device.
"""

import functools
import math
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mig_jax.distributed import sharding
from mig_jax.models import decoder
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import gguf as gguf_file
from mig_jax.models.huggingface import layout, tensor_files
from mig_jax.models.huggingface.tensor_files import StoredTensor, Tensors, Unwritten

_DTYPES = ("float32", "bfloat16", "float16")
# Tables of rotary frequencies that some files carry; the config says the same.
_ROTARY = ("rotary_emb.inv_freq", "rope_freqs.weight")


def load(path: str | os.PathLike, config: DecoderConfig, *, shardings: Any = None) -> dict[str, Any]:
    """Parameters of `config`, in its `param_dtype`, from a folder of safetensors or from a .gguf file.

    Args:
      path: with model.safetensors, or with the shards of model.safetensors.index.json; or the file.
      shardings: a `NamedSharding` for each parameter (`sharding.shardings`); None puts all on the default device.

    Raises:
      ValueError: files are missing or broken; or tensors are missing, unexpected, of another shape or of a dtype that
        is no float. All are listed.
    """
    expected = traverse_util.flatten_dict(decoder.abstract_params(config), sep="/")
    placed = traverse_util.flatten_dict(shardings, sep="/") if shardings else dict.fromkeys(expected)
    tensors, problems = _open(path, config)
    if tensors or not problems:  # if nothing could be opened, nothing is known to be missing
        problems += _mismatches(tensors, config)
    if problems:
        raise ValueError(f"{path}: not the weights that the config asks for:\n  " + "\n  ".join(problems))
    params = {}
    # What is read in the largest pieces goes first, while nothing else is in memory yet.
    for name in sorted(expected, key=lambda name: -math.prod(layout.part_shape(name, expected[name]))):
        parts = [tensors[part] for part in layout.names(name, expected[name])]
        params[name] = _load_param(name, expected[name], parts, placed[name])
    return traverse_util.unflatten_dict({name: params[name] for name in expected}, sep="/")


def save(
    params: dict[str, Any],
    config: DecoderConfig,
    folder: str | os.PathLike,
    *,
    dtype: str | None = None,
    max_shard_bytes: int = 5_000_000_000,
    eos_ids: tuple[int, ...] = (),
    pad_id: int | None = None,
) -> None:
    """Write a folder that transformers, and `load`, can read: safetensors, then the two configs.

    Nothing is half saved, see `tensor_files.write_folder`; the host never holds more than one file. All processes must
    call this; the first one writes, and the others send it, layer by layer, what they hold.

    Args:
      dtype: of the stored tensors, "float32", "bfloat16" or "float16"; None: as the parameters are.
      max_shard_bytes: if the tensors have more than this, they go to several files and an index.
      eos_ids, pad_id: see `write_config`.

    Raises:
      ValueError: no family of Hugging Face has this config, or it is no such dtype; nothing is written.
      AssertionError: the parameters are not those of the config.
    """
    chex.assert_trees_all_equal_shapes(params, decoder.abstract_params(config))
    hf_config.family_of(config)
    folder = pathlib.Path(folder)
    dtype = dtype or params["embedding"].dtype.name
    if dtype not in _DTYPES:
        raise ValueError(f"dtype={dtype!r}: weights are stored as {', '.join(_DTYPES)}")
    tensors = {}
    for path, param in traverse_util.flatten_dict(params, sep="/").items():
        shape, is_stacked = layout.stored_shape(path, param, config), layout.is_stacked(path)
        for layer, name in enumerate(layout.names(path, param)):
            inputs = layout.TABLE[path].inputs
            fetch = functools.partial(_fetch, param, layer if is_stacked else None, dtype, inputs, shape)
            tensors[name] = Unwritten(math.prod(shape) * jnp.dtype(dtype).itemsize, fetch)
    if jax.process_index():
        for tensor in tensors.values():  # in the order in which the first process asks for them
            tensor.fetch()
        return
    tensor_files.write_folder(tensors, folder, max_shard_bytes=max_shard_bytes)
    hf_config.write_config(config, folder, dtype=dtype, eos_ids=eos_ids, pad_id=pad_id)


def _open(path: str | os.PathLike, config: DecoderConfig) -> tuple[Tensors, list[str]]:
    """The tensors under the names of the table, and what is wrong with the files."""
    if gguf_file.is_gguf(path):
        return gguf_file.open_file(path, [*layout.stored_shapes(config), layout.TABLE["head"].name])
    found, problems = tensor_files.open_folder(path)
    tensors = {}
    for name, tensor in found.items():
        known = layout.our_name(name)
        if known in tensors:
            problems.append(f"stored twice: {known} and {name}")
        tensors[known] = tensor
    return tensors, problems


def _mismatches(tensors: Tensors, config: DecoderConfig) -> Iterator[str]:
    """Every tensor that is missing, unexpected, or not what the table makes of the config; headers only."""
    shapes = layout.stored_shapes(config)
    for name, shape in shapes.items():
        if name not in tensors:
            yield f"missing: {name} {list(shape)}"
        elif tensor := tensors[name]:  # else its file is broken, which has been said
            yield from _differences(name, tensor, shape, config)
    for name in sorted(set(tensors) - set(shapes)):
        is_copy_of_embedding = config.tied_head and name == layout.TABLE["head"].name
        if not is_copy_of_embedding and not name.endswith(_ROTARY):
            yield f"unexpected: {name}"


def _differences(name: str, tensor: StoredTensor, shape: tuple[int, ...], config: DecoderConfig) -> Iterator[str]:
    if tensor.shape != shape:
        has_vocabulary = name in (layout.TABLE["embedding"].name, layout.TABLE["head"].name)
        is_vocabulary = has_vocabulary and tensor.shape[1:] == shape[1:]
        why = f": the config has vocab_size={config.vocab_size}, the file {tensor.shape[0]}" if is_vocabulary else ""
        yield f"wrong shape: {name} is {list(tensor.shape)}, not {list(shape)}{why}"
    if not tensor.is_float:
        yield f"unsupported dtype: {name} is {tensor.dtype}, no float that can be read"


def _load_param(path: str, want: jax.ShapeDtypeStruct, parts: list[StoredTensor], sharding: NamedSharding | None):
    """One parameter, its layers written one after the other into what will hold them all."""
    shape, inputs = layout.part_shape(path, want), layout.TABLE[path].inputs
    if not layout.is_stacked(path):
        return _place(parts[0], shape, inputs, sharding).astype(want.dtype)
    layer_sharding = sharding and NamedSharding(sharding.mesh, P(*sharding.spec[1:]))
    stack = jnp.zeros(want.shape, want.dtype, device=sharding)
    for layer, part in enumerate(parts):
        stack = _writer(sharding)(stack, _place(part, shape, inputs, layer_sharding), layer)
    return stack


@functools.cache
def _writer(sharding: NamedSharding | None) -> Callable[[jax.Array, jax.Array, int], jax.Array]:
    """Writes a layer into the stack, in place."""

    def write(stack, x, layer):
        return jax.lax.dynamic_update_index_in_dim(stack, x.astype(stack.dtype), layer, axis=0)

    return jax.jit(write, donate_argnums=0, out_shardings=sharding)


def _place(tensor: StoredTensor, shape: tuple[int, ...], inputs: int | None, sharding: NamedSharding | None):
    """A tensor on its devices, in our layout and its own dtype; what several devices hold is read once."""
    if sharding is None:
        return jnp.asarray(layout.read(tensor, shape, inputs, (slice(None),) * len(shape)))
    seen = {}

    def read(index):
        key = tuple((part.start, part.stop) for part in index)
        if key not in seen:
            seen[key] = layout.read(tensor, shape, inputs, index)
        return seen[key]

    return jax.make_array_from_callback(shape, sharding, read)


@jax.jit
def _layer(stack: jax.Array, layer: int) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(stack, layer, axis=0, keepdims=False)


def _fetch(param: jax.Array, layer: int | None, dtype: str, inputs: int | None, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter, or one layer of it, as Hugging Face stores it."""
    part = sharding.to_host(param if layer is None else _layer(param, layer)).astype(dtype)
    return layout.to_stored(part, inputs, shape)
