"""Responses that do no honest work, to any problem with a written solution, and what a credit rule pays for them.

`benchmarks/gaming.py` has more of them, for two models; these need nothing but solutions, so a study can write them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mig_jax import api
from mig_jax.data.problem import Problem
from mig_jax.errors import UserError
from mig_jax.records.transcripts import Transcript, write_transcripts
from mig_jax.rewards import Group
from mig_jax.rewards.numpy_twins import make_credit
from mig_jax.rollout.problem_set import eval_source, open_source
from mig_jax.studies.actions import SCORES
from mig_jax.studies.study import Job
from mig_jax.text.response_format import render_response
from mig_jax.text.step_format import StepFormat, find_format

HONEST = "honest"
_TINY_STEPS = 12


def score_gamed(job: Job) -> None:
    """Write every behavior for `limit` held-out problems, and score them. `level` of a transcript is its behavior."""
    source = open_source(job.config, eval_source(job.config), split="test")
    solved = [problem for problem in (source[n] for n in range(min(len(source), 200))) if problem.solution]
    if len(solved) < 2:
        raise UserError(f"{eval_source(job.config)} has no written solutions to make gamed responses from")
    chosen = solved[: job.run.options["limit"]]
    format = find_format(job.config.response_format)
    rows = [
        Transcript(p.question, text, p.answer, p.kind, id=p.id, level=behavior, choices=p.choices, images=p.images)
        for p, other in zip(chosen, [*chosen[1:], chosen[0]], strict=True)
        for behavior, text in behaviors(p, other, format).items()
    ]
    write_transcripts(api.score(job.config, rows), str(job.folder / SCORES))


def behaviors(problem: Problem, other: Problem, format: StepFormat) -> dict[str, str]:
    """Return a response for each behavior; the first one is honest.

    Args:
      problem: with a right solution.
      other: another problem, whose steps are off the point and whose answer is wrong.
      format: of the responses.
    """
    assert problem.solution and other.solution
    steps, answer, wrong = list(problem.solution[0]), problem.answer, other.answer
    text = "".join(steps)
    tiny = [text[len(text) * k // _TINY_STEPS : len(text) * (k + 1) // _TINY_STEPS] for k in range(_TINY_STEPS)]
    written = {
        HONEST: (steps, answer),
        "right steps, a wrong answer": (steps, wrong),
        "the last step missing": (steps[:-1] or steps, answer),
        "right steps, then one off the point": ([*steps, other.solution[0][0]], wrong),
        "steps of another problem": (list(other.solution[0]), wrong),
        "the answer named at once, right": ([answer], answer),
        "the answer named at once, wrong": ([wrong], wrong),
        "a list of candidates": ([f"{wrong} {answer} {wrong[::-1]}"], wrong),
        "tiny steps": ([part for part in tiny if part.strip()], answer),
        "right steps and six of no content": ([*steps, *["ok"] * 6], answer),
        "the answer repeated in three more steps": ([*steps, *[answer] * 3], answer),
    }
    return {name: render_response(*of_one, format) for name, of_one in written.items()}


def group_of(transcripts: Sequence[Transcript]) -> Group:
    """Return scored responses to one problem as a group of numpy arrays; every step counts as one."""
    width = max(1, *(len(t.gain_k) for t in transcripts))
    ell_gk = np.zeros((len(transcripts), width + 1), np.float32)
    valid_gk = np.zeros(ell_gk.shape, bool)
    for row, transcript in enumerate(transcripts):
        ell_gk[row, : len(transcript.ell_k)] = transcript.ell_k
        valid_gk[row, : len(transcript.ell_k)] = True
    steps_gk = valid_gk[:, 1:].astype(int)
    is_correct_g = np.array([t.is_correct_strict is True for t in transcripts])
    fields: Any = (ell_gk, valid_gk, steps_gk, steps_gk, is_correct_g)
    return Group(*fields)


def paid(
    transcripts: Sequence[Transcript], rules: Mapping[str, tuple[str, Mapping[str, Any]]]
) -> dict[str, dict[str, float]]:
    """Return rule → behavior → mean reward as a share of the honest one; nan where that is not positive."""
    by_problem: dict[str, list[Transcript]] = {}
    for transcript in transcripts:
        by_problem.setdefault(transcript.id, []).append(transcript)
    names = [t.level for t in next(iter(by_problem.values()))]
    shares = {}
    for rule, (credit, args) in rules.items():
        pay = make_credit(credit, **args)
        reward_pb = np.stack([pay(group_of(of_one)).gain_gk.sum(1) for of_one in by_problem.values()])
        reward_b = reward_pb.mean(0)
        honest = reward_b[names.index(HONEST)]
        shares[rule] = {
            n: float(r / honest) if honest > 0 else float("nan") for n, r in zip(names, reward_b, strict=True)
        }
    return shares
