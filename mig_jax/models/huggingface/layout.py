"""Layout of tensors on disk: every parameter of the decoder as the tensors of a checkpoint, and back.

The names and layouts are those of `models/families`. A parameter that is stacked over layers has a tensor on disk for
each layer; one that is also stacked over experts has a tensor for each layer and expert.
"""

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from mig_jax.models import decoder
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.families import FAMILIES
from mig_jax.models.families.decoder_tensors import TensorLayout
from mig_jax.models.huggingface.tensor_files import DiskTensor, Slices

# Prefixes with which some families and versions of transformers write the names of others.
_ALIASES = {
    "model.language_model.": "model.",
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.visual.": "visual.",
    "model.vision_tower.": "vision_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}


@functools.cache
def tensor_table(config: DecoderConfig) -> dict[str, TensorLayout]:
    """Return path of a parameter → its name and layout, in the first family that has all parameters of `config`.

    Raises:
      ValueError: no family has them.
    """
    paths = flatten(decoder.abstract_params(dataclasses.replace(config, lora=None))).keys()
    tables = (family.tensors for family in FAMILIES.values() if paths <= family.tensors.keys())
    if (table := next(tables, None)) is None:
        raise ValueError(f"no family has all of the parameters {', '.join(paths)}")
    return table


def canonical_name(name: str) -> str:
    """Return the name of a tensor without what versions of transformers and families put before it."""
    alias = next((prefix for prefix in _ALIASES if name.startswith(prefix)), "")
    return _ALIASES.get(alias, "") + name.removeprefix(alias)


def flatten(params: dict[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested parameters by their paths, such as "layers/mlp/up"."""
    return dict(traverse_util.flatten_dict(params, sep="/"))


def disk_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape on disk of every tensor of a checkpoint."""
    params = flatten(decoder.abstract_params(config))
    shapes = {}
    for path, param in params.items():
        tensor = tensor_table(config)[path]
        shapes |= dict.fromkeys(disk_names(tensor, param), disk_shape(tensor, param, config))
    return shapes


def stacked_axes(tensor: TensorLayout) -> int:
    """Return how many leading axes of a parameter count tensors on disk: layers, or layers and experts, or none."""
    return tensor.name.count("{}")


def disk_indices(tensor: TensorLayout, param: Any) -> list[tuple[int, ...]]:
    """Return the layer, or layer and expert, of each of a parameter's tensors on disk; () for one that is alone."""
    return list(itertools.product(*map(range, param.shape[: stacked_axes(tensor)])))


def disk_names(tensor: TensorLayout, param: Any) -> list[str]:
    """Return the names of a parameter's tensors on disk, in the order of `disk_indices`."""
    return [tensor.name.format(*index) for index in disk_indices(tensor, param)]


def layer_shape(tensor: TensorLayout, param: Any) -> tuple[int, ...]:
    """Return the shape of one layer of a parameter, or of all of it where it is not stacked."""
    return param.shape[1:] if stacked_axes(tensor) else param.shape


def disk_shape(tensor: TensorLayout, param: Any, config: DecoderConfig) -> tuple[int, ...]:
    """Return the shape on disk of each tensor of a parameter."""
    shape, (_, inputs, window) = param.shape[stacked_axes(tensor) :], tensor
    if inputs is None:
        return shape
    size_in, size_out = math.prod(shape[:inputs]), math.prod(shape[inputs:])
    if not inputs:
        return (size_out,)
    return (size_out, *window(config.vision)) if window and config.vision else (size_out, size_in)


def to_disk(x: np.ndarray, inputs: int | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return what one tensor on disk holds of a parameter, in its layout on disk, which has `shape`."""
    return x if inputs is None else x.reshape(math.prod(x.shape[:inputs]), -1).T.reshape(shape)


def from_disk(tensor: DiskTensor, shape: tuple[int, ...], inputs: int | None, index: Slices) -> np.ndarray:
    """Read the part `index` of one layer, which has `shape` in our layout; reads no more than that part.

    Args:
      tensor: the layer on disk.
      shape: of the whole layer in our layout.
      inputs: see `TensorLayout`.
      index: one slice per axis of `shape`.
    """
    if inputs is None:
        return tensor.read(index)
    outs, out_shape, out_rest = _fold(shape[inputs:], index[inputs:])
    if not inputs:
        return tensor.read((outs,)).reshape(out_shape)[out_rest]
    ins, in_shape, in_rest = _fold(shape[:inputs], index[:inputs])
    if len(tensor.shape) == 2:
        x = tensor.read((outs, ins))
    else:  # a convolution, small enough to be read whole
        x = tensor.read((slice(None),) * len(tensor.shape)).reshape(tensor.shape[0], -1)[outs, ins]
    return x.T.reshape(in_shape + out_shape)[in_rest + out_rest]


def layer_from_disk(
    tensors: Sequence[DiskTensor], layout: TensorLayout, shape: tuple[int, ...], index: Slices
) -> np.ndarray:
    """Read the part `index` of one layer of a parameter, see `from_disk`.

    Args:
      tensors: the layer's tensor, or those of its experts.
      layout: of each of them.
      shape: of the whole layer in our layout; the first axis of `index` chooses among the experts.
      index: one slice per axis of `shape`.
    """
    if stacked_axes(layout) < 2:
        return from_disk(tensors[0], shape, layout.inputs, index)
    parts = (from_disk(tensor, shape[1:], layout.inputs, index[1:]) for tensor in tensors[index[0]])
    first = next(parts)
    # Filled one by one: a list of all experts would need the memory of a second layer.
    x = np.empty((len(tensors[index[0]]), *first.shape), first.dtype)
    for expert, part in enumerate(itertools.chain([first], parts)):
        x[expert] = part
    return x


def _fold(shape: tuple[int, ...], index: Slices) -> tuple[slice, tuple[int, ...], Slices]:
    """Fold axes into the one axis that they are on disk.

    Returns:
      What to read of that axis; the shape of what is read, unfolded; and the slices still to take of that.
    """
    start, stop, _ = index[0].indices(shape[0])
    inner = math.prod(shape[1:])
    return slice(start * inner, stop * inner), (stop - start, *shape[1:]), (slice(None), *index[1:])


# Tensors of all experts of a layer, which transformers 5 can write, and the projections that their rows hold.
_OF_ALL_EXPERTS = re.compile(r"(.*\.mlp\.experts)\.(gate_up_proj|down_proj)")
_PROJECTIONS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}


def split_experts(name: str, tensor: DiskTensor | None) -> dict[str, DiskTensor | None]:
    """Return the tensors of single experts that a tensor of all holds, by name; any other tensor as it is."""
    found = _OF_ALL_EXPERTS.fullmatch(name)
    if not found or not tensor or len(tensor.shape) != 3:
        return {name: tensor}
    experts, rows, columns = tensor.shape
    names = _PROJECTIONS[found[2]]
    rows //= len(names)
    parts = {}
    for expert, (number, projection) in itertools.product(range(experts), enumerate(names)):
        read = functools.partial(_read_rows, tensor, expert, number * rows, rows)
        parts[f"{found[1]}.{expert}.{projection}.weight"] = tensor._replace(shape=(rows, columns), read=read)
    return parts


def _read_rows(tensor: DiskTensor, expert: int, first: int, rows: int, index: Slices) -> np.ndarray:
    """Read a part of `rows` rows of one expert, from row `first` on."""
    start, stop, _ = index[0].indices(rows)
    return tensor.read((slice(expert, expert + 1), slice(first + start, first + stop), index[1]))[0]
