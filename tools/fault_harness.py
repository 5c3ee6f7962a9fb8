"""Inject faults into short training runs, resume them, and compare the results with those of an undisturbed run.

    python tools/fault_harness.py --runs 50

A shortened quickstart runs once undisturbed. Other runs are killed at random moments, by SIGKILL and SIGTERM in turns;
half of the kills come just after a checkpoint begins to be written. Each run is then resumed and runs to its end. Its
parameters, metrics, TensorBoard points and transcripts must equal those of the undisturbed run.

Then come the other faults: full disks, damaged checkpoints, killed verifier workers, a killed process of two, and
batches with NaN. Two tables are printed, of the kills and of the other faults. The exit code is 1 if anything differs.
"""

import argparse
import collections
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # `python tools/fault_harness.py` puts tools/ on the path, not the repository
    sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from tools.fault_cases import all_cases, fault_table
from tools.fault_run import (
    CHECKPOINT_EVERY,
    STEPS,
    Bench,
    differences,
    is_writing_checkpoint,
    wait_for,
    write_algebra_problems,
)

# The phases of a run, in order.
PHASES = (
    "start", "load", "compile", "rollout", "update", "checkpoint write", "evaluation", "export", "after its end",
)  # fmt: skip


class Kill(NamedTuple):
    """One kill.

    signal: "SIGKILL" or "SIGTERM".
    phase: the phase that the run was in, one of `PHASES`.
    code: exit code of the killed process.
    different: what the resumed run has different from the undisturbed one.
    """

    signal: str
    phase: str
    code: int
    different: list[str]


def kill(bench: Bench, number: int, seconds: float) -> Kill:
    """Start a run, kill it, resume it and compare the results.

    Args:
      bench: folders of all runs.
      number: seed of the moment; odd numbers get SIGTERM.
      seconds: duration of an undisturbed run.
    """
    rng, name = random.Random(number), f"killed_{number}"
    which = (signal.SIGKILL, signal.SIGTERM)[number % 2]
    process = bench.start(name, cached=False)
    if number // 2 % 2:
        wait_for_checkpoint(bench.folder / name, process, rng.randrange(1, STEPS // CHECKPOINT_EVERY + 1))
        time.sleep(rng.random() * 0.2)
    else:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.random() * seconds)
    phase = "after its end" if process.poll() is not None else bench.phase(name)
    process.send_signal(which)
    code = process.wait()
    expected = {signal.SIGKILL: (-9, 0), signal.SIGTERM: (75, -15, 0)}[which]
    different = [] if code in expected else [f"exit code {code}"]
    if bench.finish(name) != 0:
        different.append(f"does not resume, see {bench.log(name)}")
    else:
        different += differences(bench.folder / name, bench.folder / "whole")
    if not different:
        shutil.rmtree(bench.folder / name)
    print(f"{number}: {which.name} during {phase}, exit code {code}: {', '.join(different) or 'identical'}", flush=True)
    return Kill(which.name, phase, code, different)


def wait_for_checkpoint(workdir: Path, process: subprocess.Popen, count: int) -> None:
    """Wait until the run has begun to write its checkpoint number `count`."""
    for _ in range(count - 1):
        wait_for(lambda: is_writing_checkpoint(workdir), process)
        wait_for(lambda: not is_writing_checkpoint(workdir), process)
    wait_for(lambda: is_writing_checkpoint(workdir), process)


def kill_table(kills: list[Kill]) -> str:
    """Return a Markdown table with a row for each phase, the exit codes, and what differs."""
    lines = ["| killed during | SIGKILL | SIGTERM | identical |", "|---|---|---|---|"]
    for phase in PHASES:
        if in_phase := [k for k in kills if k.phase == phase]:
            lines.append(table_row(phase, in_phase))
    codes = collections.Counter((k.signal, k.code) for k in kills)
    counts = ", ".join(f"{count} × {code} of {name}" for (name, code), count in sorted(codes.items()))
    lines += [table_row("**all**", kills), "", f"exit codes: {counts}"]
    return "\n".join(lines + [f"{k.signal} during {k.phase}: {', '.join(k.different)}" for k in kills if k.different])


def table_row(phase: str, kills: list[Kill]) -> str:
    signals = collections.Counter(k.signal for k in kills)
    identical = sum(not k.different for k in kills)
    return f"| {phase} | {signals['SIGKILL']} | {signals['SIGTERM']} | {identical} of {len(kills)} |"


def run_harness(folder: Path, *, runs: int, jobs: int, with_faults: bool) -> bool:
    """Run everything and print both tables; return whether all results are as expected.

    Args:
      folder: receives all runs.
      runs: number of kills.
      jobs: number of runs at once.
      with_faults: inject the other faults, too.
    """
    bench = Bench(folder, folder / "algebra.jsonl")
    write_algebra_problems(bench.rows)
    if code := bench.finish("whole"):
        raise RuntimeError(f"the undisturbed run ended with exit code {code}, see {bench.log('whole')}")
    began = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        # As many runs at once as later, so that the moments are drawn from the duration that a run has then.
        repeats = [pool.submit(bench.finish, f"again_{n}", cached=False) for n in range(jobs)]
        codes = [repeat.result() for repeat in repeats]
        seconds = time.monotonic() - began
        again = [differences(folder / f"again_{n}", folder / "whole") for n in range(jobs)]
        print(f"{jobs} undisturbed runs at once, {seconds:.0f} s: exit codes {codes}, differences {again}", flush=True)
        kills = list(pool.map(lambda number: kill(bench, number, seconds), range(runs)))
        print(f"\n{runs} runs killed and resumed\n\n{kill_table(kills)}\n", flush=True)
        faults = list(pool.map(lambda case: case(), all_cases(bench))) if with_faults else []
    if faults:
        print(fault_table(faults))
    return not any(k.different for k in kills) and not any(f.errors for f in faults) and not any(again)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="number of runs to kill")
    parser.add_argument("--jobs", type=int, default=2, help="number of runs at once")
    parser.add_argument("--faults", action=argparse.BooleanOptionalAction, default=True, help="inject the other faults")
    parser.add_argument("--folder", help="keep all files in this folder; default: a temporary folder")
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    with contextlib.ExitStack() as stack:
        folder = options.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="fault_harness_"))
        Path(folder).mkdir(parents=True, exist_ok=True)
        as_expected = run_harness(Path(folder), runs=options.runs, jobs=options.jobs, with_faults=options.faults)
    sys.exit(0 if as_expected else 1)


if __name__ == "__main__":
    main()
