"""The quickstart: a tiny policy that makes arithmetic slips learns to avoid them, in five minutes on two cores.

    mig-jax train --config=configs/quickstart.py --workdir=/tmp/mig_quickstart

For GRPO, add --config.loss.alpha=0 --config.loss.gamma=0 and use another workdir. Both start from
mig_jax/assets/quickstart, which configs/quickstart_sft.py trains.
"""

from mig_jax.configs import quickstart_sft

from mig_jax import assets


def get_config():
    c = quickstart_sft.get_config()
    c.steps = 50
    c.model.path = str(assets.QUICKSTART)
    c.model.tokenizer = ""
    c.data.train = "chain:terms=7"
    c.data.train_size = 4096
    c.rollout.questions = 32
    c.rollout.group_size = 8
    c.reward.max_steps = 6
    c.reward.max_variants = 1
    c.loss.gamma = 0.1
    c.optimizer.peak_lr = 3e-4
    c.optimizer.warmup_steps = 5
    c.optimizer.decay = "constant"
    c.optimizer.weight_decay = 0.0
    c.eval.every = 0
    c.checkpoint.every = 10
    c.log.every = 1
    c.log.transcripts_every = 10
    return c
