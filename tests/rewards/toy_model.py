"""A small model with the signature of `rewards.Forward`: two layers of rotary attention in plain jax."""

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, VOCAB, LAYERS = 16, 23, 2


def make_forward(seed=0):
    """Return a `rewards.Forward` with random parameters, and its output matrix `[D, V]`."""
    rng = np.random.default_rng(seed)

    def matrix(*shape):
        return jnp.array(rng.normal(size=shape) / np.sqrt(shape[0]), jnp.float32)

    embed_vd, unembed_dv = matrix(VOCAB, WIDTH) * 4, matrix(WIDTH, VOCAB) * 4
    layers = [tuple(matrix(WIDTH, WIDTH) for _ in range(4)) for _ in range(LAYERS)]

    def rotate(x_rtd, position_rt):
        angle = position_rt[..., None] / 10.0 ** jnp.arange(WIDTH // 2)[None, None]
        left, right = jnp.split(x_rtd, 2, axis=-1)
        return jnp.concatenate(
            [left * jnp.cos(angle) - right * jnp.sin(angle), right * jnp.cos(angle) + left * jnp.sin(angle)], -1
        )

    def forward(token_rt, position_rt, visible_rx, cache):
        """Return hidden states, and the keys and values of each layer; shared keys are repeated."""
        sequences, length = token_rt.shape
        x, new_cache = embed_vd[token_rt], []
        causal = jnp.tril(jnp.ones((sequences, length, length), bool))
        visible = jnp.broadcast_to(visible_rx[:, None], (sequences, length, visible_rx.shape[1]))
        mask_rtx = jnp.concatenate([visible, causal], axis=2) if cache else causal & visible
        for layer, (query, key, value, out) in enumerate(layers):
            keys, values = rotate(x @ key, position_rt), x @ value
            new_cache.append((keys, values))
            for entry in reversed(cache):
                shared = [jnp.repeat(x, sequences // x.shape[0], axis=0) for x in entry[layer]]
                keys, values = (jnp.concatenate(pair, axis=1) for pair in zip(shared, (keys, values), strict=True))
            score = jnp.einsum("rtd,rxd->rtx", rotate(x @ query, position_rt), keys) / WIDTH**0.5
            weight = jax.nn.softmax(jnp.where(mask_rtx, score, -1e9))
            x = x + jnp.tanh(jnp.einsum("rtx,rxd->rtd", weight, values) @ out)
        return x, new_cache

    return forward, unembed_dv
