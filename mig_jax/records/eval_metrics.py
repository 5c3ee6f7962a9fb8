"""Metrics of a benchmark from its graded transcripts: accuracy, pass@k and maj@n with confidence intervals, formats.

Each metric is computed by two criteria, side by side:

  strict: the answer in the answer block; only a well-formed response can be correct.
  lenient: the answer wherever it is in the response.

A response is undecided if its grading timed out and that of its reference alone, too. It is excluded from the means,
and counted.

Shapes: `Q` problems, `n` samples of each; `correct_qn` and `value_q` as in `eval_statistics`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mig_jax.data.rows import format_errors
from mig_jax.errors import UserError
from mig_jax.records import format_shares, hallusion_bench
from mig_jax.records.eval_statistics import (
    Estimate,
    estimate_mean,
    majority_correct,
    mean_decided,
    pass_at_k_q,
    reported_ks,
)
from mig_jax.records.read_answers import lenient_answer, strict_answer
from mig_jax.records.transcripts import Transcript
from mig_jax.text.answers.votes import vote_key


class Criterion(NamedTuple):
    """A way to grade responses.

    is_correct: returns whether a response is correct; None if undecided.
    answer: returns the answer of a response; None if it has none.
    """

    is_correct: Callable[[Transcript], bool | None]
    answer: Callable[[Transcript], str | None]


CRITERIA = {
    "strict": Criterion(
        lambda t: t.is_correct_strict,
        lambda t: None if t.format_error else strict_answer(t),
    ),
    "lenient": Criterion(
        lambda t: t.is_correct_lenient,
        lenient_answer,
    ),
}

# criterion → metric → `value_q`
Values = Mapping[str, Mapping[str, np.ndarray]]
# metric → criterion → estimate
Estimates = dict[str, dict[str, Estimate]]


def compute_eval_metrics(transcripts: Sequence[Transcript]) -> dict[str, Any]:
    """Compute all metrics of one benchmark, ready for JSON.

    Args:
      transcripts: of every problem (identified by `id`) one greedy transcript and n sampled ones, in any order.

    Returns:
      problems, samples: Q and n.
      metrics: metric → criterion → {mean, low, high, undecided}, see `eval_statistics.Estimate`. The metrics are
        greedy; sampled, the mean over problems and samples; pass@k for k = 1, 2, 4, … and n; maj@n, the accuracy of
        the most frequent answer.
      format, truncated, malformed: shares of the responses, greedy and sampled, that are well formed, were cut off by
        the length limit, or ended by themselves but are not well formed.
      levels, subjects, sources: name → {problems, metrics, format, truncated, malformed}; empty if the benchmark has
        none, or a single source.
      characters: mean length of the responses, greedy and sampled.
      timeouts: criterion → number of undecided responses.
      hallusion_bench: only for that benchmark, see `hallusion_bench.compute_group_metrics`.

    Raises:
      UserError: a problem lacks a transcript, or has too many; lists all such problems.
    """
    greedy, sampled = group_by_problem(transcripts)
    responses = {"greedy": [[t] for t in greedy], "sampled": sampled}
    by_sampling = {name: [t for group in groups for t in group] for name, groups in responses.items()}
    values = {criterion: metric_values(greedy, sampled, criterion) for criterion in CRITERIA}
    sources = {t.source for t in greedy}

    def summarize_groups(group_q: Sequence[str]) -> dict[str, Any]:
        return {name: summarize_problems(values, responses, rows) for name, rows in split_groups(group_q).items()}

    results = {
        **summarize_problems(values, responses, np.arange(len(greedy))),
        "samples": len(sampled[0]),
        "levels": summarize_groups([t.level for t in greedy]),
        "subjects": summarize_groups([t.subject for t in greedy]),
        "sources": summarize_groups([t.source for t in greedy]) if len(sources) > 1 else {},
        "characters": {name: float(np.mean([len(t.response) for t in ts])) for name, ts in by_sampling.items()},
        "timeouts": {name: sum(c.is_correct(t) is None for t in transcripts) for name, c in CRITERIA.items()},
    }
    if sources == {"hallusion_bench"}:
        correct = {name: np.array([c.is_correct(t) for t in greedy], float) for name, c in CRITERIA.items()}
        results["hallusion_bench"] = hallusion_bench.compute_group_metrics([t.id for t in greedy], correct)
    return results


def summarize(transcripts: Sequence[Transcript]) -> dict[str, float]:
    """Return the main metrics of `compute_eval_metrics` by name, for a row of metrics; unknown values are nan.

    The names are greedy, sampled, pass@n and maj@n (strict); the same with the suffix `_lenient`; format (of the
    sampled responses); timeouts (strict).
    """
    results = compute_eval_metrics(transcripts)
    n = results["samples"]
    row = {"format": results["format"]["sampled"], "timeouts": float(results["timeouts"]["strict"])}
    for name in ("greedy", "sampled", f"pass@{n}", f"maj@{n}"):
        for criterion, suffix in (("strict", ""), ("lenient", "_lenient")):
            mean = results["metrics"][name][criterion]["mean"]
            row[name + suffix] = np.nan if mean is None else mean
    return row


def group_by_problem(transcripts: Iterable[Transcript]) -> tuple[list[Transcript], list[list[Transcript]]]:
    """Group transcripts by their problem, in order of first occurrence.

    Returns:
      The greedy transcript of each problem, `[Q]`, and its sampled ones, `[Q][n]`.

    Raises:
      UserError: a problem has no id, or not one greedy transcript and n sampled ones; lists all such problems.
    """
    by_id = defaultdict(lambda: {"greedy": [], "sampled": [], "other": []})
    for transcript in transcripts:
        sampling = transcript.sampling if transcript.sampling in ("greedy", "sampled") else "other"
        by_id[transcript.id][sampling].append(transcript)
    if not by_id:
        raise UserError("there are no transcripts to compute metrics from")
    n = max(1, Counter(len(groups["sampled"]) for groups in by_id.values()).most_common(1)[0][0])
    errors = [
        f"{id_ or 'no id'}: " + ", ".join(f"{len(group)} {sampling}" for sampling, group in groups.items())
        for id_, groups in by_id.items()
        if not id_ or [len(group) for group in groups.values()] != [1, n, 0]
    ]
    if errors:
        needed = f"every problem needs an id, 1 greedy transcript and {n} sampled ones, all from one evaluation"
        raise UserError(format_errors(f"{needed}; found", errors))
    return [groups["greedy"][0] for groups in by_id.values()], [groups["sampled"] for groups in by_id.values()]


def metric_values(
    greedy: Sequence[Transcript], sampled: Sequence[Sequence[Transcript]], criterion: str
) -> dict[str, np.ndarray]:
    """Return the `value_q` of every metric by one criterion."""
    is_correct, n = CRITERIA[criterion].is_correct, len(sampled[0])
    correct_qn = np.array([[is_correct(t) for t in samples] for samples in sampled], float)  # None becomes nan
    votes_qn = [[vote(t, criterion) for t in samples] for samples in sampled]
    return {
        "greedy": np.array([is_correct(t) for t in greedy], float),
        "sampled": np.array([mean_decided(correct_n) for correct_n in correct_qn]),
        **{f"pass@{k}": pass_at_k_q(correct_qn, k) for k in reported_ks(n)},
        f"maj@{n}": np.array([majority_correct(*row) for row in zip(votes_qn, correct_qn, strict=True)]),
    }


def vote(transcript: Transcript, criterion: str) -> str:
    """Return the normalized answer a sample votes for, see `votes.vote_key`; "" if it has no answer."""
    answer = CRITERIA[criterion].answer(transcript)
    return "" if answer is None else vote_key(answer, kind=transcript.kind, choices=transcript.choices)


def estimate_metrics(values: Values, rows: np.ndarray) -> Estimates:
    """Estimate every metric over some of the problems.

    Args:
      values: of all problems.
      rows: indices of the problems to use.
    """
    metrics = next(iter(values.values()))
    return {
        metric: {criterion: estimate_mean(by_metric[metric][rows]) for criterion, by_metric in values.items()}
        for metric in metrics
    }


def summarize_problems(
    values: Values, responses: Mapping[str, Sequence[Sequence[Transcript]]], rows: np.ndarray
) -> dict[str, Any]:
    """Summarize some of the problems.

    Args:
      values: of all problems.
      responses: sampling → the responses to each problem, `[Q]`.
      rows: indices of the problems to use.

    Returns:
      problems, metrics, format, truncated, malformed: as in `compute_eval_metrics`.
    """
    chosen = {name: [t for row in rows for t in groups[row]] for name, groups in responses.items()}
    shares = {
        kind: {name: format_shares.share(transcripts, kind) for name, transcripts in chosen.items()}
        for kind in format_shares.KINDS
    }
    well_formed = {name: float(np.mean([not t.format_error for t in ts])) for name, ts in chosen.items()}
    return {"problems": len(rows), "metrics": estimate_metrics(values, rows), "format": well_formed, **shares}


def split_groups(group_q: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the indices of the problems of each group, such as a level; empty if all groups are "".

    Args:
      group_q: `[Q]` the group of each problem.
    """
    groups = np.array(group_q, object)
    return {name: np.flatnonzero(groups == name) for name in natural_order(group_q)} if any(group_q) else {}


def natural_order(names: Iterable[str]) -> list[str]:
    """Return the distinct names in natural order: "Level 2" before "Level 10"."""
    return sorted(set(names), key=lambda name: [int(s) if i % 2 else s for i, s in enumerate(_DIGITS.split(name))])


_DIGITS = re.compile("([0-9]{1,9})")
