"""Markdown tables of evaluation results, aligned so that they are readable as plain text."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from mig_jax.records import format_shares, hallusion_bench
from mig_jax.records.eval_metrics import CRITERIA
from mig_jax.records.eval_statistics import Estimate

# Heading, metric, criterion; n is the number of samples. The last two are left out where n is 1.
COLUMNS = (
    ("greedy strict", "greedy", "strict"),
    ("greedy lenient", "greedy", "lenient"),
    ("sampled strict", "sampled", "strict"),
    ("sampled lenient", "sampled", "lenient"),
    ("pass@n strict", "pass@n", "strict"),
    ("maj@n strict", "maj@n", "strict"),
)
# Heading, kind of `format_shares`.
SHARES = (("cut off", "truncated"), ("malformed", "malformed"))


def render_tables(results_by_benchmark: Mapping[str, Mapping[str, Any]]) -> str:
    """Render a table with a row per benchmark, warnings, then tables of the levels, subjects and sources of each.

    Args:
      results_by_benchmark: results of `eval_metrics.compute_eval_metrics` by name.
    """
    samples = {name: results["samples"] for name, results in results_by_benchmark.items()}
    lines = [
        *_render_groups("benchmark", results_by_benchmark, samples),
        "",
        f"In percent, with 95 % intervals over problems; {_describe_samples(samples)}.",
        "Cut off (at the length limit) and malformed: percent of the greedy / of the sampled responses.",
    ]
    undecided = [
        f"{name} {', '.join(f'{count} {criterion}' for criterion, count in results['timeouts'].items())}"
        for name, results in results_by_benchmark.items()
        if any(results["timeouts"].values())
    ]
    if undecided:
        lines.append(f"Undecided responses, excluded from the means: {'; '.join(undecided)}.")
    for name, results in results_by_benchmark.items():
        shares = {kind: results[kind] for kind in format_shares.KINDS}
        lines += [f"Warning: {warning}" for warning in format_shares.find_warnings(shares, of=name)]
    for name, results in results_by_benchmark.items():
        lines += _render_section(name, results)
    return "\n".join(lines)


def _describe_samples(samples: Mapping[str, int]) -> str:
    if len(set(samples.values())) == 1:
        return f"n = {next(iter(samples.values()))}"
    return "n = " + ", ".join(f"{n} ({name})" for name, n in samples.items())


def _render_section(name: str, results: Mapping[str, Any]) -> list[str]:
    """Return the lines of a benchmark's own tables; none if it has no groups."""
    tables = []
    if "hallusion_bench" in results:
        tables += _render_hallusion_bench(results["hallusion_bench"])
    for heading, part in (("level", "levels"), ("subject", "subjects"), ("source", "sources")):
        if results[part]:
            samples = {group: results["samples"] for group in results[part]}
            tables.append(_render_groups(heading, results[part], samples))
    return ["", f"## {name}", *(line for rows in tables for line in ("", *rows))] if tables else []


def _render_hallusion_bench(metrics: Mapping[str, Mapping[str, Estimate]]) -> list[list[str]]:
    rows = [
        [metric, *(_format_estimate(estimates[criterion]) for criterion in CRITERIA)]
        for metric, estimates in metrics.items()
    ]
    blocks = [_align([["metric", *(f"greedy {criterion}" for criterion in CRITERIA)], *rows])]
    if "fAcc" not in metrics:
        blocks.append([f"fAcc and qAcc are not reported: they need all {hallusion_bench.QUESTIONS:,} questions."])
    return blocks


def _render_groups(heading: str, groups: Mapping[str, Mapping[str, Any]], samples: Mapping[str, int]) -> list[str]:
    """Return the lines of a table with a row per group of problems."""
    columns = [column for column in COLUMNS if "@n" not in column[1] or max(samples.values()) > 1]
    rows = [[heading, "problems", *(column for column, _, _ in columns), *(column for column, _ in SHARES)]]
    for name, group in groups.items():
        cells = [
            _format_estimate(group["metrics"][metric.replace("@n", f"@{samples[name]}")][criterion])
            for _, metric, criterion in columns
        ]
        shares = [f"{100 * group[kind]['greedy']:.1f} / {100 * group[kind]['sampled']:.1f}" for _, kind in SHARES]
        rows.append([name or "(none)", str(group["problems"]), *cells, *shares])
    return _align(rows)


def _format_estimate(estimate: Estimate) -> str:
    """Return "mean [low, high]" in percent, or a dash if the mean is unknown."""
    mean, low, high = estimate["mean"], estimate["low"], estimate["high"]
    if mean is None or low is None or high is None:
        return "–"
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table: the first row is the header, the first column is left-aligned."""
    rows = [[" ".join(cell.split()).replace("|", r"\|") for cell in row] for row in rows]
    widths = [max(map(_display_width, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for first, *others in [rows[0], rule, *rows[1:]]:
        cells = [first + " " * (widths[0] - _display_width(first))]
        cells += [" " * (width - _display_width(cell)) + cell for cell, width in zip(others, widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _display_width(text: str) -> int:
    """Return the terminal columns of a text; Chinese characters take two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") - bool(unicodedata.combining(c)) for c in text)
