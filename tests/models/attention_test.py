"""Attention: every kernel is the plain one, and what shares a past sees it as if it had one of its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.ops.tpu import splash_attention

from mig_jax.models import attention, sharding

HEADS, KV_HEADS, HEAD_SIZE = 4, 2, 16


def draw(*shape, seed=0):
    return jnp.array(np.random.default_rng([seed, *shape]).normal(size=shape), jnp.float32)


def qkv(rows, length, heads=HEADS, kv_heads=KV_HEADS, head_size=HEAD_SIZE):
    return (draw(rows, length, n, head_size, seed=i) for i, n in enumerate((heads, kv_heads, kv_heads)))


def plain_attention(q_rtnh, k_rtmh, v_rtmh, mask_rtt):
    """Softmax over all that is seen, keys repeated for every query head."""
    k, v = (jnp.repeat(x, q_rtnh.shape[2] // x.shape[2], axis=2) for x in (k_rtmh, v_rtmh))
    score = jnp.einsum("rtnh,rsnh->rnts", q_rtnh, k) / q_rtnh.shape[-1] ** 0.5
    return jnp.einsum("rnts,rsnh->rtnh", jax.nn.softmax(jnp.where(mask_rtt[:, None], score, -jnp.inf)), v)


def segments(rows, length, *, left_padded):
    """Rows that begin with padding, or that hold two images and padding behind them."""
    slot_t, rng = np.arange(length)[None], np.random.default_rng(1)
    first = rng.integers(1, length // 2, (rows, 1))
    if left_padded:
        return jnp.array(slot_t >= first, jnp.int32)
    last = rng.integers(length // 2, length, (rows, 1))
    return jnp.array(np.where(slot_t < first, 0, np.where(slot_t < last, 1, -1)), jnp.int32)


def in_pallas_interpreter(monkeypatch):
    monkeypatch.setattr(
        splash_attention, "make_splash_mha", functools.partial(splash_attention.make_splash_mha, interpret=True)
    )


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("kernel", ["xla", "splash", "cudnn"])
def test_every_kernel_is_plain_attention(kernel, is_causal, monkeypatch):
    """Values and gradients; splash by Pallas' interpreter, cuDNN's by the same call to another implementation."""
    in_pallas_interpreter(monkeypatch)
    monkeypatch.setattr(attention, "_cudnn", functools.partial(attention._dot_product, implementation="xla"))
    length = 150  # of neither kernel's tiles a multiple
    q, k, v = qkv(2, length)
    segment_rt = segments(2, length, left_padded=is_causal)
    is_real = (segment_rt >= (1 if is_causal else 0))[..., None, None]
    mask_rtt = segment_rt[:, :, None] == segment_rt[:, None, :]
    mask_rtt = jnp.tril(mask_rtt) if is_causal else mask_rtt

    def ours(q, k, v):
        out = attention.attend_within(q, k, v, segment_rt, is_causal=is_causal, kernel=kernel)
        return (jnp.sin(out) * is_real).sum(), out * is_real

    def plain(q, k, v):
        out = plain_attention(q, k, v, mask_rtt)
        return (jnp.sin(out) * is_real).sum(), out * is_real

    got, want = (jax.jit(jax.grad(f, argnums=(0, 1, 2), has_aux=True))(q, k, v) for f in (ours, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got, want)


@pytest.mark.parametrize("shape", [{"fsdp": 2, "tensor": 4}, {"data": 2, "fsdp": 2, "tensor": 2}], ids=str)
def test_splash_on_many_devices(shape, monkeypatch):
    """Rows and heads are cut; with more devices along `tensor` than key heads, each key head is on several."""
    in_pallas_interpreter(monkeypatch)
    q, k, v = qkv(4, 40)
    segment_rt = segments(4, 40, left_padded=True)
    attend = functools.partial(attention.attend_within, is_causal=True, kernel="splash")
    want = attend(q, k, v, segment_rt)
    with jax.set_mesh(sharding.make_mesh(shape)):
        got = jax.jit(attend)(q, k, v, segment_rt)
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(("sharing", "length"), [(1, 1), (5, 3), (7, 100)], ids=str)
def test_a_shared_past_is_one_of_its_own(sharing, length):
    """Also where more sequences share it than are computed at once."""
    rows, slots = 2, 9
    sequences = rows * sharing
    q, *new = qkv(sequences, length)
    shared = tuple(draw(rows, slots, KV_HEADS, HEAD_SIZE, seed=i + 5) for i in range(2))
    own = tuple(draw(sequences, 4, KV_HEADS, HEAD_SIZE, seed=i + 7) for i in range(2))
    seen_rs = jnp.array(np.random.default_rng(0).random((sequences, slots + 4)) < 0.6)
    got = attention.attend(q, tuple(new), (shared, own), seen_rs, kernel="xla")

    repeated = (jnp.repeat(x, sharing, axis=0) for x in shared)
    key, value = (jnp.concatenate(parts, axis=1) for parts in zip(repeated, own, new, strict=True))
    past_rts = jnp.broadcast_to(seen_rs[:, None], (sequences, length, slots + 4))
    own_rtt = jnp.broadcast_to(jnp.tri(length, dtype=bool), (sequences, length, length))
    want = plain_attention(q, key, value, jnp.concatenate([past_rts, own_rtt], axis=2))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_no_mask_is_as_large_as_all_tokens_by_all_tokens():
    """400 probes of 10 tokens on 1,000 slots: nothing of the size of 4,000 × 5,000 is there, nor all scores at once."""
    key = jax.ShapeDtypeStruct((1, 1000, 1, HEAD_SIZE), jnp.float32)
    q, new = (jax.ShapeDtypeStruct((400, 10, n, HEAD_SIZE), jnp.float32) for n in (2, 1))
    seen = jax.ShapeDtypeStruct((400, 1000), jnp.bool_)
    attend = functools.partial(attention.attend, kernel="xla")
    memory = jax.jit(attend).lower(q, (new, new), ((key, key),), seen).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4000 * 1000 * 2 * 4 / 4


@pytest.mark.parametrize(
    ("platform", "dtype", "kernel"),
    [("tpu", "bfloat16", "splash"), ("tpu", "float32", "splash"), ("gpu", "bfloat16", "cudnn"),
     ("gpu", "float32", "xla"), ("cpu", "bfloat16", "xla")],
)  # fmt: skip
def test_each_chip_has_its_kernel(platform, dtype, kernel):
    assert attention.choose_kernel("", platform=platform, dtype=dtype) == kernel
    assert attention.choose_kernel("xla", platform=platform, dtype=dtype) == "xla"


@pytest.mark.parametrize(("platform", "dtype", "wanted"), [("cpu", "bfloat16", "splash"), ("gpu", "float32", "cudnn")])
def test_a_kernel_of_another_chip_is_refused(platform, dtype, wanted):
    with pytest.raises(ValueError, match=f"'{wanted}' does not run on a {platform} in {dtype}.*'' takes xla"):
        attention.choose_kernel(wanted, platform=platform, dtype=dtype)
