# %% [markdown]
# # Will it fit on a pod?
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/mig_jax/blob/main/colab/will_it_fit_on_a_pod.ipynb)
#
# Before you ask for 32 chips: this notebook compiles the four programs of a training step of Qwen2.5-7B (prefill,
# decode, score, update) for a TPU v5e slice of 4 × 8 chips, on a CPU. It draws how much of a chip's memory each of them
# needs. No parameter is downloaded and no TPU is used; the figures are those of the TPU compiler. **Compiled is not
# run.**
#
# Press *Runtime → Run all* on a CPU runtime. The chart comes after about five minutes. Then change questions, mesh,
# rematerialization or the type of Adam's moments below, and press *Compile*.

# %% Install: about two minutes on Colab, with the compiler for TPUs
REPOSITORY = "https://github.com/OWNER/mig_jax"  # @param {type: "string"}
import importlib.util

if not importlib.util.find_spec("mig_jax"):
    # %pip install -q "mig_jax[aot] @ git+{REPOSITORY}" chex==0.1.90
    pass

# %% Functions that compile a step and draw its memory
import os

os.environ["JAX_PLATFORMS"] = "cpu"  # the compiler needs no TPU; jax must not look for one
os.environ.update(TPU_ACCELERATOR_TYPE="v5litepod-4", TPU_WORKER_HOSTNAMES="localhost")  # or it warns

import matplotlib.pyplot as plt
from IPython.display import Markdown, display

import mig_jax
from mig_jax import assets
from mig_jax.aot.report import compile_run, render

TINY = "MIG_JAX_TINY" in os.environ  # set by the tests: a small model of random parameters on four chips
TOPOLOGY = "v5e:2x2" if TINY else "v5e:4x8"
MODEL = {"model.path": str(assets.SHAPES / "qwen2_5_7b")}
if TINY:
    MODEL = {"model.path": "", "model.tokenizer": "characters", "optimizer.microbatches": 1, "reward.max_steps": 2}
    MODEL |= {"data.max_prompt_tokens": 64, "rollout.max_new_tokens": 32, "rollout.group_size": 2}


def draw(report, title):
    """Draw what each program needs on a chip, by part."""
    programs, names = report["programs"].values(), list(report["programs"])
    figure, axes = plt.subplots(figsize=(8, 3))
    left = [0] * len(names)
    for part in dict.fromkeys(part for program in programs for part in program["gib"]):
        gib = [program["gib"].get(part, 0) for program in programs]
        axes.barh(names, gib, left=left, label=part)
        left = [start + more for start, more in zip(left, gib)]
    axes.axvline(report["hbm_gib"], color="black", linestyle="--", label="a chip's memory")
    axes.invert_yaxis()
    axes.set(xlabel="GiB on each chip", xlim=(0, None), title=title)
    axes.legend(bbox_to_anchor=(1, 1), frameon=False)
    plt.show()


def fit(questions=32, tensor=4, remat="layer", state_dtype="float32", search=False):
    """Compile a training step; draw the memory of its programs, and show the whole report."""
    settings = {"rollout.questions": questions, "mesh.tensor": tensor, "model.remat": remat}
    config = mig_jax.load_config("pod", **MODEL, **settings, **{"optimizer.state_dtype": state_dtype})
    report = compile_run(config, TOPOLOGY, search=search)
    draw(report, f"{questions} questions, tensor={tensor}, remat={remat}, moments in {state_dtype}")
    display(Markdown(render(report)))


# %% [markdown]
# ## Memory of each program on a chip
#
# A bar that ends left of the dashed line fits. The tables below the chart have the same by part, the least time that a
# step can take, and what chips send to each other.

# %% tags=["picture"]
fit(questions=4, tensor=1) if TINY else fit()

# %% [markdown]
# ## Change the settings
#
# * `questions` of a step, with eight samples each.
# * `tensor`: over how many chips a layer's matrices are split. The other chips share parameters and rows (`fsdp`).
# * `remat`: what the backward pass computes again instead of keeping it.
# * `state_dtype` of Adam's moments.
# * `search` for the most questions that fit. It compiles for several numbers of them, and takes three times as long.
#
# Where a program does not fit, the report names the keys to change.

# %%
import ipywidgets

controls = {
    "questions": ipywidgets.IntSlider(32, min=32, max=256, step=32, continuous_update=False),
    "tensor": [4, 2, 1],
    "remat": ["layer", "matmuls", "none"],
    "state_dtype": ["float32", "bfloat16"],
    "search": False,
}
_ = ipywidgets.interact_manual.options(manual_name="Compile")(fit, **controls)

# %% [markdown]
# ## The same from the command line
#
# `mig-jax aot --config=configs/pod.py --model=… --topology=v5e:4x8`; topologies are those of v5e, v5p, v6e and tpu7x,
# and `h100:8`. What was compiled for which slice is in
# [docs/scaling.md](https://github.com/OWNER/mig_jax/blob/main/docs/scaling.md).
#
# **Different on a real pod**: the runtime keeps some memory for itself, fragmentation can add a few percent, and times
# are lower bounds. **Different on Colab**: here the whole notebook was run with the newest jax, in 277 seconds of CPU
# time on two shared cores; with Colab's jax only a small model was compiled for four chips.
