"""Attention: every kernel equals a plain softmax, and sequences that share a cache attend as if each had a copy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo
from jax.experimental.pallas.ops.tpu import splash_attention

from mig_jax.distributed import sharding
from mig_jax.models import attention, decoder, flash_attention
from mig_jax.models.qwen2_vl import Pixels, VisionConfig
from mig_jax.models.window import Window, make_window

HEADS, KV_HEADS, HEAD_SIZE = 4, 2, 16


def random_array(*shape, seed=0):
    return jax.device_put(np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32))


def qkv(rows, length, heads=HEADS, kv_heads=KV_HEADS, head_size=HEAD_SIZE):
    return (random_array(rows, length, n, head_size, seed=i) for i, n in enumerate((heads, kv_heads, kv_heads)))


def plain_attention(q_rtnh, k_rtmh, v_rtmh, mask_rtt):
    """Take the softmax over all visible keys, with keys repeated for every query head."""
    k, v = (jnp.repeat(x, q_rtnh.shape[2] // x.shape[2], axis=2) for x in (k_rtmh, v_rtmh))
    score = jnp.einsum("rtnh,rsnh->rnts", q_rtnh, k) / q_rtnh.shape[-1] ** 0.5
    return jnp.einsum("rnts,rsnh->rtnh", jax.nn.softmax(jnp.where(mask_rtt[:, None], score, -jnp.inf)), v)


def segments(rows, length, *, left_padded):
    """Return rows that begin with padding, or that hold two images followed by padding."""
    slot_t, rng = np.arange(length)[None], np.random.default_rng(1)
    first = rng.integers(1, length // 2, (rows, 1))
    if left_padded:
        return jax.device_put((slot_t >= first).astype(np.int32))
    last = rng.integers(length // 2, length, (rows, 1))
    return jax.device_put(np.where(slot_t < first, 0, np.where(slot_t < last, 1, -1)).astype(np.int32))


def interpret_pallas(monkeypatch):
    monkeypatch.setattr(
        splash_attention, "make_splash_mha", functools.partial(splash_attention.make_splash_mha, interpret=True)
    )


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("kernel", ["xla", "splash", "cudnn"])
def test_every_kernel_equals_plain_attention(kernel, is_causal, monkeypatch):
    """Values and gradients. Splash runs in the Pallas interpreter, cuDNN is replaced by another implementation."""
    interpret_pallas(monkeypatch)
    monkeypatch.setattr(flash_attention, "_dot_product", jax.nn.dot_product_attention)
    length = 150  # not a multiple of the tiles of either kernel
    q, k, v = qkv(2, length)
    segment_rt = segments(2, length, left_padded=is_causal)
    segments_rt = np.asarray(segment_rt)
    is_real = (segments_rt >= (1 if is_causal else 0))[..., None, None]
    mask_rtt = segments_rt[:, :, None] == segments_rt[:, None, :]
    mask_rtt = np.tril(mask_rtt) if is_causal else mask_rtt

    def ours(q, k, v):
        out = attention.attend_within(q, k, v, segment_rt, is_causal=is_causal, kernel=kernel)
        return (jnp.sin(out) * is_real).sum(), out * is_real

    def plain(q, k, v):
        out = plain_attention(q, k, v, mask_rtt)
        return (jnp.sin(out) * is_real).sum(), out * is_real

    got, want = (jax.jit(jax.grad(f, argnums=(0, 1, 2), has_aux=True))(q, k, v) for f in (ours, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got, want)


@pytest.mark.parametrize(
    ("kernel", "shape", "rows"),
    [
        ("splash", {"fsdp": 2, "tensor": 4}, 4),
        pytest.param("splash", {"data": 2, "fsdp": 2, "tensor": 2}, 2, marks=pytest.mark.slow),
        ("cudnn", {"fsdp": 2, "tensor": 4}, 4),
    ],
)
def test_kernels_on_several_devices(kernel, shape, rows, monkeypatch):
    """Rows and heads are split where divisible; key heads are repeated where `tensor` exceeds their number."""
    interpret_pallas(monkeypatch)
    monkeypatch.setattr(flash_attention, "_dot_product", jax.nn.dot_product_attention)
    q, k, v = qkv(rows, 40)
    segment_rt = segments(rows, 40, left_padded=True)

    def loss(q, k, v):
        out = attention.attend_within(q, k, v, segment_rt, is_causal=True, kernel=kernel)
        return (jnp.sin(out) * segment_rt[..., None, None]).sum()

    gradient = jax.grad(loss, argnums=(0, 1, 2))
    want = jax.jit(gradient)(q, k, v)
    with jax.set_mesh(sharding.make_mesh(shape)):
        # Replicated: jax 0.7 has no name for the sharding of two heads over four devices.
        got = jax.jit(gradient, out_shardings=jax.sharding.PartitionSpec())(q, k, v)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got, want)


@pytest.mark.parametrize("is_on", [*(pytest.param(value, marks=pytest.mark.slow) for value in (None, False)), True])
@pytest.mark.parametrize("kernel", ["xla", "splash", "cudnn"])
def test_every_kernel_has_windows(kernel, is_on, monkeypatch):
    """Values and gradients, in a layer with a window, and in one without in a model that has some."""
    interpret_pallas(monkeypatch)
    monkeypatch.setattr(flash_attention, "_dot_product", jax.nn.dot_product_attention)
    length, size, scale = 150, 20, 0.1
    qkv_rtnh = tuple(qkv(2, length))
    visible_rt = np.asarray(segments(2, length, left_padded=True)) > 0
    mask_rtt = np.tril(visible_rt[:, :, None] == visible_rt[:, None, :])
    if is_on is not False:
        mask_rtt &= np.triu(np.ones_like(mask_rtt), 1 - size)
    visible_rt = jax.device_put(visible_rt)
    scaled = HEAD_SIZE**0.5 * scale

    def ours(q, k, v, is_on):
        window = Window(size, is_on=is_on)
        out = attention.attend(q, (k, v), (), visible_rt, kernel=kernel, scale=scale, window=window)
        out *= visible_rt[..., None, None]
        return jnp.sin(out).sum(), out

    def plain(q, k, v, is_on):
        out = plain_attention(q * scaled, k, v, mask_rtt)
        out *= visible_rt[..., None, None]
        return jnp.sin(out).sum(), out

    on = None if is_on is None else jnp.array(is_on)
    got, want = (jax.jit(jax.grad(f, argnums=(0, 1, 2), has_aux=True))(*qkv_rtnh, on) for f in (ours, plain))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got, want)


def test_windows_that_hide_nothing_are_left_out():
    visible_rx = jnp.ones((1, 6), bool)
    assert make_window(None, 4, visible_rx, has_cache=True) is None
    assert make_window(10, 4, visible_rx, has_cache=True) is None
    assert make_window(6, 6, visible_rx, has_cache=False) is None
    assert make_window(9, 4, visible_rx, has_cache=True) is not None


@pytest.mark.parametrize("is_on", [*(pytest.param(value, marks=pytest.mark.slow) for value in (None, False)), True])
@pytest.mark.parametrize("per_row", [pytest.param(3, marks=pytest.mark.slow), 40])
def test_windows_with_a_cache(per_row, is_on, monkeypatch):
    """Hidden slots do not count, wherever they are; many sequences of a row take chunks, and blocks of keys."""
    monkeypatch.setattr(attention, "_KEY_BLOCK", 4)
    rows, length, slots, size = 2, 12, 10, 9
    sequences = rows * per_row
    shared = (random_array(rows, KV_HEADS, slots, HEAD_SIZE, seed=i) for i in range(2))
    own = (random_array(sequences, KV_HEADS, 4, HEAD_SIZE, seed=i) for i in range(2))
    q, *new_kv = qkv(sequences, length)
    visible_rs = np.random.default_rng(2).random((sequences, slots + 4)) < 0.6
    shared, own = tuple(shared), tuple(own)
    on = None if is_on is None else jnp.array(is_on)

    @jax.jit
    def attend(q, new_kv, kv_cache, visible_rs):
        window = make_window(size, length, visible_rs, has_cache=True)._replace(is_on=on)
        return attention.attend(q, new_kv, kv_cache, visible_rs, kernel="xla", window=window)

    got = attend(q, tuple(new_kv), (shared, own), visible_rs)
    repeated = (np.repeat(x, per_row, axis=0) for x in shared)
    cached = zip(repeated, map(np.asarray, own), strict=True)
    parts = ((*(x.swapaxes(1, 2) for x in pair), new) for pair, new in zip(cached, new_kv, strict=True))
    key, value = (np.concatenate(of_one, axis=1) for of_one in parts)
    # The number of each token among the visible ones of its sequence.
    seen_rx = np.concatenate([visible_rs, np.ones((sequences, length), bool)], axis=1)
    number_rx = np.cumsum(seen_rx, axis=1)
    distance_rtx = number_rx[:, -length:, None] - number_rx[:, None, :]
    mask_rtx = seen_rx[:, None] & (distance_rtx >= 0) & ((distance_rtx < size) | (is_on is False))
    want = jax.jit(plain_attention)(q, key, value, mask_rtx)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_cudnn_takes_text_without_a_mask(monkeypatch):
    """Traced as for a GPU, with the gradient: no array has all tokens by all tokens."""
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(fused_attention_stablehlo, "is_cuda_compute_capability_equal", lambda capability: False)
    length = 513

    def loss(q, k, v, is_causal):
        segment_rt = jnp.ones((2, length), jnp.int32)
        return attention.attend_within(q, k, v, segment_rt, is_causal=is_causal, kernel="cudnn").sum()

    arguments = [x.astype(jnp.bfloat16) for x in qkv(2, length)]
    for is_causal in (True, False):
        traced = jax.make_jaxpr(jax.grad(functools.partial(loss, is_causal=is_causal), argnums=(0, 1, 2)))(*arguments)
        assert "dot_product_attention" in str(traced)
        assert ("576,576]" in str(traced)) != is_causal and "513,513]" not in str(traced)


def test_models_use_the_kernel_of_their_config():
    """The decoder without a cache, and the vision tower over whole images."""
    vision = VisionConfig(width=16, layers=2, heads=2, mlp_width=16, full_layers=(1,), window_size=56)
    shape = {"vocab_size": 9, "width": 16, "layers": 2, "heads": 2, "kv_heads": 1, "head_size": 8, "mlp_width": 16}
    token_bt = jnp.ones((2, 4), int)
    pixels = Pixels(jnp.ones((2, 16, vision.values_per_patch)), jnp.ones((2, 16, 2), int), jnp.zeros((2, 16), int))
    for kernel in ("xla", "splash"):
        config = decoder.DecoderConfig(**shape, vision=vision, attention=kernel)
        params, bind = decoder.abstract_params(config), functools.partial(decoder.bind, config)
        programs = (
            jax.make_jaxpr(lambda p: bind(p)(token_bt, token_bt, token_bt > 0)[0])(params),  # noqa: B023
            jax.make_jaxpr(lambda p: bind(p).vision(pixels))(params),  # noqa: B023
        )
        assert ["pallas_call" in str(program) for program in programs] == [kernel == "splash"] * 2


@pytest.mark.parametrize(
    ("per_row", "length", "block"),
    [(5, 3, 4), *(pytest.param(*sizes, 256, marks=pytest.mark.slow) for sizes in ((1, 1), (5, 3), (7, 100)))],
)
def test_shared_cache_equals_a_copy_for_each_sequence(per_row, length, block, monkeypatch):
    """Also where more sequences share a row than fit in one chunk, and more slots than fit in a block."""
    monkeypatch.setattr(attention, "_KEY_BLOCK", block)
    monkeypatch.setattr(attention, "_MAX_QUERIES", min(128, 2 * block))
    rows, slots = 2, 9
    sequences = rows * per_row
    q, *new_kv = qkv(sequences, length)
    shared = tuple(random_array(rows, KV_HEADS, slots, HEAD_SIZE, seed=i + 5) for i in range(2))
    own = tuple(random_array(sequences, KV_HEADS, 4, HEAD_SIZE, seed=i + 7) for i in range(2))
    visible_rs = np.random.default_rng(0).random((sequences, slots + 4)) < 0.6
    visible_rs[: sequences // 2, block:] = False  # some chunks see the first block alone
    attend = jax.jit(functools.partial(attention.attend, kernel="xla"))
    got = attend(q, tuple(new_kv), (shared, own), visible_rs)

    repeated = (np.repeat(x, per_row, axis=0) for x in shared)
    cached = zip(repeated, map(np.asarray, own), strict=True)
    parts = ((*(x.swapaxes(1, 2) for x in pair), new) for pair, new in zip(cached, new_kv, strict=True))
    key, value = (np.concatenate(of_one, axis=1) for of_one in parts)
    cache_rts = np.broadcast_to(visible_rs[:, None], (sequences, length, slots + 4))
    causal_rtt = np.broadcast_to(np.tri(length, dtype=bool), (sequences, length, length))
    want = jax.jit(plain_attention)(q, key, value, np.concatenate([cache_rts, causal_rtt], axis=2))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_memory_stays_below_all_scores_at_once():
    """400 probes of 10 tokens on 1,000 slots: no mask of 4,000 × 5,000 is allocated, and scores only by chunks."""
    key = jax.ShapeDtypeStruct((1, 1, 1000, HEAD_SIZE), jnp.float32)
    q, new_key = (jax.ShapeDtypeStruct((400, 10, n, HEAD_SIZE), jnp.float32) for n in (2, 1))
    visible_rs = jax.ShapeDtypeStruct((400, 1000), jnp.bool_)
    attend = functools.partial(attention.attend, kernel="xla")
    memory = jax.jit(attend).lower(q, (new_key, new_key), ((key, key),), visible_rs).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4000 * 1000 * 2 * 4 / 4
