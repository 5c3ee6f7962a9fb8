"""From completions to a batch to learn from, on the accelerator: probes, credit, advantages; each compiled once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mig_jax import rewards
from mig_jax.config import Config
from mig_jax.learning import advantages
from mig_jax.learning.losses import Batch
from mig_jax.models import decoder, sampler
from mig_jax.policy.load import Policy


class Scores(NamedTuple):
    """What the probes say of B responses, in nats.

    ell_bk, watermark_bk: `[B, K+1]`; gain_bk: `[B, K]`; reward_b: `[B]` process reward.
    """

    ell_bk: jax.Array
    watermark_bk: jax.Array
    gain_bk: jax.Array
    reward_b: jax.Array


class Outcome(NamedTuple):
    """What the checks say of B responses, each `[B]` bool: right, well formed, and whether the check came to an end."""

    is_correct_b: np.ndarray
    is_well_formed_b: np.ndarray
    is_checked_b: np.ndarray


def make_score_fn(policy: Policy, *, group_size: int, credit: str, chunk: int) -> Callable:
    """Compiled (weights, prompts, completions, cuts, answers_q) → Scores, on the cache of the rollout.

    `cuts` count tokens of the completion; answers are those of the questions, shared by each group.
    """

    @jax.jit
    def score(weights, prompts, completions, cuts, answers_q) -> Scores:
        model = decoder.bind(policy.config, weights)
        slots = decoder.cache_slots(completions.cache)
        position_bs, valid_bs = sampler.row_positions(jnp.repeat(prompts.start_q, group_size), slots, prompts.images)
        ell_bk = rewards.score_on_cache(
            model,
            model.unembed_dv(),
            completions.cache,
            rewards.Trunk(position_bs, valid_bs),
            cuts._replace(cut_k=cuts.cut_k + prompts.token_qs.shape[1]),
            jax.tree.map(lambda x: jnp.repeat(x, group_size, axis=0), answers_q),
            chunk=chunk,
        )
        return compute_scores(ell_bk, cuts.valid_k, credit=credit)

    return score


def compute_scores(ell_bk: jax.Array, valid_bk: jax.Array, *, credit: str) -> Scores:
    """ℓ → watermark, and the gains and the process reward of the named credit."""
    _, watermark_bk = jax.vmap(rewards.watermark_gains)(ell_bk, valid_bk)
    earned = jax.vmap(rewards.CREDITS[credit])(ell_bk, valid_bk)
    return Scores(ell_bk, watermark_bk, earned.gain_k, earned.reward)


def make_batch_fn(config: Config, row_sharding: Any) -> Callable:
    """Compiled (prompts, completions, scores, cuts, outcome, step_bt) → (Batch, metrics).

    `scores` is None where nothing was probed; `step_bt` `[B, T]` is the step that a token belongs to, −1 outside the
    think block. The rows of the batch are laid out by `row_sharding`.
    """
    group_size = config.rollout.group_size

    def assemble(prompts, completions, scores, cuts, outcome: Outcome, step_bt):
        full_mask_bt = jnp.arange(step_bt.shape[1])[None, :] < completions.length_b[:, None]
        process_bt = jnp.zeros(step_bt.shape)
        if scores is not None:
            process_bt = process_advantage(scores, cuts, step_bt, config)
        batch = Batch(
            token_bs=jnp.concatenate([jnp.repeat(prompts.token_qs, group_size, axis=0), completions.token_bt], axis=1),
            start_b=jnp.repeat(prompts.start_q, group_size),
            full_mask_bt=full_mask_bt,
            cot_mask_bt=step_bt >= 0,
            old_logprob_bt=completions.logprob_bt,
            ref_logprob_bt=None,
            process_advantage_bt=process_bt,
            outcome_advantage_bt=jnp.where(full_mask_bt, outcome_advantage(outcome, config)[:, None], 0.0),
            gate_b=outcome.is_correct_b & outcome.is_well_formed_b,
            images=prompts.images,
        )
        metrics = rollout_metrics(batch, completions, cuts, outcome, group_size=group_size)
        if scores is not None:
            metrics |= score_metrics(batch, scores, cuts, group_size=group_size)
        return batch, metrics

    return jax.jit(assemble, out_shardings=(row_sharding, None))


def outcome_advantage(outcome: Outcome, config: Config) -> jax.Array:
    """The normalised outcome reward of each response `[B]`.

    A response whose check timed out is neither right nor wrong: it has no part in its group, and no advantage.
    """
    w, group_size = config.reward, config.rollout.group_size
    reward_b = w.accuracy * outcome.is_correct_b + w.format * outcome.is_well_formed_b
    reward_qg, checked_qg = (x.reshape(-1, group_size) for x in (reward_b, outcome.is_checked_b))
    return advantages.group_normalize(reward_qg, checked_qg, scale=w.scale, eps=w.outcome_eps).reshape(-1)


def process_advantage(scores: Scores, cuts: rewards.Cuts, step_bt: jax.Array, config: Config) -> jax.Array:
    """The process advantage of every token `[B, T]`, by trajectory or by step."""
    w, group_size = config.reward, config.rollout.group_size
    normalized = {"scale": w.scale, "eps": w.process_eps}
    if w.credit_level == "trajectory":
        return advantages.trajectory_credit(scores.reward_b.reshape(-1, group_size), step_bt, **normalized)
    gain_qgk = scores.gain_bk.reshape(-1, group_size, scores.gain_bk.shape[1])
    valid_qgk = cuts.valid_k[:, 1:].reshape(gain_qgk.shape)
    return advantages.step_credit(gain_qgk, valid_qgk, step_bt, **normalized)


# ------------------------------------------------------------------------------------------------------------ metrics


def rollout_metrics(batch: Batch, completions: Any, cuts: rewards.Cuts, outcome: Outcome, *, group_size: int) -> dict:
    """Means over the responses of a rollout; the accuracy is that of the responses whose check came to an end."""
    advantage_qg = batch.outcome_advantage_bt[:, 0].reshape(-1, group_size)
    return {
        "reward/accuracy": outcome.is_correct_b.sum() / jnp.maximum(outcome.is_checked_b.sum(), 1),
        "reward/format": outcome.is_well_formed_b.mean(),
        "reward/gate": batch.gate_b.mean(),
        "reward/zero_variance_groups": (advantage_qg == 0).all(1).mean(),
        "advantage/outcome": masked_mean(jnp.abs(batch.outcome_advantage_bt), batch.full_mask_bt),
        "rollout/truncated": completions.is_truncated_b.mean(),
        "rollout/length": completions.length_b.mean(),
        "rollout/tokens": completions.length_b.sum(),
        "rollout/steps": (cuts.valid_k.sum(1) - 1).mean(),
    }


def score_metrics(batch: Batch, scores: Scores, cuts: rewards.Cuts, *, group_size: int) -> dict:
    """Means over the responses of what the probes say, in nats."""
    last_b = jnp.take_along_axis(scores.ell_bk, cuts.valid_k.sum(1, keepdims=True) - 1, axis=1)
    return {
        "reward/process": scores.reward_b.mean(),
        "reward/process_std_in_group": scores.reward_b.reshape(-1, group_size).std(1).mean(),
        "advantage/process": masked_mean(jnp.abs(batch.process_advantage_bt), batch.cot_mask_bt),
        "ell/first": scores.ell_bk[:, 0].mean(),
        "ell/last": last_b.mean(),
    }


def masked_mean(x_bt: jax.Array, mask_bt: jax.Array) -> jax.Array:
    return jnp.where(mask_bt, x_bt, 0.0).sum() / jnp.maximum(mask_bt.sum(), 1)
