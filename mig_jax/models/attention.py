"""Attention, one function for all that needs it, with the kernel that its chip has.

A sequence is causal in itself, and sees of the past the same slots with all its tokens. So no mask is larger than
a sequence by a sequence, or a sequence by the past; two sequences of three tokens behind one past of four slots and a
second one of two slots each (x sees, · does not):

                     past       own past    itself
                  ┌──────────┬───────────┬──────────┐
                  │ x x · ·  │ x ·       │ x · ·    │
      sequence 0  │ x x · ·  │ x ·       │ x x ·    │
                  │ x x · ·  │ x ·       │ x x x    │
                  ├──────────┼───────────┼──────────┤
                  │ x x x ·  │ x x       │ x · ·    │
      sequence 1  │ x x x ·  │ x x       │ x x ·    │
                  │ x x x ·  │ x x       │ x x x    │
                  └──────────┴───────────┴──────────┘

Samples of a group share their prompt so, and all probes of a response the response: nothing is repeated.

Without a past (training, prefill, images) the kernel is splash attention on TPUs, cuDNN's on GPUs, XLA elsewhere. On a
past it is XLA everywhere: a token at a time has nothing to tile, and the probes are computed a few at a time.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention
from jax.sharding import PartitionSpec as P

from mig_jax.distributed import sharding

KERNELS = ("xla", "splash", "cudnn")

# Finite, so that a row that sees nothing (padding) gets a harmless average instead of NaN.
_UNSEEN = -1e30
# Tokens behind one row of a past whose scores are alive at once.
_QUERIES = 256
# Tokens that splash attention takes at a time, and what lengths and head sizes are multiples of.
_BLOCK, _LANES = 512, 128
_CUDNN_TILE = 64

KeyValue = tuple[jax.Array, jax.Array]


def choose_kernel(wanted: str, *, platform: str, dtype: str) -> str:
    """`wanted`, or where that is "" the best of the chip: cuDNN computes in 16 bits only.

    Raises:
      ValueError: the chip has no such kernel.
    """
    of_chip = {"tpu": "splash", "gpu": "cudnn" if dtype != "float32" else "xla"}.get(platform, "xla")
    if wanted not in ("", "xla", of_chip):
        raise ValueError(
            f"model.attention={wanted!r} does not run on a {platform} in {dtype}: model.attention='' takes {of_chip}"
        )
    return wanted or of_chip


def attend(
    q_rtnh: jax.Array, new: KeyValue, past: tuple[KeyValue, ...], visible_rx: jax.Array, *, kernel: str
) -> jax.Array:
    """Attention of R sequences of T tokens to the past and, causally, to themselves: `[R, T, N, H]`.

    Args:
      q_rtnh: queries.
      new: keys and values of the same tokens, each `[R, T, M, H]`; M divides N.
      past: parts, keys and values `[B, S, M, H]` each; R / B neighbouring sequences share a row, B differs by part.
      visible_rx: `[R, S]` bool, which slots of all parts together each sequence sees. Without a past `[R, T]`: which of
        its own tokens are no padding.
      kernel: one of KERNELS, for sequences without a past.
    """
    if not past:
        return attend_within(q_rtnh, *new, visible_rx.astype(jnp.int32), is_causal=True, kernel=kernel)
    joined = _attend_part(q_rtnh, new, jnp.tri(q_rtnh.shape[1], dtype=bool)[None])
    first = 0
    for key, value in past:
        visible_r1s = jax.lax.slice_in_dim(visible_rx, first, first + key.shape[1], axis=1)[:, None, :]
        joined = _join(joined, _attend_part(q_rtnh, (key, value), visible_r1s))
        first += key.shape[1]
    return _average(joined).astype(q_rtnh.dtype)


def attend_within(
    q_rtnh: jax.Array, k_rtmh: jax.Array, v_rtmh: jax.Array, segment_rt: jax.Array, *, is_causal: bool, kernel: str
) -> jax.Array:
    """Attention of sequences to themselves: a token sees those of its own segment, none that is later if `is_causal`.

    Args:
      segment_rt: `[R, T]` int32; padding is a segment of its own.
    """
    kernel_fn = {"xla": _xla, "splash": _splash, "cudnn": _cudnn}[kernel]
    return kernel_fn(q_rtnh, k_rtmh, v_rtmh, segment_rt, is_causal)


# ---------------------------------------------------------------------------------------------------------------- XLA


class _Part(NamedTuple):
    """A softmax over some of the keys, to be joined with that over others; float32.

    out_rtnh: Σ exp(score − max) · value; sum_rtn: Σ exp(score − max); max_rtn: the greatest score.
    """

    out_rtnh: jax.Array
    sum_rtn: jax.Array
    max_rtn: jax.Array


def _xla(q_rtnh, k_rtmh, v_rtmh, segment_rt, is_causal) -> jax.Array:
    mask_rtt = _mask_rtt(segment_rt)
    if is_causal:
        mask_rtt = jnp.tril(mask_rtt)
    return _average(_attend_part(q_rtnh, (k_rtmh, v_rtmh), mask_rtt)).astype(q_rtnh.dtype)


def _mask_rtt(segment_rt: jax.Array) -> jax.Array:
    return segment_rt[:, :, None] == segment_rt[:, None, :]


def _attend_part(q_rtnh: jax.Array, kv: KeyValue, mask: jax.Array) -> _Part:
    """Attention to B rows of keys, R / B sequences each; the mask is `[R or 1, T or 1, S]`.

    Where many sequences share a row, as probes do, they are taken a few at a time: scores are the largest thing here.
    """
    rows, (sequences, length) = kv[0].shape[0], q_rtnh.shape[:2]
    sharing, few = sequences // rows, max(1, _QUERIES // length)
    q_bntnh = q_rtnh.reshape(rows, sharing, *q_rtnh.shape[1:])
    mask_bnts = mask.reshape(-1, sharing if mask.shape[0] == sequences else 1, *mask.shape[1:])
    if sharing <= few:
        part = _attend_rows(q_bntnh, kv, mask_bnts)
    else:
        dealt = [_deal(x, few) for x in (q_bntnh, mask_bnts)]
        part = jax.lax.map(lambda some: _attend_rows(some[0], kv, some[1]), dealt)
        part = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(rows, -1, *x.shape[3:])[:, :sharing], part)
    return jax.tree.map(lambda x: x.reshape(sequences, *x.shape[2:]), part)


def _deal(x_bn: jax.Array, few: int) -> jax.Array:
    """`[B, n, …]` → `[n / few, B, few, …]`, filled up with zeros."""
    padding = -x_bn.shape[1] % few
    padded = jnp.pad(x_bn, [(0, 0), (0, padding)] + [(0, 0)] * (x_bn.ndim - 2))
    return padded.reshape(x_bn.shape[0], -1, few, *x_bn.shape[2:]).swapaxes(0, 1)


def _attend_rows(q_bntnh: jax.Array, kv: KeyValue, mask_bnts: jax.Array) -> _Part:
    """Attention of n sequences to each row of keys; fields are `[B, n, T, N, …]`."""
    key, value = kv
    rows, sharing, length, heads, head_size = q_bntnh.shape
    kv_heads = key.shape[2]
    group = heads // kv_heads
    # All that shares a key head of a row stands in one matrix, so that forwards and backwards all large arrays are
    # batches of plain matrices: X = n · group · T.
    q_bmngth = q_bntnh.reshape(rows, sharing, length, kv_heads, group, head_size).transpose(0, 3, 1, 4, 2, 5)
    q_bmxh = q_bmngth.reshape(rows, kv_heads, -1, head_size)
    score = jnp.einsum("bmxh,bsmh->bmxs", q_bmxh, key, preferred_element_type=jnp.float32) * head_size**-0.5
    score = jnp.where(mask_bnts[:, None, :, None], score.reshape(*q_bmngth.shape[:-1], -1), _UNSEEN)
    greatest = jax.lax.stop_gradient(score.max(-1, keepdims=True))
    weight = jnp.exp(score - greatest)
    weight_bmxs = weight.astype(q_bntnh.dtype).reshape(*q_bmxh.shape[:-1], -1)
    out_bmxh = jnp.einsum("bmxs,bsmh->bmxh", weight_bmxs, value, preferred_element_type=jnp.float32)

    def in_place(x):
        """`[B, M, n, group, T, …]` → `[B, n, T, N, …]`."""
        return jnp.moveaxis(x, (1, 3), (3, 4)).reshape(rows, sharing, length, heads, *x.shape[5:])

    return _Part(in_place(out_bmxh.reshape(q_bmngth.shape)), in_place(weight.sum(-1)), in_place(greatest[..., 0]))


def _join(a: _Part, b: _Part) -> _Part:
    """The softmax over the keys of both."""
    max_rtn = jnp.maximum(a.max_rtn, b.max_rtn)
    scale_a, scale_b = jnp.exp(a.max_rtn - max_rtn), jnp.exp(b.max_rtn - max_rtn)
    out_rtnh = a.out_rtnh * scale_a[..., None] + b.out_rtnh * scale_b[..., None]
    return _Part(out_rtnh, a.sum_rtn * scale_a + b.sum_rtn * scale_b, max_rtn)


def _average(part: _Part) -> jax.Array:
    """`[R, T, N, H]` of the values, weighted by the softmax."""
    return part.out_rtnh / part.sum_rtn[..., None]


# ------------------------------------------------------------------------------------------------------- other kernels


def _splash(q_rtnh, k_rtmh, v_rtmh, segment_rt, is_causal) -> jax.Array:
    """Splash attention (jax.experimental.pallas.ops.tpu), which skips what a causal mask hides."""
    return _on_each_device(functools.partial(_splash_here, is_causal=is_causal), q_rtnh, k_rtmh, v_rtmh, segment_rt)


def _splash_here(q_rtnh, k_rtmh, v_rtmh, segment_rt, *, is_causal) -> jax.Array:
    length, heads, head_size = q_rtnh.shape[1:]
    block = min(_BLOCK, _round_up(length, _LANES))
    fill = _round_up(length, block) - length
    shape = (length + fill, length + fill)
    mask = splash_attention.CausalMask(shape) if is_causal else splash_attention.FullMask(shape)
    sizes = dict.fromkeys(("block_q", "block_kv", "block_q_dkv", "block_kv_dkv", "block_q_dq", "block_kv_dq"), block)
    kernel = splash_attention.make_splash_mha(
        splash_attention.MultiHeadMask([mask] * heads),
        block_sizes=splash_attention.BlockSizes(**sizes),
        head_shards=1,
        q_seq_shards=1,
    )

    def one_row(q_nth, k_mth, v_mth, segment_t):
        return kernel(q_nth, k_mth, v_mth, segment_ids=splash_attention.SegmentIds(segment_t, segment_t))

    def laid_out(x_rtnh):
        """`[R, N, T', H']`, filled up to whole blocks and lanes."""
        sizes = [(0, 0), (0, fill), (0, 0), (0, -head_size % _LANES)]
        return jnp.pad(x_rtnh, sizes).swapaxes(1, 2)

    q_rnth = laid_out(q_rtnh * head_size**-0.5)  # the kernel does not scale
    out_rnth = jax.vmap(one_row)(q_rnth, laid_out(k_rtmh), laid_out(v_rtmh), _fill(segment_rt, fill))
    return out_rnth[:, :, :length, :head_size].swapaxes(1, 2)


def _cudnn(q_rtnh, k_rtmh, v_rtmh, segment_rt, is_causal) -> jax.Array:
    """cuDNN's flash attention, by `jax.nn.dot_product_attention`."""
    here = _cudnn_causal if is_causal else _cudnn_segments
    return _on_each_device(here, q_rtnh, k_rtmh, v_rtmh, segment_rt)


def _cudnn_causal(q_rtnh, k_rtmh, v_rtmh, segment_rt) -> jax.Array:
    """Of text, whose only segments are padding (0) and the rest (1): padding is put behind the rest, unseen.

    Any other mask than the causal one would be an array `[R, 1, T, T]`.
    """
    order_rt = jnp.argsort(segment_rt, axis=1, stable=True, descending=True)
    q, k, v = (_whole_tiles(_reorder(x, order_rt)) for x in (q_rtnh, k_rtmh, v_rtmh))
    out = _dot_product(q, k, v, is_causal=True)[:, : q_rtnh.shape[1]]
    return _reorder(out, jnp.argsort(order_rt, axis=1))


def _reorder(x_rtnh: jax.Array, order_rt: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x_rtnh, order_rt[..., None, None], axis=1)


def _cudnn_segments(q_rtnh, k_rtmh, v_rtmh, segment_rt) -> jax.Array:
    length = q_rtnh.shape[1]
    q, k, v = map(_whole_tiles, (q_rtnh, k_rtmh, v_rtmh))
    return _dot_product(q, k, v, mask=_mask_rtt(_fill(segment_rt, -length % _CUDNN_TILE))[:, None])[:, :length]


def _whole_tiles(x_rtnh: jax.Array) -> jax.Array:
    """cuDNN takes even lengths only; its own tiles are of 64."""
    return jnp.pad(x_rtnh, ((0, 0), (0, -x_rtnh.shape[1] % _CUDNN_TILE), (0, 0), (0, 0)))


_dot_product = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")


def _on_each_device(kernel: Callable, q_rtnh, k_rtmh, v_rtmh, segment_rt) -> jax.Array:
    """A kernel is one device's: rows are cut over the data axes and heads over `tensor`, as far as those divide them.

    A key head that several devices along `tensor` need is held by each. Simply called where no mesh is set.
    """
    mesh, heads, kv_heads = jax.sharding.get_abstract_mesh(), q_rtnh.shape[2], k_rtmh.shape[2]
    if mesh.empty:
        return kernel(q_rtnh, k_rtmh, v_rtmh, segment_rt)
    tensor = mesh.shape["tensor"]
    cut = "tensor" if heads % tensor == 0 else None
    if cut:
        of_each = math.lcm(kv_heads, tensor) // kv_heads
        k_rtmh, v_rtmh = (jnp.repeat(x, of_each, axis=2) for x in (k_rtmh, v_rtmh))
    rows = sharding.ROWS if sharding.batch_shards(len(q_rtnh)) else P(None)
    by_head = P(*rows, None, cut)
    mapped = jax.shard_map(kernel, in_specs=(by_head, by_head, by_head, rows), out_specs=by_head, check_vma=False)
    return mapped(q_rtnh, k_rtmh, v_rtmh, segment_rt)


def _fill(segment_rt: jax.Array, fill: int) -> jax.Array:
    """What is filled up is a segment that no token is of."""
    return jnp.pad(segment_rt, ((0, 0), (0, fill)), constant_values=-2)


def _round_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
