"""How evenly the routers of a mixture of experts use their experts: as metrics, and as a term of the loss.

    balance = mean over layers of E Σₑ fₑ Pₑ        f: share of the choices that fell on expert e
                                                    P: mean probability of expert e

It is 1 if all experts are used alike, and E/C if all tokens choose the same C experts with certainty. The gradient
flows through P.

Source: Switch Transformers (arXiv 2101.03961), Eqs. 4 to 6.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Metrics of micro-batches, which are sums; `summarize` makes the reported ones of them.
_SUMS = ("router/assigned", "router/prob")


def balance(assigned_le: jax.Array, prob_le: jax.Array) -> jax.Array:
    """Return the balance of the routers, a scalar.

    Args:
      assigned_le: `[L, E]` number of tokens that chose each expert.
      prob_le: `[L, E]` sum of the tokens' probabilities of each expert.
    """
    share_le, mean_prob_le = (x_le / jnp.maximum(x_le.sum(-1, keepdims=True), 1) for x_le in (assigned_le, prob_le))
    return assigned_le.shape[-1] * (share_le * mean_prob_le).sum(-1).mean()


def largest_share(assigned_le: jax.Array) -> jax.Array:
    """Return the largest share of a layer's choices that fell on one expert: 1/E if all are used alike, 1/C at most."""
    return (assigned_le / jnp.maximum(assigned_le.sum(-1, keepdims=True), 1)).max()


def add_balance(loss_fn: Callable, *, coef: float) -> Callable:
    """Return `loss_fn` with `coef` times the balance of the routers added, and with the sums for `summarize`.

    Args:
      loss_fn: (logprob_bt, entropy_bt, sft_logprob_bt, batch, token_weights) → loss and metrics.
      coef: coefficient of the balance; 0 leaves loss and gradient as they are.

    Returns:
      A function that takes the load of the routers before the batch: counts and summed probabilities, `[L, E]` each.
      Of micro-batches, the term is the mean of theirs, with their shares of the outcome stream as weights: experts are
      balanced within each of them.
    """

    def loss_with_balance(logprob_bt, entropy_bt, sft_logprob_bt, load, batch, token_weights):
        loss, metrics = loss_fn(logprob_bt, entropy_bt, sft_logprob_bt, batch, token_weights)
        if coef:
            loss = loss + coef * token_weights.outcome_mean_bt.sum() * balance(*load)
        sums = dict(zip(_SUMS, load, strict=True))
        return loss, jax.lax.stop_gradient(metrics | sums | {"loss/total": loss})

    return loss_with_balance


def summarize(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a batch with the balance and the largest share in place of the sums over its tokens."""
    if _SUMS[0] not in metrics:
        return metrics
    assigned_le, prob_le = (metrics[name] for name in _SUMS)
    summary = {"router/balance": balance(assigned_le, prob_le), "router/largest_share": largest_share(assigned_le)}
    return {name: value for name, value in metrics.items() if name not in _SUMS} | summary
