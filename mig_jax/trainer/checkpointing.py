"""Checkpoints of a run: weights, optimizer, step, position in the data, and the config; written by orbax.

What is sampled at a step depends on the seed and the step alone, so there is no random state to keep.

A checkpoint has its number for a name only when all of it is on the disk. With it are the checksums of its files,
because orbax notices missing and mangled ones, but no flipped bit in the middle of the weights.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers
from tqdm import tqdm

from mig_jax.distributed import multihost
from mig_jax.learning.train_step import TrainState

CHECKSUMS = "checksums.json"

# orbax rewrites it when it gives a checkpoint its name; nothing that is restored is in it.
UNSUMMED = ("_CHECKPOINT_METADATA", CHECKSUMS)


class Checkpoints:
    """The checkpoints of a run, in `workdir/checkpoints`; closed at the end of a `with` block.

    Args:
      keep: so many of the newest stay.
      keep_best: and so many of those with the highest figure.
    """

    def __init__(self, workdir: str, *, keep: int, keep_best: int):
        self.folder = Path(workdir).absolute() / "checkpoints"
        self.retention = _NewestAndBest(keep, keep_best)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self.retention,
            cleanup_tmp_directories=True,
            single_host_load_and_broadcast=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options)
        for step in self.manager.all_steps():
            self.retention.note(step, _attempt(lambda step=step: float(self._read_json(step, "data")["figure"]))[0])

    def save(self, state: TrainState, data_state: dict, config: dict, *, figure: float | None) -> None:
        """Write a checkpoint in the background, under the number of rollouts or batches done (`data_state["done"]`).

        Args:
          figure: how good it is; None: nobody knows, so it is not among the best.
        """
        self.retention.note(data_state["done"], figure)
        self.manager.save(
            data_state["done"],
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=ocp.args.JsonSave(data_state | {"figure": figure}),
                config=ocp.args.JsonSave(config),
            ),
        )

    def restore(self, state: TrainState, *, check: Callable[[dict], None]) -> tuple[TrainState, dict[str, Any]] | None:
        """State and position in the data of the newest checkpoint that is not damaged; None where there is none at all.

        The state comes laid out as `state` is, and in its dtypes, whatever devices have written it. Damaged
        checkpoints that are newer are put aside, aloud: the run will come by their steps again.

        Args:
          state: arrays, or shapes with shardings.
          check: raises what it has against the config of the run that has written the checkpoint.

        Raises:
          ValueError: every checkpoint is damaged; each is named with the reason.
        """
        shapes, faults = jax.tree.map(ocp.utils.to_shape_dtype_struct, state), {}
        for step in sorted(self.manager.all_steps(), reverse=True):
            config, faults[step] = _attempt(lambda step=step: self._read_sound(step))
            if faults[step]:
                continue
            check(config)
            found, faults[step] = _attempt(lambda step=step: self._read_state(step, shapes))
            if not faults[step]:
                del faults[step]
                multihost.broadcast_from_main(lambda step=step: self._put_aside(faults, step))
                self.manager.reload()
                return found
        if faults:
            listed = "\n  ".join(f"{step}: {fault}" for step, fault in faults.items())
            raise ValueError(
                f"no checkpoint in {self.folder} can be read; take another workdir to begin anew:\n  {listed}"
            )
        return None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        # What other processes do not write any more would be waited for.
        if not multihost.may_be_peer_failure(error):
            self.manager.close()

    def _read_sound(self, step: int) -> dict:
        """The config, when the files are those that were written, as the first process finds."""
        multihost.broadcast_from_main(lambda: _check_checksums(self.folder / str(step)))
        return self._read_json(step, "config")

    def _read_json(self, step: int, item: str) -> dict:
        return self.manager.restore(step, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))[item]

    def _read_state(self, step: int, shapes: Any) -> tuple[TrainState, dict]:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), data=ocp.args.JsonRestore())
        found = self.manager.restore(step, args=args)
        return found.state, found.data

    def _put_aside(self, faults: dict[int, str], sound: int) -> None:
        for step, fault in faults.items():
            aside = self.folder.parent / "damaged_checkpoints" / str(step)
            tqdm.write(f"checkpoint {step} is damaged, so it is now {aside}, and the run goes back to {sound}: {fault}")
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            (self.folder / str(step)).rename(aside)

    def _write_checksums(self) -> None:
        """Of the checkpoint that is about to get its name; runs behind everything else that is written of it."""
        (folder,) = self.folder.glob("*.orbax-checkpoint-tmp*")
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in UNSUMMED]
        sums = {str(path.relative_to(folder)): _checksum(path) for path in files}
        (folder / CHECKSUMS).write_text(json.dumps(sums, indent=0))


class _NewestAndBest(checkpoint_managers.PreservationPolicy):
    """Which checkpoints stay, for orbax."""

    def __init__(self, keep: int, keep_best: int):
        self.keep, self.keep_best, self.figures = keep, keep_best, {}

    def note(self, step: int, figure: float | None) -> None:
        """How good a checkpoint is. Of two that are equally good the newer one is better."""
        self.figures[step] = None if figure is None or math.isnan(figure) else figure

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        judged = [step for step in steps if self.figures[step] is not None]
        best = sorted(judged, key=lambda step: (self.figures[step], step), reverse=True)[: self.keep_best]
        return [step in steps[-self.keep :] or step in best for step in steps]


def _attempt(read: Callable[[], Any]) -> tuple[Any, str]:
    """What is read and "", or None and why it cannot be read, on one process or all."""
    try:
        return multihost.sync_errors(read), ""
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise  # the fault of the machine
    except Exception as error:  # whatever a reader stumbles over in a mangled file
        if multihost.may_be_peer_failure(error):
            raise
        return None, f"{type(error).__name__}: {str(error).strip()[:300]}"


def _check_checksums(folder: Path) -> None:
    """Raises:
    ValueError: files are missing, or are not what was written.
    """
    sums = json.loads((folder / CHECKSUMS).read_bytes())
    wrong = [name for name in sums if not (folder / name).is_file() or _checksum(folder / name) != sums[name]]
    if wrong:
        raise ValueError(f"missing, or not as they were written: {', '.join(wrong)}")


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
