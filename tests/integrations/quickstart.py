"""The quickstart's model in other frameworks, with a question it can answer."""

import json
from pathlib import Path

import numpy as np

import mig_jax
from mig_jax.data.synthetic.chains import draw_chain
from mig_jax.text.response_format import render_response

MODEL = Path(mig_jax.__file__).parent / "assets" / "quickstart"
CHAIN = draw_chain(np.random.default_rng(0), terms=7)
RESPONSE = render_response(CHAIN.steps, CHAIN.answer)
# A whole response, and one without its last steps and its answer.
PROMPTS, RESPONSES, ANSWERS = [CHAIN.question] * 2, [RESPONSE, RESPONSE[:40]], [CHAIN.answer, "123"]
# Tokens of a response with its end-of-sequence.
MAX_TOKENS = 90


def tunix_model(mesh, folder=MODEL):
    """Return the model in `folder`, a Qwen2, as one of tunix."""
    from tunix.models.qwen2 import model, params

    config = json.loads((folder / "config.json").read_text())
    sizes = model.ModelConfig(
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
    return params.create_model_from_safe_tensors(str(folder), sizes, mesh)


def tunix_cluster(tokenizer, folder=MODEL):
    """Return a cluster of tunix that samples from the model and trains it, on one device."""
    import jax
    import optax
    from tunix.rl.rl_cluster import ClusterConfig, RLCluster, RLTrainingConfig, Role
    from tunix.rl.rollout.base_rollout import RolloutConfig

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
    config = ClusterConfig(
        role_to_mesh={Role.ACTOR: mesh, Role.REFERENCE: mesh, Role.ROLLOUT: mesh},
        rollout_engine="vanilla",
        training_config=RLTrainingConfig(
            actor_optimizer=optax.adam(1e-3), eval_every_n_steps=1000, max_steps=1, mini_batch_size=1,
            train_micro_batch_size=1,
        ),
        rollout_config=RolloutConfig(
            max_tokens_to_generate=MAX_TOKENS, max_prompt_length=64, kv_cache_size=MAX_TOKENS + 80, temperature=1.0,
        ),
    )  # fmt: skip
    return RLCluster(actor=tunix_model(mesh, folder), tokenizer=tokenizer, cluster_config=config)
