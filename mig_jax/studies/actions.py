"""What a run of a study does: the commands of `mig-jax`, in this process.

Each action takes a `Job` and writes into its folder. A study may have an action of its own.
"""

import json
import shutil
from typing import Any

from mig_jax import api
from mig_jax.records.atomic_file import replace_file
from mig_jax.records.transcripts import Transcript, read_transcripts, write_transcripts
from mig_jax.studies.study import Job
from mig_jax.trainer import train as trainer

SAMPLES, SCORES, VALUES = "samples.jsonl", "scores.jsonl", "values.jsonl"


def train(job: Job) -> None:
    """Train by RL; resumes where it was stopped. Checkpoints are removed at the end."""
    _train(job, "train")


def sft(job: Job) -> None:
    """Train on written solutions; resumes where it was stopped. Checkpoints are removed at the end."""
    _train(job, "sft")


def _train(job: Job, mode: str) -> None:
    trainer.run(job.config, str(job.folder), mode=mode, should_stop=job.should_stop)
    shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)


def evaluate(job: Job) -> None:
    """Evaluate on the held-out problems, or on `eval.benchmarks`; resumes where it was stopped."""
    api.evaluate(job.config, str(job.folder))


def sample(job: Job) -> None:
    """Sample responses to held-out problems, with ℓ after every step. Options: `limit` problems, `samples` of each."""
    options = job.run.options
    sampled = api.sample(job.config, limit=options["limit"], samples=options.get("samples", 1))
    write_transcripts(sampled, str(job.folder / SAMPLES))


def score(job: Job) -> None:
    """Score the samples of the run `of`, an option, under the config of this run."""
    write_transcripts(api.score(job.config, _samples_of(job)), str(job.folder / SCORES))


def values(job: Job) -> None:
    """Estimate the Monte-Carlo value of every state of the samples of the run `of`, from `samples` continuations.

    values.jsonl has a line of K+1 values for each of the samples, in their order.
    """
    options: dict[str, Any] = {key: value for key, value in job.run.options.items() if key != "of"}
    of_each = api.values(job.config, _samples_of(job), **options)
    with replace_file(job.folder / VALUES) as file:
        file.writelines(f"{json.dumps(list(of_one))}\n" for of_one in of_each)


def _samples_of(job: Job) -> list[Transcript]:
    return read_transcripts(str(job.folder_of(job.run.options["of"]) / SAMPLES))
