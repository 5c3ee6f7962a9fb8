"""The part of LoRA that needs qwix, a package of the extra `lora`: adapters are added inside a layer's einsums."""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
import qwix
from flax import nnx

# No public function tells which parameter an operand is.
try:
    from qwix._src.utils import flax_util
except ImportError:  # qwix before 0.1.8
    from qwix._src import flax_util  # pyright: ignore[reportAttributeAccessIssue]


def add_to_projections(layer: nnx.Module, modules: tuple[str, ...], *, rank: int, alpha: float) -> nnx.Module:
    """Return a layer whose projections `modules` add their adapters, which it has already.

    Args:
      layer: a `decoder.Layer` with the parameters that `adapters.init_adapter` returns.
      modules: keys of `adapters.PROJECTIONS`.
      rank: inner size of an adapter.
      alpha: adapters are scaled by alpha / rank.
    """
    with _ignore_deprecations():
        # Without `skip_nnx_init` qwix would draw adapters during a call, for one layer and with the parameter's axes.
        provider = _make_provider(modules, rank, alpha)
        return cast(nnx.Module, qwix.apply_lora_to_model(layer, provider, rngs=None, skip_nnx_init=True))


class _SelectedProjections(qwix.LoraProvider):
    """Adds adapters to some projections of a module; a rule of qwix holds for all of them."""

    def __init__(self, modules: tuple[str, ...], rank: int, alpha: float):
        super().__init__(module_path=".*", rank=rank, alpha=alpha)
        self.selected = modules

    def get_intercept_map(self) -> dict[str, Any]:
        """Leave alone what no projection calls: it is for quantized arrays, and warns."""
        unused = ("jax.numpy.asarray", "jax.numpy.dot", "jax.lax.dot_general")
        return {name: fn for name, fn in super().get_intercept_map().items() if name not in unused}

    def process_model_inputs(self, model: nnx.Module, model_args: Any, model_kwargs: Any) -> tuple[Any, Any, Any]:
        with _ignore_deprecations():
            return super().process_model_inputs(model, model_args, model_kwargs)

    def einsum(self, einsum_str: str, *operands: Any, **options: Any) -> jax.Array:
        with _ignore_deprecations():
            is_selected = flax_util.find_param(operands[-1]) in self.selected
            return (super().einsum if is_selected else jnp.einsum)(einsum_str, *operands, **options)


@functools.cache
def _make_provider(modules: tuple[str, ...], rank: int, alpha: float) -> _SelectedProjections:
    return _SelectedProjections(modules, rank, alpha)


@contextlib.contextmanager
def _ignore_deprecations() -> Iterator[None]:
    """Silence warnings of qwix 0.1.8, which uses names that flax has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
