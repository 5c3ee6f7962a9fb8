"""Save the model of a run whose steps are all done, unless it is saved already."""

import contextlib
import json
import os

from mig_jax.policy.load import RUN_CONFIG, Policy
from mig_jax.trainer.model_card import write_card
from mig_jax.trainer.run_state import RunState

# The file of a model that is written last, of all parameters and of adapters alone.
LAST_FILES = ("config.json", "adapter_config.json")


def is_saved(workdir: str, *, step: int) -> bool:
    """Return whether `workdir/model` is complete, and of a run of `step` steps."""
    folder = os.path.join(workdir, "model")
    if not any(os.path.exists(os.path.join(folder, name)) for name in LAST_FILES):
        return False
    try:
        with open(os.path.join(folder, RUN_CONFIG), encoding="utf-8") as file:
            return json.load(file)["steps"] == step
    except (OSError, ValueError, KeyError, TypeError):
        return False


def begin_saving(workdir: str) -> None:
    """Mark the model of an earlier end of the run as incomplete, until it is replaced."""
    for name in LAST_FILES:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(workdir, "model", name))


def write_model_card(run: RunState, policy: Policy) -> None:
    """Write the card of the trained model beside it."""
    folder = os.path.join(run.workdir, "model")
    write_card(folder, policy, run.config, mode=run.mode, step=run.done, workdir=run.workdir)
