"""Evaluate a policy on held-out problems: greedy and sampled completions, each graded strictly and leniently."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from mig_jax.config import Config
from mig_jax.data import stream
from mig_jax.data.problem import Problem
from mig_jax.distributed import multihost, sharding
from mig_jax.distributed.out_of_memory import explain_out_of_memory
from mig_jax.models.sampler import Completions, Prompts
from mig_jax.parts import own_constant
from mig_jax.policy.completions import parse_completions
from mig_jax.policy.generate import Sampler, make_rollout_params_fn, make_sampler
from mig_jax.policy.load import Policy
from mig_jax.policy.prompts import encode_prompts
from mig_jax.records import eval_metrics
from mig_jax.records.progress import progress
from mig_jax.records.transcripts import Transcript, read_transcripts, write_transcripts
from mig_jax.rollout.grading import grade_transcripts
from mig_jax.rollout.rollout import make_transcripts
from mig_jax.text.answers.verifier import Verifier


class EvalSlice(NamedTuple):
    """Problems that are sampled together: `size` rows of prompts, from problem `first` on."""

    first: int
    size: int


class _Loaded(NamedTuple):
    """A slice made ready on the host: `prompts` to sample from, or the transcripts of an earlier call (`done`)."""

    slice: EvalSlice
    problems: list[Problem]
    prompts: Prompts | None
    done: list[Transcript]


@dataclasses.dataclass(frozen=True)
class EvalSampler:
    """Answers problems by one way of sampling: batches of completions, graded and kept as they finish.

    policy, config, verifier: what samples, with which limits, and what grades.
    sampler: compiled; draws `samples` completions of each prompt.
    samples: completions of each problem.
    """

    policy: Policy
    config: Config
    verifier: Verifier
    sampler: Sampler
    samples: int

    def answer(
        self, rollout_params: Any, problems: Sequence[Problem], key: jax.Array, *, name: str, folder: Path | None = None
    ) -> list[Transcript]:
        """Return `samples` graded transcripts of every problem; see `answer_parts`."""
        parts = self.answer_parts(rollout_params, problems, key, name=name, folder=folder)
        return [transcript for part in parts for transcript in part]

    def answer_parts(
        self, rollout_params: Any, problems: Sequence[Problem], key: jax.Array, *, name: str, folder: Path | None = None
    ) -> Iterator[list[Transcript]]:
        """Yield graded transcripts, `samples` of every problem, `config.eval.batch_size` rows at a time.

        Prompts are read ahead, and answers are graded, while the accelerator samples. Samples depend only on `key` and
        on the position of their slice.

        Args:
          rollout_params: parameters in the compute dtype (`generate.make_rollout_params_fn`).
          problems: what to answer.
          key: seed of the samples.
          name: label of the progress bar.
          folder: where each slice is written when it is done; slices that an earlier call left there are read, not
            sampled again.
        """
        slices = eval_slices(self.policy, self.config, len(problems), self.samples)
        # Decided by one process before any samples, so that all skip the same slices.
        done = multihost.broadcast_from_main(
            lambda: [part.first for part in slices if self._is_done(_select(problems, part), _path(folder, part))]
        )
        load = functools.partial(self._load, problems, folder, done)
        ready = stream.in_order(slices, load, read_ahead=self.config.data.read_ahead)
        bar = iter(progress(ready, total=len(slices), desc=name, unit="batch", leave=False))
        for loaded, completions in self._sample_ahead(rollout_params, key, bar):
            yield loaded.done if completions is None else self._grade(loaded, completions, folder)

    def _load(self, problems: Sequence[Problem], folder: Path | None, done: list[int], part: EvalSlice) -> _Loaded:
        """Read a slice's prompts, or its transcripts if it is done."""
        selected, path = _select(problems, part), _path(folder, part)
        if path is not None and part.first in done:
            own_kind = own_constant(self.config.data.columns.kind)
            return _Loaded(part, selected, None, read_transcripts(str(path), own_kind=own_kind))
        # The last slice is padded, so that all have one shape; its extra rows are dropped.
        padded = selected + selected[:1] * (part.size - len(selected))
        return _Loaded(part, selected, encode_prompts(self.policy, self.config, padded).prompts, [])

    def _sample_ahead(
        self, rollout_params: Any, key: jax.Array, slices: Iterator[_Loaded]
    ) -> Iterator[tuple[_Loaded, Completions | None]]:
        """Yield each slice with its completions, one slice late: the next one is sampled while the host grades."""
        last = None
        for loaded in slices:
            finish, completions = None, None
            if loaded.prompts:
                prompts = sharding.to_mesh(loaded.prompts, self.policy.mesh)
                finish = self.sampler.start(rollout_params, prompts, jax.random.fold_in(key, loaded.slice.first))
            if last:
                yield last
            if finish:
                # Replicated before the next slice is sampled: afterwards it would wait for that.
                completions = sharding.replicate(finish()._replace(cache=()))
            last = loaded, completions
        if last:
            yield last

    def _grade(self, loaded: _Loaded, completions: Completions, folder: Path | None) -> list[Transcript]:
        """Parse and grade the completions of a slice, and write them to its file."""
        w = self.config.reward
        parsed = parse_completions(self.policy, completions, max_steps=w.max_steps, process_mask=w.process_mask)
        repeated = [problem for problem in loaded.problems for _ in range(self.samples)]
        parsed = parsed[: len(repeated)]
        transcripts = make_transcripts(repeated, parsed, None, None)
        graded = grade_transcripts(transcripts, self.verifier, self.policy.tokenizer.format)
        path = _path(folder, loaded.slice)
        if path is not None and multihost.is_main_process():
            write_transcripts(graded, str(path))
        return graded

    def _is_done(self, problems: Sequence[Problem], path: Path | None) -> bool:
        """Return whether an earlier call has written this slice, with answers to the same problems.

        Slices differ with the number of devices, and a file of problems may have changed.
        """
        if path is None or not path.exists():
            return False
        wanted = [(problem.id, problem.question, problem.answer) for problem in problems for _ in range(self.samples)]
        done = read_transcripts(str(path), own_kind=own_constant(self.config.data.columns.kind))
        return [(t.id, t.question, t.answer) for t in done] == wanted


class Evaluator:
    """Answers problems greedily once, and `config.eval.samples` times at the training temperature.

    Programs are compiled once for all sources of the same shapes.
    """

    def __init__(self, policy: Policy, config: Config, verifier: Verifier):
        self.policy, self.config, self.verifier = policy, config, verifier
        r, samples = config.rollout, config.eval.samples
        self.rollout_params = make_rollout_params_fn(policy, gather=r.gather_params)
        greedy = make_sampler(policy, r, group_size=1, temperature=0.0)
        sampled = make_sampler(policy, r, group_size=samples, temperature=r.temperature)
        self.samplers = {
            "greedy": EvalSampler(policy, config, verifier, greedy, 1),
            "sampled": EvalSampler(policy, config, verifier, sampled, samples),
        }

    def answer(
        self, params: Any, problems: Sequence[Problem], key: jax.Array, *, name: str, folder: Path | None = None
    ) -> list[Transcript]:
        """Return the graded transcripts of every problem: one greedy, `eval.samples` sampled.

        Args:
          params: parameters, as they are trained.
          problems: what to answer.
          key: seed of the samples.
          name: label of the progress bar.
          folder: see `EvalSampler.answer`.
        """
        transcripts, rollout_params = [], self.rollout_params(params)
        for sampling, sampler in self.samplers.items():
            with explain_out_of_memory("evaluation", self.config):
                answered = sampler.answer(
                    rollout_params, problems, key, name=f"{name}, {sampling}", folder=folder and folder / sampling
                )
            transcripts += [dataclasses.replace(transcript, sampling=sampling) for transcript in answered]
        return transcripts

    def metrics(self, params: Any, problems: Sequence[Problem], key: jax.Array, *, name: str) -> dict[str, float]:
        """Return the numbers `eval/…` of a row of metrics; see `eval_metrics.summarize`."""
        transcripts = self.answer(params, problems, key, name=name)
        return {f"eval/{metric}": value for metric, value in eval_metrics.summarize(transcripts).items()}


def eval_slices(policy: Policy, config: Config, n: int, samples: int) -> list[EvalSlice]:
    """Cut n problems into slices of one size, as large as `eval.batch_size` allows, divided evenly by the devices."""
    size = sharding.pad_to_multiple(max(1, min(config.eval.batch_size // samples, n)), policy.mesh)
    return [EvalSlice(first, size) for first in range(0, n, size)]


def _select(problems: Sequence[Problem], part: EvalSlice) -> list[Problem]:
    return [problems[n] for n in range(part.first, min(part.first + part.size, len(problems)))]


def _path(folder: Path | None, part: EvalSlice) -> Path | None:
    return folder / f"{part.first:08d}.jsonl" if folder else None
