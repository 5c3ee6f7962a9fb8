"""Token log-probs from hidden states, in chunks of tokens and blocks of the vocabulary."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

# The output layer: the matrix `[D, V]`, or a function of hidden states `[T, D]` that returns logits `[T, V]`, for heads
# with a bias, a scale or a soft cap.
Head = jax.Array | Callable[[jax.Array], jax.Array]

# Name of the log-sum-exps, which are stored for the backward pass.
_STORED = "token_logprobs_logsumexp"


def token_logprobs(
    hidden_td: jax.Array,
    head: Head,
    target_t: jax.Array,
    *,
    temperature: float = 1.0,
    chunk: int = 128,
    block: int | None = None,
    is_token_v: jax.Array | np.ndarray | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Return the log-prob of each target and the entropy of its distribution, without an array of size `[T, V]`.

        log π(yₜ) = zₜ[yₜ] − log Σᵥ exp zₜ[v]        zₜ = hₜ·U / temperature

    Tokens are split into chunks, and the vocabulary into blocks of equal size, so no padded column can enter the
    log-sum-exp. Logits are float32 from the matmul on. The backward pass recomputes them instead of storing them.

    Args:
      hidden_td: `[T, D]` hidden states; entry t predicts target t.
      head: `[D, V]` output matrix; or a function from hidden states `[T, D]` to logits `[T, V]`.
      target_t: `[T]` token ids; or `[T, E]` sets of distinct ids, padded with −1, whose probabilities are summed. An
        empty set has log-prob −∞.
      temperature: divides the logits; must be the sampler's for both policies of a ratio.
      chunk: tokens whose logits are in memory at once; under `jax.vmap`, tokens of each row. For a batch,
        `batch_logprobs` counts those of all rows.
      block: columns of an output matrix whose logits are in memory at once, at most; see `_count_blocks`. None: all.
      is_token_v: `[V]` bool, False at ids that are no token, such as the padding of an output matrix; their probability
        is 0. None: all are tokens.

    Returns:
      logprob_t `[T]` and entropy_t `[T]`, float32, in nats. No gradient flows through the entropy.

    Raises:
      AssertionError: an argument has a batch axis.
    """
    chex.assert_rank(
        [hidden_td, target_t, *([] if callable(head) else [head])],
        [2, {1, 2}, *([] if callable(head) else [2])],
        custom_message="token_logprobs takes one sequence: use jax.vmap for a batch",
    )
    (logprob_t,), entropy_t = _chunked_logprobs(
        hidden_td,
        head,
        target_t,
        temperatures=(temperature,),
        need_entropy=True,
        chunk=chunk,
        block=block,
        is_token_v=is_token_v,
    )
    assert entropy_t is not None
    return logprob_t, entropy_t


def batch_logprobs(
    hidden_btd: jax.Array,
    head: Head,
    target_bt: jax.Array,
    *,
    temperatures: Sequence[float] = (1.0,),
    need_entropy: bool = False,
    chunk: int = 512,
    block: int | None = None,
    parts: int = 1,
    is_token_v: jax.Array | np.ndarray | None = None,
) -> tuple[tuple[jax.Array, ...], jax.Array | None]:
    """Return the log-probs of the targets of B rows at each temperature, from one computation of the logits.

    The tokens of all rows of a part form one sequence for `token_logprobs`, so that memory does not depend on the
    number of rows.

    Args:
      hidden_btd: `[B, T, D]` hidden states; entry t of a row predicts its target t.
      head: as in `token_logprobs`; or an output matrix for each part, `[parts, D, V]`.
      target_bt: `[B, T]` token ids, or `[B, T, E]` sets of ids.
      temperatures: of the log-probs.
      need_entropy: compute the entropy, at the first temperature.
      chunk: tokens of a part whose logits are in memory at once.
      block: as in `token_logprobs`.
      parts: number of groups of neighboring rows that are computed side by side, such as one for each device; must
        divide B.
      is_token_v: as in `token_logprobs`.

    Returns:
      A log-prob `[B, T]` in nats for each temperature, and the entropy `[B, T]` in nats; None without `need_entropy`.
    """
    rows, length = target_bt.shape[:2]
    options: dict[str, Any] = {"temperatures": tuple(temperatures), "need_entropy": need_entropy}

    def of_part(hidden_td, head, target_t):
        return _chunked_logprobs(hidden_td, head, target_t, chunk=chunk, block=block, is_token_v=is_token_v, **options)

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(parts, rows // parts * length, *x.shape[2:])

    has_copies = not callable(head) and head.ndim == 3
    # vmap over one part would cost time: not all compilers remove an axis of size 1.
    if parts == 1:
        only = head[0] if has_copies and not callable(head) else head
        found = of_part(split(hidden_btd)[0], only, split(target_bt)[0])
    elif callable(head):
        found = jax.vmap(lambda hidden_td, target_t: of_part(hidden_td, head, target_t))(
            split(hidden_btd), split(target_bt)
        )
    else:
        in_axes = (0, 0 if has_copies else None, 0)
        found = jax.vmap(of_part, in_axes=in_axes)(split(hidden_btd), head, split(target_bt))
    return jax.tree.map(lambda x: x.reshape(rows, length), found)


def _chunked_logprobs(
    hidden_td: jax.Array,
    head: Head,
    target_t: jax.Array,
    *,
    temperatures: tuple[float, ...],
    need_entropy: bool,
    chunk: int,
    block: int | None,
    is_token_v: jax.Array | np.ndarray | None,
) -> tuple[tuple[jax.Array, ...], jax.Array | None]:
    """Return log-probs `[T]` at each temperature, and the entropy `[T]` at the first one; see `token_logprobs`."""
    length = target_t.shape[0]
    n_chunks = -(-length // chunk)
    chunk = -(-length // n_chunks)
    padding = n_chunks * chunk - length
    hidden_chunks = jnp.pad(hidden_td, ((0, padding), (0, 0))).reshape(n_chunks, chunk, -1)
    target_chunks = jnp.pad(target_t, ((0, padding), *((0, 0),) * (target_t.ndim - 1)))
    target_chunks = target_chunks.reshape(n_chunks, chunk, *target_t.shape[1:])

    def chunk_softmax(hidden_td, head_dv, index_t, is_token_v):
        logit_tv = _logits(hidden_td, head if callable(head) else head_dv)
        if is_token_v is not None:
            logit_tv = jnp.where(is_token_v[None], logit_tv, -jnp.inf)
        return _block_softmax(logit_tv, index_t, temperatures, need_entropy)

    n_blocks = 1 if callable(head) or block is None else _count_blocks(head.shape[1], block)
    if n_chunks > 1 or n_blocks > 1:  # otherwise all logits are in memory anyway: nothing is computed again
        # Only the log-sum-exps are stored for the backward pass, which computes the logits of a chunk again.
        chunk_softmax = jax.checkpoint(chunk_softmax, policy=jax.checkpoint_policies.save_only_these_names(_STORED))

    def of_block(head_dv, is_token_v, first=0):
        if n_chunks == 1:
            return chunk_softmax(hidden_td, head_dv, target_t - first, is_token_v)
        softmax = jax.lax.map(
            lambda x: chunk_softmax(x[0], head_dv, x[1] - first, is_token_v), (hidden_chunks, target_chunks)
        )
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:length], softmax)

    if callable(head) or n_blocks == 1:
        softmax = jax.tree.map(lambda x: x[None], of_block(None if callable(head) else head, is_token_v))
    else:
        # Blocks are rows of the transposed matrix, in the layout of an embedding.
        head_nvd = head.T.reshape(n_blocks, -1, head.shape[0])
        is_token_nv = None if is_token_v is None else jnp.asarray(is_token_v).reshape(n_blocks, -1)
        first_n = jnp.arange(n_blocks, dtype=target_t.dtype) * head_nvd.shape[1]
        softmax = jax.lax.map(lambda x: of_block(x[0].T, *x[1:]), (head_nvd, is_token_nv, first_n))
    return _merge_blocks(softmax, target_t, temperatures)


def _count_blocks(vocab_size: int, block: int) -> int:
    """Return the number of blocks: the smallest divisor of V whose blocks have at most `block` columns.

    If that makes them smaller than an eighth of it, such as for a prime V, there is one block.
    """
    n_blocks = next(n for n in range(-(-vocab_size // block), vocab_size + 1) if vocab_size % n == 0)
    return n_blocks if 8 * vocab_size >= n_blocks * block else 1


class _BlockSoftmax(NamedTuple):
    """What a block of logits adds to a softmax; merged with others on a leading axis.

    logsumexps: `[T]` at each temperature; −∞ if no column is a token.
    target_logit_t: `[T]` or `[T, E]`, 0 for targets of other blocks.
    mean_logit_t: `[T]` mean of the logits, over the first temperature, under their softmax; None if not needed.
    """

    logsumexps: tuple[jax.Array, ...]
    target_logit_t: jax.Array
    mean_logit_t: jax.Array | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _block_softmax(
    logit_tv: jax.Array, index_t: jax.Array, temperatures: tuple[float, ...], need_entropy: bool
) -> _BlockSoftmax:
    """Return the sums over a block of logits; `index_t` are the columns of targets, outside of it for other blocks."""
    return _block_softmax_fwd(logit_tv, index_t, temperatures, need_entropy)[0]


def _block_softmax_fwd(
    logit_tv: jax.Array, index_t: jax.Array, temperatures: tuple[float, ...], need_entropy: bool
) -> tuple[_BlockSoftmax, Any]:
    logsumexps, mean_t = [], None
    for temperature in temperatures:
        scaled_tv = logit_tv if temperature == 1 else logit_tv / temperature
        max_t = _finite(jnp.max(scaled_tv, axis=-1))
        exp_tv = jnp.exp(scaled_tv - max_t[:, None])
        sum_t = jnp.sum(exp_tv, axis=-1)
        if need_entropy and not logsumexps:
            product_tv = jnp.where(exp_tv > 0, exp_tv * scaled_tv, 0.0)  # 0 · log 0 = 0
            mean_t = jnp.sum(product_tv, axis=-1) / jnp.where(sum_t > 0, sum_t, 1.0)
        logsumexps.append(checkpoint_name(max_t + jnp.log(sum_t), _STORED))
    softmax = _BlockSoftmax(tuple(logsumexps), _target_logits(logit_tv, index_t), mean_t)
    return softmax, (logit_tv, index_t, softmax.logsumexps)


def _block_softmax_bwd(
    temperatures: tuple[float, ...], need_entropy: bool, stored: Any, gradients: _BlockSoftmax
) -> tuple[jax.Array, None]:
    """Return the gradient for the logits, Σ g π(v) / temperature + g 1[v is the target]; the entropy has none."""
    logit_tv, index_t, logsumexps = stored
    if index_t.ndim == 1:
        is_target_tv = jnp.arange(logit_tv.shape[1])[None] == index_t[:, None]
        gradient_tv = jnp.where(is_target_tv, gradients.target_logit_t[:, None], 0.0)
    else:
        (gradient_tv,) = jax.vjp(lambda x: _target_logits(x, index_t), logit_tv)[1](gradients.target_logit_t)
    for temperature, logsumexp_t, gradient_t in zip(temperatures, logsumexps, gradients.logsumexps, strict=True):
        scaled_tv = logit_tv if temperature == 1 else logit_tv / temperature
        gradient_tv += (gradient_t / temperature)[:, None] * jnp.exp(scaled_tv - _finite(logsumexp_t)[:, None])
    return gradient_tv, None


_block_softmax.defvjp(_block_softmax_fwd, _block_softmax_bwd)


def _merge_blocks(
    softmax: _BlockSoftmax, target_t: jax.Array, temperatures: tuple[float, ...]
) -> tuple[tuple[jax.Array, ...], jax.Array | None]:
    """Return the log-probs `[T]` at each temperature and the entropy `[T]`, from blocks on the leading axis.

    H = log Σᵥ exp zₜ[v] − Σᵥ π(v) zₜ[v]
    """
    logsumexps = [jax.nn.logsumexp(x_nt, axis=0) for x_nt in softmax.logsumexps]
    target_logit_t = softmax.target_logit_t.sum(0)
    logprobs = tuple(
        _sum_of_set(target_logit_t / temperature, target_t) - logsumexp_t
        for temperature, logsumexp_t in zip(temperatures, logsumexps, strict=True)
    )
    if softmax.mean_logit_t is None:
        return logprobs, None
    weight_nt = jnp.exp(softmax.logsumexps[0] - logsumexps[0][None])
    entropy_t = logsumexps[0] - (weight_nt * softmax.mean_logit_t).sum(0)
    return logprobs, jax.lax.stop_gradient(jnp.maximum(entropy_t, 0.0))  # rounding may go below 0


def _finite(x: jax.Array) -> jax.Array:
    """Return `x`, and 0 for −∞: a block without tokens has no largest logit."""
    return jnp.where(jnp.isneginf(x), 0.0, x)


def _logits(hidden_td: jax.Array, head: Head) -> jax.Array:
    """Return the logits `[T, V]` in float32."""
    if callable(head):
        return jnp.asarray(head(hidden_td), jnp.float32)
    return jnp.einsum("td,dv->tv", hidden_td, head, preferred_element_type=jnp.float32)


def _target_logits(logit_tv: jax.Array, index_t: jax.Array) -> jax.Array:
    """Return the logit of each index, `[T]` or `[T, E]`; 0 for an index outside of the columns."""
    index_te = index_t.reshape(len(index_t), -1)
    is_here_te = (index_te >= 0) & (index_te < logit_tv.shape[1])
    logit_te = jnp.take_along_axis(logit_tv, jnp.where(is_here_te, index_te, 0), axis=-1)
    return jnp.where(is_here_te, logit_te, 0.0).reshape(index_t.shape)


def _sum_of_set(logit_t: jax.Array, target_t: jax.Array) -> jax.Array:
    """Return logits `[T]` as they are, and the log-sum-exp of those of sets `[T, E]`; −∞ for an empty set."""
    if target_t.ndim == 1:
        return logit_t
    is_id_te = target_t >= 0
    # An empty set gets finite logits before the log-sum-exp, whose gradient would be NaN otherwise.
    is_empty_t = ~is_id_te.any(-1)
    logsumexp_t = jax.nn.logsumexp(jnp.where(is_id_te | is_empty_t[:, None], logit_t, -jnp.inf), axis=-1)
    return jnp.where(is_empty_t, -jnp.inf, logsumexp_t)
