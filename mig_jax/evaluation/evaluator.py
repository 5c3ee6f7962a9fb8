"""How good is the policy on held-out problems? Completions, greedy and drawn, each read strictly and leniently."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from mig_jax.config import Config
from mig_jax.data import stream
from mig_jax.data.problem import Problem
from mig_jax.distributed import multihost, sharding
from mig_jax.models import sampler
from mig_jax.policy.generate import make_rollout_params, make_sampler
from mig_jax.policy.load import Policy
from mig_jax.policy.prompts import encode_prompts
from mig_jax.records import eval_metrics
from mig_jax.records.transcripts import Transcript, read_transcripts, write_transcripts
from mig_jax.rollout import rollout
from mig_jax.rollout.grading import grade_transcripts
from mig_jax.text.answers.verifier import Verifier


class Evaluator:
    """Answers problems greedily once, and `config.eval.samples` times at the training temperature.

    Compiled once for all sources that are evaluated, as far as their shapes are the same.
    """

    def __init__(self, policy: Policy, config: Config, verifier: Verifier):
        self.policy, self.config, self.verifier = policy, config, verifier
        r, self.samples = config.rollout, config.eval.samples
        self.prepare = make_rollout_params(policy, gather=r.gather_params)
        sampled = make_sampler(policy, r, group_size=self.samples, temperature=r.temperature)
        greedy = make_sampler(policy, r, group_size=1, temperature=0.0)
        self.ways = {"greedy": (greedy, 1), "sampled": (sampled, self.samples)}

    def answer(
        self,
        params: Any,
        problems: Sequence[Problem],
        key: jax.Array,
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
        transcripts, weights = [], self.prepare(params)
        for sampling, (sample, samples) in self.ways.items():
            drawn = answer_problems(
                self.policy, self.config, self.verifier, sample, weights, problems, key, samples=samples,
                name=f"{name}, {sampling}", parts=parts and parts / sampling,
            )  # fmt: skip
            transcripts += [dataclasses.replace(transcript, sampling=sampling) for transcript in drawn]
        return transcripts

    def metrics(self, params: Any, problems: Sequence[Problem], key: jax.Array, *, name: str) -> dict[str, float]:
        """The figures of a row of metrics, `eval/…`; see `eval_metrics.summarize`."""
        transcripts = self.answer(params, problems, key, name=name)
        return {f"eval/{figure}": value for figure, value in eval_metrics.summarize(transcripts).items()}


class _Batch(NamedTuple):
    """Problems that are asked together.

    first: place of the first one among all.
    part: the file to which their transcripts are written; None for none.
    prompts: on the host, of the rows of this process; None where the transcripts are there from an earlier call.
    done: those.
    """

    first: int
    problems: list[Problem]
    part: Path | None
    prompts: sampler.Prompts | None
    done: list[Transcript]


def answer_problems(
    policy: Policy,
    config: Config,
    verifier: Verifier,
    sample: Callable,
    weights: Any,
    problems: Sequence[Problem],
    key: jax.Array,
    *,
    samples: int,
    name: str,
    parts: Path | None = None,
) -> list[Transcript]:
    """`samples` completions of every problem, read and checked, `config.eval.batch_size` rows at a time.

    Prompts are read ahead and answers are checked while the accelerator samples.
    """
    transcripts: list[Transcript] = []
    firsts = batches(policy, config, len(problems), samples)

    def part_of(first: int, size: int) -> tuple[list[Problem], Path | None]:
        asked = [problems[n] for n in range(first, min(first + size, len(problems)))]
        return asked, parts / f"{first:08d}.jsonl" if parts else None

    # Asked of one process before any samples, so that all leave out the same batches.
    known = multihost.broadcast_from_main(lambda: [batch[0] for batch in firsts if _is_done(*part_of(*batch), samples)])

    def prepare(batch: tuple[int, int]) -> _Batch:
        (first, size), (asked, part) = batch, part_of(*batch)
        if first in known:
            return _Batch(first, asked, part, None, read_transcripts(str(part)))
        # The last batch is filled up, so that all have one shape; the extra rows are dropped.
        return _Batch(
            first, asked, part, encode_prompts(policy, config, asked + asked[:1] * (size - len(asked))).prompts, []
        )

    def finish(batch: _Batch, completions: sampler.Completions | None) -> None:
        done = batch.done
        if completions:
            parsed = rollout.parse_completions(policy, completions, max_steps=config.reward.max_steps)
            parsed = parsed[: len(batch.problems) * samples]
            drawn = rollout.make_transcripts(batch.problems, parsed, [None] * len(parsed), None)
            done = grade_transcripts(drawn, verifier)
            if batch.part and multihost.is_main_process():
                write_transcripts(done, str(batch.part))
        transcripts.extend(done)

    finish_last = None
    ready = stream.in_order(firsts, prepare, read_ahead=config.data.read_ahead)
    for batch in tqdm(ready, total=len(firsts), desc=name, unit="batch", leave=False):
        completions = None
        if batch.prompts:
            prompts = sharding.to_mesh(batch.prompts, policy.mesh)
            completions = sample(weights, prompts, jax.random.fold_in(key, batch.first))._replace(cache=())
            completions = sharding.replicate(completions)  # before the next batch is sampled, not behind it
        if finish_last:
            finish_last()
        finish_last = functools.partial(finish, batch, completions)
    finish_last()
    return transcripts


def _is_done(asked: Sequence[Problem], path: Path | None, samples: int) -> bool:
    """Has an earlier call written this batch, and not the answers to other problems?

    Batches differ with the number of devices, and a file of problems may have changed.
    """
    if path is None or not path.exists():
        return False
    wanted = [(problem.id, problem.question, problem.answer) for problem in asked for _ in range(samples)]
    return [(t.id, t.question, t.answer) for t in read_transcripts(str(path))] == wanted


def batches(policy: Policy, config: Config, n: int, samples: int) -> list[tuple[int, int]]:
    """First problem and size of each batch: as many at a time as fit, in equal parts for the devices."""
    size = sharding.pad_to_multiple(max(1, min(config.eval.batch_size // samples, n)), policy.mesh)
    return [(first, size) for first in range(0, n, size)]
