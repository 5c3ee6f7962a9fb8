"""Which credit rule? Table 4 of the paper: correlation with value, granularity, gamed responses, accuracy.

The first three need no training: rules are applied to the likelihoods of the same sampled and written responses.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from mig_jax.records import plot_style
from mig_jax.rewards.numpy_twins import make_credit
from mig_jax.studies import actions, statistics
from mig_jax.studies.actions import VALUES
from mig_jax.studies.arms import CELL_COLUMNS, SHORT_RUN, Cell, cell_row, compare, read_cell, train_and_evaluate
from mig_jax.studies.gamed import HONEST, group_of, paid, score_gamed
from mig_jax.studies.statistics import clustered, mean_interval
from mig_jax.studies.study import Analysis, Plan, Results, Run, Study, Table

# Name → rule and its parameters.
RULES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "watermark": ("watermark", {}),
    "threshold": ("watermark", {"threshold": 0.25}),
    "drawdown": ("watermark", {"drawdown": 1.0}),
    "price_gate": ("watermark", {"step_price": 0.05, "gate": "correct"}),
    "final": ("final", {}),
    "delta_sum": ("delta_sum", {}),
    "position_weighted": ("position_weighted", {}),
    "segment_progress": ("segment_progress", {}),
}
LABELS = {
    "watermark": "watermark",
    "threshold": "watermark, threshold 0.25",
    "drawdown": "watermark, drawdown 1",
    "price_gate": "watermark, price 0.05, gate correct",
    "final": "final likelihood",
    "delta_sum": "sum of signed deltas",
    "position_weighted": "position-weighted",
    "segment_progress": "segment progress",
}
# A step is paid if it earns at least this share of what a response earns on average.
PAID_SHARE = 0.01


def plan_runs(plan: Plan) -> list[Run]:
    """Return samples and their values, the gamed responses, and a training run for each rule and seed."""
    problems, samples, continuations, gamed = (3, 2, 2, 3) if plan.smoke else (40, 2, 32, 24)
    runs = [
        Run("samples", actions.sample, arm="samples", options={"limit": problems, "samples": samples}),
        Run(
            "values",
            actions.values,
            arm="values",
            after=("samples",),
            options={"of": "samples", "samples": continuations},
        ),
        Run("gamed", score_gamed, arm="gamed", options={"limit": gamed}),
    ]
    for seed in range(plan.seeds):
        for name, (rule, args) in RULES.items():
            changes = {"reward.credit": rule, **{f"reward.credit_args.{key}": value for key, value in args.items()}}
            hot = {"rollout.temperature": TEMPERATURE}
            runs += train_and_evaluate(name, "", seed, {**changes, **hot}, evaluation=hot)
    return runs


# At which about 1 % of the quickstart's samples are right, so that the process reward has to lead.
TEMPERATURE = 1.4


# ------------------------------------------------------------------------------------------------------------ analysis


class _Steps(NamedTuple):
    """What rules pay for the steps of sampled responses.

    problem_n: `[N]` the problem of each step.
    value_n, change_n: `[N]` value after the step, and how much it changed.
    earned_n, gain_n: rule → `[N]` reward up to the step, and gain of the step.
    """

    problem_n: np.ndarray
    value_n: np.ndarray
    change_n: np.ndarray
    earned_n: dict[str, np.ndarray]
    gain_n: dict[str, np.ndarray]


def analyze(results: Results) -> Analysis:
    """Compare the rules by all four measures."""
    tables, findings, comparisons = [], [], []
    steps = _read_steps(results)
    numbers: dict[str, Any] = {}
    if steps is not None and len(steps.value_n) > 2:
        tables.append(_correlation_table(steps, numbers))
        followed = numbers["gain and change of value"]
        best, worst = max(followed, key=followed.get), min(followed, key=followed.get)
        findings.append(
            f"Gains follow changes of the value best under {LABELS[best]} (ρ = {followed[best]:.3f}), worst under "
            f"{LABELS[worst]} ({followed[worst]:.3f}); under the watermark {followed['watermark']:.3f}."
        )
    if gamed := results.finished(arm="gamed"):
        shares = paid(results.transcripts(gamed[0]), RULES)
        numbers["gamed"] = shares
        tables.append(_gamed_table(shares))
        findings += _gamed_findings(shares)
    cells = {name: read_cell(results, name) for name in RULES}
    if any(cells.values()):
        rows = [cell_row(LABELS[name], cell, _behavior(cell)) for name, cell in cells.items() if cell]
        tables.append(Table("After training", (*CELL_COLUMNS, "well formed", "steps"), rows))
        pairs = [compare(cells, "watermark", name, what=f"watermark − {LABELS[name]}") for name in list(RULES)[1:]]
        comparisons = [pair for pair in pairs if pair]
        ahead = [c.what.split(" − ")[1] for c in comparisons if c.high < 0]
        behind = [c.what.split(" − ")[1] for c in comparisons if c.low > 0]
        findings.append(
            f"After training, ahead of the watermark: {'; '.join(ahead) or 'none'}. Behind it: "
            f"{'; '.join(behind) or 'none'} (intervals without 0, before the correction)."
        )
    return Analysis(findings, tables, comparisons, _draw(numbers, cells) if tables else None, numbers)


def _behavior(cell: Cell) -> list[str]:
    return [f"{value:.3f}" for value in cell.behavior.values()]


def _read_steps(results: Results) -> _Steps | None:
    """Return the steps of all samples whose values are known; None if they are not there yet."""
    sampled, valued = results.finished(arm="samples"), results.finished(arm="values")
    if not sampled or not valued:
        return None
    lines = (results.folder(valued[0].name) / VALUES).read_text(encoding="utf-8").splitlines()
    values = [[np.nan if v is None else v for v in json.loads(line)] for line in lines]
    by_problem: dict[str, list[int]] = {}
    transcripts = results.transcripts(sampled[0])
    for row, transcript in enumerate(transcripts):
        by_problem.setdefault(transcript.id or transcript.question, []).append(row)
    rules = {name: make_credit(rule, **args) for name, (rule, args) in RULES.items()}
    problem, value, change = [], [], []
    gains: dict[str, list[float]] = {name: [] for name in RULES}
    earned: dict[str, list[float]] = {name: [] for name in RULES}
    for number, rows in enumerate(by_problem.values()):
        group = group_of([transcripts[row] for row in rows])
        gain_gk = {name: np.asarray(rule(group).gain_gk) for name, rule in rules.items()}
        for place, row in enumerate(rows):
            n_steps = len(values[row]) - 1
            problem += [number] * n_steps
            value += values[row][1:]
            change += np.diff(values[row]).tolist()
            for name in RULES:
                gains[name] += gain_gk[name][place, :n_steps].tolist()
                earned[name] += np.cumsum(gain_gk[name][place, :n_steps]).tolist()
    known = ~np.isnan(change)
    columns = (np.array(column, float)[known] for column in (problem, value, change))
    by_rule = [{name: np.array(x)[known] for name, x in of_all.items()} for of_all in (earned, gains)]
    return _Steps(*columns, earned_n=by_rule[0], gain_n=by_rule[1])


def _correlation_table(steps: _Steps, numbers: dict[str, Any]) -> Table:
    """Return the table of correlations and granularity; put them into `numbers`, too."""
    rows = []
    measured: dict[str, dict[str, float]] = {"gain and change of value": {}, "earned and value": {}, "paid": {}}
    for name in RULES:
        gain = clustered(statistics.spearman, steps.problem_n, steps.gain_n[name], steps.change_n)
        earned = clustered(statistics.spearman, steps.problem_n, steps.earned_n[name], steps.value_n)
        n_responses = max(1, len(set(steps.problem_n.tolist())))
        floor = PAID_SHARE * max(steps.gain_n[name].sum() / n_responses, 0.0)
        share = float((steps.gain_n[name] > floor).mean())
        for key, number in zip(measured, (gain.mean, earned.mean, share), strict=True):
            measured[key][name] = number
        rows.append([LABELS[name], str(gain), str(earned), f"{share:.2f}"])
    numbers |= measured
    columns = ("rule", "ρ of gain and change of value", "ρ of reward so far and value", "share of steps paid")
    return Table(f"Against the value, {len(steps.value_n)} steps", columns, rows)


def _gamed_table(shares: Mapping[str, Mapping[str, float]]) -> Table:
    """Return what each behavior earns under each rule."""
    behaviors = list(next(iter(shares.values())))
    rows = [[name, *(_percent(shares[rule][name]) for rule in RULES)] for name in behaviors]
    return Table("Share of the honest reward", ("behavior", *(LABELS[rule] for rule in RULES)), rows)


def _percent(share: float) -> str:
    return "" if np.isnan(share) else f"{share:.0%}"


def _gamed_findings(shares: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return which rule pays the most for what is not honest."""
    worst = {
        rule: max(
            ((value, name) for name, value in of_rule.items() if name != HONEST and value == value), default=(0, "")
        )
        for rule, of_rule in shares.items()
    }
    listed = "; ".join(f"{LABELS[rule]} {value:.0%} ({name})" for rule, (value, name) in worst.items())
    return [f"The most that a gamed response earns of an honest reward: {listed}."]


def _draw(numbers: Mapping[str, Any], cells: Mapping[str, Cell | None]) -> Figure:
    """Draw both correlations with the value, and, if there is any, the accuracy after training, by rule."""
    is_trained = any(cells.values())
    figure = Figure(figsize=(9 if is_trained else 6.4, 3.8), layout="constrained")
    left, *others = figure.subplots(1, 1 + is_trained, sharey=True, squeeze=False)[0]
    places = np.arange(len(RULES))
    for number, measure in enumerate(("gain and change of value", "earned and value")):
        if of_rules := numbers.get(measure):
            widths = [of_rules[name] for name in RULES]
            left.barh(places + 0.4 * number, widths, 0.4, color=plot_style.COLORS[number], label=measure)
    for ax in others:
        for place, name in enumerate(RULES):
            if cell := cells[name]:
                interval = mean_interval(cell.sampled_sq)
                errors = [[max(0.0, interval.mean - interval.low)], [max(0.0, interval.high - interval.mean)]]
                ax.barh([place + 0.2], [interval.mean], xerr=errors, color=plot_style.COLORS[2])
        ax.set(xlabel="held-out accuracy after training, sampled")
    left.set_yticks(places + 0.2, [LABELS[name] for name in RULES])
    left.invert_yaxis()
    left.set(xlabel="Spearman's ρ")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    for ax in (left, *others):
        ax.spines[["top", "right"]].set_visible(False)
    return figure


STUDY = Study(
    name="credit_rules",
    question="Which credit rule pays for progress, and for nothing else?",
    hypotheses=(
        "Signed rules follow changes of the value better than the watermark, which never takes back.",
        "The watermark is the easiest to game: what follows right steps costs nothing. Drawdown takes that back.",
        "A threshold pays fewer steps; the gate leaves wrong answers nothing, and slows a sparse start.",
        "After training, the rules differ less than seeds do.",
    ),
    plan_runs=plan_runs,
    analyze=analyze,
    settings={**SHORT_RUN, "rollout.questions": 8, "eval.samples": 2, "checkpoint.every": 15},
    smoke={"reward.max_steps": 2},
    limits=(
        "One task (chains of digits) and one tiny policy of 165K parameters.",
        "Gamed responses are written by hand; a policy may find others.",
        "Prices and thresholds are one value each.",
    ),
)
