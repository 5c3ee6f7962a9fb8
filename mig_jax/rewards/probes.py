"""Probes: the likelihood of the reference answer after each step, for all steps of a response in one forward pass.

A prompt with its response is the *trunk*. It has K+1 cuts: before the first step, after the first step, and so on.
After each cut come A *leaves*, one for each variant of the answer: the lead-in, the answer and its ending. A leaf
attends to the trunk up to its cut and, causally, to itself. Its positions continue from the cut. The trunk attends to
no leaf. The mask, drawn for a trunk of four tokens, one variant and leaves of three tokens (x attends, · does not):

                     trunk      itself
                  ┌──────────┬─────────┐
        leaf k=0  │ x x · ·  │ x · ·   │   cut after 2
                  │ x x · ·  │ x x ·   │
                  │ x x · ·  │ x x x   │
        leaf k=1  │ x x x ·  │ x · ·   │   cut after 3
                  │ x x x ·  │ x x ·   │
                  │ x x x ·  │ x x x   │
                  └──────────┴─────────┘

So leaves are short sequences that share the keys and values of the trunk, and no square mask over all of them is ever
built. They give what (K+1)·A passes would give, one for each prefix and variant. With the KV cache of the rollout
(`score_on_cache`), only they are computed; without it (`score_packed`), the trunk is computed first.

What the leaves of a cut have in common, the lead-in, can be computed once, if the model takes a cache of several
entries: it is their *branch*, whose keys and values they attend to as to those of the trunk. Otherwise, and with one
variant, a branch is a whole leaf.

Leaves of a cut may write ids of their own before the lead-in, the *prefix* of the cut: the opening of the response
where the trunk is the prompt alone, or the part of a token that belongs to the step when the cut splits it.

The model is an argument, see `Forward`. No gradient flows through the results.
"""

import functools
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp

from mig_jax.rewards.arrays import Answers, Array, Cuts, Trunk
from mig_jax.rewards.likelihood import answer_likelihood
from mig_jax.rewards.logprobs import Head, batch_logprobs


class Forward(Protocol):
    """The model: R sequences of T tokens, each causal in itself, that may continue sequences in a KV cache."""

    def __call__(
        self, token_rt: jax.Array, position_rt: jax.Array, visible_rx: jax.Array, cache: tuple, /
    ) -> tuple[jax.Array, Any]:
        """Return the hidden states and the keys and values of these tokens.

        Args:
          token_rt: `[R, T]` token ids.
          position_rt: `[R, T]` positions; or `[R, T, X]` where positions have several axes (M-RoPE).
          visible_rx: bool. With a cache, `[R, S]`: the cached tokens that each sequence attends to, S in all. Without
            one, `[R, T]`: its own tokens that are not padding.
          cache: keys and values that a call returned, one entry; () for none. The entry has B rows where R = B·n, and
            n neighboring sequences share one row. There are several entries, each with its own B and n, where the
            caller passes several, or asks for `share_lead_in`: S counts their tokens in this order.

        Returns:
          hidden_rtd `[R, T, D]` after the last norm, ready for the output layer, and the keys and values in a form of
          the model's own.
        """
        ...


def score_packed(
    forward: Forward,
    head: Head,
    token_bs: jax.Array,
    trunk: Trunk,
    cuts: Cuts,
    answers: Answers,
    *,
    chunk: int = 512,
    block: int | None = None,
    parts: int = 1,
    over_tokens: str = "mean_logprob",
    over_spellings: str = "max",
    is_token_v: Array | None = None,
    share_lead_in: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Return ℓ after every step and the log-probs of the trunk, by one pass over the trunk and one over the leaves.

    Args:
      forward: the model, see `Forward`.
      head: `[D, V]` output matrix, or a function from hidden states to logits; see `token_logprobs`.
      token_bs: `[B, S]` token ids of the trunks.
      trunk, cuts, answers: with a leading axis B on every field.
      chunk, block, parts: tokens of a part of the rows, and columns, whose logits are in memory at once, see
        `batch_logprobs`.
      over_tokens, over_spellings: as in `answer_likelihood`.
      is_token_v: as in `token_logprobs`.
      share_lead_in: as in `score_on_cache`.

    Returns:
      ell_bk `[B, K+1]` in nats per token, meaningless where a cut is not valid; and logprob_bs `[B, S]` in nats, the
      log-prob of each token of the trunk given those before it (0 for the first, meaningless at padding).

    References:
      arXiv 2602.01034, Eq. 9, there with one pass for each prefix and variant.
    """
    _assert_batch(trunk, cuts, answers)
    chex.assert_equal_shape([token_bs, trunk.valid_s])
    hidden_bsd, keys_values = forward(token_bs, jnp.asarray(trunk.position_s), jnp.asarray(trunk.valid_s), ())
    ell_bk = score_on_cache(
        forward,
        head,
        (keys_values,),
        trunk,
        cuts,
        answers,
        chunk=chunk,
        block=block,
        parts=parts,
        over_tokens=over_tokens,
        over_spellings=over_spellings,
        is_token_v=is_token_v,
        share_lead_in=share_lead_in,
    )
    options: dict[str, Any] = {"chunk": chunk, "block": block, "parts": parts, "is_token_v": is_token_v}
    (logprob_bs,), _ = batch_logprobs(hidden_bsd[:, :-1], head, token_bs[:, 1:], **options)
    return ell_bk, jax.lax.stop_gradient(jnp.pad(logprob_bs, ((0, 0), (1, 0))))


def score_on_cache(
    forward: Forward,
    head: Head,
    cache: tuple,
    trunk: Trunk,
    cuts: Cuts,
    answers: Answers,
    *,
    chunk: int = 512,
    block: int | None = None,
    parts: int = 1,
    over_tokens: str = "mean_logprob",
    over_spellings: str = "max",
    is_token_v: Array | None = None,
    share_lead_in: bool = False,
) -> jax.Array:
    """Return ℓ after every step, computing the leaves alone on a KV cache of the trunk.

    ℓ₀ of a question needs the cache of its prompt alone: rows of questions, with one cut after the last slot and the
    opening of the response as its prefix.

    Args:
      forward: the model, see `Forward`.
      head: `[D, V]` output matrix, or a function from hidden states to logits; see `token_logprobs`.
      cache: keys and values of the S slots of the trunks, passed to `forward` as they are. Its entries have B rows, or
        B / n rows of which each is shared by n neighboring responses.
      trunk, cuts, answers: with a leading axis B on every field.
      chunk, block, parts: leaf tokens of a part of the rows, and columns, whose logits are in memory at once, see
        `batch_logprobs`.
      over_tokens, over_spellings: as in `answer_likelihood`.
      is_token_v: as in `token_logprobs`.
      share_lead_in: compute the lead-in of a cut once for all variants. `forward` is then called twice, the second time
        with an entry more: the keys and values that the first call returned, of B·(K+1) rows. If False, it is called
        once, with `cache`.

    Returns:
      ell_bk `[B, K+1]` in nats per token, meaningless where a cut is not valid.
    """
    _assert_batch(trunk, cuts, answers)
    share_lead_in = share_lead_in and min(answers.scored_ay.shape[1:]) > 1  # else nothing is left for leaves
    branches = jax.vmap(functools.partial(build_branches, share_lead_in=share_lead_in))(trunk, cuts, answers)
    hidden_bkayd = _scored_hidden(forward, cache, branches, cuts, answers, share_lead_in=share_lead_in)
    rows, n_cuts, n_variants, n_scored, width = hidden_bkayd.shape
    target = jnp.broadcast_to(answers.target_aye[:, None], (rows, n_cuts, *answers.target_aye.shape[1:]))
    (logprob,), _ = batch_logprobs(
        hidden_bkayd.reshape(rows, -1, width),
        head,
        target.reshape(rows, -1, target.shape[-1]),
        chunk=chunk,
        block=block,
        parts=parts,
        is_token_v=is_token_v,
    )
    ell = functools.partial(answer_likelihood, over_tokens=over_tokens, over_spellings=over_spellings)
    logprob_bkay = logprob.reshape(rows, n_cuts, n_variants, n_scored)
    return jax.lax.stop_gradient(jax.vmap(ell)(logprob_bkay, jnp.asarray(answers.scored_ay)))


class Branches(NamedTuple):
    """The sequences of C tokens that continue the trunk of one response, ordered by cut, then by variant.

    There are K+1 if the lead-in is shared, else (K+1)·A; the first axis is written K+1.

    token_kc: `[K+1, C]` token ids: prefix of the cut, lead-in, and the answer if no lead-in is shared; then padding.
    position_kc: `[K+1, C]` positions; or with a last axis like those of the trunk.
    visible_ks: `[K+1, S]` bool, the slots of the trunk that each cut is after.
    length_k: `[K+1]` number of tokens without padding.
    """

    token_kc: jax.Array
    position_kc: jax.Array
    visible_ks: jax.Array
    length_k: jax.Array


class Leaves(NamedTuple):
    """The rest of the leaves of one response: R = (K+1)·A sequences of P tokens, ordered by cut, then by variant.

    token_rp: `[R, P]` token ids, padded on the right.
    position_rp: `[R, P]` positions; or with a last axis like those of the trunk.
    visible_rx: `[R, S + C]` bool, the slots of the trunk and of their branch that each leaf attends to.
    """

    token_rp: jax.Array
    position_rp: jax.Array
    visible_rx: jax.Array


def build_branches(trunk: Trunk, cuts: Cuts, answers: Answers, *, share_lead_in: bool) -> Branches:
    """Return the branches of one response, with the mask drawn at the head of this module."""
    chex.assert_rank([trunk.valid_s, cuts.cut_k], 1)
    token_ac = jnp.asarray(answers.token_ap)
    if share_lead_in:
        token_ac = token_ac[:1, : _n_lead_in(answers)]
    cuts = jax.tree.map(lambda x: jnp.repeat(x, len(token_ac), axis=0), cuts)
    token_kc, length_k = _branch_tokens(cuts, jnp.tile(token_ac, (len(cuts.cut_k) // len(token_ac), 1)))
    position_kc = _next_positions(trunk, cuts.cut_k)[:, None] + jnp.arange(token_kc.shape[1])[None, :]
    if trunk.position_s.ndim == 2:
        position_kc = jnp.broadcast_to(position_kc[..., None], (*position_kc.shape, trunk.position_s.shape[1]))
    before_cut_ks = jnp.arange(trunk.valid_s.shape[0])[None, :] < cuts.cut_k[:, None]
    return Branches(token_kc, position_kc, before_cut_ks & trunk.valid_s[None, :], length_k)


def build_leaves(branches: Branches, answers: Answers) -> Leaves:
    """Return the leaves of one response, which continue the branches of their shared lead-in."""
    n_cuts, width = branches.token_kc.shape
    n_variants = answers.token_ap.shape[0]
    token_rp = jnp.tile(jnp.asarray(answers.token_ap)[:, _n_lead_in(answers) :], (n_cuts, 1))
    extra_axes = (1,) * (branches.position_kc.ndim - 2)
    after_p = jnp.arange(token_rp.shape[1]).reshape(1, -1, *extra_axes)
    position_kp = branches.position_kc[:, :1] + branches.length_k.reshape(-1, 1, *extra_axes) + after_p
    in_branch_kc = jnp.arange(width)[None, :] < branches.length_k[:, None]
    visible_kx = jnp.concatenate([branches.visible_ks, in_branch_kc], axis=1)
    return Leaves(token_rp, *(jnp.repeat(x, n_variants, axis=0) for x in (position_kp, visible_kx)))


def _n_lead_in(answers: Answers) -> int:
    return answers.token_ap.shape[-1] - answers.scored_ay.shape[-1] + 1


def _branch_tokens(cuts: Cuts, token_kc: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the ids of branches, `[K+1, C]`, and their lengths: the prefix of the cut, then the given tokens."""
    n_cuts, width = token_kc.shape
    if cuts.prefix_kx is None or cuts.prefix_length_k is None:
        return token_kc, jnp.full(n_cuts, width)
    prefix_kx, length_k = jnp.asarray(cuts.prefix_kx), jnp.asarray(cuts.prefix_length_k)
    after_prefix_kc = jnp.arange(prefix_kx.shape[1] + width)[None] - length_k[:, None]
    shifted_kc = jnp.take_along_axis(token_kc, jnp.clip(after_prefix_kc, 0, width - 1), axis=1)
    shifted_kc = jnp.where(after_prefix_kc < width, shifted_kc, 0)
    padded_kc = jnp.pad(prefix_kx, ((0, 0), (0, width)))
    return jnp.where(after_prefix_kc < 0, padded_kc, shifted_kc), length_k + width


def _assert_batch(trunk: Trunk, cuts: Cuts, answers: Answers) -> None:
    """Check that every field has a leading axis B, and that prefixes come with their lengths."""
    message = "every field of trunk, cuts and answers needs a leading axis B"
    chex.assert_rank([trunk.valid_s, cuts.cut_k, answers.token_ap], [2, 2, 3], custom_message=message)
    chex.assert_rank(answers.target_aye, 4, custom_message=f"{message}, and target_aye an axis E")
    if (cuts.prefix_kx is None) != (cuts.prefix_length_k is None):
        raise ValueError("cuts need both of prefix_kx and prefix_length_k, or neither")
    if cuts.prefix_kx is not None:
        chex.assert_rank([cuts.prefix_kx, cuts.prefix_length_k], [3, 2], custom_message=message)


def _next_positions(trunk: Trunk, cut_k: Array) -> jax.Array:
    """Return the position of the first token after each cut, `[K+1]`: one more than the greatest on any axis before."""
    greatest_s = trunk.position_s if trunk.position_s.ndim == 1 else trunk.position_s.max(-1)
    return jax.lax.cummax(jnp.where(trunk.valid_s, greatest_s, -1))[cut_k - 1] + 1


def _scored_hidden(
    forward: Forward, cache: tuple, branches: Branches, cuts: Cuts, answers: Answers, *, share_lead_in: bool
) -> jax.Array:
    """Return the hidden states that predict the scored targets, `[B, K+1, A, Y, D]`.

    `branches` has a leading axis B on every field. The first target of each variant is predicted by the lead-in.
    """
    n_variants, n_scored = answers.scored_ay.shape[1:]
    per_cut, n_in_branch = (1, 1) if share_lead_in else (n_variants, n_scored)
    token, position, visible, _ = (jax.lax.collapse(x, 0, 2) for x in branches)
    hidden_rcd, keys_values = forward(token, position, visible, cache)
    hidden_bkacd = hidden_rcd.reshape(*cuts.cut_k.shape, per_cut, *hidden_rcd.shape[1:])
    first_bk = jnp.full(cuts.cut_k.shape, _n_lead_in(answers) - 1)
    if cuts.prefix_length_k is not None:
        first_bk += cuts.prefix_length_k
    index_bky = first_bk[:, :, None] + jnp.arange(n_in_branch)[None, None]
    hidden_bkayd = jnp.take_along_axis(hidden_bkacd, index_bky[:, :, None, :, None], axis=3)
    if not share_lead_in:
        return hidden_bkayd
    leaves = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), jax.vmap(build_leaves)(branches, answers))
    hidden_rpd, _ = forward(leaves.token_rp, leaves.position_rp, leaves.visible_rx, (*cache, keys_values))
    hidden_bkapd = hidden_rpd.reshape(*cuts.cut_k.shape, n_variants, *hidden_rpd.shape[1:])
    repeated = jnp.broadcast_to(hidden_bkayd, (*hidden_bkapd.shape[:3], *hidden_bkayd.shape[3:]))
    return jnp.concatenate([repeated, hidden_bkapd], axis=3)
