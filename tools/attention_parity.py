"""Errors and times of the device's attention kernels in bfloat16, against a softmax in float32; see `on_gpu.py`."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.models import attention
from mig_jax.models.kernel_choice import choose_kernel
from mig_jax.models.window import Window
from tools.timing import Rows, time_call

# Largest relative error of a kernel in bfloat16, whose numbers have three digits.
LIMIT = 1e-2


class Heads(NamedTuple):
    """Heads of a model: queries, keys and values, size, and the window in tokens (None: all earlier tokens)."""

    model: str
    heads: int
    kv_heads: int
    size: int
    window: int | None = None


MODELS = (
    Heads("Qwen2.5-0.5B", 14, 2, 64),
    Heads("Qwen2.5-7B", 28, 4, 128),
    Heads("Gemma 3 1B", 4, 1, 256),
    Heads("Gemma 3 1B, window", 4, 1, 256, 512),
)
TOWER = Heads("vision tower", 16, 16, 80)


def attention_parity(rows: Rows, *, is_small: bool) -> None:
    """Compare the kernels with a softmax in float32: prefill with and without left padding, and images; then speed.

    A kernel that does not run is reported, and the others still run.
    """
    shape = (2, 128) if is_small else (16, 2048)
    for heads in (*MODELS, TOWER):
        fastest = choose_kernel("", device=jax.devices()[0], dtype="bfloat16", head_size=heads.size)
        for kernel in dict.fromkeys(("xla", fastest)):
            name = f"{kernel}, {heads.model}"
            try:
                report_errors(rows, f"{name}: relative error", kernel, heads, is_small=is_small)
                if heads in MODELS:
                    rows.add(f"{name}: {shape[0]} × {shape[1]} tokens", time_kernel(kernel, heads, *shape))
            except Exception as error:
                rows.add(name, f"{type(error).__name__}: {error}"[:300], "", False)


def report_errors(rows: Rows, name: str, kernel: str, heads: Heads, *, is_small: bool) -> None:
    """Report the largest relative errors of a kernel, over a batch without padding and one with padding."""
    cases = ((64, False), (77, True)) if is_small else ((512, False), (777, True))
    errors = [kernel_errors(kernel, heads, length, is_padded=is_padded) for length, is_padded in cases]
    worst = np.max(np.array(errors), axis=0)  # nan if one is nan
    named = zip(("out", "dq", "dk", "dv"), worst, strict=True)
    text = ", ".join(f"{array} {error:.1e}" for array, error in named)
    text += f" ({heads.heads}/{heads.kv_heads} heads of {heads.size})"
    rows.add(name, text, f"< {LIMIT}", bool((worst < LIMIT).all()))


def draw_qkv(heads: Heads, rows: int, length: int) -> list[jax.Array]:
    """Draw queries, keys and values in bfloat16."""
    keys = jax.random.split(jax.random.key(length), 3)
    counts = heads.heads, heads.kv_heads, heads.kv_heads
    return [
        jax.random.normal(k, (rows, length, n, heads.size), jnp.bfloat16) for k, n in zip(keys, counts, strict=True)
    ]


def kernel_errors(kernel: str, heads: Heads, length: int, *, is_padded: bool) -> list[float]:
    """Return ‖x − reference‖ / ‖reference‖ of the output at real tokens, and of the gradients by q, k and v.

    Text is causal, and padded on the left. The vision tower sees two images, followed by padding.
    """
    is_causal = heads is not TOWER
    slot_t, rng = np.arange(length)[None], np.random.default_rng(length)
    first = rng.integers(1, length // 2, (4, 1)) * is_padded
    segment_rt = jnp.array(slot_t >= first, jnp.int32)
    if not is_causal:
        last = rng.integers(length // 2, length, (4, 1)) if is_padded else length
        segment_rt = jnp.array(np.where(slot_t < length // 3, 0, np.where(slot_t < last, 1, -1)), jnp.int32)
    is_real = (segment_rt >= (1 if is_causal else 0))[..., None, None]
    qkv, window = draw_qkv(heads, 4, length), heads.window and Window(heads.window)

    def loss(attend: Callable, q, k, v):
        out = attend(q, k, v).astype(jnp.float32) * is_real
        return jnp.sin(3 * out).sum(), out

    def ours(q, k, v):
        if is_causal:
            return attention.attend(q, (k, v), (), segment_rt > 0, kernel=kernel, window=window)
        return attention.attend_within(q, k, v, segment_rt, is_causal=False, kernel=kernel)

    def reference(q, k, v):
        mask_rtt = segment_rt[:, :, None] == segment_rt[:, None, :]
        mask_rtt = jnp.tril(mask_rtt) if is_causal else mask_rtt
        mask_rtt = jnp.triu(mask_rtt, 1 - heads.window) if heads.window else mask_rtt
        k, v = (jnp.repeat(x, heads.heads // heads.kv_heads, axis=2) for x in (k, v))
        score = jnp.einsum("rtnh,rsnh->rnts", q, k) / heads.size**0.5
        return jnp.einsum("rnts,rsnh->rtnh", jax.nn.softmax(jnp.where(mask_rtt[:, None], score, -jnp.inf)), v)

    def results(attend: Callable, arguments: list[jax.Array]) -> list[jax.Array]:
        gradient = jax.grad(functools.partial(loss, attend), argnums=(0, 1, 2), has_aux=True)
        gradients, out = jax.jit(gradient)(*arguments)
        return [out, *gradients]

    got = results(ours, qkv)
    with jax.default_matmul_precision("highest"):
        want = results(reference, [x.astype(jnp.float32) for x in qkv])
    return [relative_error(a, b) for a, b in zip(got, want, strict=True)]


def relative_error(x: jax.Array, reference: jax.Array) -> float:
    """Return ‖x − reference‖ / ‖reference‖."""
    a, b = (np.asarray(y.astype(jnp.float32), np.float64) for y in (x, reference))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def time_kernel(kernel: str, heads: Heads, rows: int, length: int) -> str:
    """Return the milliseconds of the forward pass, and of forward and backward together."""
    visible_rt, window = jnp.ones((rows, length), bool), heads.window and Window(heads.window)

    def out(q, k, v):
        return attention.attend(q, (k, v), (), visible_rt, kernel=kernel, window=window)

    qkv = draw_qkv(heads, rows, length)
    forward = time_call(jax.jit(out), *qkv)
    gradient = jax.grad(lambda *qkv: out(*qkv).astype(jnp.float32).sum(), argnums=(0, 1, 2))
    return f"{forward * 1e3:.2f} ms forward, {time_call(jax.jit(gradient), *qkv) * 1e3:.2f} ms with backward"
