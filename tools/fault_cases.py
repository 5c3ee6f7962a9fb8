"""Faults that `fault_harness.py` injects besides kills: full disks, damaged checkpoints, dead workers, NaN batches."""

import collections
import contextlib
import functools
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tools.fault_run import CHECKPOINT_EVERY, Bench, differences, is_writing_checkpoint, wait_for


class Fault(NamedTuple):
    """A fault that was injected into a run. outcome: what the run did; errors: what it should have done and did not."""

    name: str
    outcome: str
    errors: list[str]


def check_end(bench: Bench, name: str, code: int, expected_code: int, *texts: str) -> list[str]:
    """Return errors in the exit code and the output of a run: a missing text, or a stack trace."""
    errors = [] if code == expected_code else [f"exit code {code}, not {expected_code}"]
    errors += [f"does not print {text!r}" for text in texts if not bench.has_printed(name, text)]
    return errors + (["prints a stack trace"] if bench.has_printed(name, "Traceback") else [])


def check_resume(
    bench: Bench, name: str, *, whole: str = "whole", workdir: Path | None = None, variant: str = "plain"
) -> list[str]:
    """Rerun the same command to the end; return what differs from the undisturbed run."""
    if code := bench.finish(name, workdir=workdir, variant=variant):
        return [f"does not resume: exit code {code}, see {bench.log(name)}"]
    return differences(workdir or bench.folder / name, bench.folder / whole)


# --------------------------------------------------------------------------------------------------------------- disks


@contextlib.contextmanager
def small_disk(bench: Bench, name: str, size: str) -> Iterator[Path | None]:
    """Mount a disk in memory; yield its folder, or None if this process may not mount one."""
    folder = bench.folder / f"{name}_disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    is_mounted = shutil.which("mount") and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield folder if is_mounted else None
    finally:
        if is_mounted:
            subprocess.run(["umount", str(folder)], check=True)


def full_disk(bench: Bench, free: int) -> Fault:
    """Fill the disk after the first checkpoint, so that this many bytes are free."""
    name, title = f"full_disk_{free}", f"disk full up to {free} bytes (tmpfs)"
    with small_disk(bench, name, "24m") as disk:
        if disk is None:
            return Fault(title, "not tested: no disk can be mounted here", [])
        process, filler = bench.start(name, workdir=disk / "run"), disk / "filler"
        wait_for((disk / "run" / "checkpoints" / str(CHECKPOINT_EVERY)).exists, process)
        with open(filler, "wb", buffering=0) as file:
            while (left := shutil.disk_usage(disk).free) > free and process.poll() is None:
                with contextlib.suppress(OSError):
                    file.write(bytes(min(left - free, 2**16)))
        message = "the disk is full; free some space and rerun the same command to resume"
        errors = check_end(bench, name, process.wait(), 1, message)
        filler.unlink()
        errors += check_resume(bench, name, workdir=disk / "run")
        return Fault(title, "exits with one sentence; resumes", errors)


def full_quota(bench: Bench) -> Fault:
    """Forbid files to grow. The kernel's error is much like that of a full disk."""
    name = "full_quota"
    process = bench.start(name)
    wait_for((bench.folder / name / "checkpoints" / str(CHECKPOINT_EVERY)).exists, process)
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2000, 2000))
    errors = check_end(bench, name, process.wait(), 1, "the disk is full")
    errors += check_resume(bench, name)
    return Fault("files must not grow (RLIMIT_FSIZE)", "exits with one sentence; resumes", errors)


def small_disk_from_start(bench: Bench) -> Fault:
    """Start on a disk that is too small for the checkpoints."""
    name, title = "no_room", "disk too small from the start (tmpfs)"
    with small_disk(bench, name, "3m") as disk:
        if disk is None:
            return Fault(title, "not tested: no disk can be mounted here", [])
        code = bench.finish(name, workdir=disk / "run")
        numbers = re.search(r"needs [\d.]+ MiB, [\d.]+ MiB are free", bench.log(name).read_text(errors="replace"))
        errors = check_end(bench, name, code, 1, "this config cannot be run")
        errors += ["metrics were written"] * (disk / "run" / "metrics.jsonl").exists()
    return Fault(title, f"refused: {numbers[0] if numbers else 'without numbers'}", errors)


# --------------------------------------------------------------------------------------------------------- checkpoints


def damaged_checkpoint(bench: Bench, how: str) -> Fault:
    """Kill a run after its third checkpoint, and damage a file of that checkpoint."""
    rng, name = random.Random(how), f"damaged_{how}"
    process, checkpoints = bench.start(name), bench.folder / name / "checkpoints"
    wait_for((checkpoints / str(3 * CHECKPOINT_EVERY)).exists, process)
    process.kill()
    process.wait()
    newest = max((path for path in checkpoints.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    files = [path for path in sorted(newest.rglob("*")) if path.is_file() and path.name != "commit_success.txt"]
    path = rng.choice([path for path in files if path.name != "_CHECKPOINT_METADATA"])
    damage(path, how, rng)
    errors = check_resume(bench, name)
    before = int(newest.name) - CHECKPOINT_EVERY
    errors += check_end(bench, name, 0, 0, f"checkpoint {newest.name} is damaged", f"resuming from {before}")
    title = f"newest checkpoint: {path.relative_to(newest)} {how}"
    return Fault(title, "reports it; resumes from the checkpoint before", errors)


def damage(path: Path, how: str, rng: random.Random) -> None:
    """Change a file. how: "truncated" to half, "garbage" of the same size, one bit "flipped", or "missing"."""
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "garbage":
        path.write_bytes(rng.randbytes(len(content)))
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


# ----------------------------------------------------------------------------------------------------------- processes


def dead_worker(bench: Bench) -> Fault:
    """Kill the verifier's worker three times during a run whose every answer needs it."""
    bench.finish("whole_algebra", variant="algebra")
    rng, name, killed = random.Random(0), "dead_worker", 0
    process = bench.start(name, variant="algebra")
    while process.poll() is None:
        time.sleep(0.5 + rng.random())
        for pid in verifier_workers(process.pid)[: int(killed < 3)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    from mig_jax.records import metrics

    errors, restarts = check_end(bench, name, process.wait(), 0), 0.0
    for run in ("dead_worker", "whole_algebra"):  # the rows must be the same except for the number of restarts
        path = bench.folder / run / metrics.FILE_NAME
        restarts += sum(map(float, re.findall(r'"verifier/restarts": ([\d.]+)', path.read_text())))
        path.write_text(re.sub(r'"verifier/restarts": [\d.]+', '"verifier/restarts": 0.0', path.read_text()))
    different = differences(bench.folder / name, bench.folder / "whole_algebra")
    errors += [] if restarts else ["no restart was counted"]
    errors += [name for name in different if name != "tensorboard"]
    return Fault("verifier worker killed", f"{killed} kills; verifier/restarts adds up to {restarts:.0f}", errors)


def verifier_workers(pid: int) -> list[int]:
    """Return the verifier processes that process `pid` has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            is_child = int(path.read_text().rpartition(")")[2].split()[1]) == pid
            if is_child and b"mig_jax.text.answers.verifier_worker" in (path.parent / "cmdline").read_bytes():
                found.append(int(path.parent.name))
    return found


def one_of_two_killed(bench: Bench, kills: int = 6) -> Fault:
    """Kill one of two processes at a random moment; the other must exit, and both must resume."""
    title = "one of two processes killed"
    began, rng, errors, seconds, phases = time.monotonic(), random.Random(0), [], [], collections.Counter()
    if any([process.wait() for process in bench.start_two("whole_two")]):
        return Fault(title, "the undisturbed run failed", ["see whole_two_0.log"])
    whole = time.monotonic() - began
    for number in range(kills):
        name, victim = f"two_{number}", number % 2
        processes = bench.start_two(name)
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[victim].wait(whole * (0.3 + 0.6 * rng.random()))
        is_writing = is_writing_checkpoint(bench.folder / name)
        phases["checkpoint write" if is_writing else bench.phase(f"{name}_{victim}")] += 1
        processes[victim].kill()
        began = time.monotonic()
        code = processes[1 - victim].wait()
        seconds.append(time.monotonic() - began)
        errors += [f"kill {number}: {error}" for error in check_survivor(bench, name, 1 - victim, code)]
    during = ", ".join(f"{count} during {phase}" for phase, count in phases.items())
    outcome = f"{kills} kills ({during}); the other exits within {max(seconds):.0f} s; both resume, same bytes"
    return Fault(title, outcome, errors)


def check_survivor(bench: Bench, name: str, survivor: int, code: int) -> list[str]:
    """Return errors of the process that was not killed, which ended with `code`, and of the resumed run."""
    errors = []
    texts = ("another process of this run has ended; rerun the same command to resume", "that another task died")
    if code == 0 or not any(bench.has_printed(f"{name}_{survivor}", text) for text in texts):
        errors.append(f"the other one ended with {code}, see {name}_{survivor}.log")
    if any([process.wait() for process in bench.start_two(name)]):
        return [*errors, f"does not resume, see {name}_0.log"]
    return errors + differences(bench.folder / name, bench.folder / "whole_two")


# ------------------------------------------------------------------------------------------------------------- batches


def few_nan_batches(bench: Bench) -> Fault:
    """Make two batches NaN: their updates are skipped and counted."""
    from mig_jax.records import metrics

    code = bench.finish("few_bad", nan_steps="4,5")
    rows = [r for r in metrics.read_metrics(str(bench.folder / "few_bad"))[1] if "gradient/skipped" in r]
    errors = check_end(bench, "few_bad", code, 0)
    errors += [] if [r["gradient/skipped"] for r in rows] == [0] * 3 + [1] + [2] * 8 else ["not counted"]
    return Fault("NaN in 2 batches", f"continues; gradient/skipped is {rows[-1]['gradient/skipped']:.0f}", errors)


def many_nan_batches(bench: Bench) -> Fault:
    """Make seven batches NaN: the run ends after the fifth, and can be resumed."""
    name = "many_bad"
    code = bench.finish(name, nan_steps="4,5,6,7,8,9,10")
    errors = check_end(bench, name, code, 1, "was not finite in the last 5 updates (optimizer.max_skipped=5)")
    errors += [] if (bench.folder / name / "not_finite_000008.npz").exists() else ["no batch is written"]
    if bench.finish(name) != 0 or not bench.has_printed(name, "after step 8 of 12"):
        errors.append("does not resume from the checkpoint")
    return Fault("NaN in 7 batches", "exits after the fifth, writes batch and checkpoint; resumes", errors)


def all_cases(bench: Bench) -> list[Callable[[], Fault]]:
    """Return a function for each fault, which injects it and checks the outcome."""
    cases = [full_quota, small_disk_from_start, dead_worker, one_of_two_killed, few_nan_batches, many_nan_batches]
    # No row of metrics fits; or rows fit, and checkpoints do not.
    cases += [functools.partial(full_disk, free=free) for free in (0, 200_000)]
    cases += [functools.partial(damaged_checkpoint, how=how) for how in ("truncated", "garbage", "flipped", "missing")]
    return [functools.partial(case, bench) for case in cases]


def fault_table(faults: list[Fault]) -> str:
    """Return a Markdown table with a row for each fault."""
    lines = ["| fault | what the run does | as expected |", "|---|---|---|"]
    return "\n".join(lines + [f"| {f.name} | {f.outcome} | {'; '.join(f.errors) or 'yes'} |" for f in faults])
