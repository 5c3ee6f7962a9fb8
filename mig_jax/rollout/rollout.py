"""One rollout: prompts to completions, grades, step scores and a batch to train on."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mig_jax import rewards
from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.learning.losses import Batch
from mig_jax.policy.completions import ParsedCompletion, parse_completions
from mig_jax.policy.encoding import pack_probes
from mig_jax.policy.generate import Sampler, make_encode_images_fn, make_rollout_params_fn, make_sampler
from mig_jax.policy.load import Policy, strip_adapters
from mig_jax.policy.logprobs import make_logprob_fn
from mig_jax.policy.prompts import PromptBatch
from mig_jax.records.transcripts import Transcript
from mig_jax.rollout.batch import make_outcome, make_train_batch_fn
from mig_jax.rollout.grading import grade_answers
from mig_jax.rollout.scoring import Scores, make_score_fn
from mig_jax.text.answers.verifier import Verifier


class RolloutResult(NamedTuple):
    """The result of one rollout, or of one batch of SFT targets.

    batch: on the mesh.
    metrics: numbers by name; times are in seconds.
    transcripts: one for each response; empty in SFT.
    """

    batch: Batch
    metrics: dict[str, Any]
    transcripts: list[Transcript]


class RolloutFunctions(NamedTuple):
    """The compiled functions of a rollout; each compiles at its first call."""

    rollout_params: Callable
    encode_images: Callable
    sample: Sampler
    score: Callable
    make_train_batch: Callable
    ref_logprobs: Callable


def make_rollout_functions(policy: Policy, config: Config) -> RolloutFunctions:
    """Return the compiled functions of a rollout. Chunks are sized so that peak logit memory equals an update's."""
    r, row_sharding = config.rollout, sharding.batch_sharding(policy.mesh)
    chunk = max(1, config.optimizer.logprob_chunk // config.optimizer.microbatches)
    ref_logprobs = make_logprob_fn(strip_adapters(policy), temperature=r.temperature, chunk=chunk)
    return RolloutFunctions(
        rollout_params=make_rollout_params_fn(policy, gather=r.gather_params),
        encode_images=make_encode_images_fn(policy),
        sample=make_sampler(policy, r, group_size=r.group_size, temperature=r.temperature),
        score=make_score_fn(policy, config.reward, chunk=chunk),
        make_train_batch=make_train_batch_fn(config, row_sharding, group_size=r.group_size),
        ref_logprobs=jax.jit(ref_logprobs, out_shardings=row_sharding),
    )


class Rollout:
    """Samples, grades and scores a batch of prompts: (params, prompt_batch, key) -> `RolloutResult`.

    Args:
      policy: what is sampled from; its parameters are an argument of each call.
      config: the run's config.
      verifier: grades answers.
      kl_reference: maps the current parameters to those of the KL reference, without adapters; None without KL.
    """

    def __init__(
        self,
        policy: Policy,
        config: Config,
        verifier: Verifier,
        *,
        kl_reference: Callable[[Any], Any] | None = None,
    ):
        self.policy, self.config, self.verifier, self.kl_reference = policy, config, verifier, kl_reference
        self.compiled = make_rollout_functions(policy, config)

    def __call__(self, params: Any, prompt_batch: PromptBatch, key: jax.Array) -> RolloutResult:
        problems, fns = prompt_batch.problems, self.compiled
        jax.block_until_ready(params)  # do not count the end of the last update as rollout time
        watch = Stopwatch()
        rollout_params = fns.rollout_params(params)
        prompts = fns.encode_images(rollout_params, sharding.to_mesh(prompt_batch.prompts, self.policy.mesh))
        completions = fns.sample(rollout_params, prompts, key)
        parsed = parse_completions(self.policy, completions, max_steps=self.config.reward.max_steps)
        watch.lap("rollout")

        # The accelerator scores while the host grades.
        cuts = self.to_mesh(stack_cuts(parsed))
        scores = None
        if self.config.loss.alpha:
            probes = self.to_mesh(self.pack_probes(problems))
            scores = fns.score(rollout_params, prompts, completions, cuts, probes)
        completions, rollout_params = completions._replace(cache=()), None  # free their memory for the update
        repeated = [problem for problem in problems for _ in range(len(parsed) // len(problems))]
        is_correct = grade_answers(self.verifier, repeated, [completion.response.answer for completion in parsed])
        watch.lap("grade")
        jax.block_until_ready(scores)
        watch.lap("score")

        outcome = make_outcome(is_correct, [completion.response.is_well_formed for completion in parsed])
        step_bt = np.stack([completion.step_t for completion in parsed])
        batch, metrics = fns.make_train_batch(prompts, completions, *self.to_mesh((outcome, step_bt)), scores, cuts)
        if self.kl_reference:
            batch = batch._replace(ref_logprob_bt=fns.ref_logprobs(self.kl_reference(params), batch)[0])
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        metrics["verifier/timeouts"] = float(is_correct.count(None))
        watch.lap("make_batch")
        return RolloutResult(batch, metrics | watch.seconds, make_transcripts(repeated, parsed, is_correct, scores))

    def to_mesh(self, tree: Any) -> Any:
        """Shard host arrays of all rows over the mesh, by row."""
        mesh = self.policy.mesh
        return sharding.to_mesh(sharding.local_rows(tree, mesh), mesh)

    def pack_probes(self, problems: Sequence[Problem]) -> rewards.Answers:
        """Pack the variants of the problems' reference answers, within the limits of the config."""
        limits = self.config.reward.max_variants, self.config.data.max_answer_tokens
        return pack_probes(self.policy.tokenizer, problems, max_variants=limits[0], max_tokens=limits[1])


class Stopwatch:
    """Wall-clock seconds between laps, by name."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Record the time since the last lap as `time/NAME`."""
        now = time.perf_counter()
        self.seconds[f"time/{name}"] = now - self.last
        self.last = now


def stack_cuts(parsed: Sequence[ParsedCompletion]) -> rewards.Cuts:
    """Stack the probe positions of completions."""
    return rewards.Cuts(np.stack([p.cut_k for p in parsed]), np.stack([p.valid_k for p in parsed]))


def make_transcripts(
    problems: Sequence[Problem],
    parsed: Sequence[ParsedCompletion],
    is_correct: Sequence[bool | None],
    scores: Scores | None,
) -> list[Transcript]:
    """Return a transcript of every response; `problems` has one entry for each. Without scores there are no gains."""
    scores = sharding.to_host(scores)
    transcripts = []
    for row, (problem, completion, correct) in enumerate(zip(problems, parsed, is_correct, strict=True)):
        transcript = Transcript(
            question=problem.question,
            response=completion.text,
            answer=problem.answer,
            kind=problem.kind,
            is_correct=correct,
            images=problem.images,
            id=problem.id,
            choices=problem.choices,
            level=problem.level,
            subject=problem.subject,
            source=problem.source,
        )
        transcripts.append(add_scores(transcript, completion, scores, row))
    return transcripts


def add_scores(transcript: Transcript, completion: ParsedCompletion, scores: Scores | None, row: int) -> Transcript:
    """Return the transcript with its steps and, if there are scores, the numbers of its row."""
    n_steps = int(completion.valid_k.sum()) - 1
    steps = tuple(completion.text[step.start : step.end] for step in completion.response.steps[:n_steps])
    format_error = completion.response.format_error or ""
    transcript = dataclasses.replace(transcript, format_error=format_error, steps=steps)
    if scores is None:
        return transcript
    return dataclasses.replace(
        transcript,
        ell_k=tuple(scores.ell_bk[row, : n_steps + 1].tolist()),
        watermark_k=tuple(scores.watermark_bk[row, : n_steps + 1].tolist()),
        gain_k=tuple(scores.gain_bk[row, :n_steps].tolist()),
    )
