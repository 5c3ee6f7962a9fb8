"""Updates whose loss or gradient is not finite: the step itself skips them, and too many in a row end the run."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mig_jax.distributed import multihost, sharding
from mig_jax.learning.losses import Batch


class NotFiniteError(ValueError):
    """Nothing but skipped updates: going on would waste time."""


def error_of(learned: Mapping[str, Any], batch: Batch, *, limit: int, workdir: str, done: int) -> NotFiniteError | None:
    """What ends a run after `limit` skipped updates in a row, the batch of the last one written; None before.

    Args:
      learned: metrics of the last update, on the host.
      batch: that of the last update.
      done: rollouts or batches so far.
    """
    in_a_row = int(learned["gradient/skipped_in_a_row"])
    if in_a_row < limit:
        return None
    path = os.path.join(workdir, f"not_finite_{done:06d}.npz")
    write_batch(batch, path)
    return NotFiniteError(
        f"the loss or its gradient was not finite in the last {in_a_row} updates (optimizer.max_skipped={limit}). They "
        f"were skipped: the weights are those before them, and saved as checkpoint {done}. The batch of the last one "
        f"is in {path}; look there for what is not finite, or try a lower optimizer.peak_lr in another workdir"
    )


def write_batch(batch: Batch, path: str) -> None:
    """A batch as an .npz file of plain arrays, each under its name; bfloat16, which numpy lacks, as float32."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(sharding.to_host(batch))
    if not multihost.is_main_process():
        return
    arrays = {jax.tree_util.keystr(where, simple=True, separator="/"): np.asarray(leaf) for where, leaf in leaves}
    with open(path, "wb") as file:
        np.savez(file, **{name: x.astype(np.float32) if x.dtype.kind == "V" else x for name, x in arrays.items()})
