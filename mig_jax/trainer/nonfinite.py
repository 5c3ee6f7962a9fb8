"""End a run whose updates are all skipped because loss or gradient is not finite, and save the batch."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mig_jax.distributed import multihost, sharding
from mig_jax.errors import UserError
from mig_jax.learning.losses import Batch


class NotFiniteError(UserError):
    """Too many updates in a row were skipped."""


def error_of(
    train_metrics: Mapping[str, Any], batch: Batch, *, limit: int, workdir: str, done: int
) -> NotFiniteError | None:
    """Return the error that ends a run after `limit` skipped updates in a row, or None; writes the last batch.

    Args:
      train_metrics: of the last update, on the host.
      batch: of the last update.
      limit: `optimizer.max_skipped`.
      workdir: where the batch is written.
      done: number of steps done.
    """
    skipped = int(train_metrics["gradient/skipped_in_a_row"])
    if skipped < limit:
        return None
    path = os.path.join(workdir, f"not_finite_{done:06d}.npz")
    write_batch(batch, path)
    return NotFiniteError(
        f"loss or gradient was not finite in the last {skipped} updates (optimizer.max_skipped={limit}). They were "
        f"skipped: checkpoint {done} has the parameters from before them. The batch of the last one is in {path}: look "
        "there for non-finite numbers, or try a lower optimizer.peak_lr in a new workdir"
    )


def write_batch(batch: Batch, path: str) -> None:
    """Write a batch as an .npz file, one array per field."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(sharding.to_host(batch))
    if not multihost.is_main_process():
        return
    arrays: dict[str, Any] = {
        jax.tree_util.keystr(path, simple=True, separator="/"): _as_numpy(leaf) for path, leaf in leaves
    }
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def _as_numpy(leaf: Any) -> np.ndarray:
    """Convert to numpy; bfloat16 becomes float32, since .npz files lack it."""
    array = np.asarray(leaf)
    return array.astype(np.float32) if array.dtype.kind == "V" else array
