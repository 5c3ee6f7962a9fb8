"""Configs that run in seconds; changes are keys with __ for dots, such as loss__alpha=0.0."""

from mig_jax.configs import default, quickstart


def get_config(**changes):
    """Return a run from random parameters: two reasoning steps, a few thousand parameters."""
    c = default.get_config()
    c.steps = 2
    c.model.tokenizer = "characters"
    c.model.init.layers = 2
    c.model.init.width = 16
    c.model.init.heads = 2
    c.model.init.kv_heads = 1
    c.model.init.head_size = 8
    c.model.init.mlp_width = 32
    c.data.train = "chain:terms=3,slip_prob=0.25"
    c.data.eval = "chain:terms=3"
    c.data.train_size = 64
    c.data.eval_size = 8
    c.data.system_prompt = ""
    c.data.max_prompt_tokens = 32
    c.data.max_answer_tokens = 4
    c.rollout.questions = 8
    c.rollout.group_size = 2
    c.rollout.max_new_tokens = 40
    c.reward.max_steps = 3
    c.reward.max_variants = 2
    c.optimizer.peak_lr = 1e-2
    c.optimizer.microbatches = 1
    c.sft.batch_size = 16
    c.eval.batch_size = 8
    c.verifier.workers = 1
    return change(c, changes)


def get_quickstart(**changes):
    """Return the quickstart with few rows; its policy already gives right answers."""
    c = quickstart.get_config()
    c.steps = 2
    c.data.train_size = 64
    c.data.eval_size = 8
    c.rollout.questions = 8
    c.rollout.group_size = 4
    c.optimizer.warmup_steps = 0
    c.eval.batch_size = 8
    c.verifier.workers = 1
    return change(c, changes)


def get_scenes(**changes):
    """Return a vision-language run from random parameters: one windowed layer, one over the whole image."""
    c = get_config()
    c.model.init.rope_sections = (1, 1, 2)
    c.model.init.vision.layers = 2
    c.model.init.vision.width = 16
    c.model.init.vision.heads = 2
    c.model.init.vision.mlp_width = 16
    c.model.init.vision.window_size = 56
    c.model.vision.max_patches = 16
    c.data.train = "scenes:objects=2,size=56"
    c.data.eval = c.data.train
    c.data.train_size = 16
    c.data.max_prompt_tokens = 64
    c.data.max_answer_tokens = 5
    c.rollout.max_new_tokens = 90
    return change(c, changes)


def change(c, changes):
    for key, value in changes.items():
        *path, name = key.split("__")
        section = c
        for part in path:
            section = section[part]
        section[name] = value
    return c
