"""Read the checkpoints of a run without changing anything in its folder, even while the run continues."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from mig_jax.errors import UserError
from mig_jax.learning.train_step import combine, partition
from mig_jax.policy.load import Policy
from mig_jax.records import metrics
from mig_jax.trainer.checkpointing import verify_checksums


class StoredRecord(NamedTuple):
    """What a checkpoint says about its run, besides arrays.

    config: the run's config as nested dicts, with its `mode`.
    progress: see `checkpointing.Restored`.
    """

    config: dict[str, Any]
    progress: dict[str, Any]


def choose_step(workdir: str, *, step: int | None = None, best: bool = False) -> int:
    """Return the step of a checkpoint: the given one, the best one, or else the newest.

    Args:
      workdir: folder of the run.
      step: the step to choose.
      best: choose the checkpoint with the highest `eval/sampled`; of equal ones the newest.

    Raises:
      UserError: there is no such checkpoint; lists those there are, with their accuracies.
    """
    score_of = read_scores(workdir)
    if not score_of:
        raise UserError(
            f"{workdir} has no checkpoints; give the workdir of a run (the SFT stage of a run is in its folder sft)"
        )
    listed = ", ".join(f"{n}" if score is None else f"{n} (eval/sampled {score:.3f})" for n, score in score_of.items())
    scores = {n: score for n, score in score_of.items() if score is not None}
    if step is not None and step not in score_of:
        raise UserError(f"{workdir} has no checkpoint of step {step}; there are those of {listed}")
    if best and not scores:
        raise UserError(f"no checkpoint of {workdir} was evaluated; give the step of one of {listed}")
    if step is not None:
        return step
    return max(scores, key=lambda n: (scores[n], n)) if best else max(score_of)


def read_scores(workdir: str) -> dict[int, float | None]:
    """Return the sampled accuracy on held-out problems after the step of each checkpoint, by step, in order.

    It is that of metrics.jsonl, which has evaluations that were made after the checkpoint was written, else that of the
    checkpoint; None if there was no evaluation.
    """
    folder = _folder(workdir)
    steps = sorted(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []
    logged = read_evaluations(workdir)
    return {step: logged[step] if step in logged else _stored_score(folder / str(step)) for step in steps}


def read_evaluations(workdir: str) -> dict[int, float]:
    """Return `eval/sampled` of the evaluations in metrics.jsonl, by step."""
    rows = metrics.read_metrics(workdir)[1] if (Path(workdir) / metrics.FILE_NAME).exists() else []
    score_of = {int(row["step"]): row["eval/sampled"] for row in rows if "eval/sampled" in row}
    return {step: score for step, score in score_of.items() if not math.isnan(score)}


def read_record(workdir: str, step: int) -> StoredRecord:
    """Return what a checkpoint says about its run, after its checksums are verified.

    Raises:
      UserError: the checkpoint is damaged.
    """
    folder = _folder(workdir) / str(step)
    try:
        verify_checksums(folder)
        return StoredRecord(_read_json(folder, "config"), _read_json(folder, "data"))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"checkpoint {folder} is damaged ({error}); give the --step of another one") from error


def read_params(workdir: str, step: int, policy: Policy) -> Any:
    """Return the parameters of a checkpoint, those that were not trained from `policy`; moments are not read.

    Arrays are resharded and cast as those of `policy`, which are deleted. All processes must call this.

    Raises:
      UserError: the checkpoint has other parameters than the policy.
    """
    folder = _folder(workdir) / str(step)
    trained, frozen = partition(policy.params, policy.is_trainable)
    item = {"params": jax.tree.map(ocp.utils.to_shape_dtype_struct, trained)}
    for x in jax.tree.leaves(trained):
        x.delete()  # so that the model is in memory once
    restore = ocp.args.PyTreeRestore(
        item=item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True
    )
    with ocp.PyTreeCheckpointer() as checkpointer:
        try:
            restored: Any = checkpointer.restore(folder / "state", args=restore)
        except (ValueError, KeyError) as error:
            message = " ".join(str(error).split())[:300]
            raise UserError(
                f"checkpoint {folder} does not hold the parameters of {policy.base!r}: {message}"
            ) from error
    return combine(restored["params"], frozen)


def _folder(workdir: str) -> Path:
    return Path(workdir).absolute() / "checkpoints"


def _read_json(folder: Path, item: str) -> dict[str, Any]:
    # Not by orbax, whose readers wait for the other processes.
    return json.loads((folder / item / "metadata").read_bytes())


def _stored_score(folder: Path) -> float | None:
    """Return the score that was saved with a checkpoint; None if there is none, or it cannot be read."""
    try:
        data: Mapping[str, Any] = _read_json(folder, "data")
    except (OSError, json.JSONDecodeError):
        return None
    score = data.get("score")
    return None if score is None or math.isnan(score) else score
