"""Sampled ids to text: steps, probe positions and the answer of a completion."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mig_jax import rewards
from mig_jax.policy.encoding import bucket_size, prefix_ids
from mig_jax.text import response_format
from mig_jax.text.response_format import Response
from mig_jax.text.tokenizer import Tokenizer

if TYPE_CHECKING:  # without them, this module needs no jax
    from mig_jax.models import sampler
    from mig_jax.policy.load import Policy

# An id without a token: it decodes to nothing.
_NO_TOKEN = -1


class ParsedCompletion(NamedTuple):
    """One completion, parsed on the host.

    Its steps are divided into n intervals, each of which ends with a probe. An interval is one step, or several if the
    response has more steps than probes.

    text: the completion without its end-of-sequence.
    response: positions of its parts, in characters.
    cuts: `[n]` tokens of the completion before each probe.
    prefixes: `[n]` ids that a probe writes before its lead-in: the end of the step, where the token with the end of the
      step also contains what the policy wrote after it. Such a token is after the cut. Usually empty.
    counts: `[n]` steps of each interval.
    step_t: `[T]` interval of each token of the process stream, from 0; n after the last cut, where the reasoning
      closes; −1 for all other tokens.
    ids: all token ids, the end-of-sequence included.
    is_truncated: the completion reached the length limit.
    """

    text: str
    response: Response
    cuts: tuple[int, ...]
    prefixes: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]
    step_t: np.ndarray
    ids: tuple[int, ...]
    is_truncated: bool

    @property
    def n_steps(self) -> int:
        """The number of steps of the response, probed or not."""
        return len(self.response.steps)


class _Characters(NamedTuple):
    """The text of N tokens, and where they are in it.

    text: all of it.
    start_t: `[N+1]` characters that are complete before each token, and before what follows the last one. They depend
      on the tokens before alone.
    end_t: `[N]` characters after each token.
    """

    text: str
    start_t: np.ndarray
    end_t: np.ndarray


def parse_completions(
    policy: "Policy", completions: "sampler.Completions", *, max_steps: int, process_mask: str
) -> list[ParsedCompletion]:
    """Parse every row of `completions`, on every process; see `parse_completion`."""
    from mig_jax.distributed import sharding

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
            process_mask=process_mask,
        )
        for ids, length, is_truncated in zip(token_bt, length_b, is_truncated_b, strict=True)
    ]


def parse_completion(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    *,
    is_truncated: bool,
    max_steps: int,
    width: int,
    process_mask: str,
    steps: Sequence[str] = (),
) -> ParsedCompletion:
    """Find the steps and cuts of sampled ids, at exact token boundaries. Without `steps` it never raises.

    Args:
      tokenizer: the policy's.
      ids: the sampled completion; its last id is the end-of-sequence unless it was truncated.
      is_truncated: the completion reached the length limit.
      max_steps: K; of more steps, K are followed by a probe, the last one among them.
      width: T, the length of `step_t`.
      process_mask: key of `PROCESS_MASKS`.
      steps: texts of given steps, which must occur in this order; none to find them.

    Raises:
      UserError: a given step does not occur.
    """
    characters = _decode(tokenizer, ids if is_truncated else ids[:-1])
    response = response_format.parse_response(characters.text, tokenizer.format, is_truncated=is_truncated)
    if steps:
        response = response_format.place_steps(characters.text, response, steps, tokenizer.format)
    last_steps = probed_steps(len(response.steps), max_steps)
    found = _find_cuts(tokenizer, characters, [response.cuts[step - 1] for step in last_steps])
    cuts, prefixes = tuple(cut for cut, _ in found), tuple(prefix for _, prefix in found)
    counts = tuple(np.diff((0, *last_steps)).tolist())

    is_in_t = PROCESS_MASKS[process_mask](response, characters.start_t, characters.end_t)[: len(ids)]
    step_t = np.full(width, -1, np.int32)
    step_t[: len(ids)] = np.where(is_in_t, np.searchsorted(cuts, np.arange(len(ids)), side="right"), -1)
    return ParsedCompletion(characters.text, response, cuts, prefixes, counts, step_t, tuple(ids), is_truncated)


def probed_steps(n_steps: int, max_steps: int) -> list[int]:
    """Return the steps that a probe follows, from 1: all of them, or `max_steps` evenly spread ones with the last."""
    n_probes = min(n_steps, max_steps)
    return [-(-k * n_steps // n_probes) for k in range(1, n_probes + 1)]


def stack_cuts(parsed: Sequence[ParsedCompletion], *, max_steps: int) -> tuple[rewards.Cuts, np.ndarray]:
    """Stack the probe positions of B completions, one for each interval of steps.

    Args:
      parsed: the completions.
      max_steps: K, at least the number of intervals of each completion.

    Returns:
      Cuts with `cut_k [B, K]`, in tokens of the completion; its prefixes are None if no completion has any, else padded
      to a power of two, so that few shapes are compiled. And count_bk `[B, K]`, the steps of each interval; 0 at
      padding.
    """
    cut_bk, count_bk = (np.zeros((len(parsed), max_steps), np.int32) for _ in range(2))
    valid_bk = np.zeros((len(parsed), max_steps), bool)
    for row, completion in enumerate(parsed):
        n = len(completion.cuts)
        cut_bk[row, :n], count_bk[row, :n], valid_bk[row, :n] = completion.cuts, completion.counts, True
    longest = max((len(prefix) for completion in parsed for prefix in completion.prefixes), default=0)
    if not longest:
        return rewards.Cuts(cut_bk, valid_bk), count_bk
    prefix_bkx = np.zeros((len(parsed), max_steps, bucket_size(longest)), np.int32)
    length_bk = np.zeros((len(parsed), max_steps), np.int32)
    for row, completion in enumerate(parsed):
        for k, prefix in enumerate(completion.prefixes):
            prefix_bkx[row, k, : len(prefix)], length_bk[row, k] = prefix, len(prefix)
    return rewards.Cuts(cut_bk, valid_bk, prefix_bkx, length_bk), count_bk


def _closing_mask(response: Response, start_t: np.ndarray, end_t: np.ndarray) -> np.ndarray:
    """Return whether the reasoning is open before each token: those of the closing tag are in, the last ones too."""
    return np.any([(start <= start_t) & (start_t < end) for start, end in response.open_spans], axis=0)


def _think_mask(response: Response, start_t: np.ndarray, end_t: np.ndarray) -> np.ndarray:
    """Return whether any character of each token is inside the think block; the end-of-sequence never is."""
    return np.append((start_t[:-1] < response.cot.end) & (end_t > response.cot.start), False)


# Tokens of the process stream, by the name that configs use. A mask takes the response and, in characters, the starts
# `[N+1]` and ends `[N]` of its tokens, the end-of-sequence being the one without an end; it returns `[N+1]` bool.
# Whether a token is in the closing mask depends on the tokens before it alone.
PROCESS_MASKS: dict[str, Callable[[Response, np.ndarray, np.ndarray], Any]] = {
    "closing": _closing_mask,
    "think": _think_mask,
}


def _decode(tokenizer: Tokenizer, ids: Sequence[int]) -> _Characters:
    """Decode ids without their end-of-sequence."""
    # An incomplete character at the end becomes U+FFFD only there, after all tokens.
    text, char_ends = tokenizer.decode_with_ends([*ids, _NO_TOKEN])
    start_t = np.array([0, *char_ends[:-1]], np.int64)
    end_t = np.array([*char_ends[:-2], len(text)] if len(ids) else [], np.int64)
    return _Characters(text, start_t, end_t)


def _find_cuts(
    tokenizer: Tokenizer, characters: _Characters, positions: Sequence[int]
) -> list[tuple[int, tuple[int, ...]]]:
    """Return, for each position after a step, the tokens before the cut and the ids that a probe writes first.

    A cut is the first token boundary at or after its position, if only whitespace is between them, as in `.\\n\\n`. A
    token such as `.</` begins the tag that the probe writes itself. The cut is then before that token, and the probe
    writes the end of the step. Where the format fits its lead-in to the cut, the probe writes its first part, too.
    """
    text, boundaries = characters.text, np.concatenate([[0], characters.end_t])
    found = []
    for cut, position in zip(tokenizer.cut_tokens(characters.end_t.tolist(), positions), positions, strict=True):
        is_split = bool(text[position : boundaries[cut]].strip())
        start = end = position if is_split else int(boundaries[cut])
        lead_in = response_format.lead_in_prefix(text, end, tokenizer.format)
        # A line break that the probe writes may merge with the token before it.
        if is_split or (cut and lead_in.startswith("\n")):
            # Tokens with a part of the step's last character alone are after the cut too.
            start = int(boundaries[cut - 1])
            cut = int(np.searchsorted(boundaries, start))
        prefix = text[start:end] + lead_in
        found.append((cut, tuple(prefix_ids(tokenizer, prefix)) if prefix else ()))
    return found
