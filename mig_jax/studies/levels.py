"""Chains of several lengths, from easy to hard: one policy, one training mixture, accuracy by level."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mig_jax.records.transcripts import Transcript
from mig_jax.studies import actions
from mig_jax.studies.study import Plan, Results, Run

# Solutions that the start policies have learned.
SLIPS = "slip_prob=0.2,early_guess_prob=0.2"


def mixture(terms: Sequence[int], options: str = "") -> str:
    """Return the source that mixes chains of these lengths evenly."""
    return " + ".join(f"1 {_source(n, options)}" for n in terms)


def benchmarks(terms: Sequence[int], options: str = "") -> str:
    """Return these chains as `eval.benchmarks`."""
    return ",".join(_source(n, options) for n in terms)


def _source(terms: int, options: str) -> str:
    return f"chain:terms={terms}" + (f",{options}" if options else "")


def start_policy(name: str, source: str, plan: Plan, *, steps: int = 150) -> Run:
    """Return the run that teaches the quickstart's policy the solutions of a source."""
    taught: dict[str, Any] = {} if plan.smoke else {"data.train": source, "steps": steps, "optimizer.peak_lr": 1e-3}
    return Run(name, actions.sft, taught, arm="start")


def sampled_by_problem(results: Results, run: Run, terms: int | None = None) -> dict[str, list[Transcript]]:
    """Return the sampled responses of an `evaluate` run by problem id, of chains of `terms` terms; None for all."""
    found: dict[str, list[Transcript]] = {}
    for t in results.transcripts(run):
        if t.sampling == "sampled" and (terms is None or re.match(rf"chain:terms={terms}\b", t.id)):
            found.setdefault(t.id, []).append(t)
    return dict(sorted(found.items()))


def correct_qn(by_problem: dict[str, list[Transcript]]) -> np.ndarray:
    """Return which responses are right, `[Q, N]`."""
    return np.array([[t.is_correct_strict is True for t in of_one] for of_one in by_problem.values()])
