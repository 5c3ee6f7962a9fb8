"""How good is the policy on held-out problems? Completions, greedy and drawn, each read strictly and leniently."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import chex
import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from mig_jax import results, rollouts
from mig_jax.data.problem import Problem
from mig_jax.models import sharding
from mig_jax.policy import Policy, make_sample
from mig_jax.prompts import encode_prompts
from mig_jax.text.verifier import Verifier
from mig_jax.transcripts import Transcript, read_transcripts, write_transcripts
from mig_jax.verdicts import judge


class Evaluator:
    """Answers problems greedily once, and `config.eval.samples` times at the training temperature.

    Compiled once for all sources that are evaluated, as far as their shapes are the same.
    """

    def __init__(self, policy: Policy, config: ConfigDict, verifier: Verifier):
        self.policy, self.config, self.verifier = policy, config, verifier
        r, self.samples = config.rollout, config.eval.samples
        sampled = make_sample(
            policy, group_size=self.samples, max_new_tokens=r.max_new_tokens, temperature=r.temperature
        )
        greedy = make_sample(policy, group_size=1, max_new_tokens=r.max_new_tokens, temperature=0.0)
        self.ways = {"greedy": (greedy, 1), "sampled": (sampled, self.samples)}

    def answer(
        self,
        params: Any,
        problems: Sequence[Problem],
        key: chex.PRNGKey,
        *,
        name: str,
        parts: Path | None = None,
    ) -> list[Transcript]:
        """The transcripts of every problem, checked: one greedy, `eval.samples` sampled.

        What is drawn depends on `key` and the number of the batch alone.

        Args:
          name: of the progress bar.
          parts: a folder to which every batch is written as soon as it is done; those that are there from an earlier
            call with the same arguments are read instead of sampled again.
        """
        transcripts = []
        for sampling, (sample, samples) in self.ways.items():
            drawn = answer_problems(
                self.policy, self.config, self.verifier, sample, params, problems, key, samples=samples,
                name=f"{name}, {sampling}", parts=parts and parts / sampling,
            )  # fmt: skip
            transcripts += [dataclasses.replace(transcript, sampling=sampling) for transcript in drawn]
        return transcripts

    def metrics(self, params: Any, problems: Sequence[Problem], key: chex.PRNGKey, *, name: str) -> dict[str, float]:
        """The figures of a row of metrics, `eval/…`; see `results.headline`."""
        transcripts = self.answer(params, problems, key, name=name)
        return {f"eval/{figure}": value for figure, value in results.headline(transcripts).items()}


def answer_problems(
    policy: Policy,
    config: ConfigDict,
    verifier: Verifier,
    sample: Callable,
    params: Any,
    problems: Sequence[Problem],
    key: chex.PRNGKey,
    *,
    samples: int,
    name: str,
    parts: Path | None = None,
) -> list[Transcript]:
    """`samples` completions of every problem, read and checked, `config.eval.batch_size` rows at a time."""
    transcripts = []
    for first, size in tqdm(batches(policy, config, len(problems), samples), desc=name, unit="batch", leave=False):
        part = parts / f"{first:08d}.jsonl" if parts else None
        if part and part.exists():
            transcripts += read_transcripts(str(part))
            continue
        asked = [problems[n] for n in range(first, min(first + size, len(problems)))]
        # The last part is filled up, so that all have one shape; the extra rows are dropped.
        full = asked + asked[:1] * (size - len(asked))
        prompts = jax.device_put(encode_prompts(policy, config, full), sharding.batch_sharding(policy.mesh))
        completions = sample(params, prompts, jax.random.fold_in(key, first))._replace(cache=None)
        readings = rollouts.read_completions(policy, completions, max_steps=config.reward.max_steps)
        readings = readings[: len(asked) * samples]
        done = rollouts.make_transcripts(asked, readings, [None] * len(readings), None)
        done = judge(done, verifier)
        if part:
            write_transcripts(done, str(part))
        transcripts += done
    return transcripts


def batches(policy: Policy, config: ConfigDict, n: int, samples: int) -> list[tuple[int, int]]:
    """First problem and size of each batch: as many at a time as fit, in equal parts for the devices."""
    devices = policy.mesh.shape["data"] * policy.mesh.shape["fsdp"]
    size = -(-max(1, min(config.eval.batch_size // samples, n)) // devices) * devices
    return [(first, size) for first in range(0, n, size)]
