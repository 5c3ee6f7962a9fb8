"""What decoder and vision tower are both made of, beside attention: the norm, and how parameters are drawn."""

import math

import jax
import jax.numpy as jnp
from flax import nnx


def rms_norm(x: jax.Array, scale_h: jax.Array, eps: float) -> jax.Array:
    """x / √(mean x² + eps) · scale over the last axis; the mean in float32."""
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + eps)
    return wide.astype(x.dtype) * scale_h.reshape((1,) * (x.ndim - 1) + (-1,)).astype(x.dtype)


class Initializer:
    """Draws parameters and notes their logical axes; with `layers`, that many of each, stacked."""

    def __init__(self, rngs: nnx.Rngs, dtype: str, layers: int | None = None):
        self.rngs, self.dtype = rngs, dtype
        self.lead, self.axes = ((layers,), ("layers",)) if layers else ((), ())

    def normal(self, shape: tuple[int, ...], axes: tuple[str, ...], *, inputs: int, scale: float = 1.0) -> nnx.Param:
        """N(0, scale² / inputs), so that what goes in comes out as large, at any width."""
        std = scale * inputs**-0.5
        # Drawn flat: XLA takes several times as long to compile random bits of four axes.
        flat = std * jax.random.normal(self.rngs.params(), math.prod(self.lead + shape), self.dtype)
        return nnx.Param(flat.reshape(self.lead + shape), axes=self.axes + axes)

    def residual(self, shape: tuple[int, ...], axes: tuple[str, ...], *, inputs: int) -> nnx.Param:
        """What 2L times is added to the stream starts smaller, so that the sum does not grow with depth (GPT-2)."""
        return self.normal(shape, axes, inputs=inputs, scale=(2 * self.lead[0]) ** -0.5)

    def constant(self, value: float, shape: tuple[int, ...], axes: tuple[str, ...]) -> nnx.Param:
        return nnx.Param(jnp.full(self.lead + shape, value, self.dtype), axes=self.axes + axes)
