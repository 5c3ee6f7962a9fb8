"""Parameters of the decoder from and to disk: folders of safetensors, and GGUF files (read only).

Loading reads every header first and reports all errors at once. Only then are tensors read, one layer of one parameter
at a time, and of each only what the devices of this process hold. So the host never holds more than one layer, or the
embedding, in the dtype of the file; the cast happens on the device.
"""

import functools
import math
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import traverse_util
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models import decoder, families
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.families.decoder_tensors import TensorLayout
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import gguf as gguf_file
from mig_jax.models.huggingface import layout, tensor_files
from mig_jax.models.huggingface.origin import Origin
from mig_jax.models.huggingface.tensor_files import DiskTensor, NewTensor, Tensors

_DTYPES = ("float32", "bfloat16", "float16")
# Tables of rotary frequencies that some files hold; they follow from the config.
_ROTARY = ("rotary_emb.inv_freq", "rope_freqs.weight")
# Errors of a message: a mixture of experts has tens of thousands of tensors.
_MAX_ERRORS = 500
# Tensors that are not loaded → what they are for, which neither training nor sampling of text needs.
_NOT_LOADED = {
    "model.mtp_layers.": "they predict further tokens",
    "vision_tower.": "they read images, which are refused",
    "multi_modal_projector.": "they read images, which are refused",
}


def load(path: str | os.PathLike, config: DecoderConfig, *, shardings: Any = None) -> dict[str, Any]:
    """Load the parameters of `config`, in its `param_dtype`, from a folder of safetensors or a .gguf file.

    Args:
      path: folder with model.safetensors, or with the shards of model.safetensors.index.json; or the .gguf file.
      shardings: a `NamedSharding` for each parameter (`sharding.shardings`); None: all on the default device.

    Raises:
      UserError: files are missing or damaged; or tensors are missing, unexpected, or of another shape, or their dtype
        is not floating-point. Lists all of them, up to `_MAX_ERRORS`.
    """
    expected = layout.flatten(decoder.abstract_params(config))
    sharding_of = layout.flatten(shardings) if shardings else dict.fromkeys(expected)
    tensors, errors = _open(path, config)
    if tensors or not errors:  # if no file could be opened, no tensor is known to be missing
        errors += _tensor_errors(tensors, config)
    if not errors:
        errors += _head_errors(cast("dict[str, DiskTensor]", tensors), config)
    if errors:
        shown = [*errors[:_MAX_ERRORS], *([f"and {len(errors) - _MAX_ERRORS} more"] if errors[_MAX_ERRORS:] else [])]
        raise UserError(f"{path}: the tensors are not those of the config:\n  " + "\n  ".join(shown))
    for prefix, purpose in _NOT_LOADED.items():
        if any(name.startswith(prefix) for name in tensors):
            logging.warning("%s: %s* are not loaded, %s; saved models lack them", path, prefix, purpose)
    complete = cast("dict[str, DiskTensor]", tensors)
    params = {}
    # Those read in the largest pieces go first, while nothing else is in memory yet.
    table = layout.tensor_table(config)
    for key in sorted(expected, key=lambda key: -math.prod(layout.layer_shape(table[key], expected[key]))):
        found = [complete[name] for name in layout.disk_names(table[key], expected[key])]
        params[key] = _load_param(table[key], expected[key], found, sharding_of[key])
    return traverse_util.unflatten_dict({key: params[key] for key in expected}, sep="/")


def save(
    params: dict[str, Any],
    config: DecoderConfig,
    folder: str | os.PathLike,
    *,
    dtype: str | None = None,
    max_shard_bytes: int = 5_000_000_000,
    eos_ids: tuple[int, ...] = (),
    pad_id: int | None = None,
    origin: Origin | None = None,
) -> None:
    """Write a folder that transformers and `load` can read: safetensors, then generation_config.json and config.json.

    The folder is never half written, see `tensor_files.write_folder`; the host never holds more than one file. All
    processes must call this. The first one writes; the others send it, layer by layer, what they hold.

    Args:
      dtype: of the tensors on disk, "float32", "bfloat16" or "float16"; None: that of the embedding.
      max_shard_bytes: maximum size of a file; larger models are written as several files and an index.
      eos_ids, pad_id: see `config.write_config`.
      origin: of the model that this one was trained from; what its configs hold besides is kept.

    Raises:
      UserError: no family of Hugging Face has this config, or the dtype is another; nothing is written.
      AssertionError: the parameters are not those of the config.
    """
    chex.assert_trees_all_equal_shapes(params, decoder.abstract_params(config))
    families.family_of(config)
    dtype = dtype or params["embedding"].dtype.name
    if dtype not in _DTYPES:
        raise UserError(f"dtype={dtype!r}: parameters can be saved as {', '.join(_DTYPES)}")
    tensors = {}
    for path, param in layout.flatten(params).items():
        tensor = layout.tensor_table(config)[path]
        shape = layout.disk_shape(tensor, param, config)
        for index, name in zip(layout.disk_indices(tensor, param), layout.disk_names(tensor, param), strict=True):
            fetch = functools.partial(_fetch, param, index, dtype, tensor.inputs, shape)
            tensors[name] = NewTensor(math.prod(shape) * jnp.dtype(dtype).itemsize, fetch)
    if jax.process_index():
        for tensor in tensors.values():  # in the order in which the first process asks for them
            tensor.fetch()
        return
    tensor_files.write_folder(tensors, pathlib.Path(folder), max_shard_bytes=max_shard_bytes)
    origin, ids = origin or Origin(), {"eos_ids": eos_ids, "pad_id": pad_id}
    hf_config.write_generation_config(folder, base=origin.generation, **ids)
    hf_config.write_config(config, folder, dtype=dtype, base=origin.config, **ids)


def _open(path: str | os.PathLike, config: DecoderConfig) -> tuple[Tensors, list[str]]:
    """Return the tensors under the names of `layout.tensor_table`, and what is wrong with the files."""
    names = [*layout.disk_shapes(config), layout.tensor_table(config)["head"].name]
    if gguf_file.is_gguf(path):
        return gguf_file.open_file(path, names)
    found, errors = tensor_files.open_folder(path)
    tensors: Tensors = {}
    name_of = {layout.canonical_name(name): name for name in names}
    for name, tensor in found.items():
        for canonical, part in layout.split_experts(layout.canonical_name(name), tensor).items():
            known = name_of.get(canonical, canonical)
            if known in tensors:
                errors.append(f"on disk twice: {known} and {name}")
            tensors[known] = part
    return tensors, errors


def _tensor_errors(tensors: Tensors, config: DecoderConfig) -> Iterator[str]:
    """Yield every tensor that is missing, unexpected, or not as the config requires; reads headers only."""
    shapes, head = layout.disk_shapes(config), layout.tensor_table(config)["head"].name
    for name, shape in shapes.items():
        if name not in tensors:
            yield f"missing: {name} {list(shape)}"
        elif tensor := tensors[name]:  # None: its file is broken, which is already listed
            yield from _header_errors(name, tensor, shape, config)
    for name in sorted(set(tensors) - set(shapes)):
        is_copy_of_embedding = config.tied_head and name == head
        if not is_copy_of_embedding and not name.endswith(_ROTARY) and not name.startswith(tuple(_NOT_LOADED)):
            yield f"unexpected: {name}"


def _header_errors(name: str, tensor: DiskTensor, shape: tuple[int, ...], config: DecoderConfig) -> Iterator[str]:
    if tensor.shape != shape:
        table = layout.tensor_table(config)
        has_vocabulary = name in (table["embedding"].name, table["head"].name)
        is_vocabulary = has_vocabulary and tensor.shape[1:] == shape[1:]
        why = f": the config has vocab_size={config.vocab_size}, the file {tensor.shape[0]}" if is_vocabulary else ""
        yield f"wrong shape: {name} is {list(tensor.shape)}, not {list(shape)}{why}"
    if not tensor.is_float:
        yield f"unsupported dtype: {name} is {tensor.dtype}, not a floating-point type that can be read"


def _head_errors(tensors: dict[str, DiskTensor], config: DecoderConfig) -> Iterator[str]:
    """Yield an error if the file of a model with a tied head has a head that is not the embedding.

    Versions of transformers differ in which of the two they compute with.
    """
    name, embedding_name = (layout.tensor_table(config)[path].name for path in ("head", "embedding"))
    head, embedding = tensors.get(name), tensors.get(embedding_name)
    if config.tied_head and head and embedding and not _are_equal(head, embedding):
        yield (
            f"{name} differs from {embedding_name}, though tie_word_embeddings is true in config.json: "
            f"set it to false to compute with {name}, or remove {name} to compute with the embedding"
        )


def _are_equal(a: DiskTensor, b: DiskTensor) -> bool:
    """Return whether two matrices on disk hold the same values; reads some rows at a time."""
    if a.shape != b.shape:
        return False
    rows, columns = a.shape
    parts = ((slice(start, min(start + 4096, rows)), slice(0, columns)) for start in range(0, rows, 4096))
    return all(np.array_equal(a.read(part), b.read(part)) for part in parts)


def _load_param(
    tensor: TensorLayout, want: jax.ShapeDtypeStruct, found: list[DiskTensor], sharding: NamedSharding | None
) -> jax.Array:
    """Load one parameter from its tensors; its layers are written one by one into the array that holds them all."""
    read = functools.partial(layout.layer_from_disk, layout=tensor, shape=layout.layer_shape(tensor, want))
    if not layout.stacked_axes(tensor):
        return _load_layer(functools.partial(read, found), want.shape, sharding).astype(want.dtype)
    layer_sharding = sharding and NamedSharding(sharding.mesh, P(*sharding.spec[1:]))
    stack = jnp.zeros(want.shape, want.dtype, device=sharding)
    per_layer = len(found) // len(stack)
    for number in range(len(stack)):
        layer = functools.partial(read, found[number * per_layer : (number + 1) * per_layer])
        stack = _make_writer(sharding)(stack, _load_layer(layer, want.shape[1:], layer_sharding), number)
    return stack


@functools.cache
def _make_writer(sharding: NamedSharding | None) -> Callable[[jax.Array, jax.Array, int], jax.Array]:
    """Return a jitted function that writes a layer into the stack, in place."""

    def write(stack, x, layer):
        return jax.lax.dynamic_update_index_in_dim(stack, x.astype(stack.dtype), layer, axis=0)

    return jax.jit(write, donate_argnums=0, out_shardings=sharding)


def _load_layer(read: Callable[..., np.ndarray], shape: tuple[int, ...], sharding: NamedSharding | None) -> jax.Array:
    """Load one layer to its devices, in our layout and its own dtype; parts that several devices hold are read once.

    Args:
      read: reads the part `index` of the layer, see `layout.layer_from_disk`.
      shape: of the layer.
      sharding: of the layer; None: all on the default device.
    """
    if sharding is None:
        return jnp.asarray(read(index=(slice(None),) * len(shape)))
    loaded = {}

    def read_once(index):
        key = tuple((part.start, part.stop) for part in index)
        if key not in loaded:
            loaded[key] = read(index=index)
        return loaded[key]

    return jax.make_array_from_callback(shape, sharding, read_once)


@jax.jit
def _select(stack: jax.Array, index: tuple[int, ...]) -> jax.Array:
    for number in index:
        stack = jax.lax.dynamic_index_in_dim(stack, number, axis=0, keepdims=False)
    return stack


def _fetch(
    param: jax.Array, index: tuple[int, ...], dtype: str, inputs: int | None, shape: tuple[int, ...]
) -> np.ndarray:
    """Return a parameter, or one layer or expert of it, in its layout on disk."""
    x = sharding.to_host(_select(param, index) if index else param).astype(dtype)
    return layout.to_disk(x, inputs, shape)
