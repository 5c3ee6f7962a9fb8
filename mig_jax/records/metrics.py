"""Metrics of a run: a line in the terminal, a row in `metrics.jsonl`, and what `log.writers` names (`writers`).

`metrics.jsonl` is the primary record; plots are drawn from it. Its first line is {"config": …}. Every other line is a
row {"step": 12, "reward/accuracy": 0.84, …}; a step may have several rows. A row is written before the next step
begins. So a killed run loses at most an incomplete last line, and a resumed run has the same rows as an uninterrupted
one.
"""

import contextlib
import json
import math
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np
from tqdm import tqdm

from mig_jax.distributed import multihost
from mig_jax.errors import UserError
from mig_jax.records import compile_timer
from mig_jax.records.atomic_file import replace_file
from mig_jax.records.writers import Writer, open_writers
from mig_jax.text.answers.verifier import Verifier

FILE_NAME = "metrics.jsonl"

# The metrics of the terminal line, with their labels there: of RL, SFT and evaluation. docs/metrics.md explains them.
TERMINAL_METRICS = {
    "reward/accuracy": "accuracy",
    "reward/format": "format",
    "reward/process": "process",
    "rollout/length": "tokens",
    "policy/entropy": "entropy",
    "time/seconds": "seconds",
    "gradient/norm": "gradient",
}
SFT_TERMINAL_METRICS = {
    "loss/sft": "sft loss",
    "policy/entropy": "entropy",
    "gradient/norm": "gradient",
    "time/tokens_per_second": "tokens/s",
    "time/seconds": "seconds",
}
EVAL_TERMINAL_METRICS = {
    "eval/sampled": "eval sampled",
    "eval/greedy": "eval greedy",
    "eval/format": "eval format",
}
TERMINAL_WIDTH = 100


class MetricsWriter:
    """The open outputs of a run's metrics, made by `open_metrics`; closed by `close` or by a `with` block."""

    def __init__(self, path: str, writers: Sequence[Writer]):
        self.file = open(path, "a", encoding="utf-8")
        self.writers = writers

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one row to every output.

        Args:
          step: training step of the values.
          values: numbers by name: Python, NumPy or JAX scalars (move those on an accelerator to the host first).

        Raises:
          ValueError: a value is not a single number, or a name is the reserved `step`; lists the names.
        """
        row = _to_floats(values)
        self.file.write(_to_line({"step": step} | row))
        self.file.flush()
        for writer in self.writers:
            writer.write(step, row)
        tqdm.write(terminal_line(step, row))

    def close(self) -> None:
        """Close all outputs."""
        with contextlib.ExitStack() as stack:
            for writer in self.writers:
                stack.callback(writer.close)
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class NullMetricsWriter(MetricsWriter):
    """Writes nothing; used on every process except the main one."""

    def __init__(self):
        pass

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


def open_metrics(workdir: str, *, config: Mapping[str, Any], resume_step: int | None) -> MetricsWriter:
    """Open the outputs of a run's metrics; only the main process writes them.

    Args:
      workdir: folder of `metrics.jsonl` and of what the writers write.
      config: JSON-serializable; the first line of `metrics.jsonl`. Its `log.writers` are opened.
      resume_step: first step still to be run. Rows of this and later steps, written by an earlier, killed run, are
        dropped from both outputs. None starts new ones.

    Raises:
      UserError: the workdir cannot be written, its `metrics.jsonl` cannot be read, or a writer cannot be opened.
    """
    if not multihost.is_main_process():
        return NullMetricsWriter()
    path = os.path.join(workdir, FILE_NAME)
    first_step = resume_step or 0
    rows = read_metrics(path)[1] if os.path.exists(path) and first_step > 0 else []
    kept = [row for row in rows if row["step"] < first_step]
    with replace_file(path) as file:
        file.writelines(map(_to_line, [{"config": config}, *kept]))
    names = tuple(config["log"]["writers"])
    return MetricsWriter(path, open_writers(names, workdir, config, resume_step))


def read_metrics(path: str) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Read the config and the rows of a run.

    An incomplete last line, left by a killed run, is ignored.

    Args:
      path: of the workdir or of its `metrics.jsonl`.

    Raises:
      UserError: the file cannot be read, does not begin with a config, or another line is malformed.
    """
    if os.path.isdir(path):
        path = os.path.join(path, FILE_NAME)
    try:
        with open(path, encoding="utf-8") as file:
            *lines, _ = file.read().split("\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    places = [f"{path}, line {number}" for number in range(1, len(lines) + 1)]
    parsed = [_parse_line(line, place) for line, place in zip(lines, places, strict=True)]
    if not parsed or "config" not in parsed[0]:
        raise UserError(f"{path} does not begin with a config")
    return parsed[0]["config"], [_parse_row(row, place) for row, place in zip(parsed[1:], places[1:], strict=True)]


def terminal_line(step: int, row: Mapping[str, float]) -> str:
    """Return the terminal line of a row: its main metrics, as many as fit in `TERMINAL_WIDTH` columns."""
    kinds = (TERMINAL_METRICS, SFT_TERMINAL_METRICS, EVAL_TERMINAL_METRICS)
    labels = next((labels for labels in kinds if next(iter(labels)) in row), {name: name for name in row})
    line = f"step {step:>5}"
    for name, label in labels.items():
        item = f"  {label} {row[name]:.3g}" if name in row else ""
        line += item if len(line + item) <= TERMINAL_WIDTH else ""
    return line


def column(rows: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and the values, both `[n]`, of the rows that have a metric."""
    points = [(row["step"], row[name]) for row in rows if name in row]
    steps, values = np.array(points, dtype=float).reshape(-1, 2).T
    return steps, values


# Metrics that count since the start of the run: a row has their last value.
COUNTERS = ("gradient/skipped", "gradient/skipped_in_a_row")


class LogWindow:
    """Metrics of the steps since the last logged row.

    start: `time.perf_counter()` at the beginning; move it forward by the seconds of anything that is not to be counted.
    """

    def __init__(self, verifier: Verifier):
        self.start = time.perf_counter()
        self._steps: list[Mapping[str, Any]] = []
        self._updates: list[Mapping[str, Any]] = []
        self._verifier, self._restarts_before = verifier, verifier.restarts
        self._programs_before = len(compile_timer.compiled_programs())

    def add(self, rollout_metrics: Mapping[str, Any], updates: Sequence[Mapping[str, Any]] = ()) -> None:
        """Add the metrics of one step: those of its rollout, and those of each of its updates.

        They may be on an accelerator; `summary` fetches them.
        """
        self._steps.append(rollout_metrics)
        self._updates += updates

    def state(self) -> dict[str, list[dict[str, float]]]:
        """Return what was added, ready for JSON, for a run that is stopped before its next row."""
        steps, updates = jax.device_get((self._steps, self._updates))
        return {"steps": [_to_floats(row) for row in steps], "updates": [_to_floats(row) for row in updates]}

    def restore(self, state: Mapping[str, list[dict[str, float]]]) -> None:
        """Add what a stopped run had added; `state` is that of `state()`."""
        self._steps += state["steps"]
        self._updates += state["updates"]

    def compiled_programs(self) -> list[str]:
        """Return the names of the programs that were compiled in these steps."""
        return compile_timer.compiled_programs()[self._programs_before :]

    def summary(self) -> dict[str, float]:
        """Return a row of metrics.

        The row has the means of the steps' metrics, over the steps that have them, and the means of the updates'
        metrics. It has the tokens per second, the time-outs, the worker restarts of all processes, the programs that
        were compiled, and each stage's share of the time. Time outside of the rollout's stages counts as training. All
        processes must call this together.
        """
        steps, updates = jax.device_get((self._steps, self._updates))  # waits for the last update
        total = time.perf_counter() - self.start
        seconds = {name: float(sum(x)) for name, x in _by_name(steps).items() if name.startswith("time/")}
        seconds["time/train"] = total - sum(seconds.values())
        shares = {f"{name}_share": value / total for name, value in seconds.items()}
        tokens, timeouts = (sum(step[name] for step in steps) for name in ("rollout/tokens", "verifier/timeouts"))
        throughput = {"time/seconds": total, "time/tokens_per_second": tokens / total}
        restarts = sum(multihost.all_gather_objects(self._verifier.restarts - self._restarts_before))
        verifier = {"verifier/timeouts": timeouts, "verifier/restarts": restarts}
        means = {name: float(np.mean(x)) for name, x in _by_name([*steps, *updates]).items() if name not in seconds}
        counters = {name: float(updates[-1][name]) for name in COUNTERS if updates and name in updates[-1]}
        compiled = {"time/programs_compiled": len(self.compiled_programs())}
        return means | counters | throughput | verifier | compiled | shares | peak_memory()


def _by_name(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of each name, over the rows that have it."""
    values: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            # As Python's floats, so that restored values give the same means.
            values[name].append(float(value))
    return values


def peak_memory() -> dict[str, float]:
    """Return the peak memory so far, in GiB: of this process on the host and, if reported, of its first device."""
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"memory/host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    device_stats = jax.local_devices()[0].memory_stats()
    if device_stats:
        peak["memory/device_gib"] = device_stats["peak_bytes_in_use"] / 2**30
    return peak


def _to_floats(values: Mapping[str, Any]) -> dict[str, float]:
    wrong = [name for name, value in values.items() if np.ndim(value) != 0 or name == "step"]
    if wrong:
        raise ValueError(f"not a single number, or a reserved name: {', '.join(wrong)}")
    return {name: float(value) for name, value in values.items()}


def _to_line(row: Mapping[str, Any]) -> str:
    # JSON has no nan and no infinity. As strings, every parser can read them, and float() converts them back.
    plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(plain, ensure_ascii=False) + "\n"


def _parse_line(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{place} is not a JSON object")
    return row


def _parse_row(row: dict[str, Any], place: str) -> dict[str, float]:
    if not isinstance(row.get("step"), int):
        raise UserError(f"{place} has no step")
    try:
        return {"step": row.pop("step")} | _to_floats(row)
    except (TypeError, ValueError) as error:
        raise UserError(f"{place}: {error}") from error
