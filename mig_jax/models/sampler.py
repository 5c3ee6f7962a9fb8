"""Sampling: each prompt is prefilled once for its group, then all rows are decoded together until every one has ended.

    state, prompt = prefill(model, prompts, …)                   # keys and values of the prompts, a row for each group
    chunk = empty_chunk(prompt, rows, width)                     # room for those of the first tokens of all completions
    state, chunk = decode(model, state, (prompt,), chunk, …)     # until it is full, or few rows are left
    state, other = decode(model, state, (prompt, chunk), …)      # the next ones, unless all rows have ended

Rows have the layout of training: the prompt padded on the left, the completion on the right. So slot s of all parts of
the cache together holds token s of the row, and scoring reuses the cache as it is. Attention reads few
more slots than are filled. A row's random numbers depend on its index and on the token's, not on other rows.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax.distributed import sharding
from mig_jax.models.cache import GrowingCache, KVCache, cache_slots, join_layers, split_by_layer
from mig_jax.models.decoder import Decoder, ImageFeatures
from mig_jax.models.draw import draw_tokens
from mig_jax.models.vision import Images

# Most widths in which attention may read a chunk of the cache, each compiled; and slots below which finer widths save
# no time.
_READ_WIDTHS, _MIN_READ = 8, 64


class Prompts(NamedTuple):
    """Q prompts, padded on the left.

    token_qs: `[Q, S']` ids.
    start_q: `[Q]` slot of the first token of each prompt.
    images: images of the prompts; None for text.
    """

    token_qs: jax.Array
    start_q: jax.Array
    images: Images | None = None


class Completions(NamedTuple):
    """Sampled completions, `B = Q·G` rows; the samples of a question are neighbors.

    token_bt: `[B, T]` ids, padded on the right.
    logprob_bt: `[B, T]` log-prob of each token under the distribution it was sampled from, in nats; 0 at padding.
    length_b: `[B]` number of tokens of each completion, including its end-of-sequence.
    is_truncated_b: `[B]` bool, ended by the length limit before an end-of-sequence.
    cache: keys and values of the prompts, Q rows, then chunks of those of the completions, B rows each.
    """

    token_bt: jax.Array
    logprob_bt: jax.Array
    length_b: jax.Array
    is_truncated_b: jax.Array
    cache: tuple[KVCache, ...]


class DecodeState(NamedTuple):
    """The carry of decoding.

    t: number of tokens decoded so far, the same for all rows.
    hidden_bd: `[B, D]` hidden state of the last token of every row.
    token_bt, logprob_bt, length_b: as in `Completions`, for the tokens so far.
    is_open_b: `[B]` bool, no end-of-sequence yet.
    start_b: `[B]` slot of the first token of each row's prompt.
    position_b: `[B]` position of the first token after the prompt, for the rotary embedding.
    row_b: `[B]` index of each row among all rows, from which its random numbers are derived.
    """

    t: jax.Array
    hidden_bd: jax.Array
    token_bt: jax.Array
    logprob_bt: jax.Array
    length_b: jax.Array
    is_open_b: jax.Array
    start_b: jax.Array
    position_b: jax.Array
    row_b: jax.Array


def row_positions(start_b: jax.Array, slots: int, images: Images | None = None) -> tuple[jax.Array, jax.Array]:
    """Return the position of each slot of rows, and which slots hold tokens.

    Args:
      start_b: `[B]` slot of the first token of each row's prompt.
      slots: S, of prompt and completion together.
      images: of Q prompts, each shared by B / Q neighboring rows; None for text.

    Returns:
      Positions `[B, S]`, or `[B, S, 3]` with images (M-RoPE); and `[B, S]` bool, True from `start_b` on.
    """
    offset_bs = jnp.arange(slots)[None, :] - start_b[:, None]
    valid_bs = offset_bs >= 0
    if images is None:
        return jnp.maximum(offset_bs, 0), valid_bs
    questions, prompt_slots, axes = images.position_qs3.shape
    text_qt = images.next_q[:, None] + jnp.arange(slots - prompt_slots)[None, :]
    text_qt3 = jnp.broadcast_to(text_qt[..., None], (*text_qt.shape, axes))
    position_qs3 = jnp.concatenate([images.position_qs3, text_qt3], axis=1)
    return jnp.repeat(position_qs3, start_b.shape[0] // questions, axis=0), valid_bs


def row_features(images: Images | None, rows: int, slots: int) -> ImageFeatures | None:
    """Return the image features of `rows` rows, each a prompt and its completion, S slots together; None for text."""
    if images is None:
        return None
    assert images.feature_qid is not None
    questions, prompt_slots = images.index_qs.shape
    index_qs = jnp.pad(images.index_qs, ((0, 0), (0, slots - prompt_slots)), constant_values=-1)
    return ImageFeatures(images.feature_qid, jnp.repeat(index_qs, rows // questions, axis=0))


def prefill(
    model: Decoder, prompts: Prompts, *, group_size: int, max_new_tokens: int, pad_id: int
) -> tuple[DecodeState, KVCache]:
    """Run the prompts and prepare `group_size` completions of each.

    Args:
      model: a decoder with its parameters.
      prompts: Q prompts; their image features must have been computed.
      group_size: G, samples per prompt.
      max_new_tokens: T, length limit of completions in tokens.
      pad_id: fills completions after their end. Masks come from lengths, never from this id.

    Returns:
      The state before the first token, B = Q·G rows, and the cache of the prompts, Q rows.
    """
    slots = prompts.token_qs.shape[1]
    position_qs, valid_qs = row_positions(prompts.start_q, slots, prompts.images)
    features = row_features(prompts.images, *prompts.token_qs.shape)
    hidden_qsd, prompt_cache = model(prompts.token_qs, position_qs, valid_qs, features=features)
    next_q = slots - prompts.start_q if prompts.images is None else prompts.images.next_q
    per_question = hidden_qsd[:, -1], prompts.start_q, next_q
    hidden_bd, start_b, position_b = (jnp.repeat(x_q, group_size, axis=0) for x_q in per_question)
    rows = start_b.shape[0]
    state = DecodeState(
        t=jnp.zeros((), jnp.int32),
        hidden_bd=hidden_bd,
        token_bt=sharding.constrain_batch(jnp.full((rows, max_new_tokens), pad_id, jnp.int32)),
        logprob_bt=sharding.constrain_batch(jnp.zeros((rows, max_new_tokens))),
        length_b=sharding.constrain_batch(jnp.zeros(rows, jnp.int32)),
        is_open_b=sharding.constrain_batch(jnp.ones(rows, bool)),
        start_b=start_b,
        position_b=position_b,
        row_b=sharding.constrain_batch(jnp.arange(rows)),
    )
    return state, jax.tree.map(sharding.constrain_kv_cache, prompt_cache)


def count_open(is_open_b: jax.Array, *, shards: int) -> jax.Array:
    """Return the number of open rows of the shard of rows that has the most."""
    return is_open_b.reshape(shards, -1).sum(1).max()


def decode(
    model: Decoder,
    state: DecodeState,
    kv_cache: tuple[KVCache, ...],
    chunk: KVCache,
    key: jax.Array,
    *,
    temperature: float,
    stop_ids: tuple[int, ...],
    pad_id: int,
    is_token_v: np.ndarray | None = None,
    leave_at: int = 0,
    shards: int = 1,
    platform: str = "tpu",
) -> tuple[DecodeState, KVCache]:
    """Decode tokens until the chunk is full, or no shard has more than `leave_at` open rows.

    Args:
      model: a decoder with its parameters.
      state: from `prefill`, `leave` or an earlier call.
      kv_cache: of the prompts, then full chunks of the completions.
      chunk: the next one; it already holds the tokens that the state has decoded since it began.
      key: one for the whole completion; use a different one in every training step (`jax.random.fold_in`).
      temperature: divides the logits. 0 takes the most likely token and reports its log-prob at temperature 1.
      stop_ids: every id that ends a completion.
      pad_id: as in `prefill`.
      is_token_v: `[V]` bool, False at ids that are never sampled, as in `rewards.token_logprobs`. None: all may be.
      leave_at: number of open rows of a shard at which decoding stops, so that they are decoded without the others
        (`leaving`); 0 to decode until all have ended.
      shards: number of shards that the rows are split into.
      platform: "cpu", "gpu" or "tpu". On CPUs the layers are unrolled: in a loop over them XLA copies parameters and
        cache of each layer for each token.

    Returns:
      The state after these tokens, and the chunk with their keys and values.
    """
    unembed_dv = model.unembed_dv()
    prompt_slots, full_slots, width = cache_slots(kv_cache[:1]), cache_slots(kv_cache), cache_slots((chunk,))
    first = full_slots - prompt_slots  # index of the first token of the chunk
    slot_1s = jnp.arange(full_slots + width)[None, :]
    widths = _choose_read_widths(width, platform)
    layers = model.split_layers(kv_cache) if platform == "cpu" else None
    split, join = (split_by_layer, join_layers) if layers else (_same, _same)

    def write(cache: Any, last: Any, t: jax.Array) -> Any:
        put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=t - 1 - first, axis=-2)
        return jax.tree.map(put, cache, last)

    def is_running(carry: tuple[DecodeState, Any, Any]) -> jax.Array:
        state, *_ = carry
        return (state.t < first + width) & (count_open(state.is_open_b, shards=shards) > leave_at)

    def decode_token(carry: tuple[DecodeState, Any, Any]) -> tuple[DecodeState, Any, Any]:
        state, cache, last = carry
        growing = GrowingCache(write(cache, last, state.t), state.t - first, widths)
        logit_bv = jnp.einsum("bd,dv->bv", state.hidden_bd, unembed_dv, preferred_element_type=jnp.float32)
        if is_token_v is not None:
            logit_bv = jnp.where(is_token_v, logit_bv, -jnp.inf)
        uniform_b2 = _random_numbers(jax.random.fold_in(key, state.t), state.row_b) if temperature else None
        sampled_b, logprob_b = draw_tokens(logit_bv / (temperature or 1), uniform_b2)
        token_b = jnp.where(state.is_open_b, sampled_b, pad_id)
        is_stop_b = (token_b[:, None] == jnp.array(stop_ids)[None, :]).any(1)
        visible_bs = (slot_1s >= state.start_b[:, None]) & (slot_1s < prompt_slots + state.t)
        position_b1 = (state.position_b + state.t)[:, None]
        hidden_b1d, new_kv = model(token_b[:, None], position_b1, visible_bs, kv_cache, growing=growing, layers=layers)
        next_state = state._replace(
            t=state.t + 1,
            hidden_bd=hidden_b1d[:, 0],
            token_bt=state.token_bt.at[:, state.t].set(token_b),
            logprob_bt=state.logprob_bt.at[:, state.t].set(jnp.where(state.is_open_b, logprob_b, 0.0)),
            length_b=state.length_b + state.is_open_b,
            is_open_b=state.is_open_b & ~is_stop_b,
        )
        return next_state, growing.cache, split(new_kv)

    # Each token writes keys and values of the one before it: what is read then depends on what is written, so that no
    # order of operations needs a copy of the cache. The first token writes what is there.
    last = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, state.t - 1 - first, 1, axis=3), chunk)
    state, cache, last = jax.lax.while_loop(is_running, decode_token, (state, split(chunk), split(last)))
    return state, join(write(cache, last, state.t))


def _same(cache: Any) -> Any:
    return cache


def _choose_read_widths(width: int, platform: str) -> tuple[int, ...]:
    """Return the numbers of slots of the chunk that attention may read, none much narrower than `_MIN_READ`."""
    if platform == "gpu":  # the host would wait for each branch, so that layers are not launched ahead
        return (width,)
    if platform == "cpu":  # less than the whole chunk is copied first: a quarter takes about as long as all of it
        return *(n for n in (width // 16, width // 8, width // 4) if n >= _MIN_READ), width
    steps = max(1, min(_READ_WIDTHS, width // _MIN_READ))
    return tuple(-(-width * (n + 1) // steps) for n in range(steps))


def _random_numbers(key: jax.Array, row_b: jax.Array) -> jax.Array:
    """Return two uniform numbers `[B, 2]` for each row, which depend on the key and the row alone."""
    return jax.vmap(lambda row: jax.random.uniform(jax.random.fold_in(key, row), (2,)))(row_b)


def empty_chunk(prompt_cache: KVCache, rows: int, width: int) -> KVCache:
    """Return zeros for keys and values of `width` tokens of B rows."""

    def zeros(x_lqmsh: jax.Array) -> jax.Array:
        layers, _, heads, _, head_size = x_lqmsh.shape
        return sharding.constrain_kv_cache(jnp.zeros((layers, rows, heads, width, head_size), x_lqmsh.dtype))

    return jax.tree.map(zeros, prompt_cache)


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
    is_token_v: np.ndarray | None = None,
) -> Completions:
    """Sample `group_size` completions of every prompt in one program, with one cache chunk of the maximal length.

    See `prefill` and `decode` for the arguments.
    """
    state, prompt_cache = prefill(model, prompts, group_size=group_size, max_new_tokens=max_new_tokens, pad_id=pad_id)
    chunk = empty_chunk(prompt_cache, state.start_b.shape[0], max_new_tokens)
    options = {"temperature": temperature, "stop_ids": stop_ids, "pad_id": pad_id, "is_token_v": is_token_v}
    state, chunk = decode(model, state, (prompt_cache,), chunk, key, **options)
    return to_completions(state, (prompt_cache, chunk))


def to_completions(state: DecodeState, kv_cache: tuple[KVCache, ...]) -> Completions:
    """Return the completions decoded so far; rows that are still open count as truncated."""
    return Completions(state.token_bt, state.logprob_bt, state.length_b, state.is_open_b, kv_cache)
