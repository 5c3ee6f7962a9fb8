"""How likely is the right answer after each step? All probes of a response in one pass of the model.

A response, with its prompt, is the *trunk*. Behind each of its K+1 cuts (before the first step, after the first, …)
hang A *leaves*, one for each spelling of the answer: the lead-in, the answer, the closing tag. A leaf sees the trunk
up to its cut and itself, at the positions it would have if it stood there, and the trunk sees no leaf:

    three tokens to a leaf, one spelling, a trunk of four (x sees, · does not)

                     trunk      itself
                  ┌──────────┬─────────┐
        leaf k=0  │ x x · ·  │ x · ·   │   cut after 2
                  │ x x · ·  │ x x ·   │
                  │ x x · ·  │ x x x   │
        leaf k=1  │ x x x ·  │ x · ·   │   cut after 3
                  │ x x x ·  │ x x ·   │
                  │ x x x ·  │ x x x   │
                  └──────────┴─────────┘

So leaves are short sequences that share the keys and values of the trunk, a rectangle that nobody has to square: one
pass computes what K·A passes, one for each prefix and spelling, would compute, and where the trunk's keys and values
are there from the rollout, only the leaves are computed.

The model is an argument:

    forward(token_rt, position_rt, visible_rx, cache) -> (hidden_rtd, keys and values of these tokens)

Each of its R sequences is causal in itself. `cache` is a tuple of what earlier calls have returned, each of B rows: of
R = B·n sequences n neighbours share one. `visible_rx` is bool, `[R, S]`: which of the S cached tokens a sequence sees;
without a cache, (), `[R, T]`: which of its own tokens are no padding.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.rewards import likelihood

Forward = Callable[[jax.Array, jax.Array, jax.Array, tuple], tuple[jax.Array, Any]]


class Answers(NamedTuple):
    """The spellings of one answer, ready to be put behind any cut. `Y` of the `P` positions predict a scored token.

    token_ap: `[A, P]` lead-in, answer and closing tag but for its last token, then padding.
    target_ay: `[A, Y]` the answer and its closing tag; the last Y positions of `token_ap` predict them.
    scored_ay: `[A, Y]` bool, False at padding; a row of False is no spelling.
    """

    token_ap: jax.Array
    target_ay: jax.Array
    scored_ay: jax.Array


class Cuts(NamedTuple):
    """Where a trunk is probed.

    cut_k: `[K+1]` number of slots of the trunk (its padding included) that lie before each cut; at least 1.
    valid_k: `[K+1]` bool, which cuts there are.
    """

    cut_k: jax.Array
    valid_k: jax.Array


class Trunk(NamedTuple):
    """What has been said so far, padded anywhere.

    position_s: `[S]` position of each token; or `[S, X]` where positions have several axes (M-RoPE).
    valid_s: `[S]` bool, False at padding.
    """

    position_s: jax.Array
    valid_s: jax.Array


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
    target_ay = np.zeros((max_variants, width), np.int32)
    scored_ay = np.zeros((max_variants, width), bool)
    token_ap[:, : len(lead_in)] = lead_in
    for a, scored in enumerate(fitting):
        token_ap[a, len(lead_in) : len(lead_in) + len(scored) - 1] = scored[:-1]
        target_ay[a, : len(scored)] = scored
        scored_ay[a, : len(scored)] = True
    return Answers(token_ap, target_ay, scored_ay)


class Leaves(NamedTuple):
    """All leaves of one response, (K+1)·A sequences of P tokens, in the order k, a.

    token_rp: `[R, P]`; position_rp: `[R, P]`, or `[R, P, X]`; visible_rs: `[R, S]` bool, what each sees of the trunk.
    """

    token_rp: jax.Array
    position_rp: jax.Array
    visible_rs: jax.Array


def build_leaves(trunk: Trunk, cuts: Cuts, answers: Answers) -> Leaves:
    """The leaves of one response, without what they look like in a batch."""
    chex.assert_rank([trunk.valid_s, cuts.cut_k], 1)
    (n_cuts,), (variants, width) = cuts.cut_k.shape, answers.token_ap.shape
    token_rp = jnp.tile(answers.token_ap, (n_cuts, 1))
    # A leaf goes on from its cut, as if it stood in the trunk's place.
    position_kp = _first_positions(trunk, cuts.cut_k)[:, None] + jnp.arange(width)[None, :]
    position_rp = jnp.repeat(position_kp, variants, axis=0)
    if trunk.position_s.ndim == 2:
        position_rp = jnp.broadcast_to(position_rp[..., None], (*position_rp.shape, trunk.position_s.shape[1]))
    before_ks = jnp.arange(trunk.valid_s.shape[0])[None, :] < cuts.cut_k[:, None]
    return Leaves(token_rp, position_rp, jnp.repeat(before_ks & trunk.valid_s[None, :], variants, axis=0))


def _first_positions(trunk: Trunk, cut_k: jax.Array) -> jax.Array:
    """`[K+1]` where text goes on behind each cut: one more than the greatest position before it, on whatever axis."""
    greatest_s = trunk.position_s if trunk.position_s.ndim == 1 else trunk.position_s.max(-1)
    return jax.lax.cummax(jnp.where(trunk.valid_s, greatest_s, -1))[cut_k - 1] + 1


def score_on_cache(
    forward: Forward,
    unembed_dv: jax.Array,
    cache: tuple,
    trunk: Trunk,
    cuts: Cuts,
    answers: Answers,
    *,
    chunk: int = 128,
) -> jax.Array:
    """ℓ after every step, computing the leaves alone: the trunk's keys and values are in `cache`.

    Args:
      forward: the model (see the head of this file); `cache` is passed to it as it is.
      unembed_dv: `[D, V]` output matrix.
      cache: of B responses and S slots, or, with parts of fewer rows, of B / n that n neighbours share.
      trunk, cuts, answers: with a leading axis B on every field.
      chunk: leaf tokens of a row whose logits are alive at once.

    Returns:
      ell_bk `[B, K+1]` in nats per token, without gradient; where a cut is not valid, the value means nothing.
    """
    leaves = jax.vmap(build_leaves)(trunk, cuts, answers)
    hidden_rpd, _ = forward(*(x.reshape(-1, *x.shape[2:]) for x in leaves), cache)
    return _leaf_likelihood(hidden_rpd, unembed_dv, cuts, answers, chunk)


def score_packed(
    forward: Forward,
    unembed_dv: jax.Array,
    token_bs: jax.Array,
    trunk: Trunk,
    cuts: Cuts,
    answers: Answers,
    *,
    chunk: int = 128,
) -> tuple[jax.Array, jax.Array]:
    """ℓ after every step and the trunk's own log-probs: the trunk, and then the leaves on its keys and values.

    Args:
      token_bs: `[B, S]` the trunks; the rest as in `score_on_cache`.

    Returns:
      ell_bk `[B, K+1]`, and logprob_bs `[B, S]`: of each token of the trunk given those before it (0 for the first,
      meaningless at padding). Both without gradient, in nats.
    """
    hidden_bsd, new = forward(token_bs, trunk.position_s, trunk.valid_s, ())
    ell_bk = score_on_cache(forward, unembed_dv, (new,), trunk, cuts, answers, chunk=chunk)
    logprob, _ = _logprobs(hidden_bsd[:, :-1], unembed_dv, token_bs[:, 1:], chunk)
    return ell_bk, jax.lax.stop_gradient(jnp.pad(logprob, ((0, 0), (1, 0))))


def _leaf_likelihood(hidden_rpd, unembed_dv, cuts, answers, chunk) -> jax.Array:
    """ℓ from the hidden states of all leaves; of each leaf only the positions that predict a scored token count."""
    rows, n_cuts = cuts.cut_k.shape
    _, variants, n_scored = answers.target_ay.shape
    leaves = (rows, n_cuts, variants, n_scored)
    hidden = hidden_rpd[:, -n_scored:]
    target = jnp.broadcast_to(answers.target_ay[:, None], leaves)
    logprob, _ = _logprobs(hidden.reshape(rows, -1, hidden.shape[-1]), unembed_dv, target.reshape(rows, -1), chunk)
    ell_bk = jax.vmap(likelihood.answer_likelihood)(logprob.reshape(leaves), answers.scored_ay)
    return jax.lax.stop_gradient(ell_bk)


def _logprobs(hidden_btd, unembed_dv, target_bt, chunk):
    return jax.vmap(lambda h, y: likelihood.token_logprobs(h, unembed_dv, y, chunk=chunk))(hidden_btd, target_bt)
