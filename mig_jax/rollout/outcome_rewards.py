"""The outcome rewards of a run: each with its weight, those of the user in processes of their own."""

import queue
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self

import numpy as np
from absl import logging

from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.distributed import multihost
from mig_jax.errors import UserError
from mig_jax.parts import loadable_spec, part_name
from mig_jax.policy.completions import ParsedCompletion, parse_completion
from mig_jax.policy.encoding import sft_target_ids
from mig_jax.policy.load import Policy
from mig_jax.rollout.outcome_worker import Reply, RewardWorker
from mig_jax.rollout.outcomes import OUTCOMES, Sample, batch_options, find_reward

# Late calls of a reward in a rollout after which the samples that are left are not tried.
MAX_LATE = 8


class Earned(NamedTuple):
    """The outcome rewards of B responses.

    reward_b: `[B]` float32, the weighted sum; 0 where it is not valid.
    is_valid_b: `[B]` bool, every reward gave a number. Other responses have no part in their groups.
    by_name: `[B]` rewards of each name, without their weights; None where there is none.
    metrics: numbers by name.
    """

    reward_b: np.ndarray
    is_valid_b: np.ndarray
    by_name: dict[str, list[float | None]]
    metrics: dict[str, float]

    def of_row(self, row: int) -> dict[str, float | None]:
        """Return the rewards of one response by name."""
        return {name: values[row] for name, values in self.by_name.items()}


class OutcomeRewards:
    """Computes `reward.outcomes` of samples; closed by `close` or by a `with` block.

    Each process of a run computes an equal share of the questions of its users' rewards, and all use the results.

    Args:
      config: the run's config.

    Raises:
      UserError: a reward cannot be found.
    """

    def __init__(self, config: Config):
        self._config = config
        self._weights: dict[str, float] = dict(config.reward.outcomes)
        self._own = {spec: _OwnReward(spec, config) for spec in self._weights if spec not in OUTCOMES}
        self._reported: set[str] = set()

    def __call__(self, samples: Sequence[Sample], *, group_size: int) -> Earned:
        """Return what samples earn. All processes call this with the same samples.

        Args:
          samples: B samples, those of a question next to each other.
          group_size: G, samples of a question.

        Raises:
          UserError: a reward has failed for every sample.
        """
        total_b, is_valid_b = np.zeros(len(samples)), np.ones(len(samples), bool)
        by_name: dict[str, list[float | None]] = {}
        metrics: dict[str, float] = {}
        for spec, weight in self._weights.items():
            name, start = part_name(spec), time.perf_counter()
            replies = self._replies(spec, samples, group_size)
            seconds = time.perf_counter() - start
            by_name[name] = [reply.value for reply in replies]
            value_b = np.array(by_name[name], float)  # None becomes nan
            is_valid_b &= np.isfinite(value_b) | (weight == 0)  # only looked at
            total_b += weight * np.nan_to_num(value_b)
            if name not in ("accuracy", "format"):
                metrics |= _statistics(f"reward/{name}", replies)
            if spec in self._own:
                metrics[f"reward/{name}_seconds"] = seconds
                metrics[f"reward/{name}_failed"] = self._count_failed(spec, replies)
        return Earned(np.where(is_valid_b, total_b, 0.0).astype(np.float32), is_valid_b, by_name, metrics)

    def try_out(self, policy: Policy, problem: Problem) -> None:
        """Call every reward of the user on two made-up responses, a good one and an empty one.

        Raises:
          UserError: lists the rewards that fail.
        """
        samples = trial_samples(policy, self._config, problem)
        errors = []
        for spec, reward in self._own.items():
            replies = reward([samples])
            errors += [f"reward.outcomes={spec!r}: {reply.error}" for reply in replies[0] if reply.error][:1]
        if errors:
            raise UserError(
                "outcome rewards fail on a trial response of the first training problem:\n  " + "\n  ".join(errors)
            )

    def close(self) -> None:
        """End all processes."""
        for reward in self._own.values():
            reward.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _replies(self, spec: str, samples: Sequence[Sample], group_size: int) -> list[Reply]:
        if spec in OUTCOMES:
            return [Reply(OUTCOMES[spec](sample, self._config.reward.outcome_args)) for sample in samples]
        groups = [list(samples[first : first + group_size]) for first in range(0, len(samples), group_size)]
        # Exchanged between processes, replies become lists.
        shared = multihost.split_work(groups, self._own[spec])
        return [Reply(*reply) for replies in shared for reply in replies]

    def _count_failed(self, spec: str, replies: Sequence[Reply]) -> float:
        """Return how many samples have no reward for an error; log the first one of a run.

        Raises:
          UserError: all of them.
        """
        errors = [reply.error for reply in replies if reply.error]
        if len(errors) == len(replies):
            # All processes have the same replies.
            multihost.sync_errors(lambda: _raise_all_failed(spec, errors))
        if errors and spec not in self._reported:
            self._reported.add(spec)
            logging.warning(
                "%s failed for %d of %d responses, which have no part in their groups; further ones are counted as "
                "reward/%s_failed: %s", spec, len(errors), len(replies), part_name(spec), errors[0],
            )  # fmt: skip
        return float(len(errors))


class _OwnReward:
    """A user's reward, called in processes of its own: several for a reward of one sample, one for a batch reward."""

    def __init__(self, spec: str, config: Config):
        args = config.reward.outcome_args
        self._batch = batch_options(find_reward(spec))
        n_workers = 1 if self._batch else args.workers
        deadline_s = self._batch.deadline_s if self._batch else args.deadline_s
        self._idle: queue.SimpleQueue[RewardWorker] = queue.SimpleQueue()
        self._workers = [RewardWorker(loadable_spec(spec), deadline_s) for _ in range(n_workers)]
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(n_workers)

    def __call__(self, groups: Sequence[list[Sample]]) -> list[list[Reply]]:
        """Return the replies for the samples of each group."""
        n_late = 0

        def call(samples: list[Sample]) -> list[Reply]:
            nonlocal n_late
            if n_late >= MAX_LATE:
                return [Reply(None, f"not tried after {MAX_LATE} late calls in this step")] * len(samples)
            worker = self._idle.get()
            try:
                replies, is_late = worker.call(samples)
            finally:
                self._idle.put(worker)
            n_late += is_late
            return replies

        replies = [reply for part in self._threads.map(call, self._calls(groups)) for reply in part]
        ends = np.cumsum([len(group) for group in groups]).tolist()
        return [replies[end - len(group) : end] for group, end in zip(groups, ends, strict=True)]

    def _calls(self, groups: Sequence[list[Sample]]) -> list[list[Sample]]:
        """Return the samples of each call: one, or whole groups up to the size of a batch."""
        if not self._batch:
            return [[sample] for group in groups for sample in group]
        calls: list[list[Sample]] = []
        for group in groups:
            if calls and len(calls[-1]) + len(group) <= self._batch.size:
                calls[-1] += group
            else:
                calls.append([*group])
        return calls

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.close()


def make_samples(
    problems: Sequence[Problem],
    parsed: Sequence[ParsedCompletion],
    answers: Sequence[str | None],
    is_correct: Sequence[bool | None],
    *,
    max_tokens: int,
) -> list[Sample]:
    """Return the samples of responses: their problems, parts, answers and grades, one entry for each."""
    return [
        Sample(problem, p.text, p.response, answer, p.ids, p.is_truncated, correct, max_tokens)
        for problem, p, answer, correct in zip(problems, parsed, answers, is_correct, strict=True)
    ]


def trial_samples(policy: Policy, config: Config, problem: Problem) -> list[Sample]:
    """Return two responses to a problem: a right one in the requested format, and one without any text."""
    tokenizer, w = policy.tokenizer, config.reward
    solved = problem._replace(solution=(("This is a trial.",), problem.answer), response="")
    empty: list[int] = [tokenizer.eos_ids[0]]
    try:
        right = sft_target_ids(tokenizer, solved)
    except ValueError:  # the format cannot write it
        right = empty
    parsed = [
        parse_completion(tokenizer, ids, is_truncated=False, max_steps=1, width=len(ids), process_mask=w.process_mask)
        for ids in (right, empty)
    ]
    answers = [completion.response.answer for completion in parsed]
    is_correct = [answer is not None for answer in answers]
    return make_samples([problem] * 2, parsed, answers, is_correct, max_tokens=config.rollout.max_new_tokens)


def _raise_all_failed(spec: str, errors: Sequence[str]) -> None:
    raise UserError(f"reward.outcomes={spec!r} failed for all {len(errors)} responses of a step: {errors[0]}")


def _statistics(name: str, replies: Sequence[Reply]) -> dict[str, float]:
    """Return mean and standard deviation of the rewards that are numbers; nothing if there are none."""
    values = [reply.value for reply in replies if reply.value is not None]
    return {name: statistics.fmean(values), f"{name}_std": statistics.pstdev(values)} if values else {}
