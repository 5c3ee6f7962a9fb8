"""Build the batch that an update trains on, for RL and for SFT: masks, advantages, SFT gates; compiled."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mig_jax import rewards
from mig_jax.config import Config, RewardConfig
from mig_jax.learning import advantages
from mig_jax.learning.losses import Batch
from mig_jax.models.sampler import Completions, Prompts
from mig_jax.rollout.scoring import Scores


class Outcome(NamedTuple):
    """Grades of B responses, each `[B]` bool.

    is_correct_b: the answer is correct.
    is_well_formed_b: the response has the requested format.
    is_graded_b: grading finished in time.
    """

    is_correct_b: ArrayLike
    is_well_formed_b: ArrayLike
    is_graded_b: ArrayLike


def make_outcome(is_correct: list[bool | None], is_well_formed: list[bool]) -> Outcome:
    """Stack grades; None in `is_correct` means that grading timed out."""
    return Outcome(
        is_correct_b=np.array([correct is True for correct in is_correct]),
        is_well_formed_b=np.array(is_well_formed),
        is_graded_b=np.array([correct is not None for correct in is_correct]),
    )


def make_train_batch_fn(config: Config, row_sharding: Any, *, group_size: int) -> Callable[..., tuple[Batch, dict]]:
    """Return a compiled function: (prompts, completions, outcome, step_bt, scores, cuts) -> (Batch, metrics).

    Args:
      config: its section `reward` says how rewards become advantages.
      row_sharding: sharding of the batch's rows.
      group_size: G, rows of each prompt.

    The function's arguments:
      prompts, completions: as sampled, or SFT targets instead of samples.
      outcome: their grades.
      step_bt: `[B, T]` step that each token belongs to; −1 outside the think block.
      scores, cuts: step scores and the positions of their probes; None when nothing was probed.
    """

    def make_train_batch(
        prompts: Prompts,
        completions: Completions,
        outcome: Outcome,
        step_bt: jax.Array,
        scores: Scores | None,
        cuts: rewards.Cuts | None,
    ) -> tuple[Batch, dict[str, jax.Array]]:
        full_mask_bt = jnp.arange(step_bt.shape[1])[None, :] < completions.length_b[:, None]
        process_bt = jnp.zeros(step_bt.shape)
        if scores is not None and cuts is not None:
            process_bt = process_advantage(scores, cuts.valid_k, step_bt, config.reward, group_size=group_size)
        outcome_b = outcome_advantage(outcome, config.reward, group_size=group_size)
        batch = Batch(
            token_bs=jnp.concatenate([jnp.repeat(prompts.token_qs, group_size, axis=0), completions.token_bt], axis=1),
            start_b=jnp.repeat(prompts.start_q, group_size),
            full_mask_bt=full_mask_bt,
            cot_mask_bt=step_bt >= 0,
            old_logprob_bt=completions.logprob_bt,
            ref_logprob_bt=None,
            process_advantage_bt=process_bt,
            outcome_advantage_bt=jnp.where(full_mask_bt, outcome_b[:, None], 0.0),
            gate_b=jnp.asarray(outcome.is_correct_b) & jnp.asarray(outcome.is_well_formed_b),
            images=prompts.images,
        )
        metrics = rollout_metrics(batch, completions, outcome, group_size=group_size)
        if cuts is not None:
            metrics["rollout/steps"] = (cuts.valid_k.sum(1) - 1).mean()
        if scores is not None and cuts is not None:
            metrics |= score_metrics(batch, scores, cuts.valid_k, group_size=group_size)
        return batch, metrics

    return jax.jit(make_train_batch, out_shardings=(row_sharding, None))


def outcome_advantage(outcome: Outcome, reward: RewardConfig, *, group_size: int) -> jax.Array:
    """Return the normalized outcome reward `[B]` of each response.

    A response whose grading timed out is neither right nor wrong: it is left out of its group's mean and standard
    deviation, and gets no advantage.
    """
    reward_b = reward.accuracy * jnp.asarray(outcome.is_correct_b) + reward.format * jnp.asarray(
        outcome.is_well_formed_b
    )
    reward_qg, graded_qg = (x.reshape(-1, group_size) for x in (reward_b, jnp.asarray(outcome.is_graded_b)))
    return advantages.group_normalize(reward_qg, graded_qg, scale=reward.scale, eps=reward.outcome_eps).reshape(-1)


def process_advantage(
    scores: Scores, valid_bk: ArrayLike, step_bt: jax.Array, reward: RewardConfig, *, group_size: int
) -> jax.Array:
    """Return the process advantage `[B, T]` of each token, by trajectory or by step (`reward.credit_level`)."""
    options: dict[str, Any] = {"scale": reward.scale, "eps": reward.process_eps}
    if reward.credit_level == "trajectory":
        return advantages.trajectory_credit(scores.reward_b.reshape(-1, group_size), step_bt, **options)
    gain_qgk = scores.gain_bk.reshape(-1, group_size, scores.gain_bk.shape[1])
    valid_qgk = jnp.asarray(valid_bk)[:, 1:].reshape(gain_qgk.shape)
    return advantages.step_credit(gain_qgk, valid_qgk, step_bt, **options)


# ------------------------------------------------------------------------------------------------------------ metrics


def rollout_metrics(batch: Batch, completions: Completions, outcome: Outcome, *, group_size: int) -> dict:
    """Return statistics of a rollout's responses; accuracy counts graded responses alone."""
    advantage_qg = batch.outcome_advantage_bt[:, 0].reshape(-1, group_size)
    is_correct_b, is_graded_b, is_well_formed_b = (
        jnp.asarray(x) for x in (outcome.is_correct_b, outcome.is_graded_b, outcome.is_well_formed_b)
    )
    return {
        "reward/accuracy": is_correct_b.sum() / jnp.maximum(is_graded_b.sum(), 1),
        "reward/format": is_well_formed_b.mean(),
        "sft/gate": batch.gate_b.mean(),
        "reward/zero_variance_groups": (advantage_qg == 0).all(1).mean(),
        "advantage/outcome": masked_mean(jnp.abs(batch.outcome_advantage_bt), batch.full_mask_bt),
        "rollout/truncated": completions.is_truncated_b.mean(),
        "rollout/length": completions.length_b.mean(),
        "rollout/tokens": completions.length_b.sum(),
    }


def score_metrics(batch: Batch, scores: Scores, valid_bk: ArrayLike, *, group_size: int) -> dict:
    """Return means of the responses' step scores, in the unit of the credit rule (ℓ in nats)."""
    last_b = jnp.take_along_axis(scores.ell_bk, jnp.asarray(valid_bk).sum(1, keepdims=True) - 1, axis=1)
    return {
        "reward/process": scores.reward_b.mean(),
        "reward/process_std_in_group": scores.reward_b.reshape(-1, group_size).std(1).mean(),
        "advantage/process": masked_mean(jnp.abs(batch.process_advantage_bt), batch.cot_mask_bt),
        "ell/first": scores.ell_bk[:, 0].mean(),
        "ell/last": last_b.mean(),
    }


def masked_mean(x_bt: jax.Array, mask_bt: jax.Array) -> jax.Array:
    """Return the mean of `x_bt` where the mask is set; 0 if it is nowhere set."""
    return jnp.where(mask_bt, x_bt, 0.0).sum() / jnp.maximum(mask_bt.sum(), 1)
