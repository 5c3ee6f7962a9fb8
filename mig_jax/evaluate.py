"""How good is the policy on held-out problems?"""

from collections.abc import Callable, Sequence
from typing import Any

import chex
import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from mig_jax import rollouts
from mig_jax.data.problem import Problem
from mig_jax.models import sharding
from mig_jax.policy import Policy, make_sample
from mig_jax.prompts import encode_prompts
from mig_jax.text.verifier import Verifier
from mig_jax.transcripts import Transcript


def pass_at_k(n_correct: int, n: int, k: int) -> float:
    """Chance that at least one of k samples is right, unbiased from n ≥ k samples: 1 − C(n−c, k) / C(n, k).

    References:
      arXiv 2107.03374, section 2.1.
    """
    if not 0 < k <= n:
        raise ValueError(f"pass@{k} cannot be told from {n} samples")
    wrong = np.arange(n - n_correct - k + 1, n - n_correct + 1)
    return 1.0 if n - n_correct < k else 1.0 - float(np.prod(wrong / np.arange(n - k + 1, n + 1)))


class Evaluator:
    """Samples held-out problems, at the training temperature and greedily, and counts what is right."""

    def __init__(self, policy: Policy, config: ConfigDict, verifier: Verifier, problems: Sequence[Problem]):
        self.policy, self.config, self.verifier, self.problems = policy, config, verifier, problems
        r, samples = config.rollout, config.eval.samples
        self.sampled = make_sample(
            policy, group_size=samples, max_new_tokens=r.max_new_tokens, temperature=r.temperature
        )
        self.greedy = make_sample(policy, group_size=1, max_new_tokens=r.max_new_tokens, temperature=0.0)

    def evaluate(self, params: Any, key: chex.PRNGKey, *, name: str) -> tuple[dict[str, float], list[Transcript]]:
        """Accuracy by name, and the sampled transcripts.

        eval/sampled: mean over problems and samples (pass@1); eval/pass@k with k = all samples, when there are several;
        eval/greedy: of the likeliest completion; eval/format: of the samples.
        """
        samples = self.config.eval.samples
        transcripts = self._transcripts(self.sampled, params, key, samples, f"{name}, sampled")
        greedy = self._transcripts(self.greedy, params, key, 1, f"{name}, greedy")
        metrics = {
            "eval/sampled": accuracy(transcripts),
            "eval/greedy": accuracy(greedy),
            "eval/format": float(np.mean([not t.problem for t in transcripts])),
            "eval/timeouts": float(sum(t.is_correct is None for t in transcripts + greedy)),
        }
        if samples > 1:
            correct = np.array([t.is_correct is True for t in transcripts]).reshape(-1, samples)
            at_k = [pass_at_k(int(c.sum()), samples, samples) for c in correct]
            metrics[f"eval/pass@{samples}"] = float(np.mean(at_k))
        return metrics, transcripts

    def _transcripts(self, sample: Callable, params: Any, key, samples: int, name: str) -> list[Transcript]:
        return sample_transcripts(
            self.policy, self.config, self.verifier, sample, params, self.problems, key, samples=samples, name=name
        )


def accuracy(transcripts: Sequence[Transcript]) -> float:
    """Share of right answers among those whose check came to an end; 0 when none did."""
    verdicts = [t.is_correct for t in transcripts if t.is_correct is not None]
    return float(np.mean(verdicts)) if verdicts else 0.0


def sample_transcripts(
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
) -> list[Transcript]:
    """`samples` completions of every problem, read and checked, `config.eval.batch_size` rows at a time."""
    # As many questions at a time as fit, in equal parts for the devices.
    parts = policy.mesh.shape["data"] * policy.mesh.shape["fsdp"]
    size = -(-max(1, min(config.eval.batch_size // samples, len(problems))) // parts) * parts
    transcripts = []
    for first in tqdm(range(0, len(problems), size), desc=name, unit="batch", leave=False):
        part = list(problems[first : first + size])
        # The last part is filled up, so that all have one shape; the extra rows are dropped.
        full = part + part[:1] * (size - len(part))
        prompts = jax.device_put(encode_prompts(policy, config, full), sharding.batch_sharding(policy.mesh))
        completions = sample(params, prompts, jax.random.fold_in(key, first))._replace(cache=None)
        readings = rollouts.read_completions(policy, completions, max_steps=config.reward.max_steps)
        readings = readings[: len(part) * samples]
        is_correct = rollouts.check_answers(verifier, part, readings)
        transcripts += rollouts.make_transcripts(part, readings, is_correct, None)
    return transcripts
