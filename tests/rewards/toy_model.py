"""The smallest model that the probes' contract allows: rotary attention, two layers, in plain jax."""

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, VOCAB, LAYERS = 16, 23, 2


def make_forward(seed=0):
    """A `forward(tokens, positions, seen, cache)` with random weights, and its output matrix `[D, V]`."""
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

    def forward(token_bt, position_bt, visible_bx, cache):
        """As in `probes`; keys that sequences share are repeated for each of them."""
        rows, length = token_bt.shape
        x, kept, own = embed_vd[token_bt], [], jnp.tril(jnp.ones((rows, length, length), bool))
        past = jnp.broadcast_to(visible_bx[:, None], (rows, length, visible_bx.shape[1]))
        mask_btx = jnp.concatenate([past, own], axis=2) if cache else own & past
        for number, (query, key, value, out) in enumerate(layers):
            keys, values = rotate(x @ key, position_bt), x @ value
            kept.append((keys, values))
            for part in reversed(cache):
                old = [jnp.repeat(x, rows // x.shape[0], axis=0) for x in part[number]]
                keys, values = (jnp.concatenate(pair, axis=1) for pair in zip(old, (keys, values), strict=True))
            score = jnp.einsum("btd,bxd->btx", rotate(x @ query, position_bt), keys) / WIDTH**0.5
            weight = jax.nn.softmax(jnp.where(mask_btx, score, -1e9))
            x = x + jnp.tanh(jnp.einsum("btx,bxd->btd", weight, values) @ out)
        return x, kept

    return forward, unembed_dv
