"""What does the SFT stream do, on easy and on hard problems? Table 5 of the paper, with pass@k."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mig_jax.records import plot_style
from mig_jax.records.eval_statistics import pass_at_k_q, reported_ks
from mig_jax.studies import actions
from mig_jax.studies.arms import SHORT_RUN, count, pair_by_seed, train_and_evaluate
from mig_jax.studies.levels import SLIPS, benchmarks, correct_qn, mixture, sampled_by_problem, start_policy
from mig_jax.studies.statistics import mean_interval, paired_difference
from mig_jax.studies.study import Analysis, Comparison, Plan, Results, Run, Study, Table

LEVELS = (3, 4, 5, 6, 7)  # terms of the chains: Level 1 to Level 5
ARMS: dict[str, Mapping[str, Any]] = {
    "sft": {"loss.gamma": 0.1},
    "no_sft": {"loss.gamma": 0.0},
    "strong_sft": {"loss.gamma": 1.0},
}
LABELS = {"start": "start policy", "sft": "γ = 0.1", "no_sft": "γ = 0", "strong_sft": "γ = 1"}
START = "start/levels"
SAMPLES = 64


def plan_runs(plan: Plan) -> list[Run]:
    """Return the start policy; then, seed by seed, the arms, each evaluated on all levels."""
    levels = LEVELS[:2] if plan.smoke else LEVELS
    changes = {"data.train": mixture(levels), "data.eval": f"chain:terms={levels[0]}"}
    evaluation = {"eval.benchmarks": benchmarks(levels)} | ({} if plan.smoke else {"eval.samples": SAMPLES})
    # Fewer steps do not teach to write answers of all lengths.
    runs = [start_policy(START, mixture(LEVELS, SLIPS), plan, steps=600)]
    runs.append(Run(f"{START}_eval", actions.evaluate, evaluation, arm="start_eval", model=START))
    for seed in range(plan.seeds):
        for arm, loss in ARMS.items():
            runs += train_and_evaluate(arm, "", seed, {**changes, **loss}, model=START, evaluation=evaluation)
    return runs


def analyze(results: Results) -> Analysis:
    """Compare accuracy and pass@k of the arms level by level."""
    # Arm → level → [S, Q, N], by seed, problem and sample.
    correct: dict[str, dict[int, np.ndarray]] = {}
    seeds: dict[str, list[int]] = {}
    for arm in LABELS:
        runs = sorted(results.finished(arm=f"{arm}_eval"), key=lambda run: run.seed)
        seeds[arm] = [run.seed for run in runs]
        by_level = {n: [correct_qn(sampled_by_problem(results, run, n)) for run in runs] for n in LEVELS}
        correct[arm] = {n: np.stack(of_level) for n, of_level in by_level.items() if any(map(len, of_level))}
    correct = {arm: of_arm for arm, of_arm in correct.items() if of_arm}
    if not correct:
        return Analysis([])
    comparisons = [
        found
        for other in ("no_sft", "strong_sft")
        for level in LEVELS
        if (found := _compare(correct, seeds, "sft", other, level)) is not None
    ]
    ks = _pass_ks(correct)
    return Analysis(
        _findings(correct, ks),
        [_accuracy_table(correct), _pass_table(correct, ks)],
        comparisons,
        _draw(correct, ks),
    )


def _compare(
    correct: Mapping[str, dict[int, np.ndarray]], seeds: Mapping[str, list[int]], one: str, other: str, level: int
) -> Comparison | None:
    if not (level in correct.get(one, {}) and level in correct.get(other, {})):
        return None
    a, b = (correct[arm][level].mean(2) for arm in (one, other))
    pair = pair_by_seed(seeds[one], a, seeds[other], b)
    what = f"{LABELS[one]} − {LABELS[other]}, Level {LEVELS.index(level) + 1}, {count(len(pair[0]), 'seed')}"
    return Comparison(what, *paired_difference(*pair)) if len(pair[0]) else None


def _pass_ks(correct: Mapping[str, dict[int, np.ndarray]]) -> list[int]:
    samples = min(of_level.shape[2] for of_arm in correct.values() for of_level in of_arm.values())
    return reported_ks(samples)


def _pass_at(of_level: np.ndarray, k: int) -> float:
    return float(np.mean([pass_at_k_q(of_seed.astype(float), k) for of_seed in of_level]))


def _findings(correct: Mapping[str, dict[int, np.ndarray]], ks: Sequence[int]) -> list[str]:
    """Return a sentence for each arm: its easiest and hardest level, at one sample and at most samples."""
    lines = []
    for arm, of_arm in correct.items():
        first, last = min(of_arm), max(of_arm)
        shown = [
            f"Level {LEVELS.index(n) + 1}: {of_arm[n].mean():.3f} at one sample, "
            f"{_pass_at(of_arm[n], ks[-1]):.3f} with {ks[-1]}"
            for n in (first, last)
        ]
        lines.append(f"{LABELS[arm]}: {'; '.join(shown)}.")
    return lines


def _accuracy_table(correct: Mapping[str, dict[int, np.ndarray]]) -> Table:
    rows = [
        [LABELS[arm], str(len(next(iter(of_arm.values())))), *(str(mean_interval(x.mean(2))) for x in of_arm.values())]
        for arm, of_arm in correct.items()
    ]
    levels = [f"Level {LEVELS.index(n) + 1}: {n} terms" for n in next(iter(correct.values()))]
    return Table("Sampled accuracy, 95 % intervals", ("arm", "seeds", *levels), rows)


def _pass_table(correct: Mapping[str, dict[int, np.ndarray]], ks: Sequence[int]) -> Table:
    rows = [
        [LABELS[arm], str(LEVELS.index(n) + 1), *(f"{_pass_at(of_level, k):.3f}" for k in ks)]
        for arm, of_arm in correct.items()
        for n, of_level in of_arm.items()
    ]
    return Table("pass@k", ("arm", "Level", *(f"pass@{k}" for k in ks)), rows)


def _draw(correct: Mapping[str, dict[int, np.ndarray]], ks: Sequence[int]) -> Figure:
    """Draw accuracy by level, and pass@k of the hardest level."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (arm, of_arm) in enumerate(correct.items()):
        color, hardest = plot_style.COLORS[number % len(plot_style.COLORS)], max(of_arm)
        levels = [LEVELS.index(n) + 1 for n in of_arm]
        left.plot(levels, [x.mean() for x in of_arm.values()], color=color, marker="o", ms=4, label=LABELS[arm])
        right.plot(ks, [_pass_at(of_arm[hardest], k) for k in ks], color=color, marker="o", ms=4, label=LABELS[arm])
    left.set(xlabel="level", ylabel="held-out accuracy, sampled", ylim=(-0.02, 1.02))
    right.set(xlabel="k", ylabel="pass@k of the hardest level", ylim=(-0.02, 1.02), xscale="log")
    right.set_xticks(ks, [str(k) for k in ks])
    right.minorticks_off()
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8)
    return figure


STUDY = Study(
    name="sft_ablation",
    question="What does the SFT stream do on easy and on hard problems, at one sample and at many?",
    hypotheses=(
        "SFT helps on easy problems (Level 1) and costs on hard ones (Level 5): what it copies is mostly easy.",
        "pass@64 falls with SFT: it narrows the policy.",
    ),
    plan_runs=plan_runs,
    analyze=analyze,
    settings={**SHORT_RUN, "data.eval_size": 48, "rollout.temperature": 1.2},
    smoke={"data.max_prompt_tokens": 48},
    limits=("Levels are lengths of chains; harder problems of other tasks differ in more than their length.",),
)
