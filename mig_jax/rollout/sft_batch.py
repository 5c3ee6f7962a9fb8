"""Batches for SFT: solutions take the place of samples, and every SFT gate is open."""

from typing import Any

import jax
import numpy as np

from mig_jax.config import Config
from mig_jax.distributed import sharding
from mig_jax.models.sampler import Completions
from mig_jax.policy import encoding
from mig_jax.policy.load import Policy
from mig_jax.policy.prompts import PromptBatch
from mig_jax.rollout import widths
from mig_jax.rollout.batch import make_outcome, make_train_batch_fn
from mig_jax.rollout.rollout import RolloutResult, Stopwatch
from mig_jax.rollout.scoring import ProbedSteps


class SftBatches:
    """Turns prompts and their solutions into a batch: (params, prompt_batch, key) -> `RolloutResult`.

    Called like `Rollout`, though the result depends on neither parameters nor key.
    """

    def __init__(self, policy: Policy, config: Config):
        self.policy, self.width = policy, config.rollout.max_new_tokens
        self.make_train_batch = make_train_batch_fn(config, sharding.batch_sharding(policy.mesh), group_size=1)

    def __call__(self, params: Any, prompt_batch: PromptBatch, key: jax.Array) -> RolloutResult:
        del params, key
        watch = Stopwatch()
        mesh, tokenizer, (problems, prompts) = self.policy.mesh, self.policy.tokenizer, prompt_batch
        rows = sharding.local_row_indices(mesh, len(problems))
        targets = [encoding.sft_target_ids(tokenizer, problems[row]) for row in rows]
        longest = widths.longest_of_all(widths.longest_prompt(prompts), max(map(len, targets)))
        prompts, width = widths.cut_prompts(prompts, longest[0]), widths.choose_width(longest[1], self.width)
        token_bt, length_b = encoding.pad_right(targets, width, tokenizer.pad_id)
        no_steps = ProbedSteps(
            valid_bk=np.ones((len(rows), 1), bool),
            count_bk=np.zeros((len(rows), 0), np.int32),
            token_bk=np.zeros((len(rows), 0), np.int32),
            step_bt=np.full(token_bt.shape, -1, np.int32),
        )
        # No sampling policy: old log-probs of 0 never reach the SFT loss.
        logprob_bt: Any = np.zeros(token_bt.shape, np.float32)
        completions = Completions(token_bt, logprob_bt, length_b, length_b < 0, ())
        outcome = make_outcome([True] * len(rows), [True] * len(rows), np.zeros(len(rows)), np.ones(len(rows)))
        arrays = sharding.to_mesh((prompts, completions, outcome, no_steps), mesh)
        made = self.make_train_batch(*arrays, None)
        watch.lap("make_batch")
        # Stays on the accelerator, so that nothing waits for it here.
        tokens = {"rollout/tokens": made.metrics["rollout/tokens"], "verifier/timeouts": 0.0}
        return RolloutResult(made.batch, tokens | watch.seconds, [], np.ones(0, bool))
