"""Search parameters for NaN and infinity."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh


def find_non_finite(params: Any) -> list[str]:
    """Return the paths of parameters, such as "layers/mlp/up", that have a NaN or an infinity.

    Each process looks at what it holds, so one that has failed before leaves no other waiting.
    """
    check = jax.jit(lambda x: jnp.isfinite(x).all())

    def is_finite(shard: jax.Array) -> bool:
        # A shard is on one device, which need not be all of the mesh that is set.
        with jax.set_mesh(Mesh(np.array(list(shard.devices())), ("device",))):
            return bool(check(shard))

    found = []
    for path, param in jax.tree_util.tree_flatten_with_path(params)[0]:
        shards = {str(shard.index): shard.data for shard in param.addressable_shards}
        if not all(is_finite(shard) for shard in shards.values()):
            found.append(jax.tree_util.keystr(path, simple=True, separator="/"))
    return found
