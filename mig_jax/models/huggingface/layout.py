"""What a Hugging Face checkpoint calls each parameter of `decoder`, and how it lays it out: one table, both ways."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from mig_jax.models import decoder
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.huggingface.tensor_files import Slices, StoredTensor
from mig_jax.models.qwen2_vl import VisionConfig


class TensorLayout(NamedTuple):
    """How Hugging Face stores a parameter: `name`, with {} for the layer; and its layout.

    inputs: how many of our leading axes are inputs. A linear layer has its inputs first here and last there, and no
      separate axes for heads: `[D, N, H]` (1 input) is stored as `[N·H, D]`, `[N, H, D]` (2 inputs) as `[D, N·H]`.
      0: a vector there. None: the same layout.
    window: for a convolution, what its inputs are cut into there: `[C·T·P·P, D]` is stored as `[D, C, T, P, P]`.
    """

    name: str
    inputs: int | None
    window: Callable[[VisionConfig], tuple[int, ...]] | None = None


TABLE = {
    "embedding": TensorLayout("model.embed_tokens.weight", None),
    "norm": TensorLayout("model.norm.weight", 0),
    "head": TensorLayout("lm_head.weight", 1),
    "layers/attention_norm": TensorLayout("model.layers.{}.input_layernorm.weight", 0),
    "layers/attention/query": TensorLayout("model.layers.{}.self_attn.q_proj.weight", 1),
    "layers/attention/key": TensorLayout("model.layers.{}.self_attn.k_proj.weight", 1),
    "layers/attention/value": TensorLayout("model.layers.{}.self_attn.v_proj.weight", 1),
    "layers/attention/out": TensorLayout("model.layers.{}.self_attn.o_proj.weight", 2),
    "layers/attention/query_bias": TensorLayout("model.layers.{}.self_attn.q_proj.bias", 0),
    "layers/attention/key_bias": TensorLayout("model.layers.{}.self_attn.k_proj.bias", 0),
    "layers/attention/value_bias": TensorLayout("model.layers.{}.self_attn.v_proj.bias", 0),
    "layers/attention/out_bias": TensorLayout("model.layers.{}.self_attn.o_proj.bias", 0),
    "layers/attention/query_norm": TensorLayout("model.layers.{}.self_attn.q_norm.weight", 0),
    "layers/attention/key_norm": TensorLayout("model.layers.{}.self_attn.k_norm.weight", 0),
    "layers/mlp_norm": TensorLayout("model.layers.{}.post_attention_layernorm.weight", 0),
    "layers/mlp/gate": TensorLayout("model.layers.{}.mlp.gate_proj.weight", 1),
    "layers/mlp/up": TensorLayout("model.layers.{}.mlp.up_proj.weight", 1),
    "layers/mlp/down": TensorLayout("model.layers.{}.mlp.down_proj.weight", 1),
    "vision/patch_embedding": TensorLayout(
        "visual.patch_embed.proj.weight", 1, lambda v: (v.channels, v.temporal_patch_size, v.patch_size, v.patch_size)
    ),
    "vision/layers/attention_norm": TensorLayout("visual.blocks.{}.norm1.weight", 0),
    "vision/layers/attention/qkv": TensorLayout("visual.blocks.{}.attn.qkv.weight", 1),
    "vision/layers/attention/qkv_bias": TensorLayout("visual.blocks.{}.attn.qkv.bias", 0),
    "vision/layers/attention/out": TensorLayout("visual.blocks.{}.attn.proj.weight", 2),
    "vision/layers/attention/out_bias": TensorLayout("visual.blocks.{}.attn.proj.bias", 0),
    "vision/layers/mlp_norm": TensorLayout("visual.blocks.{}.norm2.weight", 0),
    "vision/layers/mlp/gate": TensorLayout("visual.blocks.{}.mlp.gate_proj.weight", 1),
    "vision/layers/mlp/gate_bias": TensorLayout("visual.blocks.{}.mlp.gate_proj.bias", 0),
    "vision/layers/mlp/up": TensorLayout("visual.blocks.{}.mlp.up_proj.weight", 1),
    "vision/layers/mlp/up_bias": TensorLayout("visual.blocks.{}.mlp.up_proj.bias", 0),
    "vision/layers/mlp/down": TensorLayout("visual.blocks.{}.mlp.down_proj.weight", 1),
    "vision/layers/mlp/down_bias": TensorLayout("visual.blocks.{}.mlp.down_proj.bias", 0),
    "vision/merger/norm": TensorLayout("visual.merger.ln_q.weight", 0),
    "vision/merger/hidden": TensorLayout("visual.merger.mlp.0.weight", 1),
    "vision/merger/hidden_bias": TensorLayout("visual.merger.mlp.0.bias", 0),
    "vision/merger/out": TensorLayout("visual.merger.mlp.2.weight", 1),
    "vision/merger/out_bias": TensorLayout("visual.merger.mlp.2.bias", 0),
}

# transformers has put the same tensors under other names over time: what a name may begin with → in our table.
_ALIASES = {"model.language_model.": "model.", "model.visual.": "visual."}


def our_name(name: str) -> str:
    """The name of a stored tensor as the table has it."""
    alias = next((old for old in _ALIASES if name.startswith(old)), "")
    return _ALIASES.get(alias, "") + name.removeprefix(alias)


def stored_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint of `config`: its name and its shape on disk."""
    params = traverse_util.flatten_dict(decoder.abstract_params(config), sep="/")
    return {name: stored_shape(path, want, config) for path, want in params.items() for name in names(path, want)}


def is_stacked(path: str) -> bool:
    return "{}" in TABLE[path].name


def names(path: str, param: Any) -> list[str]:
    """What Hugging Face calls the layers of a parameter; one name for what is not stacked."""
    return [TABLE[path].name.format(layer) for layer in range(param.shape[0] if is_stacked(path) else 1)]


def part_shape(path: str, param: Any) -> tuple[int, ...]:
    """Of one layer of a parameter, or of what is not stacked."""
    return param.shape[1:] if is_stacked(path) else param.shape


def stored_shape(path: str, param: Any, config: DecoderConfig) -> tuple[int, ...]:
    """Of each part on disk."""
    shape, (_, inputs, window) = part_shape(path, param), TABLE[path]
    if inputs is None:
        return shape
    size_in, size_out = math.prod(shape[:inputs]), math.prod(shape[inputs:])
    if not inputs:
        return (size_out,)
    return (size_out, *window(config.vision)) if window else (size_out, size_in)


def to_stored(x: np.ndarray, inputs: int | None, shape: tuple[int, ...]) -> np.ndarray:
    """A part in the layout of the disk."""
    return x if inputs is None else x.reshape(math.prod(x.shape[:inputs]), -1).T.reshape(shape)


def read(tensor: StoredTensor, shape: tuple[int, ...], inputs: int | None, index: Slices) -> np.ndarray:
    """The part `index` of a tensor that has `shape` here; no more is read than that."""
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


def _fold(shape: tuple[int, ...], index: Slices) -> tuple[slice, tuple[int, ...], Slices]:
    """Axes that are one axis on disk: what to read of that, its shape when unfolded, and what to cut off then."""
    start, stop, _ = index[0].indices(shape[0])
    inner = math.prod(shape[1:])
    return slice(start * inner, stop * inner), (stop - start, *shape[1:]), (slice(None), *index[1:])
