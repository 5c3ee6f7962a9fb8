"""The hybrid loss: process advantages on the reasoning, outcome advantages on the completion, and imitation.

    L = α L_MIG + β L_out + γ L_SFT + κ KL(πθ ‖ π_ref)

Every stream is a sum over tokens with weights that are known before the forward pass (`AGGREGATES`). So the losses and
gradients of micro-batches add up exactly, however unequal their masks are.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mig_jax.learning.policy_gradient import LOSSES, RATIOS, ClipSettings, bounded_exp, kl_estimate, reference_kl
from mig_jax.parts import find_part


class Batch(NamedTuple):
    """The rows of one update. A row is a prompt, padded on the left, and its completion, padded on the right.

    token_bs: `[B, S]` token ids of prompt and completion; the last T of the S slots are the completion's.
    start_b: `[B]` slot of the first token of the prompt.
    full_mask_bt: `[B, T]` bool, True on the tokens of the completion, its end-of-sequence included.
    cot_mask_bt: `[B, T]` bool, True on the tokens of the process stream: the reasoning and the tag that closes it.
    old_logprob_bt: `[B, T]` log-probs under π_old, in nats.
    ref_logprob_bt: `[B, T]` log-probs under the frozen reference policy, in nats; None without a KL term.
    process_advantage_bt: `[B, T]` advantage of the process stream, 0 outside `cot_mask_bt`.
    outcome_advantage_bt: `[B, T]` advantage of the outcome stream, 0 outside `full_mask_bt`.
    gate_b: `[B]` bool, True for the responses to imitate.
    images: features of the prompts' images as the model takes them, leading axis Q (B / Q neighboring rows share a
      prompt); None for text.
    sampler_weight_bt: `[B, T]` weights of `importance_weights` for what π_old differs from the policy that sampled;
      None if π_old is the policy that sampled.
    """

    token_bs: jax.Array
    start_b: jax.Array
    full_mask_bt: jax.Array
    cot_mask_bt: jax.Array
    old_logprob_bt: jax.Array
    ref_logprob_bt: jax.Array | None
    process_advantage_bt: jax.Array
    outcome_advantage_bt: jax.Array
    gate_b: jax.Array
    images: Any = None
    sampler_weight_bt: jax.Array | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossSettings(ClipSettings):
    """Coefficients, variants and clip bounds of the hybrid loss.

    alpha: α, the coefficient of the process stream L_MIG.
    beta: β, the coefficient of the outcome stream L_out.
    gamma: γ, the coefficient of the imitation stream L_SFT.
    kl_coef: κ, the coefficient of the KL to the reference policy; without effect if `Batch.ref_logprob_bt` is None.
    policy_loss: one of `LOSSES`, or a user's own (see `parts.find_part`), of both policy-gradient streams.
    ratio: one of `RATIOS`, or a user's own: the ratio ρ of πθ and π_old.
    """

    alpha: float
    beta: float
    gamma: float
    kl_coef: float
    policy_loss: str
    ratio: str


# ---------------------------------------------------------------------------------------------------------- aggregates


def mean_of_tokens(mask_bt: jax.Array) -> jax.Array:
    """Return m / Σ m: the mean over all tokens of the batch (DAPO, arXiv 2503.14476)."""
    return mask_bt / jnp.maximum(mask_bt.sum(), 1)


def mean_of_responses(mask_bt: jax.Array) -> jax.Array:
    """Return m / (|mᵦ| · number of responses with a token): the mean of the responses' means (GRPO, arXiv 2402.03300).

    It favors short right responses and long wrong ones.
    """
    length_b = mask_bt.sum(1, keepdims=True)
    return mask_bt / (jnp.maximum(length_b, 1) * jnp.maximum((length_b > 0).sum(), 1))


def sum_over_constant(mask_bt: jax.Array) -> jax.Array:
    """Return m / (B · T): the sum over tokens divided by rows times the token limit (Dr. GRPO, arXiv 2503.20783)."""
    return mask_bt / mask_bt.size


# mask_bt, of the whole batch and not of a micro-batch → weight_bt
AGGREGATES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tokens": mean_of_tokens,
    "responses": mean_of_responses,
    "constant": sum_over_constant,
}


class TokenWeights(NamedTuple):
    """The weight of each token in the sum of each stream, `[B, T]`; 0 outside its mask.

    process_bt: over the reasoning.
    outcome_bt: over the completions.
    sft_bt: over the completions to imitate.
    process_mean_bt, outcome_mean_bt: the same, scaled to the sum 1, or 0 if the stream is empty; for metrics.
    """

    process_bt: jax.Array
    outcome_bt: jax.Array
    sft_bt: jax.Array
    process_mean_bt: jax.Array
    outcome_mean_bt: jax.Array


def stream_token_weights(batch: Batch, *, aggregate: str, token_limit: int = 0) -> TokenWeights:
    """Return the token weights of all three streams of a whole batch.

    Args:
      batch: all rows of an update.
      aggregate: one of `AGGREGATES`, the same for all streams.
      token_limit: T of the masks that `aggregate` gets, if the batch is cut to fewer tokens; 0: its own.

    Raises:
      ValueError: `aggregate` is unknown.
    """
    weigh_all = find_part(aggregate, AGGREGATES, key="loss.aggregate")

    def weigh(mask_bt: jax.Array) -> jax.Array:
        width = mask_bt.shape[1]
        return weigh_all(jnp.pad(mask_bt, ((0, 0), (0, max(token_limit - width, 0)))))[:, :width]

    process_bt, outcome_bt = weigh(batch.cot_mask_bt), weigh(batch.full_mask_bt)
    sft_bt = weigh(batch.full_mask_bt & batch.gate_b[:, None])
    means = (x_bt / jnp.maximum(x_bt.sum(), jnp.finfo(x_bt.dtype).tiny) for x_bt in (process_bt, outcome_bt))
    return TokenWeights(process_bt, outcome_bt, sft_bt, *means)


def importance_weights(
    trainer_logprob_bt: jax.Array, sampler_logprob_bt: jax.Array, mask_bt: jax.Array, *, cap: float
) -> jax.Array:
    """Return min(π_trainer / π_sampler, cap) of each token, without gradient.

    The same parameters give the sampler and the trainer slightly different log-probs. With those of the trainer as
    π_old, this weight accounts for the difference.

    Args:
      trainer_logprob_bt: `[B, T]` log-probs of the trainer's forward pass, before the first update, in nats.
      sampler_logprob_bt: `[B, T]` log-probs of the sampler, in nats.
      mask_bt: `[B, T]` bool; log-probs may be any number where it is False, and the weight is 1 there.
      cap: upper bound of the weights, positive.

    Returns:
      weight_bt `[B, T]`, for `Batch.sampler_weight_bt`.

    Raises:
      ValueError: `cap` is not positive.

    References:
      E. Ionides, Truncated Importance Sampling (2008).
    """
    if cap <= 0:
        raise ValueError(f"the cap of importance weights must be positive, not {cap}")
    log_ratio_bt = jnp.where(mask_bt, trainer_logprob_bt - sampler_logprob_bt, 0.0)
    weight_bt = jnp.where(mask_bt, jnp.minimum(bounded_exp(log_ratio_bt), cap), 1.0)
    return jax.lax.stop_gradient(weight_bt)


# --------------------------------------------------------------------------------------------------------------- total


def total_loss(
    logprob_bt: jax.Array,
    entropy_bt: jax.Array,
    sft_logprob_bt: jax.Array,
    batch: Batch,
    token_weights: TokenWeights,
    config: LossSettings,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return L = α L_MIG + β L_out + γ L_SFT + κ KL(πθ ‖ π_ref) of a batch, or of some of its rows.

        L_MIG = − Σ w_cot  v f(ρ, A_MIG)        f one of `LOSSES`, ρ one of `RATIOS`, v the sampler's weights or 1
        L_out = − Σ w_full v f(ρ, A_out)
        L_SFT = − Σ w_gate log πθ               at temperature 1
        KL    =   Σ w_full v ρ (r − 1 − log r)

    GRPO is α = γ = 0.

    Args:
      logprob_bt: `[B, T]` log-probs of the completions under πθ at the temperature of sampling, in nats.
      entropy_bt: `[B, T]` entropy of πθ at each token, in nats; only reported.
      sft_logprob_bt: `[B, T]` log-probs of the completions at temperature 1, in nats.
      batch: the same rows.
      token_weights: the same rows of `stream_token_weights` of the whole batch.
      config: coefficients, variants and clip bounds.

    Returns:
      The loss, a scalar, and metrics. Both add up over the micro-batches of a batch.

    Raises:
      ValueError: `config.policy_loss` or `config.ratio` is unknown.

    References:
      arXiv 2602.01034.
    """
    chex.assert_equal_shape([logprob_bt, entropy_bt, sft_logprob_bt, batch.full_mask_bt])
    w = token_weights
    old_logprob_bt = _fill_padding(batch.old_logprob_bt, logprob_bt, batch.full_mask_bt)
    make_ratio = find_part(config.ratio, RATIOS, key="loss.ratio")
    make_objective = find_part(config.policy_loss, LOSSES, key="loss.policy_loss")

    def stream(mask_bt, advantage_bt):
        ratio_bt = make_ratio(logprob_bt, old_logprob_bt, mask_bt)
        return ratio_bt, *make_objective(ratio_bt, logprob_bt, advantage_bt, config)

    _, process_bt, process_clipped_bt = stream(batch.cot_mask_bt, batch.process_advantage_bt)
    ratio_bt, outcome_bt, outcome_clipped_bt = stream(batch.full_mask_bt, batch.outcome_advantage_bt)
    sampler_weight_bt = _sampler_weights(batch)
    process = -jnp.sum(w.process_bt * sampler_weight_bt * process_bt)
    outcome = -jnp.sum(w.outcome_bt * sampler_weight_bt * outcome_bt)
    sft = -jnp.sum(w.sft_bt * sft_logprob_bt)
    loss = config.alpha * process + config.beta * outcome + config.gamma * sft
    metrics = {"loss/process": process, "loss/outcome": outcome, "loss/sft": sft}
    if batch.ref_logprob_bt is not None:
        ref_logprob_bt = _fill_padding(batch.ref_logprob_bt, logprob_bt, batch.full_mask_bt)
        kl_bt = sampler_weight_bt * reference_kl(logprob_bt, old_logprob_bt, ref_logprob_bt)
        loss = loss + config.kl_coef * jnp.sum(w.outcome_bt * kl_bt)
        metrics["kl/reference"] = jnp.sum(w.outcome_mean_bt * kl_bt)
    metrics |= {
        "loss/total": loss,
        "policy/entropy": jnp.sum(w.outcome_mean_bt * entropy_bt),
        "ratio/mean": jnp.sum(w.outcome_mean_bt * ratio_bt),
        "ratio/clipped_process": jnp.sum(w.process_mean_bt * process_clipped_bt),
        "ratio/clipped_outcome": jnp.sum(w.outcome_mean_bt * outcome_clipped_bt),
        "kl/old": jnp.sum(w.outcome_mean_bt * kl_estimate(old_logprob_bt, logprob_bt)),
    }
    return loss, jax.lax.stop_gradient(metrics)


def _sampler_weights(batch: Batch) -> jax.Array:
    """Return the sampler's weights `[B, T]`, which may be any number at padding, with 1 there; all 1 without any."""
    if batch.sampler_weight_bt is None:
        return jnp.ones(batch.full_mask_bt.shape)
    return jnp.where(batch.full_mask_bt, batch.sampler_weight_bt, 1.0)


def _fill_padding(stored_bt: jax.Array, logprob_bt: jax.Array, mask_bt: jax.Array) -> jax.Array:
    """Return stored log-probs, which may be any number at padding, with those of πθ there: the ratio becomes 1."""
    return jnp.where(mask_bt, stored_bt, jax.lax.stop_gradient(logprob_bt))
