"""Monte-Carlo values of started responses: how often the policy answers correctly from there.

The likelihood ℓ after a step is meant to tell how far the response has come. Its value says how far that is: the share
of right answers among continuations from the same tokens.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from mig_jax.config import Config
from mig_jax.distributed import sharding
from mig_jax.evaluation.score_transcripts import encode_transcript, round_up
from mig_jax.models.sampler import Completions
from mig_jax.policy import encoding, images
from mig_jax.policy.generate import make_rollout_params_fn, make_sampler
from mig_jax.policy.load import Policy, check_positions
from mig_jax.policy.prompts import stack_prompts
from mig_jax.records.transcripts import Transcript
from mig_jax.rollout.grading import grade_transcripts
from mig_jax.text.answers.verifier import Verifier


class _State(NamedTuple):
    """A started response.

    row, k: after step k of a transcript; 0 is the opening of the response.
    prompt: of the transcript, with its images.
    begun: ids of the response so far.
    """

    row: int
    k: int
    prompt: images.Prompt
    begun: list[int]


def continuation_values(
    policy: Policy,
    config: Config,
    transcripts: Sequence[Transcript],
    verifier: Verifier,
    *,
    samples: int = 32,
    states_per_batch: int = 8,
    seed: int = 0,
) -> list[tuple[float | None, ...]]:
    """Return the value after each step of each transcript, K+1 of them: v₀ is that of the opened response.

    A continuation has at most `rollout.max_new_tokens` tokens at `rollout.temperature`, and starts from the tokens
    that the probe after the step sees. Its answer is read strictly, with what was begun.

    Args:
      policy: continues the responses; its tokenizer has the response format.
      config: length limit, temperature, probes per response (`reward.max_steps`) and prompt.
      transcripts: responses with their questions and reference answers.
      verifier: grades the answers.
      samples: continuations of each state.
      states_per_batch: states that are continued together.
      seed: of the samples.

    Returns:
      For each transcript a tuple of shares in [0, 1]; None where no answer could be graded.

    Raises:
      UserError: an image cannot be read, or a prompt with its response is longer than the model's positions.
    """
    states = [state for row, t in enumerate(transcripts) for state in _states(policy, config, row, t)]
    values: list[list[float | None]] = [[] for _ in transcripts]
    if not states:
        return []
    width = round_up(len(state.prompt.ids) + len(state.begun) for state in states)
    check_positions(
        policy,
        width + config.rollout.max_new_tokens,
        of="a continued response with its prompt",
        advice="lower rollout.max_new_tokens",
    )
    states_per_batch = sharding.pad_to_multiple(states_per_batch, policy.mesh)
    sampler = make_sampler(policy, config.rollout, group_size=samples, temperature=config.rollout.temperature)
    params = make_rollout_params_fn(policy, gather=config.rollout.gather_params)(policy.params)
    key = jax.random.key(seed)
    for first in tqdm(range(0, len(states), states_per_batch), desc="continuing", unit="batch"):
        batch = states[first : first + states_per_batch]
        padded = batch + batch[:1] * (states_per_batch - len(batch))
        stacked = stack_prompts(policy, [state.prompt.append(state.begun) for state in padded], width)
        prompts = sharding.local_rows(stacked, policy.mesh)
        completions = sampler(params, sharding.to_mesh(prompts, policy.mesh), jax.random.fold_in(key, first))
        responses = _responses(policy, completions, [state for state in batch for _ in range(samples)])
        continued = [
            dataclasses.replace(transcripts[batch[n // samples].row], response=response)
            for n, response in enumerate(responses)
        ]
        graded = grade_transcripts(continued, verifier, policy.tokenizer.format)
        for n, state in enumerate(batch):
            verdicts = [t.is_correct for t in graded[n * samples : (n + 1) * samples] if t.is_correct is not None]
            values[state.row].append(float(np.mean(verdicts)) if verdicts else None)
    return [tuple(of_one) for of_one in values]


def _states(policy: Policy, config: Config, row: int, transcript: Transcript) -> list[_State]:
    """Return the states of a transcript in the order of its steps, the opening first."""
    encoded = encode_transcript(policy, config, row, transcript, max_steps=config.reward.max_steps, steps=())
    cuts = zip(encoded.parsed.cuts, encoded.parsed.prefixes, strict=True)
    begun = [encoding.opening_ids(policy.tokenizer), *([*encoded.response[:cut], *prefix] for cut, prefix in cuts)]
    return [_State(row, k, encoded.prompt, ids) for k, ids in enumerate(begun)]


def _responses(policy: Policy, completions: Completions, states: Sequence[_State]) -> list[str]:
    """Return the text of each continued response; "" where it was truncated, which is never a right answer."""
    token_bt, length_b, is_truncated_b = sharding.to_host(
        (completions.token_bt, completions.length_b, completions.is_truncated_b)
    )
    # The last id is the end-of-sequence.
    ids = [[*state.begun, *token_bt[n, : length_b[n] - 1].tolist()] for n, state in enumerate(states)]
    return [
        "" if is_truncated else policy.tokenizer.decode_with_ends(of_one)[0]
        for of_one, is_truncated in zip(ids, is_truncated_b, strict=False)
    ]
