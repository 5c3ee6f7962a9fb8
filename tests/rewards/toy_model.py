"""A small model with the signature of `rewards.Forward`: two layers of rotary attention in plain jax.

`make_masked_forward` is the same model with a square mask in place of a cache.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, VOCAB, LAYERS = 16, 23, 2


@functools.cache
def make_forward(seed=0):
    """Return a `rewards.Forward` with random parameters, and its output matrix `[D, V]`; the same objects again."""
    embed_vd, unembed_dv, layers = _make_parameters(seed)

    def forward(token_rt, position_rt, visible_rx, cache):
        """Return hidden states, and the keys and values of each layer; shared keys are repeated."""
        sequences, length = token_rt.shape
        causal = jnp.tril(jnp.ones((sequences, length, length), bool))
        visible = jnp.broadcast_to(visible_rx[:, None], (sequences, length, visible_rx.shape[1]))
        mask_rtx = jnp.concatenate([visible, causal], axis=2) if cache else causal & visible
        return _apply(layers, embed_vd[token_rt], position_rt, mask_rtx, cache)

    return forward, unembed_dv


def make_masked_forward(seed=0):
    """Return a function (token_rt, position_rt, mask_rtt) -> logits `[R, T, V]` with the same parameters."""
    embed_vd, unembed_dv, layers = _make_parameters(seed)

    def forward(token_rt, position_rt, mask_rtt):
        return _apply(layers, embed_vd[token_rt], position_rt, mask_rtt, ())[0] @ unembed_dv

    return forward


def _make_parameters(seed):
    rng = np.random.default_rng(seed)

    def matrix(*shape, scale=1):
        return jax.device_put((rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32) * np.float32(scale))

    embed_vd, unembed_dv = matrix(VOCAB, WIDTH, scale=4), matrix(WIDTH, VOCAB, scale=4)
    return embed_vd, unembed_dv, [tuple(matrix(WIDTH, WIDTH) for _ in range(4)) for _ in range(LAYERS)]


def _apply(layers, x, position_rt, mask_rtx, cache):
    new_cache, sequences = [], x.shape[0]
    for layer, (query, key, value, out) in enumerate(layers):
        keys, values = _rotate(x @ key, position_rt), x @ value
        new_cache.append((keys, values))
        for entry in reversed(cache):
            shared = [jnp.repeat(x, sequences // x.shape[0], axis=0) for x in entry[layer]]
            keys, values = (jnp.concatenate(pair, axis=1) for pair in zip(shared, (keys, values), strict=True))
        score = jnp.einsum("rtd,rxd->rtx", _rotate(x @ query, position_rt), keys) / WIDTH**0.5
        weight = jax.nn.softmax(jnp.where(mask_rtx, score, -1e9))
        x = x + jnp.tanh(jnp.einsum("rtx,rxd->rtd", weight, values) @ out)
    return x, new_cache


def _rotate(x_rtd, position_rt):
    angle = position_rt[..., None] / 10.0 ** jnp.arange(WIDTH // 2)[None, None]
    left, right = jnp.split(x_rtd, 2, axis=-1)
    return jnp.concatenate(
        [left * jnp.cos(angle) - right * jnp.sin(angle), right * jnp.cos(angle) + left * jnp.sin(angle)], -1
    )
