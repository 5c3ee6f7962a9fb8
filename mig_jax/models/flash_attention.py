"""Flash attention of TPUs (splash, from Pallas) and GPUs (cuDNN) for sequences without a cache.

Both kernels run on one device. They are called on shards: rows are split over the data axes, heads over `tensor`.
Arguments are those of `attention.attend_within`, the window as its size in tokens.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from mig_jax.distributed import sharding

# Splash attention processes blocks of tokens; lengths and head sizes are multiples of the lanes of a TPU.
_BLOCK, _LANES = 512, 128
# cuDNN takes even lengths only; its own tiles have 64 tokens.
_CUDNN_TILE = 64
# A segment without tokens, for padding to whole tiles.
_NO_SEGMENT = -2

# A name of its own, so that tests can replace the implementation where there is no GPU.
_dot_product = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")


def splash_attention(
    q_rtnh: jax.Array,
    k_rtmh: jax.Array,
    v_rtmh: jax.Array,
    segment_rt: jax.Array,
    *,
    is_causal: bool,
    scale: float,
    window: int | None = None,
) -> jax.Array:
    """Attend with `jax.experimental.pallas.ops.tpu.splash_attention`, which skips blocks that the mask hides."""
    kernel = functools.partial(_splash, is_causal=is_causal, scale=scale, window=window)
    return _call_on_shards(kernel, q_rtnh, k_rtmh, v_rtmh, segment_rt)


def cudnn_attention(
    q_rtnh: jax.Array,
    k_rtmh: jax.Array,
    v_rtmh: jax.Array,
    segment_rt: jax.Array,
    *,
    is_causal: bool,
    scale: float,
    window: int | None = None,
) -> jax.Array:
    """Attend with cuDNN's flash attention, through `jax.nn.dot_product_attention`."""
    kernel = functools.partial(_cudnn_causal, window=window) if is_causal else _cudnn_segments
    return _call_on_shards(functools.partial(kernel, scale=scale), q_rtnh, k_rtmh, v_rtmh, segment_rt)


def _call_on_shards(kernel: Callable, q_rtnh, k_rtmh, v_rtmh, segment_rt) -> jax.Array:
    """Call the kernel on the shards of each device, or directly where no mesh is set.

    Rows and heads are split as far as the mesh axes divide them. Where `tensor` exceeds the kv heads, each of them is
    repeated for the devices that need it.
    """
    mesh, heads, kv_heads = jax.sharding.get_abstract_mesh(), q_rtnh.shape[2], k_rtmh.shape[2]
    if mesh.empty:
        return kernel(q_rtnh, k_rtmh, v_rtmh, segment_rt)
    tensor = mesh.shape["tensor"]
    heads_axis = "tensor" if heads % tensor == 0 else None
    if heads_axis:
        repeats = math.lcm(kv_heads, tensor) // kv_heads
        k_rtmh, v_rtmh = (jnp.repeat(x, repeats, axis=2) for x in (k_rtmh, v_rtmh))
    rows = sharding.BATCH_SPEC if sharding.splits_evenly(len(q_rtnh)) else P(None)
    by_head = P(*rows, None, heads_axis)
    mapped = jax.shard_map(kernel, in_specs=(by_head, by_head, by_head, rows), out_specs=by_head, check_vma=False)
    return mapped(q_rtnh, k_rtmh, v_rtmh, segment_rt)


# -------------------------------------------------------------------------------------------------------------- splash


def _splash(q_rtnh, k_rtmh, v_rtmh, segment_rt, *, is_causal: bool, scale: float, window: int | None) -> jax.Array:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    length, heads, head_size = q_rtnh.shape[1:]
    block = min(_BLOCK, _round_up(length, _LANES))
    padding = _round_up(length, block) - length
    kernel = _make_splash_kernel(length + padding, heads, block, is_causal, window)

    def one_row(q_nth, k_mth, v_mth, segment_t):
        return kernel(q_nth, k_mth, v_mth, segment_ids=splash.SegmentIds(segment_t, segment_t))

    def to_blocks(x_rtnh):
        """Pad to whole blocks and lanes, and move heads first: `[R, N, T', H']`."""
        sizes = [(0, 0), (0, padding), (0, 0), (0, -head_size % _LANES)]
        return jnp.pad(x_rtnh, sizes).swapaxes(1, 2)

    q_rnth = to_blocks(q_rtnh * scale)  # the kernel does not scale
    out_rnth = jax.vmap(one_row)(q_rnth, to_blocks(k_rtmh), to_blocks(v_rtmh), _pad_segments(segment_rt, padding))
    return out_rnth[:, :, :length, :head_size].swapaxes(1, 2)


def _make_splash_kernel(length: int, heads: int, block: int, is_causal: bool, window: int | None) -> Callable:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash  # takes long to import

    shape = (length, length)
    mask = splash.CausalMask(shape) if is_causal else splash.FullMask(shape)
    if window is not None:
        mask = splash.LocalMask(shape, (window - 1, 0), offset=0)  # causal, too
    sizes = dict.fromkeys(("block_q", "block_kv", "block_q_dkv", "block_kv_dkv", "block_q_dq", "block_kv_dq"), block)
    return splash.make_splash_mha(
        splash.MultiHeadMask([mask] * heads), block_sizes=splash.BlockSizes(**sizes), head_shards=1, q_seq_shards=1
    )


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


# --------------------------------------------------------------------------------------------------------------- cuDNN


def _cudnn_causal(q_rtnh, k_rtmh, v_rtmh, segment_rt, *, scale: float, window: int | None) -> jax.Array:
    """Attend causally in text, whose only segments are padding (0) and tokens (1).

    Padding is moved after the tokens, which then do not see it. A mask other than the causal one would take an array
    `[R, 1, T, T]`.
    """
    order_rt = jnp.argsort(segment_rt, axis=1, stable=True, descending=True)
    q, k, v = (_pad_to_tiles(_reorder(x, order_rt)) for x in (q_rtnh, k_rtmh, v_rtmh))
    local = None if window is None else (window - 1, 0)
    out = _dot_product(q, k, v, is_causal=True, scale=scale, local_window_size=local)[:, : q_rtnh.shape[1]]
    return _reorder(out, jnp.argsort(order_rt, axis=1))


def _cudnn_segments(q_rtnh, k_rtmh, v_rtmh, segment_rt, *, scale: float) -> jax.Array:
    length = q_rtnh.shape[1]
    q, k, v = map(_pad_to_tiles, (q_rtnh, k_rtmh, v_rtmh))
    segment_rt = _pad_segments(segment_rt, -length % _CUDNN_TILE)
    mask_rtt = segment_rt[:, :, None] == segment_rt[:, None, :]
    return _dot_product(q, k, v, mask=mask_rtt[:, None], scale=scale)[:, :length]


def _reorder(x_rtnh: jax.Array, order_rt: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x_rtnh, order_rt[..., None, None], axis=1)


def _pad_to_tiles(x_rtnh: jax.Array) -> jax.Array:
    return jnp.pad(x_rtnh, ((0, 0), (0, -x_rtnh.shape[1] % _CUDNN_TILE), (0, 0), (0, 0)))


def _pad_segments(segment_rt: jax.Array, padding: int) -> jax.Array:
    return jnp.pad(segment_rt, ((0, 0), (0, padding)), constant_values=_NO_SEGMENT)
