"""Checkpoints of a run: weights, optimizer, step, position in the data, and the config; written by orbax.

What is sampled at a step depends on the seed and the step alone, so there is no random state to keep.
"""

import os
from typing import Any

import jax
import orbax.checkpoint as ocp

from mig_jax.learning.train_step import TrainState


def open_manager(workdir: str, *, keep: int) -> ocp.CheckpointManager:
    """A manager of the checkpoints of a run; the newest `keep` of them stay. A kill leaves nothing half-saved."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
    return ocp.CheckpointManager(os.path.join(os.path.abspath(workdir), "checkpoints"), options=options)


def save(manager: ocp.CheckpointManager, state: TrainState, data_state: dict, config: dict) -> None:
    """Write a checkpoint in the background, under the number of rollouts or batches done (`data_state["done"]`)."""
    manager.save(
        data_state["done"],
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(data_state), config=ocp.args.JsonSave(config)
        ),
    )


def saved_config(manager: ocp.CheckpointManager) -> dict[str, Any] | None:
    """The config of the run that the newest checkpoint is of; None where there is none."""
    if manager.latest_step() is None:
        return None
    return manager.restore(manager.latest_step(), args=ocp.args.Composite(config=ocp.args.JsonRestore())).config


def restore(manager: ocp.CheckpointManager, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """State, laid out as `state` is, and position in the data of the newest checkpoint."""
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
    found = manager.restore(
        manager.latest_step(),
        args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes), data=ocp.args.JsonRestore()),
    )
    return found.state, found.data
