# %% [markdown]
# # Will it fit on a pod?
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/mig_jax/blob/main/colab/will_it_fit_on_a_pod.ipynb)
#
# Before you ask for sixteen chips: compile the run for them here, on a CPU. Nothing is allocated, no parameter is
# read; memory is what the TPU compiler says. **Compiled is not run.** CPU runtime; the first report takes about five
# minutes, since each of four programs is compiled for several numbers of questions.

# %% Install: about two minutes on Colab, with the compiler for TPUs
REPOSITORY = "https://github.com/OWNER/mig_jax"  # @param {type: "string"}
import importlib.util

if not importlib.util.find_spec("mig_jax"):
    # %pip install -q "mig_jax[aot] @ git+{REPOSITORY}" chex==0.1.90
    pass

# %%
import os

os.environ["JAX_PLATFORMS"] = "cpu"  # the compiler needs no TPU; jax must not look for one

from IPython.display import Markdown, display

import mig_jax
from mig_jax import assets
from mig_jax.aot.report import compile_run, render

TINY = "MIG_JAX_TINY" in os.environ  # set by the tests
MODEL, TOPOLOGY = ("qwen2_5_0_5b", "v5e:2x2") if TINY else ("qwen2_5_7b", "v5e:4x8")
SMALL = {"max_new_tokens": 64, "group_size": 2} if TINY else {}

reports = {}


def fit(questions=8, remat="layer", state_dtype="float32"):
    """Compile a step of Qwen2.5 on a slice; show its memory and the most questions that fit."""
    config = mig_jax.load_config(
        "pod",
        model={"path": str(assets.SHAPES / MODEL), "remat": remat},
        rollout={"questions": questions} | SMALL,
        optimizer={"state_dtype": state_dtype, "microbatches": 1 if TINY else 8},
    )
    report = reports[questions, remat, state_dtype] = compile_run(config, TOPOLOGY, search=not TINY)
    display(Markdown(render(report)))


fit(questions=4 if TINY else 32)

# %% [markdown]
# ## Turn the knobs
#
# Questions per step, what the backward pass recomputes, and the type of Adam's moments. Press the button to compile.

# %%
import ipywidgets

controls = {
    "questions": ipywidgets.IntSlider(32, min=32, max=256, step=32, continuous_update=False),
    "remat": ["layer", "matmuls", "none"],
    "state_dtype": ["float32", "bfloat16"],
}
ipywidgets.interact_manual(fit, **controls)

# %% [markdown]
# ## The same from the command line
#
# `mig-jax aot --config=configs/pod.py --model=… --topology=v5e:4x8`; topologies are those of v5e, v5p, v6e and tpu7x,
# and `h100:8`. What was compiled for which slice is in
# [docs/scaling.md](https://github.com/OWNER/mig_jax/blob/main/docs/scaling.md).
#
# **Different on a real pod**: the runtime keeps some memory for itself, fragmentation can add a few percent, and times
# are lower bounds. **Different on Colab**: this notebook was run for a 0.5B model on a small slice; how long the 7B
# takes on Colab's two cores is an estimate.
