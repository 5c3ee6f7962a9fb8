"""Sampled ids to text: steps, probe positions and the answer of a completion."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mig_jax.distributed import sharding
from mig_jax.models import sampler
from mig_jax.policy.load import Policy
from mig_jax.text import response_format
from mig_jax.text.response_format import Response
from mig_jax.text.tokenizer import Tokenizer


class ParsedCompletion(NamedTuple):
    """One completion, parsed on the host.

    text: the completion without its end-of-sequence.
    response: positions of its parts, in characters.
    cut_k: `[K+1]` tokens of the completion before each cut; 0 at padding.
    valid_k: `[K+1]` bool, False at padding.
    step_t: `[T]` step that each token belongs to, from 0; −1 outside the think block.
    """

    text: str
    response: Response
    cut_k: np.ndarray
    valid_k: np.ndarray
    step_t: np.ndarray


def parse_completions(policy: Policy, completions: sampler.Completions, *, max_steps: int) -> list[ParsedCompletion]:
    """Parse every row of `completions`, on every process; see `parse_completion`."""
    token_bt, length_b, is_truncated_b = sharding.to_host(
        (completions.token_bt, completions.length_b, completions.is_truncated_b)
    )
    return [
        parse_completion(
            policy.tokenizer,
            ids[:length].tolist(),
            is_truncated=bool(is_truncated),
            max_steps=max_steps,
            width=len(ids),
        )
        for ids, length, is_truncated in zip(token_bt, length_b, is_truncated_b, strict=True)
    ]


def parse_completion(
    tokenizer: Tokenizer, ids: Sequence[int], *, is_truncated: bool, max_steps: int, width: int
) -> ParsedCompletion:
    """Find the steps and cuts of sampled ids, at exact token boundaries. Never raises.

    Args:
      tokenizer: the policy's.
      ids: the sampled completion; its last id is the end-of-sequence unless it was truncated.
      is_truncated: the completion reached the length limit.
      max_steps: K; later steps are not probed.
      width: T, the length of `step_t`.
    """
    body = list(ids) if is_truncated or not len(ids) else list(ids[:-1])
    text, char_end_t = tokenizer.decode_with_ends(body)
    response = response_format.parse_response(text, is_truncated=is_truncated)
    cut = tokenizer.cut_tokens(char_end_t, response.cuts[: max_steps + 1])
    cut_k, valid_k = np.zeros(max_steps + 1, np.int32), np.zeros(max_steps + 1, bool)
    cut_k[: len(cut)], valid_k[: len(cut)] = cut, True

    # A token belongs to the reasoning if any of its characters is inside the think block.
    char_end = np.asarray(char_end_t, np.int64)
    char_start = np.concatenate([[0], char_end[:-1]])[: len(char_end)]
    in_cot = (char_start < response.cot.end) & (char_end > response.cot.start)
    step_t = np.full(width, -1, np.int32)
    step = np.searchsorted(cut_k[1 : len(cut)], np.arange(len(body)), side="right")
    step_t[: len(body)] = np.where(in_cot, np.minimum(step, max(len(cut) - 2, 0)), -1)
    return ParsedCompletion(text, response, cut_k, valid_k, step_t)
