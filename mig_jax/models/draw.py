"""Draw tokens from logits by inverse CDF, in two levels: first a block of neighboring ids, then an id of the block.

Two random numbers choose a token, whatever the size of the vocabulary, and the exponentials that weight the blocks are
those of the log-prob. One level would not do: in float32 a uniform number has 2²³ values, too few for the tail of
150,000 ids. Here each level is as fine as that within what it chooses from.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

# Ids of a block.
_BLOCK = 128
# No block has ids of two parts of the vocabulary, so that one that is sharded over up to as many devices is never
# gathered. Blocks do not depend on the devices, and so neither do tokens.
_PARTS = 16
# Half of the distance between uniform numbers.
_HALF = 2**-24


def draw_tokens(logit_bv: jax.Array, uniform_b2: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Draw one id for every row from the softmax of its logits.

    Args:
      logit_bv: `[B, V]` float32. An id of −inf is never drawn.
      uniform_b2: `[B, 2]` independent uniform numbers in [0, 1); None to take the most likely id.

    Returns:
      `[B]` ids, int32, and `[B]` their log-probs in nats.
    """
    logit_bnx, first_id_n = _split_blocks(logit_bv)
    block_max_bn = logit_bnx.max(-1)
    max_b = block_max_bn.max(-1)
    weight_bn = jnp.exp(logit_bnx - max_b[:, None, None]).sum(-1)
    block_b = jnp.argmax(block_max_bn, -1) if uniform_b2 is None else _invert_cdf(weight_bn, uniform_b2[:, 0])
    logit_bx = jnp.take_along_axis(logit_bnx, block_b[:, None, None], axis=1)[:, 0]
    weight_bx = jnp.exp(logit_bx - max_b[:, None])
    within_b = jnp.argmax(logit_bx, -1) if uniform_b2 is None else _invert_cdf(weight_bx, uniform_b2[:, 1])
    token_logit_b = jnp.take_along_axis(logit_bx, within_b[:, None], axis=1)[:, 0]
    return (first_id_n[block_b] + within_b).astype(jnp.int32), token_logit_b - max_b - jnp.log(weight_bn.sum(-1))


def _split_blocks(logit_bv: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the logits in blocks `[B, N, X]`, padded with −inf, and the first id of each block `[N]`."""
    rows, vocab = logit_bv.shape
    parts = math.gcd(vocab, _PARTS)
    per_part = vocab // parts
    size = min(_BLOCK, per_part)
    blocks = -(-per_part // size)
    padding = (0, 0), (0, 0), (0, blocks * size - per_part)
    padded = jnp.pad(logit_bv.reshape(rows, parts, per_part), padding, constant_values=-jnp.inf)
    first_id = np.arange(parts)[:, None] * per_part + np.arange(blocks)[None, :] * size
    return padded.reshape(rows, parts * blocks, size), jnp.asarray(first_id.reshape(-1))


def _invert_cdf(weight_bn: jax.Array, uniform_b: jax.Array) -> jax.Array:
    """Return the first index of each row whose cumulative weight exceeds uniform · total; its weight is never 0.

    A number stands for an interval of 2⁻²³, and the share is its middle: that of 0 would choose the first index that is
    possible at all, however unlikely it is.

    Rounding may let the cumulative weight rise, or fall, where nothing is added: such an index does not count. One
    always exceeds, since the share, below 1 by at least 2⁻²⁴, rounds to less than the greatest.
    """
    cumulative_bn = jnp.where(weight_bn > 0, jnp.cumsum(weight_bn, axis=-1), -1.0)
    share_b = jnp.minimum(uniform_b + _HALF, 1 - _HALF) * cumulative_bn.max(-1)
    return jnp.argmax(cumulative_bn > share_b[:, None], axis=-1).astype(jnp.int32)
