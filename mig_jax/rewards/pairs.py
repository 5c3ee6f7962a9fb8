"""Probes as pairs of a context and its continuation, for any engine that returns log-probs of a given continuation.

Needs numpy alone. A pair repeats the whole context of its cut, so (K+1)·A of them cost far more than a tree unless the
engine keeps the keys and values of common prefixes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mig_jax.rewards import numpy_twins
from mig_jax.rewards.arrays import Answers, Cuts
from mig_jax.rewards.trees import leaves


class Pair(NamedTuple):
    """One context with one continuation of it.

    context: ids of the prompt, of the response up to a cut, and of the lead-in.
    continuation: ids of one variant of the answer and of its ending, all of which are scored.
    cut, variant: k and a.
    ending: number of the id that ends the continuation, where any of several may (`terminator="event"`); else 0.
    """

    context: list[int]
    continuation: list[int]
    cut: int
    variant: int
    ending: int


def probe_pairs(token_s: Sequence[int], cuts: Cuts, answers: Answers) -> list[Pair]:
    """Return all probes of one response.

    Args:
      token_s: `[S]` ids of prompt and response, without padding.
      cuts: positions in them, `[K+1]`.
      answers: variants of the reference answer, see `pack_answers`.
    """
    token_ap, target_aye, scored_ay = map(np.asarray, answers)
    n_lead_in = token_ap.shape[1] - scored_ay.shape[1] + 1
    pairs = []
    for k, a, prefix in leaves(cuts, answers):
        context = [*token_s[: int(cuts.cut_k[k])], *prefix, *token_ap[a, :n_lead_in].tolist()]
        *targets, endings = target_aye[a, : scored_ay[a].sum()]
        for e, ending in enumerate(endings[endings >= 0].tolist()):
            pairs.append(Pair(context, [*(int(ids[0]) for ids in targets), ending], k, a, e))
    return pairs


def pairs_likelihood(
    pairs: Sequence[Pair],
    logprobs: Sequence[Sequence[float] | np.ndarray],
    answers: Answers,
    *,
    n_cuts: int,
    over_tokens: str = "mean_logprob",
    over_spellings: str = "max",
) -> np.ndarray:
    """Return ℓ after every step from the log-probs of all continuations.

    Args:
      pairs: of one response, see `probe_pairs`.
      logprobs: for each pair, the log-prob of each id of its continuation, in nats at temperature 1; entries after the
        continuation are ignored.
      answers: as in `probe_pairs`.
      n_cuts: K+1.
      over_tokens, over_spellings: as in `answer_likelihood`.

    Returns:
      ell_k `[K+1]` in nats per token, meaningless where a cut is not valid.

    Raises:
      ValueError: there are not as many log-probs as ids.
    """
    scored_ay = np.asarray(answers.scored_ay)
    logprob_kay = np.zeros((n_cuts, *scored_ay.shape), np.float32)
    for pair, given in zip(pairs, logprobs, strict=True):
        n = len(pair.continuation)
        if len(given) < n:
            raise ValueError(f"a continuation of {n} ids has {len(given)} log-probs")
        row = logprob_kay[pair.cut, pair.variant]
        if pair.ending:
            row[n - 1] = np.logaddexp(row[n - 1], given[n - 1])
        else:
            row[:n] = given[:n]
    return numpy_twins.answer_likelihood(logprob_kay, scored_ay, over_tokens=over_tokens, over_spellings=over_spellings)
