# %% [markdown]
# # Train with step credit, in five minutes
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/mig_jax/blob/main/colab/train_in_five_minutes.ipynb)
#
# A small policy makes so many slips that only about 1 % of its responses are right. GRPO rewards right answers: most
# groups have none, so it learns from the format alone. MIG also rewards each step that made the answer more likely.
# Both start from the same policy.
#
# Press *Runtime → Run all* on a CPU runtime: four runs of 40 steps, with live curves, in six to eight minutes. On one CPU
# core the share of right samples rose from 0.01 to about 0.35 with MIG (both seeds), and fell to 0.00 with GRPO (both):
# the picture below, still with the paper's credit; the default of today, step credit, learns faster.
#
# **Different on Colab**: all of this notebook was run on two CPU cores with the packages that Colab has, but not on
# Colab itself; its two cores may be slower. On another CPU, or with another version of jax, the curves differ.

# %% Install: about a minute on Colab; moves no package that is installed already
REPOSITORY = "https://github.com/OWNER/mig_jax"  # @param {type: "string"}
import importlib.util

if not importlib.util.find_spec("mig_jax"):
    # %pip install -q "mig_jax[train] @ git+{REPOSITORY}" chex==0.1.90
    pass

# %% [markdown]
# ## A writer that draws during the run
#
# `log.writers` names where metrics go: TensorBoard, wandb, or a class of your own in a file.

# %%
# %%writefile live.py
import os

import matplotlib.pyplot as plt
from IPython.display import display

CURVES = {}  # of all runs so far: name → (steps, accuracies)


class Curves:
    def __init__(self, workdir, config, resume_step):
        self.curve = CURVES[os.path.basename(workdir)] = ([], [])
        self.handle = display("…", display_id=True)

    def write(self, step, row):
        if "reward/accuracy" in row:
            self.curve[0].append(step)
            self.curve[1].append(row["reward/accuracy"])
        figure, axes = plt.subplots(figsize=(7, 3.5))
        for name, (steps, accuracies) in CURVES.items():
            axes.plot(steps, accuracies, label=name, color="C0" if name.startswith("MIG") else "C1")
        axes.set(xlabel="step", ylabel="share of right samples", ylim=(0, None))
        axes.legend()
        plt.close(figure)
        self.handle.update(figure)

    def close(self):
        pass


# %% tags=["picture"]
import os
import tempfile

import mig_jax
from mig_jax import assets

TINY = "MIG_JAX_TINY" in os.environ  # set by the tests
STEPS, SEEDS, DATA, ROLLOUT = 40, [0, 1], {"eval_size": 128}, {"temperature": 1.4}
if TINY:
    STEPS, SEEDS, DATA = 2, [0], {"eval_size": 4, "train_size": 16}
    ROLLOUT |= {"questions": 2, "group_size": 4}
FOLDER = tempfile.mkdtemp()
METHODS = {"MIG": {}, "GRPO": {"alpha": 0.0, "gamma": 0.0}}

runs = {}
for method, loss in METHODS.items():
    for seed in SEEDS:
        runs[method, seed] = mig_jax.train(
            "quickstart",
            f"{FOLDER}/{method}_{seed}",
            steps=STEPS,
            seed=seed,
            loss=loss,
            rollout=ROLLOUT,
            data=DATA,
            log={"writers": ("tensorboard", "live.py:Curves")},
        )

# %%
for (method, seed), run in runs.items():
    print(f"{method:4} seed {seed}: {run.accuracy}")

# %% [markdown]
# ## Before and after
#
# Two responses to the same question: of the policy at the start, and of the one that MIG has trained. Blue steps made
# the answer more likely.

# %%
QUESTION, ANSWER = "Last digits of 7 +5 -3 *3 +8 -2 +6", "297539"
mig_jax.sample(assets.QUICKSTART, [QUESTION], [ANSWER], samples=2, kind="text", rollout={"temperature": 1.4})

# %%
mig_jax.sample(runs["MIG", 0].model, [QUESTION], [ANSWER], samples=2, kind="text")

# %% [markdown]
# ## The model is an ordinary one
#
# Each run saves its model in Hugging Face format, with its tokenizer and a model card.

# %%
if importlib.util.find_spec("torch"):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(runs["MIG", 0].model)
    model = AutoModelForCausalLM.from_pretrained(runs["MIG", 0].model)
    chat = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    print(tokenizer.decode(model.generate(**prompt, max_new_tokens=90, do_sample=False)[0]))

# %% [markdown]
# Next: [the documentation](https://github.com/OWNER/mig_jax#documentation), your own data
# (`data={"train": "jsonl:train.jsonl"}`) and your own model (`model={"path": "Qwen/Qwen2.5-0.5B-Instruct"}`), on a GPU
# or TPU.
