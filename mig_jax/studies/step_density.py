"""Small steps or large ones? Chains whose demonstrations merge operations (open question 2 of the paper)."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mig_jax.records import plot_style
from mig_jax.records.transcripts import Transcript
from mig_jax.studies import actions
from mig_jax.studies.arms import SHORT_RUN, count, pair_by_seed, train_and_evaluate
from mig_jax.studies.levels import SLIPS, benchmarks, correct_qn, mixture, sampled_by_problem, start_policy
from mig_jax.studies.statistics import mean_interval, paired_difference
from mig_jax.studies.study import Analysis, Comparison, Plan, Results, Run, Study, Table

LEVELS = {"easy": 3, "hard": 7}  # terms of the chains
MERGED = f"{SLIPS},merge_prob=0.4"
ARMS: dict[str, Mapping[str, Any]] = {
    "default": {},
    "think_mask": {"reward.process_mask": "think"},
    "price": {"reward.credit_args.step_price": 0.2},
    "excess_price": {"reward.credit_args.excess_step_price": 0.2},
    "grpo": {"loss.alpha": 0.0, "loss.gamma": 0.0},
}
LABELS = {
    "default": "MIG, closing decision in the mask",
    "think_mask": "MIG, think mask",
    "price": "step price 0.2 nats",
    "excess_price": "price 0.2 beyond the group's mean",
    "grpo": "GRPO",
}
START = "start/merged"
# A step that a header begins; what is written in it has one operation or more.
STEP = re.compile(r"^### Step \d+: *(.*)$", re.MULTILINE)
OPERATION = re.compile(r"(?<=[\d])[+*-](?=\d)")


def operations_by_step(response: str) -> tuple[int, ...]:
    """Return how many operations each step has: (1, 2) for `7+5=2` and `2-3*3=7`."""
    return tuple(len(OPERATION.findall(step.partition("=")[0])) for step in STEP.findall(response))


def plan_runs(plan: Plan) -> list[Run]:
    """Return the start policy with its evaluation; then, seed by seed, the arms, evaluated on both levels."""
    terms = tuple(LEVELS.values())
    evaluation = {"eval.benchmarks": benchmarks((3,) if plan.smoke else terms)}
    runs = [start_policy(START, mixture(terms, MERGED), plan, steps=600)]
    runs += [Run(f"{START}_eval", actions.evaluate, evaluation, arm="start_eval", model=START)]
    changes = {} if plan.smoke else {"data.train": mixture(terms), "data.eval": "chain:terms=3"}
    for seed in range(plan.seeds):
        for arm, extra in ARMS.items():
            runs += train_and_evaluate(arm, "", seed, {**changes, **extra}, model=START, evaluation=evaluation)
    return runs


def analyze(results: Results) -> Analysis:
    """Compare accuracy and the number of steps of the arms, on easy and hard problems."""
    arms = {"start": results.finished(arm="start_eval")}
    arms |= {arm: sorted(results.finished(arm=f"{arm}_eval"), key=lambda run: run.seed) for arm in ARMS}
    rows, accuracy, steps = [], {}, {}
    seeds = {arm: [run.seed for run in runs] for arm, runs in arms.items()}
    for arm, runs in arms.items():
        for level, terms in LEVELS.items():
            sampled = [sampled_by_problem(results, run, terms) for run in runs]
            if not any(sampled):
                continue
            accuracy[arm, level] = np.stack([correct_qn(of_run).mean(1) for of_run in sampled])
            every = [t for of_run in sampled for of_one in of_run.values() for t in of_one]
            steps[arm, level] = float(np.mean([len(operations_by_step(t.response)) for t in every]))
            shown = (steps[arm, level], _operations_per_step(every), _share_with_repeats(every))
            name = LABELS.get(arm, "start policy")
            interval = str(mean_interval(accuracy[arm, level]))
            rows.append([name, level, str(len(runs)), interval, *(f"{x:.2f}" for x in shown)])
    comparisons = [
        Comparison(f"{LABELS[arm]} − {LABELS['default']}, {level}", *_difference(accuracy, seeds, arm, level))
        for arm in ARMS
        for level in LEVELS
        if arm != "default" and (arm, level) in accuracy and ("default", level) in accuracy
        if {*seeds[arm]} & {*seeds["default"]}
    ]
    columns = ("arm", "problems", "seeds", "sampled accuracy, 95 % interval", "steps", "operations a step", "repeats")
    tables = [Table("Steps and accuracy", columns, rows)] if rows else []
    return Analysis(_findings(arms, accuracy, steps), tables, comparisons, _draw(accuracy, steps) if rows else None)


def _difference(
    accuracy: Mapping[tuple[str, str], np.ndarray], seeds: Mapping[str, list[int]], arm: str, level: str
) -> Any:
    pair = pair_by_seed(seeds[arm], accuracy[arm, level], seeds["default"], accuracy["default", level])
    return paired_difference(*pair)


def _operations_per_step(responses: list[Transcript]) -> float:
    found = [n for t in responses for n in operations_by_step(t.response)]
    return float(np.mean(found)) if found else float("nan")


def _share_with_repeats(responses: list[Transcript]) -> float:
    """Return the share of responses that write a step twice."""
    steps = [STEP.findall(t.response) for t in responses]
    return float(np.mean([len(set(of_one)) < len(of_one) for of_one in steps]))


def _findings(arms: Mapping[str, Any], accuracy: Mapping[Any, np.ndarray], steps: Mapping[Any, float]) -> list[str]:
    """Return a sentence for every arm: its steps and accuracy on easy and hard problems, beside the start's."""
    lines = []
    for arm in ARMS:
        shown = [
            f"{level} {accuracy[arm, level].mean():.3f} with {steps[arm, level]:.2f} steps "
            f"(start {accuracy['start', level].mean():.3f} with {steps['start', level]:.2f})"
            for level in LEVELS
            if (arm, level) in accuracy and ("start", level) in accuracy
        ]
        if shown:
            lines.append(f"{LABELS[arm]}, {count(len(arms[arm]), 'seed')}: {'; '.join(shown)}.")
    return lines


def _draw(accuracy: Mapping[tuple[str, str], np.ndarray], steps: Mapping[tuple[str, str], float]) -> Figure:
    """Draw accuracy against the number of steps, for each level."""
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    for ax, level in zip(figure.subplots(1, 2), LEVELS, strict=True):
        for number, arm in enumerate(("start", *ARMS)):
            if (arm, level) in accuracy:
                color = plot_style.COLORS[number % len(plot_style.COLORS)]
                label = LABELS.get(arm, "start policy")
                ax.scatter(steps[arm, level], accuracy[arm, level].mean(), color=color, label=label)
        ax.set(title=f"{level}: {LEVELS[level]} terms", xlabel="steps of a response", ylim=(-0.02, 1.02))
        ax.set_ylabel("held-out accuracy, sampled")
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=7)
    return figure


STUDY = Study(
    name="step_density",
    question="Does the process reward make steps smaller and more of them, and do masks or prices hold that back?",
    hypotheses=(
        "With the think mask responses get more steps than with the closing decision in the mask.",
        "A price makes steps fewer; on easy problems accuracy does not fall, on hard ones it does.",
        "The watermark pays the same for small and large steps that lead to the same place: no arm without a price "
        "changes the size of steps by itself.",
    ),
    plan_runs=plan_runs,
    analyze=analyze,
    settings={**SHORT_RUN, "eval.samples": 4},
    limits=("A chain has a smallest step; what can grow without bound in free text can only repeat here.",),
)
