# %% [markdown]
# # Is the gain the value?
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/mig_jax/blob/main/colab/is_the_gain_the_value.ipynb)
#
# A step is rewarded for how much more likely it made the reference answer: ℓ, the answer's mean log-prob per token,
# which one probe gives. What one would like to know is the **value**: how often the policy answers correctly if it goes
# on from this step. That takes many continuations. This notebook measures both after every step of 32 responses of
# Qwen2.5-0.5B-Instruct to GSM8K, and how well ℓ orders the values.
#
# Choose a TPU v5e-1 or T4 runtime, then press *Runtime → Run all*. After about ten minutes the last cell draws value
# against ℓ, one dot for each step, and prints their rank correlation (1: the same order, 0: no relation).
#
# **Different on a real TPU or T4**: all of this notebook was run on a CPU, with a tiny model and the packages that Colab
# has. Not tried: the 0.5B model, so ten minutes are an estimate; GSM8K and the model come over the network. A T4 has no
# bfloat16 units: it computes in float32, with XLA's attention, and takes longer.

# %% Install: about a minute on Colab; moves no package that is installed already
REPOSITORY = "https://github.com/OWNER/mig_jax"  # @param {type: "string"}
import importlib.util

if not importlib.util.find_spec("mig_jax"):
    # %pip install -q "mig_jax[train] @ git+{REPOSITORY}" chex==0.1.90
    pass

# %%
import os

import jax
import matplotlib.pyplot as plt
import numpy as np

import mig_jax
from mig_jax import assets

TINY = "MIG_JAX_TINY" in os.environ  # set by the tests: a tiny policy on chain arithmetic
if jax.default_backend() == "cpu" and not TINY:
    raise SystemExit("no accelerator: choose Runtime → Change runtime type → T4 GPU or TPU v5e-1, and run again")
if TINY:
    MODEL, PROBLEMS, SAMPLES, OPTIONS = assets.QUICKSTART, 4, 8, {}
else:
    MODEL, PROBLEMS, SAMPLES = "Qwen/Qwen2.5-0.5B-Instruct", 32, 16
    OPTIONS = {
        "data": {"train": "hf:openai/gsm8k", "max_prompt_tokens": 384},
        "rollout": {"max_new_tokens": 320},
        "model": {"compute_dtype": "bfloat16" if jax.default_backend() == "tpu" else "float32"},
    }

# %% [markdown]
# ## Responses, ℓ after each step, and values
#
# The first four responses are shown. Darker blue: the step made the answer more likely.

# %%
policy = mig_jax.load_policy(MODEL, **OPTIONS)
responses = mig_jax.sample(policy, limit=PROBLEMS)
values = mig_jax.values(policy, responses, samples=SAMPLES)
responses[:4]

# %%
states = [
    (t.ell_k[k], value, k / max(len(of_one) - 1, 1))
    for t, of_one in zip(responses, values)
    for k, value in enumerate(of_one)
    if value is not None
]
ell, value, position = np.array(states).T


def spearman(x, y):
    ranks = [np.array([np.mean(np.flatnonzero(np.sort(z) == item)) for item in z]) for z in (x, y)]
    return np.corrcoef(*ranks)[0, 1]


# %% [markdown]
# ## How well does ℓ order the states?
#
# The position of a step in its response is the heuristic to beat: later steps are nearer to the answer.

# %%
print(f"{len(ell)} states")
print(f"Spearman of ℓ and value:        {spearman(ell, value):.2f}")
print(f"Spearman of position and value: {spearman(position, value):.2f}")
plt.scatter(ell, value + np.random.default_rng(0).normal(0, 0.01, len(value)), c=position, s=14)
plt.xlabel("ℓ, nats per token")
plt.ylabel(f"share of right answers of {SAMPLES} continuations")
plt.colorbar(label="position in the response")
plt.show()
