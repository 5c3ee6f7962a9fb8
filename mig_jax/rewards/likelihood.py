"""Token log-probs from hidden states, in chunks, and the likelihood of an answer from its token log-probs."""

import chex
import jax
import jax.numpy as jnp


def token_logprobs(
    hidden_td: jax.Array,
    unembed_dv: jax.Array,
    target_t: jax.Array,
    *,
    temperature: float = 1.0,
    chunk: int = 128,
) -> tuple[jax.Array, jax.Array]:
    """Return the log-prob of each target and the entropy of its distribution, without an array of size `[T, V]`.

        log π(yₜ) = zₜ[yₜ] − log Σᵥ exp zₜ[v]        zₜ = hₜ·U / temperature

    Tokens are split into chunks, the vocabulary is not, so no padded column can enter the log-sum-exp. The logits of a
    chunk are float32 from the matmul on. The backward pass recomputes them instead of storing them.

    Args:
      hidden_td: `[T, D]` hidden states; entry t predicts target t.
      unembed_dv: `[D, V]` output matrix.
      target_t: `[T]` token ids.
      temperature: divides the logits; must be the sampler's for both policies of a ratio.
      chunk: tokens whose logits are in memory at once; under `jax.vmap`, tokens of each row.

    Returns:
      logprob_t `[T]` and entropy_t `[T]`, float32, in nats. No gradient flows through the entropy.

    Raises:
      AssertionError: an argument has a batch axis.
    """
    chex.assert_rank(
        [hidden_td, unembed_dv, target_t],
        [2, 2, 1],
        custom_message="token_logprobs takes one sequence: use jax.vmap for a batch",
    )
    length = target_t.shape[0]
    chunk = min(chunk, length)
    n_chunks = -(-length // chunk)
    padding = n_chunks * chunk - length
    hidden_chunks = jnp.pad(hidden_td, ((0, padding), (0, 0))).reshape(n_chunks, chunk, -1)
    target_chunks = jnp.pad(target_t, (0, padding)).reshape(n_chunks, chunk)

    @jax.checkpoint
    def chunk_logprobs(hidden_and_target):
        hidden_td, target_t = hidden_and_target
        logit_tv = jnp.einsum("td,dv->tv", hidden_td, unembed_dv, preferred_element_type=jnp.float32) / temperature
        logsumexp_t = jax.nn.logsumexp(logit_tv, axis=-1)
        target_logit_t = jnp.take_along_axis(logit_tv, target_t[:, None], axis=-1)[:, 0]
        logprob_tv = jax.lax.stop_gradient(logit_tv - logsumexp_t[:, None])
        return target_logit_t - logsumexp_t, -jnp.sum(jnp.exp(logprob_tv) * logprob_tv, axis=-1)

    logprobs, entropies = jax.lax.map(chunk_logprobs, (hidden_chunks, target_chunks))
    return logprobs.reshape(-1)[:length], entropies.reshape(-1)[:length]


def answer_likelihood(logprob_kay: jax.Array, scored_ay: jax.Array) -> jax.Array:
    """Return ℓ_k: the mean log-prob of the answer's tokens, for the variant of the answer that is likeliest.

        ℓₖ = max over y ∈ Y* of (1/|y|) Σₜ log π(yₜ | x, s₁ … sₖ, lead-in, y₍<ₜ₎)

    The closing tag counts as part of y. Without a terminator, "4" would be likely wherever "42" is.

    Args:
      logprob_kay: `[K+1, A, Y]` log-probs of the scored tokens of each variant after each step, in nats.
      scored_ay: `[A, Y]` bool, tokens of variant a and of its closing tag; a row that is all False is no variant.

    Returns:
      ell_k `[K+1]`, in nats per token; −∞ if there is no variant.

    Raises:
      AssertionError: an argument has a batch axis.

    References:
      arXiv 2602.01034, Eq. 9.
    """
    chex.assert_rank(
        [logprob_kay, scored_ay],
        [3, 2],
        custom_message="answer_likelihood takes one response: use jax.vmap for a batch",
    )
    length_a = scored_ay.sum(-1)
    total_ka = jnp.where(scored_ay[None], logprob_kay, 0.0).sum(-1)
    mean_ka = total_ka / jnp.maximum(length_a, 1)[None]
    return jnp.where((length_a > 0)[None], mean_ka, -jnp.inf).max(-1)
