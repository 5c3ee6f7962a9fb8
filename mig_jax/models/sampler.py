"""Sampling: a prompt is prefilled once for its whole group, rows are decoded together until all have ended.

    decoding, prompt = begin(model, prompts, …)                  # the prompts' keys and values: a row for each group
    decoding, part = decode(model, decoding, (prompt,), …)       # those of the first tokens of every row
    decoding, other = decode(model, decoding, (prompt, part), …) # of the next ones, unless all rows have ended

Rows are laid out as in training: the prompt padded on the left, the completion on the right, so that slot s of all
parts of the cache together holds token s of the row, and they can be handed on to scoring as they are. A cache that
grows by parts is never copied, and where all rows end early the later parts are never there.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mig_jax.distributed import sharding
from mig_jax.models.decoder import Decoder, ImageFeatures, KVCache, cache_slots
from mig_jax.models.qwen2_vl import Images


class Prompts(NamedTuple):
    """What is answered: Q prompts, padded on the left.

    token_qs: `[Q, S']`.
    start_q: `[Q]` slot of the first token of each prompt.
    images: what stands in the place of image tokens; None for text.
    """

    token_qs: jax.Array
    start_q: jax.Array
    images: Images | None = None


class Completions(NamedTuple):
    """What was sampled, `B = Q·G` rows, the samples of a question side by side.

    token_bt: `[B, T]` completions, padded on the right.
    logprob_bt: `[B, T]` log-prob of each token under the distribution it was drawn from, in nats; 0 at padding.
    length_b: `[B]` tokens of each completion, its end-of-sequence included.
    is_truncated_b: `[B]` bool, cut off before an end-of-sequence.
    cache: keys and values of the prompts, of Q rows, and then of the completions as far as there are any, of B rows.
    """

    token_bt: jax.Array
    logprob_bt: jax.Array
    length_b: jax.Array
    is_truncated_b: jax.Array
    cache: tuple[KVCache, ...]


class DecodeState(NamedTuple):
    """What decoding carries from token `t` to the next.

    hidden_bd: `[B, D]` of the last token of every row.
    token_bt, logprob_bt, length_b: as in `Completions`, of the tokens so far.
    is_open_b: `[B]` bool, no end-of-sequence yet.
    start_b: `[B]` slot of the first token of each row's prompt.
    position_b: `[B]` of the first token behind the prompt, for the rotary embedding.
    """

    t: jax.Array
    hidden_bd: jax.Array
    token_bt: jax.Array
    logprob_bt: jax.Array
    length_b: jax.Array
    is_open_b: jax.Array
    start_b: jax.Array
    position_b: jax.Array


def row_positions(start_b: jax.Array, slots: int, images: Images | None = None) -> tuple[jax.Array, jax.Array]:
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


def row_features(images: Images | None, rows: int, slots: int) -> ImageFeatures | None:
    """What stands in the place of image tokens in `rows` rows, each a prompt and what follows, S slots in all."""
    if images is None:
        return None
    questions, prompt_width = images.index_qs.shape
    index_qs = jnp.pad(images.index_qs, ((0, 0), (0, slots - prompt_width)), constant_values=-1)
    return ImageFeatures(images.feature_qid, jnp.repeat(index_qs, rows // questions, axis=0))


def prefill(
    model: Decoder, prompts: Prompts, *, group_size: int, max_new_tokens: int, pad_id: int
) -> tuple[DecodeState, KVCache]:
    """Before the first token of `group_size` completions of every prompt; the cache is that of the prompts.

    Args:
      model: a decoder with its weights.
      prompts: Q of them; the features of their images are there.
      pad_id: fills completions behind their end; masks come from lengths, never from this id.
    """
    width = prompts.token_qs.shape[1]
    position_qs, valid_qs = row_positions(prompts.start_q, width, prompts.images)
    features = row_features(prompts.images, *prompts.token_qs.shape)
    hidden_qsd, cache = model(prompts.token_qs, position_qs, valid_qs, features=features)
    first_q = width - prompts.start_q if prompts.images is None else prompts.images.next_q
    of_questions = hidden_qsd[:, -1], prompts.start_q, first_q
    hidden_bd, start_b, first_b = (jnp.repeat(x, group_size, axis=0) for x in of_questions)
    rows = start_b.shape[0]
    state = DecodeState(
        t=jnp.zeros((), jnp.int32),
        hidden_bd=hidden_bd,
        token_bt=sharding.constrain_batch(jnp.full((rows, max_new_tokens), pad_id, jnp.int32)),
        logprob_bt=sharding.constrain_batch(jnp.zeros((rows, max_new_tokens))),
        length_b=sharding.constrain_batch(jnp.zeros(rows, jnp.int32)),
        is_open_b=sharding.constrain_batch(jnp.ones(rows, bool)),
        start_b=start_b,
        position_b=first_b,
    )
    return state, jax.tree.map(sharding.constrain_kv_cache, cache)


def decode(
    model: Decoder,
    state: DecodeState,
    cache: tuple[KVCache, ...],
    key: jax.Array,
    *,
    width: int,
    temperature: float,
    stop_ids: tuple[int, ...],
    pad_id: int,
) -> tuple[DecodeState, KVCache]:
    """The next `width` tokens of every row, or as many as there are until all rows have ended, and their cache.

    Args:
      cache: of the prompts, and of the completions so far.
      key: that of the whole completion; give every step of training its own (`jax.random.fold_in`).
      temperature: divides the logits; 0 takes the likeliest token (and reports its log-prob at temperature 1).
      stop_ids: every id that ends a completion.
      pad_id: that of `prefill`.
    """
    rows, unembed_dv = state.start_b.shape[0], model.unembed_dv()
    prompt, *_ = cache
    prompt_width, begun = cache_slots((prompt,)), cache_slots(cache)
    first = begun - prompt_width
    slot_s = jnp.arange(begun + width)[None, :]

    def draw(state: tuple[DecodeState, KVCache]) -> tuple[DecodeState, KVCache]:
        now, part = state
        drawn_b, logprob_b = _draw_token(now.hidden_bd, unembed_dv, jax.random.fold_in(key, now.t), temperature)
        token_b = jnp.where(now.is_open_b, drawn_b, pad_id)
        is_stop_b = (token_b[:, None] == jnp.array(stop_ids)[None, :]).any(1)
        visible_bs = (slot_s >= now.start_b[:, None]) & (slot_s < prompt_width + now.t)
        position_b1 = (now.position_b + now.t)[:, None]
        hidden_b1d, new = model(token_b[:, None], position_b1, visible_bs, (*cache, part))
        after = now._replace(
            t=now.t + 1,
            hidden_bd=hidden_b1d[:, 0],
            token_bt=now.token_bt.at[:, now.t].set(token_b),
            logprob_bt=now.logprob_bt.at[:, now.t].set(jnp.where(now.is_open_b, logprob_b, 0.0)),
            length_b=now.length_b + now.is_open_b,
            is_open_b=now.is_open_b & ~is_stop_b,
        )

        def put(old, one):
            return jax.lax.dynamic_update_slice_in_dim(old, one, now.t - first, axis=2)

        return after, jax.tree.map(put, part, new)

    def goes_on(state: tuple[DecodeState, KVCache]) -> jax.Array:
        return (state[0].t < first + width) & state[0].is_open_b.any()

    def room(x_lqsmh):
        return sharding.constrain_kv_cache(
            jnp.zeros((x_lqsmh.shape[0], rows, width, *x_lqsmh.shape[3:]), x_lqsmh.dtype)
        )

    return jax.lax.while_loop(goes_on, draw, (state, jax.tree.map(room, prompt)))


def sample(
    model: Decoder,
    prompts: Prompts,
    key: jax.Array,
    *,
    group_size: int,
    max_new_tokens: int,
    temperature: float,
    stop_ids: tuple[int, ...],
    pad_id: int,
) -> Completions:
    """`group_size` completions of every prompt, all in one program: there is room for the longest from the start."""
    state, prompt = prefill(model, prompts, group_size=group_size, max_new_tokens=max_new_tokens, pad_id=pad_id)
    state, part = decode(
        model, state, (prompt,), key, width=max_new_tokens, temperature=temperature, stop_ids=stop_ids, pad_id=pad_id
    )
    return to_completions(state, (prompt, part))


def to_completions(state: DecodeState, cache: tuple[KVCache, ...]) -> Completions:
    """What has been decoded."""
    d = state
    return Completions(d.token_bt, d.logprob_bt, d.length_b, d.is_open_b, cache)


def _draw_token(hidden_bd, unembed_dv, key, temperature) -> tuple[jax.Array, jax.Array]:
    """One token for every row, and its log-prob."""
    logit_bv = jnp.einsum("bd,dv->bv", hidden_bd, unembed_dv, preferred_element_type=jnp.float32)
    if temperature == 0:
        token_b = jnp.argmax(logit_bv, axis=-1)
    else:
        logit_bv = logit_bv / temperature
        token_b = jax.random.categorical(key, logit_bv)
    chosen_b = jnp.take_along_axis(logit_bv, token_b[:, None], axis=1)[:, 0]
    return token_b, chosen_b - jax.nn.logsumexp(logit_bv, axis=-1)
