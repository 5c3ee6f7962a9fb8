"""Build the batch that an update trains on, for RL and for SFT: masks, advantages, SFT gates; compiled."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from mig_jax.config import Config, RewardConfig
from mig_jax.learning import advantages
from mig_jax.learning.losses import Batch
from mig_jax.models.sampler import Completions, Prompts
from mig_jax.parts import find_part
from mig_jax.rewards.gains import find_rule
from mig_jax.rollout.scoring import ProbedSteps, Scores, compute_scores


class TrainBatch(NamedTuple):
    """A batch to train on, and what was found on the way.

    batch: the rows of the update.
    metrics: scalars by name; nan where a mean is over nothing.
    scores: step scores; None when nothing was probed.
    has_signal_q: `[Q]` bool, the rewards of the group differ; by the outcome reward, or the process reward if β = 0.
    """

    batch: Batch
    metrics: dict[str, jax.Array]
    scores: Scores | None
    has_signal_q: jax.Array


class Outcome(NamedTuple):
    """Grades and outcome rewards of B responses, each `[B]`.

    is_correct_b: bool, the answer is correct.
    is_well_formed_b: bool, the response has the requested format.
    is_graded_b: bool, grading finished in time.
    reward_b: float32, the outcome reward: the weighted sum of `reward.outcomes`.
    is_rewarded_b: bool, all of them gave a number.
    """

    is_correct_b: ArrayLike
    is_well_formed_b: ArrayLike
    is_graded_b: ArrayLike
    reward_b: ArrayLike
    is_rewarded_b: ArrayLike


def make_outcome(
    is_correct: Sequence[bool | None], is_well_formed: Sequence[bool], reward_b: ArrayLike, is_rewarded_b: ArrayLike
) -> Outcome:
    """Stack grades; None in `is_correct` means that grading timed out."""
    return Outcome(
        is_correct_b=np.array([correct is True for correct in is_correct]),
        is_well_formed_b=np.array(is_well_formed),
        is_graded_b=np.array([correct is not None for correct in is_correct]),
        reward_b=np.asarray(reward_b, np.float32),
        is_rewarded_b=np.asarray(is_rewarded_b, bool),
    )


def make_train_batch_fn(config: Config, row_sharding: Any, *, group_size: int) -> Callable[..., TrainBatch]:
    """Return a compiled function: (prompts, completions, outcome, steps, ell_bk, *, width) -> `TrainBatch`.

    Args:
      config: its section `reward` says how rewards become advantages.
      row_sharding: sharding of the batch's rows.
      group_size: G, rows of each prompt.

    The function's arguments:
      prompts, completions: as sampled, or SFT targets instead of samples.
      outcome: their grades.
      steps: their steps.
      ell_bk: `[B, K+1]` answer likelihoods in nats; None when nothing was probed.
      width: of the completions of the batch, see `widths`; None for that of `completions`.
    """
    w = config.reward

    def make_train_batch(
        prompts: Prompts,
        completions: Completions,
        outcome: Outcome,
        steps: ProbedSteps,
        ell_bk: jax.Array | None,
        *,
        width: int | None = None,
    ) -> TrainBatch:
        width = width or completions.token_bt.shape[1]
        token_bt, logprob_bt = completions.token_bt[:, :width], completions.logprob_bt[:, :width]
        steps = steps._replace(step_bt=steps.step_bt[:, :width])
        is_kept_b = ~completions.is_truncated_b if w.overlong == "mask" else jnp.ones_like(completions.is_truncated_b)
        full_mask_bt = (jnp.arange(width)[None, :] < completions.length_b[:, None]) & is_kept_b[:, None]
        cot_mask_bt = (steps.step_bt >= 0) & is_kept_b[:, None]
        scores, process_bt = None, jnp.zeros(full_mask_bt.shape)
        if ell_bk is not None:
            scores = compute_scores(ell_bk, steps, jnp.asarray(outcome.is_correct_b), w, group_size=group_size)
            process_bt = process_advantage(scores, steps, outcome, w, group_size=group_size)
        reward_b, rewarded_b = jnp.asarray(outcome.reward_b), jnp.asarray(outcome.is_rewarded_b)
        outcome_b = outcome_advantage(reward_b, rewarded_b, w, group_size=group_size)
        batch = Batch(
            token_bs=jnp.concatenate([jnp.repeat(prompts.token_qs, group_size, axis=0), token_bt], axis=1),
            start_b=jnp.repeat(prompts.start_q, group_size),
            full_mask_bt=full_mask_bt,
            cot_mask_bt=cot_mask_bt,
            old_logprob_bt=logprob_bt,
            sampler_weight_bt=None,
            ref_logprob_bt=None,
            process_advantage_bt=jnp.where(cot_mask_bt, process_bt, 0.0),
            outcome_advantage_bt=jnp.where(full_mask_bt, outcome_b[:, None], 0.0),
            gate_b=jnp.asarray(outcome.is_correct_b) & jnp.asarray(outcome.is_well_formed_b),
            images=prompts.images,
        )
        metrics = rollout_metrics(batch, completions, outcome, steps)
        differs_q = rewards_differ(reward_b, rewarded_b, group_size=group_size)
        metrics["reward/zero_variance_groups"] = 1.0 - differs_q.mean()
        if scores is not None:
            metrics |= score_metrics(batch, scores, outcome, steps, group_size=group_size)
            if not config.loss.beta:
                differs_q = rewards_differ(scores.reward_b, jnp.asarray(outcome.is_graded_b), group_size=group_size)
        return TrainBatch(batch, metrics, scores, differs_q)

    shardings: Any = TrainBatch._make((row_sharding, None, row_sharding, None))
    return jax.jit(make_train_batch, static_argnames="width", out_shardings=shardings)


def outcome_advantage(
    reward_b: jax.Array, is_rewarded_b: jax.Array, reward: RewardConfig, *, group_size: int
) -> jax.Array:
    """Return the advantage `[B]` of each response's outcome reward.

    A response without a reward, as one that cannot be graded, is left out of its group's mean and standard deviation,
    and gets no advantage.
    """
    reward_qg, valid_qg = (x.reshape(-1, group_size) for x in (reward_b, is_rewarded_b))
    return advantages.normalize(
        reward_qg, valid_qg, advantage=reward.advantage, scale=reward.outcome_scale, eps=reward.outcome_eps
    ).reshape(-1)


def process_advantage(
    scores: Scores, steps: ProbedSteps, outcome: Outcome, reward: RewardConfig, *, group_size: int
) -> jax.Array:
    """Return the process advantage `[B, T]` of each token, by trajectory or by step (`reward.credit_level`).

    A response that cannot be graded has no part in its group. One without an outcome reward for another reason has.
    """
    reward_qg, gain_qgk, valid_qgk, graded_qg = (
        jnp.reshape(x, (-1, group_size, *jnp.shape(x)[1:]))
        for x in (scores.reward_b, scores.gain_bk, jnp.asarray(steps.valid_bk)[:, 1:], outcome.is_graded_b)
    )
    return find_part(reward.credit_level, advantages.CREDIT_LEVELS, key="reward.credit_level")(
        reward_qg,
        gain_qgk,
        valid_qgk,
        steps.step_bt,
        discount=reward.step_discount,
        advantage=reward.advantage,
        scale=reward.process_scale,
        eps=reward.process_eps[find_rule(reward.credit).unit],
        valid_qg=graded_qg,
    )


# ------------------------------------------------------------------------------------------------------------ metrics


def rewards_differ(reward_b: jax.Array, valid_b: jax.Array, *, group_size: int) -> jax.Array:
    """Return `[Q]` bool, whether the valid samples of each group earn different rewards."""
    reward_qg, valid_qg = reward_b.reshape(-1, group_size), valid_b.reshape(-1, group_size)
    highest_q = jnp.where(valid_qg, reward_qg, -jnp.inf).max(1)
    return highest_q > jnp.where(valid_qg, reward_qg, jnp.inf).min(1)


def rollout_metrics(
    batch: Batch, completions: Completions, outcome: Outcome, steps: ProbedSteps
) -> dict[str, jax.Array]:
    """Return statistics of a rollout's responses; accuracy counts graded responses alone.

    A mean over no response is nan.
    """
    is_correct_b, is_graded_b, is_well_formed_b = (
        jnp.asarray(x) for x in (outcome.is_correct_b, outcome.is_graded_b, outcome.is_well_formed_b)
    )
    n_steps_b = jnp.asarray(steps.count_bk).sum(1)
    n_probed_b = jnp.asarray(steps.valid_bk).sum(1) - 1
    return {
        "reward/accuracy": is_correct_b.sum() / jnp.maximum(is_graded_b.sum(), 1),
        "reward/format": is_well_formed_b.mean(),
        "sft/gate": batch.gate_b.mean(),
        "advantage/outcome": masked_mean(jnp.abs(batch.outcome_advantage_bt), batch.full_mask_bt),
        "rollout/truncated": completions.is_truncated_b.mean(),
        "rollout/length": completions.length_b.mean(),
        "rollout/tokens": completions.length_b.sum(),
        "rollout/steps": n_steps_b.mean(),
        "rollout/steps_not_probed": (n_steps_b - n_probed_b).mean(),
        "rollout/another_step_if_correct": another_step(n_steps_b, is_correct_b),
        "rollout/another_step_if_wrong": another_step(n_steps_b, is_graded_b & ~is_correct_b),
    }


def another_step(n_steps_b: jax.Array, chosen_b: jax.Array) -> jax.Array:
    """Return the share of steps that another step follows, over the chosen responses; nan if they have no step."""
    n_steps_b = jnp.where(chosen_b, n_steps_b, 0)
    return jnp.maximum(n_steps_b - 1, 0).sum() / n_steps_b.sum()


def score_metrics(
    batch: Batch, scores: Scores, outcome: Outcome, steps: ProbedSteps, *, group_size: int
) -> dict[str, jax.Array]:
    """Return means of the responses' step scores, in the unit of the credit rule (ℓ in nats)."""
    last_b = jnp.take_along_axis(scores.ell_bk, jnp.asarray(steps.valid_bk).sum(1, keepdims=True) - 1, axis=1)[:, 0]
    wrong_b = jnp.asarray(outcome.is_graded_b) & ~jnp.asarray(outcome.is_correct_b)
    return {
        "reward/process": scores.reward_b.mean(),
        "reward/process_if_wrong": jnp.where(wrong_b, scores.reward_b, 0.0).sum() / wrong_b.sum(),
        "reward/process_std_in_group": scores.reward_b.reshape(-1, group_size).std(1).mean(),
        "advantage/process": masked_mean(jnp.abs(batch.process_advantage_bt), batch.cot_mask_bt),
        "ell/first": scores.ell_bk[:, 0].mean(),
        "ell/last": last_b.mean(),
        "ell/fall": (scores.watermark_bk[:, -1] - last_b).mean(),
    }


def masked_mean(x_bt: jax.Array, mask_bt: jax.Array) -> jax.Array:
    """Return the mean of `x_bt` where the mask is set; 0 if it is nowhere set."""
    return jnp.where(mask_bt, x_bt, 0.0).sum() / jnp.maximum(mask_bt.sum(), 1)
