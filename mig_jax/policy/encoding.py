"""Between text and arrays: prompts, demonstrations and probes on the way in, completions on the way out."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from mig_jax import rewards
from mig_jax.data.problem import Problem
from mig_jax.text import response_format
from mig_jax.text.answers import compare
from mig_jax.text.response_format import Response
from mig_jax.text.tokenizer import Tokenizer


class ParsedCompletion(NamedTuple):
    """What the host reads off one completion.

    text: the completion without its end-of-sequence.
    response: where its parts are, in characters.
    cut_k: `[K+1]` tokens of the completion before each cut; 0 at padding.
    valid_k: `[K+1]` bool.
    step_t: `[T]` index of the step that a token belongs to, from 0; −1 outside the think block.
    """

    text: str
    response: Response
    cut_k: np.ndarray
    valid_k: np.ndarray
    step_t: np.ndarray


def prompt_ids(tokenizer: Tokenizer, problem: Problem, *, system_prompt: bool) -> list[int]:
    """The ids of the chat prompt that asks a question; the template says what stands for an image."""
    system = response_format.system_prompt(tokenizer.tags) if system_prompt else ""
    messages = response_format.render_prompt(
        problem.question, system=system, n_images=len(problem.images), choices=problem.choices
    )
    return tokenizer.chat_prompt(messages)


def pad_left(rows: Sequence[Sequence[int]], width: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ids in one array `[Q, width]`, and the slot `[Q]` at which each begins.

    Raises:
      ValueError: a row is too long.
    """
    longest = max(map(len, rows))
    if longest > width:
        raise ValueError(f"a prompt has {longest} tokens, data.max_prompt_tokens={width}")
    padded = np.full((len(rows), width), pad_id, np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[width - len(ids) :] = ids
    return padded, np.array([width - len(ids) for ids in rows], np.int32)


def pad_right(rows: Sequence[Sequence[int]], width: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ids in one array `[B, T]`, and where they are `[B, T]` bool."""
    padded, mask = np.full((len(rows), width), pad_id, np.int32), np.zeros((len(rows), width), bool)
    for row, valid, ids in zip(padded, mask, rows, strict=True):
        row[: len(ids)], valid[: len(ids)] = ids, True
    return padded, mask


def solution_ids(tokenizer: Tokenizer, problem: Problem) -> list[int]:
    """The ids of a problem's written solution, closed by an end-of-sequence.

    Raises:
      ValueError: it cannot be written down so that it reads back.
    """
    steps, answer = problem.solution
    response = response_format.render_response(list(steps), answer, tokenizer.tags)
    return tokenizer.encode(response) + [tokenizer.eos_ids[0]]


def rejection_reason(
    tokenizer: Tokenizer,
    problem: Problem,
    *,
    max_answer_tokens: int,
    max_new_tokens: int | None,
) -> str:
    """Why a solution cannot be used, or "". With `max_new_tokens` its demonstration must be there and fit, too."""
    if len(tokenizer.encode(problem.answer.strip())) > max_answer_tokens:
        return f"with an answer of more than {max_answer_tokens} tokens (data.max_answer_tokens)"
    if max_new_tokens is None:
        return ""
    if problem.solution is None:
        return "without written steps"
    try:
        length = len(solution_ids(tokenizer, problem))
    except ValueError:
        return "with a solution that holds tags or headers of its own"
    if length > max_new_tokens:
        return f"with a solution of more than {max_new_tokens} tokens (rollout.max_new_tokens)"
    return ""


def pack_probes(
    tokenizer: Tokenizer, problems: Sequence[Problem], *, max_variants: int, max_tokens: int
) -> rewards.Answers:
    """The spellings of each reference answer, stacked: `rewards.Answers` with a leading axis of questions.

    The reference comes first, then what was found equal to it (`mig-jax variants`), then what rules make of it.
    """
    lead_in, closing = tokenizer.encode(tokenizer.tags.lead_in), tokenizer.encode(tokenizer.tags.close)
    packed = [
        rewards.pack_answers(
            lead_in,
            [tokenizer.encode(spelling) for spelling in answer_spellings(problem, limit=max_variants)],
            closing,
            max_variants=max_variants,
            max_tokens=max_tokens,
        )
        for problem in problems
    ]
    return jax.tree.map(lambda *parts: np.stack(parts), *packed)


def answer_spellings(problem: Problem, *, limit: int) -> tuple[str, ...]:
    """Y*: the reference, what was found equal to it, and what rules make of it; each once (arXiv 2602.01034, Eq. 9)."""
    by_rule = compare.answer_variants(problem.answer, kind=problem.kind, choices=problem.choices, limit=limit)
    return tuple(dict.fromkeys((by_rule[0], *problem.variants, *by_rule)))[:limit]


def parse_completion(
    tokenizer: Tokenizer, ids: Sequence[int], *, is_truncated: bool, max_steps: int, width: int
) -> ParsedCompletion:
    """Find steps and cuts of sampled ids, at exact token boundaries. Never raises, whatever was sampled.

    Args:
      ids: the completion as sampled, its end-of-sequence included unless it was cut off.
      max_steps: K; later steps are not probed.
      width: T, to which `step_t` is padded.
    """
    body = list(ids) if is_truncated or not len(ids) else list(ids[:-1])
    text, char_end_t = tokenizer.decode_with_ends(body)
    response = response_format.parse_response(text, is_truncated=is_truncated)
    cut = tokenizer.cut_tokens(char_end_t, response.cuts[: max_steps + 1])
    cut_k, valid_k = np.zeros(max_steps + 1, np.int32), np.zeros(max_steps + 1, bool)
    cut_k[: len(cut)], valid_k[: len(cut)] = cut, True

    # A token belongs to the reasoning when its characters overlap the think block's.
    char_end_t = np.asarray(char_end_t, np.int64)
    char_start_t = np.concatenate([[0], char_end_t[:-1]])[: len(char_end_t)]
    in_cot_t = (char_start_t < response.cot.end) & (char_end_t > response.cot.start)
    step_t = np.full(width, -1, np.int32)
    step = np.searchsorted(cut_k[1 : len(cut)], np.arange(len(body)), side="right")
    step_t[: len(body)] = np.where(in_cot_t, np.minimum(step, max(len(cut) - 2, 0)), -1)
    return ParsedCompletion(text, response, cut_k, valid_k, step_t)
