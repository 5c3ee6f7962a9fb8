"""Sliding windows of attention: a token sees itself and the tokens right before it, no more than the window together.

Padding does not count, and where a token is stored does not matter. With a cache, the distance of a token is the number
of visible tokens from it to the query. A window of three on cached slots of which the second is padding, for two new
tokens (x is visible, · is masked):

                    cache        itself
                  ┌──────────┬─────────┐
                  │ · · x x  │ x ·     │
                  │ · · · x  │ x x     │
                  └──────────┴─────────┘

So it makes no difference to samples that share a prompt, or to probes that share a response.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Window(NamedTuple):
    """The sliding window of a layer: a token sees itself and the size − 1 tokens before it.

    size: in tokens.
    after_rx: `[R, S]` number of visible cached tokens after each slot; None without a cache.
    is_on: `[]` bool, False if the layer has no window; None: all layers have it.
    """

    size: int
    after_rx: jax.Array | None = None
    is_on: jax.Array | None = None

    def limit(self) -> int | jax.Array:
        """Return the number of tokens that a token of the layer sees at most; the largest int32 without a window."""
        return self.size if self.is_on is None else jnp.where(self.is_on, self.size, jnp.iinfo(jnp.int32).max)


def make_window(size: int | None, length: int, visible_rx: jax.Array, *, has_cache: bool) -> Window | None:
    """Return the window for all layers that have one; None if it hides nothing, or `size` is None.

    Args:
      size: of the window in tokens.
      length: T, number of new tokens.
      visible_rx: as in `attend`.
      has_cache: there is a cache.
    """
    slots = visible_rx.shape[1] if has_cache else 0
    if size is None or size >= slots + length:
        return None
    if not has_cache:
        return Window(size)
    count_rx = jnp.cumsum(visible_rx, axis=1, dtype=jnp.int32)
    return Window(size, count_rx[:, -1:] - count_rx)
