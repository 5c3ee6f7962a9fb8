"""Check a config before anything is loaded or compiled, and report everything that is wrong with it at once."""

import math
import os
import re
import typing
from collections.abc import Sequence
from typing import Any

from flax.traverse_util import flatten_dict

from mig_jax import check_parts, rewards
from mig_jax.config import (
    RENAMED_KEYS,
    Config,
    ModelConfig,
    ModelInitConfig,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
)
from mig_jax.data import problem_files, sources
from mig_jax.data.choices import FORMS as CHOICE_FORMS
from mig_jax.errors import UserError
from mig_jax.models import adapters, attention, remat
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.qwen2_vl import VisionConfig
from mig_jax.rollout.grading import READINGS
from mig_jax.text import prompt_options, step_format

CHOICES = {
    "data.bad_rows": problem_files.BAD_ROWS,
    "data.choice_answers": ("", *CHOICE_FORMS),
    "model.attention": ("", *attention.KERNELS),
    "model.compute_dtype": ("float32", "bfloat16"),
    "model.param_dtype": ("float32", "bfloat16"),
    "model.save_dtype": ("", "float32", "bfloat16", "float16"),
    "model.remat": ("", *remat.POLICIES),
    "model.lora.save": ("merged", "adapter"),
    "reward.overlong": ("keep", "mask"),
    "reward.reading": READINGS,
    "reward.process_mask": ("closing", "think"),
    "reward.terminator": tuple(rewards.TERMINATORS),
    "loss.old_logprobs": ("sampled", "recomputed"),
    "optimizer.state_dtype": ("", "float32", "bfloat16"),
    "optimizer.decay": ("constant", "cosine"),
}

# Files and folders, of this machine; `~` is expanded where they are opened.
PATHS = ("model.path", "model.tokenizer", "data.dir", "data.variants")

# How something is computed. These keys change neither what is learned nor what is answered, up to rounding.
COMPUTE_ONLY = ("model.remat", "model.attention", "rollout.gather_params", "rollout.kv_cache_chunks")


class ConfigError(UserError):
    """A config that cannot be run; the message lists everything that is wrong with it."""


def check_config(config: Config, *, mode: str, n_devices: int) -> None:
    """Raise once with every error, each naming its keys as they are typed.

    Args:
      config: see `configs/default.py`.
      mode: the command: "train", "sft", "eval", "sample", "variants" or "score".
      n_devices: number of devices.

    Raises:
      ConfigError: lists every error.
    """
    if wrong_types := _types(config, Config):
        raise ConfigError("this config cannot be run:\n  " + "\n  ".join(wrong_types))
    errors = [
        *_ranges(config, Config),
        *_values(config),
        *check_parts.part_errors(config, mode=mode),
        *_reward(config),
        *_format(config),
        *_mesh(config, n_devices),
        *_model(config),
        *_prompts(config),
        *(_data(config, mode) if mode != "score" else ()),
        *(_training(config, mode, n_devices) if mode in ("train", "sft") else ()),
    ]
    if errors:
        raise ConfigError("this config cannot be run:\n  " + "\n  ".join(errors))


def check_unchanged(
    workdir: str, *, before: dict[str, Any], now: dict[str, Any], free: Sequence[str], advice: str = "use a new workdir"
) -> None:
    """Check that what was started in a workdir is resumed with the same config.

    Args:
      workdir: for the message.
      before, now: configs as nested dicts.
      free: sections and keys, such as "log" and "data.read_ahead", that may change.
      advice: what to do about a difference, besides restoring the old value.

    Raises:
      ConfigError: lists every value that differs.
    """

    if any(key in flatten_dict(before, sep=".") for key in RENAMED_KEYS):
        raise ConfigError(
            f"{workdir} was started by an earlier version, whose runs cannot be resumed; use a new workdir"
        )

    def fixed(config: dict[str, Any]) -> dict[str, Any]:
        flat = flatten_dict(config, sep=".")
        return {key: flat[key] for key in flat if key not in free and key.split(".")[0] not in free}

    old, new = fixed(before), fixed(now)
    differing = [
        f"{key}: {old.get(key)!r} before, {new.get(key)!r} now" for key in new | old if old.get(key) != new.get(key)
    ]
    if differing:
        listed = "\n  ".join(differing)
        raise ConfigError(
            f"{workdir} was started with a different config; {advice} or restore these values:\n  {listed}"
        )


def _types(section: Any, view: type, prefix: str = "") -> list[str]:
    """Check that each value has the type that the typed view of the config gives it."""
    errors = []
    for key, hint in typing.get_type_hints(view).items():
        value, origin, items = section[key], typing.get_origin(hint) or hint, typing.get_args(hint)
        if Section in origin.__mro__:
            errors += _types(value, hint, f"{prefix}{key}.")
        elif not isinstance(value, (int, float) if origin is float else origin) or (
            items and not all(isinstance(item, items[0]) for item in value)
        ):
            kind = f"a tuple of {items[0].__name__}" if items and origin is tuple else f"of type {origin.__name__}"
            errors.append(f"{prefix}{key}={value!r}: must be {kind}")
    return errors


def _ranges(section: Any, view: type, prefix: str = "") -> list[str]:
    """Check that each number is finite, and positive or non-negative as the typed view of the config says."""
    errors = []
    for key, hint in typing.get_type_hints(view, include_extras=True).items():
        name, value = f"{prefix}{key}", section[key]
        if isinstance(hint, type) and Section in hint.__mro__:
            errors += _ranges(value, hint, f"{name}.")
        # Negated comparisons, so that nan fails, too.
        elif hint in (PositiveInt, PositiveFloat) and not value > 0:
            errors.append(f"{name}={value}: must be more than 0")
        elif hint in (NonNegativeInt, NonNegativeFloat) and not value >= 0:
            errors.append(f"{name}={value}: must be 0 or more")
        elif isinstance(value, int) and abs(value) >= 2**31 and key not in ("seed", "eval_seed"):
            errors.append(f"{name}={value}: must be less than 2**31")
        elif isinstance(value, float) and not math.isfinite(value):
            errors.append(f"{name}={value}: must be finite")
    return errors


def _values(config: Config) -> list[str]:
    """Check choices, and the ranges that have two ends."""
    errors = []
    for key, choices in CHOICES.items():
        if _read(config, key) not in choices:
            named = ", ".join(choice or '""' for choice in choices)
            errors.append(f"{key}={_read(config, key)!r}: choose one of {named}")
    if config.loss.clip_low > 1:
        errors.append(
            f"loss.clip_low={config.loss.clip_low}: must be at most 1: the ratio's lower bound is 1 - clip_low"
        )
    for key in ("optimizer.b1", "optimizer.b2"):
        if not 0 <= _read(config, key) < 1:
            errors.append(f"{key}={_read(config, key)}: must be at least 0 and less than 1")
    for key in ("seed", "data.eval_seed"):
        if not 0 <= _read(config, key) < 2**32:
            errors.append(f"{key}={_read(config, key)}: must be at least 0 and less than 2**32")
    for key in PATHS:
        if "://" in _read(config, key):
            errors.append(f"{key}={_read(config, key)}: remote paths are not supported; give a local folder or file")
    return errors


def _reward(config: Config) -> list[str]:
    """Check what options of the reward need of each other."""
    w, errors = config.reward, []
    if w.step_discount > 1:
        errors.append(f"reward.step_discount={w.step_discount}: must be at most 1")
    if w.step_discount != 1 and w.credit_level != "step":
        errors.append("reward.step_discount needs reward.credit_level='step'")
    for spec, weight in w.outcomes.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            errors.append(f"reward.outcomes[{spec!r}]={weight!r}: must be a finite number")
    args, limit = w.outcome_args, config.rollout.max_new_tokens
    if args.overlong_buffer and "overlong" not in w.outcomes:
        errors.append('reward.outcome_args.overlong_buffer needs the outcome "overlong" in reward.outcomes')
    if args.overlong_buffer > limit:
        errors.append(
            f"reward.outcome_args.overlong_buffer={args.overlong_buffer} is more than rollout.max_new_tokens={limit}"
        )
    if args.min_steps > args.max_steps:
        errors.append(f"reward.outcome_args.min_steps={args.min_steps} is more than max_steps={args.max_steps}")
    if config.loss.dual_clip <= 1:
        errors.append(f"loss.dual_clip={config.loss.dual_clip}: must be more than 1")
    return errors


def _model(config: Config) -> list[str]:
    model, init, errors = config.model, config.model.init, []
    if model.path and "://" not in model.path and not _may_be_model(os.path.expanduser(model.path)):
        errors.append(
            f"model.path={model.path!r}: must be a folder with a config.json, the workdir of a finished run, a .gguf "
            "file, or a hub name such as Qwen/Qwen2.5-0.5B-Instruct"
        )
    if model.lora.rank and (missing := adapters.missing_package()):
        errors.append(f"model.lora.rank={model.lora.rank}: {missing}")
    unknown = set(model.lora.modules) - set(adapters.PROJECTIONS)
    if model.lora.rank and (unknown or not model.lora.modules):
        errors.append(f"model.lora.modules={tuple(model.lora.modules)}: choose from {', '.join(adapters.PROJECTIONS)}")
    of_mlp = [name for name in model.lora.modules if name in adapters.PROJECTIONS and name not in adapters.ATTENTION]
    if model.lora.rank and of_mlp and _has_experts(model):
        errors.append(
            f"model.lora.modules={tuple(model.lora.modules)}: in a mixture of experts only attention can have "
            f"adapters; choose from {', '.join(adapters.ATTENTION)}"
        )
    if model.lora.rank and model.lora.save == "adapter" and not model.path:
        errors.append("model.lora.save='adapter' needs a base model to load them onto; model.path is empty")
    if model.vision.min_pixels > model.vision.max_pixels:
        errors.append(
            f"model.vision.min_pixels={model.vision.min_pixels} is more than max_pixels={model.vision.max_pixels}"
        )
    if model.path:
        return errors
    errors += _vision_shape(init)
    if not model.tokenizer:
        errors.append("model.path and model.tokenizer are both empty: give a model, as --model=DIR")
    if init.kv_heads > 0 and init.heads % init.kv_heads:
        errors.append(f"model.init.kv_heads={init.kv_heads} must divide model.init.heads={init.heads}")
    if init.head_size % 2:
        errors.append(f"model.init.head_size={init.head_size} must be even: rotary embeddings rotate pairs")
    if init.qkv_bias and init.qk_norm:
        errors.append(
            "model.init.qkv_bias and model.init.qk_norm are both on: no model family has both, so it could not be saved"
        )
    return errors


def _has_experts(model: ModelConfig) -> bool:
    """Return whether the model is known to be a mixture of experts, from the config or from a local config.json."""
    if not model.path:
        return model.init.experts.count > 0
    path = os.path.expanduser(model.path)
    for folder in (path, os.path.join(path, "model")):
        if os.path.isfile(os.path.join(folder, "config.json")):
            try:
                return hf_config.read_config(folder).experts is not None
            except UserError:  # reported with the file when the model is loaded
                return False
    return False


def _may_be_model(path: str) -> bool:
    """Return whether there is a model at this path, or it could be a hub name."""
    if os.path.isdir(path):
        names = ("config.json", "adapter_config.json", os.path.join("model", "config.json"))
        return any(os.path.isfile(os.path.join(path, name)) for name in names)
    if path.endswith(".gguf") or os.path.isfile(path):
        return path.endswith(".gguf") and os.path.isfile(path)
    return re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None


def _vision_shape(init: ModelInitConfig) -> list[str]:
    """Check the shape of a vision tower with random parameters."""
    errors = []
    if init.vision.layers:
        try:
            VisionConfig(**init.vision.to_dict())
        except (ValueError, ZeroDivisionError) as error:
            errors.append(f"model.init.vision: {error}")
    sections = tuple(init.rope_sections)
    if (sections or init.vision.layers) and (len(sections) != 3 or sum(sections) * 2 != init.head_size):
        errors.append(
            f"model.init.rope_sections={sections}: give three numbers (time, height, width) whose sum is half of "
            f"model.init.head_size={init.head_size}"
        )
    return errors


def _prompts(config: Config) -> list[str]:
    """Check how prompts are written; `policy.prompts.with_style` checks what the chat template does with them."""
    d = config.data
    by_source = {f"data.user_templates.{source}": text for source, text in d.user_templates.items()}
    return prompt_options.option_errors(
        system_prompt=d.system_prompt,
        user_templates={"data.user_template": d.user_template, **by_source},
        template_args=d.template_args,
        template_date=d.template_date,
    )


def _data(config: Config, mode: str) -> list[str]:
    """Check the names of the sources that a command reads; their contents are checked when they are read."""
    d, trains = config.data, mode in ("train", "sft")
    errors, benchmarks = [], sources.split_names(config.eval.benchmarks)
    if trains or mode == "variants":
        errors += _sources("data.train", d.train)
        errors += _sources("sft.data", config.sft.data) if config.sft.steps else []
    if mode == "eval" and benchmarks:
        errors += [error for name in benchmarks for error in _sources("eval.benchmarks", name, is_one=True)]
    elif mode != "variants" and d.eval:
        errors += _sources("data.eval", d.eval, is_one=True)
    elif trains and not evaluates(config):
        pass
    elif mode != "variants" and (" + " in d.train or d.train.partition(":")[0] in sources.FILES):
        errors.append("data.eval is empty: name the held-out source, because data.train is a mixture or a file")
    elif mode in ("eval", "sample"):
        errors += _sources("data.train", d.train, is_one=True)
    if trains and d.variants and "://" not in d.variants and not os.path.isfile(os.path.expanduser(d.variants)):
        errors.append(f"data.variants={d.variants!r}: no such file; `mig-jax variants` writes one")
    return errors


def evaluates(config: Config) -> bool:
    """Return whether a training run evaluates on held-out problems at all."""
    return bool(config.eval.at_start or config.eval.at_end or config.eval.every)


def _sources(key: str, mixture: str, *, is_one: bool = False) -> list[str]:
    """Check the names of the sources under a key, which may be a mixture unless `is_one`."""
    if not mixture:
        return []
    try:
        parts = sources.parse_mixture(mixture)
    except ValueError as error:
        return [f"{key}: {error}"]
    if is_one and parts != (sources.WeightedSource(mixture.strip(), 1.0),):
        return [f"{key}={mixture!r}: give one source, without a weight; eval.benchmarks takes several"]
    return [f"{key}={mixture!r}: {error}" for part in parts if (error := sources.source_name_error(part.name))]


def _format(config: Config) -> list[str]:
    """Check the response format, a user's own by calling its splitter."""
    try:
        step_format.find_format(config.response_format)
    except UserError as error:
        return [str(error)]
    return []


def _mesh(config: Config, n_devices: int) -> list[str]:
    sizes = list(config.mesh.to_dict().values())
    if any(size == 0 or size < -1 for size in sizes) or sizes.count(-1) > 1:
        return [f"mesh={config.mesh.to_dict()}: sizes must be positive; one may be -1 (all remaining devices)"]
    known = math.prod(size for size in sizes if size > 0)
    if n_devices % known or (-1 not in sizes and known != n_devices):
        return [f"mesh={config.mesh.to_dict()} does not fit {n_devices} devices: the product must be that number"]
    return []


def _training(config: Config, mode: str, n_devices: int) -> list[str]:
    """Check what only training needs."""
    errors, r, model, minibatches = [], config.rollout, config.model, config.optimizer.minibatches
    if model.init.vision.layers and model.vision.freeze and not model.path:
        errors.append("model.vision.freeze is on, but the vision tower has random parameters: train it")
    if config.checkpoint.keep_best and not evaluates(config):
        errors.append("checkpoint.keep_best ranks checkpoints by their evaluations, but there are none: set eval.every")
    last = max(config.steps, config.sft.steps)
    if outside := [step for step in config.log.profile_steps if not 1 <= step <= last]:
        errors.append(f"log.profile_steps: there is no step {outside[0]}; steps are 1 to {last}")
    if mode == "train":
        if r.group_size < 2:
            errors.append(f"rollout.group_size={r.group_size}: an advantage compares at least 2 samples of a prompt")
        errors += _signal(config)
        errors += _divides(
            config, n_devices, "rollout.questions", r.questions, group_size=r.group_size, minibatches=minibatches
        )
    if mode == "sft" or config.sft.steps:
        # The SFT stage of an RL run makes one update of a batch.
        minibatches = minibatches if mode == "sft" else 1
        errors += _divides(
            config, n_devices, "sft.batch_size", config.sft.batch_size, group_size=1, minibatches=minibatches
        )
    return errors


def _signal(config: Config) -> list[str]:
    """Check that there is something to learn from, and that dynamic sampling replaces only what teaches nothing."""
    loss, w, errors = config.loss, config.reward, []
    if loss.alpha == loss.beta == loss.gamma == 0:
        errors.append("loss.alpha, loss.beta and loss.gamma are all 0: there is nothing to learn from")
    if loss.beta and not any(w.outcomes.values()):
        errors.append("all weights of reward.outcomes are 0: the outcome stream has no reward; set loss.beta=0")
    if config.rollout.max_resamples and w.advantage == "no_baseline":
        errors.append("rollout.max_resamples: with reward.advantage='no_baseline', groups of equal rewards teach, too")
    if config.rollout.max_resamples and loss.alpha == loss.beta == 0:
        errors.append("rollout.max_resamples: with loss.alpha=loss.beta=0, no stream compares the samples of a group")
    return errors


def _divides(
    config: Config, n_devices: int, name: str, prompts: int, *, group_size: int, minibatches: int
) -> list[str]:
    """Check that prompts, a group of rows each, divide evenly into micro-batches and those over devices."""
    microbatches, tensor = config.optimizer.microbatches or 1, config.mesh.tensor  # 0: a number that divides
    parts = microbatches * minibatches
    # Whether a model in a folder has a vision tower is known only when it is read; `aot` checks it then.
    has_images = not config.model.path and config.model.init.vision.layers > 0
    devices = n_devices // tensor if tensor > 0 else 1
    if min(parts, group_size, devices) < 1:
        return []  # reported elsewhere
    unit = prompt_multiple(devices=devices, microbatches=parts, group_size=group_size, has_images=has_images)
    if prompts % unit == 0:
        return []
    below = prompts // unit * unit
    nearest = f"{below} or {below + unit}" if below else f"{unit}"
    group = f", with rollout.group_size={group_size}," if group_size > 1 else ""
    of_minibatches = f", optimizer.minibatches={minibatches}" if minibatches > 1 else ""
    other = "; or set optimizer.microbatches=0, which chooses one that divides" if microbatches > 1 else ""
    return [
        f"{name}={prompts} must be a multiple of {unit}, such as {nearest}, so that{group} each batch shard "
        f"(mesh.data × mesh.fsdp = {devices}) has as many rows of each micro-batch "
        f"(optimizer.microbatches={microbatches}{of_minibatches}){other}"
    ]


def prompt_multiple(*, devices: int, microbatches: int, group_size: int, has_images: bool) -> int:
    """Return the number of prompts whose multiples give every device equally many rows of every micro-batch.

    Args:
      devices: number of batch shards of the mesh.
      microbatches: number of micro-batches of a rollout: `optimizer.microbatches` × `optimizer.minibatches`.
      group_size: rows of each prompt.
      has_images: the rows of a prompt then stay in one micro-batch, with its images.
    """
    shards = devices * microbatches
    return shards if has_images else math.lcm(devices, shards // math.gcd(shards, group_size))


def _read(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config
