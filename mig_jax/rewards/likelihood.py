"""Token log-probs from hidden states, in chunks, and the likelihood of an answer from its token log-probs."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from mig_jax.parts import find_part

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
    is_token_v: jax.Array | np.ndarray | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Return the log-prob of each target and the entropy of its distribution, without an array of size `[T, V]`.

        log π(yₜ) = zₜ[yₜ] − log Σᵥ exp zₜ[v]        zₜ = hₜ·U / temperature

    Tokens are split into chunks, the vocabulary is not, so no padded column can enter the log-sum-exp. The logits of a
    chunk are float32 from the matmul on. The backward pass recomputes them instead of storing them.

    Args:
      hidden_td: `[T, D]` hidden states; entry t predicts target t.
      head: `[D, V]` output matrix; or a function from hidden states `[T, D]` to logits `[T, V]`.
      target_t: `[T]` token ids; or `[T, E]` sets of distinct ids, padded with −1, whose probabilities are summed. An
        empty set has log-prob −∞.
      temperature: divides the logits; must be the sampler's for both policies of a ratio.
      chunk: tokens whose logits are in memory at once; under `jax.vmap`, tokens of each row. For a batch,
        `batch_logprobs` counts those of all rows.
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
      parts: number of groups of neighboring rows that are computed side by side, such as one for each device; must
        divide B.
      is_token_v: as in `token_logprobs`.

    Returns:
      A log-prob `[B, T]` in nats for each temperature, and the entropy `[B, T]` in nats; None without `need_entropy`.
    """
    rows, length = target_bt.shape[:2]
    options: dict[str, Any] = {"temperatures": tuple(temperatures), "need_entropy": need_entropy, "chunk": chunk}

    def of_part(hidden_td, head, target_t):
        return _chunked_logprobs(hidden_td, head, target_t, is_token_v=is_token_v, **options)

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

    def chunk_logprobs(hidden_and_target):
        hidden_td, target_t = hidden_and_target
        logit_tv = _logits(hidden_td, head)
        if is_token_v is not None:
            logit_tv = jnp.where(is_token_v[None], logit_tv, -jnp.inf)
        found: list[Any] = [
            _target_logprob(logit_tv if temperature == 1 else logit_tv / temperature, target_t, need_entropy and not n)
            for n, temperature in enumerate(temperatures)
        ]
        return tuple(logprob_t for logprob_t, _ in found), found[0][1]

    if n_chunks == 1:
        return chunk_logprobs((hidden_td, target_t))  # its logits are in memory anyway: nothing is computed again
    # Only the log-sum-exps are stored for the backward pass, which computes the logits of a chunk again.
    stored = jax.checkpoint_policies.save_only_these_names(_STORED)
    found = jax.lax.map(jax.checkpoint(chunk_logprobs, policy=stored), (hidden_chunks, target_chunks))
    return jax.tree.map(lambda x: x.reshape(-1)[:length], found)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _target_logprob(logit_tv: jax.Array, target_t: jax.Array, need_entropy: bool) -> tuple[jax.Array, jax.Array | None]:
    """Return the log-prob of each target `[T]` and, from the same exponentials, the entropy `[T]` or None.

    H = log Σᵥ exp zₜ[v] − Σᵥ π(v) zₜ[v]
    """
    return _target_logprob_fwd(logit_tv, target_t, need_entropy)[0]


def _target_logprob_fwd(logit_tv: jax.Array, target_t: jax.Array, need_entropy: bool) -> tuple[Any, Any]:
    max_t = jnp.max(logit_tv, axis=-1)
    exp_tv = jnp.exp(logit_tv - max_t[:, None])
    sum_t = jnp.sum(exp_tv, axis=-1)
    logsumexp_t = checkpoint_name(max_t + jnp.log(sum_t), _STORED)
    entropy_t = None
    if need_entropy:
        product_tv = jnp.where(exp_tv > 0, exp_tv * logit_tv, 0.0)  # 0 · log 0 = 0
        entropy_t = jnp.maximum(logsumexp_t - jnp.sum(product_tv, axis=-1) / sum_t, 0.0)  # rounding may go below 0
    return (_target_logits(logit_tv, target_t) - logsumexp_t, entropy_t), (logit_tv, target_t, logsumexp_t)


def _target_logprob_bwd(need_entropy: bool, stored: Any, gradients: Any) -> tuple[jax.Array, None]:
    """Return g (1[v is the target] − π(v)), the gradient for the logits; that for the entropy is dropped."""
    logit_tv, target_t, logsumexp_t = stored
    gradient_t1 = gradients[0][:, None]
    if target_t.ndim == 1:
        is_target_tv = jnp.arange(logit_tv.shape[1])[None] == target_t[:, None]
        of_target_tv = jnp.where(is_target_tv, gradient_t1, 0.0)
    else:
        (of_target_tv,) = jax.vjp(lambda logit_tv: _target_logits(logit_tv, target_t), logit_tv)[1](gradients[0])
    return of_target_tv - gradient_t1 * jnp.exp(logit_tv - logsumexp_t[:, None]), None


_target_logprob.defvjp(_target_logprob_fwd, _target_logprob_bwd)


def _logits(hidden_td: jax.Array, head: Head) -> jax.Array:
    """Return the logits `[T, V]` in float32."""
    if callable(head):
        return jnp.asarray(head(hidden_td), jnp.float32)
    return jnp.einsum("td,dv->tv", hidden_td, head, preferred_element_type=jnp.float32)


def _target_logits(logit_tv: jax.Array, target_t: jax.Array) -> jax.Array:
    """Return the logit of each target `[T]`, or the log-sum-exp of those of its ids `[T, E]`; −∞ for an empty set."""
    if target_t.ndim == 1:
        return jnp.take_along_axis(logit_tv, target_t[:, None], axis=-1)[:, 0]
    is_id_te = target_t >= 0
    logit_te = jnp.take_along_axis(logit_tv, jnp.where(is_id_te, target_t, 0), axis=-1)
    # An empty set gets finite logits before the log-sum-exp, whose gradient would be NaN otherwise.
    is_empty_t = ~is_id_te.any(-1)
    logsumexp_t = jax.nn.logsumexp(jnp.where(is_id_te | is_empty_t[:, None], logit_te, -jnp.inf), axis=-1)
    return jnp.where(is_empty_t, -jnp.inf, logsumexp_t)


# Log-likelihood of each variant from the log-probs of its tokens, by the name that configs use. Each takes logprob_kay
# and scored_ay and returns `[K+1, A]`, meaningless for a row that is no variant.
OVER_TOKENS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "mean_logprob": lambda logprob_kay, scored_ay: _total(logprob_kay, scored_ay) / _length(scored_ay),
    "mean_prob": lambda logprob_kay, scored_ay: (
        jax.nn.logsumexp(jnp.where(scored_ay[None], logprob_kay, -jnp.inf), axis=-1) - jnp.log(_length(scored_ay))
    ),
    "sum_logprob": lambda logprob_kay, scored_ay: _total(logprob_kay, scored_ay),
}

# Log-likelihood of the answer `[K+1]` from those of its variants `[K+1, A]`, by the name that configs use; −∞ marks a
# row that is no variant.
OVER_SPELLINGS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "max": lambda ell_ka: ell_ka.max(-1),
    "logsumexp": lambda ell_ka: jax.nn.logsumexp(ell_ka, axis=-1),
}


def answer_likelihood(
    logprob_kay: jax.Array, scored_ay: jax.Array, *, over_tokens: str = "mean_logprob", over_spellings: str = "max"
) -> jax.Array:
    """Return ℓ_k: by default the mean log-prob of the answer's tokens, for the likeliest variant of the answer.

        ℓₖ = max over y ∈ Y* of (1/|y|) Σₜ log π(yₜ | x, s₁ … sₖ, lead-in, y₍<ₜ₎)

    The ending counts as part of y. Without a terminator, "4" would be likely wherever "42" is. Other choices:

        over_tokens      mean_prob    log (1/|y|) Σₜ π(yₜ | …), the mean probability
                         sum_logprob  Σₜ log π(yₜ | …), the log-probability of the variant
        over_spellings   logsumexp    log Σ over y ∈ Y* of exp ℓₖ(y); with sum_logprob, the probability of any variant

    Args:
      logprob_kay: `[K+1, A, Y]` log-probs of the scored tokens of each variant after each step, in nats.
      scored_ay: `[A, Y]` bool, tokens of variant a and of its ending; a row that is all False is no variant.
      over_tokens: key of `OVER_TOKENS`, or a user's own, see `parts.find_part`.
      over_spellings: key of `OVER_SPELLINGS`, or a user's own.

    Returns:
      ell_k `[K+1]`, in nats per token (sum_logprob: in nats); −∞ if there is no variant.

    Raises:
      AssertionError: an argument has a batch axis.
      ValueError: an unknown name.

    References:
      arXiv 2602.01034, Eq. 9.
    """
    reduce_tokens = find_part(over_tokens, OVER_TOKENS, key="over_tokens")
    reduce_variants = find_part(over_spellings, OVER_SPELLINGS, key="over_spellings")
    chex.assert_rank(
        [logprob_kay, scored_ay],
        [3, 2],
        custom_message="answer_likelihood takes one response: use jax.vmap for a batch",
    )
    ell_ka = reduce_tokens(logprob_kay, scored_ay)
    return reduce_variants(jnp.where(scored_ay.any(-1)[None], ell_ka, -jnp.inf))


def _total(logprob_kay: jax.Array, scored_ay: jax.Array) -> jax.Array:
    """Return the summed log-prob of each variant, `[K+1, A]`."""
    return jnp.where(scored_ay[None], logprob_kay, 0.0).sum(-1)


def _length(scored_ay: jax.Array) -> jax.Array:
    """Return the number of scored tokens of each variant, `[1, A]`; 1 for a row that is no variant."""
    return jnp.maximum(scored_ay.sum(-1), 1)[None]
