"""The SFT stage of an RL run: its config, and the check that a finished stage is the one that the config asks for."""

import copy
import json
import os
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from mig_jax.check_config import ConfigError, check_unchanged
from mig_jax.config import Config, ModelConfig
from mig_jax.policy.load import RUN_CONFIG
from mig_jax.records.atomic_file import read_json_object
from mig_jax.trainer.run_state import keys_free_to_change

# Key of an SFT run → key that sets it in an RL run with an SFT stage.
STAGE_KEYS = {
    "steps": "sft.steps",
    "optimizer.peak_lr": "sft.peak_lr",
    "data.train": "sft.data",
    "data.train_size": "sft.data_size",
}
# What only evaluates an SFT run, or does nothing in it.
EVAL_ONLY = ("data.eval", "data.eval_size", "data.eval_seed", "data.variants")


def stage_config(config: Config) -> Config:
    """Return the config of the SFT run that comes before the first rollout of `config`."""
    stage = copy.deepcopy(config)
    stage.steps, stage.optimizer.peak_lr, stage.optimizer.decay = config.sft.steps, config.sft.peak_lr, "cosine"
    stage.optimizer.updates_per_rollout = stage.optimizer.minibatches = 1
    stage.data.train = config.sft.data or config.data.train
    stage.data.eval = config.data.eval or config.data.train
    stage.data.train_size = config.sft.data_size or config.data.train_size
    stage.model.lora.save = "merged"
    return stage


def start_model(config: Config, workdir: str) -> ModelConfig:
    """Return the model that a run starts from: that of its SFT stage in `workdir`, if it has one; a copy."""
    start = copy.deepcopy(config.model)
    if config.sft.steps:
        start.path, start.tokenizer = os.path.join(workdir, "model"), ""
    return start


def is_finished(stage: Config, workdir: str) -> bool:
    """Return whether an SFT stage is finished; its model is then in `workdir/model`.

    Args:
      stage: from `stage_config`.
      workdir: folder of the stage.

    Raises:
      ConfigError: it is finished, but another model, other data, or other settings of SFT were used; lists them.
    """
    model = Path(workdir) / "model"
    # config.json is written last: if it exists, the model is complete.
    if not (model / "config.json").exists():
        return False
    advice = f"use a new workdir, delete {workdir}"
    if not (model / RUN_CONFIG).exists():
        raise ConfigError(f"{model} has no {RUN_CONFIG}, so it is unknown how it was trained; {advice}")
    now = json.loads(json.dumps(stage.to_dict()))
    free = [*keys_free_to_change(now, mode="sft"), *EVAL_ONLY]
    before, now = _by_stage_keys(read_json_object(model / RUN_CONFIG)), _by_stage_keys(now)
    check_unchanged(workdir, before=before, now=now, free=free, advice=advice)
    return True


def _by_stage_keys(record: dict[str, Any]) -> dict[str, Any]:
    """Return the config of an SFT run by dotted keys, as they are set in an RL run."""
    flat: dict[Any, Any] = flatten_dict(record, sep=".")
    used = {key: value for key, value in flat.items() if key not in STAGE_KEYS.values()}
    return {str(STAGE_KEYS.get(key, key)): value for key, value in used.items()}
