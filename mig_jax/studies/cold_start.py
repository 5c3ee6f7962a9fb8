"""Can a policy that is almost never right start by itself? Policies weakened by noise on their parameters."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from mig_jax import api
from mig_jax.policy.save import save_policy
from mig_jax.records import plot_style
from mig_jax.records.metrics import column
from mig_jax.studies import actions
from mig_jax.studies.arms import (
    BASELINE,
    CELL_COLUMNS,
    SHORT_RUN,
    cell_row,
    compare,
    count,
    read_cell,
    train_and_evaluate,
)
from mig_jax.studies.study import Analysis, Job, Plan, Results, Run, Study, Table

# Standard deviation of the noise, as a share of the root mean square of each parameter.
STRENGTHS = (0.12, 0.15, 0.18, 0.2)
ARMS: dict[str, Mapping[str, Any]] = {
    "mig_sft": {},
    "mig": {"loss.gamma": 0.0},
    "grpo": {"loss.alpha": 0.0, "loss.gamma": 0.0},
    "outcome_sft": {"loss.alpha": 0.0},
    "mig_step": {"reward.credit_level": "step"},
}
LABELS = {
    "mig_sft": "MIG with SFT: α, β and γ",
    "mig": "MIG alone: α and β",
    "grpo": "GRPO: β alone",
    "outcome_sft": "outcome and SFT: β and γ",
    "mig_step": "MIG with SFT and step credit",
}
# Share of right and well-formed samples from which the gate of SFT counts as open.
OPEN = 0.01
METRICS = ("reward/format", "rollout/steps", "sft/gate")


def weaken(job: Job) -> None:
    """Save the config's model with noise on every parameter; the option `strength` is its relative size."""
    policy = api.load_policy(job.config)
    leaves, tree = jax.tree.flatten(policy.params)
    keys = jax.random.split(jax.random.key(job.run.seed), len(leaves))
    strength = job.run.options["strength"]
    noisy = [
        x + (strength * jnp.sqrt(jnp.mean(x**2)) * jax.random.normal(key, x.shape)).astype(x.dtype)
        for key, x in zip(keys, leaves, strict=True)
    ]
    save_policy(policy, jax.tree.unflatten(tree, noisy), str(job.folder / "model"), config=job.config)


def plan_runs(plan: Plan) -> list[Run]:
    """Return the weakened policies with their evaluations; then, seed by seed, all arms from each of them."""
    runs, strengths = [], STRENGTHS[:1] if plan.smoke else STRENGTHS
    for strength in strengths:
        name, setting = f"weak/{strength}", str(strength)
        runs.append(Run(name, weaken, arm="weak", setting=setting, options={"strength": strength}))
        runs.append(Run(f"{name}_eval", actions.evaluate, arm="weak_eval", setting=setting, model=name))
    for seed in range(plan.seeds):
        for strength in strengths:
            for arm, changes in ARMS.items():
                runs += train_and_evaluate(arm, str(strength), seed, changes, model=f"weak/{strength}")
    return runs


def steps_until_open(results: Results, run: Run) -> float:
    """Return the first training step at which the gate of SFT is open, inf if it never is."""
    step_n, gate_n = column(results.rows(run), "sft/gate")
    is_open_n = gate_n >= OPEN
    return float(step_n[np.argmax(is_open_n)]) if is_open_n.any() else float("inf")


def analyze(results: Results) -> Analysis:
    """Compare the arms at each strength, and find when the gate of SFT opens."""
    tables, comparisons, findings, starts, ends = [], [], [], {}, {}
    for strength in map(str, STRENGTHS):
        weak = results.finished(arm="weak_eval", setting=strength)
        cells = {arm: read_cell(results, arm, strength, metrics=METRICS) for arm in ARMS}
        if not weak or not any(cells.values()):
            continue
        starts[strength] = start = float(results.accuracies(weak).mean())
        ends[strength] = {arm: cell.sampled_sq.mean() for arm, cell in cells.items() if cell}
        rows, opened = [], {}
        for arm, cell in cells.items():
            trained = results.finished(arm=arm, setting=strength)
            if not cell:
                continue
            opened[arm] = [steps_until_open(results, run) for run in trained]
            shown = ", ".join("never" if np.isinf(step) else f"{step:.0f}" for step in opened[arm])
            rows.append(cell_row(LABELS[arm], cell, [*(f"{cell.behavior[name]:.3f}" for name in METRICS), shown]))
        columns = (*CELL_COLUMNS, "well formed", "steps", "SFT gate", "step at which it opens, by seed")
        tables.append(Table(f"Noise {strength}: {start:.1%} right at the start", columns, rows))
        for other in ARMS:
            found = compare(cells, "mig_sft", other, what=f"MIG with SFT − {LABELS[other]}, noise {strength}")
            comparisons += [found] if found and other != "mig_sft" else []
        shares = "; ".join(f"{LABELS[arm]} {end:.1%}" for arm, end in ends[strength].items())
        seeds = count(max(len(cell.seeds) for cell in cells.values() if cell), "seed")
        findings.append(f"Noise {strength}, from {start:.1%} right samples to: {shares} ({seeds}).")
    figure = _draw(starts, ends) if ends else None
    return Analysis(findings, tables, comparisons, figure, {"start": starts})


def _draw(starts: Mapping[str, float], ends: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the accuracy of each arm at the end over the strength of the noise."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    ax = figure.subplots()
    ax.plot(list(starts), list(starts.values()), color=plot_style.FAINT, ls=":", label="start")
    for number, arm in enumerate(ARMS):
        shown = {strength: of_one[arm] for strength, of_one in ends.items() if arm in of_one}
        color = plot_style.COLORS[number % len(plot_style.COLORS)]
        ax.plot(list(shown), list(shown.values()), color=color, marker="o", ms=4, label=LABELS[arm])
    ax.set(xlabel="noise on the parameters", ylabel="held-out accuracy, sampled", ylim=(-0.02, 1.02))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    return figure


STUDY = Study(
    name="cold_start",
    question="Can MIG start from a policy that is almost never right, and when do the gates of SFT begin to open?",
    hypotheses=(
        "Where almost no sample is right, MIG recovers and GRPO does not.",
        "Without SFT it recovers, too, but more slowly: the gate only copies what the policy can do already.",
        "The gate opens at the first steps where 1 % of the samples are right, and not at all where none is.",
    ),
    plan_runs=plan_runs,
    analyze=analyze,
    baseline=BASELINE,
    settings={**SHORT_RUN, "eval.samples": 2},
    limits=(
        "One weakened policy for each strength: how it was weakened is not resampled.",
        "Noise on parameters damages everything alike; a base model that was never taught a task is weak otherwise.",
    ),
)
