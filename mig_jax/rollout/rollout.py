"""One rollout: prompts to completions, grades, step scores and a batch to train on."""

import contextlib
import dataclasses
import functools
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.distributed.out_of_memory import explain_out_of_memory
from mig_jax.learning.losses import Batch, importance_weights
from mig_jax.models.sampler import Completions, Prompts
from mig_jax.policy.completions import ParsedCompletion, parse_completions
from mig_jax.policy.generate import Sampler, make_encode_images_fn, make_rollout_params_fn, make_sampler
from mig_jax.policy.load import Policy, strip_adapters
from mig_jax.policy.logprobs import make_logprob_fn, vocab_block
from mig_jax.policy.prompts import PromptBatch
from mig_jax.records.transcripts import Transcript
from mig_jax.rollout import widths
from mig_jax.rollout.batch import make_outcome, make_train_batch_fn
from mig_jax.rollout.grading import GradedAnswers, grade_completions
from mig_jax.rollout.outcome_rewards import Earned, OutcomeRewards, make_samples
from mig_jax.rollout.scoring import ProbedSteps, Probes, Scores, build_probes, make_likelihood_fn, stack_steps
from mig_jax.text.answers.verifier import Grade, Verifier
from mig_jax.text.step_format import MIG, StepFormat


class RolloutResult(NamedTuple):
    """The result of one rollout, or of one batch of SFT targets.

    batch: on the mesh.
    metrics: numbers by name; times are in seconds.
    transcripts: one for each response; empty in SFT.
    has_signal_q: `[Q]` bool on the host, the samples of a prompt earn different rewards; empty in SFT.
    """

    batch: Batch
    metrics: dict[str, Any]
    transcripts: list[Transcript]
    has_signal_q: np.ndarray


class RolloutFunctions(NamedTuple):
    """The compiled functions of a rollout; each compiles at its first call."""

    rollout_params: Callable
    encode_images: Callable
    sample: Sampler
    likelihood: Callable
    make_train_batch: Callable
    ref_logprobs: Callable
    recompute_logprobs: Callable


def make_rollout_functions(policy: Policy, config: Config) -> RolloutFunctions:
    """Return the compiled functions of a rollout."""
    r, row_sharding = config.rollout, sharding.batch_sharding(policy.mesh)
    chunk = config.optimizer.logprob_tokens
    logprob_options: dict[str, Any] = {"temperature": r.temperature, "chunk": chunk, "block": vocab_block(policy)}
    ref_logprobs = make_logprob_fn(strip_adapters(policy), **logprob_options)
    logprobs = make_logprob_fn(policy, **logprob_options)

    def recompute_logprobs(params: Any, batch: Batch) -> Batch:
        old_logprob_bt = logprobs(params, batch)[0]
        weight_bt = None
        if cap := config.loss.importance_cap:
            weight_bt = importance_weights(old_logprob_bt, batch.old_logprob_bt, batch.full_mask_bt, cap=cap)
        return batch._replace(old_logprob_bt=old_logprob_bt, sampler_weight_bt=weight_bt)

    return RolloutFunctions(
        rollout_params=make_rollout_params_fn(policy, gather=r.gather_params),
        encode_images=make_encode_images_fn(policy),
        sample=make_sampler(policy, r, group_size=r.group_size, temperature=r.temperature),
        likelihood=make_likelihood_fn(policy, config.reward, chunk=chunk),
        make_train_batch=make_train_batch_fn(config, row_sharding, group_size=r.group_size),
        ref_logprobs=jax.jit(ref_logprobs, out_shardings=row_sharding),
        recompute_logprobs=jax.jit(recompute_logprobs, out_shardings=row_sharding),
    )


class Rollout:
    """Samples, grades and scores a batch of prompts: (params, prompt_batch, key) -> `RolloutResult`.

    Args:
      policy: what is sampled from; its parameters are an argument of each call.
      config: the run's config.
      verifier: grades answers.
      kl_reference: maps the current parameters to those of the KL reference, without adapters; None without KL.
      outcome_rewards: computes outcome rewards; None for new ones of the config.
      on_shapes: called with the shapes of a batch as soon as they are known, before scoring, if they are new: a
        `Batch` of `jax.ShapeDtypeStruct`s.
    """

    def __init__(
        self,
        policy: Policy,
        config: Config,
        verifier: Verifier,
        *,
        kl_reference: Callable[[Any], Any] | None = None,
        outcome_rewards: OutcomeRewards | None = None,
        on_shapes: Callable[[Batch], None] | None = None,
    ):
        self.policy, self.config, self.verifier, self.kl_reference = policy, config, verifier, kl_reference
        self.outcome_rewards = outcome_rewards or OutcomeRewards(config)
        self.on_shapes, self._known_shapes = on_shapes, set()
        self.compiled = make_rollout_functions(policy, config)

    def __call__(self, params: Any, prompt_batch: PromptBatch, key: jax.Array) -> RolloutResult:
        fns, w, problems = self.compiled, self.config.reward, prompt_batch.problems
        # An error of a program is raised where its results are first waited for.
        with self.memory_of("update"):
            jax.block_until_ready(params)  # do not count the end of the last update as rollout time
        watch = Stopwatch()
        (longest,) = widths.longest_of_all(widths.longest_prompt(prompt_batch.prompts))
        with self.memory_of("sampling"):
            rollout_params = fns.rollout_params(params)
            prompts = sharding.to_mesh(widths.cut_prompts(prompt_batch.prompts, longest), self.policy.mesh)
            prompts = fns.encode_images(rollout_params, prompts)
            finish = fns.sample.start(rollout_params, prompts, key)
            probes = self.make_probes(problems)  # while the accelerator decodes
            completions = finish()
            watch.lap("rollout")
            parsed = parse_completions(self.policy, completions, max_steps=w.max_steps, process_mask=w.process_mask)

        limit = completions.token_bt.shape[1]
        width = widths.choose_width(max(len(completion.ids) for completion in parsed), limit)
        with self.memory_of("scoring"):
            cuts, steps = self.to_mesh(stack_steps(parsed, max_steps=w.max_steps))
            self.announce_shapes(params, prompts, completions, steps, width)
            # The accelerator scores while the host grades.
            ell_bk = fns.likelihood(rollout_params, prompts, completions, cuts, probes) if probes else None
            completions, rollout_params = completions._replace(cache=()), None  # free their memory for the update
            watch.lap("host")
            repeated = [problem for problem in problems for _ in range(len(parsed) // len(problems))]
            step_format = self.policy.tokenizer.format
            graded = grade_completions(self.verifier, repeated, parsed, reading=w.reading, format=step_format)
            is_correct = [grade.is_correct for grade in graded.grades]
            samples = make_samples(repeated, parsed, graded.answers, is_correct, max_tokens=limit)
            earned = self.outcome_rewards(samples, group_size=self.config.rollout.group_size)
            watch.lap("grade")
            jax.block_until_ready(ell_bk)
        watch.lap("score")

        is_well_formed = [completion.response.is_well_formed for completion in parsed]
        outcome = self.to_mesh(make_outcome(is_correct, is_well_formed, earned.reward_b, earned.is_valid_b))
        made = fns.make_train_batch(prompts, completions, outcome, steps, ell_bk, width=width)
        with self.memory_of("reference"):
            batch = self.add_logprobs(params, made.batch)
            metrics, has_signal_q, scores = sharding.to_host((made.metrics, made.has_signal_q, made.scores))
        watch.lap("make_batch")
        # A mean over nothing is nan: it is left out.
        metrics = {name: float(value) for name, value in metrics.items() if not np.isnan(value)}
        metrics |= text_metrics(repeated, parsed, graded.grades, scores, step_format) | earned.metrics
        transcripts = make_transcripts(repeated, parsed, graded, scores, earned)
        watch.lap("host")
        return RolloutResult(batch, metrics | watch.seconds, transcripts, has_signal_q)

    def announce_shapes(
        self, params: Any, prompts: Prompts, completions: Completions, steps: ProbedSteps, width: int
    ) -> None:
        """Call `on_shapes` with the shapes of the batch that will be made of these completions, if they are new."""
        sizes = prompts.token_qs.shape[1], width
        if self.on_shapes is None or sizes in self._known_shapes:
            return
        self._known_shapes.add(sizes)
        rows, ell_bk = len(completions.token_bt), None
        if self.config.loss.alpha:
            ell_bk = jax.ShapeDtypeStruct(steps.valid_bk.shape, "float32", sharding=steps.valid_bk.sharding)
        outcome = self.to_mesh(make_outcome([None] * rows, [False] * rows, np.zeros(rows), np.zeros(rows)))
        make_batch = functools.partial(self.compiled.make_train_batch, width=width)
        made = jax.eval_shape(make_batch, prompts, completions._replace(cache=()), outcome, steps, ell_bk)
        self.on_shapes(jax.eval_shape(self.add_logprobs, params, made.batch))

    def make_probes(self, problems: Sequence[Problem]) -> Probes | None:
        """Return the probes of prompts, on the mesh; None if the process stream is off."""
        if not self.config.loss.alpha:
            return None
        limit = self.config.data.max_answer_tokens
        return self.to_mesh(build_probes(self.policy, self.config.reward, problems, max_answer_tokens=limit))

    def add_logprobs(self, params: Any, batch: Batch) -> Batch:
        """Return the batch with the log-probs that the loss compares with, where the config asks for them."""
        if self.config.loss.old_logprobs == "recomputed":
            batch = self.compiled.recompute_logprobs(params, batch)
        if self.kl_reference:
            ref_logprob_bt, *_ = self.compiled.ref_logprobs(self.kl_reference(params), batch)
            batch = batch._replace(ref_logprob_bt=ref_logprob_bt)
        return batch

    def memory_of(self, program: str) -> contextlib.AbstractContextManager[None]:
        """Explain an out-of-memory error of a block as one of a program."""
        return explain_out_of_memory(program, self.config)

    def to_mesh(self, tree: Any) -> Any:
        """Shard host arrays of all rows over the mesh, by row."""
        mesh = self.policy.mesh
        return sharding.to_mesh(sharding.local_rows(tree, mesh), mesh)


class Stopwatch:
    """Wall-clock seconds between laps, by name."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to `time/NAME`."""
        now = time.perf_counter()
        self.seconds[f"time/{name}"] = self.seconds.get(f"time/{name}", 0.0) + now - self.last
        self.last = now


def text_metrics(
    problems: Sequence[Problem],
    parsed: Sequence[ParsedCompletion],
    grades: Sequence[Grade],
    scores: Scores | None,
    format: StepFormat = MIG,
) -> dict[str, float]:
    """Return statistics of what responses say: where they name the reference answer, and whose check timed out.

    Args:
      problems: one for each response.
      parsed: the responses.
      grades: of their answers.
      scores: of their steps, on the host; None when nothing was probed.
      format: of the responses.
    """
    timed_out = [row for row, grade in enumerate(grades) if grade.timed_out]
    named_early = [
        names_answer_early(completion, problem.answer, format)
        for problem, completion in zip(problems, parsed, strict=True)
    ]
    metrics = {"rollout/answer_named_early": float(np.mean(named_early)), "verifier/timeouts": float(len(timed_out))}
    if scores is not None:
        metrics["verifier/timeouts_paid"] = float(sum(scores.reward_b[row] > 0 for row in timed_out))
    return metrics


def names_answer_early(completion: ParsedCompletion, answer: str, format: StepFormat = MIG) -> bool:
    """Return whether the reasoning before the last step contains the reference answer, as words of its own.

    The numbers of step headers do not count, and neither does a part of a decimal number.
    """
    *early, _ = completion.response.steps or (None,)
    if not early:
        return False
    text = completion.text[completion.response.cot.start : early[-1].end]
    text = format.headers.without_headers(text) if format.headers else text
    return re.search(rf"(?<!\w)(?<!\d\.){re.escape(answer.strip())}(?!\w|\.\d)", text) is not None


def make_transcripts(
    problems: Sequence[Problem],
    parsed: Sequence[ParsedCompletion],
    graded: GradedAnswers | None,
    scores: Scores | None,
    earned: Earned | None = None,
) -> list[Transcript]:
    """Return a transcript of every response; `problems` has one entry for each.

    Without grades there are no verdicts, and without scores no gains.
    """
    transcripts = []
    for row, (problem, completion) in enumerate(zip(problems, parsed, strict=True)):
        transcript = Transcript(
            question=problem.question,
            response=completion.text,
            answer=problem.answer,
            kind=problem.kind,
            is_correct=graded.is_correct[row] if graded else None,
            is_correct_lenient=graded.is_correct_lenient[row] if graded else None,
            rewards=earned.of_row(row) if earned else {},
            answered=completion.response.answer or "",
            images=problem.images,
            id=problem.id,
            choices=problem.choices,
            level=problem.level,
            subject=problem.subject,
            source=problem.source,
            history=problem.history,
        )
        transcripts.append(add_scores(transcript, completion, scores, row))
    return transcripts


def add_scores(transcript: Transcript, completion: ParsedCompletion, scores: Scores | None, row: int) -> Transcript:
    """Return the transcript with its steps and, if there are scores, the numbers of its row.

    Steps that share a probe are joined.
    """
    n_probed, format_error = len(completion.counts), completion.response.format_error or ""
    last = np.cumsum((0, *completion.counts))
    steps = completion.response.steps
    texts = tuple(
        completion.text[steps[first].start : steps[end - 1].end] for first, end in zip(last, last[1:], strict=False)
    )
    transcript = dataclasses.replace(transcript, format_error=format_error, steps=texts)
    if scores is None:
        return transcript
    return dataclasses.replace(
        transcript,
        ell_k=tuple(scores.ell_bk[row, : n_probed + 1].tolist()),
        watermark_k=tuple(scores.watermark_bk[row, : n_probed + 1].tolist()),
        gain_k=tuple(scores.gain_bk[row, :n_probed].tolist()),
    )
