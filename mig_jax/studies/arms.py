"""Grids of training runs that differ in an arm, a setting and a seed, each followed by its evaluation.

Most studies are such a grid: methods (arms) against difficulties (settings), with the same seeds for all arms.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from mig_jax.records.metrics import column
from mig_jax.studies import actions
from mig_jax.studies.statistics import mean_interval, paired_difference
from mig_jax.studies.study import Comparison, Results, Run

# Credit of arms that set nothing else: by trajectory, as in the paper, and with the closing tag scored.
BASELINE: Mapping[str, Any] = MappingProxyType({"reward.credit_level": "trajectory", "reward.terminator": "tag"})
# Settings of short runs that are evaluated by a run of their own: little besides training is done or written.
SHORT_RUN: Mapping[str, Any] = MappingProxyType(
    {
        "steps": 30,
        "data.eval_size": 128,
        "rollout.questions": 16,
        "optimizer.peak_lr": 6e-4,
        **BASELINE,
        "eval.at_start": False,
        "eval.at_end": False,
        "eval.scored": 0,
        "checkpoint.every": 20,
        "log.transcripts_every": 100,
        "log.writers": (),
    }
)
# Last logged training steps that metrics of behavior are means over.
LAST = 5


def train_and_evaluate(
    arm: str,
    setting: str,
    seed: int,
    changes: Mapping[str, Any],
    *,
    model: str = "",
    after: Sequence[str] = (),
    evaluation: Mapping[str, Any] = MappingProxyType({}),
) -> list[Run]:
    """Return a training run and the evaluation of its model, whose arm is `ARM_eval`.

    Args:
      arm, setting, seed: see `Run`.
      changes: config key → value, of the training.
      model: name of the run that trained the start policy; "" for the config's.
      after: names of further runs that must be finished before.
      evaluation: config key → value, of the evaluation.
    """
    trained = "/".join(part for part in (setting, arm, f"seed_{seed}") if part)
    return [
        Run(trained, actions.train, changes, seed, arm, setting, model=model, after=tuple(after)),
        Run(f"{trained}_eval", actions.evaluate, evaluation, seed, f"{arm}_eval", setting, model=trained),
    ]


class Cell(NamedTuple):
    """What an arm reached in a setting.

    seeds: those that are finished.
    sampled_sq, greedy_sq: `[S, Q]` share of right responses by seed and problem.
    behavior: metric → mean over seeds and the last training steps.
    seconds: of training, by seed.
    """

    seeds: tuple[int, ...]
    sampled_sq: np.ndarray
    greedy_sq: np.ndarray
    behavior: Mapping[str, float]
    seconds: tuple[float, ...]


def read_cell(
    results: Results, arm: str, setting: str = "", *, metrics: Sequence[str] = ("reward/format", "rollout/steps")
) -> Cell | None:
    """Return what an arm reached in a setting, None if no seed is finished."""
    evaluated = sorted(results.finished(arm=f"{arm}_eval", setting=setting), key=lambda run: run.seed)
    if not evaluated:
        return None
    trained = [run for seed in evaluated for run in results.finished(arm=arm, setting=setting, seed=seed.seed)]
    return Cell(
        tuple(run.seed for run in evaluated),
        results.accuracies(evaluated),
        results.accuracies(evaluated, "greedy"),
        {name: float(np.mean([results.last(run, name, LAST) for run in trained])) for name in metrics},
        tuple(float(column(results.rows(run), "time/seconds")[1].sum()) for run in trained),
    )


def compare(cells: Mapping[str, Cell | None], one: str, other: str, *, what: str) -> Comparison | None:
    """Return the difference in sampled accuracy of two arms, on the seeds that both have; None if there are none."""
    a, b = cells.get(one), cells.get(other)
    if not (a and b):
        return None
    pair = pair_by_seed(a.seeds, a.sampled_sq, b.seeds, b.sampled_sq)
    return Comparison(f"{what}, {count(len(pair[0]), 'seed')}", *paired_difference(*pair)) if len(pair[0]) else None


def pair_by_seed(
    a_seeds: Sequence[int], a_sq: np.ndarray, b_seeds: Sequence[int], b_sq: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of two arms `[S, Q]` for the seeds that both have, in the same order."""
    seeds = [seed for seed in a_seeds if seed in b_seeds]
    return a_sq[[a_seeds.index(seed) for seed in seeds]], b_sq[[b_seeds.index(seed) for seed in seeds]]


def cell_row(name: str, cell: Cell | None, extra: Sequence[str] = ()) -> list[str]:
    """Return a row of a table with `CELL_COLUMNS`."""
    if cell is None:
        return [name, "0", "", "", *([""] * len(extra))]
    return [name, str(len(cell.seeds)), str(mean_interval(cell.sampled_sq)), f"{cell.greedy_sq.mean():.3f}", *extra]


CELL_COLUMNS = ("arm", "seeds", "sampled accuracy, 95 % interval", "greedy")


def count(n: int, thing: str) -> str:
    """Return "1 seed" or "3 seeds"."""
    return f"{n} {thing}{'s' * (n != 1)}"
