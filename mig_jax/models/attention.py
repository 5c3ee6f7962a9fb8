"""Attention of sequences to themselves and to cached keys and values, with the fastest kernel of the platform.

Each sequence is causal in itself, and all of its tokens see the same slots of the cache. So no mask is larger than
`[R, T, T]` or `[R, S]`. Below, two sequences of three tokens share a cached row of four slots, and each has its own
cached row of two slots (x is visible, · is masked):

                    shared     own cache    itself
                  ┌──────────┬───────────┬──────────┐
                  │ x x · ·  │ x ·       │ x · ·    │
      sequence 0  │ x x · ·  │ x ·       │ x x ·    │
                  │ x x · ·  │ x ·       │ x x x    │
                  ├──────────┼───────────┼──────────┤
                  │ x x x ·  │ x x       │ x · ·    │
      sequence 1  │ x x x ·  │ x x       │ x x ·    │
                  │ x x x ·  │ x x       │ x x x    │
                  └──────────┴───────────┴──────────┘

Samples of a group share their prompt in this way, and all probes of a response share the response: nothing is repeated.

A layer may have a sliding window, see `window`.

Without a cache (training, prefill, images) the kernel is splash attention on TPUs, cuDNN flash attention on NVIDIA GPUs
of compute capability 8.0 or newer, and XLA elsewhere. With a cache it is always XLA: one token at a time leaves nothing
to tile, and probes are scored in chunks.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.models.cache import GrowingPart, KeyValue
from mig_jax.models.flash_attention import cudnn_attention, splash_attention
from mig_jax.models.window import Window

# Finite, so that a row without visible keys (padding) gets a harmless average instead of NaN.
_MASKED = -1e30
# Queries per row of keys whose scores are in memory at once, and slots of keys, where many sequences share a row.
_MAX_QUERIES, _KEY_BLOCK = 128, 256


def attend(
    q_rtnh: jax.Array,
    new_kv: KeyValue,
    kv_cache: tuple[KeyValue | GrowingPart, ...],
    visible_rx: jax.Array,
    *,
    kernel: str,
    scale: float | None = None,
    window: Window | None = None,
) -> jax.Array:
    """Attend from R sequences of T tokens to the cache and, causally, to themselves.

    Args:
      q_rtnh: `[R, T, N, H]` queries.
      new_kv: keys and values of the same tokens, `[R, T, M, H]` each; M divides N.
      kv_cache: parts, keys and values `[B, M, S, H]` each, or of all layers. R / B neighboring sequences share a row;
        B may differ between parts.
      visible_rx: `[R, S]` bool, which slots of all parts together each sequence sees. Without a cache `[R, T]`: which
        of its own tokens are not padding.
      kernel: a key of `KERNELS`, used when there is no cache.
      scale: factor of the scores; None for 1 / √H.
      window: of this layer, see `window.make_window`; None if each token sees all earlier ones.

    Returns:
      `[R, T, N, H]` averages of the values, in the dtype of the queries.
    """
    if not kv_cache:
        segment_rt = visible_rx.astype(jnp.int32)
        return attend_within(q_rtnh, *new_kv, segment_rt, is_causal=True, kernel=kernel, scale=scale, window=window)
    length = q_rtnh.shape[1]
    factor: float = scale or q_rtnh.shape[-1] ** -0.5
    mask_1tt = jnp.tri(length, dtype=bool)[None]
    if window is not None:
        assert window.after_rx is not None
        mask_1tt &= _is_near(length, window.limit())
        # The last of the new tokens that sees each slot.
        visible_rx = jnp.where(visible_rx, window.limit() - 2 - window.after_rx, -1)
    softmax = _attend_part(q_rtnh, _by_head(*new_kv), mask_1tt, factor)
    start = 0
    for part in kv_cache:
        end = start + part[0].shape[-2]
        visible_r1s = jax.lax.slice_in_dim(visible_rx, start, end, axis=1)[:, None, :]
        if isinstance(part, GrowingPart):
            of_part = _attend_growing(q_rtnh, part, visible_r1s, factor)
        else:
            of_part = _attend_part(q_rtnh, part, visible_r1s, factor)
        softmax = _merge_softmax(softmax, of_part)
        start = end
    return _normalize(softmax).astype(q_rtnh.dtype)


def attend_within(
    q_rtnh: jax.Array,
    k_rtmh: jax.Array,
    v_rtmh: jax.Array,
    segment_rt: jax.Array,
    *,
    is_causal: bool,
    kernel: str,
    scale: float | None = None,
    window: Window | None = None,
) -> jax.Array:
    """Attend within the segments of each sequence.

    Args:
      q_rtnh: `[R, T, N, H]` queries; keys and values are `[R, T, M, H]`.
      segment_rt: `[R, T]` int32. A token sees the tokens of its own segment; padding is a segment of its own.
      is_causal: a token does not see later ones.
      kernel: a key of `KERNELS`.
      scale: factor of the scores; None for 1 / √H.
      window: for causal attention to segments without gaps, whose tokens are as far apart as their slots.

    Returns:
      `[R, T, N, H]` averages of the values, in the dtype of the queries.
    """
    kernel_fn = functools.partial(KERNELS[kernel], is_causal=is_causal, scale=scale or q_rtnh.shape[-1] ** -0.5)
    arrays = q_rtnh, k_rtmh, v_rtmh, segment_rt
    if window is None:
        return kernel_fn(*arrays)
    if window.is_on is None or kernel == "xla":
        return kernel_fn(*arrays, window=window.size if window.is_on is None else window.limit())
    # The flash kernels skip what the window hides, so each needs a size that is known when it is compiled.
    return jax.lax.cond(window.is_on, functools.partial(kernel_fn, window=window.size), kernel_fn, *arrays)


def _xla_attention(
    q_rtnh: jax.Array,
    k_rtmh: jax.Array,
    v_rtmh: jax.Array,
    segment_rt: jax.Array,
    *,
    is_causal: bool,
    scale: float,
    window: int | jax.Array | None = None,
) -> jax.Array:
    mask_rtt = segment_rt[:, :, None] == segment_rt[:, None, :]
    if is_causal:
        mask_rtt = jnp.tril(mask_rtt)
    if window is not None:
        mask_rtt &= _is_near(q_rtnh.shape[1], window)
    return _normalize(_attend_part(q_rtnh, _by_head(k_rtmh, v_rtmh), mask_rtt, scale)).astype(q_rtnh.dtype)


def _is_near(length: int, window: int | jax.Array) -> jax.Array:
    """Return whether a token is less than `window` tokens after another, `[1, T, T]` bool."""
    slot_t = jnp.arange(length)
    return (slot_t[:, None] - slot_t[None, :] < window)[None]


KERNELS = {"xla": _xla_attention, "splash": splash_attention, "cudnn": cudnn_attention}


# ----------------------------------------------------------------------------------------------------- partial softmax


class _PartialSoftmax(NamedTuple):
    """A softmax over some of the keys, float32, to be merged with that over others.

    numerator: `[…, H]`, Σ exp(score − max) · value.
    denominator: `[…]`, Σ exp(score − max).
    max: `[…]`, the largest score.
    """

    numerator: jax.Array
    denominator: jax.Array
    max: jax.Array


def _merge_softmax(a: _PartialSoftmax, b: _PartialSoftmax) -> _PartialSoftmax:
    """Return the softmax over the keys of both."""
    largest = jnp.maximum(a.max, b.max)
    scale_a, scale_b = jnp.exp(a.max - largest), jnp.exp(b.max - largest)
    numerator = a.numerator * scale_a[..., None] + b.numerator * scale_b[..., None]
    return _PartialSoftmax(numerator, a.denominator * scale_a + b.denominator * scale_b, largest)


def _normalize(softmax: _PartialSoftmax) -> jax.Array:
    """Return the average of the values, `[…, H]`."""
    return softmax.numerator / softmax.denominator[..., None]


def _by_head(k_rtmh: jax.Array, v_rtmh: jax.Array) -> KeyValue:
    """Return keys and values in the layout of the cache, `[R, M, T, H]`: a matrix for each row and head."""
    return k_rtmh.swapaxes(1, 2), v_rtmh.swapaxes(1, 2)


def _attend_growing(q_rtnh: jax.Array, part: GrowingPart, mask: jax.Array, scale: float) -> _PartialSoftmax:
    """Attend to the filled slots of a layer of a part; see `_attend_part`."""

    def attend_to(width: int) -> _PartialSoftmax:
        return _attend_part(q_rtnh, part.read(width), mask[..., :width], scale)

    index = (part.filled > np.array(part.widths[:-1], np.int32)).sum()
    return jax.lax.switch(index, [functools.partial(attend_to, width) for width in part.widths])


def _attend_part(q_rtnh: jax.Array, kv: KeyValue, mask: jax.Array, scale: float) -> _PartialSoftmax:
    """Attend to B rows of keys, each shared by R / B sequences.

    Sequences are processed in chunks where many share a row, as probes do: scores are the largest array here. A chunk
    reads the slots that one of its sequences sees; neighbors among probes are after cuts that are close to each other.

    Args:
      mask: `[R or 1, T or 1, S]` bool; or `[R, 1, S]` int32, the last token that sees each key, −1 for none.
      scale: factor of the scores.
    """
    rows, (sequences, length) = kv[0].shape[0], q_rtnh.shape[:2]
    per_row, chunk = sequences // rows, max(1, _MAX_QUERIES // length)
    q_bgtnh = q_rtnh.reshape(rows, per_row, *q_rtnh.shape[1:])
    mask_bgts = mask.reshape(-1, per_row if mask.shape[0] == sequences else 1, *mask.shape[1:])
    if per_row <= chunk:
        softmax = _attend_rows(q_bgtnh, kv, mask_bgts, scale)
    else:
        chunks = _split_chunks(q_bgtnh, chunk), _split_chunks(mask_bgts, chunk)
        softmax = jax.lax.map(lambda q_and_mask: _attend_blocks(q_and_mask[0], kv, q_and_mask[1], scale), chunks)
        softmax = jax.tree.map(lambda x: _join_chunks(x)[:, :per_row], softmax)
    return jax.tree.map(lambda x: x.reshape(sequences, *x.shape[2:]), softmax)


def _split_chunks(x_bg: jax.Array, chunk: int) -> jax.Array:
    """Reshape `[B, G, …]` to `[G / chunk, B, chunk, …]`, padded with zeros."""
    padding = -x_bg.shape[1] % chunk
    padded = jnp.pad(x_bg, [(0, 0), (0, padding)] + [(0, 0)] * (x_bg.ndim - 2))
    return padded.reshape(x_bg.shape[0], -1, chunk, *x_bg.shape[2:]).swapaxes(0, 1)


def _join_chunks(x: jax.Array) -> jax.Array:
    """Reshape `[chunks, B, chunk, …]` to `[B, chunks · chunk, …]`, with the padding of `_split_chunks`."""
    return x.swapaxes(0, 1).reshape(x.shape[1], -1, *x.shape[3:])


def _attend_blocks(q_bgtnh: jax.Array, kv: KeyValue, mask_bgts: jax.Array, scale: float) -> _PartialSoftmax:
    """Attend as `_attend_rows`, in blocks of keys, from the first to the last that is visible to any sequence."""
    slots, kv_heads = kv[0].shape[2], kv[0].shape[1]
    if slots <= _KEY_BLOCK:
        return _attend_rows(q_bgtnh, kv, mask_bgts, scale)
    is_bool = mask_bgts.dtype == bool
    is_seen_s = (mask_bgts if is_bool else mask_bgts >= 0).any((0, 1, 2))
    first, last = jnp.argmax(is_seen_s) // _KEY_BLOCK, (slots - 1 - jnp.argmax(is_seen_s[::-1])) // _KEY_BLOCK
    q_bmgnth = _stack(q_bgtnh, kv_heads)

    def add_block(number: jax.Array, softmax: _PartialSoftmax) -> _PartialSoftmax:
        # The last block overlaps the one before it, where S is not a multiple of blocks.
        start = jnp.minimum(number * _KEY_BLOCK, slots - _KEY_BLOCK)
        key_bmsh, value_bmsh = (jax.lax.dynamic_slice_in_dim(x_bmsh, start, _KEY_BLOCK, axis=2) for x_bmsh in kv)
        mask = jax.lax.dynamic_slice_in_dim(mask_bgts, start, _KEY_BLOCK, axis=3)
        is_new_s = start + jnp.arange(_KEY_BLOCK) >= number * _KEY_BLOCK
        mask = jnp.where(is_new_s[None, None, None], mask, False if is_bool else -1)
        return _merge_softmax(softmax, _attend_stacked(q_bmgnth, (key_bmsh, value_bmsh), mask, scale))

    none = jnp.zeros(q_bmgnth.shape[:-1])
    start = _PartialSoftmax(jnp.zeros(q_bmgnth.shape), none, none + _MASKED)
    return _unstack(jax.lax.fori_loop(first, last + 1, add_block, start))


def _attend_rows(q_bgtnh: jax.Array, kv: KeyValue, mask_bgts: jax.Array, scale: float) -> _PartialSoftmax:
    """Attend from G sequences to each of B rows of keys; the fields of the result are `[B, G, T, N, …]`."""
    return _unstack(_attend_stacked(_stack(q_bgtnh, kv[0].shape[1]), kv, mask_bgts, scale))


def _stack(q_bgtnh: jax.Array, kv_heads: int) -> jax.Array:
    """Return `[B, M, G, N/M, T, H]`: all queries of a row that share a key head are next to each other."""
    rows, per_row, length, heads, head_size = q_bgtnh.shape
    return q_bgtnh.reshape(rows, per_row, length, kv_heads, heads // kv_heads, head_size).transpose(0, 3, 1, 4, 2, 5)


def _unstack(softmax: _PartialSoftmax) -> _PartialSoftmax:
    """Reshape fields `[B, M, G, N/M, T, …]` to `[B, G, T, N, …]`."""

    def unstack(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, (1, 3), (3, 4))
        return x.reshape(*x.shape[:3], -1, *x.shape[5:])

    return jax.tree.map(unstack, softmax)


def _attend_stacked(q_bmgnth: jax.Array, kv: KeyValue, mask_bgts: jax.Array, scale: float) -> _PartialSoftmax:
    """Attend from stacked queries; the fields of the result are stacked, too.

    The queries of a row and key head are one matrix of Z = G · N/M · T rows, so that all large arrays are batches of
    plain matrices, in the backward pass too.
    """
    key_bmsh, value_bmsh = kv
    stacked, head_size = q_bmgnth.shape[:-1], q_bmgnth.shape[-1]
    q_bmzh = q_bmgnth.reshape(*stacked[:2], -1, head_size)
    score_bmzs = jnp.einsum("bmzh,bmsh->bmzs", q_bmzh, key_bmsh, preferred_element_type=jnp.float32) * scale
    if mask_bgts.dtype != bool:  # computed here, for one chunk: it is the only mask with an axis for each token
        mask_bgts = jnp.arange(stacked[4])[None, None, :, None] <= mask_bgts
    score = jnp.where(mask_bgts[:, None, :, None], score_bmzs.reshape(*stacked, -1), _MASKED)
    largest = jax.lax.stop_gradient(score.max(-1))
    weight = jnp.exp(score - largest[..., None])
    weight_bmzs = weight.astype(q_bmgnth.dtype).reshape(*q_bmzh.shape[:-1], -1)
    out_bmzh = jnp.einsum("bmzs,bmsh->bmzh", weight_bmzs, value_bmsh, preferred_element_type=jnp.float32)
    return _PartialSoftmax(out_bmzh.reshape(q_bmgnth.shape), weight.sum(-1), largest)
