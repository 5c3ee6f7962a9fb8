"""Parts that the decoder and the vision tower share, apart from attention: norms and parameter initialization."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

# Activations of the gate in the MLP.
ACTIVATIONS = {"silu": jax.nn.silu, "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True)}


def rms_norm(x: jax.Array, scale_h: jax.Array | nnx.Param, eps: float, *, is_shifted: bool = False) -> jax.Array:
    """Return x / √(mean x² + eps) · scale over the last axis, in the dtype of x; the mean is taken in float32.

    Args:
      is_shifted: multiply by 1 + scale instead, in float32 as well (Gemma).
    """
    x_f32 = x.astype(jnp.float32)
    x_f32 = x_f32 * jax.lax.rsqrt(jnp.mean(x_f32**2, axis=-1, keepdims=True) + eps)
    shape = (1,) * (x.ndim - 1) + (-1,)
    if is_shifted:
        return (x_f32 * (1 + scale_h.reshape(shape).astype(jnp.float32))).astype(x.dtype)
    return x_f32.astype(x.dtype) * scale_h.reshape(shape).astype(x.dtype)


class Initializer:
    """Draws parameters and records their logical axes.

    rngs: source of random numbers.
    dtype: of the parameters.
    layers: draw this many of each parameter, stacked on a leading axis; None for a single one.
    """

    def __init__(self, rngs: nnx.Rngs, dtype: str, layers: int | None = None):
        self.rngs, self.dtype, self.layers = rngs, dtype, layers
        self.stack_shape, self.stack_axes = ((layers,), ("layers",)) if layers else ((), ())

    def normal(self, shape: tuple[int, ...], axes: tuple[str, ...], *, inputs: int, scale: float = 1.0) -> nnx.Param:
        """Draw from N(0, scale² / inputs), which preserves the magnitude of activations at any width."""
        std = scale * inputs**-0.5
        stacked = self.stack_shape + shape
        # Drawn flat: XLA takes several times as long to compile random bits of four axes.
        flat = std * jax.random.normal(self.rngs.params(), (math.prod(stacked),), self.dtype)
        return nnx.Param(flat.reshape(stacked), axes=self.stack_axes + axes)

    def residual(self, shape: tuple[int, ...], axes: tuple[str, ...], *, inputs: int) -> nnx.Param:
        """Draw a projection that is added to the residual stream, scaled by 1 / √(2L).

        The stream receives 2L such sums; the scale keeps its magnitude independent of depth (GPT-2).
        """
        return self.normal(shape, axes, inputs=inputs, scale=(2 * (self.layers or 1)) ** -0.5)

    def constant(self, value: float, shape: tuple[int, ...], axes: tuple[str, ...]) -> nnx.Param:
        """Return a parameter filled with `value`."""
        return nnx.Param(jnp.full(self.stack_shape + shape, value, self.dtype), axes=self.stack_axes + axes)

    def norm(self, size: int, axis: str, *, is_shifted: bool) -> nnx.Param:
        """Return the scale of an RMSNorm that leaves magnitudes alone, see `rms_norm`."""
        return self.constant(0 if is_shifted else 1, (size,), (axis,))


class LayerNorm(nnx.Module):
    """(x − mean) / √(variance + eps) · scale + bias over the last axis, computed in float32, in the dtype of x."""

    def __init__(self, width: int, eps: float, init: Initializer):
        self.eps = eps
        self.scale, self.bias = (init.constant(value, (width,), ("embed",)) for value in (1, 0))

    def __call__(self, x: jax.Array) -> jax.Array:
        x_f32, shape = x.astype(jnp.float32), (1,) * (x.ndim - 1) + (-1,)
        x_f32 -= x_f32.mean(axis=-1, keepdims=True)
        x_f32 *= jax.lax.rsqrt(jnp.mean(x_f32**2, axis=-1, keepdims=True) + self.eps)
        scale, bias = (param.reshape(shape).astype(jnp.float32) for param in (self.scale, self.bias))
        return (x_f32 * scale + bias).astype(x.dtype)
