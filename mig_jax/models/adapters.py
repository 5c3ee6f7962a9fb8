"""Low-rank adapters of the decoder's projections (LoRA, arXiv 2106.09685), computed by qwix.

    y = W x + (alpha / rank) · B A x

A `[…in, rank]` is drawn at random and B `[rank, …out]` starts at 0, so new adapters do not change y. They are two more
parameters beside each adapted one, stacked over layers like it: `layers/mlp/up_lora_a` and `layers/mlp/up_lora_b`
beside `layers/mlp/up`. `lora` adds, removes and merges them; `huggingface/peft` reads and writes their files.
"""

import dataclasses
import importlib.util
import math
from typing import NamedTuple

from flax import nnx

from mig_jax.errors import UserError
from mig_jax.models.layers import Initializer


class Projection(NamedTuple):
    """A projection that can have adapters: the module of a layer that holds it, and how many of its axes are inputs."""

    module: str
    inputs: int


PROJECTIONS = {
    "query": Projection("attention", 1),
    "key": Projection("attention", 1),
    "value": Projection("attention", 1),
    "out": Projection("attention", 2),
    "gate": Projection("mlp", 1),
    "up": Projection("mlp", 1),
    "down": Projection("mlp", 1),
}
# Those that a mixture of experts has, too: its experts have no adapters.
ATTENTION = tuple(name for name, projection in PROJECTIONS.items() if projection.module == "attention")


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """The projections that have adapters, and their rank. Adapters are always float32.

    rank: inner size of an adapter.
    alpha: adapters are scaled by alpha / rank.
    modules: keys of `PROJECTIONS`; adapted in all layers.

    Raises:
      UserError: a value is invalid; lists every error.
    """

    rank: int
    alpha: float
    modules: tuple[str, ...] = tuple(PROJECTIONS)

    def __post_init__(self):
        numbers = {"rank": self.rank, "alpha": self.alpha}
        errors = [f"{name}={value}: must be > 0" for name, value in numbers.items() if value <= 0]
        unknown = [name for name in self.modules if name not in PROJECTIONS]
        if unknown or not self.modules or len(set(self.modules)) != len(self.modules):
            errors.append(f"modules={self.modules}: choose one or more of {', '.join(PROJECTIONS)}, each once")
        if errors:
            raise UserError("LoraConfig: " + "; ".join(errors))


def missing_package() -> str | None:
    """Return what to install for LoRA, or None if it is there."""
    if importlib.util.find_spec("qwix") is None:
        return "LoRA needs qwix: pip install 'mig_jax[lora]'"
    return None


def adapt(layer: nnx.Module, config: LoraConfig, rngs: nnx.Rngs) -> nnx.Module:
    """Return a `decoder.Layer` with new adapters, which are added when it is called on the slice of one layer.

    Args:
      layer: its parameters are stacked over layers.
      config: which projections to adapt.
      rngs: source of initial parameters.

    Raises:
      UserError: qwix is not installed.
    """
    if error := missing_package():
        raise UserError(error)
    for name in config.modules:
        module = vars(layer)[PROJECTIONS[name].module]
        param = vars(module)[name]
        for suffix, adapter in init_adapter(name, param.shape, param.get_metadata()["axes"], config.rank, rngs).items():
            setattr(module, name + suffix, adapter)
    # Imported late: qwix is in the extra `lora`.
    from mig_jax.models import qwix_projections

    return qwix_projections.add_to_projections(layer, config.modules, rank=config.rank, alpha=config.alpha)


def init_adapter(
    name: str, shape: tuple[int, ...], axes: tuple[str, ...], rank: int, rngs: nnx.Rngs
) -> dict[str, nnx.Param]:
    """Return A and B of one projection by their suffixes. A has the variance of PEFT's, which is uniform.

    Args:
      name: key of `PROJECTIONS`.
      shape: `[L, …in, …out]`, of the projection.
      axes: its logical axes.
      rank: inner size of the adapter.
      rngs: source of initial parameters.
    """
    first_output = 1 + PROJECTIONS[name].inputs
    in_shape, out_shape = shape[1:first_output], shape[first_output:]
    init = Initializer(rngs, "float32", shape[0])
    a_axes, b_axes = (*axes[1:first_output], "rank"), ("rank", *axes[first_output:])
    return {
        "_lora_a": init.normal((*in_shape, rank), a_axes, inputs=math.prod(in_shape), scale=3**-0.5),
        "_lora_b": init.constant(0, (rank, *out_shape), b_axes),
    }
