"""Is there room for a run on its disk: asked before it begins, and said plainly when it is used up on the way."""

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

# No space; over quota; over the largest size of a file.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# So long a file may take to be seen from another machine, in seconds.
VISIBLE_S = 30


def check_workdir(workdir: str) -> None:
    """Make the folder unless it is there, try to write into it, and have all processes see what was written.

    Raises:
      ConfigError: that is not possible.
    """
    name = multihost.broadcast_from_main(lambda: _write_token(workdir))
    sees = multihost.all_gather_objects(_is_seen(os.path.join(workdir, name)))
    if multihost.is_main_process():
        os.remove(os.path.join(workdir, name))
    if not all(sees):
        blind = ", ".join(str(number) for number, sees_it in enumerate(sees) if not sees_it)
        raise ConfigError(
            f"this config cannot be run:\n  workdir={workdir!r}: what process 0 writes there is not seen by process "
            f"{blind}. All processes of a run need one folder, on a disk that they share"
        )


def _write_token(workdir: str) -> str:
    """The name of a file that was not there before."""
    name = f".seen_by_all_{uuid.uuid4().hex}"
    try:
        os.makedirs(workdir, exist_ok=True)
        with open(os.path.join(workdir, name), "wb") as file:
            file.write(b"room")
    except OSError as error:
        raise ConfigError(f"this config cannot be run:\n  workdir={workdir!r} cannot be written: {error}") from error
    return name


def _is_seen(path: str) -> bool:
    """Is the file there, now or after a while?"""
    for _ in range(VISIBLE_S):
        if os.path.exists(path):
            return True
        time.sleep(1)
    return False


def check_room(workdir: str, *, checkpoint: int, kept: int, model: int) -> None:
    """Will the checkpoints fit that are there at any time, and the trained model behind them?

    A checkpoint is complete before an older one is deleted, so that one more has to fit than are kept. What earlier
    ones of this run take up will be free again.

    Args:
      checkpoint, model: bytes of one checkpoint and of the trained model, before compression.
      kept: checkpoints that stay.

    Raises:
      ConfigError: with the numbers.
    """
    needed, free = checkpoint * (kept + 1) + model, shutil.disk_usage(workdir).free
    own = sum(_size_of(Path(workdir) / name) for name in ("checkpoints", "model"))
    if needed > free + own:
        beside = f" beside {_text(own)} of this run" if own else ""
        raise ConfigError(
            "this config cannot be run:\n"
            f"  workdir={workdir!r}: {_text(needed)} are needed, {_text(free)} are free{beside}. There will be {kept} "
            f"checkpoints (checkpoint.keep + checkpoint.keep_best) of {_text(checkpoint)}, one more while it is "
            f"written, and a model of {_text(model)}: keep fewer, or take another disk"
        )


def nbytes(tree: Any) -> int:
    """Bytes of all arrays, or shapes of arrays, in a tree."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def is_full(error: BaseException | None) -> bool:
    """Has a full disk led to this error?

    Libraries may have wrapped it, or have met another one while they cleaned up.
    """
    texts = [os.strerror(number) for number in FULL]
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL or any(text in str(error) for text in texts):
            return True
        error = error.__cause__ or error.__context__
    return False


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _text(size: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
