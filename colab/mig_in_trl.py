# %% [markdown]
# # The process reward in TRL
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/mig_jax/blob/main/colab/mig_in_trl.ipynb)
#
# TRL's `GRPOTrainer` rewards whole responses. `MIGTrainer` is the same trainer with one more advantage, on the tokens
# of each reasoning step: how much more likely the step made the reference answer. The probes run in the trainer's own
# torch model, all of a response in one pass.
#
# Choose a T4 runtime, then press *Runtime → Run all*. In about ten minutes Qwen2.5-0.5B-Instruct is trained for 20 steps
# on GSM8K with LoRA. The last cell draws its accuracy, and the likelihood of the reference answer before the first step
# and after the last: steps that help lift the second above the first.
#
# **Different on a real T4**: all of this notebook was run with a tiny model on a CPU, with TRL 1.16 and the packages that
# Colab has. Not tried: the 0.5B model, so ten minutes are an estimate; GSM8K and the model come over the network. A T4 has
# no bfloat16 units, so the model computes in float32.

# %% Install: about a minute on Colab; torch, jax, flax and numpy stay as they are, datasets and pyarrow get newer
REPOSITORY = "https://github.com/OWNER/mig_jax"  # @param {type: "string"}
import importlib.util

if not importlib.util.find_spec("mig_jax"):
    # %pip install -q "mig_jax[train] @ git+{REPOSITORY}" chex==0.1.90 "trl>=1.16" peft
    pass

# %%
import os
import re

import matplotlib.pyplot as plt
import torch
from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

from mig_jax import assets
from mig_jax.integrations.trl import MIGTrainer, mig_reward
from mig_jax.text.response_format import parse_response
from mig_jax.text.step_format import FORMATS

TINY = "MIG_JAX_TINY" in os.environ  # set by the tests: the quickstart's model and two questions
if not torch.cuda.is_available() and not TINY:
    raise SystemExit("no GPU: choose Runtime → Change runtime type → T4 GPU, and run again")
MODEL = str(assets.QUICKSTART) if TINY else "Qwen/Qwen2.5-0.5B-Instruct"

# %% [markdown]
# ## Questions, in a prompt that asks for steps
#
# Steps are found by a response format: here `### Step 1: …` in a think block. `r1`, `qwen3`, `tunix` and others have
# names, too.

# %%
if TINY:
    rows = [{"question": "Last digits of 7 +5 -3 *3 +8 -2 +6", "answer": "297539"}] * 2
else:
    rows = load_dataset("openai/gsm8k", "main", split="train[:512]")


def to_row(row):
    system = [] if TINY else [{"role": "system", "content": FORMATS["mig"].system_prompt()}]
    answer = row["answer"].rpartition("####")[2].strip().replace(",", "")
    return {"prompt": [*system, {"role": "user", "content": row["question"]}], "answer": answer}


dataset = Dataset.from_list([to_row(row) for row in rows])


def accuracy(completions, answer, **columns):
    found = [parse_response(completion[0]["content"]).answer or "" for completion in completions]
    return [float(re.sub(r"[\s,$]", "", text) == want) for text, want in zip(found, answer)]


def format(completions, **columns):
    return [float(parse_response(completion[0]["content"]).is_well_formed) for completion in completions]


# %% [markdown]
# ## Train
#
# `alpha` weighs the process advantage beside TRL's own. With `alpha=0`, or `GRPOTrainer` in its place, this is GRPO.

# %%
tokenizer = AutoTokenizer.from_pretrained(MODEL)
options = {}
if not TINY:
    from peft import LoraConfig

    options["peft_config"] = LoraConfig(r=16, target_modules="all-linear")
trainer = MIGTrainer(
    model=AutoModelForCausalLM.from_pretrained(MODEL, dtype="float32"),
    args=GRPOConfig(
        output_dir="trl_run",
        max_steps=2 if TINY else 20,
        per_device_train_batch_size=4 if TINY else 8,
        num_generations=4 if TINY else 8,
        max_completion_length=90 if TINY else 256,
        learning_rate=1e-5,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=TINY,
    ),
    train_dataset=dataset,
    processing_class=tokenizer,
    reward_funcs=[accuracy, format],
    process=mig_reward(tokenizer, answers="answer", credit_level="step", alpha=1.0),
    **options,
)
_ = trainer.train()

# %% [markdown]
# ## What was learned
#
# 20 steps show that it runs; for a difference in accuracy train for some hundred.

# %%
log = [row for row in trainer.state.log_history if "mig/process" in row]
charts = {
    "share of right answers": {"rewards/accuracy/mean": "accuracy"},
    "process reward of a response": {"mig/process": "sum of gains"},
    "ℓ, nats per token": {"mig/ell_first": "before the first step", "mig/ell_last": "after the last step"},
}
figure, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained")
for (unit, lines), ax in zip(charts.items(), axes):
    for key, label in lines.items():
        ax.plot(range(1, len(log) + 1), [row[key] for row in log], label=label)
    ax.set(xlabel="step of training", ylabel=unit)
    ax.legend()
plt.show()
