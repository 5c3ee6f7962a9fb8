"""Run mig_jax on this machine's accelerator, part by part, and print one table of what works and how fast.

    python tools/on_gpu.py --out=/tmp/on_gpu
    python tools/on_gpu.py --small                          tiny shapes, for a machine without an accelerator

The parts, each in a process of its own, whose output goes to OUT/PART.log:

  environment     devices, driver, compute capability, versions
  attention       each attention kernel of the device in bfloat16, against float32: values and gradients
  mig, grpo       steps of a model of Qwen2.5-0.5B's shape with random parameters: seconds, tokens/s, peak memory
  large           MIG with 512 rows of 1,024 new tokens
  tests           the tests of kernels, attention, sampler, probes and train step
  quickstart      the quickstart: 3 steps, then all of it in float32 and in bfloat16, with its accuracy

The timed parts run one after another, then the tests and the quickstarts side by side. A part that fails is reported,
and the others still run. The table is in OUT/table.md, its numbers in OUT/results.json. The exit code is 1 if anything
failed.
"""

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# Parts of `on_gpu_parts.py`; they use the accelerator alone.
TIMED = ("attention", "mig", "grpo", "large")
# Names of quickstart runs -> changes to the config, and the least accuracy of sampled answers at the end.
QUICKSTARTS = {
    "quickstart_short": (("steps=3", "data.eval_size=32"), 0.0),
    "quickstart": ((), 0.85),
    "quickstart_bfloat16": (("model.compute_dtype=bfloat16",), 0.85),
}
PARTS = ("environment", *TIMED, "tests", *QUICKSTARTS)
TESTS = (
    "tests/models/attention_test.py", "tests/models/sampler_test.py", "tests/models/decoder_test.py", "tests/rewards",
    "tests/learning/train_step_test.py", "tests/learning/losses_test.py", "tests/policy/generate_test.py",
    "tests/rollout/batch_test.py",
)  # fmt: skip
# Seconds after which a part is killed.
PART_LIMIT_S = 600


class Row(NamedTuple):
    """A line of the table. is_ok: whether a check passed; None for a number that is only reported."""

    part: str
    measure: str
    value: str
    limit: str = ""
    is_ok: bool | None = None


class Running(NamedTuple):
    """A part under way: its process, and when it started."""

    part: str
    process: subprocess.Popen
    began: float


class Runner:
    """Starts parts as processes and collects their rows.

    Args:
      out: folder of logs and results.
      is_small: tiny shapes.
      limit_s: seconds after which no part runs any more.
    """

    def __init__(self, out: Path, *, is_small: bool, limit_s: float):
        self.out, self.is_small, self.limit_s, self.began = out, is_small, limit_s, time.monotonic()
        self.rows: list[Row] = []

    def report(self, text: str) -> None:
        """Print a line of progress."""
        print(f"[{time.monotonic() - self.began:5.0f} s] {text}", flush=True)

    def run(self, parts: Sequence[str]) -> None:
        """Run parts side by side, and add their rows in this order."""
        late = self.limit_s - (time.monotonic() - self.began) < 30
        if late:
            self.rows += [Row(part, "not run", f"time limit of {self.limit_s:.0f} s", "", False) for part in parts]
            return
        running = [self.start(part) for part in parts]
        for at in running:
            self.finish(at)

    def start(self, part: str) -> Running:
        """Start a part."""
        self.report(f"{part} started")
        with open(self.out / f"{part}.log", "wb") as log:
            process = subprocess.Popen(
                self.command(part), cwd=ROOT, env=self.environment(part), stdout=log, stderr=log, start_new_session=True
            )
        return Running(part, process, time.monotonic())

    def finish(self, at: Running) -> None:
        """Wait for a part, kill it at its limit, and add its rows."""
        end = min(at.began + PART_LIMIT_S, self.began + self.limit_s)
        try:
            code = at.process.wait(max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(at.process.pid, signal.SIGKILL)  # with its workers
            code = at.process.wait()
        seconds = time.monotonic() - at.began
        try:
            rows = self.read_rows(at.part)
        except (OSError, ValueError, LookupError) as error:
            rows = [Row(at.part, "results", f"{type(error).__name__}: {error}"[:200], "", False)]
        if code:
            rows.append(Row(at.part, f"exit code {code}", self.last_line(at.part), "0", False))
        self.rows += [*rows, Row(at.part, "duration", f"{seconds:.0f} s")]
        failures = [row.measure for row in rows if row.is_ok is False]
        self.report(f"{at.part} took {seconds:.0f} s: {'FAILED: ' + ', '.join(failures) if failures else 'ok'}")

    def add_ratio(self) -> None:
        """Add the seconds of a MIG step over those of a GRPO step, once both are known."""
        seconds = {row.part: float(row.value.split(" s")[0]) for row in self.rows if row.measure == "step"}
        if {"mig", "grpo"} <= set(seconds):
            self.rows.append(Row("mig, grpo", "MIG step / GRPO step", f"{seconds['mig'] / seconds['grpo']:.2f}"))

    def command(self, part: str) -> list[str]:
        """Return the command line of a part."""
        if part == "tests":
            workers = min(8, len(os.sched_getaffinity(0)))
            options = ["-q", f"-n{workers}", "-p", "tools.on_gpu_parts", "-p", "no:cacheprovider", "-W", "default"]
            return [sys.executable, "-m", "pytest", *options, *(TESTS[:1] if self.is_small else TESTS)]
        if part in QUICKSTARTS:
            changes = (*QUICKSTARTS[part][0], *(("steps=2", "data.eval_size=16") if self.is_small else ()))
            train = ["train", "--config=configs/quickstart.py", f"--workdir={self.out / part}"]
            return [sys.executable, "-m", "mig_jax", *train, *(f"--config.{change}" for change in changes)]
        small = ["--small"] if self.is_small else []
        return [sys.executable, "tools/on_gpu_parts.py", part, str(self.out / f"{part}.json"), *small]

    def environment(self, part: str) -> dict[str, str]:
        """Return the environment of a part; those that run side by side share the accelerator's memory."""
        added = {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "JAX_COMPILATION_CACHE_DIR": str(self.out / "compilation_cache"),
            "TQDM_DISABLE": "1",
        }
        if part in TIMED:
            added["XLA_PYTHON_CLIENT_MEM_FRACTION"] = "0.9"
        else:
            added["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        if part == "tests":
            # Tests compare float32 numbers, which GPUs and TPUs otherwise multiply with fewer digits.
            added["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
            backend = next((row.value for row in self.rows if row.measure == "backend"), "cpu")
            added["JAX_PLATFORMS"] = backend if backend == "cpu" else f"{backend},cpu"
        return os.environ | added

    def read_rows(self, part: str) -> list[Row]:
        """Return the rows of a part that has ended.

        Raises:
          OSError, ValueError, LookupError: it has not written them.
        """
        if part == "tests":
            summary = self.last_line(part)
            return [Row(part, "fast tests", summary, "0 failed", "passed" in summary and "failed" not in summary)]
        if part in QUICKSTARTS:
            return self.read_quickstart(part)
        return [Row(part, *fields) for fields in json.loads((self.out / f"{part}.json").read_text())]

    def read_quickstart(self, part: str) -> list[Row]:
        """Return accuracy, speed and the distance of sampler and trainer from a run's metrics.

        The first update's policy is the one that sampled, so its KL is the difference of their log-probs.
        """
        lines = (self.out / part / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines][1:]
        sampled, greedy = (
            [row[f"eval/{name}"] for row in rows if f"eval/{name}" in row] for name in ("sampled", "greedy")
        )
        seconds = sorted(row["time/seconds"] for row in rows if "time/seconds" in row)
        divergence = next(row["kl/old"] for row in rows if "kl/old" in row)
        least = 0.0 if self.is_small else QUICKSTARTS[part][1]
        return [
            Row(part, "accuracy, sampled", f"{sampled[0]:.3f} → {sampled[-1]:.3f}", f"≥ {least}", sampled[-1] >= least),
            Row(part, "accuracy, greedy", f"{greedy[0]:.3f} → {greedy[-1]:.3f}"),
            Row(part, "median step", f"{seconds[len(seconds) // 2]:.2f} s"),
            Row(part, "KL of sampler and trainer", f"{divergence:.1e} nats", "< 1e-3", abs(divergence) < 1e-3),
        ]

    def last_line(self, part: str) -> str:
        """Return the last line of a part's log."""
        lines = (self.out / f"{part}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip(" =")[:200] for line in reversed(lines) if line.strip()), "no output")


def render(rows: Sequence[Row]) -> str:
    """Return the Markdown table."""
    lines = ["| part | measure | value | limit | |", "|---|---|---|---|---|"]
    for row in rows:
        result = {True: "ok", False: "**FAILED**", None: ""}[row.is_ok]
        cells = (re.sub(r"\s+", " ", cell).replace("|", "/") for cell in (*row[:4], result))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("/tmp/on_gpu"), help="folder of the table, numbers and logs")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--small", action="store_true", help="tiny shapes and few steps")
    parser.add_argument("--limit_s", type=float, default=math.inf, help="seconds after which no part runs any more")
    options = parser.parse_args(arguments)
    out = options.out.expanduser().resolve()
    out.mkdir(parents=True, exist_ok=True)
    runner = Runner(out, is_small=options.small, limit_s=options.limit_s)
    timed = [(part,) for part in ("environment", *TIMED)]
    together = tuple(part for part in PARTS if (part,) not in timed)
    for group in (*timed, together):
        if chosen := [part for part in group if part in options.parts or part == "environment"]:
            runner.run(chosen)
            if "grpo" in chosen:
                runner.add_ratio()
            save(runner.rows, out)  # after each group, in case the machine is taken away
    failures = sum(row.is_ok is False for row in runner.rows)
    print(render(runner.rows), end="")
    print(f"{failures} failures; table.md, results.json and a log of each part are in {out}")
    return 1 if failures else 0


def save(rows: Sequence[Row], out: Path) -> None:
    """Write the table and its numbers."""
    (out / "table.md").write_text(render(rows), encoding="utf-8")
    numbers: list[dict[str, Any]] = [row._asdict() for row in rows]
    (out / "results.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
