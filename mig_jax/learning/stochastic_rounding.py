"""Stochastic rounding: parameters and Adam moments in bfloat16 that still follow small updates.

bfloat16 has eight binary digits. With rounding to nearest, a number that changes by less than 0.2 to 0.4 % of itself
stays the same, at this update and at the next one. A parameter of 0.02 never moves at a learning rate of 1e-6. The
second moment ν of Adam, which moves by (1 − b2)·(g² − ν), never changes wherever b2 = 0.999 and g² < 3 ν.

Stochastic rounding rounds up with the probability given by the digits that are dropped, and down otherwise. It is right
on average, and its noise averages out over parameters and updates.

References:
  Gupta et al., arXiv 1502.02551.
"""

from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike


def rounding_key(key: jax.Array, use: Literal["params", "moments"], update: ArrayLike) -> jax.Array:
    """Return the random key of an update's rounding.

    It depends on the number of updates so far alone, so a resumed run repeats the noise of an uninterrupted one.
    Parameters and moments get noise of their own from the same `key`.
    """
    return jax.random.fold_in(jax.random.fold_in(key, ("params", "moments").index(use)), update)


def cast_like(tree: Any, like: Any, key: jax.Array) -> Any:
    """Return a tree of float32 in the dtypes of another tree, stochastically rounded where that is bfloat16.

    Args:
      tree: pytree of float32 arrays.
      like: pytree of the same structure, of float32 or bfloat16.
      key: random key; every leaf gets noise of its own.

    Returns:
      A tree like `tree`; leaves whose dtype is right already are returned as they are.
    """
    leaves, treedef = jax.tree.flatten(tree)
    rounded = [
        x if x.dtype == y.dtype else _stochastic_round(x, jax.random.fold_in(key, number))
        for number, (x, y) in enumerate(zip(leaves, jax.tree.leaves(like), strict=True))
    ]
    return treedef.unflatten(rounded)


def _stochastic_round(x: jax.Array, key: jax.Array) -> jax.Array:
    """Round float32 to bfloat16, which is its upper half: a carry out of the lower half rounds away from 0."""
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    upper = (jax.lax.bitcast_convert_type(x, jnp.uint32) + noise) >> 16
    return jax.lax.bitcast_convert_type(upper.astype(jnp.uint16), jnp.bfloat16)


def scale_by_adam(*, b1: float, b2: float, dtype: str, key: jax.Array) -> optax.GradientTransformation:
    """Return optax's Adam in float32, with moments that are stored in another dtype between updates.

    Args:
      b1: decay rate of the first moment μ.
      b2: decay rate of the second moment ν.
      dtype: of both moments, "float32" or "bfloat16"; "" for that of their parameter.
      key: random key of the rounding, which is used for nothing else; see `rounding_key`.
    """
    adam = optax.scale_by_adam(b1=b1, b2=b2)

    def init(params: optax.Params) -> optax.OptState:
        return adam.init(optax.tree.cast(params, dtype or None))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        state = cast(optax.ScaleByAdamState, state)
        stored = state.mu, state.nu
        in_float32 = optax.ScaleByAdamState(state.count, *(optax.tree.cast(x, jnp.float32) for x in stored))
        scaled, new_state = adam.update(optax.tree.cast(updates, jnp.float32), in_float32, params)
        new_state = cast(optax.ScaleByAdamState, new_state)
        mu, nu = cast_like((new_state.mu, new_state.nu), stored, rounding_key(key, "moments", state.count))
        return scaled, optax.ScaleByAdamState(new_state.count, mu, nu)

    return optax.GradientTransformation(init, update)
