"""From prompts, completions and reference answers to probes, for any model, engine or trainer. Needs no jax."""

import copy
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mig_jax import rewards
from mig_jax.data.problem import Problem
from mig_jax.errors import UserError
from mig_jax.integrations.options import reward_options
from mig_jax.policy import encoding
from mig_jax.policy.completions import ParsedCompletion, parse_completion
from mig_jax.rewards.arrays import Answers, Cuts, Trunk
from mig_jax.text import tokenizer as tokenizers
from mig_jax.text.chat_template import format_after
from mig_jax.text.step_format import StepFormat, find_format
from mig_jax.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Token ids, a text, or chat messages.
Prompt = Sequence[int] | str | Sequence[Mapping[str, Any]]
# Token ids, a text, or chat messages of which the last one is the response.
Completion = Prompt

# How a tokenizer without a chat template ends a text.
_NO_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{{ eos_token }}{% endfor %}"
# Ids at the end of a prompt among which an opened think tag is searched.
_TAIL = 24


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A response with its probes, on the host.

    token_s: `[S]` ids of prompt and response.
    n_prompt: number of ids of the prompt.
    cuts: `[K+1]` positions of the probes; the first is after the prompt, where the probe opens the response itself.
    answers: variants of the reference answer.
    parsed: text and steps of the response.
    reference: the reference answer.
    kind: how answers are compared with it.
    """

    token_s: list[int]
    n_prompt: int
    cuts: Cuts
    answers: Answers
    parsed: ParsedCompletion
    reference: str
    kind: str

    @property
    def n_cuts(self) -> int:
        """K+1; K is the number of probed steps."""
        return len(self.cuts.cut_k)

    def tree(self) -> rewards.Tree:
        """Return prompt, response up to its last cut, and all probes as one sequence; see `rewards.lay_tree`."""
        return rewards.lay_tree(self.token_s[: int(np.max(self.cuts.cut_k))], self.cuts, self.answers)

    def pairs(self) -> list[rewards.Pair]:
        """Return all probes as contexts and continuations; see `rewards.probe_pairs`."""
        return rewards.probe_pairs(self.token_s, self.cuts, self.answers)


def encode(
    tokenizer: "Tokenizer | PreTrainedTokenizerFast",
    prompts: Sequence[Prompt],
    completions: Sequence[Completion],
    answers: Sequence[str],
    *,
    format: str | StepFormat = "mig",
    kinds: str | Sequence[str] = "expression",
    max_answer_tokens: int | None = None,
    **options: Any,
) -> list[Encoded]:
    """Encode B responses and the probes of their reference answers.

    Args:
      tokenizer: the model's; a fast tokenizer of transformers, or one of `mig_jax.text.tokenizer`.
      prompts: ids, exactly those that the model was given; or texts; or chat messages, written by the chat template.
      completions: ids, exactly those that were sampled, the end-of-sequence included if it was sampled; or texts.
        Re-encoding a text may give other ids than those that were sampled.
      answers: the reference answer of each response.
      format: of the responses: a key of `mig_jax.text.step_format.FORMATS`, or your own.
      kinds: how answers are compared, which decides the variants that are probed; one for all, or one for each.
      max_answer_tokens: longer variants are left out, unless they are the reference itself; None: the default of
        `data.max_answer_tokens`.
      **options: `max_steps`, `max_variants`, `terminator` and `process_mask` of the config's section `reward`.

    Raises:
      UserError: the tokenizer cannot be used, there is no such format or option, an answer is missing, or the numbers
        of prompts, completions and answers differ.
    """
    settings = reward_options(**options)
    if not len(prompts) == len(completions) == len(answers):
        raise UserError(f"{len(prompts)} prompts, {len(completions)} completions and {len(answers)} answers")
    ours = as_tokenizer(tokenizer, format)
    kind_of = [kinds] * len(answers) if isinstance(kinds, str) else list(kinds)
    limit = settings.max_answer_tokens if max_answer_tokens is None else max_answer_tokens

    @functools.cache
    def pack(answer: str, kind: str, style: StepFormat) -> Answers:
        own = dataclasses.replace(ours, format=style)
        longest = max(limit, len(own.encode(answer.strip())))
        packed = encoding.pack_probes(
            own,
            [Problem("", "", answer, kind)],
            max_variants=settings.reward.max_variants,
            max_tokens=longest,
            terminator=settings.reward.terminator,
        )
        return Answers(*(part[0] for part in packed))

    rows = []
    for number, (prompt, completion, answer) in enumerate(zip(prompts, completions, answers, strict=True)):
        if not isinstance(answer, str) or not answer.strip():
            raise UserError(f"response {number} has no reference answer: {answer!r}")
        prompt_ids, ids = _prompt_ids(ours, prompt), _completion_ids(ours, completion)
        own = _with_prompt_opening(ours, prompt_ids)
        parsed = parse_completion(
            own,
            ids,
            is_truncated=not (ids and ids[-1] in own.eos_ids),
            max_steps=settings.reward.max_steps,
            width=len(ids),
            process_mask=settings.reward.process_mask,
        )
        cuts = _cuts(own, len(prompt_ids), parsed)
        packed = pack(answer, kind_of[number], own.format)
        rows.append(Encoded([*prompt_ids, *ids], len(prompt_ids), cuts, packed, parsed, answer, kind_of[number]))
    return rows


def stack(rows: Sequence[Encoded], *, pad_id: int = 0) -> tuple[np.ndarray, Trunk, Cuts, Answers]:
    """Return rows as the arrays `[B, …]` of `rewards.score_packed`: ids, trunk, cuts and answers; padded on the right.

    Args:
      rows: of any lengths and numbers of steps.
      pad_id: id of the padding.
    """
    token_bs, length_b = encoding.pad_right([row.token_s for row in rows], max(len(r.token_s) for r in rows), pad_id)
    slots = np.arange(token_bs.shape[1])
    valid_bs = slots < length_b[:, None]
    trunk = Trunk(np.where(valid_bs, slots, 0).astype(np.int32), valid_bs)
    n_cuts = max(row.n_cuts for row in rows)
    shapes = np.max([[*row.answers.token_ap.shape, *row.answers.target_aye.shape[1:]] for row in rows], axis=0)
    cuts = [_pad_cuts(row.cuts, n_cuts, max(_prefix_width(r) for r in rows)) for row in rows]
    answers = [_pad_answers(row.answers, *shapes.tolist()) for row in rows]
    return (
        token_bs,
        trunk,
        Cuts(*(np.stack(part) for part in zip(*cuts, strict=True))),
        Answers(*(np.stack(part) for part in zip(*answers, strict=True))),
    )


def as_tokenizer(tokenizer: "Tokenizer | PreTrainedTokenizerFast", format: str | StepFormat) -> Tokenizer:
    """Return a tokenizer of transformers as one of ours, for responses of a format.

    Raises:
      UserError: it is no fast tokenizer, or cannot be used; or there is no such format.
    """
    found = find_format(format, key="format") if isinstance(format, str) else format
    if isinstance(tokenizer, Tokenizer):
        return tokenizer if tokenizer.format == found else tokenizer.with_format(found)
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"{type(tokenizer).__name__} is no fast tokenizer of transformers")
    if tokenizer.chat_template is None:
        tokenizer = copy.copy(tokenizer)
        tokenizer.chat_template = _NO_TEMPLATE
    return tokenizers.wrap(tokenizer, format=found)


def _prompt_ids(tokenizer: Tokenizer, prompt: Any) -> list[int]:
    if isinstance(prompt, str):
        return tokenizer.encode_start(prompt)
    if len(prompt) and isinstance(prompt[0], Mapping):
        return tokenizer.chat_prompt([dict(message) for message in prompt])
    return [int(id) for id in prompt]


def _completion_ids(tokenizer: Tokenizer, completion: Any) -> list[int]:
    if not isinstance(completion, str) and len(completion) and isinstance(completion[0], Mapping):
        completion = completion[-1]["content"]
    if isinstance(completion, str):  # a text has no end-of-sequence; parsing removes it
        return [*tokenizer.encode(completion), tokenizer.eos_ids[0]]
    return [int(id) for id in completion]


def _with_prompt_opening(tokenizer: Tokenizer, prompt_ids: Sequence[int]) -> Tokenizer:
    """Return the tokenizer with a format that knows what the prompt has already written of the response."""
    tail = tokenizer.decode(prompt_ids[-_TAIL:])
    return dataclasses.replace(tokenizer, format=format_after(tail, tokenizer.format))


def _cuts(tokenizer: Tokenizer, n_prompt: int, parsed: ParsedCompletion) -> Cuts:
    """Return all cuts of a response in ids of prompt and response, that of ℓ₀ first."""
    opening = tuple(encoding.opening_ids(tokenizer))
    cut_k, prefixes = [0, *parsed.cuts], [opening, *parsed.prefixes]
    prefix_kx, length_k = encoding.pad_right(prefixes, max(map(len, prefixes)), 0)
    return Cuts(np.array(cut_k, np.int32) + n_prompt, np.ones(len(cut_k), bool), prefix_kx, length_k)


def _prefix_width(row: Encoded) -> int:
    return np.asarray(row.cuts.prefix_kx).shape[1]


def _pad_cuts(cuts: Cuts, n_cuts: int, width: int) -> tuple[np.ndarray, ...]:
    """Return the fields of the cuts, padded; cuts at padding are not valid."""
    more = n_cuts - len(cuts.cut_k)
    prefix_kx = np.asarray(cuts.prefix_kx)
    return (
        np.pad(np.asarray(cuts.cut_k), (0, more), constant_values=1),
        np.pad(np.asarray(cuts.valid_k), (0, more)),
        np.pad(prefix_kx, ((0, more), (0, width - prefix_kx.shape[1]))),
        np.pad(np.asarray(cuts.prefix_length_k), (0, more)),
    )


def _pad_answers(answers: Answers, n_variants: int, width: int, scored: int, ids: int) -> Answers:
    """Return answers padded to shared shapes; the lead-ins of all have one length."""
    token_ap, target_aye, scored_ay = (np.asarray(part) for part in answers)
    a, y = n_variants - len(token_ap), scored - scored_ay.shape[1]
    return Answers(
        np.pad(token_ap, ((0, a), (0, width - token_ap.shape[1]))),
        np.pad(target_aye, ((0, a), (0, y), (0, ids - target_aye.shape[2])), constant_values=-1),
        np.pad(scored_ay, ((0, a), (0, y))),
    )
