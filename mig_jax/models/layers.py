"""What decoder and vision tower are both made of: attention, norm, and how parameters are drawn."""

import math

import chex
import jax
import jax.numpy as jnp
from flax import nnx

# Finite, so that a row that sees nothing (padding) gets a harmless average instead of NaN.
_UNSEEN = -1e30

KeyValue = tuple[chex.Array, chex.Array]


def attend(q_btnh: chex.Array, new: KeyValue, old: KeyValue | None, mask_btx: chex.Array) -> chex.Array:
    """Attention of T new tokens to S cached ones (`old`) and to themselves (`new`): `[B, T, N, H]`.

    softmax over S+T together, in float32; scores are joined, keys and values are neither joined nor repeated.
    """
    rows, length, heads, head_size = q_btnh.shape
    parts = [new] if old is None else [old, new]
    kv_heads = new[0].shape[2]
    group = heads // kv_heads
    # The group of query heads that share a key head stands in its rows, so that all large arrays are batches of plain
    # matrices, forwards and backwards: R = group · T.
    q_bmgth = q_btnh.reshape(rows, length, kv_heads, group, head_size).transpose(0, 2, 3, 1, 4)
    q_bmrh = q_bmgth.reshape(rows, kv_heads, group * length, head_size)
    scores = [jnp.einsum("bmrh,bsmh->bmrs", q_bmrh, k, preferred_element_type=jnp.float32) for k, _ in parts]
    score = jnp.concatenate(scores, axis=-1).reshape(rows, kv_heads, group, length, -1) * head_size**-0.5
    weight = jax.nn.softmax(jnp.where(mask_btx[:, None, None], score, _UNSEEN)).astype(q_btnh.dtype)
    weight_bmrx = weight.reshape(rows, kv_heads, group * length, -1)
    weights = jnp.split(weight_bmrx, [weight.shape[-1] - length], axis=-1)[-len(parts) :]
    out_bmrh = sum(jnp.einsum("bmrs,bsmh->bmrh", w, v) for w, (_, v) in zip(weights, parts, strict=True))
    return out_bmrh.reshape(q_bmgth.shape).transpose(0, 3, 1, 2, 4).reshape(q_btnh.shape)


def rms_norm(x: chex.Array, scale_h: chex.Array, eps: float) -> chex.Array:
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
