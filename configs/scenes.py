"""Train a small vision-language model of Qwen2.5-VL's shape from random parameters, on pictures of coloured solids.

    mig-jax train --config=configs/scenes.py --workdir=/tmp/mig_scenes

Questions ask to count, compare and find; a solution reads the picture column by column, one step each. An SFT stage on
solutions with slips comes first (workdir/sft); RL starts from its result. gains_last.png shows the gain of each step
beside its picture.
"""

from mig_jax.configs import default


def get_config():
    c = default.get_config()
    c.steps = 40
    c.model.tokenizer = "characters"
    c.model.init.layers = 4
    c.model.init.width = 96
    c.model.init.heads = 4
    c.model.init.kv_heads = 2
    c.model.init.head_size = 24
    c.model.init.mlp_width = 288
    c.model.init.rope_sections = (4, 4, 4)
    c.model.init.vision.layers = 3
    c.model.init.vision.width = 64
    c.model.init.vision.heads = 4
    c.model.init.vision.mlp_width = 192
    c.model.init.vision.window_size = 56
    c.model.init.vision.full_layers = (2,)
    c.model.vision.freeze = False
    c.model.vision.max_patches = 64
    c.data.train = "scenes:objects=3-5"
    c.data.train_size = 4096
    c.data.system_prompt = ""
    c.data.max_prompt_tokens = 72
    c.data.max_answer_tokens = 6
    c.rollout.questions = 32
    c.rollout.group_size = 8
    c.rollout.max_new_tokens = 104
    c.reward.max_steps = 4
    c.reward.max_variants = 1
    c.optimizer.peak_lr = 1e-4
    c.optimizer.warmup_steps = 20
    c.optimizer.clip_norm = 0.3
    c.sft.steps = 1500
    c.sft.data_size = 40_000
    c.sft.batch_size = 64
    c.sft.peak_lr = 2e-3
    c.sft.data = "scenes:objects=3-5,slip_prob=0.2,early_guess_prob=0.1"
    c.eval.every = 0
    c.checkpoint.every = 200
    c.log.every = 10
    c.log.transcripts_every = 10
    return c
