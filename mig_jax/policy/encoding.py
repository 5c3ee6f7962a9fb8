"""Problems to arrays: prompt ids, SFT targets and probes, padded to fixed shapes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mig_jax import rewards
from mig_jax.data.problem import Problem
from mig_jax.errors import UserError
from mig_jax.text import response_format
from mig_jax.text.answers.variants import answer_variants
from mig_jax.text.prompts import is_verbatim
from mig_jax.text.tokenizer import Tokenizer

# The longest answer of a batch is rounded up to a multiple of this many tokens.
TOKEN_STEP = 4


class QuestionChangedError(UserError):
    """A question that the chat template does not write word for word."""


def prompt_text(tokenizer: Tokenizer, problem: Problem) -> str:
    """Return the chat prompt that asks a problem, in the style of the tokenizer.

    Raises:
      QuestionChangedError: the chat template changes the question.
      UserError: it refuses the chat.
    """
    p = problem
    text = tokenizer.chat_text(
        tokenizer.style.messages(
            p.question, choices=p.choices, n_images=len(p.images), history=p.history, source=p.source
        )
    )
    if not is_verbatim(tokenizer.style.texts(p.question, p.history), text):
        raise QuestionChangedError("the chat template changes the question")
    return text


def prompt_ids(tokenizer: Tokenizer, problem: Problem) -> list[int]:
    """Return the ids of `prompt_text`; the chat template places one token per image."""
    return tokenizer.encode_start(prompt_text(tokenizer, problem))


def pad_left(rows: Sequence[Sequence[int]], width: int, pad_id: int) -> tuple[Any, Any]:
    """Pad rows of ids on the left.

    Returns:
      numpy arrays: the ids `[Q, width]` and the slot `[Q]` of each row's first token.

    Raises:
      ValueError: there are no rows.
      UserError: a row is longer than `width`.
    """
    if not rows:
        raise ValueError("pad_left: no rows")
    longest = max(map(len, rows))
    if longest > width:
        raise UserError(f"a prompt has {longest} tokens, more than data.max_prompt_tokens={width}")
    padded = np.full((len(rows), width), pad_id, np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[width - len(ids) :] = ids
    return padded, np.array([width - len(ids) for ids in rows], np.int32)


def pad_right(rows: Sequence[Sequence[int]], width: int, pad_id: int) -> tuple[Any, Any]:
    """Pad rows of ids on the right.

    Returns:
      numpy arrays: the ids `[B, T]` and their lengths `[B]`.
    """
    padded = np.full((len(rows), width), pad_id, np.int32)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded, np.array([len(ids) for ids in rows], np.int32)


def sft_target_ids(tokenizer: Tokenizer, problem: Problem) -> list[int]:
    """Return the ids of a problem's solution, or else its ready-made response, with its end-of-sequence.

    What the prompt has already written of a response is left out.

    Raises:
      ValueError: the problem has neither, or its solution cannot be written so that it parses back.
    """
    if problem.solution is not None:
        steps, answer = problem.solution
        response = response_format.render_response(list(steps), answer, tokenizer.format)
    elif problem.response:
        response = response_format.without_opening(problem.response.strip(), tokenizer.format)
    else:
        raise ValueError(f"problem {problem.id} has no solution")
    return tokenizer.encode(response) + [tokenizer.eos_ids[0]]


def rejection_reason(
    tokenizer: Tokenizer, problem: Problem, *, max_answer_tokens: int, max_new_tokens: int | None
) -> str | None:
    """Return why a problem cannot be trained on, or None.

    Args:
      tokenizer: the policy's.
      problem: of a source.
      max_answer_tokens: limit of the reference answer.
      max_new_tokens: limit of the SFT target, which must then exist; None when no SFT target is needed.
    """
    if len(tokenizer.encode(problem.answer.strip())) > max_answer_tokens:
        return f"with an answer of more than {max_answer_tokens} tokens (data.max_answer_tokens)"
    if max_new_tokens is None:
        return None
    if problem.solution is None and not problem.response:
        return "without a solution in steps or a ready-made response"
    if problem.solution is None and (error := _response_error(tokenizer, problem)):
        return f"with a response that is not in the response_format ({error})"
    try:
        length = len(sft_target_ids(tokenizer, problem))
    except ValueError:
        return "with a solution that contains tags, step headers or empty steps"
    if length > max_new_tokens:
        return f"with a solution of more than {max_new_tokens} tokens (rollout.max_new_tokens)"
    return None


def _response_error(tokenizer: Tokenizer, problem: Problem) -> str | None:
    """Return why a ready-made response is not well formed, or None."""
    response = response_format.without_opening(problem.response.strip(), tokenizer.format)
    return response_format.parse_response(response, tokenizer.format).format_error


def opening_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids of the canonical opening of a response, which a probe before the first step writes itself."""
    return prefix_ids(tokenizer, tokenizer.format.opening)


def prefix_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of what a probe writes before its lead-in.

    Some tokenizers encode the line breaks at the end of a text otherwise than before other text. Where the lead-in is
    fitted to its cut, it continues in the middle of a phrase, so that they are encoded together.
    """
    format = tokenizer.format
    ids, lead_in = tokenizer.encode(text), tokenizer.encode(format.lead_in)
    together = tokenizer.encode(text + format.lead_in) if format.fits_lead_in else ids + lead_in
    return together[: -len(lead_in)] if together[-len(lead_in) :] == lead_in else ids


def closing_ids(tokenizer: Tokenizer) -> list[list[int]]:
    """Return the ids of the ways to close an answer that a reader accepts, each once, the tokenizer's own first."""
    return [tokenizer.encode(closing) for closing in tokenizer.format.closings]


def pack_probes(
    tokenizer: Tokenizer, problems: Sequence[Problem], *, max_variants: int, max_tokens: int, terminator: str
) -> rewards.Answers:
    """Pack the variants of each reference answer: `rewards.Answers` with a leading axis Q.

    The arrays have room for the most variants and the longest variant of these problems, rounded up so that few shapes
    are compiled: to a power of two variants and a multiple of `TOKEN_STEP` tokens, within the limits.

    Args:
      tokenizer: the policy's.
      problems: Q problems.
      max_variants: variants of an answer after the first ones are left out.
      max_tokens: longer variants are left out.
      terminator: what is scored after an answer, see `rewards.pack_answers`.

    Raises:
      ValueError: an answer has no variant within `max_tokens`.
    """
    lead_in, closings = tokenizer.encode(tokenizer.format.lead_in), closing_ids(tokenizer)
    variants = [
        [tokenizer.encode(variant) for variant in reference_variants(problem, limit=max_variants)]
        for problem in problems
    ]
    fitting = [{tuple(ids) for ids in of_one if 0 < len(ids) <= max_tokens} for of_one in variants]
    most = max(map(len, fitting), default=1)
    longest = max((len(ids) for of_one in fitting for ids in of_one), default=1)
    packed = [
        rewards.pack_answers(
            lead_in,
            of_one,
            closings,
            max_variants=bucket_size(most, max_variants),
            max_tokens=min(-(-longest // TOKEN_STEP) * TOKEN_STEP, max_tokens),
            terminator=terminator,
        )
        for of_one in variants
    ]
    return rewards.Answers(*map(np.stack, zip(*packed, strict=True)))


def bucket_size(n: int, limit: int | None = None) -> int:
    """Return `n` rounded up to a power of two, at least 1 and at most `limit`, so that few shapes are compiled."""
    size = 1 << max(n - 1, 0).bit_length()
    return size if limit is None else min(size, limit)


def reference_variants(problem: Problem, *, limit: int) -> tuple[str, ...]:
    """Return Y*, the ways to write the reference answer, each once (arXiv 2602.01034, Eq. 9).

    The reference comes first, then the variants that `mig-jax variants` found, then those that rules derive.
    """
    by_rule = answer_variants(problem.answer, kind=problem.kind, choices=problem.choices, limit=limit)
    return tuple(dict.fromkeys((by_rule[0], *problem.variants, *by_rule)))[:limit]
