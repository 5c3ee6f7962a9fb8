"""Write the model of a checkpoint as a folder in Hugging Face format, without the run's data and verifier."""

import copy
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
from absl import logging

from mig_jax import parts
from mig_jax.config import Config, ModelConfig
from mig_jax.config_file import default_module, flatten, flatten_record
from mig_jax.distributed import multihost, sharding
from mig_jax.errors import UserError
from mig_jax.learning.train_step import partition
from mig_jax.policy.load import Policy, load_policy
from mig_jax.policy.save import save_policy
from mig_jax.text.step_format import find_format
from mig_jax.trainer import sft_stage, stored_checkpoints
from mig_jax.trainer.fingerprints import fingerprint_params
from mig_jax.trainer.model_card import write_card
from mig_jax.trainer.report import SFT_STAGE

# Keys of a run's config that an export may change: where its base model is now, and how the model is written.
OVERRIDES = ("model.path", "model.tokenizer", "model.save_dtype", "model.lora.save")


class Exported(NamedTuple):
    """The folder of an exported model, and the step that it was trained for."""

    folder: str
    step: int


def export(
    workdir: str,
    *,
    step: int | None = None,
    best: bool = False,
    output: str = "",
    overrides: Mapping[str, Any] | None = None,
    devices: Sequence[Any] | None = None,
) -> Exported:
    """Write the model of a checkpoint, as a finished run writes its own.

    Nothing in the workdir is changed, so the run may be stopped, finished or going on. All processes must call this;
    the main one writes.

    Args:
      workdir: folder of the run.
      step, best: which checkpoint, see `stored_checkpoints.choose_step`; by default the newest.
      output: folder to write to; "" for `workdir`/model_step_N. An exported model in it is replaced.
      overrides: values for some keys of the run's config, see `OVERRIDES`.
      devices: to hold the parameters; None for all.

    Raises:
      UserError: another key is overridden; there is no such checkpoint, or it is damaged; its base model is gone or has
        changed; or `output` cannot be written, or holds something else.
    """
    if wrong := sorted({*(overrides or {})} - {*OVERRIDES}):
        keys = ", ".join(OVERRIDES)
        raise UserError(f"{', '.join(wrong)}: the config of an export is that of its run; only {keys} can be changed")
    devices = jax.devices() if devices is None else devices
    step = multihost.broadcast_from_main(lambda: stored_checkpoints.choose_step(workdir, step=step, best=best))
    folder = output or os.path.join(workdir, f"model_step_{step}")
    record, progress = multihost.broadcast_from_main(lambda: stored_checkpoints.read_record(workdir, step))
    mode = record.pop("mode")
    parts.use_copies(os.path.join(workdir, parts.FOLDER))
    config = config_of_record(record, overrides or {})
    start = start_model(config, workdir, mode)
    multihost.broadcast_from_main(lambda: check_output(folder, start.path))
    mesh = sharding.make_mesh({"fsdp": len(devices)}, devices=devices)
    format = find_format(config.response_format)
    with jax.set_mesh(mesh):
        policy = multihost.sync_errors(lambda: load_policy(start, mesh, seed=config.seed, format=format))
        check_base(policy, config, mode, progress.get("fingerprints") or {})
        params = multihost.sync_errors(lambda: stored_checkpoints.read_params(workdir, step, policy))
        save_policy(policy, params, folder, config=config)
    multihost.broadcast_from_main(lambda: write_card(folder, policy, config, mode=mode, step=step, workdir=workdir))
    return Exported(folder, step)


def better_evaluation(workdir: str, step: int) -> str | None:
    """Return where a run was evaluated better than at a checkpoint, in words; None: nowhere, or where is not known."""
    score_of = stored_checkpoints.read_evaluations(workdir)
    best = max(score_of, key=lambda n: score_of[n], default=step)
    if score_of.get(best, 0) <= score_of.get(step, math.inf):
        return None
    return f"eval/sampled was {score_of[best]:.3f} after step {best}, whose checkpoint was not kept"


def config_of_record(record: Mapping[str, Any], overrides: Mapping[str, Any]) -> Config:
    """Return the config that a checkpoint was written with; keys that are new since have their defaults.

    Args:
      record: nested dicts of JSON values.
      overrides: values by key, such as "model.save_dtype".
    """
    config = default_module().get_config()
    known, stored = flatten(config), flatten_record(record, config)
    # JSON has no tuples.
    values = {
        key: tuple(stored[key]) if isinstance(known[key], tuple) else stored[key] for key in stored if key in known
    }
    config.update_from_flattened_dict(values | dict(overrides))
    dropped = sorted(stored.keys() - known.keys())
    if dropped and multihost.is_main_process():
        logging.warning("the run was started by another version, with keys that are left out: %s", ", ".join(dropped))
    return cast(Config, config)


def start_model(config: Config, workdir: str, mode: str) -> ModelConfig:
    """Return the model that a run has started from, computed in a way that works on any device."""
    stage = os.path.join(workdir, SFT_STAGE)
    start = sft_stage.start_model(config, stage) if mode == "train" else copy.deepcopy(config.model)
    start.attention, start.remat = "xla", "none"
    return start


def check_output(folder: str, base: str) -> None:
    """Check that a folder can take an exported model, and create it.

    Args:
      folder: to write to.
      base: folder of the model that the run started from.

    Raises:
      UserError: it is that of the base model, holds something other than a model, or cannot be written.
    """
    if os.path.exists(base) and os.path.exists(folder) and os.path.samefile(base, folder):
        raise UserError(f"{folder} is the folder of the base model; give another one with --output")
    try:
        os.makedirs(folder, exist_ok=True)
        found = os.listdir(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}; give another folder with --output") from error
    if found and not {"config.json", "adapter_config.json"} & set(found):
        raise UserError(f"{folder} holds something other than a model; give a new folder with --output")
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder} cannot be written: permission denied; give another folder with --output")


def check_base(policy: Policy, config: Config, mode: str, before: Mapping[str, str]) -> None:
    """Check that parameters that are not in the checkpoint are those that the run was started with.

    Args:
      policy: with its base model's parameters.
      config, mode: of the run.
      before: fingerprints in the checkpoint.

    Raises:
      UserError: they differ.
    """
    if not jax.tree.leaves(partition(policy.params, policy.is_trainable)[1]):
        return
    now = fingerprint_params(policy, config, mode)
    if any(before.get(name, now[name]) != now[name] for name in now):
        raise UserError(
            f"the parameters in {policy.base} have changed since the run was started, and the checkpoint holds only "
            "what was trained; restore them, or name a copy of them with --config.model.path=DIR"
        )
