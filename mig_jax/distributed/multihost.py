"""A run of several processes, each with devices of its own: how they find each other, and stay of one mind.

All run the same program and come by the same calls of this file in the same order. What they tell each other must be
JSON; it travels over the devices, as everything else does.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

# A process that was not heard of for so long is dead, and the others end.
HEARTBEAT_S = 60
# So long a process that ends waits for the others to end with it.
SHUTDOWN_S = 30

# Where launchers say how many processes they have started.
LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")

# How the errors of devices begin that come without a class of their own.
_STATUS = re.compile(r"(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED|FAILED_PRECONDITION)\b")
# Errors of which every process knows, so that none waits for another.
_known: list[BaseException] = []

T = TypeVar("T")


class PeerError(ValueError):
    """Another process of this run cannot go on, for the reason given."""


def count_launched() -> int:
    """How many processes a launcher has started, as far as it says so; 1 where there is none."""
    return max(int(os.environ.get(name, 1)) for name in LAUNCHERS)


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Join the other processes of this run, before anything touches a device.

    Those that are named by hand, with all three arguments; else those that SLURM or Open MPI has launched, if they are
    several; else those of a TPU pod. Everywhere else this does nothing.
    """
    # Signals are ours, see `stopping`.
    jax.config.update("jax_enable_preemption_service", False)
    limits = {"heartbeat_timeout_seconds": HEARTBEAT_S, "shutdown_timeout_seconds": SHUTDOWN_S}
    if coordinator:
        # Otherwise jax would leave a process that SLURM has started one GPU alone.
        by_hand = {"cluster_detection_method": "deactivate"}
        jax.distributed.initialize(coordinator, num_processes, process_id, **by_hand, **limits)
    elif count_launched() > 1:
        jax.distributed.initialize(num_processes=count_launched(), **limits)
    elif (jax.config.jax_platforms or "").startswith("tpu"):  # which jax itself has set where there are TPUs
        _start_on_tpu(limits)
    if jax.distributed.is_initialized() and not is_main_process():
        _be_quiet()


def _start_on_tpu(limits: dict[str, int]) -> None:
    try:
        jax.distributed.initialize(**limits)
    except ValueError as error:
        if "coordinator_address" not in str(error):
            raise
        # TPUs that nobody calls a pod: there are no others.


def _be_quiet() -> None:
    """What all processes would say alike is said by the first one alone; faults are said by whom they befall."""
    os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
    sys.stdout = open(os.devnull, "w")
    logging.set_verbosity(logging.ERROR)


def is_main_process() -> bool:
    """Is this the process that writes what is written once?"""
    return jax.process_index() == 0


def all_gather_objects(value: Any) -> list[Any]:
    """What every process has for `value`, in the order of the processes, on each of them."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length_p = multihost_utils.process_allgather(np.int32(len(text)))
    # Few different widths, because each is compiled once.
    padded = np.zeros(1 << int(length_p.max() - 1).bit_length(), np.uint8)
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, length_p, strict=True)]


def sync_errors(do: Callable[[], T]) -> T:
    """What `do` gives here; when it fails on one process all raise, so that none waits for one that is gone.

    Raises:
      FailedElsewhere: it has failed on other processes only. What fails here is raised as it is.
    """
    result, error = None, None
    try:
        result = do()
    except Exception as caught:
        error = caught
    faults = all_gather_objects(error and f"{type(error).__name__}: {error}")
    if error:
        _known.append(error)
        raise error
    if any(faults):
        listed = "\n".join(f"process {number}: {fault}" for number, fault in enumerate(faults) if fault)
        raise PeerError(listed)
    return result


def broadcast_from_main(do: Callable[[], T]) -> T:
    """What `do` gives on the first process, which alone does it, on all of them.

    Raises:
      FailedElsewhere: it has failed there.
    """
    return all_gather_objects(sync_errors(do if is_main_process() else lambda: None))[0]


def split_work(items: list[Any], do: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """`do(items)`, of which every process does an equal part: the results of all, in order, on each.

    `items` are the same on all processes, and need not be JSON.
    """
    count = jax.process_count()
    dealt = all_gather_objects(sync_errors(lambda: do(items[jax.process_index() :: count])))
    return [dealt[n % count][n // count] for n in range(len(items))]


def assert_equal_across_processes(values: dict[str, Any]) -> None:
    """Raises:
    ValueError: on all processes, with the names of the values, JSON each, that are not the same on all.
    """
    first, *others = all_gather_objects(
        {name: hashlib.sha256(json.dumps(x).encode()).hexdigest() for name, x in values.items()}
    )
    different = sorted(name for name in first if any(other.get(name) != first[name] for other in others))
    if different:
        error = ValueError(
            f"not the same on all processes of this run: {', '.join(different)}; give all the same command, and the "
            "same files (data.dir is a folder on each machine)"
        )
        _known.append(error)
        raise error


def may_be_peer_failure(error: BaseException | None) -> bool:
    """May this error come from the end of another process? Then nothing that needs the others will come to an end."""
    is_of_devices = isinstance(error, ValueError) and _STATUS.match(str(error))
    return bool(jax.process_count() > 1 and (is_of_devices or isinstance(error, jax.errors.JaxRuntimeError)))


def abort_on_peer_failure(error: Exception, said: str) -> None:
    """End this process at once, with what it has to say, when the others do not know that it cannot go on.

    They would be waited for otherwise, and wait for it; so they notice, and end, too.

    Args:
      said: a sentence, or a stack trace.
    """
    if jax.process_count() == 1 or isinstance(error, PeerError) or any(error is known for known in _known):
        return
    print(said, file=sys.stderr)
    if may_be_peer_failure(error):
        why = "most likely because another process of this run has ended; the same command goes on"
        print(f"mig-jax: this process ends, {why}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)
