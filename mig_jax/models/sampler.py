"""Sampling: a prompt is prefilled once for its whole group, rows are decoded together until all have ended.

Rows are laid out as in training: the prompt padded on the left, the completion on the right, so that slot s of the
cache holds token s of the row, and the cache can be handed on to scoring as it is.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from mig_jax.models.decoder import Decoder, Features, KVCache, causal_mask
from mig_jax.models.qwen2_vl import Images


class Prompts(NamedTuple):
    """What is answered: Q prompts, padded on the left.

    token_qs: `[Q, S']`.
    start_q: `[Q]` slot of the first token of each prompt.
    images: what stands in the place of image tokens; None for text.
    """

    token_qs: chex.Array
    start_q: chex.Array
    images: Images | None = None


class Completions(NamedTuple):
    """What was sampled, `B = Q·G` rows, the samples of a question side by side.

    token_bt: `[B, T]` completions, padded on the right.
    logprob_bt: `[B, T]` log-prob of each token under the distribution it was drawn from, in nats; 0 at padding.
    length_b: `[B]` tokens of each completion, its end-of-sequence included.
    is_truncated_b: `[B]` bool, cut off before an end-of-sequence.
    cache: keys and values of prompt and completion, S = prompt width + T slots.
    """

    token_bt: chex.Array
    logprob_bt: chex.Array
    length_b: chex.Array
    is_truncated_b: chex.Array
    cache: KVCache


class _Decoding(NamedTuple):
    """What the decoding loop carries from token `t` to the next."""

    t: chex.Array
    hidden_bd: chex.Array
    token_tb: chex.Array
    logprob_tb: chex.Array
    length_b: chex.Array
    has_ended_b: chex.Array
    cache: KVCache


def row_positions(start_b: chex.Array, slots: int, images: Images | None = None) -> tuple[chex.Array, chex.Array]:
    """Position `[B, S]` of each slot of rows whose prompts begin at `start_b`, and whether the slot is after it.

    With images, each of whose Q prompts belongs to B / Q neighbouring rows, positions are `[B, S, 3]`.
    """
    offset_bs = jnp.arange(slots)[None, :] - start_b[:, None]
    valid_bs = offset_bs >= 0
    if images is None:
        return jnp.maximum(offset_bs, 0), valid_bs
    questions, prompt_width, axes = images.position_qs3.shape
    text_qt = images.next_q[:, None] + jnp.arange(slots - prompt_width)[None, :]
    text_qt3 = jnp.broadcast_to(text_qt[..., None], (*text_qt.shape, axes))
    position_qs3 = jnp.concatenate([images.position_qs3, text_qt3], axis=1)
    return jnp.repeat(position_qs3, start_b.shape[0] // questions, axis=0), valid_bs


def row_features(images: Images | None, rows: int, slots: int) -> Features | None:
    """What stands in the place of image tokens in `rows` rows, each a prompt and what follows, S slots in all."""
    if images is None:
        return None
    questions, prompt_width = images.index_qs.shape
    index_qs = jnp.pad(images.index_qs, ((0, 0), (0, slots - prompt_width)), constant_values=-1)
    return Features(images.feature_qid, jnp.repeat(index_qs, rows // questions, axis=0))


def sample(
    model: Decoder,
    prompts: Prompts,
    key: chex.PRNGKey,
    *,
    group_size: int,
    max_new_tokens: int,
    temperature: float,
    stop_ids: tuple[int, ...],
    pad_id: int,
) -> Completions:
    """Draw `group_size` completions of every prompt.

    Args:
      model: a decoder with its weights.
      prompts: Q of them; the features of their images are there.
      key: consumed; give every step of training its own (`jax.random.fold_in`).
      temperature: divides the logits; 0 takes the likeliest token (and reports its log-prob at temperature 1).
      stop_ids: every id that ends a completion.
      pad_id: fills completions behind their end; masks come from lengths, never from this id.
    """
    prompt_width = prompts.token_qs.shape[1]
    hidden_qd, cache = _prefill(model, prompts)
    cache = jax.tree.map(lambda x: _widen_for_group(x, group_size, max_new_tokens), cache)
    first_q = prompt_width - prompts.start_q if prompts.images is None else prompts.images.next_q
    start_b, first_b = jnp.repeat(prompts.start_q, group_size), jnp.repeat(first_q, group_size)
    rows, unembed_dv = start_b.shape[0], model.unembed_dv()

    def draw(state: _Decoding) -> _Decoding:
        drawn_b, logprob_b = _draw_token(state.hidden_bd, unembed_dv, jax.random.fold_in(key, state.t), temperature)
        token_b = jnp.where(state.has_ended_b, pad_id, drawn_b)
        logprob_b = jnp.where(state.has_ended_b, 0.0, logprob_b)
        is_stop_b = (token_b[:, None] == jnp.array(stop_ids)[None, :]).any(1)
        slot = prompt_width + state.t
        hidden_bd, cache = _decode_one(model, token_b, first_b + state.t, slot, start_b, state.cache)
        return _Decoding(
            t=state.t + 1,
            hidden_bd=hidden_bd,
            token_tb=state.token_tb.at[state.t].set(token_b),
            logprob_tb=state.logprob_tb.at[state.t].set(logprob_b),
            length_b=state.length_b + ~state.has_ended_b,
            has_ended_b=state.has_ended_b | is_stop_b,
            cache=cache,
        )

    end = jax.lax.while_loop(
        lambda state: (state.t < max_new_tokens) & ~state.has_ended_b.all(),
        draw,
        _Decoding(
            t=jnp.zeros((), jnp.int32),
            hidden_bd=jnp.repeat(hidden_qd, group_size, axis=0),
            token_tb=jnp.full((max_new_tokens, rows), pad_id, jnp.int32),
            logprob_tb=jnp.zeros((max_new_tokens, rows)),
            length_b=jnp.zeros(rows, jnp.int32),
            has_ended_b=jnp.zeros(rows, bool),
            cache=cache,
        ),
    )
    return Completions(end.token_tb.T, end.logprob_tb.T, end.length_b, ~end.has_ended_b, end.cache)


def _prefill(model: Decoder, prompts: Prompts) -> tuple[chex.Array, KVCache]:
    """Hidden state `[Q, D]` of the last token of every prompt, and the cache of all of them."""
    position_qs, valid_qs = row_positions(prompts.start_q, prompts.token_qs.shape[1], prompts.images)
    features = row_features(prompts.images, *prompts.token_qs.shape)
    hidden_qsd, cache = model(prompts.token_qs, position_qs, causal_mask(valid_qs), None, features=features)
    return hidden_qsd[:, -1], cache


def _widen_for_group(kv_lqsmh: chex.Array, group_size: int, new_slots: int) -> chex.Array:
    """The prompts' keys or values, once for each sample, with room for what will be sampled."""
    kv_lbsmh = jnp.repeat(kv_lqsmh, group_size, axis=1)
    return jnp.pad(kv_lbsmh, ((0, 0), (0, 0), (0, new_slots), (0, 0), (0, 0)))


def _draw_token(hidden_bd, unembed_dv, key, temperature) -> tuple[chex.Array, chex.Array]:
    """One token for every row, and its log-prob."""
    logit_bv = jnp.einsum("bd,dv->bv", hidden_bd, unembed_dv, preferred_element_type=jnp.float32)
    if temperature == 0:
        token_b = jnp.argmax(logit_bv, axis=-1)
    else:
        logit_bv = logit_bv / temperature
        token_b = jax.random.categorical(key, logit_bv)
    chosen_b = jnp.take_along_axis(logit_bv, token_b[:, None], axis=1)[:, 0]
    return token_b, chosen_b - jax.nn.logsumexp(logit_bv, axis=-1)


def _decode_one(model, token_b, position_b, slot, start_b, cache) -> tuple[chex.Array, KVCache]:
    """Hidden state `[B, D]` of the token that now stands in `slot`, and the cache with its keys and values."""
    slots = cache.key_lbsmh.shape[2]
    before_bs = (jnp.arange(slots)[None, :] < slot) & (jnp.arange(slots)[None, :] >= start_b[:, None])
    mask_b1x = jnp.concatenate([before_bs, jnp.ones_like(before_bs[:, :1])], axis=1)[:, None, :]
    hidden_b1d, new = model(token_b[:, None], position_b[:, None], mask_b1x, cache)
    cache = jax.tree.map(lambda old, one: jax.lax.dynamic_update_slice_in_dim(old, one, slot, axis=2), cache, new)
    return hidden_b1d[:, 0], cache
