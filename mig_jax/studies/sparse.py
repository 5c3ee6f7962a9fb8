"""When does step credit help? Arms of the loss against the share of right samples at the start.

The start policies know the arithmetic, but have learned solutions with slips: the more slips, the fewer of their
samples are right. Decoded greedily they are right nearly always. One start is the quickstart's policy, sampled at a
temperature at which it slips as often.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mig_jax.records import plot_style
from mig_jax.records.metrics import column
from mig_jax.studies import actions
from mig_jax.studies.arms import (
    BASELINE,
    CELL_COLUMNS,
    SHORT_RUN,
    Cell,
    cell_row,
    compare,
    read_cell,
    train_and_evaluate,
)
from mig_jax.studies.statistics import mean_interval
from mig_jax.studies.study import Analysis, Comparison, Plan, Results, Run, Study, Table

# Arm → changes of the quickstart's loss, where α = β = 1 and γ = 0.1.
ARMS: dict[str, Mapping[str, Any]] = {
    "mig": {},
    "grpo": {"loss.alpha": 0.0, "loss.gamma": 0.0},
    "outcome_sft": {"loss.alpha": 0.0},
    "process": {"loss.beta": 0.0, "loss.gamma": 0.0},
    "accuracy": {"loss.alpha": 0.0, "loss.gamma": 0.0, "reward.outcomes": {"accuracy": 1.0}},
    "gamma": {"loss.alpha": 0.0, "loss.beta": 0.0},
    "mig_step": {"reward.credit_level": "step"},
    "mig_step_event": {"reward.credit_level": "step", "reward.terminator": "event"},
}
LABELS = {
    "mig": "MIG: α, β and γ",
    "grpo": "GRPO: β alone",
    "outcome_sft": "outcome and SFT: β and γ",
    "process": "process stream: α alone",
    "accuracy": "β alone, without the format reward",
    "gamma": "SFT stream: γ alone",
    "mig_step": "MIG with step credit",
    "mig_step_event": "MIG with step credit and any ending",
}
# Name → slips of a step in the solutions that the start policy has learned; None: the quickstart's policy, sampled at
# temperature 1.4. The order is that of the runs.
STARTS = {"slips_58": 0.58, "hot": None, "slips_20": 0.2, "slips_42": 0.42, "slips_30": 0.3, "slips_10": 0.1}
HOT = {"rollout.temperature": 1.4}
GIVEN = "given"
START_LABELS = {
    **{start: f"taught {slip_prob:.0%} slips" for start, slip_prob in STARTS.items() if slip_prob},
    "hot": "temperature 1.4",
    GIVEN: "given policy",
}
TAUGHT = {"steps": 60, "sft.batch_size": 32, "optimizer.peak_lr": 1e-3, "optimizer.warmup_steps": 10}
METRICS = ("reward/format", "rollout/steps", "reward/zero_variance_groups")


def plan_runs(plan: Plan) -> list[Run]:
    """Return the start policies with their evaluations; then, seed by seed, all arms from each of them.

    With --config or --model, the policy that they name is the only start.
    """
    starts = {GIVEN: None} if plan.config or plan.model else dict(list(STARTS.items())[: 2 if plan.smoke else None])
    models = {start: f"start/{start}" if slip_prob else "" for start, slip_prob in starts.items()}
    extra = {start: HOT if start == "hot" else {} for start in starts}
    runs = []
    for start, slip_prob in starts.items():
        source = f"chain:terms=7,slip_prob={slip_prob},early_guess_prob=0.2"
        taught = {} if plan.smoke else {"data.train": source, **TAUGHT}
        runs += [Run(models[start], actions.sft, taught, arm="start", setting=start)] if slip_prob else []
        name = f"start/{start}_eval"
        runs.append(Run(name, actions.evaluate, extra[start], 0, "start_eval", start, model=models[start]))
    for seed in range(plan.seeds):
        for start in starts:
            needed: dict[str, Any] = {"model": models[start], "after": (f"start/{start}_eval",)}
            for arm, changes in ARMS.items():
                changed = {**extra[start], **changes}
                runs += train_and_evaluate(arm, start, seed, changed, evaluation=extra[start], **needed)
    return runs


def analyze(results: Results) -> Analysis:
    """Compare the accuracy of every arm from every start policy."""
    starts: dict[str, float] = {}
    for start in dict.fromkeys(run.setting for run in results.planned):
        if runs := results.finished(arm="start_eval", setting=start):
            starts[start] = float(results.accuracies(runs).mean())
    starts = dict(sorted(starts.items(), key=lambda item: item[1]))
    cells = {start: {arm: read_cell(results, arm, start, metrics=METRICS) for arm in ARMS} for start in starts}
    comparisons = {
        (start, arm): found
        for start in starts
        for arm in ARMS
        if arm != "mig"
        and (found := compare(cells[start], "mig", arm, what=f"MIG − {LABELS[arm]}, {_name(start, starts[start])}"))
    }
    endings = [_compare_endings(_name(start, share), cells[start]) for start, share in starts.items()]
    endings = [found for found in endings if found]
    return Analysis(
        findings=_findings(starts, comparisons) + [f"{found.what}: {_describe(found)}." for found in endings],
        tables=[_table(_name(start, starts[start]), cells[start]) for start in starts if any(cells[start].values())],
        comparisons=[*comparisons.values(), *endings],
        figure=_draw(results, starts, cells)
        if any(cell for of_start in cells.values() for cell in of_start.values())
        else None,
        numbers={"start": starts},
        timing=[_timing(results, start, cells[start]) for start in starts if any(cells[start].values())],
    )


def _compare_endings(name: str, cells: Mapping[str, Cell | None]) -> Comparison | None:
    """Compare both values of `reward.terminator` from a start policy."""
    return compare(cells, "mig_step_event", "mig_step", what=f"Step credit, any ending − the closing tag, {name}")


def _findings(starts: Mapping[str, float], comparisons: Mapping[tuple[str, str], Comparison]) -> list[str]:
    """Return a sentence for each start and each other arm that was compared with MIG."""
    lines = []
    for start, share in starts.items():
        parts = [
            f"{LABELS[arm].split(':')[0]} {_verdict(found)} ({_describe(found)})"
            for (of_start, arm), found in comparisons.items()
            if of_start == start
        ]
        if parts:
            lines.append(f"Start {_name(start, share)}; MIG minus the others: {'; '.join(parts)}.")
    return lines


def _describe(found: Comparison) -> str:
    """Return a difference with its interval."""
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _name(start: str, share: float) -> str:
    """Return a start policy in words, with its share of right samples."""
    return f"{share:.1%} right ({START_LABELS[start]})"


def _verdict(found: Comparison) -> str:
    return "is behind" if found.low > 0 else "is ahead" if found.high < 0 else "does not differ significantly"


def _table(title: str, cells: Mapping[str, Cell | None]) -> Table:
    """Return what each arm reached from a start policy."""
    columns = (*CELL_COLUMNS, "well formed", "steps", "groups without signal")
    rows = [
        cell_row(LABELS[arm], cell, [f"{cell.behavior[name]:.3f}" for name in METRICS])
        for arm, cell in cells.items()
        if cell
    ]
    return Table(f"Start {title}", columns, rows)


def _timing(results: Results, start: str, cells: Mapping[str, Cell | None]) -> Table:
    """Return the seconds of each arm, and what it reached in those of GRPO."""
    rows = [
        [LABELS[arm], f"{np.mean(cell.seconds):.0f}", f"{_at_equal_time(results, start, arm):.3f}"]
        for arm, cell in cells.items()
        if cell
    ]
    return Table(f"Start {START_LABELS[start]}", ("arm", "s", "training accuracy at GRPO's time"), rows)


def _at_equal_time(results: Results, start: str, arm: str, last: int = 5) -> float:
    """Return the training accuracy after as many seconds as GRPO's run took, a mean over seeds that both have.

    An arm that took less has its last accuracy.
    """
    found = []
    for run in results.finished(arm=arm, setting=start):
        for grpo in results.finished(arm="grpo", setting=start, seed=run.seed):
            limit = column(results.rows(grpo), "time/seconds")[1].sum()
            rows = results.rows(run)
            n = max(1, int((np.cumsum(column(rows, "time/seconds")[1]) <= limit).sum()))
            found.append(column(rows, "reward/accuracy")[1][:n][-last:].mean())
    return float(np.mean(found)) if found else float("nan")


def _draw(results: Results, starts: Mapping[str, float], cells: Mapping[str, Mapping[str, Cell | None]]) -> Figure:
    """Draw the accuracy of each arm from each start, and the training from the first start of the table."""
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    reached, training = figure.subplots(1, 2)
    first = next(start for start in starts if any(cells[start].values()))
    for number, arm in enumerate(ARMS):
        again, number_of_color = divmod(number, len(plot_style.COLORS))
        color, marker, line = plot_style.COLORS[number_of_color], "os"[again], "-:"[again]
        for place, start in enumerate(starts):
            if cell := cells[start][arm]:
                i = mean_interval(cell.sampled_sq)
                errors = [[max(0.0, i.mean - i.low)], [max(0.0, i.high - i.mean)]]
                x = place + 0.1 * (number - (len(ARMS) - 1) / 2)
                reached.errorbar(
                    [x], [i.mean], errors, color=color, marker=marker, ms=5, lw=0, elinewidth=1.2, capsize=2
                )
        curves = [column(results.rows(run), "reward/accuracy") for run in results.finished(arm=arm, setting=first)]
        if curves:
            mean = np.mean([values for _, values in curves], axis=0)
            training.plot(curves[0][0], mean, color=color, ls=line, lw=1.6, label=f"{LABELS[arm]} ({len(curves)})")
    for place, share in enumerate(starts.values()):
        reached.plot([place - 0.35, place + 0.35], [share, share], color=plot_style.FAINT, ls=":", lw=1.2)
    ticks = [f"{share:.1%} {START_LABELS[start]}".replace(" ", "\n", 2) for start, share in starts.items()]
    reached.set_xticks(range(len(starts)), ticks, fontsize=7)
    reached.set(xlabel="right samples at the start (dotted)", ylabel="held-out accuracy, sampled")
    training.set(xlabel=f"training step, {START_LABELS[first]}", ylabel="share of right samples, mean over (n) seeds")
    for ax in (reached, training):
        ax.set_ylim(bottom=-0.01)
        ax.spines[["top", "right"]].set_visible(False)
    training.legend(frameon=False, fontsize=8)
    return figure


STUDY = Study(
    name="sparse",
    question="When does step credit help: how does it depend on the share of right samples at the start?",
    hypotheses=(
        "Where groups are mostly all wrong (about 0.3 to 3 % right), GRPO has no gradient from accuracy and learns the "
        "format alone; MIG learns.",
        "At 20 % the outcome alone is enough: MIG and GRPO do not differ.",
        "The gain is due to the process stream, not to the SFT term: MIG is ahead of outcome and SFT.",
        "Step credit learns faster than one advantage for the whole response.",
    ),
    plan_runs=plan_runs,
    analyze=analyze,
    baseline=BASELINE,
    settings={**SHORT_RUN, "rollout.questions": 8, "eval.samples": 2},
    limits=(
        "One task (chains of digits) and one tiny policy of 165K parameters.",
        "Intervals from a few seeds are narrower than they should be.",
    ),
)
