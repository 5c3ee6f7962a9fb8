"""Step credit for anybody's transcripts: question, response and answer → ℓ, watermark and gain of every step."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from tqdm import tqdm

from mig_jax import rewards
from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.models import decoder, sampler
from mig_jax.models.sampler import Prompts
from mig_jax.policy import encoding, images
from mig_jax.policy.generate import encode_images, make_rollout_params
from mig_jax.policy.load import Policy
from mig_jax.policy.prompts import encode_prompt, stack_prompts
from mig_jax.records.transcripts import Transcript
from mig_jax.rollout.batch import Scores, compute_scores
from mig_jax.rollout.grading import grade_transcripts
from mig_jax.rollout.rollout import add_scores
from mig_jax.text.answers.verifier import Verifier
from mig_jax.text.response_format import parse_response

# Prompts and responses are as long as the longest of their batch, rounded up to this many tokens.
LENGTH_STEP = 64

# Steps of a response that are scored.
MAX_STEPS = 32


@dataclasses.dataclass(frozen=True)
class _Row:
    """One transcript, encoded: its prompt and response in ids, and what was read off the response."""

    number: int
    problem: Problem
    prompt: images.Prompt
    response: list[int]
    parsed: encoding.ParsedCompletion


def score_transcripts(
    policy: Policy, config: Config, transcripts: Sequence[Transcript], verifier: Verifier, *, batch_size: int = 8
) -> list[Transcript]:
    """The same transcripts with their steps and numbers, in nats under `policy`.

    One pass of the model for each batch: trunk and probes are packed, there is no rollout whose cache could be used.
    """
    n_steps = [len(parse_response(t.response).steps) for t in transcripts]
    max_steps = min(max(n_steps, default=0), MAX_STEPS)
    if n_steps.count(0):
        logging.warning("%d of %d responses have no step (a line '### Step 1: …')", n_steps.count(0), len(n_steps))
    if max(n_steps, default=0) > MAX_STEPS:
        logging.warning("steps beyond the first %d of a response are not scored", MAX_STEPS)
    transcripts = with_verdicts(transcripts, verifier)
    batch_size = max(1, 8 * batch_size // max(8, max_steps))  # long chains have more leaves
    batch_size = sharding.pad_to_multiple(batch_size, policy.mesh)
    rows = [_encode(policy, config, n, t, max_steps=max_steps) for n, t in enumerate(transcripts)]
    rows.sort(key=lambda row: len(row.prompt.ids) + len(row.response))
    score = make_packed_score(policy, credit=config.reward.credit, chunk=config.optimizer.logprob_chunk)
    limits = {
        "max_variants": config.reward.max_variants,
        "max_tokens": max((len(policy.tokenizer.encode(t.answer.strip())) for t in transcripts), default=0),
    }
    weights, scored = (
        make_rollout_params(policy, gather=config.rollout.gather_params)(policy.params),
        list(transcripts),
    )
    for first in tqdm(range(0, len(rows), batch_size), desc="scoring", unit="batch"):
        batch = rows[first : first + batch_size]
        full = batch + batch[:1] * (batch_size - len(batch))
        scores = sharding.to_host(score(weights, *_stack(policy, full, **limits)))
        for i, row in enumerate(batch):
            scored[row.number] = add_scores(transcripts[row.number], row.parsed, scores, i)
    return scored


def with_verdicts(transcripts: Sequence[Transcript], verifier: Verifier) -> list[Transcript]:
    """The same with a verdict, where there was none; a task of reasoning-gym needs the id of its problem for that."""
    open_ones = [t for t in transcripts if t.is_correct is None and (t.kind != "reasoning_gym" or t.id)]
    verdict_of = dict(zip(map(id, open_ones), grade_transcripts(open_ones, verifier), strict=True))
    return [verdict_of.get(id(t), t) for t in transcripts]


def make_packed_score(policy: Policy, *, credit: str, chunk: int) -> Callable:
    """Compiled (weights, prompts, response_bt, mask_bt, cuts, answers) → Scores, without a cache.

    Responses stand right of their prompts, padded on the right; `cuts` count their tokens.
    """

    @jax.jit
    def score(weights, prompts: Prompts, response_bt, mask_bt, cuts, answers) -> Scores:
        model = decoder.bind(policy.config, weights)
        prompts = encode_images(model, prompts)
        token_bs = jnp.concatenate([prompts.token_qs, response_bt], axis=1)
        rows, slots = token_bs.shape
        prompt_width = slots - response_bt.shape[1]
        position_bs, valid_bs = sampler.row_positions(prompts.start_q, slots, prompts.images)
        trunk = rewards.Trunk(position_bs, valid_bs.at[:, prompt_width:].set(mask_bt))
        features = sampler.row_features(prompts.images, rows, slots)

        def forward(token_rt, position_rt, visible_rx, cache):
            # Images stand in the trunk, none in a leaf.
            return model(token_rt, position_rt, visible_rx, cache, features=None if cache else features)

        cuts = cuts._replace(cut_k=cuts.cut_k + prompt_width)
        ell_bk, _ = rewards.score_packed(forward, model.unembed_dv(), token_bs, trunk, cuts, answers, chunk=chunk)
        return compute_scores(ell_bk, cuts.valid_k, credit=credit)

    return score


def _encode(policy: Policy, config: Config, number: int, transcript: Transcript, *, max_steps: int) -> _Row:
    t, tokenizer = transcript, policy.tokenizer
    problem = Problem(str(number), t.question, t.answer, t.kind, images=t.images, choices=t.choices)
    prompt = encode_prompt(policy, config, problem)
    response = tokenizer.encode(transcript.response)
    # The text of a transcript holds no end-of-sequence; one is added because reading takes it off.
    ids = response + [tokenizer.eos_ids[0]]
    parsed = encoding.parse_completion(tokenizer, ids, is_truncated=False, max_steps=max_steps, width=len(ids))
    return _Row(number, problem, prompt, response, parsed)


def _stack(policy: Policy, rows: Sequence[_Row], *, max_variants: int, max_tokens: int) -> tuple:
    """The arrays of one batch: prompts, responses, cuts, answers."""
    prompts = stack_prompts(policy, [row.prompt for row in rows], _round_up(len(row.prompt.ids) for row in rows))
    responses = [row.response for row in rows]
    response_bt, mask_bt = encoding.pad_right(responses, _round_up(map(len, responses)), policy.tokenizer.pad_id)
    cuts = rewards.Cuts(np.stack([row.parsed.cut_k for row in rows]), np.stack([row.parsed.valid_k for row in rows]))
    problems = [row.problem for row in rows]
    probes = encoding.pack_probes(policy.tokenizer, problems, max_variants=max_variants, max_tokens=max_tokens)
    return prompts, response_bt, mask_bt, cuts, probes


def _round_up(lengths: Iterable[int]) -> int:
    """The greatest, rounded up, so that few shapes are compiled; more than 0."""
    return -(-max(1, *lengths) // LENGTH_STEP) * LENGTH_STEP
