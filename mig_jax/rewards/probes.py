"""Probes: the likelihood of the reference answer after each step, for all steps of a response in one forward pass.

A prompt with its response is the *trunk*. It has K+1 cuts: before the first step, after the first step, and so on.
After each cut come A *leaves*, one for each variant of the answer: the lead-in, the answer and the closing tag. A leaf
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

The model is an argument, see `Forward`. No gradient flows through the results.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.rewards import likelihood

# Probes are built with numpy on the host, and scored on devices.
Array = jax.Array | np.ndarray


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
          hidden_rtd `[R, T, D]`, ready for the output matrix, and the keys and values in a form of the model's own.
        """
        ...


class Answers(NamedTuple):
    """The variants of one answer as leaves for any cut. Y of the P positions of a leaf predict a scored token.

    token_ap: `[A, P]` lead-in, answer and closing tag without its last token, then padding.
    target_ay: `[A, Y]` answer and closing tag, then padding; the last Y positions of `token_ap` predict them.
    scored_ay: `[A, Y]` bool, False at padding; a row that is all False is no variant.
    """

    token_ap: Array
    target_ay: Array
    scored_ay: Array


class Cuts(NamedTuple):
    """The positions at which a trunk is probed.

    cut_k: `[K+1]` number of slots of the trunk before each cut, its padding included; at least 1.
    valid_k: `[K+1]` bool, False where there is no cut.
    """

    cut_k: Array
    valid_k: Array


class Trunk(NamedTuple):
    """A prompt with its response, in S slots of which any may be padding.

    position_s: `[S]` position of each token; or `[S, X]` where positions have several axes (M-RoPE).
    valid_s: `[S]` bool, False at padding.
    """

    position_s: Array
    valid_s: Array


def pack_answers(
    lead_in: Sequence[int],
    variants: Sequence[Sequence[int]],
    closing: Sequence[int],
    *,
    max_variants: int,
    max_tokens: int,
) -> Answers:
    """Pack the variants of one answer into arrays of fixed shape, with numpy on the host.

    Args:
      lead_in: ids that close the think block and open the answer block; context, not scored.
      variants: ids of each variant of the answer, the reference answer first.
      closing: ids of the closing tag, scored with the answer.
      max_variants: A; the variants after the first A that fit are left out.
      max_tokens: the longest answer in tokens, without its closing tag; longer variants are left out.

    Returns:
      Answers with P = len(lead_in) + Y − 1 and Y = max_tokens + len(closing).

    Raises:
      ValueError: the lead-in or the closing tag is empty, or no variant fits.
    """
    fitting = [[*ids, *closing] for ids in variants if 0 < len(ids) <= max_tokens][:max_variants]
    if not fitting or not lead_in or not closing:
        lengths = [len(ids) for ids in variants]
        raise ValueError(
            f"cannot build a probe from a lead-in of {len(lead_in)} tokens, a closing tag of {len(closing)} and "
            f"answers of {lengths} tokens where 1 to {max_tokens} fit; raise the limit on answer tokens, or leave this "
            "answer out"
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
    """Return ℓ after every step and the log-probs of the trunk, by one pass over the trunk and one over the leaves.

    Args:
      forward: the model, see `Forward`.
      unembed_dv: `[D, V]` output matrix.
      token_bs: `[B, S]` token ids of the trunks.
      trunk, cuts, answers: with a leading axis B on every field.
      chunk: tokens of a row whose logits are in memory at once.

    Returns:
      ell_bk `[B, K+1]` in nats per token, meaningless where a cut is not valid; and logprob_bs `[B, S]` in nats, the
      log-prob of each token of the trunk given those before it (0 for the first, meaningless at padding).

    References:
      arXiv 2602.01034, Eq. 9, there with one pass for each prefix and variant.
    """
    _assert_batch(trunk, cuts, answers)
    chex.assert_equal_shape([token_bs, trunk.valid_s])
    hidden_bsd, keys_values = forward(token_bs, jnp.asarray(trunk.position_s), jnp.asarray(trunk.valid_s), ())
    ell_bk = score_on_cache(forward, unembed_dv, (keys_values,), trunk, cuts, answers, chunk=chunk)
    logprob_bs = _token_logprobs(hidden_bsd[:, :-1], unembed_dv, token_bs[:, 1:], chunk)
    return ell_bk, jax.lax.stop_gradient(jnp.pad(logprob_bs, ((0, 0), (1, 0))))


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
    """Return ℓ after every step, computing the leaves alone on a KV cache of the trunk.

    Args:
      forward: the model, see `Forward`.
      unembed_dv: `[D, V]` output matrix.
      cache: keys and values of the S slots of the trunks, passed to `forward` as they are. Its entries have B rows, or
        B / n rows of which each is shared by n neighboring responses.
      trunk, cuts, answers: with a leading axis B on every field.
      chunk: leaf tokens of a row whose logits are in memory at once.

    Returns:
      ell_bk `[B, K+1]` in nats per token, meaningless where a cut is not valid.
    """
    _assert_batch(trunk, cuts, answers)
    leaves = jax.tree.map(lambda x: jax.lax.collapse(x, 0, 2), jax.vmap(build_leaves)(trunk, cuts, answers))
    hidden_rpd, _ = forward(leaves.token_rp, leaves.position_rp, leaves.visible_rs, cache)
    return jax.lax.stop_gradient(_leaf_likelihood(hidden_rpd, unembed_dv, cuts, answers, chunk))


class Leaves(NamedTuple):
    """All leaves of one response: R = (K+1)·A sequences of P tokens, ordered by cut, then by variant.

    token_rp: `[R, P]` token ids.
    position_rp: `[R, P]` positions; or `[R, P, X]` like those of the trunk.
    visible_rs: `[R, S]` bool, the slots of the trunk that each leaf attends to.
    """

    token_rp: jax.Array
    position_rp: jax.Array
    visible_rs: jax.Array


def build_leaves(trunk: Trunk, cuts: Cuts, answers: Answers) -> Leaves:
    """Return the leaves of one response, with the mask drawn at the head of this module."""
    chex.assert_rank([trunk.valid_s, cuts.cut_k], 1)
    (n_cuts,), (n_variants, width) = cuts.cut_k.shape, answers.token_ap.shape
    token_rp = jnp.tile(answers.token_ap, (n_cuts, 1))
    position_kp = _next_positions(trunk, cuts.cut_k)[:, None] + jnp.arange(width)[None, :]
    position_rp = jnp.repeat(position_kp, n_variants, axis=0)
    if trunk.position_s.ndim == 2:
        position_rp = jnp.broadcast_to(position_rp[..., None], (*position_rp.shape, trunk.position_s.shape[1]))
    before_cut_ks = jnp.arange(trunk.valid_s.shape[0])[None, :] < cuts.cut_k[:, None]
    visible_rs = jnp.repeat(before_cut_ks & trunk.valid_s[None, :], n_variants, axis=0)
    return Leaves(token_rp, position_rp, visible_rs)


def _assert_batch(trunk: Trunk, cuts: Cuts, answers: Answers) -> None:
    chex.assert_rank(
        [trunk.valid_s, cuts.cut_k, answers.token_ap],
        [2, 2, 3],
        custom_message="every field of trunk, cuts and answers needs a leading axis B",
    )


def _next_positions(trunk: Trunk, cut_k: Array) -> jax.Array:
    """Return the position of the first token after each cut, `[K+1]`: one more than the greatest on any axis before."""
    greatest_s = trunk.position_s if trunk.position_s.ndim == 1 else trunk.position_s.max(-1)
    return jax.lax.cummax(jnp.where(trunk.valid_s, greatest_s, -1))[cut_k - 1] + 1


def _leaf_likelihood(
    hidden_rpd: jax.Array, unembed_dv: jax.Array, cuts: Cuts, answers: Answers, chunk: int
) -> jax.Array:
    """Return ℓ `[B, K+1]` from the hidden states of all leaves, of which the last Y predict the scored tokens."""
    (rows, n_cuts), (_, n_variants, n_scored) = cuts.cut_k.shape, answers.target_ay.shape
    shape_bkay = rows, n_cuts, n_variants, n_scored
    hidden = hidden_rpd[:, -n_scored:].reshape(rows, -1, hidden_rpd.shape[-1])
    target = jnp.broadcast_to(answers.target_ay[:, None], shape_bkay).reshape(rows, -1)
    logprob_bkay = _token_logprobs(hidden, unembed_dv, target, chunk).reshape(shape_bkay)
    return jax.vmap(likelihood.answer_likelihood)(logprob_bkay, jnp.asarray(answers.scored_ay))


def _token_logprobs(hidden_btd: jax.Array, unembed_dv: jax.Array, target_bt: jax.Array, chunk: int) -> jax.Array:
    """Return the log-prob of each target `[B, T]`, in nats."""
    logprobs = jax.vmap(lambda h, y: likelihood.token_logprobs(h, unembed_dv, y, chunk=chunk))
    return logprobs(hidden_btd, target_bt)[0]
