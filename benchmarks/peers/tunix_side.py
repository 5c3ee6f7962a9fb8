"""tunix: its GRPO learner with the vanilla sampler, on one device."""

import json
import os
from collections.abc import Iterator
from typing import Any

from protocol import Channel, Task, draw_tokens, reward


def run(task: Task, channel: Channel) -> None:
    import jax
    import numpy as np
    from tunix.rl import common
    from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner, TrainExample

    cluster = _tunix_cluster(task)
    learner = GRPOLearner(cluster, GRPOConfig(num_generations=task.group_size, num_iterations=1, beta=0.0), reward)
    if task.kind == "step":
        generate = learner._generate_and_compute_advantage
        learner._generate_and_compute_advantage = channel.then_lap("rollout", generate, jax.block_until_ready)

        def dataset() -> Iterator[dict[str, Any]]:
            """Yield a batch for each line. The learner asks for the next one when a step is over."""
            channel.send({"ready": True})
            while channel.wait():
                yield {"prompts": np.array(task.prompts)}
                jax.block_until_ready(jax.tree.leaves(_nnx_state(cluster.actor_trainer.model)))
                channel.lap("update")
                channel.answer()

        return learner.train(dataset())

    tokens, ones = draw_tokens(task), np.ones((task.rows, task.response), bool)
    prompt_ids, completion_ids = (jax.numpy.asarray(x) for x in np.split(tokens, [task.prompt], axis=1))
    pad_id, eos_id = cluster.rollout.pad_id(), cluster.rollout.eos_id()

    def logprobs() -> None:
        graph, state = _nnx_split(cluster.actor_trainer.model)
        jax.block_until_ready(
            common.compute_per_token_logps(graph, state, prompt_ids, completion_ids, pad_id=pad_id, eos_id=eos_id)
        )
        channel.lap("logprobs")

    example = TrainExample(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_ids != pad_id,
        completion_ids=completion_ids,
        completion_mask=jax.numpy.asarray(ones),
        ref_per_token_logps=None,
        advantages=jax.numpy.resize(jax.numpy.array([1.0, -1.0]), task.rows),
        old_per_token_logps=None,
    )

    def update_once() -> None:
        cluster.update_actor([example], None, False)
        jax.block_until_ready(jax.tree.leaves(_nnx_state(cluster.actor_trainer.model)))
        channel.lap("update")

    channel.serve(logprobs if task.kind == "logprobs" else update_once)


def _nnx_split(model: Any) -> Any:
    from flax import nnx

    return nnx.split(model)


def _nnx_state(model: Any) -> Any:
    return _nnx_split(model)[1]


def _tunix_cluster(task: Task) -> Any:
    """Return a cluster on one device, with the vanilla sampler and Adam."""
    import jax
    import numpy as np
    import optax
    from transformers import AutoTokenizer
    from tunix.models.qwen2 import model, params
    from tunix.rl.rl_cluster import ClusterConfig, RLCluster, RLTrainingConfig, Role
    from tunix.rl.rollout.base_rollout import RolloutConfig

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
    with open(os.path.join(task.folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    shape = model.ModelConfig(
        num_layers=config["num_hidden_layers"],
        vocab_size=config["vocab_size"],
        embed_dim=config["hidden_size"],
        hidden_dim=config["intermediate_size"],
        num_heads=config["num_attention_heads"],
        head_dim=config["head_dim"],
        num_kv_heads=config["num_key_value_heads"],
        rope_theta=int(config["rope_theta"]),
        norm_eps=config["rms_norm_eps"],
        use_tied_embedding=config["tie_word_embeddings"],
    )
    questions = len(task.prompts)
    training = RLTrainingConfig(
        actor_optimizer=optax.adamw(1e-6),
        eval_every_n_steps=10**9,
        max_steps=10**9,
        mini_batch_size=questions,
        train_micro_batch_size=questions,
    )
    rollout = RolloutConfig(
        max_tokens_to_generate=task.response,
        max_prompt_length=task.prompt,
        kv_cache_size=task.prompt + task.response,
        temperature=1.0,
    )
    return RLCluster(
        actor=params.create_model_from_safe_tensors(task.folder, shape, mesh),
        tokenizer=AutoTokenizer.from_pretrained(task.folder),
        cluster_config=ClusterConfig(
            role_to_mesh={Role.ACTOR: mesh, Role.REFERENCE: mesh, Role.ROLLOUT: mesh},
            rollout_engine="vanilla",
            training_config=training,
            rollout_config=rollout,
        ),
    )
