"""Problems → completions → steps → probes → rewards → a batch to learn from."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mig_jax import encoding, rewards
from mig_jax.data.sources import Problem
from mig_jax.encoding import Reading
from mig_jax.learning import advantages
from mig_jax.learning.losses import Batch
from mig_jax.models import decoder, sampler, sharding
from mig_jax.policy import Policy, make_logprobs, make_sample
from mig_jax.text.verifier import Item, Verifier
from mig_jax.transcripts import Transcript


class Scores(NamedTuple):
    """What the probes say of B responses, in nats.

    ell_bk, watermark_bk: `[B, K+1]`; gain_bk: `[B, K]`; reward_b: `[B]` process reward.
    """

    ell_bk: chex.Array
    watermark_bk: chex.Array
    gain_bk: chex.Array
    reward_b: chex.Array


class Outcome(NamedTuple):
    """What the checks say of B responses, each `[B]` bool: right, well formed, and whether the check came to an end."""

    is_correct_b: np.ndarray
    is_well_formed_b: np.ndarray
    is_checked_b: np.ndarray


class Collector:
    """Samples, reads, checks and scores: everything between a list of problems and the batch to learn from.

    What runs on the accelerator is compiled once for its shapes; `collect` is called every step.
    """

    def __init__(self, policy: Policy, config: ConfigDict, verifier: Verifier, *, ref_params: Any = None):
        self.policy, self.config, self.verifier, self.ref_params = policy, config, verifier, ref_params
        self.row_sharding = sharding.batch_sharding(policy.mesh)
        r, chunk = config.rollout, config.optimizer.logprob_chunk
        self.sample = make_sample(
            policy, group_size=r.group_size, max_new_tokens=r.max_new_tokens, temperature=r.temperature
        )
        self.score = make_score(policy, group_size=r.group_size, credit=config.reward.credit, chunk=chunk)
        self.assemble = make_assemble(config, self.row_sharding)
        self.ref_logprobs = jax.jit(make_logprobs(policy, temperature=r.temperature, chunk=chunk))

    def collect(
        self, params: Any, problems: Sequence[Problem], key: chex.PRNGKey
    ) -> tuple[Batch, dict[str, float], list[Transcript]]:
        """One rollout of every problem: the batch, metrics by name, and a transcript of every response."""
        watch = Stopwatch()
        prompt_qs, start_q = self.place(encode_prompts(self.policy, self.config, problems))
        completions = self.sample(params, prompt_qs, start_q, key)
        readings = read_completions(self.policy, completions, max_steps=self.config.reward.max_steps)
        watch.lap("rollout")

        # The accelerator scores while the host checks the answers.
        cuts = self.place(rewards.Cuts(np.stack([r.cut_k for r in readings]), np.stack([r.valid_k for r in readings])))
        scores = None
        if self.config.loss.alpha:
            probes = self.place(self.encode_answers(problems))
            scores = self.score(params, completions, start_q, cuts, probes)
        completions = completions._replace(cache=None)
        is_correct = check_answers(self.verifier, problems, readings)
        watch.lap("verify")
        jax.block_until_ready(scores)
        watch.lap("score")

        step_bt = np.stack([r.step_t for r in readings])
        batch, metrics = self.assemble(
            prompt_qs, start_q, completions, scores, cuts, *self.place((outcome_of(is_correct, readings), step_bt))
        )
        if self.ref_params is not None:
            batch = batch._replace(ref_logprob_bt=self.ref_logprobs(self.ref_params, batch)[0])
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        metrics["verifier/timeouts"] = float(is_correct.count(None))
        watch.lap("assemble")
        return batch, metrics | watch.seconds, make_transcripts(problems, readings, is_correct, scores)

    def place(self, tree: Any) -> Any:
        """Host arrays onto the mesh, rows over its data axes."""
        return jax.device_put(tree, self.row_sharding)

    def encode_answers(self, problems: Sequence[Problem]) -> rewards.Answers:
        return encoding.pack_probes(
            self.policy.tokenizer,
            [problem.answer for problem in problems],
            max_variants=self.config.reward.max_variants,
            max_tokens=self.config.data.max_answer_tokens,
        )


class Stopwatch:
    """Seconds of wall clock between laps, by name."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[f"time/{name}"] = now - self.last
        self.last = now


# ------------------------------------------------------------------------------------------------------- on the host


def encode_prompts(policy: Policy, config: ConfigDict, problems: Sequence[Problem]) -> tuple[np.ndarray, np.ndarray]:
    """Prompts `[Q, S']`, padded on the left, and the slot `[Q]` at which each begins."""
    d = config.data
    ids = [encoding.prompt_ids(policy.tokenizer, p.question, system_prompt=d.system_prompt) for p in problems]
    return encoding.pad_left(ids, d.max_prompt_tokens, policy.tokenizer.pad_id)


def read_completions(policy: Policy, completions: sampler.Completions, *, max_steps: int) -> list[Reading]:
    """What each completion says, in the order of the rows."""
    token_bt, length_b, is_truncated_b = jax.device_get(
        (completions.token_bt, completions.length_b, completions.is_truncated_b)
    )
    return [
        encoding.read_completion(
            policy.tokenizer,
            ids[:length].tolist(),
            is_truncated=bool(is_truncated),
            max_steps=max_steps,
            width=len(ids),
        )
        for ids, length, is_truncated in zip(token_bt, length_b, is_truncated_b, strict=True)
    ]


def check_answers(verifier: Verifier, problems: Sequence[Problem], readings: Sequence[Reading]) -> list[bool | None]:
    """Is each response's answer right? None: the check timed out."""
    group_size = len(readings) // len(problems)
    references = [problem.id if problem.kind == "reasoning_gym" else problem.answer for problem in problems]
    owners = [row // group_size for row in range(len(readings))]
    return verifier.check(
        [Item(r.response.answer, references[q], problems[q].kind) for q, r in zip(owners, readings, strict=True)]
    )


def outcome_of(is_correct: Sequence[bool | None], readings: Sequence[Reading]) -> Outcome:
    return Outcome(
        is_correct_b=np.array([correct is True for correct in is_correct]),
        is_well_formed_b=np.array([reading.response.is_well_formed for reading in readings]),
        is_checked_b=np.array([correct is not None for correct in is_correct]),
    )


def make_transcripts(
    problems: Sequence[Problem],
    readings: Sequence[Reading],
    is_correct: Sequence[bool | None],
    scores: Scores | None,
) -> list[Transcript]:
    """A transcript of every response; without numbers where nothing was scored."""
    group_size = len(readings) // len(problems)
    scores = jax.device_get(scores)
    transcripts = []
    for row, (reading, correct) in enumerate(zip(readings, is_correct, strict=True)):
        problem = problems[row // group_size]
        transcript = Transcript(problem.question, reading.text, problem.answer, problem.kind, correct)
        transcripts.append(with_scores(transcript, reading, scores, row))
    return transcripts


def with_scores(transcript: Transcript, reading: Reading, scores: Scores | None, row: int) -> Transcript:
    """The transcript with its steps and, where it was scored, the numbers of its row."""
    n_steps = int(reading.valid_k.sum()) - 1
    steps = tuple(reading.text[step.start : step.end] for step in reading.response.steps[:n_steps])
    transcript = dataclasses.replace(transcript, problem=reading.response.problem, steps=steps)
    if scores is None:
        return transcript
    return dataclasses.replace(
        transcript,
        ell_k=tuple(scores.ell_bk[row, : n_steps + 1].tolist()),
        watermark_k=tuple(scores.watermark_bk[row, : n_steps + 1].tolist()),
        gain_k=tuple(scores.gain_bk[row, :n_steps].tolist()),
    )


# ------------------------------------------------------------------------------------------------ on the accelerator


def make_score(policy: Policy, *, group_size: int, credit: str, chunk: int) -> Callable:
    """Compiled (params, completions, start_q, cuts, answers_q) → Scores, on the cache of the rollout.

    `cuts` count tokens of the completion; answers are those of the questions, shared by each group.
    """

    @jax.jit
    def score(params, completions, start_q, cuts, answers_q) -> Scores:
        model = decoder.bind(policy.config, params)
        slots, width = completions.cache.key_lbsmh.shape[2], completions.token_bt.shape[1]
        position_bs, valid_bs = sampler.row_positions(jnp.repeat(start_q, group_size), slots)
        ell_bk = rewards.score_on_cache(
            model,
            model.unembed_dv(),
            completions.cache,
            rewards.Trunk(position_bs, valid_bs),
            cuts._replace(cut_k=cuts.cut_k + slots - width),
            jax.tree.map(lambda x: jnp.repeat(x, group_size, axis=0), answers_q),
            chunk=chunk,
        )
        return score_likelihood(ell_bk, cuts.valid_k, credit=credit)

    return score


def score_likelihood(ell_bk: chex.Array, valid_bk: chex.Array, *, credit: str) -> Scores:
    """ℓ → watermark, and the gains and the process reward of the named credit."""
    _, watermark_bk = jax.vmap(rewards.watermark_gains)(ell_bk, valid_bk)
    earned = jax.vmap(rewards.CREDITS[credit])(ell_bk, valid_bk)
    return Scores(ell_bk, watermark_bk, earned.gain_k, earned.reward)


def make_assemble(config: ConfigDict, row_sharding: Any) -> Callable:
    """Compiled (prompts, completions, scores, outcome, …) → (Batch, metrics)."""
    r, w, temperature = config.rollout, config.reward, config.rollout.temperature
    assert temperature > 0, "greedy rollouts hold nothing to compare within a group"

    def assemble(prompt_qs, start_q, completions, scores, cuts, outcome: Outcome, step_bt):
        def grouped(x_b):
            return x_b.reshape(-1, r.group_size)

        width = completions.token_bt.shape[1]
        full_mask_bt = jnp.arange(width)[None, :] < completions.length_b[:, None]
        outcome_b = w.accuracy * outcome.is_correct_b + w.format * outcome.is_well_formed_b
        # A response whose check timed out is neither right nor wrong: it has no part in its group's baseline.
        outcome_qg, checked_qg = grouped(outcome_b), grouped(outcome.is_checked_b)
        outcome_b = advantages.group_normalize(outcome_qg, checked_qg, by_std=w.by_std).reshape(-1)
        process_bt = jnp.zeros(full_mask_bt.shape)
        if scores is not None:
            process_bt = process_advantage(scores, cuts, step_bt, assign=w.assign, by_std=w.by_std, group=r.group_size)
        batch = Batch(
            token_bs=jnp.concatenate([jnp.repeat(prompt_qs, r.group_size, axis=0), completions.token_bt], axis=1),
            start_b=jnp.repeat(start_q, r.group_size),
            full_mask_bt=full_mask_bt,
            cot_mask_bt=step_bt >= 0,
            old_logprob_bt=completions.logprob_bt,
            ref_logprob_bt=None,
            process_advantage_bt=process_bt,
            outcome_advantage_bt=jnp.where(full_mask_bt, outcome_b[:, None], 0.0),
            gate_b=outcome.is_correct_b & outcome.is_well_formed_b,
        )
        return batch, rollout_metrics(batch, completions, scores, cuts, outcome, grouped)

    return jax.jit(assemble, out_shardings=(row_sharding, None))


def process_advantage(scores: Scores, cuts, step_bt, *, assign: str, by_std: bool, group: int) -> chex.Array:
    """The process advantage of every token `[B, T]`, by trajectory or by step."""
    if assign == "trajectory":
        return advantages.trajectory_credit(scores.reward_b.reshape(-1, group), step_bt, by_std=by_std)
    gain_qgk = scores.gain_bk.reshape(-1, group, scores.gain_bk.shape[1])
    valid_qgk = cuts.valid_k[:, 1:].reshape(gain_qgk.shape)
    return advantages.step_credit(gain_qgk, valid_qgk, step_bt, by_std=by_std)


def rollout_metrics(batch: Batch, completions, scores, cuts, outcome: Outcome, grouped: Callable) -> dict:
    """Means over the responses of a rollout."""
    reward_qg = grouped(outcome.is_correct_b * 1.0 + outcome.is_well_formed_b)
    metrics = {
        "reward/accuracy": outcome.is_correct_b.mean(),
        "reward/format": outcome.is_well_formed_b.mean(),
        "reward/gate": batch.gate_b.mean(),
        "reward/zero_variance_groups": (reward_qg.max(1) == reward_qg.min(1)).mean(),
        "advantage/outcome": masked_mean(jnp.abs(batch.outcome_advantage_bt), batch.full_mask_bt),
        "rollout/truncated": completions.is_truncated_b.mean(),
        "rollout/length": completions.length_b.mean(),
        "rollout/tokens": completions.length_b.sum(),
        "rollout/steps": (cuts.valid_k.sum(1) - 1).mean(),
    }
    if scores is not None:
        last_b = jnp.take_along_axis(scores.ell_bk, cuts.valid_k.sum(1, keepdims=True) - 1, axis=1)
        metrics |= {
            "reward/process": scores.reward_b.mean(),
            "reward/process_std_in_group": grouped(scores.reward_b).std(1).mean(),
            "advantage/process": masked_mean(jnp.abs(batch.process_advantage_bt), batch.cot_mask_bt),
            "ell/first": scores.ell_bk[:, 0].mean(),
            "ell/last": last_b.mean(),
        }
    return metrics


def masked_mean(x_bt: chex.Array, mask_bt: chex.Array) -> chex.Array:
    return jnp.where(mask_bt, x_bt, 0.0).sum() / jnp.maximum(mask_bt.sum(), 1)
