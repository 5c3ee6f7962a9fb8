"""Checkpoints of a run: trained parameters, optimizer, step, position in the data, config; written by orbax.

What a step samples depends on the seed and the step alone, so there is no random state to save.

A checkpoint gets its number as its name only when all of it is on disk. Checksums of its files are stored with it,
because orbax notices missing and truncated files but not a flipped bit inside an array.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers
from tqdm import tqdm

from mig_jax.distributed import multihost
from mig_jax.errors import UserError
from mig_jax.learning.train_step import TrainState, combine, partition

CHECKSUMS = "checksums.json"

# orbax rewrites this file when it renames a finished checkpoint; nothing that is restored is in it.
NO_CHECKSUM = ("_CHECKPOINT_METADATA", CHECKSUMS)


class Restored(NamedTuple):
    """A checkpoint that was read.

    state: the run's state, frozen parameters included.
    progress: what was saved with it: steps done, position in the data, metrics of the steps since the last row, whether
      an evaluation is pending, fingerprints of frozen parameters and data.
    """

    state: TrainState
    progress: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run, in `workdir/checkpoints`; a context manager, closed at the end of its block.

    Args:
      workdir: folder of the run.
      keep: number of newest checkpoints to keep.
      keep_best: number of checkpoints with the highest score to keep besides.
      is_trainable: predicate on parameter paths; frozen parameters are not written.
    """

    def __init__(self, workdir: str, *, keep: int, keep_best: int, is_trainable: Callable[[str], bool]):
        self.folder = Path(workdir).absolute() / "checkpoints"
        self.is_trainable = is_trainable
        self.retention = _NewestAndBest(keep, keep_best)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self.retention,
            cleanup_tmp_directories=True,
            single_host_load_and_broadcast=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options)
        for step in self.manager.all_steps():
            self.retention.add(step, _attempt(lambda step=step: float(self._read_json(step, "data")["score"])).value)

    def save(self, state: TrainState, progress: dict, config: dict, *, score: float | None) -> None:
        """Write a checkpoint in the background, named after the number of steps done (`progress["done"]`).

        Args:
          state: the run's state; only trainable parameters and their moments are written.
          progress: JSON-able, see `Restored`.
          config: the run's config, JSON-able.
          score: sampled accuracy on held-out problems after this step; None if it was not evaluated.
        """
        self.retention.add(progress["done"], score)
        trained = state._replace(params=partition(state.params, self.is_trainable)[0])
        self.manager.save(
            progress["done"],
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(trained),
                data=ocp.args.JsonSave(progress | {"score": score}),
                config=ocp.args.JsonSave(config),
            ),
        )

    def restore(self, state: TrainState, *, check: Callable[[dict], None]) -> Restored | None:
        """Read the newest undamaged checkpoint; None if there is no checkpoint at all.

        Arrays are resharded and cast as `state` is, on any number of devices. Newer, damaged checkpoints are
        moved aside with a message; the run repeats their steps.

        Args:
          state: arrays or shapes with shardings; its frozen parameters go into the result.
          check: raises if the config of the checkpoint does not permit to resume.

        Raises:
          UserError: all checkpoints are damaged; names each with the reason.
        """
        trained, frozen = partition(state.params, self.is_trainable)
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, state._replace(params=trained))
        errors: dict[int, Exception] = {}
        for step in sorted(self.manager.all_steps(), reverse=True):
            config, error = _attempt(lambda step=step: self._read_verified_config(step))
            if error:
                errors[step] = error
                continue
            check(config)
            found, error = _attempt(lambda step=step: self._read_state(step, shapes))
            if error:
                errors[step] = error
                continue
            multihost.broadcast_from_main(lambda step=step: self._move_damaged(errors, step))
            self.manager.reload()
            return found._replace(state=found.state._replace(params=combine(found.state.params, frozen)))
        if errors:
            reasons = "\n  ".join(f"{step}: {_text(error)}" for step, error in errors.items())
            raise UserError(
                f"all checkpoints in {self.folder} are damaged; use another workdir to start over:\n  {reasons}"
            ) from list(errors.values())[-1]
        return None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        # Closing waits for the other processes, which may be gone.
        if not multihost.may_be_peer_failure(error):
            self.manager.close()

    def _read_verified_config(self, step: int) -> dict:
        """Read the config, after the main process has verified the checksums."""
        multihost.broadcast_from_main(lambda: verify_checksums(self.folder / str(step)))
        return self._read_json(step, "config")

    def _read_json(self, step: int, item: str) -> dict:
        return self.manager.restore(step, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))[item]

    def _read_state(self, step: int, shapes: Any) -> Restored:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), data=ocp.args.JsonRestore())
        found: Any = self.manager.restore(step, args=args)
        return Restored(found.state, found.data)

    def _move_damaged(self, errors: dict[int, Exception], sound: int) -> None:
        """Move damaged checkpoints out of the way; `sound` is the one that the run resumes from."""
        for step, error in errors.items():
            aside = self.folder.parent / "damaged_checkpoints" / str(step)
            tqdm.write(f"checkpoint {step} is damaged and was moved to {aside}; resuming from {sound} ({_text(error)})")
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            (self.folder / str(step)).rename(aside)

    def _write_checksums(self) -> None:
        """Write checksums for the checkpoint being finalized, after all its files are written."""
        (folder,) = self.folder.glob("*.orbax-checkpoint-tmp*")
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in NO_CHECKSUM]
        sums = {str(path.relative_to(folder)): _checksum(path) for path in files}
        (folder / CHECKSUMS).write_text(json.dumps(sums, indent=0))


class _NewestAndBest(checkpoint_managers.PreservationPolicy):
    """Tells orbax which checkpoints to keep."""

    def __init__(self, keep: int, keep_best: int):
        self.keep, self.keep_best = keep, keep_best
        self.scores: dict[int, float | None] = {}

    def add(self, step: int, score: float | None) -> None:
        """Record the score of a checkpoint; None or NaN never counts as best."""
        self.scores[step] = None if score is None or math.isnan(score) else score

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Return which checkpoints to keep; of equal scores the newer one is better."""
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        scored = [(score, step) for step in steps if (score := self.scores[step]) is not None]
        best = {step for _, step in sorted(scored, reverse=True)[: self.keep_best]}
        return [step in steps[-self.keep :] or step in best for step in steps]


class _Attempt(NamedTuple):
    """A value that was read, or the error that prevented it."""

    value: Any
    error: Exception | None


def _attempt(read: Callable[[], Any]) -> _Attempt:
    """Call `read` on every process; if it fails on any, return the error instead of raising."""
    try:
        return _Attempt(multihost.sync_errors(read), None)
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise  # the machine failed, not the checkpoint
    except Exception as error:  # a damaged file can make readers raise anything
        if multihost.may_be_peer_failure(error):
            raise
        return _Attempt(None, error)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:300]}"


def verify_checksums(folder: Path) -> None:
    """Compare the files of a checkpoint with its checksums.

    Raises:
      ValueError: files are missing or changed.
    """
    sums = json.loads((folder / CHECKSUMS).read_bytes())
    wrong = [name for name in sums if not (folder / name).is_file() or _checksum(folder / name) != sums[name]]
    if wrong:
        raise ValueError(f"files are missing or changed: {', '.join(wrong)}")


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
