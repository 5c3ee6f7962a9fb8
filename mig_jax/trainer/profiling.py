"""Traces of chosen steps by `jax.profiler`, to be read with TensorBoard's profile plugin, XProf or Perfetto."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax

from mig_jax.distributed import multihost

FOLDER = "profile"


@contextlib.contextmanager
def trace_step(workdir: str, *, is_due: bool, result: Callable[[], Any]) -> Iterator[None]:
    """Trace the block, with the programs that it starts, to `workdir/profile`. Only the main process does.

    Args:
      workdir: folder of the run.
      is_due: False runs the block as it is.
      result: returns the arrays that the block computes; the trace ends when they are there.
    """
    if not is_due or not multihost.is_main_process():
        yield
        return
    with jax.profiler.trace(os.path.join(workdir, FOLDER)):
        yield
        jax.block_until_ready(result())
