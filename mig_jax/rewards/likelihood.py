"""From hidden states to log-probs, in chunks, and from log-probs to the likelihood of an answer."""

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
    """Log-prob of each target, and entropy of each distribution, without ever building `[T, V]`.

        log π(yₜ) = zₜ[yₜ] − log Σᵥ exp zₜ[v]        zₜ = hₜ·U / temperature

    Tokens are cut into chunks, not the vocabulary, so no padded column can enter the log-sum-exp. The logits of a
    chunk are float32 from the matmul on, and are computed again in the backward pass instead of being kept.

    Args:
      hidden_td: `[T, D]` hidden states that predict the targets.
      unembed_dv: `[D, V]` output matrix.
      target_t: `[T]` token ids.
      temperature: divides the logits; use the sampler's on both sides of the ratio.
      chunk: tokens whose logits are alive at once (vmapped over B rows: of each row).

    Returns:
      logprob_t `[T]` and entropy_t `[T]` (no gradient flows through the entropy), float32, in nats.
    """
    chex.assert_rank([hidden_td, unembed_dv, target_t], [2, 2, 1])
    length = target_t.shape[0]
    chunk = min(chunk, length)
    n_chunks = -(-length // chunk)
    padding = n_chunks * chunk - length
    hidden = jnp.pad(hidden_td, ((0, padding), (0, 0))).reshape(n_chunks, chunk, -1)
    target = jnp.pad(target_t, (0, padding)).reshape(n_chunks, chunk)

    @jax.checkpoint
    def one_chunk(hidden_td, target_t):
        logit_tv = jnp.einsum("td,dv->tv", hidden_td, unembed_dv, preferred_element_type=jnp.float32) / temperature
        logsumexp_t = jax.nn.logsumexp(logit_tv, axis=-1)
        chosen_t = jnp.take_along_axis(logit_tv, target_t[:, None], axis=-1)[:, 0]
        still_tv = jax.lax.stop_gradient(logit_tv - logsumexp_t[:, None])
        return chosen_t - logsumexp_t, -jnp.sum(jnp.exp(still_tv) * still_tv, axis=-1)

    _, (logprob, entropy) = jax.lax.scan(lambda _, xs: (None, one_chunk(*xs)), None, (hidden, target))
    return logprob.reshape(-1)[:length], entropy.reshape(-1)[:length]


def answer_likelihood(logprob_kap: jax.Array, scored_ap: jax.Array) -> jax.Array:
    """ℓ_k: mean log-prob of an answer's tokens, for the spelling that the policy likes best.

        ℓₖ = max over y ∈ Y* of (1/|y|) Σₜ log π(yₜ | x, s₁…sₖ, lead-in, y₍<ₜ₎)

    Args:
      logprob_kap: `[K+1, A, P]` log-probs of every probe, in nats.
      scored_ap: `[A, P]` bool, the tokens of variant a and of its closing tag; a row of False is no variant.

    Returns:
      ell_k `[K+1]`, in nats per token.

    References:
      arXiv 2602.01034, Eq. 9; the closing tag is counted in |y| (without it "4" is likely wherever "42" is).
    """
    chex.assert_rank([logprob_kap, scored_ap], [3, 2])
    count_a = scored_ap.sum(-1)
    total_ka = jnp.where(scored_ap[None], logprob_kap, 0.0).sum(-1)
    mean_ka = total_ka / jnp.maximum(count_a, 1)[None]
    return jnp.where((count_a > 0)[None], mean_ka, -jnp.inf).max(-1)
