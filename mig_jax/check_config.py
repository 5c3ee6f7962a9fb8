"""Everything that is wrong with a config, said at once, before anything is loaded or compiled."""

import math
import os
import re
from collections.abc import Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from mig_jax import rewards
from mig_jax.config import Config, ModelInitConfig
from mig_jax.data import sources
from mig_jax.models import adapters, attention, remat
from mig_jax.models.qwen2_vl import VisionConfig

CHOICES = {
    "model.attention": ("", *attention.KERNELS),
    "model.compute_dtype": ("float32", "bfloat16"),
    "model.param_dtype": ("float32", "bfloat16"),
    "model.save_dtype": ("", "float32", "bfloat16", "float16"),
    "model.remat": tuple(remat.POLICIES),
    "model.lora.save": ("merged", "adapter"),
    "reward.credit": tuple(rewards.CREDITS),
    "reward.credit_level": ("trajectory", "step"),
    "reward.scale": ("group_std", "none"),
    "loss.aggregate": ("responses", "tokens"),
    "optimizer.state_dtype": ("", "float32", "bfloat16"),
    "optimizer.decay": ("constant", "cosine"),
}
POSITIVE = (
    "steps", "model.init.layers", "model.init.width", "model.init.heads", "model.init.kv_heads",
    "model.init.mlp_width", "model.init.head_size", "model.init.rope_theta", "model.init.vision.width",
    "model.init.vision.heads", "model.init.vision.mlp_width", "model.init.vision.patch_size",
    "model.init.vision.merge_size", "model.init.vision.window_size", "model.vision.max_patches",
    "model.vision.min_pixels", "model.vision.max_pixels", "model.lora.alpha", "data.train_size", "data.eval_size",
    "data.max_prompt_tokens", "data.max_answer_tokens", "rollout.questions", "rollout.group_size",
    "rollout.max_new_tokens", "rollout.temperature", "rollout.kv_cache_chunks", "reward.max_steps", "reward.max_variants",
    "optimizer.peak_lr", "optimizer.clip_norm", "optimizer.updates_per_rollout", "optimizer.microbatches",
    "optimizer.logprob_chunk", "sft.batch_size", "sft.peak_lr", "verifier.workers", "verifier.deadline_s",
    "eval.samples", "eval.batch_size", "checkpoint.every", "checkpoint.keep", "optimizer.max_skipped", "log.every",
    "log.transcripts_every",
)  # fmt: skip
NOT_NEGATIVE = (
    "loss.alpha", "loss.beta", "loss.gamma", "loss.kl_coef", "loss.clip_low", "loss.clip_high", "reward.accuracy",
    "reward.format", "reward.outcome_eps", "reward.process_eps", "optimizer.warmup_steps", "optimizer.weight_decay",
    "eval.every", "eval.problems", "eval.scored", "data.read_ahead", "log.transcripts", "model.init.vision.layers",
    "model.lora.rank", "sft.steps", "sft.data_size", "checkpoint.keep_best",
)  # fmt: skip


# How the same thing is computed: none of them changes what is learned or answered, but for rounding.
COMPUTED_BY = ("model.remat", "model.attention", "rollout.gather_params", "rollout.kv_cache_chunks")


class ConfigError(ValueError):
    """A config that cannot be run; the message lists everything that is wrong with it."""


def check_config(config: Config, *, mode: str, n_devices: int) -> None:
    """Raise once, with every problem, each naming its keys as they are typed.

    Args:
      config: as `configs/default.py` lays it out.
      mode: the command: "train", "sft", "eval", "sample", "variants" or "score".
      n_devices: devices that there are.

    Raises:
      ConfigError
    """
    problems = [
        *_values(config),
        *_mesh(config, n_devices),
        *_model(config),
        *(_data(config, mode) if mode != "score" else ()),
        *(_training(config, mode, n_devices) if mode in ("train", "sft") else ()),
    ]
    if problems:
        raise ConfigError("this config cannot be run:\n  " + "\n  ".join(problems))


def check_unchanged(workdir: str, *, before: dict[str, Any], now: dict[str, Any], free: Sequence[str]) -> None:
    """What was begun in a workdir goes on with the config that it was begun with.

    Args:
      before, now: configs as nested dicts.
      free: sections and keys, such as "log" and "data.read_ahead", that may change.

    Raises:
      ConfigError: with every value that differs.
    """

    def fixed(config):
        flat = flatten_dict(config, sep=".")
        return {key: flat[key] for key in flat if key not in free and key.split(".")[0] not in free}

    old, new = fixed(before), fixed(now)
    differing = [
        f"{key}: {old.get(key)!r} before, {new.get(key)!r} now" for key in new | old if old.get(key) != new.get(key)
    ]
    if differing:
        listed = "\n  ".join(differing)
        raise ConfigError(
            f"{workdir} holds a run of another config; take another workdir, or the old values:\n  {listed}"
        )


def _values(config: Config) -> list[str]:
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


def _model(config: Config) -> list[str]:
    model, problems = config.model, []
    if model.path and not _may_be_model(model.path):
        problems.append(
            f"model.path={model.path!r}: neither a folder with a config.json, nor the workdir of a finished run, nor a "
            ".gguf file, nor a hub name such as Qwen/Qwen2.5-0.5B-Instruct"
        )
    unknown = set(model.lora.modules) - set(adapters.PLACES)
    if model.lora.rank and (unknown or not model.lora.modules):
        problems.append(f"model.lora.modules={tuple(model.lora.modules)}: one or more of {', '.join(adapters.PLACES)}")
    if model.lora.rank and model.lora.save == "adapter" and not model.path:
        problems.append("model.lora.save='adapter', but random weights (model.path='') are no base to come back to")
    if model.vision.min_pixels > model.vision.max_pixels:
        problems.append(
            f"model.vision.min_pixels={model.vision.min_pixels} is more than max_pixels={model.vision.max_pixels}"
        )
    if not model.path:
        problems += _vision_shape(init=model.init)
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


def _may_be_model(path: str) -> bool:
    """Is there a model at this path, or could this be a name on the hub?"""
    if os.path.isdir(path):
        names = ("config.json", "adapter_config.json", os.path.join("model", "config.json"))
        return any(os.path.isfile(os.path.join(path, name)) for name in names)
    if path.endswith(".gguf"):
        return os.path.isfile(path)
    return re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None


def _vision_shape(init: ModelInitConfig) -> list[str]:
    """What a tower with random weights asks of its numbers."""
    problems = []
    if init.vision.layers:
        try:
            VisionConfig(**init.vision.to_dict())
        except (ValueError, ZeroDivisionError) as error:
            problems.append(f"model.init.vision: {error}")
    sections = tuple(init.rope_sections)
    if (sections or init.vision.layers) and (len(sections) != 3 or sum(sections) * 2 != init.head_size):
        problems.append(
            f"model.init.rope_sections={sections}: three numbers (time, height, width) whose sum is half of "
            f"model.init.head_size={init.head_size}"
        )
    return problems


def _data(config: Config, mode: str) -> list[str]:
    """Names of the sources that a command reads; what they hold is checked when they are read."""
    d, training = config.data, mode in ("train", "sft")
    problems, benchmarks = [], sources.split_names(config.eval.benchmarks)
    if training or mode == "variants":
        problems += _sources("data.train", d.train)
        problems += _sources("sft.data", config.sft.data) if config.sft.steps else []
    if mode == "eval" and benchmarks:
        problems += [fault for name in benchmarks for fault in _sources("eval.benchmarks", name, is_one=True)]
    elif mode != "variants" and d.eval:
        problems += _sources("data.eval", d.eval, is_one=True)
    elif mode != "variants" and (" + " in d.train or d.train.partition(":")[0] in sources.FILES):
        problems.append("data.eval is empty: name what is held out, since data.train is a mixture or a file")
    elif mode in ("eval", "sample"):
        problems += _sources("data.train", d.train, is_one=True)
    if training and d.variants and not os.path.isfile(d.variants):
        problems.append(f"data.variants={d.variants!r}: no such file; `mig-jax variants` writes one")
    return problems


def _sources(key: str, mixture: str, *, is_one: bool = False) -> list[str]:
    """What is wrong with the names of sources under a key, which may be a mixture unless it `is_one`."""
    if not mixture:
        return []
    try:
        parts = sources.parse_mixture(mixture)
    except ValueError as error:
        return [f"{key}: {error}"]
    if is_one and parts != (sources.WeightedSource(mixture.strip(), 1.0),):
        return [f"{key}={mixture!r}: figures are those of one source, without a weight; eval.benchmarks names several"]
    return [f"{key}={mixture!r}: {fault}" for part in parts if (fault := sources.source_name_error(part.name))]


def _mesh(config: Config, n_devices: int) -> list[str]:
    sizes = list(config.mesh.to_dict().values())
    if any(size == 0 or size < -1 for size in sizes) or sizes.count(-1) > 1:
        return [f"mesh={config.mesh.to_dict()}: sizes are positive, and at most one is -1 (all that are left)"]
    known = math.prod(size for size in sizes if size > 0)
    if n_devices % known or (-1 not in sizes and known != n_devices):
        return [f"mesh={config.mesh.to_dict()} does not fit {n_devices} devices: their product must be that number"]
    return []


def _training(config: Config, mode: str, n_devices: int) -> list[str]:
    """What only an update of the weights asks for."""
    problems, r, model = [], config.rollout, config.model
    if model.init.vision.layers and model.vision.freeze and not model.path:
        problems.append("model.vision.freeze is on, but the tower has random weights: it would stay as blind as it is")
    if mode == "train":
        if r.group_size < 2:
            problems.append(f"rollout.group_size={r.group_size}: an advantage compares at least 2 samples of a prompt")
        if config.loss.alpha == config.loss.beta == config.loss.gamma == 0:
            problems.append("loss.alpha, loss.beta and loss.gamma are all 0: there is nothing to learn from")
        problems += _divides(config, n_devices, "rollout.questions", r.questions, group_size=r.group_size)
    if mode == "sft" or config.sft.steps:
        problems += _divides(config, n_devices, "sft.batch_size", config.sft.batch_size, group_size=1)
    return problems


def _divides(config: Config, n_devices: int, name: str, prompts: int, *, group_size: int) -> list[str]:
    """Can so many prompts, a group of rows each, be dealt to the micro-batches, and those to the devices?"""
    parts, tensor = config.optimizer.microbatches, config.mesh.tensor
    # A model with images that comes from a folder is known when it is read; `aot` knows it, too.
    has_images = not config.model.path and config.model.init.vision.layers > 0
    devices = n_devices // tensor if tensor > 0 else 1
    if min(parts, group_size, devices) < 1:
        return []  # said elsewhere
    unit = unit_of_prompts(devices=devices, microbatches=parts, group_size=group_size, has_images=has_images)
    if prompts % unit == 0:
        return []
    below = prompts // unit * unit
    nearest = f"{below} or {below + unit}" if below else f"{unit}"
    of = f", with rollout.group_size={group_size}," if group_size > 1 else ""
    return [
        f"{name}={prompts} must be a multiple of {unit}, such as {nearest}, so that{of} each part of the mesh "
        f"(mesh.data × mesh.fsdp = {devices}) has as many rows of each micro-batch (optimizer.microbatches={parts})"
    ]


def unit_of_prompts(*, devices: int, microbatches: int, group_size: int, has_images: bool) -> int:
    """Prompts come in multiples of this, so that every device has as many rows of every micro-batch.

    Args:
      devices: parts that the mesh cuts rows into.
      group_size: rows of a prompt.
      has_images: a prompt's rows then stay in one micro-batch, with its images.
    """
    places = devices * microbatches
    return places if has_images else math.lcm(devices, places // math.gcd(places, group_size))


def _read(config: Config, key: str):
    for part in key.split("."):
        config = config[part]
    return config
