"""Train variants of the quickstart with several seeds, as processes side by side, and print a table with intervals.

    python tools/quickstart_seeds.py --workdir=/tmp/seeds --parallel=8 --threads=2
    python tools/quickstart_seeds.py --workdir=/tmp/seeds --seeds 0 1 --variants mig grpo --platform=cuda
    python tools/quickstart_seeds.py --workdir=/tmp/seeds --parallel=2 -- --config.steps=2      more flags for every run

Every run is a `mig-jax train` in WORKDIR/VARIANT/seed_N, pinned to its own cores. A finished run is not run again, and
a stopped one resumes. With --limit_s, no run starts after that many seconds, and those under way stop after their step;
the same command finishes them later.

The table, also in summary.md, has the mean over the seeds and its 95 % interval by Student's t. Accuracy is that of the
last evaluation; steps and tokens per response are means over the last five training steps. summary.json has the
numbers of each run; curves.png has their means by step, with the range over the seeds. The exit code is 1 if a run
failed or is unfinished.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PROCESS_ONLY = ("loss.alpha=1", "loss.beta=0", "loss.gamma=0")
# Variant -> what it changes in the quickstart's config.
VARIANTS = {
    "process_closing": (*PROCESS_ONLY, "reward.process_mask=closing"),
    "process_think": (*PROCESS_ONLY, "reward.process_mask=think"),
    "process_price": (*PROCESS_ONLY, "reward.process_mask=closing", "reward.credit_args.step_price=0.02"),
    "mig": (),
    "grpo": ("loss.alpha=0", "loss.gamma=0"),
}
# Column of the table -> metric, and the number of last rows that it is a mean over.
COLUMNS = {
    "sampled": ("eval/sampled", 1),
    "greedy": ("eval/greedy", 1),
    "steps per response": ("rollout/steps", 5),
    "tokens per response": ("rollout/length", 5),
}
# Metric -> label of the panels of curves.png.
PANELS = {
    "reward/accuracy": "accuracy of samples",
    "reward/format": "well formed",
    "rollout/steps": "steps per response",
}
# Seconds that stopped runs have to finish their step and save a checkpoint.
GRACE_S = 120
# Failed runs in a row after which no other is tried.
MAX_FAILURES = 3


class Run(NamedTuple):
    """One variant with one seed, and its workdir."""

    variant: str
    seed: int
    folder: Path

    @property
    def is_finished(self) -> bool:
        """Return whether the run has saved its model; config.json is written last."""
        return (self.folder / "model" / "config.json").exists()


class Running(NamedTuple):
    """A run under way, in one of the slots, each with its own cores."""

    run: Run
    process: subprocess.Popen
    slot: int


def list_runs(workdir: Path, variants: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """Return all runs; seed by seed, so that an early end leaves all variants with the same seeds."""
    return [Run(variant, seed, workdir / variant / f"seed_{seed}") for seed in seeds for variant in variants]


def command(run: Run, flags: Sequence[str]) -> list[str]:
    """Return the command line of a run."""
    changes = [f"--config.{change}" for change in (f"seed={run.seed}", *VARIANTS[run.variant])]
    train = [sys.executable, "-m", "mig_jax", "train", "--config=configs/quickstart.py", f"--workdir={run.folder}"]
    return [*train, *changes, *flags]


def environment(workdir: Path, platform: str, threads: int) -> dict[str, str]:
    """Return the environment of the runs: their platform, their threads, and a compilation cache that they share."""
    return os.environ | {
        "JAX_PLATFORMS": platform,
        "JAX_COMPILATION_CACHE_DIR": str(workdir / "compilation_cache"),
        "OMP_NUM_THREADS": str(threads),
        "PJRT_NPROC": str(threads),
        "TQDM_DISABLE": "1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }


def slot_cores(parallel: int, threads: int) -> list[set[int]]:
    """Return the cores of each slot; slots share cores only if there are too few."""
    cores = sorted(os.sched_getaffinity(0))
    return [{cores[(slot * threads + n) % len(cores)] for n in range(threads)} for slot in range(parallel)]


def start(run: Run, slot: int, cores: set[int], flags: Sequence[str], env: dict[str, str]) -> Running:
    """Start a run on its cores; its output goes to log.txt in its workdir."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.folder / "log.txt", "ab") as log:
        process = subprocess.Popen(command(run, flags), cwd=ROOT, env=env, stdout=log, stderr=log)
    # Before the process starts threads, which inherit the cores. XLA counts them to size its pool.
    os.sched_setaffinity(process.pid, cores)
    return Running(run, process, slot)


def run_all(runs: Sequence[Run], cores: Sequence[set[int]], flags: Sequence[str], env: dict[str, str], limit_s: float):
    """Run all that are not finished, as many at a time as there are slots; return when all ended, or at the limit."""
    began, waiting, running = time.monotonic(), [run for run in runs if not run.is_finished], list[Running]()
    failures = 0

    def report(text: str) -> None:
        done = sum(run.is_finished for run in runs)
        print(f"[{time.monotonic() - began:5.0f} s] {done:2d} of {len(runs)} finished; {text}", flush=True)

    report(f"{len(waiting)} to run, {len(cores)} at a time")
    try:
        # Where the first runs all fail, the others would, too.
        while (waiting or running) and time.monotonic() - began < limit_s and failures < MAX_FAILURES:
            free = set(range(len(cores))) - {at.slot for at in running}
            for slot in sorted(free)[: len(waiting)]:
                running.append(start(run := waiting.pop(0), slot, cores[slot], flags, env))
                report(f"{run.variant} seed {run.seed} started on cores {sorted(cores[slot])}")
            time.sleep(0.5)
            for at in [at for at in running if at.process.poll() is not None]:
                running.remove(at)
                failures = 0 if at.run.is_finished else failures + 1
                code = f"ended with code {at.process.returncode}: {last_line(at)}"
                report(f"{at.run.variant} seed {at.run.seed} {'finished' if at.run.is_finished else code}")
    finally:
        if running or waiting:
            report(f"stopping {len(running)} runs, {len(waiting)} not started; rerun the same command to finish")
            stop(running)


def last_line(at: Running) -> str:
    """Return the last line of a run's log."""
    lines = (at.run.folder / "log.txt").read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")


def stop(running: Sequence[Running]) -> None:
    """Stop runs after their step, with a checkpoint; kill those that take too long."""
    for at in running:
        at.process.send_signal(signal.SIGTERM)
    end = time.monotonic() + GRACE_S
    for at in running:
        try:
            at.process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            at.process.kill()
            at.process.wait()


# --------------------------------------------------------------------------------------------------------- the summary


def summarize_run(run: Run) -> dict[str, float]:
    """Return the columns of a finished run, and its minutes of training."""
    from mig_jax.records import metrics

    _, rows = metrics.read_metrics(str(run.folder))
    numbers = {}
    for name, (metric, last) in COLUMNS.items():
        values = metrics.column(rows, metric)[1][-last:]
        numbers[name] = float(values.mean()) if len(values) else math.nan
    numbers["minutes"] = float(metrics.column(rows, "time/seconds")[1].sum()) / 60
    return numbers


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % interval by Student's t; nan for fewer than two values."""
    import numpy as np
    from scipy import stats

    n = len(values)
    if n < 2:
        return (values[0] if values else math.nan), math.nan
    return float(np.mean(values)), float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def format_interval(values: Sequence[float]) -> str:
    """Return a cell of the table, such as "0.938 ± 0.012"."""
    mean, half = mean_interval(values)
    if math.isnan(mean):
        return "–"
    return f"{mean:.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}")


def summarize(runs: Sequence[Run]) -> tuple[str, list[dict[str, Any]]]:
    """Return the table, and the numbers of each finished run."""
    finished = [run for run in runs if run.is_finished]
    numbers: list[dict[str, Any]] = [
        {"variant": run.variant, "seed": run.seed, "folder": str(run.folder), **summarize_run(run)} for run in finished
    ]
    lines = [f"| variant | runs | {' | '.join(COLUMNS)} | minutes |", f"|---|---:|{'---:|' * (len(COLUMNS) + 1)}"]
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [row for row in numbers if row["variant"] == variant]
        total = sum(run.variant == variant for run in runs)
        cells = [format_interval([row[name] for row in own]) for name in (*COLUMNS, "minutes")]
        changes = ", ".join(VARIANTS[variant]) or "the quickstart as it is"
        lines.append(f"| {variant} ({changes}) | {len(own)} of {total} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n", numbers


def draw_curves(runs: Sequence[Run], path: Path) -> None:
    """Draw the mean of each metric of `PANELS` by training step and variant, with the range over the finished seeds."""
    import numpy as np

    from mig_jax.records import metrics, plot_style

    figure = plot_style.Figure(figsize=(4.2 * len(PANELS), 3.4), layout="constrained")
    for ax, (metric, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for color, variant in zip(plot_style.COLORS, dict.fromkeys(run.variant for run in runs), strict=False):
            finished = [run for run in runs if run.variant == variant and run.is_finished]
            curves = [metrics.column(metrics.read_metrics(str(run.folder))[1], metric) for run in finished]
            if not curves:
                continue
            steps, values = curves[0][0], np.stack([value for _, value in curves])
            ax.plot(steps, values.mean(0), color=color, label=f"{variant} ({len(curves)} seeds)")
            ax.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
        ax.set(title=label, xlabel="step")
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    plot_style.save_figure(figure, str(path))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="receives a folder for each run, and the summary")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="cores of each run")
    parser.add_argument("--platform", default="cpu", help="JAX_PLATFORMS of the runs: cpu, cuda or tpu")
    parser.add_argument("--limit_s", type=float, default=math.inf, help="seconds after which runs are stopped")
    parser.add_argument("--summary", action="store_true", help="run nothing; summarize what is finished")
    parser.add_argument("flags", nargs="*", help="after --: more flags of `mig-jax train`, for every run")
    options = parser.parse_args(arguments)
    workdir = options.workdir.expanduser().resolve()
    runs = list_runs(workdir, options.variants, options.seeds)
    if not options.summary:
        env = environment(workdir, options.platform, options.threads)
        run_all(runs, slot_cores(options.parallel, options.threads), options.flags, env, options.limit_s)
    table, numbers = summarize(runs)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "summary.md").write_text(table, encoding="utf-8")
    (workdir / "summary.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    if numbers:
        draw_curves(runs, workdir / "curves.png")
    print(table, end="")
    return 0 if len(numbers) == len(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
