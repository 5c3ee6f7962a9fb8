"""Mixture of experts: a router chooses a few of many MLPs for each token (Qwen3-MoE).

    p = softmax(W_router x)                                over the E experts, in float32
    y = Σ wₑ · W_downₑ(silu(W_gateₑ x) ⊙ W_upₑ x)          over the C largest of p; w = p, or p / Σ p of the chosen

Every token gets all of its experts, however many tokens choose the same: the result is that of each token alone. Pairs
of a token and an expert are sorted by expert, and each expert multiplies its own (`grouped_matmul`).

On a mesh, experts are split over the axis of the logical axis "experts". Each device has all tokens of its rows, adds
up what its own experts give, and the sum over devices is taken as for a split MLP. So no token is sent, and no buffer
has a capacity.

Letters here: E experts, C chosen experts of a token, F width of an expert, N tokens of all rows, P = N·C pairs.

Sources: Qwen3 (arXiv 2505.09388), Switch Transformers (2101.03961).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models.grouped_matmul import grouped_matmul
from mig_jax.models.layers import Initializer


@dataclasses.dataclass(frozen=True)
class ExpertsConfig:
    """Shape of a mixture of experts.

    count: E, experts of a layer.
    per_token: C, experts that are computed for a token.
    width: F, mlp width of an expert.
    is_normalized: the weights of the chosen experts are divided by their sum.

    Raises:
      UserError: more experts are chosen than there are.
    """

    count: int
    per_token: int
    width: int
    is_normalized: bool

    def __post_init__(self):
        if not 1 <= self.per_token <= self.count:
            raise UserError(f"{self.per_token} experts per token: must be 1 to {self.count}, the number of experts")


class RouterLoad(NamedTuple):
    """What a router has done with some tokens; with a leading axis L for all layers.

    assigned_e: `[E]` float32 number of tokens that chose each expert.
    prob_e: `[E]` float32 sum of the tokens' probabilities of each expert.
    """

    assigned_e: jax.Array
    prob_e: jax.Array


class Experts(nnx.Module):
    """Router and experts; parameters as in `decoder.Attention`."""

    def __init__(self, config: ExpertsConfig, width: int, init: Initializer):
        c = self.config = config
        shape, axes = (c.count, width, c.width), ("experts", "embed", "expert_mlp")
        self.router = init.normal((width, c.count), ("embed", "router"), inputs=width)
        self.gate, self.up = (init.normal(shape, axes, inputs=width) for _ in range(2))
        shape, axes = (c.count, c.width, width), ("experts", "expert_mlp", "embed")
        self.down = init.residual(shape, axes, inputs=c.width)

    def __call__(self, x_btd: jax.Array, counted_bt: jax.Array | None = None) -> tuple[jax.Array, RouterLoad | None]:
        """Return the outputs `[B, T, D]`, and the load of the router by the counted tokens.

        Args:
          x_btd: `[B, T, D]` tokens.
          counted_bt: `[B, T]` bool, which tokens the load counts; None: no load is returned.
        """
        score_bte = jnp.einsum("btd,de->bte", x_btd, self.router[...], preferred_element_type=jnp.float32)
        prob_bte = jax.nn.softmax(score_bte, axis=-1)
        weight_btc, expert_btc = jax.lax.top_k(prob_bte, self.config.per_token)
        if self.config.is_normalized:
            weight_btc /= weight_btc.sum(-1, keepdims=True)
        rows = x_btd, weight_btc.astype(x_btd.dtype), expert_btc
        out_btd = sharding.sum_over_experts(_run_experts, rows, (self.gate[...], self.up[...], self.down[...]))
        return out_btd, None if counted_bt is None else _sum_load(prob_bte, expert_btc, counted_bt)


def _sum_load(prob_bte: jax.Array, expert_btc: jax.Array, counted_bt: jax.Array) -> RouterLoad:
    """Return the load of the router by the counted tokens `[B, T]`, from probabilities and chosen experts."""
    chosen_btce = expert_btc[..., None] == jnp.arange(prob_bte.shape[-1])[None, None, None, :]
    counted_bt1 = counted_bt[..., None].astype(jnp.float32)
    return RouterLoad((chosen_btce.any(2) * counted_bt1).sum((0, 1)), (prob_bte * counted_bt1).sum((0, 1)))


def _run_experts(first: jax.Array | int, rows: tuple[jax.Array, ...], experts: tuple[jax.Array, ...]) -> jax.Array:
    """Return the weighted sum of the given experts' outputs for each token, `[B, T, D]`.

    Args:
      first: number of the first of these experts; others that tokens have chosen give nothing.
      rows: `[B, T, D]` tokens; `[B, T, C]` weights and numbers of their experts.
      experts: the matrices gate, up and down of some experts.
    """
    (x_btd, weight_btc, expert_btc), (gate_edf, up_edf, down_efd) = rows, experts
    count, (*_, chosen) = len(gate_edf), expert_btc.shape
    group_p = expert_btc.reshape(-1) - first
    group_p = jnp.where((group_p >= 0) & (group_p < count), group_p, count)
    order_p = jnp.argsort(group_p)
    place_nc = jnp.argsort(order_p).reshape(-1, chosen)
    size_e = (group_p[:, None] == jnp.arange(count)[None, :]).sum(0)
    # Pairs with other experts come last, and their products may be anything.
    is_own_p1 = (jnp.arange(len(group_p)) < size_e.sum())[:, None]
    x_pd = jnp.where(is_own_p1, _dispatch(x_btd.reshape(-1, x_btd.shape[-1]), order_p, place_nc), 0)
    hidden_pf = jax.nn.silu(grouped_matmul(x_pd, gate_edf, size_e)) * grouped_matmul(x_pd, up_edf, size_e)
    y_pd = grouped_matmul(jnp.where(is_own_p1, hidden_pf, 0), down_efd, size_e)
    y_ncd = _collect(jnp.where(is_own_p1, y_pd, 0), order_p, place_nc)
    out_nd = jnp.einsum("ncd,nc->nd", y_ncd, weight_btc.reshape(-1, chosen), preferred_element_type=jnp.float32)
    return out_nd.reshape(x_btd.shape).astype(x_btd.dtype)


# ------------------------------------------------------------------------------------------- tokens to experts and back


@jax.custom_vjp
def _dispatch(x_nd: jax.Array, order_p: jax.Array, place_nc: jax.Array) -> jax.Array:
    """Return the token of each pair, `[P, D]`, pairs sorted by expert.

    Args:
      x_nd: `[N, D]` tokens.
      order_p: `[P]` index of each sorted pair among the pairs in the order of tokens.
      place_nc: `[N, C]` the inverse: place of each pair among the sorted ones.
    """
    return x_nd[order_p // place_nc.shape[1]]


@jax.custom_vjp
def _collect(y_pd: jax.Array, order_p: jax.Array, place_nc: jax.Array) -> jax.Array:
    """Return sorted pairs by token, `[N, C, D]`; the other arguments are those of `_dispatch`."""
    return y_pd[place_nc]


# Without these rules the gradients of both would be scattered: slow on TPUs, in no fixed order on GPUs.
_dispatch.defvjp(
    lambda x_nd, order_p, place_nc: (_dispatch(x_nd, order_p, place_nc), place_nc),
    lambda place_nc, d_pd: (d_pd[place_nc].sum(1), None, None),
)
_collect.defvjp(
    lambda y_pd, order_p, place_nc: (_collect(y_pd, order_p, place_nc), order_p),
    lambda order_p, d_ncd: (d_ncd.reshape(len(order_p), -1)[order_p], None, None),
)
