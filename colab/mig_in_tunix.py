# %% [markdown]
# # The process reward in tunix
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/mig_jax/blob/main/colab/mig_in_tunix.ipynb)
#
# tunix trains language models in JAX with Flax NNX. Its `GRPOLearner` rewards whole responses; `MIGLearner` is the same
# learner with one more advantage, on the tokens of each reasoning step: how much more likely the step made the
# reference answer.
#
# Choose a TPU v5e-1 runtime (or a T4, in float32), then press *Runtime → Run all*. In about fifteen minutes
# Qwen2.5-0.5B-Instruct is trained on GSM8K with LoRA, first by the plain learner, then by ours. The last cell draws the
# share of right samples of both.
#
# **Different on a real TPU or T4**: all of this notebook was run with a tiny model on a CPU, with the packages that
# Colab has (jax 0.7.2, flax 0.11.2). Not tried: the 0.5B model, so times and memory are estimates, and GSM8K and the
# model come over the network. tunix warns of jax 0.7.2 on TPUs (its extra `prod` excludes it): if a step fails there,
# run `%pip install -U "jax[tpu]" flax qwix` and restart the session.

# %% Install: about a minute on Colab; jax, flax, numpy and protobuf stay as they are, no restart
REPOSITORY = "https://github.com/OWNER/mig_jax"  # @param {type: "string"}
import importlib.util

if not importlib.util.find_spec("mig_jax"):
    # %pip install -q "mig_jax[train] @ git+{REPOSITORY}" chex==0.1.90 google-metrax jaxtyping hf_transfer pylatexenc
    # tunix, the last qwix for flax 0.11, and a perfetto for protobuf 5: their own requirements would move jax.
    # %pip install -q --no-deps google-tunix==0.1.7 qwix==0.1.1 perfetto==0.16.0
    pass

# %%
import os
import re

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
import qwix
from transformers import AutoTokenizer
from tunix.models.qwen2 import model as qwen2
from tunix.models.qwen2 import params as qwen2_params
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rl_cluster import ClusterConfig, RLCluster, RLTrainingConfig, Role
from tunix.rl.rollout.base_rollout import RolloutConfig

from mig_jax import assets
from mig_jax.integrations.tunix import MIGLearner, mig_reward
from mig_jax.text.response_format import parse_response
from mig_jax.text.step_format import FORMATS

TINY = "MIG_JAX_TINY" in os.environ  # set by the tests: the quickstart's model and one question
if jax.default_backend() == "cpu" and not TINY:
    raise SystemExit("no accelerator: choose Runtime → Change runtime type → TPU v5e-1 or T4, and run again")
STEPS, GROUP, TOKENS = (2, 4, 90) if TINY else (20, 8, 256)

# %% [markdown]
# ## Model and data
#
# The reference answer is the column `answer`; steps are found by the response format that the prompt asks for.

# %%
if TINY:
    MODEL = str(assets.QUICKSTART)
    sizes = qwen2.ModelConfig(3, 267, 64, 192, 4, 16, 2, rope_theta=10_000, norm_eps=1e-6, use_tied_embedding=True)
    rows, system = [{"question": "Last digits of 7 +5 -3 *3 +8 -2 +6", "answer": "297539"}] * STEPS, []
else:
    from datasets import load_dataset
    from huggingface_hub import snapshot_download

    MODEL = snapshot_download("Qwen/Qwen2.5-0.5B-Instruct")
    sizes = qwen2.ModelConfig.qwen2p5_0p5b()
    rows = load_dataset("openai/gsm8k", "main", split=f"train[:{STEPS}]")
    system = [{"role": "system", "content": FORMATS["mig"].system_prompt()}]
tokenizer = AutoTokenizer.from_pretrained(MODEL)


def to_batch(row):
    chat = [*system, {"role": "user", "content": row["question"]}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return {"prompts": np.array([prompt]), "answer": np.array([row["answer"].rpartition("####")[2].strip()])}


def accuracy(prompts, completions, answer, **columns):
    found = [parse_response(completion).answer or "" for completion in completions]
    return [float(re.sub(r"[\s,$]", "", text) == want.replace(",", "")) for text, want in zip(found, answer)]


CURVES = {}  # share of right samples of each step


def make_cluster(name):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
    training = RLTrainingConfig(
        actor_optimizer=optax.adam(1e-5), eval_every_n_steps=1000, max_steps=STEPS, mini_batch_size=1,
        train_micro_batch_size=1,
    )  # fmt: skip
    rollout = RolloutConfig(
        max_tokens_to_generate=TOKENS, max_prompt_length=512, kv_cache_size=TOKENS + 520, temperature=1.0
    )
    config = ClusterConfig(
        role_to_mesh={Role.ACTOR: mesh, Role.REFERENCE: mesh, Role.ROLLOUT: mesh},
        rollout_engine="vanilla", training_config=training, rollout_config=rollout,
    )  # fmt: skip
    base = qwen2_params.create_model_from_safe_tensors(MODEL, sizes, mesh)
    lora = qwix.LoraProvider(module_path=".*(q|k|v|o|gate|up|down)_proj", rank=16, alpha=16.0)
    actor = qwix.apply_lora_to_model(base, lora, **base.get_model_input())

    def record(row):
        CURVES.setdefault(name, []).extend(map(np.mean, row.metrics.get("rewards/accuracy", [[]])[0]))

    return RLCluster(actor=actor, tokenizer=tokenizer, cluster_config=config).with_external_metrics_logger(record)


# %% [markdown]
# ## Plain GRPO, then with step credit

# %%
batches = [to_batch(row) for row in rows]
learner = GRPOLearner(make_cluster("GRPO"), GRPOConfig(num_generations=GROUP, beta=0.0), reward_fns=[accuracy])
learner.train(batches)

# %%
learner = MIGLearner(
    make_cluster("MIG"),
    GRPOConfig(num_generations=GROUP, beta=0.0),
    reward_fns=[accuracy],
    process=mig_reward(tokenizer, answers="answer", credit_level="step", alpha=1.0),
)
learner.train(batches)

# %%
for name, curve in CURVES.items():
    plt.plot(range(1, len(curve) + 1), curve, label=name)
plt.gca().set(xlabel="step", ylabel="share of right samples")
plt.legend()
plt.show()
