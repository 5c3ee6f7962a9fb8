"""Runs of several processes, each with its own devices: start-up, exchange of values, and errors.

All processes run the same program and call the functions of this file in the same order. Exchanged values must be JSON
serializable; they travel over the devices, as all other data does.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from mig_jax.errors import UserError

# Seconds without a heartbeat after which a process counts as dead and the others exit.
HEARTBEAT_S = 60
# Seconds that a process waits at its end for the others to end.
SHUTDOWN_S = 30

# Environment variables in which launchers give the number of processes they started.
_TASK_COUNT_VARIABLES = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")

# First words of device errors, which have no class of their own.
_DEVICE_STATUS = re.compile(r"(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION)\b")
# Errors that every process knows of, so that none waits for another.
_synced_errors: list[BaseException] = []

T = TypeVar("T")


class PeerError(UserError):
    """Another process of this run has failed, for the reason given; that process shows the stack trace."""


# ------------------------------------------------------------------------------------------------------------ start-up


def count_launched() -> int:
    """Return how many processes SLURM or Open MPI has started; 1 without a launcher."""
    return max(int(os.environ.get(name, 1)) for name in _TASK_COUNT_VARIABLES)


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Connect to the other processes of this run; must be called before any device is used.

    With all three arguments, connects to the processes that they describe. Otherwise connects to those that SLURM or
    Open MPI has launched, if there are several, or to those of a TPU pod. Does nothing in all other cases.

    Args:
      coordinator: address of process 0, "host:port".
      num_processes: number of processes.
      process_id: index of this process.
    """
    timeouts: dict[str, Any] = {"heartbeat_timeout_seconds": HEARTBEAT_S}
    # Without these two, a process waits up to five minutes at exit for one that is gone, and jax's handler of SIGTERM
    # is replaced by that of `trainer.preemption`.
    if jax.__version_info__ >= (0, 8, 2):
        jax.config.update("jax_enable_preemption_service", False)  # mig-jax catches SIGTERM itself
        timeouts["shutdown_timeout_seconds"] = SHUTDOWN_S
    if coordinator:
        # Without this, jax would give a process started by SLURM a single GPU.
        jax.distributed.initialize(
            coordinator, num_processes, process_id, cluster_detection_method="deactivate", **timeouts
        )
    elif count_launched() > 1:
        jax.distributed.initialize(num_processes=count_launched(), **timeouts)
    elif _platforms().startswith("tpu"):  # jax sets this where it finds TPUs
        _initialize_tpu_pod(timeouts)
    if jax.distributed.is_initialized() and not is_main_process():
        _silence_output()


def _platforms() -> str:
    config: Any = jax.config  # its attributes are defined at run time
    return config.jax_platforms or ""


def _initialize_tpu_pod(timeouts: dict[str, Any]) -> None:
    try:
        jax.distributed.initialize(**timeouts)
    except ValueError as error:
        # TPUs that are not part of a pod: there are no other processes.
        if "coordinator_address" not in str(error):
            raise


def _silence_output() -> None:
    """Suppress the output that all processes share; the main process prints it. Errors are still printed."""
    os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
    sys.stdout = open(os.devnull, "w")
    logging.set_verbosity(logging.ERROR)


def is_main_process() -> bool:
    """Return whether this process writes the files that are written once."""
    return jax.process_index() == 0


# ------------------------------------------------------------------------------------------------------------ exchange


def all_gather_objects(value: Any) -> list[Any]:
    """Return the `value` of every process, in the order of processes.

    Args:
      value: JSON serializable; any object if there is one process.
    """
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length_p = multihost_utils.process_allgather(np.int32(len(text)))
    # Widths are powers of two, because each width is compiled once.
    padded = np.zeros(1 << int(length_p.max() - 1).bit_length(), np.uint8)
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, length_p, strict=True)]


def sync_errors(fn: Callable[[], T]) -> T:
    """Call `fn` on every process and return its result; if it fails on any, raise on all, so that none hangs.

    Raises:
      PeerError: `fn` failed on other processes only. An error of this process is raised as it is.
    """
    result, error = None, None
    try:
        result = fn()
    except Exception as caught:
        error = caught
    messages = all_gather_objects(error and f"{type(error).__name__}: {error}")
    if error:
        _synced_errors.append(error)
        raise error
    if any(messages):
        raise PeerError("\n".join(f"process {i}: {message}" for i, message in enumerate(messages) if message))
    return cast(T, result)


def broadcast_from_main(fn: Callable[[], T]) -> T:
    """Call `fn` on the main process only and return its result, JSON serializable, on all processes.

    Raises:
      PeerError: `fn` failed on the main process; there the error itself is raised.
    """
    return all_gather_objects(sync_errors(fn if is_main_process() else lambda: None))[0]


def split_work(items: list[Any], fn: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """Return `fn(items)`, of which every process computes an equal share.

    Args:
      items: the same on all processes; need not be JSON serializable.
      fn: list of items to list of results, JSON serializable, in the same order.
    """
    count = jax.process_count()
    shares = all_gather_objects(sync_errors(lambda: fn(items[jax.process_index() :: count])))
    return [shares[n % count][n // count] for n in range(len(items))]


def assert_equal_across_processes(values: dict[str, Any]) -> None:
    """Check that all processes have the same values.

    Args:
      values: JSON serializable values by name.

    Raises:
      UserError: on all processes, with the names of the values that differ.
    """
    digests = {name: hashlib.sha256(json.dumps(x).encode()).hexdigest() for name, x in values.items()}
    first, *others = all_gather_objects(digests)
    different = sorted(name for name in first if any(other.get(name) != first[name] for other in others))
    if different:
        error = UserError(
            f"not the same on all processes of this run: {', '.join(different)}; give all processes the same command "
            "and the same files (data.dir is a folder on each machine)"
        )
        _synced_errors.append(error)
        raise error


# ------------------------------------------------------------------------------------------------------ failing peers


def may_be_peer_failure(error: BaseException | None) -> bool:
    """Return whether the end of another process may have caused this error, so that any collective would hang."""
    is_device_error = isinstance(error, ValueError) and _DEVICE_STATUS.match(str(error))
    return bool(jax.process_count() > 1 and (is_device_error or isinstance(error, jax.errors.JaxRuntimeError)))


def abort_on_peer_failure(error: Exception, message: str) -> None:
    """Print the message and exit at once, unless the other processes know of the error.

    A regular exit would wait for the others while they wait for this process. After an abort they notice and exit too.
    Does nothing with one process, or if every process knows of the error.

    Args:
      error: what ended this process.
      message: what to print: one sentence, or a stack trace.
    """
    is_synced = isinstance(error, PeerError) or any(error is synced for synced in _synced_errors)
    if jax.process_count() == 1 or is_synced:
        return
    print(message, file=sys.stderr)
    if may_be_peer_failure(error):
        print(
            "mig-jax: exiting, most likely because another process of this run has ended; rerun the same command to "
            "resume",
            file=sys.stderr,
        )
    sys.stderr.flush()
    os._exit(1)
