"""Gradient accumulation: the rows of a batch split into micro-batches, and the sum of their gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def sum_gradients(gradient_fn: Callable[..., Any], rows: tuple, microbatches: int) -> Any:
    """Return Σ gradient_fn(*part) over the micro-batches of `rows`, one after the other.

    The sum is that of the whole batch if `gradient_fn` returns sums with weights of the whole batch, see
    `losses.stream_token_weights`.

    Args:
      gradient_fn: (*rows) → a pytree of arrays, such as gradients and metrics.
      rows: its arguments, pytrees whose leaves have rows on their first axis.
      microbatches: number of parts; 1 calls `gradient_fn` once.

    Returns:
      The sum, accumulated in float32 or wider.

    Raises:
      ValueError: the rows cannot be split into equal parts.
    """
    if microbatches == 1:
        return gradient_fn(*rows)
    parts = split_microbatches(rows, microbatches)
    shapes = jax.eval_shape(gradient_fn, *jax.tree.map(lambda x: x[0], parts))
    # In bfloat16, a total over hundreds of parts would soon be too large for the next part to change it.
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.promote_types(s.dtype, jnp.float32)), shapes)

    def add(total, part):
        return jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, gradient_fn(*part)), None

    total, _ = jax.lax.scan(add, zeros, parts)
    return total


def split_microbatches(rows: Any, parts: int) -> Any:
    """Split leaves of B rows into `[parts, B / parts, …]`.

    Rows are dealt out in turn: part i gets rows i, i + parts, i + 2·parts, … So a batch sharded over devices stays
    evenly sharded in every part. If a leaf has fewer rows than the others (images: one for each question), the rows of
    the others that belong to one of its rows stay together. With U rows in the smallest leaf and r = B / U,
    `[U·r, …]` → `[U/parts, parts, r, …]` → `[parts, U/parts·r, …]`.

    Args:
      rows: a pytree whose leaves have rows on their first axis.
      parts: number of micro-batches.

    Returns:
      The tree with two leading axes in place of one.

    Raises:
      ValueError: the smallest leaf cannot be split into equal parts, or the rows of another are no multiple of it.
    """
    sizes = sorted({x.shape[0] for x in jax.tree.leaves(rows)})
    units = sizes[0]
    errors = [f"{units} rows cannot be split into {parts} micro-batches of equal size"] if units % parts else []
    errors += [f"{size} rows are no multiple of {units}" for size in sizes if size % units]
    if errors:
        raise ValueError(f"{'; '.join(errors)}; the leading axes of the batch are {sizes}")

    def split_leaf(x):
        dealt = x.reshape(units // parts, parts, x.shape[0] // units, *x.shape[1:])
        return dealt.swapaxes(0, 1).reshape(parts, x.shape[0] // parts, *x.shape[1:])

    return jax.tree.map(split_leaf, rows)
