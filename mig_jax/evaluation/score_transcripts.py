"""Score given transcripts step by step: question, response and answer to ℓ, watermark and gain of every step."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from mig_jax import rewards
from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.data.rows import format_errors
from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models.sampler import Completions, Prompts
from mig_jax.parts import signature_error
from mig_jax.policy import encoding, images
from mig_jax.policy.completions import ParsedCompletion, parse_completion
from mig_jax.policy.generate import make_rollout_params_fn
from mig_jax.policy.load import Policy, check_positions
from mig_jax.policy.prompts import encode_prompt, stack_prompts
from mig_jax.records.progress import progress
from mig_jax.records.transcripts import Transcript
from mig_jax.rollout.grading import grade_transcripts
from mig_jax.rollout.rollout import add_scores
from mig_jax.rollout.scoring import (
    ProbedSteps,
    Probes,
    build_probes,
    compute_scores,
    make_likelihood_fn,
    stack_steps,
)
from mig_jax.text.answers.verifier import Verifier
from mig_jax.text.response_format import (
    MIG,
    StepFormat,
    parse_response,
    place_steps,
    suggest_format,
    with_opening,
    without_opening,
)
from mig_jax.text.splitters import Splitter, find_splitter, splitter_error

# Prompts and responses are padded to a multiple of this many tokens, so that few shapes are compiled.
LENGTH_STEP = 64

# Probes of a response.
MAX_STEPS = 32


@dataclasses.dataclass(frozen=True)
class EncodedTranscript:
    """One transcript: its place in the input, the ids of its prompt and response, and what was parsed."""

    index: int
    problem: Problem
    prompt: images.Prompt
    response: list[int]
    parsed: ParsedCompletion


class _ScoreInputs(NamedTuple):
    """One batch on the host: arguments of `scoring.make_likelihood_fn`'s function, and the steps of its rows."""

    prompts: Prompts
    completions: Completions
    cuts: rewards.Cuts
    probes: Probes
    steps: ProbedSteps


def score_transcripts(
    policy: Policy,
    config: Config,
    transcripts: Sequence[Transcript],
    verifier: Verifier,
    *,
    batch_size: int = 8,
    steps: str | Splitter = "",
    on_scored: Callable[[Sequence[Transcript]], None] = lambda scored: None,
) -> list[Transcript]:
    """Return the transcripts with their steps and numbers, in nats under `policy`, graded where they were not.

    Each batch takes one packed pass of the model, since there is no rollout whose KV cache could be reused.

    Args:
      policy: scores the transcripts.
      config: prompt, reward and memory settings.
      transcripts: any responses, well formed or not.
      verifier: grades those without a verdict.
      batch_size: responses per pass; fewer when they have many steps.
      steps: how responses divide into steps, see `splitters.find_splitter`; "format": as their format says; "": by the
        steps that a transcript brings, if it was not scored before, else as the format says.
      on_scored: called with the transcripts of each batch as soon as they are scored; shorter ones come first.

    Raises:
      UserError: a prompt with its response is longer than the model's positions, or a step that a transcript brings
        does not occur in its response.
    """
    policy, given = _with_steps(policy, transcripts, steps)
    n_steps = _count_steps(policy.tokenizer.format, transcripts, given)
    max_steps = min(max(n_steps, default=1) or 1, MAX_STEPS)  # an array of no probes cannot be computed
    transcripts = grade_missing(transcripts, verifier, policy.tokenizer.format)
    batch_size = max(1, 8 * batch_size // max(8, max_steps))  # more steps, more probes
    batch_size = sharding.pad_to_multiple(batch_size, policy.mesh)
    rows = [
        encode_transcript(policy, config, n, t, max_steps=max_steps, steps=own)
        for n, (t, own) in enumerate(zip(transcripts, given, strict=True))
    ]
    rows.sort(key=_count_tokens)
    longest = _count_tokens(rows[-1]) if rows else 0
    check_positions(policy, longest, of="the longest transcript with its prompt", advice="leave it out")
    likelihood = make_likelihood_fn(policy, config.reward, chunk=config.optimizer.logprob_tokens)
    credit = jax.jit(functools.partial(compute_scores, reward=config.reward, group_size=1))
    params = make_rollout_params_fn(policy, gather=config.rollout.gather_params)(policy.params)
    scored = list(transcripts)
    for first in progress(range(0, len(rows), batch_size), desc="scoring", unit="batch"):
        batch = rows[first : first + batch_size]
        padded = batch + batch[:1] * (batch_size - len(batch))
        *inputs, probed = _stack(policy, config, padded, max_steps=max_steps)
        is_correct_b = np.array([transcripts[row.index].is_correct is True for row in padded])
        scores = sharding.to_host(credit(likelihood(params, *inputs), probed, is_correct_b))
        for row, encoded in enumerate(batch):
            answered = encoded.parsed.response.answer or ""
            transcript = dataclasses.replace(transcripts[encoded.index], answered=answered)
            scored[encoded.index] = add_scores(transcript, encoded.parsed, scores, row)
        on_scored([scored[encoded.index] for encoded in batch])
    return scored


def splitter_of(steps: str | Splitter) -> Splitter | None:
    """Return the splitter that `--steps` names, or a function itself; None for that of the response format.

    Raises:
      UserError: see `find_splitter`.
    """
    if isinstance(steps, str):
        return find_splitter(steps, key="--steps") if steps not in ("", "format") else None
    if error := signature_error(steps, "text") or splitter_error(steps):
        raise UserError(f"steps={steps!r}: {error}")
    return steps


def _with_steps(
    policy: Policy, transcripts: Sequence[Transcript], steps: str | Splitter
) -> tuple[Policy, list[tuple[str, ...]]]:
    """Return the policy with the format to score in, and the given steps of each transcript, () to find them."""
    format, given = policy.tokenizer.format, [()] * len(transcripts)
    if not steps:
        given = [() if t.ell_k else t.steps for t in transcripts]
    elif splitter := splitter_of(steps):
        format = dataclasses.replace(format, splitter=splitter)
    # Such steps may end inside a line, or after the think block.
    if any(given) or format is not policy.tokenizer.format:
        format = dataclasses.replace(format, fits_lead_in=True)
    if n := sum(map(bool, given)):
        logging.info("%d of %d rows bring their own steps", n, len(given))
    return dataclasses.replace(policy, tokenizer=dataclasses.replace(policy.tokenizer, format=format)), given


def _count_steps(format: StepFormat, transcripts: Sequence[Transcript], given: Sequence[tuple[str, ...]]) -> list[int]:
    """Return the number of steps of each transcript; warn if there are none, or more than are probed.

    Raises:
      UserError: a given step does not occur; lists the rows.
    """
    n_steps, errors = [], []
    for number, (t, own) in enumerate(zip(transcripts, given, strict=True), start=1):
        text = _text_after_prompt(t, format)
        response = parse_response(text, format)
        try:
            n_steps.append(len(place_steps(text, response, own, format).steps if own else response.steps))
        except UserError as error:
            errors.append(f"row {number}: {error}")
    if errors:
        title = "rows bring steps that are not in their responses (--steps=format finds steps anew)"
        raise UserError(format_errors(title, errors))
    if stepless := [t.response for t, n in zip(transcripts, n_steps, strict=True) if not n]:
        suggested = suggest_format(stepless)
        others = "another response_format, or mig-jax score --steps=paragraph"
        hint = f"response_format={suggested}" if suggested else others
        wanted = format.describe_steps()
        logging.warning("%d of %d responses have no step (%s); try %s", len(stepless), len(n_steps), wanted, hint)
    if max(n_steps, default=0) > MAX_STEPS:
        logging.warning("a response has %d steps: neighbors share its %d probes", max(n_steps), MAX_STEPS)
    return n_steps


def grade_missing(transcripts: Sequence[Transcript], verifier: Verifier, format: StepFormat = MIG) -> list[Transcript]:
    """Grade the transcripts that have no verdict. Tasks of reasoning-gym without a problem id stay ungraded."""
    missing = [t for t in transcripts if t.is_correct is None and (t.kind != "reasoning_gym" or t.id)]
    graded = dict(zip(map(id, missing), grade_transcripts(missing, verifier, format), strict=True))
    return [graded.get(id(t), t) for t in transcripts]


def _text_after_prompt(transcript: Transcript, format: StepFormat) -> str:
    """Return what follows the prompt of this model of a response that may follow another model's prompt."""
    # A response that was sampled here and has errors is as it was sampled.
    text = transcript.response if transcript.format_error else with_opening(transcript.response, format)
    return without_opening(text, format)


def _count_tokens(row: EncodedTranscript) -> int:
    return len(row.prompt.ids) + len(row.response)


def encode_transcript(
    policy: Policy, config: Config, index: int, transcript: Transcript, *, max_steps: int, steps: Sequence[str]
) -> EncodedTranscript:
    """Encode a transcript's prompt and response, and parse it; `steps` are given ones, none to find them."""
    t, tokenizer = transcript, policy.tokenizer
    problem = Problem(
        str(index), t.question, t.answer, t.kind, images=t.images, choices=t.choices, source=t.source, history=t.history
    )
    prompt = encode_prompt(policy, problem)
    response = tokenizer.encode(_text_after_prompt(t, tokenizer.format))
    # A transcript's text has no end-of-sequence; add one, because parsing removes it.
    ids = response + [tokenizer.eos_ids[0]]
    parsed = parse_completion(
        tokenizer,
        ids,
        is_truncated=False,
        max_steps=max_steps,
        width=len(ids),
        process_mask=config.reward.process_mask,
        steps=steps,
    )
    return EncodedTranscript(index, problem, prompt, response, parsed)


def _stack(policy: Policy, config: Config, rows: Sequence[EncodedTranscript], *, max_steps: int) -> _ScoreInputs:
    prompts = stack_prompts(policy, [row.prompt for row in rows], round_up(len(row.prompt.ids) for row in rows))
    responses = [row.response for row in rows]
    token_bt, length_b = encoding.pad_right(responses, round_up(map(len, responses)), policy.tokenizer.pad_id)
    logprob_bt: Any = np.zeros(token_bt.shape, np.float32)
    completions = Completions(token_bt, logprob_bt, length_b, length_b < 0, cache=())
    problems = [row.problem for row in rows]
    longest = max(len(policy.tokenizer.encode(problem.answer.strip())) for problem in problems)
    probes = build_probes(policy, config.reward, problems, max_answer_tokens=longest)
    cuts, steps = stack_steps([row.parsed for row in rows], max_steps=max_steps)
    return _ScoreInputs(prompts, completions, cuts, probes, steps)


def round_up(lengths: Iterable[int]) -> int:
    """Return the greatest length, at least 1, rounded up to a multiple of `LENGTH_STEP`."""
    return -(-max(1, *lengths) // LENGTH_STEP) * LENGTH_STEP
