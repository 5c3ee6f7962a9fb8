"""The page of a study: report.md, figure.png and results.json, from what its finished runs wrote.

The page is the same whether or not runs were stopped and resumed. What depends on time is apart: timing.md, and in
results.json `timing` and `runs`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mig_jax.records import plot_style
from mig_jax.records.atomic_file import replace_file
from mig_jax.studies import provenance
from mig_jax.studies.statistics import holm
from mig_jax.studies.study import Analysis, Comparison, Results, Study, Table


def write_page(study: Study, results: Results, root: Path, overrides: Mapping[str, Any]) -> None:
    """Analyze the finished runs and write the page."""
    analysis = study.analyze(results)
    records = [results.record(run) for run in results.finished()]
    facts = {
        "command": provenance.study_command(study, results.plan, overrides),
        "commits": sorted({record["commit"] for record in records}),
        "hardware": sorted({record["hardware"] for record in records}),
        "seeds": sorted({record["seed"] for record in records}),
        "finished": len(records),
        "planned": len(results.planned),
    }
    with replace_file(root / "report.md") as file:
        file.write(render(study, analysis, facts))
    if analysis.timing:
        with replace_file(root / "timing.md") as file:
            file.write("\n\n".join([f"# {study.name}: time", *map(_section, analysis.timing)]) + "\n")
    if analysis.figure:
        plot_style.save_figure(analysis.figure, str(root / "figure.png"))
    content = {
        "study": study.name,
        "question": study.question,
        "hypotheses": list(study.hypotheses),
        **facts,
        "findings": list(analysis.findings),
        "tables": [table_dict(table) for table in analysis.tables],
        "comparisons": [
            {**vars(comparison), "p_holm": p}
            for comparison, p in zip(analysis.comparisons, corrected(analysis.comparisons), strict=True)
        ],
        "numbers": dict(analysis.numbers),
        "timing": [table_dict(table) for table in analysis.timing],
        "runs": records,
    }
    with replace_file(root / "results.json") as file:
        json.dump(_without_nan(content), file, indent=1, default=str, ensure_ascii=False)
        file.write("\n")


def render(study: Study, analysis: Analysis, facts: Mapping[str, Any]) -> str:
    """Return report.md.

    Args:
      study: its question, hypotheses and limits.
      analysis: what was found.
      facts: command, commits, hardware, seeds, finished, planned.
    """
    parts = [f"# {study.name}", study.question]
    parts += ["## Expected", _bullets(study.hypotheses), "## Found"]
    parts += [_bullets(analysis.findings) if analysis.findings else "No run is finished yet."]
    parts += map(_section, analysis.tables)
    if analysis.comparisons:
        parts += ["### Comparisons", _comparisons(analysis.comparisons)]
    if analysis.figure:
        parts.append(f"![{study.name}](figure.png)")
    if study.limits:
        parts += ["## Limits", _bullets(study.limits)]
    parts += ["## How", f"```bash\n{facts['command']}\n```", _bullets(_fact_lines(facts))]
    return "\n\n".join(parts) + "\n"


def _fact_lines(facts: Mapping[str, Any]) -> list[str]:
    return [
        f"{facts['finished']} of {facts['planned']} runs are finished; seeds {', '.join(map(str, facts['seeds']))}",
        f"commit {', '.join(facts['commits'])}",
        *facts["hardware"],
        "seconds of each run: results.json",
    ]


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    """Return the table of all tests, with p-values corrected for their number."""
    rows = [
        (c.what, f"{c.mean:+.3f}", f"[{c.low:+.3f}, {c.high:+.3f}]", _p(c.p), _p(p))
        for c, p in zip(comparisons, corrected(comparisons), strict=True)
    ]
    n_tests = sum(map(_is_test, comparisons))
    note = (
        "Differences with 95 % intervals by bootstrap over problems and paired seeds; p corrected by Holm for "
        f"{n_tests} comparison{'s' * (n_tests != 1)}."
    )
    return note + "\n\n" + _markdown(("difference", "mean", "95 % interval", "p", "p, Holm"), rows)


def corrected(comparisons: Sequence[Comparison]) -> list[float | None]:
    """Return the p-value of each comparison corrected by Holm for the number of all; None where it is no test."""
    tested = [c.p or 0.0 for c in comparisons if _is_test(c)]
    of_tests = iter(holm(tested))
    return [next(of_tests) if _is_test(c) else None for c in comparisons]


def _is_test(comparison: Comparison) -> bool:
    """Return whether a comparison has a p-value; where nothing varies it is nan."""
    return comparison.p is not None and not math.isnan(comparison.p)


def table_dict(table: Table) -> dict[str, Any]:
    """Return a table, ready for JSON."""
    return {"title": table.title, "columns": list(table.columns), "rows": [list(row) for row in table.rows]}


def _p(p: float | None) -> str:
    return "" if p is None or math.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _section(table: Table) -> str:
    return f"### {table.title}\n\n{_markdown(table.columns, table.rows)}"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _without_nan(value: Any) -> Any:
    """Return nested values with None for nan, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = float(value)
        return number if math.isfinite(number) else None
    return value
