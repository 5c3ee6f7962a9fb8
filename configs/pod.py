"""Train on accelerators: bfloat16 compute on float32 parameters, everything sharded over all devices.

    mig-jax aot --config=configs/pod.py --model=mig_jax/assets/shapes/qwen2_5_7b --topology=v5p:2x4x4 --workdir=/tmp/aot

reports what fits on a machine you do not have: compiled, not run. `mig_jax/assets/shapes` has the config.json of
Qwen2.5-0.5B, 1.5B, 3B, 7B, 32B and 72B and of Qwen2.5-VL-3B. Training needs a model with parameters.
"""

from mig_jax.configs import default


def get_config():
    c = default.get_config()
    c.steps = 200
    c.model.path = "Qwen/Qwen2.5-3B-Instruct"
    c.model.compute_dtype = "bfloat16"
    c.model.remat = "layer"
    c.data.train = "gsm8k"
    c.data.max_prompt_tokens = 512
    c.rollout.questions = 32
    c.rollout.group_size = 8
    c.rollout.max_new_tokens = 2048
    c.rollout.kv_cache_chunks = 4
    c.optimizer.microbatches = 8  # each gathers all parameters once: use as few as fit
    c.mesh.data = 1
    c.mesh.fsdp = -1
    return c
