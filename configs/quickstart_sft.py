"""Train the policy that the quickstart starts from, from random parameters.

    mig-jax sft --config=configs/quickstart_sft.py --workdir=/tmp/mig_quickstart_sft
    cp /tmp/mig_quickstart_sft/model/* mig_jax/assets/quickstart/

It learns chain arithmetic from written solutions. Each step of them is wrong with probability 0.2, and one in five
stops early and guesses the rest. So the policy knows the arithmetic but makes slips when it samples. It can also
estimate the answer after any number of steps, which is what the probes ask for.
"""

from mig_jax.configs import default


def get_config():
    c = default.get_config()
    c.steps = 1500
    c.model.tokenizer = "characters"
    c.model.init.layers = 3
    c.model.init.width = 64
    c.model.init.heads = 4
    c.model.init.kv_heads = 2
    c.model.init.head_size = 16
    c.model.init.mlp_width = 192
    c.data.train = "chain:terms=7,slip_prob=0.2,early_guess_prob=0.2"
    c.data.train_size = 50_000
    c.data.system_prompt = ""
    c.data.max_prompt_tokens = 42
    c.data.max_answer_tokens = 6
    c.rollout.max_new_tokens = 74
    c.optimizer.peak_lr = 2e-3
    c.optimizer.warmup_steps = 100
    c.optimizer.decay = "cosine"
    c.optimizer.weight_decay = 0.01
    c.optimizer.clip_norm = 0.3
    c.sft.batch_size = 64
    c.eval.every = 500
    c.checkpoint.every = 500
    c.log.every = 50
    return c
