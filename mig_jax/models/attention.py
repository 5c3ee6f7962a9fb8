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

Without a cache (training, prefill, images) the kernel is splash attention on TPUs, cuDNN flash attention on NVIDIA GPUs
of compute capability 8.0 or newer, and XLA elsewhere. With a cache it is always XLA: one token at a time leaves nothing
to tile, and probes are scored in chunks.
"""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mig_jax.errors import UserError
from mig_jax.models.flash_attention import cudnn_attention, splash_attention

# Finite, so that a row without visible keys (padding) gets a harmless average instead of NaN.
_MASKED = -1e30
# Queries per row of keys whose scores are in memory at once.
_MAX_QUERIES = 256

# Compute capability from which NVIDIA GPUs have cuDNN's flash attention, and units for bfloat16.
_AMPERE = (8, 0)

KeyValue = tuple[jax.Array, jax.Array]


def choose_kernel(wanted: str, *, device: Any, dtype: str) -> str:
    """Return `wanted`, or the fastest kernel of the device if that is "".

    Args:
      wanted: a key of `KERNELS`, or "".
      device: one of the `jax.Device`s that run the model.
      dtype: of the activations; cuDNN's kernel needs bfloat16 or float16.

    Raises:
      UserError: the kernel does not run on this device.
    """
    fastest = "xla"
    if device.platform == "tpu":
        fastest = "splash"
    elif dtype in ("bfloat16", "float16") and (compute_capability(device) or (0, 0)) >= _AMPERE:
        fastest = "cudnn"
    if wanted not in ("", "xla", fastest):
        raise UserError(
            f"model.attention={wanted!r} does not run on {describe_device(device)} in {dtype}: model.attention='' "
            f"selects {fastest}"
        )
    return wanted or fastest


def compute_capability(device: Any) -> tuple[int, int] | None:
    """Return the compute capability of an NVIDIA GPU, such as (9, 0); None for any other `jax.Device`."""
    version = str(getattr(device, "compute_capability", ""))  # AMD's GPUs have names here, such as "gfx90a"
    found = re.fullmatch(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def lacks_bfloat16(device: Any) -> bool:
    """Return whether a `jax.Device` is an NVIDIA GPU without units for bfloat16, such as a T4 or V100."""
    return (compute_capability(device) or _AMPERE) < _AMPERE


def describe_device(device: Any) -> str:
    """Return the name of a `jax.Device` for messages, with its compute capability if it has one."""
    capability = compute_capability(device)
    if capability is None:
        return f"a {device.platform}"
    return f"a {device.platform} ({device.device_kind}, compute capability {capability[0]}.{capability[1]})"


def attend(
    q_rtnh: jax.Array, new_kv: KeyValue, kv_cache: tuple[KeyValue, ...], visible_rx: jax.Array, *, kernel: str
) -> jax.Array:
    """Attend from R sequences of T tokens to the cache and, causally, to themselves.

    Args:
      q_rtnh: `[R, T, N, H]` queries.
      new_kv: keys and values of the same tokens, `[R, T, M, H]` each; M divides N.
      kv_cache: parts, keys and values `[B, S, M, H]` each. R / B neighboring sequences share a row; B may differ
        between parts.
      visible_rx: `[R, S]` bool, which slots of all parts together each sequence sees. Without a cache `[R, T]`: which
        of its own tokens are not padding.
      kernel: a key of `KERNELS`, used when there is no cache.

    Returns:
      `[R, T, N, H]` averages of the values, in the dtype of the queries.
    """
    if not kv_cache:
        return attend_within(q_rtnh, *new_kv, visible_rx.astype(jnp.int32), is_causal=True, kernel=kernel)
    softmax = _attend_part(q_rtnh, new_kv, jnp.tri(q_rtnh.shape[1], dtype=bool)[None])
    start = 0
    for key_bsmh, value_bsmh in kv_cache:
        end = start + key_bsmh.shape[1]
        visible_r1s = jax.lax.slice_in_dim(visible_rx, start, end, axis=1)[:, None, :]
        softmax = _merge_softmax(softmax, _attend_part(q_rtnh, (key_bsmh, value_bsmh), visible_r1s))
        start = end
    return _normalize(softmax).astype(q_rtnh.dtype)


def attend_within(
    q_rtnh: jax.Array, k_rtmh: jax.Array, v_rtmh: jax.Array, segment_rt: jax.Array, *, is_causal: bool, kernel: str
) -> jax.Array:
    """Attend within the segments of each sequence.

    Args:
      q_rtnh: `[R, T, N, H]` queries; keys and values are `[R, T, M, H]`.
      segment_rt: `[R, T]` int32. A token sees the tokens of its own segment; padding is a segment of its own.
      is_causal: a token does not see later ones.
      kernel: a key of `KERNELS`.

    Returns:
      `[R, T, N, H]` averages of the values, in the dtype of the queries.
    """
    return KERNELS[kernel](q_rtnh, k_rtmh, v_rtmh, segment_rt, is_causal)


def _xla_attention(
    q_rtnh: jax.Array, k_rtmh: jax.Array, v_rtmh: jax.Array, segment_rt: jax.Array, is_causal: bool
) -> jax.Array:
    mask_rtt = segment_rt[:, :, None] == segment_rt[:, None, :]
    if is_causal:
        mask_rtt = jnp.tril(mask_rtt)
    return _normalize(_attend_part(q_rtnh, (k_rtmh, v_rtmh), mask_rtt)).astype(q_rtnh.dtype)


KERNELS = {"xla": _xla_attention, "splash": splash_attention, "cudnn": cudnn_attention}


# ----------------------------------------------------------------------------------------------------- partial softmax


class _PartialSoftmax(NamedTuple):
    """A softmax over some of the keys, float32, to be merged with that over others.

    numerator_rtnh: Σ exp(score − max) · value.
    denominator_rtn: Σ exp(score − max).
    max_rtn: the largest score.
    """

    numerator_rtnh: jax.Array
    denominator_rtn: jax.Array
    max_rtn: jax.Array


def _merge_softmax(a: _PartialSoftmax, b: _PartialSoftmax) -> _PartialSoftmax:
    """Return the softmax over the keys of both."""
    max_rtn = jnp.maximum(a.max_rtn, b.max_rtn)
    scale_a, scale_b = jnp.exp(a.max_rtn - max_rtn), jnp.exp(b.max_rtn - max_rtn)
    numerator_rtnh = a.numerator_rtnh * scale_a[..., None] + b.numerator_rtnh * scale_b[..., None]
    return _PartialSoftmax(numerator_rtnh, a.denominator_rtn * scale_a + b.denominator_rtn * scale_b, max_rtn)


def _normalize(softmax: _PartialSoftmax) -> jax.Array:
    """Return the average of the values, `[R, T, N, H]`."""
    return softmax.numerator_rtnh / softmax.denominator_rtn[..., None]


def _attend_part(q_rtnh: jax.Array, kv: KeyValue, mask: jax.Array) -> _PartialSoftmax:
    """Attend to B rows of keys, each shared by R / B sequences.

    Sequences are processed in chunks where many share a row, as probes do: scores are the largest array here.

    Args:
      mask: `[R or 1, T or 1, S]` bool.
    """
    rows, (sequences, length) = kv[0].shape[0], q_rtnh.shape[:2]
    per_row, chunk = sequences // rows, max(1, _MAX_QUERIES // length)
    q_bgtnh = q_rtnh.reshape(rows, per_row, *q_rtnh.shape[1:])
    mask_bgts = mask.reshape(-1, per_row if mask.shape[0] == sequences else 1, *mask.shape[1:])
    if per_row <= chunk:
        softmax = _attend_rows(q_bgtnh, kv, mask_bgts)
    else:
        chunks = _split_chunks(q_bgtnh, chunk), _split_chunks(mask_bgts, chunk)
        softmax = jax.lax.map(lambda q_and_mask: _attend_rows(q_and_mask[0], kv, q_and_mask[1]), chunks)
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


def _attend_rows(q_bgtnh: jax.Array, kv: KeyValue, mask_bgts: jax.Array) -> _PartialSoftmax:
    """Attend from G sequences to each of B rows of keys; the fields of the result are `[B, G, T, N, …]`."""
    key_bsmh, value_bsmh = kv
    rows, per_row, length, heads, head_size = q_bgtnh.shape
    kv_heads = key_bsmh.shape[2]
    # All queries of a row that share a key head are stacked into one matrix of Z = G · N/M · T rows, so that all large
    # arrays are batches of plain matrices, in the backward pass too.
    q_split = q_bgtnh.reshape(rows, per_row, length, kv_heads, heads // kv_heads, head_size)
    q_stacked = q_split.transpose(0, 3, 1, 4, 2, 5)  # [B, M, G, N/M, T, H]
    q_bmzh = q_stacked.reshape(rows, kv_heads, -1, head_size)
    score_bmzs = jnp.einsum("bmzh,bsmh->bmzs", q_bmzh, key_bsmh, preferred_element_type=jnp.float32) * head_size**-0.5
    score = jnp.where(mask_bgts[:, None, :, None], score_bmzs.reshape(*q_stacked.shape[:-1], -1), _MASKED)
    largest = jax.lax.stop_gradient(score.max(-1, keepdims=True))
    weight = jnp.exp(score - largest)
    weight_bmzs = weight.astype(q_bgtnh.dtype).reshape(*q_bmzh.shape[:-1], -1)
    out_bmzh = jnp.einsum("bmzs,bsmh->bmzh", weight_bmzs, value_bsmh, preferred_element_type=jnp.float32)

    def unstack(x):
        """Reshape `[B, M, G, N/M, T, …]` to `[B, G, T, N, …]`."""
        return jnp.moveaxis(x, (1, 3), (3, 4)).reshape(rows, per_row, length, heads, *x.shape[5:])

    return _PartialSoftmax(
        unstack(out_bmzh.reshape(q_stacked.shape)), unstack(weight.sum(-1)), unstack(largest[..., 0])
    )
