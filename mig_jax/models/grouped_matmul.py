"""Matrix products in groups: rows that are sorted by group, each times the matrix of its group.

    yₚ = xₚ · W[group of row p]

Every row counts, whatever the sizes of the groups are: none is dropped, and none is padded to the largest group. On
TPUs this is `jax.lax.ragged_dot`, which XLA compiles for them. Elsewhere XLA would multiply every row by every matrix,
so there a loop runs over blocks of rows of one group. A group costs one block more than its rows fill, at most.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

# Rows of a block: enough to use a matrix well that has been read, few enough to leave small groups little waste.
_MIN_BLOCK, _MAX_BLOCK = 16, 256


@jax.custom_vjp
def grouped_matmul(x_pd: jax.Array, w_edf: jax.Array, size_e: jax.Array) -> jax.Array:
    """Return the product of each row with the matrix of its group.

    Args:
      x_pd: `[P, D]` rows, those of group 0 first.
      w_edf: `[E, D, F]` matrices.
      size_e: `[E]` int32, rows of each group; rows after the last group get any values.

    Returns:
      `[P, F]`, in the dtype of the rows. The gradient of rows after the last group is any value, too.
    """
    return jax.lax.platform_dependent(x_pd, w_edf, size_e, tpu=_ragged_dot, default=_matmul_blocks)


def _forward(x_pd: jax.Array, w_edf: jax.Array, size_e: jax.Array):
    return grouped_matmul(x_pd, w_edf, size_e), (x_pd, w_edf, size_e)


def _backward(residuals: tuple[jax.Array, jax.Array, jax.Array], dy_pf: jax.Array):
    x_pd, w_edf, size_e = residuals
    dx_pd = grouped_matmul(dy_pf, w_edf.swapaxes(1, 2), size_e)
    dw_edf = jax.lax.platform_dependent(x_pd, dy_pf, size_e, tpu=_ragged_outer, default=_sum_outer_blocks)
    return dx_pd, dw_edf.astype(w_edf.dtype), np.zeros(size_e.shape, jax.dtypes.float0)


grouped_matmul.defvjp(_forward, _backward)


# ---------------------------------------------------------------------------------------------------------------- TPUs

# Contracts the rows of each group: [P, D], [P, F] → [E, D, F].
_OUTER = jax.lax.RaggedDotDimensionNumbers(
    dot_dimension_numbers=(((0,), (0,)), ((), ())), lhs_ragged_dimensions=[0], rhs_group_dimensions=[]
)


def _ragged_dot(x_pd: jax.Array, w_edf: jax.Array, size_e: jax.Array) -> jax.Array:
    return jax.lax.ragged_dot(x_pd, w_edf, size_e)


def _ragged_outer(x_pd: jax.Array, dy_pf: jax.Array, size_e: jax.Array) -> jax.Array:
    return jax.lax.ragged_dot_general(x_pd, dy_pf, size_e, _OUTER)


# ------------------------------------------------------------------------------------------------------ blocks of rows


def block_rows(rows: int, groups: int) -> int:
    """Return the rows of a block: about those of a group on average."""
    return min(max(_MIN_BLOCK, 1 << (rows // groups).bit_length() - 1 if rows >= groups else 0), _MAX_BLOCK)


def _loop(size_e: jax.Array, block: int, step: Callable, start):
    """Return the carry after `step(carry, group, first row, rows of the group from there)` for every block in order."""
    blocks_e = -(-size_e // block)
    end_e, block_end_e = jnp.cumsum(size_e), jnp.cumsum(blocks_e)

    def body(i, carry):
        group = jnp.searchsorted(block_end_e, i, side="right")
        before = (i - block_end_e[group] + blocks_e[group]) * block  # rows of the group that are done
        return step(carry, group, end_e[group] - size_e[group] + before, size_e[group] - before)

    return jax.lax.fori_loop(0, block_end_e[-1], body, start)


def _matmul_blocks(x_pd: jax.Array, w_edf: jax.Array, size_e: jax.Array) -> jax.Array:
    rows, block = x_pd.shape[0], block_rows(x_pd.shape[0], w_edf.shape[0])
    # A block may reach into the next groups, whose own blocks overwrite what it writes there, or beyond all rows.
    x_pd = jnp.pad(x_pd, ((0, block), (0, 0)))

    def step(y_pf, group, row, _):
        x_bd = jax.lax.dynamic_slice_in_dim(x_pd, row, block)
        w_df = jax.lax.dynamic_index_in_dim(w_edf, group, keepdims=False)
        return jax.lax.dynamic_update_slice_in_dim(y_pf, jnp.dot(x_bd, w_df), row, axis=0)

    y_pf = jnp.zeros((x_pd.shape[0], w_edf.shape[2]), x_pd.dtype)
    return _loop(size_e, block, step, y_pf)[:rows]


def _sum_outer_blocks(x_pd: jax.Array, dy_pf: jax.Array, size_e: jax.Array) -> jax.Array:
    """Return Σ xₚ ⊗ dyₚ over the rows of each group, `[E, D, F]`."""
    block = block_rows(x_pd.shape[0], size_e.shape[0])
    x_pd, dy_pf = (jnp.pad(x, ((0, block), (0, 0))) for x in (x_pd, dy_pf))
    shape = x_pd.shape[1], dy_pf.shape[1]

    def step(carry, group, row, left):
        sum_edf, sum_df, previous = carry
        x_bd, dy_bf = (jax.lax.dynamic_slice_in_dim(x, row, block) for x in (x_pd, dy_pf))
        is_own_b1 = (jnp.arange(block) < left)[:, None]
        added_df = jnp.dot(x_bd.T, jnp.where(is_own_b1, dy_bf, 0), preferred_element_type=jnp.float32)
        sum_df = jnp.where(group == previous, sum_df, 0) + added_df
        sum_edf = jax.lax.dynamic_update_index_in_dim(sum_edf, sum_df.astype(sum_edf.dtype), group, axis=0)
        return sum_edf, sum_df, group

    start = jnp.zeros((size_e.shape[0], *shape), dy_pf.dtype), jnp.zeros(shape), jnp.int32(-1)
    return _loop(size_e, block, step, start)[0]
