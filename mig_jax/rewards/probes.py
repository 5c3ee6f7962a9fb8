"""Probes: the likelihood of the reference answer after each step, for all steps of a response in one forward pass.

A prompt with its response is the *trunk*. It has K+1 cuts: before the first step, after the first step, and so on.
After each cut come A *leaves*, one for each variant of the answer: the lead-in, the answer and its ending. A leaf
attends to the trunk up to its cut and, causally, to itself. Its positions continue from the cut. The trunk attends to
no leaf. The mask of the leaves, drawn for a trunk of four tokens, one variant and leaves of three tokens (x attends,
· does not):

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
built. One pass gives what (K+1)·A passes would give, one for each prefix and variant. With the KV cache of the rollout
(`score_on_cache`), only the leaves are computed; without it (`score_packed`), the trunk is computed first.

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
    """Return ℓ after every step and the log-probs of the trunk, by one pass over the trunk and one over the leaves.

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
    leaves = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), jax.vmap(build_leaves)(trunk, cuts, answers))
    hidden_rpd, _ = forward(leaves.token_rp, leaves.position_rp, leaves.visible_rs, cache)
    options = {"chunk": chunk, "parts": parts, "is_token_v": is_token_v}
    logprob_bkay = _leaf_logprobs(hidden_rpd, head, cuts, answers, options)
    ell = functools.partial(likelihood.answer_likelihood, over_tokens=over_tokens, over_spellings=over_spellings)
    return jax.lax.stop_gradient(jax.vmap(ell)(logprob_bkay, jnp.asarray(answers.scored_ay)))


class Leaves(NamedTuple):
    """All leaves of one response: R = (K+1)·A sequences of P tokens, ordered by cut, then by variant.

    Here P is the width of the packed answers and of the widest prefix together.

    token_rp: `[R, P]` token ids, padded on the right.
    position_rp: `[R, P]` positions; or with a last axis like those of the trunk.
    visible_rs: `[R, S]` bool, the slots of the trunk that each leaf attends to.
    """

    token_rp: jax.Array
    position_rp: jax.Array
    visible_rs: jax.Array


def build_leaves(trunk: Trunk, cuts: Cuts, answers: Answers) -> Leaves:
    """Return the leaves of one response, with the mask drawn at the head of this module."""
    chex.assert_rank([trunk.valid_s, cuts.cut_k], 1)
    n_variants = answers.token_ap.shape[0]
    token_rp = _leaf_tokens(cuts, answers)
    position_kp = _next_positions(trunk, cuts.cut_k)[:, None] + jnp.arange(token_rp.shape[1])[None, :]
    position_rp = jnp.repeat(position_kp, n_variants, axis=0)
    if trunk.position_s.ndim == 2:
        position_rp = jnp.broadcast_to(position_rp[..., None], (*position_rp.shape, trunk.position_s.shape[1]))
    before_cut_ks = jnp.arange(trunk.valid_s.shape[0])[None, :] < cuts.cut_k[:, None]
    visible_rs = jnp.repeat(before_cut_ks & trunk.valid_s[None, :], n_variants, axis=0)
    return Leaves(token_rp, position_rp, visible_rs)


def _leaf_tokens(cuts: Cuts, answers: Answers) -> jax.Array:
    """Return the ids of all leaves of one response: prefix of the cut, lead-in, answer, padding."""
    (n_cuts,), width = cuts.cut_k.shape, answers.token_ap.shape[1]
    token_rp = jnp.tile(answers.token_ap, (n_cuts, 1))
    if cuts.prefix_kx is None or cuts.prefix_length_k is None:
        return token_rp
    repeat = functools.partial(jnp.repeat, repeats=answers.token_ap.shape[0], axis=0)
    prefix_rx, length_r1 = repeat(jnp.asarray(cuts.prefix_kx)), repeat(jnp.asarray(cuts.prefix_length_k))[:, None]
    longest = prefix_rx.shape[1]
    after_prefix_rp = jnp.arange(longest + width)[None] - length_r1
    shifted_rp = jnp.take_along_axis(token_rp, jnp.clip(after_prefix_rp, 0, width - 1), axis=1)
    shifted_rp = jnp.where(after_prefix_rp < width, shifted_rp, 0)
    return jnp.where(after_prefix_rp < 0, jnp.pad(prefix_rx, ((0, 0), (0, width))), shifted_rp)


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


def _leaf_logprobs(
    hidden_rpd: jax.Array, head: Head, cuts: Cuts, answers: Answers, options: dict[str, Any]
) -> jax.Array:
    """Return the log-probs of the scored targets `[B, K+1, A, Y]` from the hidden states of all leaves.

    `options` are those of `batch_logprobs`.
    """
    rows, n_cuts = cuts.cut_k.shape
    _, n_variants, n_scored, n_ids = answers.target_aye.shape
    hidden_ryd = _scored_positions(hidden_rpd, cuts, answers)
    hidden = hidden_ryd.reshape(rows, -1, hidden_ryd.shape[-1])
    target = jnp.broadcast_to(answers.target_aye[:, None], (rows, n_cuts, *answers.target_aye.shape[1:]))
    (logprob,), _ = likelihood.batch_logprobs(hidden, head, target.reshape(rows, -1, n_ids), **options)
    return logprob.reshape(rows, n_cuts, n_variants, n_scored)


def _scored_positions(hidden_rpd: jax.Array, cuts: Cuts, answers: Answers) -> jax.Array:
    """Return the hidden states that predict the scored targets, `[R, Y, D]`: the last Y of lead-in and answer."""
    n_variants, n_scored = answers.scored_ay.shape[1:]
    first = answers.token_ap.shape[2] - n_scored
    if cuts.prefix_length_k is None:
        return hidden_rpd[:, first:]
    first_r = first + jnp.repeat(jnp.asarray(cuts.prefix_length_k), n_variants, axis=1).reshape(-1)
    index_ry = first_r[:, None] + jnp.arange(n_scored)[None]
    return jnp.take_along_axis(hidden_rpd, index_ry[:, :, None], axis=1)
