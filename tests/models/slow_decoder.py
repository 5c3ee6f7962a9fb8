"""A slow decoder in numpy, to compare with: float64, one token, one head, one key at a time."""

import jax
import numpy as np


def slow_norm(c, x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + c.norm_eps) * (scale + c.shifted_norms)


def slow_activation(c, x):
    if c.activation == "silu":
        return x / (1 + np.exp(-x))
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def slow_rotate(x_h, position, theta):
    """Rotate the complex numbers (i, i + H/2) by position · theta^(−2i/H)."""
    half = x_h.size // 2
    rotated = (x_h[:half] + 1j * x_h[half:]) * np.exp(1j * position * theta ** (-np.arange(half) / half))
    return np.concatenate([rotated.real, rotated.imag])


def slow_projections(c, p, y_d, position, theta):
    """Return queries `[N, H]`, keys and values `[M, H]` of one token; a token is not rotated at position 0."""
    q_nh, k_mh, v_mh = (np.tensordot(y_d, p[name], 1) for name in ("query", "key", "value"))
    if c.qkv_bias:
        q_nh, k_mh, v_mh = q_nh + p["query_bias"], k_mh + p["key_bias"], v_mh + p["value_bias"]
    if c.qk_norm:
        q_nh, k_mh = slow_norm(c, q_nh, p["query_norm"]), slow_norm(c, k_mh, p["key_norm"])
    rotated = [np.stack([slow_rotate(x, position, theta) for x in heads]) for heads in (q_nh, k_mh)]
    return *rotated, v_mh


def slow_attention(c, p, y_td, position_t, visible_ts, theta):
    q, k, v = zip(
        *(slow_projections(c, p, y, position, theta) for y, position in zip(y_td, position_t, strict=True)), strict=True
    )
    out_td = np.zeros_like(y_td)
    for t, visible_s in enumerate(visible_ts):
        for head in range(c.heads):
            group = head // (c.heads // c.kv_heads)
            visible = np.flatnonzero(visible_s)
            weight = np.exp([q[t][head] @ k[s][group] / np.sqrt(c.score_divisor or c.head_size) for s in visible])
            mixed_h = sum(w * v[s][group] for w, s in zip(weight / weight.sum(), visible, strict=True))
            out_td[t] += mixed_h @ p["out"][head]
    return out_td + p["out_bias"] if c.o_bias else out_td


def slow_mlp(c, y_d, gate, up, down):
    return slow_activation(c, y_d @ gate) * (y_d @ up) @ down


def slow_experts(c, p, y_td):
    """Add up the experts of each token, one after the other."""
    out_td = np.zeros_like(y_td)
    for t, y_d in enumerate(y_td):
        prob_e = np.exp(y_d @ p["router"]) / np.exp(y_d @ p["router"]).sum()
        chosen = np.argsort(-prob_e)[: c.experts.per_token]
        total = prob_e[chosen].sum() if c.experts.is_normalized else 1
        for e in chosen:
            out_td[t] += prob_e[e] / total * slow_mlp(c, y_d, *(p[name][e] for name in ("gate", "up", "down")))
    return out_td


def slow_decoder(c, params, token_t, position_t, visible_ts):
    """Return hidden states `[T, D]` of one row."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    x_td = params["embedding"][token_t] * (c.width**0.5 if c.scaled_embedding else 1)
    near_ts = np.tri(len(token_t)) - np.tri(len(token_t), k=-(c.window or len(token_t)))
    for layer in range(c.layers):
        p = jax.tree.map(lambda x: x[layer], params["layers"])  # noqa: B023
        has_window = c.window is not None and layer not in c.full_layers
        theta = c.window_rope_theta if has_window and c.window_rope_theta else c.rope_theta
        y_td = slow_norm(c, x_td, p["attention_norm"])
        angle_t = position_t * (layer not in c.no_rope_layers)
        seen_ts = visible_ts * near_ts if has_window else visible_ts
        y_td = slow_attention(c, p["attention"], y_td, angle_t, seen_ts, theta)
        x_td = x_td + (slow_norm(c, y_td, p["attention_post_norm"]) if c.post_norms else y_td)
        y_td = slow_norm(c, x_td, p["mlp_norm"])
        y_td = slow_experts(c, p["mlp"], y_td) if c.experts else slow_mlp(c, y_td, **p["mlp"])
        x_td = x_td + (slow_norm(c, y_td, p["mlp_post_norm"]) if c.post_norms else y_td)
    return slow_norm(c, x_td, params["norm"])
