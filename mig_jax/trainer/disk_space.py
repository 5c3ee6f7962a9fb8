"""Check the workdir and its disk before a run begins, and recognise errors of a full disk."""

import errno
import math
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import jax

from mig_jax.check_config import ConfigError
from mig_jax.distributed import multihost

# No space left; over quota; over the largest file size.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Seconds to wait for a file to appear on another machine.
VISIBLE_S = 30


def check_workdir(workdir: str) -> None:
    """Create the workdir if needed, and check that it is writable and that all processes share it.

    Raises:
      ConfigError: it is not.
    """
    name = multihost.broadcast_from_main(lambda: _write_token(workdir))
    visible = multihost.all_gather_objects(_appears(os.path.join(workdir, name)))
    if multihost.is_main_process():
        os.remove(os.path.join(workdir, name))
    if not all(visible):
        blind = ", ".join(str(process) for process, sees_it in enumerate(visible) if not sees_it)
        raise ConfigError(
            f"this config cannot be run:\n  workdir={workdir!r}: process {blind} does not see what process 0 writes "
            "there. Use a folder on a disk that all processes share"
        )


def _write_token(workdir: str) -> str:
    """Write a new file and return its name."""
    name = f".seen_by_all_{uuid.uuid4().hex}"
    try:
        os.makedirs(workdir, exist_ok=True)
        with open(os.path.join(workdir, name), "wb") as file:
            file.write(b"room")
    except OSError as error:
        reason = "it is a file, not a folder" if os.path.isfile(workdir) else error.strerror
        raise ConfigError(f"this config cannot be run:\n  workdir={workdir!r} cannot be written: {reason}") from error
    return name


def _appears(path: str) -> bool:
    """Return whether the file exists, waiting up to `VISIBLE_S` seconds."""
    for _ in range(VISIBLE_S):
        if os.path.exists(path):
            return True
        time.sleep(1)
    return False


def check_room(workdir: str, *, checkpoint: int, kept: int, model: int) -> None:
    """Check that a run's checkpoints and its trained model fit on the disk.

    A checkpoint is complete before an older one is deleted, so one more must fit than are kept. What this run already
    has on disk will be replaced.

    Args:
      workdir: folder of the run.
      checkpoint, model: bytes of one checkpoint and of the trained model, before compression.
      kept: number of checkpoints that are kept.

    Raises:
      ConfigError: with the numbers.
    """
    needed, free = checkpoint * (kept + 1) + model, shutil.disk_usage(workdir).free
    own = sum(_size_of(Path(workdir) / name) for name in ("checkpoints", "model"))
    if needed > free + own:
        reusable = f", {_text(own)} are used by this run" if own else ""
        raise ConfigError(
            "this config cannot be run:\n"
            f"  workdir={workdir!r}: it needs {_text(needed)}, {_text(free)} are free{reusable}. There will be {kept} "
            f"checkpoints (checkpoint.keep + checkpoint.keep_best) of {_text(checkpoint)}, one more while it is "
            f"written, and a model of {_text(model)}: keep fewer checkpoints, or use another disk"
        )


def nbytes(tree: Any) -> int:
    """Return the bytes of all arrays, or shapes of arrays, in a tree."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def is_full(error: BaseException | None) -> bool:
    """Return whether a full disk caused this error, even if a library wrapped it or failed while cleaning up."""
    texts = [os.strerror(number) for number in FULL]
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL or any(text in str(error) for text in texts):
            return True
        error = error.__cause__ or error.__context__
    return False


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _text(size: float) -> str:
    """Format bytes in the unit that reads best."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
