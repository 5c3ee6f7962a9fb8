"""A shortened quickstart for `fault_harness.py`: its config, the program that runs it, the comparison of its results.

The harness starts this file as a child process. It is `mig-jax` with a wrapper that writes to a file what the run is
doing, and that can make batches NaN. The file is also the run's config, as `--config=tools/fault_run.py:VARIANT`.
"""

import collections
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
STEPS, CHECKPOINT_EVERY = 12, 3
# Compilation takes most of such a run; these flags make it short.
XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

# --------------------------------------------------------------------------------------------------------- the config


def get_config(variant: str = "plain") -> Any:
    """Return the quickstart with few rows.

    Args:
      variant: "plain", or "algebra", whose answers only the verifier's workers can compare.
    """
    from tests import tiny

    c = tiny.get_quickstart(
        steps=STEPS, eval__every=4, checkpoint__every=CHECKPOINT_EVERY, checkpoint__keep=2, log__transcripts_every=2
    )
    c.rollout.questions, c.data.train_size = 4, 12  # an epoch ends every three steps
    if variant == "algebra":
        c.data.train = c.data.eval = f"jsonl:{os.environ['FAULT_HARNESS_ROWS']}"
        c.loss.alpha = 0.0
    return c


def write_algebra_problems(path: Path) -> None:
    """Write the data of the variant "algebra"."""
    rows = [
        {"id": str(n), "question": f"Last digits of 7 +{n % 10} -3", "answer": f"{n % 7 + 2}*x", "kind": "expression"}
        for n in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# -------------------------------------------------------------------------------------------------- the child process


def run_wrapped(phase_file: str, nan_steps: set[int], arguments: list[str]) -> None:
    """Run `mig-jax` with these arguments.

    Args:
      phase_file: receives the current phase: "load", "compile", "rollout", "update", "evaluation" or "export".
      nan_steps: steps whose batches are made NaN, counted from 1 in this process.
      arguments: of the command line.
    """
    from mig_jax import main
    from mig_jax.evaluation.evaluator import Evaluator
    from mig_jax.rollout.rollout import Rollout
    from mig_jax.trainer import run_state, train

    phases = PhaseFile(phase_file)
    phases.wrap(train, "load_policy", "load", is_compiled=False)
    phases.wrap(train, "save_policy", "export", is_compiled=False)
    phases.wrap(Evaluator, "metrics", "evaluation")
    phases.wrap(Rollout, "__call__", "rollout", change=NanInjector(nan_steps))
    phases.wrap(run_state, "build_update", "load", is_compiled=False, change=phases.wrap_update)
    sys.argv = ["mig-jax", *arguments]
    main.main()


class PhaseFile:
    """A file with the name of the phase that a run is in. The first call of a compiled function is phase "compile"."""

    def __init__(self, path: str):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT)
        self.known: set[str] = set()

    def write(self, phase: str, *, is_compiled: bool = True) -> None:
        """Write the phase that begins."""
        text = phase if phase in self.known or not is_compiled else "compile"
        self.known.add(phase)
        os.pwrite(self.file, text.ljust(16).encode(), 0)

    def wrap(
        self,
        owner: Any,
        attribute: str,
        phase: str,
        *,
        is_compiled: bool = True,
        change: Callable[[Any], Any] = lambda result: result,
    ) -> None:
        """Replace a function of a module or class by one that writes the phase first, and changes the result."""
        function = getattr(owner, attribute)

        def wrapped(*args, **kwargs):
            self.write(phase, is_compiled=is_compiled)
            return change(function(*args, **kwargs))

        setattr(owner, attribute, wrapped)

    def wrap_update(self, built: tuple[Any, Callable]) -> tuple[Any, Callable]:
        """Wrap the update in the result of `build_update`."""
        state, update = built

        def wrapped(*args):
            self.write("update")
            return update(*args)

        return state, wrapped


class NanInjector:
    """Puts a NaN into the batch of some rollouts, which are counted from 1."""

    def __init__(self, steps: set[int]):
        self.steps, self.count = steps, 0

    def __call__(self, result: Any) -> Any:
        self.count += 1
        if self.count not in self.steps:
            return result
        advantage_bt = result.batch.outcome_advantage_bt.at[0].set(float("nan"))
        return result._replace(batch=result.batch._replace(outcome_advantage_bt=advantage_bt))


# ------------------------------------------------------------------------------------------------------- the processes


class Bench(NamedTuple):
    """Folders and files of all runs. A run NAME has the workdir NAME, the output NAME.log and the phase NAME.phase.

    folder: holds everything.
    rows: data of the variant "algebra".
    """

    folder: Path
    rows: Path

    def start(
        self,
        name: str,
        *,
        workdir: Path | None = None,
        variant: str = "plain",
        cached: bool = True,
        nan_steps: str = "",
        options: Sequence[str] = (),
    ) -> subprocess.Popen:
        """Start a run in the background.

        Args:
          name: of the run.
          workdir: where it is not `folder`/NAME.
          variant: of the config.
          cached: use the compilation cache; otherwise the run compiles everything.
          nan_steps: steps whose batches are made NaN, such as "4,5".
          options: further flags of `mig-jax train`.
        """
        env = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": XLA_FLAGS, "FAULT_HARNESS_ROWS": str(self.rows)}
        env |= {
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        if not cached:
            env["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        command = [sys.executable, __file__, str(self.folder / f"{name}.phase"), nan_steps]
        command += ["train", f"--config={__file__}:{variant}", f"--workdir={workdir or self.folder / name}", *options]
        with open(self.log(name), "ab") as log:
            return subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=ROOT)

    def start_two(self, name: str) -> list[subprocess.Popen]:
        """Start a run of two processes with half of the rows each; they log as NAME_0 and NAME_1."""
        from tools.device_table import free_port

        flags = [f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", "--config.mesh.data=2"]
        return [
            self.start(f"{name}_{i}", workdir=self.folder / name, options=[*flags, f"--process_id={i}"])
            for i in range(2)
        ]

    def finish(self, name: str, **options) -> int:
        """Run to the end, with options of `start`; return the exit code."""
        return self.start(name, **options).wait()

    def log(self, name: str) -> Path:
        """Return the file with the output of a run."""
        return self.folder / f"{name}.log"

    def has_printed(self, name: str, text: str) -> bool:
        return text in self.log(name).read_text(errors="replace")

    def phase(self, name: str) -> str:
        """Return the phase that a run is in."""
        if is_writing_checkpoint(self.folder / name):
            return "checkpoint write"
        path = self.folder / f"{name}.phase"
        return path.read_text().strip() or "start" if path.exists() else "start"


def is_writing_checkpoint(workdir: Path) -> bool:
    return any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> bool:
    """Wait until the condition is true or the process has ended; return whether the condition came first."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.002)
    return False


# --------------------------------------------------------------------------------------------------------- the results


def differences(workdir: Path, expected_workdir: Path) -> list[str]:
    """Return what differs between the results of a run and those of the undisturbed run.

    Compared are rows of metrics without times, the model, transcripts and TensorBoard's points.
    """
    from mig_jax.records import metrics
    from tests.trainer.resume_test import timeless

    found, expected = (json.dumps(timeless(metrics.read_metrics(str(run))[1])) for run in (workdir, expected_workdir))
    different = [] if found == expected else ["rows"]
    for pattern in ("model/*", "transcripts/*.jsonl"):
        files = {path.relative_to(expected_workdir) for path in expected_workdir.glob(pattern)}
        files |= {path.relative_to(workdir) for path in workdir.glob(pattern)}
        different += [str(name) for name in sorted(files) if read(workdir, name) != read(expected_workdir, name)]
    if tensorboard_points(workdir) != tensorboard_points(expected_workdir):
        different.append("tensorboard")
    if is_writing_checkpoint(workdir):
        different.append("an unfinished checkpoint")
    return different


def read(workdir: Path, name: Path) -> bytes | None:
    """Return the bytes of a file of a run, or None. The model card has the name of its run, which is left out."""
    if not (workdir / name).exists():
        return None
    data = (workdir / name).read_bytes()
    if name.name == "README.md":
        data = data.replace(bytes(workdir), b"WORKDIR").replace(b"# %s, step" % workdir.name.encode(), b"# RUN, step")
    return data


def tensorboard_points(workdir: Path) -> dict[tuple[int, str], list[str]]:
    """Return (step, tag) → values, as TensorBoard shows them.

    It reads a file up to where it is truncated, and drops points that a later file marks as void.
    """
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue] made by protobuf

    points = collections.defaultdict(list)
    for path in sorted((workdir / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while len(data) >= 16 + (length := int.from_bytes(data[:8], "little")) and length:
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            if event.HasField("session_log"):
                points = collections.defaultdict(list, {key: v for key, v in points.items() if key[0] < event.step})
            for value in event.summary.value:
                if not value.tag.startswith(("time/", "memory/")):
                    points[event.step, value.tag].append(repr(value.simple_value))
    return dict(points)


if __name__ == "__main__":
    run_wrapped(sys.argv[1], set(map(int, filter(None, sys.argv[2].split(",")))), sys.argv[3:])
