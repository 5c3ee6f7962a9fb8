"""Everything that is wrong with a config, said at once, before anything is loaded or compiled."""

import math
import os

from ml_collections import ConfigDict

from mig_jax import rewards

CHOICES = {
    "model.compute_dtype": ("float32", "bfloat16"),
    "reward.credit": tuple(rewards.CREDITS),
    "reward.assign": ("trajectory", "step"),
    "loss.mean_over": ("responses", "tokens"),
    "optimizer.decay": ("constant", "cosine"),
}
POSITIVE = (
    "steps", "model.init.layers", "model.init.width", "model.init.heads", "model.init.kv_heads",
    "model.init.mlp_width", "model.init.head_size", "model.init.rope_theta", "data.train_size", "data.eval_size",
    "data.max_prompt_tokens", "data.max_answer_tokens", "rollout.questions", "rollout.group_size",
    "rollout.max_new_tokens", "rollout.temperature", "reward.max_steps", "reward.max_variants", "optimizer.peak_lr",
    "optimizer.clip_norm", "optimizer.updates_per_rollout", "optimizer.microbatches", "optimizer.logprob_chunk",
    "sft.batch_size", "verifier.workers", "verifier.deadline_s", "eval.samples", "eval.batch_size",
    "checkpoint.every", "checkpoint.keep", "log.every", "log.transcripts_every",
)  # fmt: skip
NOT_NEGATIVE = (
    "loss.alpha", "loss.beta", "loss.gamma", "loss.kappa", "loss.clip_low", "loss.clip_high", "reward.accuracy",
    "reward.format", "reward.outcome_eps", "reward.process_eps", "optimizer.warmup_steps", "optimizer.weight_decay",
    "eval.every", "log.transcripts",
)  # fmt: skip


SOURCES = ("chain", "reasoning_gym", "jsonl")


class ConfigError(ValueError):
    """A config that cannot be run; the message lists everything that is wrong with it."""


def check_config(config: ConfigDict, *, mode: str, n_devices: int) -> None:
    """Raise once, with every problem, each naming its keys as they are typed.

    Args:
      config: as `configs/default.py` lays it out.
      mode: the command: "train", "sft", "eval", "score" or "sample".
      n_devices: devices that there are.

    Raises:
      ConfigError
    """
    problems = [
        *_values(config),
        *_mesh(config, n_devices),
        *_model(config),
        *(_data(config) if mode != "score" else ()),
        *(_training(config, mode, n_devices) if mode in ("train", "sft") else ()),
    ]
    if problems:
        raise ConfigError("this config cannot be run:\n  " + "\n  ".join(problems))


def _values(config: ConfigDict) -> list[str]:
    """Each value by itself."""
    problems = []
    for key, choices in CHOICES.items():
        if _read(config, key) not in choices:
            problems.append(f"{key}={_read(config, key)!r}: one of {', '.join(choices)}")
    problems += [f"{key}={_read(config, key)}: must be more than 0" for key in POSITIVE if _read(config, key) <= 0]
    problems += [f"{key}={_read(config, key)}: must not be negative" for key in NOT_NEGATIVE if _read(config, key) < 0]
    for key in ("optimizer.b1", "optimizer.b2"):
        if not 0 <= _read(config, key) < 1:
            problems.append(f"{key}={_read(config, key)}: from 0 up to, but not including, 1")
    return problems


def _model(config: ConfigDict) -> list[str]:
    model, problems = config.model, []
    if model.path and not os.path.isfile(os.path.join(model.path, "config.json")):
        problems.append(f"model.path={model.path!r}: no folder with a config.json")
    if not model.path and not model.tokenizer:
        problems.append("model.path and model.tokenizer are both empty: where is the policy to start from?")
    init = model.init
    if not model.path and init.kv_heads > 0 and init.heads % init.kv_heads:
        problems.append(f"model.init.kv_heads={init.kv_heads} must divide model.init.heads={init.heads}")
    if not model.path and init.head_size % 2:
        problems.append(f"model.init.head_size={init.head_size} must be even: rotary embeddings turn pairs")
    if not model.path and init.qkv_bias and init.qk_norm:
        problems.append(
            "model.init.qkv_bias and model.init.qk_norm are both on: no family has both, it could not be saved"
        )
    return problems


def _data(config: ConfigDict) -> list[str]:
    """Names of sources; what they hold is checked when they are read."""
    problems = []
    for key in ("train", "eval"):
        kind, _, rest = config.data[key].partition(":")
        if not config.data[key] and key == "eval":
            if config.data.train.startswith("jsonl:"):
                problems.append("data.eval is empty: a file of held-out problems is needed beside that of data.train")
        elif kind not in SOURCES or not rest:
            problems.append(f"data.{key}={config.data[key]!r}: one of {', '.join(f'{name}:…' for name in SOURCES)}")
        elif kind == "jsonl" and not os.path.isfile(rest):
            problems.append(f"data.{key}={config.data[key]!r}: no such file")
    return problems


def _mesh(config: ConfigDict, n_devices: int) -> list[str]:
    sizes = list(config.mesh.to_dict().values())
    if any(size == 0 or size < -1 for size in sizes) or sizes.count(-1) > 1:
        return [f"mesh={config.mesh.to_dict()}: sizes are positive, and at most one is -1 (all that are left)"]
    known = math.prod(size for size in sizes if size > 0)
    if n_devices % known or (-1 not in sizes and known != n_devices):
        return [f"mesh={config.mesh.to_dict()} does not fit {n_devices} devices: their product must be that number"]
    return []


def _training(config: ConfigDict, mode: str, n_devices: int) -> list[str]:
    """What only an update of the weights asks for."""
    problems, o, r = [], config.optimizer, config.rollout
    if mode == "train":
        rows = r.questions * r.group_size
        name = f"rollout.questions × rollout.group_size = {rows}"
        if r.group_size < 2:
            problems.append(f"rollout.group_size={r.group_size}: an advantage compares at least 2 samples of a prompt")
        if config.loss.alpha == config.loss.beta == config.loss.gamma == 0:
            problems.append("loss.alpha, loss.beta and loss.gamma are all 0: there is nothing to learn from")
    else:
        rows, name = config.sft.batch_size, f"sft.batch_size = {config.sft.batch_size}"
    if rows > 0 and o.microbatches > 0 and rows % o.microbatches:
        problems.append(f"{name} must be divisible by optimizer.microbatches = {o.microbatches}")
    data_devices = n_devices // config.mesh.tensor if config.mesh.tensor > 0 else 1
    placed = r.questions if mode == "train" else rows // max(o.microbatches, 1)
    placed_name = "rollout.questions" if mode == "train" else "sft.batch_size ÷ optimizer.microbatches"
    if data_devices and placed % data_devices:
        problems.append(f"{placed_name} = {placed} must be divisible by mesh.data × mesh.fsdp = {data_devices}")
    return problems


def _read(config: ConfigDict, key: str):
    for part in key.split("."):
        config = config[part]
    return config
