"""Problems → completions → steps → probes → rewards → a batch to learn from."""

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
from mig_jax.models import sampler
from mig_jax.policy import encoding
from mig_jax.policy.encoding import ParsedCompletion
from mig_jax.policy.generate import Sampler, make_encode_images, make_rollout_params, make_sampler
from mig_jax.policy.load import Policy, make_logprob_fn, strip_adapters
from mig_jax.policy.prompts import PromptBatch
from mig_jax.records.transcripts import Transcript
from mig_jax.rollout.batch import Outcome, Scores, make_batch_fn, make_score_fn
from mig_jax.rollout.grading import grade_items, reference_answer
from mig_jax.text.answers.verifier import AnswerPair, Verifier


class RolloutFunctions(NamedTuple):
    """What of a rollout runs on the accelerator; compiled once for its shapes, at the first call."""

    prepare: Callable
    encode_images: Callable
    sample: Sampler
    score: Callable
    assemble: Callable
    ref_logprobs: Callable


def make_rollout_functions(policy: Policy, config: Config) -> RolloutFunctions:
    """The functions of a run; as many logits are alive at once in each as in the update."""
    r, o, row_sharding = config.rollout, config.optimizer, sharding.batch_sharding(policy.mesh)
    chunk = max(1, o.logprob_chunk // o.microbatches)
    ref_logprobs = make_logprob_fn(strip_adapters(policy), temperature=r.temperature, chunk=chunk)
    return RolloutFunctions(
        prepare=make_rollout_params(policy, gather=r.gather_params),
        encode_images=make_encode_images(policy),
        sample=make_sampler(policy, r, group_size=r.group_size, temperature=r.temperature),
        score=make_score_fn(policy, group_size=r.group_size, credit=config.reward.credit, chunk=chunk),
        assemble=make_batch_fn(config, row_sharding),
        ref_logprobs=jax.jit(ref_logprobs, out_shardings=row_sharding),
    )


class Rollout:
    """Samples, reads, checks and scores: everything between a list of problems and the batch to learn from.

    Called once a step. `reference` gives the weights, without adapters, of the policy that KL is measured
    to, from those of the policy that samples.
    """

    def __init__(
        self, policy: Policy, config: Config, verifier: Verifier, *, reference: Callable[[Any], Any] | None = None
    ):
        self.policy, self.config, self.verifier, self.reference = policy, config, verifier, reference
        self.compiled = make_rollout_functions(policy, config)

    def __call__(
        self, params: Any, prompt_batch: PromptBatch, key: jax.Array
    ) -> tuple[Batch, dict[str, float], list[Transcript]]:
        """One rollout of every problem: the batch, metrics by name, and a transcript of every response."""
        problems = prompt_batch.problems
        jax.block_until_ready(params)  # the end of the last update is no part of this rollout's time
        watch = Stopwatch()
        weights = self.compiled.prepare(params)
        prompts = self.compiled.encode_images(weights, sharding.to_mesh(prompt_batch.prompts, self.policy.mesh))
        completions = self.compiled.sample(weights, prompts, key)
        parsed = parse_completions(self.policy, completions, max_steps=self.config.reward.max_steps)
        watch.lap("rollout")

        # The accelerator scores while the host checks the answers.
        cuts = self.place(rewards.Cuts(np.stack([r.cut_k for r in parsed]), np.stack([r.valid_k for r in parsed])))
        scores = None
        if self.config.loss.alpha:
            probes = self.place(self.encode_answers(problems))
            scores = self.compiled.score(weights, prompts, completions, cuts, probes)
        completions, weights = completions._replace(cache=()), None  # their memory is the update's
        is_correct = grade_completions(self.verifier, problems, parsed)
        watch.lap("verify")
        jax.block_until_ready(scores)
        watch.lap("score")

        step_bt = np.stack([r.step_t for r in parsed])
        batch, metrics = self.compiled.assemble(
            prompts, completions, scores, cuts, *self.place((make_outcome(is_correct, parsed), step_bt))
        )
        if self.reference:
            batch = batch._replace(ref_logprob_bt=self.compiled.ref_logprobs(self.reference(params), batch)[0])
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        metrics["verifier/timeouts"] = float(is_correct.count(None))
        watch.lap("assemble")
        return batch, metrics | watch.seconds, make_transcripts(problems, parsed, is_correct, scores)

    def place(self, tree: Any) -> Any:
        """Host arrays of all rows onto the mesh, over its data axes."""
        mesh = self.policy.mesh
        return sharding.to_mesh(sharding.local_rows(tree, mesh), mesh)

    def encode_answers(self, problems: Sequence[Problem]) -> rewards.Answers:
        return encoding.pack_probes(
            self.policy.tokenizer,
            problems,
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


def parse_completions(policy: Policy, completions: sampler.Completions, *, max_steps: int) -> list[ParsedCompletion]:
    """What each completion says, in the order of the rows."""
    token_bt, length_b, is_truncated_b = sharding.to_host(
        (completions.token_bt, completions.length_b, completions.is_truncated_b)
    )
    return [
        encoding.parse_completion(
            policy.tokenizer,
            ids[:length].tolist(),
            is_truncated=bool(is_truncated),
            max_steps=max_steps,
            width=len(ids),
        )
        for ids, length, is_truncated in zip(token_bt, length_b, is_truncated_b, strict=True)
    ]


def grade_completions(
    verifier: Verifier, problems: Sequence[Problem], parsed: Sequence[ParsedCompletion]
) -> list[bool | None]:
    """Is each response's answer right? None: the check timed out."""
    group_size = len(parsed) // len(problems)
    references = [reference_answer(problem) for problem in problems]
    owners = [row // group_size for row in range(len(parsed))]
    return grade_items(
        verifier,
        [
            AnswerPair(completion.response.answer, references[q], problems[q].kind, problems[q].choices)
            for q, completion in zip(owners, parsed, strict=True)
        ],
    )


def make_outcome(is_correct: Sequence[bool | None], parsed: Sequence[ParsedCompletion]) -> Outcome:
    return Outcome(
        is_correct_b=np.array([correct is True for correct in is_correct]),
        is_well_formed_b=np.array([completion.response.is_well_formed for completion in parsed]),
        is_checked_b=np.array([correct is not None for correct in is_correct]),
    )


def make_transcripts(
    problems: Sequence[Problem],
    parsed: Sequence[ParsedCompletion],
    is_correct: Sequence[bool | None],
    scores: Scores | None,
) -> list[Transcript]:
    """A transcript of every response; without numbers where nothing was scored."""
    group_size = len(parsed) // len(problems)
    scores = sharding.to_host(scores)
    transcripts = []
    for row, (completion, correct) in enumerate(zip(parsed, is_correct, strict=True)):
        problem = problems[row // group_size]
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


def add_scores(transcript: Transcript, parsed: ParsedCompletion, scores: Scores | None, row: int) -> Transcript:
    """The transcript with its steps and, where it was scored, the numbers of its row."""
    n_steps = int(parsed.valid_k.sum()) - 1
    steps = tuple(parsed.text[step.start : step.end] for step in parsed.response.steps[:n_steps])
    transcript = dataclasses.replace(transcript, format_error=parsed.response.format_error or "", steps=steps)
    if scores is None:
        return transcript
    return dataclasses.replace(
        transcript,
        ell_k=tuple(scores.ell_bk[row, : n_steps + 1].tolist()),
        watermark_k=tuple(scores.watermark_bk[row, : n_steps + 1].tolist()),
        gain_k=tuple(scores.gain_bk[row, :n_steps].tolist()),
    )
