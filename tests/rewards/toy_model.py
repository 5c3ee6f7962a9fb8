"""The smallest model that the probes' contract allows: rotary attention, two layers, in plain jax."""

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, VOCAB, LAYERS = 16, 23, 2


def make_forward(seed=0):
    """A `forward(tokens, positions, mask, cache)` with random weights, and its output matrix `[D, V]`."""
    rng = np.random.default_rng(seed)

    def matrix(*shape):
        return jnp.array(rng.normal(size=shape) / np.sqrt(shape[0]), jnp.float32)

    embed_vd, unembed_dv = matrix(VOCAB, WIDTH) * 4, matrix(WIDTH, VOCAB) * 4
    layers = [tuple(matrix(WIDTH, WIDTH) for _ in range(4)) for _ in range(LAYERS)]

    def rotate(x_btd, position_bt):
        angle = position_bt[..., None] / 10.0 ** jnp.arange(WIDTH // 2)[None, None]
        left, right = jnp.split(x_btd, 2, axis=-1)
        return jnp.concatenate(
            [left * jnp.cos(angle) - right * jnp.sin(angle), right * jnp.cos(angle) + left * jnp.sin(angle)], -1
        )

    def forward(token_bt, position_bt, mask_btx, cache):
        x, kept = embed_vd[token_bt], []
        for number, (query, key, value, out) in enumerate(layers):
            keys, values = rotate(x @ key, position_bt), x @ value
            kept.append((keys, values))
            if cache is not None:
                pairs = zip(cache[number], kept[-1], strict=True)
                keys, values = (jnp.concatenate(pair, axis=1) for pair in pairs)
            score = jnp.einsum("btd,bxd->btx", rotate(x @ query, position_bt), keys) / WIDTH**0.5
            weight = jax.nn.softmax(jnp.where(mask_btx, score, -1e9))
            x = x + jnp.tanh(jnp.einsum("btx,bxd->btd", weight, values) @ out)
        return x, kept

    return forward, unembed_dv
