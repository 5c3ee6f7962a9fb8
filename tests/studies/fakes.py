"""Stand-ins for the actions of studies: they write the files of the commands in milliseconds.

A policy is right with a probability that depends on its arm alone, `SKILL`; elsewhere 0.5.
"""

import json
import zlib

import numpy as np

from mig_jax.records.transcripts import Transcript, write_transcripts
from mig_jax.studies import actions

SKILL: dict[str, float] = {}
STEPS = ("1+1=2", "2+1=3", "3+1=4")


def patch(monkeypatch):
    """Replace all actions."""
    for name, fake in {
        "train": train,
        "sft": train,
        "evaluate": evaluate,
        "sample": sample,
        "score": score,
        "values": values,
    }.items():
        monkeypatch.setattr(actions, name, fake)


def train(job):
    rows = [{"config": {}}]
    for step in range(1, 4):
        row = {"reward/format": 0.9, "rollout/steps": 5.5, "reward/accuracy": step / 10, "time/seconds": 2.0}
        rows.append({"step": step, **row, "reward/zero_variance_groups": 0.5})
    (job.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (job.folder / "model").mkdir()


def evaluate(job):
    rng = np.random.default_rng(job.run.seed)
    skill = SKILL.get(job.run.arm.removesuffix("_eval"), 0.5)
    transcripts = [
        Transcript("q", "r", "4", id=f"{n:03}", sampling=sampling, is_correct=bool(rng.random() < skill))
        for n in range(40)
        for sampling in ("greedy", "sampled", "sampled")
    ]
    (job.folder / "chain").mkdir()
    write_transcripts(transcripts, str(job.folder / "chain" / "transcripts.jsonl"))


def sample(job):
    rng = np.random.default_rng(0)
    transcripts = []
    for n in range(job.run.options["limit"]):
        for _ in range(job.run.options.get("samples", 1)):
            ell = tuple(np.cumsum(rng.normal(0.5, 1.0, size=len(STEPS) + 1)).tolist())
            gains = tuple(np.maximum(0, np.diff(ell)).tolist())
            transcripts.append(
                Transcript("q", "r", "4", id=str(n), steps=STEPS, ell_k=ell, watermark_k=ell, gain_k=gains)
            )
    write_transcripts(transcripts, str(job.folder / actions.SAMPLES))


def score(job):
    text = (job.folder_of(job.run.options["of"]) / actions.SAMPLES).read_text()
    (job.folder / actions.SCORES).write_text(text)


def values(job):
    """Return values that follow ℓ, with noise that depends on the study's run."""
    rng = np.random.default_rng(zlib.crc32(job.run.name.encode()))
    text = (job.folder_of(job.run.options["of"]) / actions.SAMPLES).read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    lines = [(1 / (1 + np.exp(-np.array(row["ell_k"]) + rng.normal(0, 0.3)))).tolist() for row in rows]
    (job.folder / actions.VALUES).write_text("".join(json.dumps(line) + "\n" for line in lines))


def score_gamed(job):
    """Write two behaviors of each problem: an honest one, and one that earns half as much."""
    rows = [
        Transcript(
            "q", "r", "4", id=str(n), level=level, ell_k=(-4.0, last), watermark_k=(-4.0, last), gain_k=(last + 4,)
        )
        for n in range(job.run.options["limit"])
        for level, last in (("honest", 0.0), ("lazy", -2.0))
    ]
    write_transcripts(rows, str(job.folder / actions.SCORES))
