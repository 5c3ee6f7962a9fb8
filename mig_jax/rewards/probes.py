"""Probes: the likelihood of the reference answer after each step, for all steps of a response in one forward pass.

A prompt with its response is the *trunk*. It has K+1 cuts: before the first step, after the first step, and so on.
After each cut come A *leaves*, one for each variant of the answer: the lead-in, the answer and its ending. A leaf
attends to the trunk up to its cut and, causally, to itself. Its positions continue from the cut. The trunk attends to
no leaf. What the leaves of a cut have in common, the lead-in, is their *branch*: it is computed once, and they attend
to its keys and values as to those of the trunk. With one variant, the branch is the leaf. The mask, drawn for a trunk
of four tokens, one variant and leaves of three tokens (x attends, · does not):

                     trunk      itself
                  ┌──────────┬─────────┐
        leaf k=0  │ x x · ·  │ x · ·   │   cut after 2
                  │ x x · ·  │ x x ·   │
                  │ x x · ·  │ x x x   │
        leaf k=1  │ x x x ·  │ x · ·   │   cut after 3
                  │ x x x ·  │ x x ·   │
                  │ x x x ·  │ x x x   │
                  └──────────┴─────────┘

So branches and leaves are short sequences that share the keys and values of the trunk, and no square mask over all of
them is ever built. They give what (K+1)·A passes would give, one for each prefix and variant. With the KV cache of the
rollout (`score_on_cache`), only they are computed; without it (`score_packed`), the trunk is computed first.

Leaves of a cut may write ids of their own before the lead-in, the *prefix* of the cut: the opening of the response
where the trunk is the prompt alone, or the part of a token that belongs to the step when the cut splits it.

The model is an argument, see `Forward`. No gradient flows through the results.
"""

import functools
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp

from mig_jax.rewards import likelihood
from mig_jax.rewards.arrays import Answers, Array, Cuts, Trunk
from mig_jax.rewards.likelihood import Head


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
          cache: keys and values returned by earlier calls, one entry a call; () for none. An entry has B rows where
            R = B·n, and n neighboring sequences share one row.

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
    parts: int = 1,
    over_tokens: str = "mean_logprob",
    over_spellings: str = "max",
    is_token_v: Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Return ℓ after every step and the log-probs of the trunk, by passes over the trunk, the branches and the leaves.

    Args:
      forward: the model, see `Forward`.
      head: `[D, V]` output matrix, or a function from hidden states to logits; see `token_logprobs`.
      token_bs: `[B, S]` token ids of the trunks.
      trunk, cuts, answers: with a leading axis B on every field.
      chunk, parts: tokens of a part of the rows whose logits are in memory at once, see `batch_logprobs`.
      over_tokens, over_spellings: as in `answer_likelihood`.
      is_token_v: as in `token_logprobs`.

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
        parts=parts,
        over_tokens=over_tokens,
        over_spellings=over_spellings,
        is_token_v=is_token_v,
    )
    options: dict[str, Any] = {"chunk": chunk, "parts": parts, "is_token_v": is_token_v}
    (logprob_bs,), _ = likelihood.batch_logprobs(hidden_bsd[:, :-1], head, token_bs[:, 1:], **options)
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
    parts: int = 1,
    over_tokens: str = "mean_logprob",
    over_spellings: str = "max",
    is_token_v: Array | None = None,
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
      chunk, parts: leaf tokens of a part of the rows whose logits are in memory at once, see `batch_logprobs`.
      over_tokens, over_spellings: as in `answer_likelihood`.
      is_token_v: as in `token_logprobs`.

    Returns:
      ell_bk `[B, K+1]` in nats per token, meaningless where a cut is not valid.
    """
    _assert_batch(trunk, cuts, answers)
    branches = jax.vmap(build_branches)(trunk, cuts, answers)
    hidden_bkayd = _scored_hidden(forward, cache, branches, cuts, answers)
    rows, n_cuts, n_variants, n_scored, width = hidden_bkayd.shape
    target = jnp.broadcast_to(answers.target_aye[:, None], (rows, n_cuts, *answers.target_aye.shape[1:]))
    (logprob,), _ = likelihood.batch_logprobs(
        hidden_bkayd.reshape(rows, -1, width),
        head,
        target.reshape(rows, -1, target.shape[-1]),
        chunk=chunk,
        parts=parts,
        is_token_v=is_token_v,
    )
    ell = functools.partial(likelihood.answer_likelihood, over_tokens=over_tokens, over_spellings=over_spellings)
    logprob_bkay = logprob.reshape(rows, n_cuts, n_variants, n_scored)
    return jax.lax.stop_gradient(jax.vmap(ell)(logprob_bkay, jnp.asarray(answers.scored_ay)))


class Branches(NamedTuple):
    """What the leaves of each cut of one response have in common: K+1 sequences of C tokens.

    token_kc: `[K+1, C]` token ids: prefix of the cut, lead-in, and the answer if it has one variant; then padding.
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


def build_branches(trunk: Trunk, cuts: Cuts, answers: Answers) -> Branches:
    """Return the branches of one response, with the mask drawn at the head of this module."""
    chex.assert_rank([trunk.valid_s, cuts.cut_k], 1)
    token_kc, length_k = _branch_tokens(cuts, jnp.asarray(answers.token_ap)[0, : _n_common(answers)])
    position_kc = _next_positions(trunk, cuts.cut_k)[:, None] + jnp.arange(token_kc.shape[1])[None, :]
    if trunk.position_s.ndim == 2:
        position_kc = jnp.broadcast_to(position_kc[..., None], (*position_kc.shape, trunk.position_s.shape[1]))
    before_cut_ks = jnp.arange(trunk.valid_s.shape[0])[None, :] < cuts.cut_k[:, None]
    return Branches(token_kc, position_kc, before_cut_ks & trunk.valid_s[None, :], length_k)


def build_leaves(branches: Branches, answers: Answers) -> Leaves:
    """Return the leaves of one response, which continue its branches."""
    n_cuts, width = branches.token_kc.shape
    n_variants = answers.token_ap.shape[0]
    token_rp = jnp.tile(jnp.asarray(answers.token_ap)[:, _n_common(answers) :], (n_cuts, 1))
    extra_axes = (1,) * (branches.position_kc.ndim - 2)
    after_p = jnp.arange(token_rp.shape[1]).reshape(1, -1, *extra_axes)
    position_kp = branches.position_kc[:, :1] + branches.length_k.reshape(-1, 1, *extra_axes) + after_p
    in_branch_kc = jnp.arange(width)[None, :] < branches.length_k[:, None]
    visible_kx = jnp.concatenate([branches.visible_ks, in_branch_kc], axis=1)
    return Leaves(token_rp, *(jnp.repeat(x, n_variants, axis=0) for x in (position_kp, visible_kx)))


def _n_common(answers: Answers) -> int:
    """Return the number of tokens that begin every variant: those of the lead-in, or all if there is one variant."""
    n_variants, width = answers.token_ap.shape[-2:]
    return width if n_variants == 1 else _n_lead_in(answers)


def _n_lead_in(answers: Answers) -> int:
    return answers.token_ap.shape[-1] - answers.scored_ay.shape[-1] + 1


def _branch_tokens(cuts: Cuts, common_c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the ids of all branches of one response, `[K+1, C]`, and their lengths."""
    (n_cuts,), (width,) = cuts.cut_k.shape, common_c.shape
    if cuts.prefix_kx is None or cuts.prefix_length_k is None:
        return jnp.tile(common_c, (n_cuts, 1)), jnp.full(n_cuts, width)
    prefix_kx, length_k = jnp.asarray(cuts.prefix_kx), jnp.asarray(cuts.prefix_length_k)
    after_prefix_kc = jnp.arange(prefix_kx.shape[1] + width)[None] - length_k[:, None]
    shifted_kc = jnp.where(after_prefix_kc < width, common_c[jnp.clip(after_prefix_kc, 0, width - 1)], 0)
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


def _scored_hidden(forward: Forward, cache: tuple, branches: Branches, cuts: Cuts, answers: Answers) -> jax.Array:
    """Return the hidden states that predict the scored targets, `[B, K+1, A, Y, D]`.

    `branches` has a leading axis B on every field. The first target of each variant is predicted by the lead-in.
    """
    n_variants, n_scored = answers.scored_ay.shape[1:]
    token, position, visible, _ = (jax.lax.collapse(x, 0, 2) for x in branches)
    hidden_rcd, keys_values = forward(token, position, visible, cache)
    hidden_bkcd = hidden_rcd.reshape(*branches.token_kc.shape, -1)
    first_bk = jnp.full(cuts.cut_k.shape, _n_lead_in(answers) - 1)
    if cuts.prefix_length_k is not None:
        first_bk += cuts.prefix_length_k
    n_in_branch = _n_common(answers) - _n_lead_in(answers) + 1
    index_bky = first_bk[:, :, None] + jnp.arange(n_in_branch)[None, None]
    hidden_bk1yd = jnp.take_along_axis(hidden_bkcd, index_bky[..., None], axis=2)[:, :, None]
    if n_in_branch == n_scored:
        return hidden_bk1yd
    leaves = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), jax.vmap(build_leaves)(branches, answers))
    hidden_rpd, _ = forward(leaves.token_rp, leaves.position_rp, leaves.visible_rx, (*cache, keys_values))
    hidden_bkapd = hidden_rpd.reshape(*cuts.cut_k.shape, n_variants, *hidden_rpd.shape[1:])
    repeated = jnp.broadcast_to(hidden_bk1yd, (*hidden_bkapd.shape[:3], *hidden_bk1yd.shape[3:]))
    return jnp.concatenate([repeated, hidden_bkapd], axis=3)
