"""Early leaving: rows that are still open are decoded without those that have ended.

Every shard of the batch keeps as many rows as the others, its own ones, so that no row moves between devices:

    rows        0 1 2 3 │ 4 5 6 7        two shards of four rows, × has ended
    open        · × × · │ × · × ×
    kept        0     3 │   5 4          two of each shard: those that are open, then others in their order

The rows that leave keep their values. The others are decoded in arrays of their own, which are then written back:

    few, few_cache, index_sb = leave(state, cache, shards=shards, size=size)
    few, few_chunk = decode(model, few, few_cache[:-1], few_cache[-1], …)
    state, chunk = rejoin_state(state, few, index_sb), rejoin_chunk(cache[-1], few_chunk, index_sb)

Here `index_sb` is `[shards, size]`: for each shard, indices of rows within it.
"""

import math

import jax
import jax.numpy as jnp

from mig_jax.distributed import sharding
from mig_jax.models.decoder import KVCache
from mig_jax.models.sampler import DecodeState

# Fewer rows of a device are not decoded noticeably faster.
_MIN_ROWS = 8


def subset_sizes(rows: int) -> tuple[int, ...]:
    """Return the numbers of rows, of those of a shard, that may be decoded without the others: 1/2, 1/4 and 1/8."""
    return tuple(-(-rows // n) for n in (2, 4, 8) if -(-rows // n) >= _MIN_ROWS)


def leave(
    state: DecodeState, kv_cache: tuple[KVCache, ...], *, shards: int, size: int
) -> tuple[DecodeState, tuple[KVCache, ...], jax.Array]:
    """Return the rows that are still open, with their own copy of the cache.

    Args:
      state: of B rows.
      kv_cache: of the prompts, with fewer rows where groups share them, and of the completions.
      shards: number of shards that the rows are split into.
      size: rows of each shard that are kept; no shard has more open ones.

    Returns:
      The state and the cache of `shards · size` rows, the prompts' included, and the indices of these rows.
    """
    index_sb = _choose_rows(state.is_open_b, shards=shards, size=size)

    def take_state(x: jax.Array) -> jax.Array:
        return sharding.constrain_batch(_take_rows(x, index_sb, axis=0)) if x.ndim else x

    def take_cache(x_lbmsh: jax.Array) -> jax.Array:
        group_size = state.is_open_b.shape[0] // x_lbmsh.shape[1]
        return sharding.constrain_kv_cache(_take_rows(x_lbmsh, index_sb // group_size, axis=1))

    return jax.tree.map(take_state, state), jax.tree.map(take_cache, kv_cache), index_sb


def rejoin_state(state: DecodeState, few: DecodeState, index_sb: jax.Array) -> DecodeState:
    """Return the state of all rows, in which the chosen ones have their values of `few`."""

    def put(x: jax.Array, y: jax.Array) -> jax.Array:
        return sharding.constrain_batch(_put_rows(x, y, index_sb, axis=0)) if x.ndim else y

    return jax.tree.map(put, state, few)


def rejoin_chunk(chunk: KVCache, few: KVCache, index_sb: jax.Array) -> KVCache:
    """Return the chunk of all rows, in which the chosen ones have their keys and values of `few`."""
    return jax.tree.map(lambda x, y: sharding.constrain_kv_cache(_put_rows(x, y, index_sb, axis=1)), chunk, few)


def _choose_rows(is_open_b: jax.Array, *, shards: int, size: int) -> jax.Array:
    """Return indices `[shards, size]` of the open rows of each shard, filled up with others.

    Args:
      is_open_b: `[B]` bool; no shard has more than `size` open rows.
      shards: number of shards that the rows are split into.
      size: rows kept of each shard.
    """
    return jnp.argsort(~is_open_b.reshape(shards, -1), axis=1, stable=True)[:, :size].astype(jnp.int32)


def _take_rows(x: jax.Array, index_sb: jax.Array, *, axis: int) -> jax.Array:
    """Return the chosen rows of `x`, whose rows are along `axis`."""
    shards = index_sb.shape[0]
    take = jax.vmap(lambda x, index_b: jnp.take(x, index_b, axis=axis), in_axes=(axis, 0), out_axes=axis)
    return _join(take(_split(x, shards, axis), index_sb), axis)


def _put_rows(x: jax.Array, chosen: jax.Array, index_sb: jax.Array, *, axis: int) -> jax.Array:
    """Return `x` with its chosen rows replaced by those of `chosen`."""
    shards, before = index_sb.shape[0], (slice(None),) * axis

    def put(x: jax.Array, chosen: jax.Array, index_b: jax.Array) -> jax.Array:
        return x.at[(*before, index_b)].set(chosen, unique_indices=True)

    put_shards = jax.vmap(put, in_axes=(axis, axis, 0), out_axes=axis)
    return _join(put_shards(_split(x, shards, axis), _split(chosen, shards, axis), index_sb), axis)


def _split(x: jax.Array, shards: int, axis: int) -> jax.Array:
    return x.reshape(*x.shape[:axis], shards, -1, *x.shape[axis + 1 :])


def _join(x: jax.Array, axis: int) -> jax.Array:
    return x.reshape(*x.shape[:axis], math.prod(x.shape[axis : axis + 2]), *x.shape[axis + 2 :])
