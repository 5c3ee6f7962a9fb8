"""How likely is the right answer after each step? All probes of a response in one pass of the model.

A response, with its prompt, is the *trunk*. Behind each of its K+1 cuts (before the first step, after the first, …)
hang A *leaves*, one for each spelling of the answer: the lead-in, the answer, the closing tag. A leaf sees the trunk
up to its cut and itself, at the positions it would have if it stood there, and the trunk sees no leaf. So one pass
computes what K·A passes, one for each prefix and spelling, would compute; and on a KV cache that already holds the
trunk only the leaves are computed.

The model is an argument:

    forward(token_bt, position_bt, mask_btx, cache) -> (hidden_btd, cache of these tokens)

`mask_btx` is bool `[B, T, S+T]`: which of the S cached and of the T new tokens each new token sees; without a cache
(None) S = 0.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.rewards import likelihood

Forward = Callable[[chex.Array, chex.Array, chex.Array, Any], tuple[chex.Array, Any]]


class Answers(NamedTuple):
    """The spellings of one answer, ready to be put behind any cut. `R` of the `P` positions predict a scored token.

    token_ap: `[A, P]` lead-in, answer and closing tag but for its last token, then padding.
    target_ar: `[A, R]` the answer and its closing tag; the last R positions of `token_ap` predict them.
    scored_ar: `[A, R]` bool, False at padding; a row of False is no spelling.
    """

    token_ap: chex.Array
    target_ar: chex.Array
    scored_ar: chex.Array


class Cuts(NamedTuple):
    """Where a trunk is probed.

    cut_k: `[K+1]` number of slots of the trunk (its padding included) that lie before each cut; at least 1.
    valid_k: `[K+1]` bool, which cuts there are.
    """

    cut_k: chex.Array
    valid_k: chex.Array


class Trunk(NamedTuple):
    """What has been said so far, padded anywhere.

    position_s: `[S]` position of each token; or `[S, X]` where positions have several axes (M-RoPE).
    valid_s: `[S]` bool, False at padding.
    """

    position_s: chex.Array
    valid_s: chex.Array


def pack_answers(
    lead_in: Sequence[int],
    spellings: Sequence[Sequence[int]],
    closing: Sequence[int],
    *,
    max_variants: int,
    max_tokens: int,
) -> Answers:
    """Lay the spellings of one answer out in fixed shapes (numpy, on the host).

    Args:
      lead_in: ids that close the thinking and open the answer; context, not scored.
      spellings: ids of each spelling, the reference first.
      closing: ids of the closing tag, scored with the answer.
      max_variants: A; later spellings are left out.
      max_tokens: the longest answer, without its closing tag; longer spellings are left out.

    Raises:
      ValueError: a part is empty, or no spelling fits.
    """
    fitting = [list(ids) + list(closing) for ids in spellings if 0 < len(ids) <= max_tokens][:max_variants]
    if not fitting or not lead_in or not closing:
        lengths = [len(ids) for ids in spellings]
        raise ValueError(
            f"no probe can be laid out: lead-in of {len(lead_in)} tokens, closing tag of {len(closing)}, answers of "
            f"{lengths} tokens where 1 to {max_tokens} fit"
        )
    width = max_tokens + len(closing)
    token_ap = np.zeros((max_variants, len(lead_in) + width - 1), np.int32)
    target_ar = np.zeros((max_variants, width), np.int32)
    scored_ar = np.zeros((max_variants, width), bool)
    token_ap[:, : len(lead_in)] = lead_in
    for a, scored in enumerate(fitting):
        token_ap[a, len(lead_in) : len(lead_in) + len(scored) - 1] = scored[:-1]
        target_ar[a, : len(scored)] = scored
        scored_ar[a, : len(scored)] = True
    return Answers(token_ap, target_ar, scored_ar)


def leaf_mask(trunk: Trunk, cuts: Cuts, *, variants: int, width: int) -> chex.Array:
    """Who sees whom: `[L, S+L]` for the L = (K+1)·A·P tokens of the leaves, in the order k, a, p.

    Two cuts, one spelling of three tokens, a trunk of four (x sees, · does not):

                     trunk      leaf k=0   leaf k=1
                  ┌──────────┬──────────┬──────────┐
        leaf k=0  │ x x · ·  │ x · ·    │ · · ·    │   cut after 2
                  │ x x · ·  │ x x ·    │ · · ·    │
                  │ x x · ·  │ x x x    │ · · ·    │
        leaf k=1  │ x x x ·  │ · · ·    │ x · ·    │   cut after 3
                  │ x x x ·  │ · · ·    │ x x ·    │
                  │ x x x ·  │ · · ·    │ x x x    │
                  └──────────┴──────────┴──────────┘
    """
    chex.assert_rank([trunk.valid_s, cuts.cut_k], 1)
    leaf_l, place_l = jnp.divmod(jnp.arange(cuts.cut_k.shape[0] * variants * width), width)
    before_ks = jnp.arange(trunk.valid_s.shape[0])[None, :] < cuts.cut_k[:, None]
    sees_trunk = jnp.repeat(before_ks & trunk.valid_s[None, :], variants * width, axis=0)
    sees_leaf = (leaf_l[:, None] == leaf_l[None, :]) & (place_l[:, None] >= place_l[None, :])
    return jnp.concatenate([sees_trunk, sees_leaf], axis=1)


def lay_leaves(trunk: Trunk, cuts: Cuts, answers: Answers) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Tokens `[L]`, positions `[L]` (`[L, X]`) and mask `[L, S+L]` of all leaves of one response, L = (K+1)·A·P."""
    n_cuts, (variants, width) = cuts.cut_k.shape[0], answers.token_ap.shape
    token_kap = jnp.broadcast_to(answers.token_ap, (n_cuts, variants, width))
    # A leaf goes on from its cut, as if it stood in the trunk's place.
    position_kp = _first_positions(trunk, cuts.cut_k)[:, None] + jnp.arange(width)[None, :]
    position_l = jnp.broadcast_to(position_kp[:, None], token_kap.shape).reshape(-1)
    if trunk.position_s.ndim == 2:
        position_l = jnp.broadcast_to(position_l[:, None], (*position_l.shape, trunk.position_s.shape[1]))
    mask = leaf_mask(trunk, cuts, variants=variants, width=width)
    return token_kap.reshape(-1), position_l, mask


def _first_positions(trunk: Trunk, cut_k: chex.Array) -> chex.Array:
    """`[K+1]` where text goes on behind each cut: one more than the greatest position before it, on whatever axis."""
    greatest_s = trunk.position_s if trunk.position_s.ndim == 1 else trunk.position_s.max(-1)
    return jax.lax.cummax(jnp.where(trunk.valid_s, greatest_s, -1))[cut_k - 1] + 1


def score_on_cache(
    forward: Forward,
    unembed_dv: chex.Array,
    cache: Any,
    trunk: Trunk,
    cuts: Cuts,
    answers: Answers,
    *,
    chunk: int = 128,
) -> chex.Array:
    """ℓ after every step, computing the leaves alone: the trunk's keys and values are in `cache`.

    Args:
      forward: the model (see the head of this file); `cache` is passed to it as it is.
      unembed_dv: `[D, V]` output matrix.
      cache: of B rows and S slots.
      trunk, cuts, answers: with a leading axis B on every field.
      chunk: leaf tokens of a row whose logits are alive at once.

    Returns:
      ell_bk `[B, K+1]` in nats per token, without gradient; where a cut is not valid, the value means nothing.
    """
    token_bl, position_bl, mask_blx = jax.vmap(lay_leaves)(trunk, cuts, answers)
    hidden_bld, _ = forward(token_bl, position_bl, mask_blx, cache)
    return _leaf_likelihood(hidden_bld, unembed_dv, cuts, answers, chunk)


def score_packed(
    forward: Forward,
    unembed_dv: chex.Array,
    token_bs: chex.Array,
    trunk: Trunk,
    cuts: Cuts,
    answers: Answers,
    *,
    chunk: int = 128,
) -> tuple[chex.Array, chex.Array]:
    """ℓ after every step and the trunk's own log-probs, trunk and leaves in one pass.

    Args:
      token_bs: `[B, S]` the trunks; the rest as in `score_on_cache`.

    Returns:
      ell_bk `[B, K+1]`, and logprob_bs `[B, S]`: of each token of the trunk given those before it (0 for the first,
      meaningless at padding). Both without gradient, in nats.
    """
    length = token_bs.shape[1]
    token_bl, position_bl, leaf_blx = jax.vmap(lay_leaves)(trunk, cuts, answers)
    causal_bss = jnp.tril(jnp.ones((length, length), bool))[None] & trunk.valid_s[:, None, :]
    trunk_bsx = jnp.pad(causal_bss, ((0, 0), (0, 0), (0, token_bl.shape[1])))
    hidden, _ = forward(
        jnp.concatenate([token_bs, token_bl], axis=1),
        jnp.concatenate([trunk.position_s, position_bl], axis=1),
        jnp.concatenate([trunk_bsx, leaf_blx], axis=1),
        None,
    )
    ell_bk = _leaf_likelihood(hidden[:, length:], unembed_dv, cuts, answers, chunk)
    logprob, _ = _logprobs(hidden[:, : length - 1], unembed_dv, token_bs[:, 1:], chunk)
    return ell_bk, jax.lax.stop_gradient(jnp.pad(logprob, ((0, 0), (1, 0))))


def _leaf_likelihood(hidden_bld, unembed_dv, cuts, answers, chunk) -> chex.Array:
    """ℓ from the hidden states of all leaves; of each leaf only the positions that predict a scored token count."""
    rows, n_cuts = cuts.cut_k.shape
    _, variants, width = answers.token_ap.shape
    n_scored = answers.target_ar.shape[-1]
    leaves = (rows, n_cuts, variants, n_scored)
    hidden = hidden_bld.reshape(rows, n_cuts, variants, width, -1)[:, :, :, width - n_scored :]
    target = jnp.broadcast_to(answers.target_ar[:, None], leaves)
    logprob, _ = _logprobs(hidden.reshape(rows, -1, hidden.shape[-1]), unembed_dv, target.reshape(rows, -1), chunk)
    ell_bk = jax.vmap(likelihood.answer_likelihood)(logprob.reshape(leaves), answers.scored_ar)
    return jax.lax.stop_gradient(ell_bk)


def _logprobs(hidden_btd, unembed_dv, target_bt, chunk):
    return jax.vmap(lambda h, y: likelihood.token_logprobs(h, unembed_dv, y, chunk=chunk))(hidden_btd, target_bt)
