"""Which ways to the answer survive? Chains that can be cut into steps in many ways (open question 3 of the paper).

A strategy is which operations a response writes into one step: a chain of seven terms has 32 of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from mig_jax.records import plot_style
from mig_jax.records.eval_statistics import pass_at_k_q, reported_ks
from mig_jax.records.transcripts import Transcript
from mig_jax.studies import actions
from mig_jax.studies.arms import SHORT_RUN, count, pair_by_seed, train_and_evaluate
from mig_jax.studies.levels import correct_qn, sampled_by_problem, start_policy
from mig_jax.studies.statistics import mean_interval, paired_difference
from mig_jax.studies.step_density import MERGED, operations_by_step
from mig_jax.studies.study import Analysis, Comparison, Plan, Results, Run, Study, Table

ARMS: dict[str, Mapping[str, Any]] = {
    "mig": {"loss.gamma": 0.0},
    "mig_sft": {"loss.gamma": 0.1},
    "mig_strong_sft": {"loss.gamma": 1.0},
    "grpo": {"loss.alpha": 0.0, "loss.gamma": 0.0},
}
LABELS = {
    "start": "start policy",
    "mig": "MIG without SFT",
    "mig_sft": "MIG, γ = 0.1",
    "mig_strong_sft": "MIG, γ = 1",
    "grpo": "GRPO",
}
START, SAMPLES = "start/merged", 256


class Found(NamedTuple):
    """What the right responses of a run use.

    correct_qn: `[Q, N]` which responses are right.
    entropy_q: `[Q]` entropy of the strategies of the right responses, in nats; nan where none is right.
    of_problem: id → strategies of right responses.
    seed: of the run.
    """

    correct_qn: np.ndarray
    entropy_q: np.ndarray
    of_problem: Mapping[str, Counter]
    seed: int = 0


def plan_runs(plan: Plan) -> list[Run]:
    """Return the start policy with its evaluation; then, seed by seed, the arms, each with many samples."""
    evaluation: dict[str, Any] = {} if plan.smoke else {"eval.samples": SAMPLES, "data.eval_size": 32}
    runs = [start_policy(START, f"chain:terms=7,{MERGED}", plan, steps=600)]
    runs.append(Run(f"{START}_eval", actions.evaluate, evaluation, arm="start_eval", model=START))
    for seed in range(plan.seeds):
        for arm, changes in ARMS.items():
            runs += train_and_evaluate(arm, "", seed, changes, model=START, evaluation=evaluation)
    return runs


def read_strategies(results: Results, run: Run) -> Found:
    """Return which strategies the right responses of an evaluation use."""
    by_problem = sampled_by_problem(results, run)
    of_problem = {key: count_strategies(responses) for key, responses in by_problem.items()}
    entropy_q = np.array([_entropy(list(counts.values())) for counts in of_problem.values()])
    return Found(correct_qn(by_problem), entropy_q, of_problem, run.seed)


def count_strategies(responses: Sequence[Transcript]) -> Counter:
    """Return how many right responses use each strategy."""
    return Counter(operations_by_step(t.response) for t in responses if t.is_correct_strict)


def _entropy(counts: Sequence[int]) -> float:
    if not counts:
        return float("nan")
    share = np.array(counts) / sum(counts)
    return float(-(share * np.log(share)).sum())


def novelty(found: Found, start: Found) -> float:
    """Return the share of (problem, strategy) pairs of right responses that no right response of the start has."""
    pairs = [(key, strategy) for key, counts in found.of_problem.items() for strategy in counts]
    return float(np.mean([s not in start.of_problem.get(key, ()) for key, s in pairs])) if pairs else float("nan")


def lost(found: Found, start: Found) -> float:
    """Return the share of (problem, strategy) pairs of right responses of the start that are gone."""
    return novelty(start, found)


def analyze(results: Results) -> Analysis:
    """Compare coverage, entropy over strategies, and novelty against the start."""
    started = [read_strategies(results, run) for run in results.finished(arm="start_eval")]
    if not started:
        return Analysis([])
    (start,) = started
    found = {arm: [read_strategies(results, run) for run in results.finished(arm=f"{arm}_eval")] for arm in ARMS}
    found = {"start": [start]} | {arm: of_arm for arm, of_arm in found.items() if of_arm}
    ks = reported_ks(start.correct_qn.shape[1])
    rows, findings = [], []
    for arm, of_arm in found.items():
        accuracy = mean_interval(np.stack([f.correct_qn.mean(1) for f in of_arm]))
        coverage = np.mean([pass_at_k_q(f.correct_qn.astype(float), ks[-1]).mean() for f in of_arm])
        entropy = np.mean(
            [float(np.nanmean(f.entropy_q)) if np.isfinite(f.entropy_q).any() else np.nan for f in of_arm]
        )
        new, gone = (np.mean([measure(f, start) for f in of_arm]) for measure in (novelty, lost))
        rows.append([LABELS[arm], str(len(of_arm)), str(accuracy), *(f"{x:.3f}" for x in (coverage, entropy))])
        rows[-1] += ["", ""] if arm == "start" else [f"{new:.3f}", f"{gone:.3f}"]
        change = "" if arm == "start" else f"; {new:.0%} of its strategies are new, {gone:.0%} of the start's are gone"
        findings.append(
            f"{LABELS[arm]}, {count(len(of_arm), 'seed')}: accuracy {accuracy.mean:.3f}, pass@{ks[-1]} {coverage:.3f}, "
            f"entropy over strategies {entropy:.2f} nats{change}."
        )
    columns = ("arm", "seeds", "sampled accuracy, 95 % interval", f"pass@{ks[-1]}", "entropy, nats", "new", "gone")
    comparisons = [c for other in ("mig_sft", "mig_strong_sft", "grpo") if (c := _compare_coverage(found, other))]
    return Analysis(findings, [Table("Strategies", columns, rows)], comparisons, _draw(found, ks))


def _compare_coverage(found: Mapping[str, Sequence[Found]], other: str) -> Comparison | None:
    """Return the difference in coverage between MIG without SFT and another arm."""
    if not ("mig" in found and other in found):
        return None
    k = found["mig"][0].correct_qn.shape[1]
    a, b = (np.stack([pass_at_k_q(f.correct_qn.astype(float), k) for f in found[arm]]) for arm in ("mig", other))
    pair = pair_by_seed([f.seed for f in found["mig"]], a, [f.seed for f in found[other]], b)
    what = f"pass@{k}: {LABELS['mig']} − {LABELS[other]}, {count(len(pair[0]), 'seed')}"
    return Comparison(what, *paired_difference(*pair)) if len(pair[0]) else None


def _draw(found: Mapping[str, Sequence[Found]], ks: Sequence[int]) -> Figure:
    """Draw pass@k of every arm."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    ax = figure.subplots()
    for number, (arm, of_arm) in enumerate(found.items()):
        curve = [np.mean([pass_at_k_q(f.correct_qn.astype(float), k).mean() for f in of_arm]) for k in ks]
        ax.plot(ks, curve, color=plot_style.COLORS[number % len(plot_style.COLORS)], marker="o", ms=4)
        ax.lines[-1].set_label(LABELS[arm])
    ax.set(xlabel="k", ylabel="pass@k", xscale="log", ylim=(-0.02, 1.02))
    ax.set_xticks(ks, [str(k) for k in ks])
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    return figure


STUDY = Study(
    name="strategies",
    question="Which ways to the answer does pure RL find or keep that training with SFT does not, and the reverse?",
    hypotheses=(
        "SFT on the policy's own right responses narrows it: entropy over strategies and pass@256 are lower.",
        "Pure RL finds strategies that the start policy never sampled; SFT finds none.",
    ),
    plan_runs=plan_runs,
    analyze=analyze,
    settings={**SHORT_RUN, "data.eval_size": 64},
    limits=(
        "Strategies differ in which operations share a step, not in the mathematics.",
        "New means: not among 256 samples of the start policy for the same problem; rare ones may be missed.",
    ),
)
