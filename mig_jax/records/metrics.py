"""Where the numbers of a run go: a line in the terminal, a row in `metrics.jsonl`, points in TensorBoard.

`metrics.jsonl` is the record from which everything else is drawn. Its first line is {"config": …}, every other line a
row {"step": 12, "reward/accuracy": 0.84, …}; a step may have several rows. A row is on its way to the disk before the
next step begins, so a killed run loses at most a torn last line, and a resumed one has the rows of one never killed.
"""

import collections
import contextlib
import json
import math
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tqdm import tqdm

from mig_jax.distributed import multihost
from mig_jax.text.answers.verifier import Verifier

FILE_NAME = "metrics.jsonl"

# What the terminal shows of a row, when it is there.
HEADLINE = (
    ("reward/accuracy", "accuracy"),
    ("reward/format", "format"),
    ("reward/process", "process"),
    ("reward/gate", "gate"),
    ("rollout/length", "tokens"),
    ("policy/entropy", "entropy"),
    ("gradient/norm", "gradient"),
    ("loss/sft", "sft loss"),
    ("eval/sampled", "eval sampled"),
    ("eval/greedy", "eval greedy"),
    ("time/tokens_per_second", "tokens/s"),
    ("time/seconds", "seconds"),
)


class Metrics:
    """The open sinks of a run; made by `open_metrics`, closed by `close` or at the end of a `with` block."""

    def __init__(self, path: str, tensorboard: EventsWriter):
        self.file = open(path, "a", encoding="utf-8")
        self.tensorboard = tensorboard

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one row to every sink.

        Args:
          step: the step that the numbers are of.
          values: numbers by name; Python, numpy or JAX scalars (bring those of an accelerator to the host first).

        Raises:
          ValueError: names whose value is not a single number, or the reserved name `step`.
        """
        row = _floats(values)
        self.file.write(_row_text({"step": step} | row))
        self.file.flush()
        points = [Summary.Value(tag=name, simple_value=value) for name, value in row.items()]
        self.tensorboard.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))
        self.tensorboard.flush()
        tqdm.write(headline(step, row))

    def close(self) -> None:
        with contextlib.closing(self.tensorboard):
            self.file.close()

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


class NoMetrics(contextlib.nullcontext):
    """In the place of `Metrics` on all processes but the first."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes nothing."""

    def __enter__(self) -> "NoMetrics":
        return self


def open_metrics(workdir: str, *, config: Mapping[str, Any], resume_step: int | None) -> Metrics | NoMetrics:
    """Opens the sinks of a run, which the first process alone writes.

    Args:
      workdir: gets `metrics.jsonl` and the folder `tensorboard`.
      config: JSON-able, the first line of the record.
      resume_step: the first step that is still to come. What an earlier, killed run has written of it and of later
        steps is dropped from both records. None begins new ones.
    """
    if not multihost.is_main_process():
        return NoMetrics()
    os.makedirs(workdir, exist_ok=True)
    path = os.path.join(workdir, FILE_NAME)
    first_step = resume_step or 0
    rows = read_metrics(path)[1] if os.path.exists(path) and first_step > 0 else []
    kept = [row for row in rows if row["step"] < first_step]
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        file.writelines(map(_row_text, [{"config": config}, *kept]))
    os.replace(path + ".tmp", path)
    return Metrics(path, _open_tensorboard(os.path.join(workdir, "tensorboard"), first_step))


def _open_tensorboard(folder: str, first_step: int) -> EventsWriter:
    """A new event file, which begins with word that points of `first_step` and later ones in other files are void.

    Not a SummaryWriter: its events go through a thread, which dies of a full disk without a word to anybody.
    """
    os.makedirs(folder, exist_ok=True)
    # The suffix keeps two files apart that are opened within one second.
    writer = EventsWriter(os.path.join(folder, "events"), f".from_{first_step}")
    begin = SessionLog(status=SessionLog.START)
    writer.write_event(Event(wall_time=time.time(), step=first_step, session_log=begin))
    return writer


def read_metrics(path: str) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """The config and the rows of a run, given its workdir or its `metrics.jsonl`.

    A last line without its end is what a kill leaves behind; it is left out.

    Raises:
      ValueError: when another line is broken, or the first one holds no config.
    """
    if os.path.isdir(path):
        path = os.path.join(path, FILE_NAME)
    with open(path, encoding="utf-8") as file:
        *lines, _ = file.read().split("\n")
    rows = [_parse_row(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]
    if not rows or "config" not in rows[0]:
        raise ValueError(f"{path} does not begin with a config")
    return rows[0]["config"], [{"step": row.pop("step")} | _floats(row) for row in rows[1:]]


def headline(step: int, row: Mapping[str, float]) -> str:
    """One line for the terminal: the best known numbers of a row, or all of them when it has none of these."""
    shown = [(label, row[name]) for name, label in HEADLINE if name in row] or list(row.items())
    return f"step {step:>5}  " + "  ".join(f"{label} {value:.3g}" for label, value in shown)


def column(rows: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps and the values, both `[n]`, of the rows that have a number under this name."""
    points = [(row["step"], row[name]) for row in rows if name in row]
    return tuple(np.array(points, dtype=float).reshape(-1, 2).T)


class LogWindow:
    """The steps since the last row of metrics: how long they took, how many tokens they had, where the time went."""

    def __init__(self, verifier: Verifier):
        self.start, self.tokens, self.seconds = time.perf_counter(), 0.0, collections.Counter()
        self.verifier, self.restarts = verifier, verifier.restarts
        self.timeouts, self.last = 0.0, {}

    def add(self, numbers: dict[str, float]) -> None:
        """One more step was collected."""
        self.tokens += numbers["rollout/tokens"]
        self.timeouts += numbers["verifier/timeouts"]
        self.seconds.update({name: value for name, value in numbers.items() if name.startswith("time/")})
        self.last = {name: value for name, value in numbers.items() if not name.startswith("time/")}

    def summary(self, learned: dict[str, Any]) -> dict[str, float]:
        """A row of metrics: the last step's numbers; tokens a second and shares of the time of all steps since `start`.

        What is not collecting is training. All processes must call this: their workers are counted together.
        """
        total = time.perf_counter() - self.start
        seconds = self.seconds | {"time/train": total - sum(self.seconds.values())}
        shares = {f"{name}_share": value / total for name, value in seconds.items()}
        speed = {"time/seconds": total, "time/tokens_per_second": self.tokens / total}
        restarts = sum(multihost.all_gather_objects(self.verifier.restarts - self.restarts))
        speed |= {"verifier/timeouts": self.timeouts, "verifier/restarts": restarts}
        numbers = {name: float(value) for name, value in learned.items()}
        return self.last | numbers | speed | shares | peak_memory()


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    wrong = [name for name, value in values.items() if np.ndim(value) != 0 or name == "step"]
    if wrong:
        raise ValueError(f"not single numbers, or a reserved name: {', '.join(wrong)}")
    return {name: float(value) for name, value in values.items()}


def _row_text(row: Mapping[str, Any]) -> str:
    # JSON has no nan and no infinity; as texts they stay readable for every parser, and float() reads them back.
    plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(plain, ensure_ascii=False) + "\n"


def _parse_row(line: str, where: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from error


def peak_memory() -> dict[str, float]:
    """The most memory so far, in GiB: of this process on the host, and of its first device where that can tell."""
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"memory/host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    on_device = jax.local_devices()[0].memory_stats()
    if on_device:
        peak["memory/device_gib"] = on_device["peak_bytes_in_use"] / 2**30
    return peak
