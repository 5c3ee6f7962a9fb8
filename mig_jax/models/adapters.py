"""Low-rank adapters of the decoder's projections (LoRA, arXiv 2106.09685), computed by qwix.

    y = W x + (alpha / rank) · B A x        A `[…in, rank]` is drawn, B `[rank, …out]` begins at 0: y begins as it was

Adapters are two more leaves beside each adapted weight, stacked over layers like it: beside `layers/mlp/up` stand
`layers/mlp/up_lora_a` and `layers/mlp/up_lora_b`. What is done with them is in `lora`.
"""

import dataclasses
import functools
import math
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import qwix
from flax import nnx
from qwix._src.utils import flax_util  # which weight an operand is has no public name there

from mig_jax.models.layers import Initializer


class Place(NamedTuple):
    """Where a weight is: the part of a layer here and in Hugging Face, its name there, how many axes are inputs."""

    part: str
    hf_part: str
    hf_name: str
    inputs: int


PLACES = {
    "query": Place("attention", "self_attn", "q_proj", 1),
    "key": Place("attention", "self_attn", "k_proj", 1),
    "value": Place("attention", "self_attn", "v_proj", 1),
    "out": Place("attention", "self_attn", "o_proj", 2),
    "gate": Place("mlp", "mlp", "gate_proj", 1),
    "up": Place("mlp", "mlp", "up_proj", 1),
    "down": Place("mlp", "mlp", "down_proj", 1),
}


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which weights have adapters, and of what kind. Adapters are float32, whatever the weights are.

    rank: inner size of an adapter.
    alpha: adapters are scaled by alpha / rank.
    modules: some of query, key, value, out, gate, up, down; in all layers.

    Raises:
      ValueError: a value makes no sense; all are listed.
    """

    rank: int
    alpha: float
    modules: tuple[str, ...] = tuple(PLACES)

    def __post_init__(self):
        numbers = {"rank": self.rank, "alpha": self.alpha}
        problems = [f"{name}={value}: must be > 0" for name, value in numbers.items() if value <= 0]
        unknown = [name for name in self.modules if name not in PLACES]
        if unknown or not self.modules or len(set(self.modules)) != len(self.modules):
            problems.append(f"modules={self.modules}: one or more of {', '.join(PLACES)}, each once")
        if problems:
            raise ValueError("LoraConfig: " + "; ".join(problems))


def adapt(layer: nnx.Module, config: LoraConfig, rngs: nnx.Rngs) -> nnx.Module:
    """A `decoder.Layer`, its parameters stacked, with fresh adapters, which it adds when it is called on one layer."""
    for name in config.modules:
        part = vars(layer)[PLACES[name].part]
        weight = vars(part)[name]
        axes = weight.get_metadata("axes")
        for suffix, adapter in fresh(name, weight.shape, axes, config.rank, rngs).items():
            setattr(part, name + suffix, adapter)
    with _quiet():
        # It would draw adapters in a call, of one layer and with the axes of the weight: ours are there already.
        return qwix.apply_lora_to_model(layer, _provider(config), rngs=None, skip_nnx_init=True)


def fresh(name: str, shape: tuple[int, ...], axes: tuple[str, ...], rank: int, rngs: nnx.Rngs) -> dict[str, nnx.Param]:
    """A and B for a weight `[L, …in, …out]`; A is as large as PEFT draws it (uniform there)."""
    cut = 1 + PLACES[name].inputs
    init, size_in = Initializer(rngs, "float32", shape[0]), math.prod(shape[1:cut])
    return {
        "_lora_a": init.normal((*shape[1:cut], rank), (*axes[1:cut], "rank"), inputs=size_in, scale=3**-0.5),
        "_lora_b": init.constant(0, (rank, *shape[cut:]), ("rank", *axes[cut:])),
    }


class _ChosenWeights(qwix.LoraProvider):
    """Adapters for some weights of a module: a rule of qwix is for all of them."""

    def __init__(self, config: LoraConfig):
        super().__init__(module_path=".*", rank=config.rank, alpha=config.alpha)
        self.chosen = config.modules

    def process_model_inputs(self, model: nnx.Module, model_args: Any, model_kwargs: Any) -> tuple[Any, Any, Any]:
        with _quiet():
            return super().process_model_inputs(model, model_args, model_kwargs)

    def einsum(self, einsum_str: str, *operands: Any, **options: Any) -> jax.Array:
        with _quiet():
            is_chosen = flax_util.find_param(operands[-1]) in self.chosen
            return (super().einsum if is_chosen else jnp.einsum)(einsum_str, *operands, **options)


@functools.cache
def _provider(config: LoraConfig) -> _ChosenWeights:
    return _ChosenWeights(config)


class _quiet(warnings.catch_warnings):
    """qwix 0.1.8 uses names that flax has deprecated."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", DeprecationWarning)
