"""What is held in bfloat16 from update to update: rounded at random, so that small changes are not lost.

bfloat16 has eight binary digits. Rounded to the nearest, a number that changes by less than 0.2 to 0.4 % of itself
stays what it was, at this update and at the next: a weight of 0.02 never feels a learning rate of 1e-6, and the second
moment ν of Adam, which moves by (1 − b2)·(g² − ν), stands still wherever b2 = 0.999 and g² < 3 ν. Rounded up with the
probability of the digits that are cut off, and down else, it is right on average, and the noise of many weights and
updates averages out (Gupta et al., arXiv 1502.02551).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def cast_like(tree: Any, like: Any, key: jax.Array) -> Any:
    """Leaves of float32 in the dtypes of `like`, float32 or bfloat16; where that is bfloat16, rounded at random."""
    leaves, treedef = jax.tree.flatten(tree)
    rounded = [
        x if x.dtype == y.dtype else _stochastic_round(x, jax.random.fold_in(key, number))
        for number, (x, y) in enumerate(zip(leaves, jax.tree.leaves(like), strict=True))
    ]
    return treedef.unflatten(rounded)


def _stochastic_round(x: jax.Array, key: jax.Array) -> jax.Array:
    """bfloat16 is the upper half of a float32: a carry out of the lower half rounds up, away from 0."""
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    upper = (jax.lax.bitcast_convert_type(x, jnp.uint32) + noise) >> 16
    return jax.lax.bitcast_convert_type(upper.astype(jnp.uint16), jnp.bfloat16)


def scale_by_adam(*, b1: float, b2: float, dtype: str) -> optax.GradientTransformation:
    """optax's Adam, computed in float32, whose moments are held in another dtype between updates.

    Args:
      dtype: of both moments, "float32" or "bfloat16"; "": that of the weight.
    """
    adam = optax.scale_by_adam(b1=b1, b2=b2)

    def init(params: Any) -> optax.ScaleByAdamState:
        return adam.init(optax.tree.cast(params, dtype or None))

    def update(gradients: Any, state: optax.ScaleByAdamState, params: Any = None):
        held = state.mu, state.nu
        wide = optax.ScaleByAdamState(state.count, *optax.tree.cast(held, jnp.float32))
        scaled, new = adam.update(optax.tree.cast(gradients, jnp.float32), wide, params)
        # The noise depends on the update alone, so that a resumed run goes on as it would have.
        mu, nu = cast_like((new.mu, new.nu), held, jax.random.fold_in(jax.random.key(0), state.count))
        return scaled, new._replace(mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)
