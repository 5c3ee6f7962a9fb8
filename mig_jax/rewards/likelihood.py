"""The likelihood of an answer from the log-probs of its tokens."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from mig_jax.parts import find_part

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
