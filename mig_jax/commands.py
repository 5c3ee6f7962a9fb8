"""The commands that do not train: eval, sample, score."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jax
from ml_collections import ConfigDict

from mig_jax.check_config import check_config
from mig_jax.data.problem import Problem
from mig_jax.evaluate import Evaluator, sample_transcripts
from mig_jax.models import sharding
from mig_jax.pictures import draw_gains
from mig_jax.policy import Policy, load_policy, make_sample
from mig_jax.problems import open_problems
from mig_jax.score import score_transcripts
from mig_jax.text.verifier import Verifier
from mig_jax.transcripts import Transcript, read_transcripts, write_transcripts


@contextmanager
def loaded(config: ConfigDict, *, mode: str) -> Iterator[tuple[Policy, Verifier]]:
    """The policy on its mesh and a pool of checkers, for as long as the block runs.

    Raises:
      ConfigError: with everything that is wrong with the config.
    """
    check_config(config, mode=mode, n_devices=jax.device_count())
    mesh = sharding.make_mesh(config.mesh.to_dict())
    with jax.set_mesh(mesh), Verifier(**config.verifier.to_dict()) as verifier:
        yield load_policy(config.model, mesh, seed=config.seed), verifier


def evaluate(config: ConfigDict, workdir: str) -> None:
    """Accuracy on held-out problems; results.json and transcripts.jsonl in `workdir`."""
    with loaded(config, mode="eval") as (policy, verifier):
        problems = open_problems(policy, config, "test")
        evaluator = Evaluator(policy, config, verifier, problems)
        results, transcripts = evaluator.evaluate(policy.params, jax.random.key(config.seed), name="eval")
    os.makedirs(workdir, exist_ok=True)
    write_transcripts(transcripts, os.path.join(workdir, "transcripts.jsonl"))
    with open(os.path.join(workdir, "results.json"), "w", encoding="utf-8") as file:
        json.dump({"model": config.model.path, "problems": len(problems), **results}, file, indent=2)
    for name, value in results.items():
        print(f"{name:16} {value:.3f}")
    source = config.data.eval or config.data.train
    print(f"{len(problems)} problems of {source}; results.json and transcripts.jsonl are in {workdir}")


def sample(config: ConfigDict, questions: Sequence[str]) -> None:
    """Print a completion of each question, or of four held-out problems with what each step has earned."""
    with loaded(config, mode="score" if questions else "sample") as (policy, verifier):
        problems = [Problem(str(number), question, "?", "text") for number, question in enumerate(questions)]
        problems = problems or list(open_problems(policy, config, "test"))[:4]
        r = config.rollout
        draw = make_sample(policy, group_size=1, max_new_tokens=r.max_new_tokens, temperature=r.temperature)
        key = jax.random.key(config.seed)
        transcripts = sample_transcripts(
            policy, config, verifier, draw, policy.params, problems, key, samples=1, name="sampling"
        )
        if not questions:
            transcripts = score_transcripts(policy, config, transcripts, verifier)
    for transcript in transcripts:
        print_transcript(transcript)


def print_transcript(transcript: Transcript) -> None:
    """One response on the terminal, with the gain of each step where it was scored."""
    print(f"\n{transcript.question}\n{transcript.response}")
    if transcript.ell_k:
        verdict = {True: "right", False: "wrong", None: "unchecked"}[transcript.is_correct]
        print(
            f"-- {verdict}; the answer is {transcript.answer}, log-likelihood at first {transcript.ell_k[0]:.2f} nats"
        )
        for step, ell, gain in zip(transcript.steps, transcript.ell_k[1:], transcript.gain_k, strict=True):
            print(f"   gain {gain:5.2f}  log-likelihood {ell:6.2f}  {step}")


def score(config: ConfigDict, input_file: str, workdir: str | None) -> None:
    """Step credit of given transcripts: scores.jsonl, gains.png and gains.html in `workdir`."""
    workdir = workdir or os.path.splitext(input_file)[0] + "_scores"
    transcripts = read_transcripts(input_file)
    if not transcripts:
        raise ValueError(f"{input_file} holds no transcripts")
    with loaded(config, mode="score") as (policy, verifier):
        scored = score_transcripts(policy, config, transcripts, verifier)
    os.makedirs(workdir, exist_ok=True)
    write_transcripts(scored, os.path.join(workdir, "scores.jsonl"))
    draw_gains(scored, os.path.join(workdir, "gains"))
    print(f"{len(scored)} transcripts; scores.jsonl, gains.png and gains.html are in {workdir}")
