"""Our side: a checkout of mig_jax with its default settings, as GRPO."""

import importlib.util
import itertools
import os
import sys
from typing import Any

from protocol import Channel, Task, draw_tokens


def import_checkout(folder: str) -> None:
    """Make `mig_jax` and its configs those of a checkout, whatever is installed."""
    sys.path.insert(0, folder)
    configs = os.path.join(folder, "configs")
    spec = importlib.util.spec_from_file_location(
        "mig_jax.configs", os.path.join(configs, "__init__.py"), submodule_search_locations=[configs]
    )
    assert spec and spec.loader
    sys.modules["mig_jax.configs"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def run(task: Task, channel: Channel) -> None:
    import_checkout(task.checkout)
    import jax
    from mig_jax.configs import default

    from mig_jax.data.problem import Problem
    from mig_jax.distributed import sharding
    from mig_jax.policy.load import load_policy
    from mig_jax.policy.prompts import encode_prompts, with_style
    from mig_jax.rollout.rollout import Rollout
    from mig_jax.text.answers.verifier import Verifier
    from mig_jax.trainer.update import build_update

    config = default.get_config()
    config.model.path, config.response_format, config.data.system_prompt = task.folder, "plain", ""
    config.data.max_prompt_tokens, config.rollout.max_new_tokens = task.prompt, task.response
    config.rollout.questions, config.rollout.group_size = len(task.prompts), task.group_size
    config.loss.alpha = config.loss.gamma = 0.0  # GRPO, as the peers
    config.update_from_flattened_dict(task.options)
    mesh = sharding.make_mesh(config.mesh.to_dict(), devices=jax.devices())
    with jax.set_mesh(mesh), Verifier(workers=config.verifier.workers) as verifier:
        policy = with_style(load_policy(config.model, mesh, seed=0), config)
        rollout = Rollout(policy, config, verifier)
        state, update = build_update(policy, config, "train")

        if task.kind == "step":
            problems = [Problem(str(n), text, "1", "number") for n, text in enumerate(task.prompts)]
            prompts, keys = encode_prompts(policy, config, problems), map(jax.random.key, itertools.count())

            def step() -> None:
                nonlocal state
                result = rollout(state.params, prompts, next(keys))
                jax.block_until_ready(result.batch)
                channel.lap("rollout")
                state, metrics = update(state, result.batch)
                jax.block_until_ready((state, metrics))
                channel.lap("update")

            return channel.serve(step)

        batch = sharding.to_mesh(make_batch(task), mesh)

        def logprobs() -> None:
            jax.block_until_ready(rollout.compiled.ref_logprobs(state.params, batch))
            channel.lap("logprobs")

        def update_once() -> None:
            nonlocal state
            state, metrics = update(state, batch)
            jax.block_until_ready((state, metrics))
            channel.lap("update")

        channel.serve(logprobs if task.kind == "logprobs" else update_once)


def make_batch(task: Task) -> Any:
    import numpy as np

    from mig_jax.learning.losses import Batch

    shape = task.rows, task.response
    advantage = np.resize(np.float32([1, -1]), (task.rows, 1)) * np.ones(shape, np.float32)
    return Batch(
        token_bs=draw_tokens(task),
        start_b=np.zeros(task.rows, np.int32),
        full_mask_bt=np.ones(shape, bool),
        cot_mask_bt=np.ones(shape, bool),
        old_logprob_bt=np.zeros(shape, np.float32),
        ref_logprob_bt=None,
        process_advantage_bt=np.zeros(shape, np.float32),
        outcome_advantage_bt=advantage,
        gate_b=np.zeros(task.rows, bool),
    )
