"""Which weights of the three streams work? The grid over α, β and γ on held-out problems."""

import itertools
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mig_jax.studies.arms import SHORT_RUN, read_cell, train_and_evaluate
from mig_jax.studies.levels import SLIPS, start_policy
from mig_jax.studies.statistics import mean_interval
from mig_jax.studies.study import Analysis, Plan, Results, Run, Study, Table

ALPHAS, BETAS, GAMMAS = (0.3, 1.0, 3.0), (0.3, 1.0, 3.0), (0.0, 0.1, 1.0)
POINTS = tuple(itertools.product(ALPHAS, BETAS, GAMMAS))
START = "start/slips"
# A point is stable if its worst seed is at most this far below the best point's mean.
STABLE = 0.1


def name_point(alpha: float, beta: float, gamma: float) -> str:
    """Return the arm of a point of the grid."""
    return f"alpha_{alpha:g}_beta_{beta:g}_gamma_{gamma:g}"


def plan_runs(plan: Plan) -> list[Run]:
    """Return the start policy; then, seed by seed, all points."""
    runs = [start_policy(START, f"chain:terms=7,{SLIPS.replace('0.2', '0.42', 1)}", plan)]
    for seed in range(plan.seeds):
        for point in POINTS[:2] if plan.smoke else POINTS:
            changes: dict[str, Any] = dict(zip(("loss.alpha", "loss.beta", "loss.gamma"), point, strict=True))
            runs += train_and_evaluate(name_point(*point), "", seed, changes, model=START)
    return runs


def analyze(results: Results) -> Analysis:
    """Rank the points by their accuracy, with the spread over seeds."""
    cells = {point: cell for point in POINTS if (cell := read_cell(results, name_point(*point)))}
    if not cells:
        return Analysis([])
    by_seed = {point: cell.sampled_sq.mean(1) for point, cell in cells.items()}
    ranked = sorted(cells, key=lambda point: -by_seed[point].mean())
    best = by_seed[ranked[0]].mean()
    stable = [point for point in ranked if by_seed[point].min() >= best - STABLE]
    rows = [
        [
            *(f"{weight:g}" for weight in point),
            str(len(by_seed[point])),
            str(mean_interval(cells[point].sampled_sq)),
            f"{by_seed[point].std(ddof=1):.3f}" if len(by_seed[point]) > 1 else "",
            f"{by_seed[point].min():.3f}",
            f"{cells[point].behavior['reward/format']:.3f}",
        ]
        for point in ranked
    ]
    columns = ("α", "β", "γ", "seeds", "sampled accuracy, 95 % interval", "std over seeds", "worst seed", "well formed")
    findings = [
        f"The best of {len(cells)} points is α, β, γ = {', '.join(f'{w:g}' for w in ranked[0])}, with {best:.3f}.",
        f"Within {STABLE} of it in every seed: {len(stable)} of {len(cells)} points.",
        *(_effect(by_seed, axis, letter) for axis, letter in enumerate("αβγ")),
    ]
    numbers = {"accuracy": {name_point(*point): by_seed[point].tolist() for point in ranked}}
    return Analysis(findings, [Table("Points, the best first", columns, rows)], (), _draw(by_seed), numbers)


def _effect(by_seed: dict[tuple[float, ...], np.ndarray], axis: int, letter: str) -> str:
    """Return a sentence with the mean accuracy for each value of a weight, over the other two."""
    values = sorted({point[axis] for point in by_seed})
    means = {v: np.mean([acc.mean() for point, acc in by_seed.items() if point[axis] == v]) for v in values}
    return f"Mean over the other weights: {', '.join(f'{letter} = {v:g}: {mean:.3f}' for v, mean in means.items())}."


def _draw(by_seed: dict[tuple[float, ...], np.ndarray]) -> Figure:
    """Draw a heat map of α and β for every γ."""
    figure = Figure(figsize=(8.4, 3.1), layout="constrained")
    image = None
    for ax, gamma in zip(np.atleast_1d(figure.subplots(1, len(GAMMAS))), GAMMAS, strict=True):
        grid = np.array([[np.mean(by_seed.get((a, b, gamma), np.nan)) for b in BETAS] for a in ALPHAS])
        image = ax.imshow(grid, vmin=0, vmax=1, cmap="Blues", origin="lower")
        for (i, j), value in np.ndenumerate(grid):
            if np.isfinite(value):
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black")
        ax.set_xticks(range(len(BETAS)), [f"{b:g}" for b in BETAS])
        ax.set_yticks(range(len(ALPHAS)), [f"{a:g}" for a in ALPHAS])
        ax.set(title=f"γ = {gamma:g}", xlabel="β (outcome)", ylabel="α (process)")
    assert image is not None
    figure.colorbar(image, ax=figure.axes, label="held-out accuracy, sampled")
    return figure


STUDY = Study(
    name="weights",
    question="Which weights α, β and γ of process, outcome and SFT stream work, and which region of them is stable?",
    hypotheses=(
        "The defaults (1, 1, 0.1) are within the stable region.",
        "Accuracy depends on the ratio of α to β less than on γ: a γ of 1 collapses the policy onto its own samples.",
    ),
    plan_runs=plan_runs,
    analyze=analyze,
    settings={**SHORT_RUN, "steps": 20, "eval.samples": 2},
    limits=(
        "The learning rate is the same for all points, and a larger weight is a larger update.",
        "The best of many points is a little worse than it looks: it was chosen on the problems it is reported for.",
    ),
)
