"""Name and layout in a Hugging Face checkpoint of each parameter of the text decoder; the same in every family."""

from collections.abc import Callable
from typing import NamedTuple

from mig_jax.models.vision import VisionShape


class TensorLayout(NamedTuple):
    """The name and layout that a checkpoint gives one parameter of the decoder.

    name: of the tensor, with {} for the number of the layer.
    inputs: how many of our leading axes are inputs. A linear layer has its inputs first here and last on disk, where
      heads have no axis of their own: `[D, N, H]` (1 input) is `[N·H, D]` on disk, `[N, H, D]` (2 inputs) is
      `[D, N·H]`. 0: the tensor is a vector on disk. None: the layout is the same.
    window: for a convolution, the shape of its inputs on disk: `[C·T·P·P, D]` is `[D, C, T, P, P]` on disk.
    """

    name: str
    inputs: int | None
    window: Callable[[VisionShape], tuple[int, ...]] | None = None


TENSORS = {
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
}
