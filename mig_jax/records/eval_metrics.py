"""From the scored responses of a benchmark to the numbers that a paper prints, each with a confidence interval.

Every number is read in two ways, side by side. strict: the answer in the answer block, which counts in a well-formed
response only. lenient: the answer wherever it stands. A check that came to no end is no verdict: it is left out of the
means, and counted.

Shapes: `Q` problems, `n` samples of each. `correct_qn` is 1 where an answer is right, 0 where it is wrong, nan where
that was not decided; `value_q` is what a problem adds to a mean, nan where nothing can be said of it.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mig_jax.data.rows import format_errors
from mig_jax.records.transcripts import Transcript
from mig_jax.text.answers.compare import vote_key
from mig_jax.text.answers.lenient import extract_lenient_answer
from mig_jax.text.response_format import parse_response

RESAMPLES, SEED = 2000, 0
PERCENTILES = (2.5, 97.5)

# Those of HallusionBench.json in tianyi-lab/HallusionBench, as in arXiv 2310.14566.
HALLUSION_QUESTIONS = 1129


class AnswerReading(NamedTuple):
    """A way to read a response: is it right (None: undecided), and what is its answer (None: it has none)?"""

    is_correct: Callable[[Transcript], bool | None]
    answer: Callable[[Transcript], str | None]


READINGS = {
    "strict": AnswerReading(
        lambda t: t.is_correct_strict,
        lambda t: None if t.format_error else parse_response(t.response).answer,
    ),
    "lenient": AnswerReading(
        lambda t: t.is_correct_lenient,
        lambda t: extract_lenient_answer(t.response, kind=t.kind, choices=t.choices),
    ),
}


def compute_eval_metrics(transcripts: Sequence[Transcript]) -> dict[str, Any]:
    """All numbers of one benchmark, ready for JSON.

    Args:
      transcripts: of every problem (those of one `id`) a greedy one, and equally many sampled ones, in any order.

    Returns:
      problems, samples: Q and n.
      figures: name → reading → {mean, low, high, undecided}: shares with their interval, and how many problems are left
        out of them; None where all are. greedy; sampled, the mean over problems and samples; pass@k for k = 1, 2, 4, …
        and n; maj@n, the answer that most samples give.
      levels, subjects, sources: name → {problems, figures}; empty where the benchmark has none, or a single source.
      format: share of well-formed responses, characters: their mean length, both greedy and sampled.
      timeouts: reading → how many responses were not decided.
      hallusion_bench: of that benchmark only, see `hallusion_figures`.

    Raises:
      ValueError: problems do not have what is said above; all of them are named.
    """
    greedy, sampled = by_problem(transcripts)
    values = {reading: values_by_figure(greedy, sampled, reading) for reading in READINGS}
    sides = {"greedy": greedy, "sampled": [transcript for samples in sampled for transcript in samples]}
    results = {
        "problems": len(greedy),
        "samples": len(sampled[0]),
        "figures": figures(values, np.arange(len(greedy))),
        "levels": by_name([t.level for t in greedy], values),
        "subjects": by_name([t.subject for t in greedy], values),
        "sources": by_name([t.source for t in greedy], values) if len({t.source for t in greedy}) > 1 else {},
        "format": {side: float(np.mean([not t.format_error for t in ts])) for side, ts in sides.items()},
        "characters": {side: float(np.mean([len(t.response) for t in ts])) for side, ts in sides.items()},
        "timeouts": {
            name: sum(reading.is_correct(t) is None for t in transcripts) for name, reading in READINGS.items()
        },
    }
    if {t.source for t in greedy} == {"hallusion_bench"}:
        results["hallusion_bench"] = hallusion_figures(greedy)
    return results


def summarize(transcripts: Sequence[Transcript]) -> dict[str, float]:
    """A few of the numbers of `compute_eval_metrics` by name, as a row of metrics takes them; nan for what is not known.

    greedy, sampled, pass@n, maj@n: strict; with `_lenient` behind the name: lenient. format: of the samples. timeouts.
    """
    results = compute_eval_metrics(transcripts)
    n = results["samples"]
    row = {"format": results["format"]["sampled"], "timeouts": float(results["timeouts"]["strict"])}
    for name in ("greedy", "sampled", f"pass@{n}", f"maj@{n}"):
        for reading, suffix in (("strict", ""), ("lenient", "_lenient")):
            mean = results["figures"][name][reading]["mean"]
            row[name + suffix] = np.nan if mean is None else mean
    return row


def by_problem(transcripts: Iterable[Transcript]) -> tuple[list[Transcript], list[list[Transcript]]]:
    """The greedy transcript `[Q]` and the sampled ones `[Q][n]` of every problem, in the order of the problems."""
    sides_by_id = defaultdict(lambda: {"greedy": [], "sampled": [], "neither": []})
    for transcript in transcripts:
        side = transcript.sampling if transcript.sampling in ("greedy", "sampled") else "neither"
        sides_by_id[transcript.id][side].append(transcript)
    if not sides_by_id:
        raise ValueError("there are no transcripts to make results of")
    n = max(1, Counter(len(sides["sampled"]) for sides in sides_by_id.values()).most_common(1)[0][0])
    faults = [
        f"{id_ or 'no id'}: " + ", ".join(f"{len(transcripts)} {side}" for side, transcripts in sides.items())
        for id_, sides in sides_by_id.items()
        if not id_ or [len(transcripts) for transcripts in sides.values()] != [1, n, 0]
    ]
    if faults:
        needed = f"every problem needs an id, 1 greedy transcript and {n} sampled ones, as one evaluation writes them"
        raise ValueError(format_errors(f"{needed}; there are", faults))
    return [sides["greedy"][0] for sides in sides_by_id.values()], [sides["sampled"] for sides in sides_by_id.values()]


# ---------------------------------------------------------------------------------------------- what a problem counts


def values_by_figure(
    greedy: Sequence[Transcript], sampled: Sequence[Sequence[Transcript]], reading: str
) -> dict[str, np.ndarray]:
    """`value_q` of every figure."""
    is_correct, n = READINGS[reading].is_correct, len(sampled[0])
    correct_qn = np.array([[is_correct(t) for t in samples] for samples in sampled], float)  # None becomes nan
    votes_qn = [[vote(t, reading) for t in samples] for samples in sampled]
    return {
        "greedy": np.array([is_correct(t) for t in greedy], float),
        "sampled": np.array([mean_decided(correct_n) for correct_n in correct_qn]),
        **{f"pass@{k}": pass_at_k_q(correct_qn, k) for k in ks(n)},
        f"maj@{n}": np.array([majority(*row) for row in zip(votes_qn, correct_qn, strict=True)]),
    }


def vote(transcript: Transcript, reading: str) -> str:
    """What a sample votes for, see `compare.vote_key`; "" where it has no answer."""
    answer = READINGS[reading].answer(transcript)
    return "" if answer is None else vote_key(answer, kind=transcript.kind, choices=transcript.choices)


def ks(n: int) -> list[int]:
    """1, 2, 4, … as far as they go, and n."""
    return sorted({*(2**i for i in range(n.bit_length())), n})


def mean_decided(correct_n: np.ndarray) -> float:
    """Share of right answers among those that were decided; nan when none was."""
    decided = correct_n[~np.isnan(correct_n)]
    return float(decided.mean()) if decided.size else np.nan


def pass_at_k(n_correct: int, n: int, k: int) -> float:
    """Chance that at least one of k samples is right, unbiased from n ≥ k samples: 1 − C(n−c, k) / C(n, k).

    References:
      arXiv 2107.03374, section 2.1.
    """
    if not 0 < k <= n:
        raise ValueError(f"pass@{k} cannot be told from {n} samples")
    wrong = np.arange(n - n_correct - k + 1, n - n_correct + 1)
    return 1.0 if n - n_correct < k else 1.0 - float(np.prod(wrong / np.arange(n - k + 1, n + 1)))


def pass_at_k_q(correct_qn: np.ndarray, k: int) -> np.ndarray:
    """pass@k of every problem from its decided samples; nan where they are fewer than k."""
    decided_q, correct_q = (~np.isnan(correct_qn)).sum(1), np.nansum(correct_qn, 1)
    return np.array(
        [pass_at_k(int(c), int(n), k) if n >= k else np.nan for c, n in zip(correct_q, decided_q, strict=True)]
    )


def majority(votes: Sequence[str], correct_n: np.ndarray) -> float:
    """Is the answer right that most samples give? Of answers that tie, the share that is right.

    Args:
      votes: `[n]` what each sample votes for; "" for nothing.
      correct_n: is each of them right?

    Returns:
      0 when nobody votes; nan where a leading answer was decided in none of its samples.
    """
    correct_by_answer = defaultdict(list)
    for vote, correct in zip(votes, correct_n, strict=True):
        if vote:
            correct_by_answer[vote].append(correct)
    most = max(map(len, correct_by_answer.values()), default=0)
    leading = [mean_decided(np.array(c)) for c in correct_by_answer.values() if len(c) == most]
    return float(np.mean(leading)) if leading else 0.0


# ------------------------------------------------------------------------------------------------- means over problems


def figures(values: Mapping[str, Mapping[str, np.ndarray]], rows: np.ndarray) -> dict[str, dict[str, Any]]:
    """name → reading → figure, of some of the problems."""
    names = next(iter(values.values()))
    return {name: {reading: figure(values[reading][name][rows]) for reading in values} for name in names}


def figure(value_q: np.ndarray) -> dict[str, Any]:
    """The mean of what is known, its interval, and how many problems are left out of both."""
    known = value_q[~np.isnan(value_q)]
    undecided = value_q.size - known.size
    if not known.size:
        return {"mean": None, "low": None, "high": None, "undecided": undecided}
    low, high = interval(known)
    return {"mean": float(known.mean()), "low": low, "high": high, "undecided": undecided}


def interval(value_q: np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of a mean over problems: percentiles of the means of resamples (bootstrap).

    A resample is drawn from the problems with replacement, samples and all, and its mean depends only on how often
    each value is drawn: so it is these numbers that are drawn, of all resamples at once.
    """
    values, counts = np.unique(value_q, return_counts=True)
    drawn = np.random.default_rng(SEED).multinomial(value_q.size, counts / value_q.size, size=RESAMPLES)
    low, high = np.percentile(drawn @ values / value_q.size, PERCENTILES)
    return float(low), float(high)


def by_name(name_q: Sequence[str], values: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, Any]]:
    """The problems and figures of every name; empty when no problem has one."""
    if not any(name_q):
        return {}
    names = np.array(name_q, object)
    rows = {name: np.flatnonzero(names == name) for name in in_order(name_q)}
    return {name: {"problems": len(rows_), "figures": figures(values, rows_)} for name, rows_ in rows.items()}


def in_order(names: Iterable[str]) -> list[str]:
    """Each of the names once, "Level 2" before "Level 10"."""
    return sorted(set(names), key=lambda name: [int(s) if i % 2 else s for i, s in enumerate(_DIGITS.split(name))])


_DIGITS = re.compile("([0-9]{1,9})")

# ------------------------------------------------------------------------------------------------------ HallusionBench


def hallusion_figures(greedy: Sequence[Transcript]) -> dict[str, dict[str, Any]]:
    """name → reading → figure, as the authors of HallusionBench count.

    aAcc: all questions. fAcc: figures all of whose questions are right; what is asked without a figure, figure 0 of
    the category VS, is in none. qAcc: questions that are right with every figure, and without one. The authors also
    let it pass when a model is uncertain without a figure; here it has to say yes or no. fAcc and qAcc are left out
    unless all questions are there: else figures lack questions, questions lack figures, and both are too high.

    References:
      arXiv 2310.14566, section 4.2; tianyi-lab/HallusionBench, utils.py.
    """
    keys = [t.id.split("/") for t in greedy]
    faults = [t.id for t, key in zip(greedy, keys, strict=True) if len(key) != 5]
    if faults:
        raise ValueError(f"not category/subcategory/set_id/figure_id/question_id: {', '.join(faults)}")
    groups = {"aAcc": range(len(keys))}
    if len(keys) >= HALLUSION_QUESTIONS:
        groups["fAcc"] = [None if (key[0], key[3]) == ("VS", "0") else tuple(key[:4]) for key in keys]
        groups["qAcc"] = [(*key[:3], key[4]) for key in keys]
    correct = {name: np.array([r.is_correct(t) for t in greedy], float) for name, r in READINGS.items()}
    return {
        figure_name: {name: figure(all_right(correct_q, group_q)) for name, correct_q in correct.items()}
        for figure_name, group_q in groups.items()
    }


def all_right(correct_q: np.ndarray, keys: Sequence[Hashable | None]) -> np.ndarray:
    """For every key: 1 when all that have it are right, 0 when one is wrong, else nan. A key of None is no key."""
    correct_by_key = defaultdict(list)
    for key, correct in zip(keys, correct_q, strict=True):
        if key is not None:
            correct_by_key[key].append(correct)
    return np.array([0.0 if 0.0 in correct else np.min(correct) for correct in correct_by_key.values()])


# --------------------------------------------------------------------------------------------------------------- table

# Heading, figure, reading; n is the number of samples.
COLUMNS = (
    ("greedy strict", "greedy", "strict"),
    ("greedy lenient", "greedy", "lenient"),
    ("sampled strict", "sampled", "strict"),
    ("sampled lenient", "sampled", "lenient"),
    ("pass@n strict", "pass@n", "strict"),
    ("maj@n strict", "maj@n", "strict"),
)


def table(results_by_benchmark: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown that reads well as it stands: a row a benchmark, then the levels, subjects and sources of each."""
    samples = {name: results["samples"] for name, results in results_by_benchmark.items()}
    lines = [
        *_table("benchmark", results_by_benchmark, samples),
        "",
        f"In percent, with the 95 % interval over problems; {_samples(samples)}.",
    ]
    undecided = [
        f"{name} {' and '.join(f'{count} {reading}' for reading, count in results['timeouts'].items())}"
        for name, results in results_by_benchmark.items()
        if any(results["timeouts"].values())
    ]
    if undecided:
        lines.append(f"Undecided, left out of the means: {'; '.join(undecided)}.")
    for name, results in results_by_benchmark.items():
        lines += _section(name, results)
    return "\n".join(lines)


def _samples(samples: Mapping[str, int]) -> str:
    if len(set(samples.values())) == 1:
        return f"n = {next(iter(samples.values()))}"
    return "n = " + ", ".join(f"{n} ({name})" for name, n in samples.items())


def _section(name: str, results: Mapping[str, Any]) -> list[str]:
    tables = []
    if "hallusion_bench" in results:
        rows = [
            [figure_name, *(_percent(readings[reading]) for reading in READINGS)]
            for figure_name, readings in results["hallusion_bench"].items()
        ]
        tables.append(_align([["figure", *(f"greedy {reading}" for reading in READINGS)], *rows]))
        if "fAcc" not in results["hallusion_bench"]:
            tables.append([f"fAcc and qAcc are left out: they need all {HALLUSION_QUESTIONS:,} questions."])
    for heading, part in (("level", "levels"), ("subject", "subjects"), ("source", "sources")):
        if results[part]:
            tables.append(_table(heading, results[part], dict.fromkeys(results[part], results["samples"])))
    return ["", f"## {name}", *(line for rows in tables for line in ("", *rows))] if tables else []


def _table(heading: str, groups: Mapping[str, Mapping[str, Any]], samples: Mapping[str, int]) -> list[str]:
    """A row for each group of problems."""
    rows = [[heading, "problems", *(column for column, _, _ in COLUMNS)]]
    for name, group in groups.items():
        cells = [
            _percent(group["figures"][figure_name.replace("@n", f"@{samples[name]}")][reading])
            for _, figure_name, reading in COLUMNS
        ]
        rows.append([name or "(none)", str(group["problems"]), *cells])
    return _align(rows)


def _percent(figure: Mapping[str, Any]) -> str:
    if figure["mean"] is None:
        return "–"
    return f"{100 * figure['mean']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table, the first row its head; names to the left, numbers to the right."""
    rows = [[" ".join(cell.split()).replace("|", r"\|") for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for first, *others in [rows[0], rule, *rows[1:]]:
        cells = [first + " " * (widths[0] - _width(first))]
        cells += [" " * (width - _width(cell)) + cell for cell, width in zip(others, widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _width(text: str) -> int:
    """Columns of a terminal; Chinese characters take two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") - bool(unicodedata.combining(c)) for c in text)
