"""What kills, full disks, damaged checkpoints and bad batches cost a run: nothing, or this says what.

    python tools/fault_harness.py --runs 50

A shortened quickstart runs once undisturbed. Then it is killed again and again, by SIGKILL and SIGTERM in turns, at
moments that nobody chooses, half of them just behind the first sign of a checkpoint being written; each time it is
started again and runs to its end, and weights, rows, points and transcripts are compared with the undisturbed run's.
Two tables are printed: the kills, and the other faults. The exit code is 1 when anything differs.

This file is also the config of these runs, and what wraps a run so that it says what it is doing.
"""

import argparse
import collections
import contextlib
import functools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
STEPS, CHECKPOINT_EVERY = 12, 3
# Compiling is most of such a run; these make it short.
XLA_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

# ------------------------------------------------------------------------------------------------------ config of a run


def get_config(variant: str = "plain"):
    """A quickstart of few rows. algebra: its answers are such that only the verifier's workers can compare them."""
    from tests import tiny

    c = tiny.get_quickstart(
        steps=STEPS, eval__every=4, checkpoint__every=CHECKPOINT_EVERY, checkpoint__keep=2, log__transcripts_every=2
    )
    c.rollout.questions, c.data.train_size = 4, 12  # an epoch ends every three steps
    if variant == "algebra":
        c.data.train = c.data.eval = f"jsonl:{os.environ['FAULT_HARNESS_ROWS']}"
        c.loss.alpha = 0.0
    return c


def write_algebra(path: Path) -> None:
    rows = [
        {"id": str(n), "question": f"Last digits of 7 +{n % 10} -3", "answer": f"{n % 7 + 2}*x", "kind": "expression"}
        for n in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# ------------------------------------------------------------------------------------------------- inside of such a run


def run_wrapped(phase_file: str, poisoned: set[int], arguments: list[str]) -> None:
    """`mig-jax` with these arguments; says in a file what it is doing, and makes the batches of some steps bad."""
    from mig_jax import main
    from mig_jax.trainer import train

    phase = os.open(phase_file, os.O_WRONLY | os.O_CREAT)
    known = set()

    def say(name, is_compiled=True):
        text = name if name in known or not is_compiled else "compile"
        known.add(name)
        os.pwrite(phase, text.ljust(16).encode(), 0)

    def wrap(owner, attribute, name, *, is_compiled=True, change=lambda result: result):
        function = getattr(owner, attribute)

        def wrapped(*args, **kwargs):
            say(name, is_compiled)
            return change(function(*args, **kwargs))

        setattr(owner, attribute, wrapped)

    def wrap_update(built):
        state, update = built

        def wrapped(*args):
            say("update")
            return update(*args)

        return state, wrapped

    wrap(train, "load_policy", "load", is_compiled=False)
    wrap(train, "save_policy", "export", is_compiled=False)
    wrap(train.Evaluator, "metrics", "evaluation")
    wrap(train.Rollout, "__call__", "rollout", change=Poisoner(poisoned))
    wrap(train, "build_update", "load", is_compiled=False, change=wrap_update)
    sys.argv = ["mig-jax", *arguments]
    main.main()


class Poisoner:
    """Makes a number of some collected batches nan."""

    def __init__(self, steps: set[int]):
        self.steps, self.count = steps, 0

    def __call__(self, collected):
        self.count += 1
        batch, numbers, transcripts = collected
        if self.count in self.steps:
            batch = batch._replace(outcome_advantage_bt=batch.outcome_advantage_bt.at[0].set(float("nan")))
        return batch, numbers, transcripts


# ------------------------------------------------------------------------------------------------- one run, and its end


class Bench(NamedTuple):
    """Where everything happens: a folder, and the files that all runs share."""

    folder: Path
    rows: Path

    def start(
        self,
        name: str,
        *,
        workdir: Path | None = None,
        variant: str = "plain",
        cached: bool = True,
        poisoned: str = "",
        options: Sequence[str] = (),
    ) -> subprocess.Popen:
        """A run in the background. Without the cache it compiles all that it needs."""
        env = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": XLA_FLAGS, "FAULT_HARNESS_ROWS": str(self.rows)}
        env |= {
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        if not cached:
            env["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        command = [sys.executable, __file__, "--inside", str(self.folder / f"{name}.phase"), "--poisoned", poisoned]
        command += ["train", f"--config={__file__}:{variant}", f"--workdir={workdir or self.folder / name}", *options]
        with open(self.log(name), "ab") as log:
            return subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=ROOT)

    def start_two(self, name: str) -> list[subprocess.Popen]:
        """A run of two processes, with half of the rows each; what they say and do is under `name`_0 and `name`_1."""
        from tools.device_table import free_port

        together = [f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", "--config.mesh.data=2"]
        return [
            self.start(f"{name}_{i}", workdir=self.folder / name, options=[*together, f"--process_id={i}"])
            for i in range(2)
        ]

    def finish(self, name: str, **options) -> int:
        return self.start(name, **options).wait()

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self, name: str, text: str) -> bool:
        return text in self.log(name).read_text(errors="replace")

    def phase(self, name: str) -> str:
        """What a run is doing."""
        if being_written(self.folder / name):
            return "checkpoint write"
        path = self.folder / f"{name}.phase"
        return path.read_text().strip() or "start" if path.exists() else "start"


def being_written(workdir: Path) -> bool:
    return any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> bool:
    """Has it come true before the process ended?"""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.002)
    return False


def differences(workdir: Path, whole: Path) -> list[str]:
    """What a run has left that the undisturbed one has not, or otherwise."""
    from mig_jax.records import metrics
    from tests.trainer.resume_test import timeless

    found, expected = (json.dumps(timeless(metrics.read_metrics(str(run))[1])) for run in (workdir, whole))
    different = [] if found == expected else ["rows"]
    for pattern in ("model/*", "transcripts/*.jsonl"):
        files = {path.relative_to(whole) for path in whole.glob(pattern)}
        files |= {path.relative_to(workdir) for path in workdir.glob(pattern)}
        different += [str(name) for name in sorted(files) if read(workdir / name) != read(whole / name)]
    if points_of(workdir) != points_of(whole):
        different.append("tensorboard")
    if being_written(workdir):
        different.append("half a checkpoint")
    return different


def read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def points_of(workdir: Path) -> dict[tuple[int, str], list[float]]:
    """What TensorBoard shows: a file is read up to where it is torn, and what a later one makes void is left out."""
    from tensorboardX.proto.event_pb2 import Event

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


# --------------------------------------------------------------------------------------------------------------- kills


class Kill(NamedTuple):
    """One kill. phase: what was being done; code: how it ended; different: what the resumed run has otherwise."""

    signal: str
    phase: str
    code: int
    different: list[str]


def kill(bench: Bench, number: int, seconds: float) -> Kill:
    """Start, kill, start again, compare."""
    rng, name = random.Random(number), f"killed_{number}"
    which = (signal.SIGKILL, signal.SIGTERM)[number % 2]
    process = bench.start(name, cached=False)
    if number // 2 % 2:
        wait_for_checkpoint(bench.folder / name, process, rng.randrange(1, STEPS // CHECKPOINT_EVERY + 1))
        time.sleep(rng.random() * 0.2)
    else:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.random() * seconds)
    phase = "behind its end" if process.poll() is not None else bench.phase(name)
    process.send_signal(which)
    code = process.wait()
    expected = {signal.SIGKILL: (-9, 0), signal.SIGTERM: (75, -15, 0)}[which]
    different = [] if code in expected else [f"exit code {code}"]
    if bench.finish(name) != 0:
        different.append(f"does not go on, see {bench.log(name)}")
    else:
        different += differences(bench.folder / name, bench.folder / "whole")
    if not different:
        shutil.rmtree(bench.folder / name)
    print(f"{number}: {which.name} during {phase}, exit code {code}: {', '.join(different) or 'identical'}", flush=True)
    return Kill(which.name, phase, code, different)


def wait_for_checkpoint(workdir: Path, process: subprocess.Popen, count: int) -> None:
    """Until so many checkpoints have begun to be written."""
    for _ in range(count - 1):
        wait_for(lambda: being_written(workdir), process)
        wait_for(lambda: not being_written(workdir), process)
    wait_for(lambda: being_written(workdir), process)


def kill_table(kills: list[Kill]) -> str:
    lines = ["| killed during | SIGKILL | SIGTERM | identical |", "|---|---|---|---|"]
    order = (
        "start",
        "load",
        "compile",
        "rollout",
        "update",
        "checkpoint write",
        "evaluation",
        "export",
        "behind its end",
    )
    for phase in order:
        of_phase = [k for k in kills if k.phase == phase]
        if of_phase:
            lines.append(row(phase, of_phase))
    codes = collections.Counter((k.signal, k.code) for k in kills)
    ended = ", ".join(f"{count} × {code} of {name}" for (name, code), count in sorted(codes.items()))
    lines += [row("**all**", kills), "", f"exit codes: {ended}"]
    return "\n".join(lines + [f"{k.signal} during {k.phase}: {', '.join(k.different)}" for k in kills if k.different])


def row(phase: str, kills: list[Kill]) -> str:
    signals = collections.Counter(k.signal for k in kills)
    same = sum(not k.different for k in kills)
    return f"| {phase} | {signals['SIGKILL']} | {signals['SIGTERM']} | {same} of {len(kills)} |"


# --------------------------------------------------------------------------------------------------------- other faults


class Fault(NamedTuple):
    """Another fault. outcome: what the run did; faults: what it should have done and did not."""

    name: str
    outcome: str
    faults: list[str]


def expect(bench: Bench, name: str, code: int, wanted: int, *texts: str) -> list[str]:
    """What is missing in how a run ended and in what it said; a stack trace is never wanted."""
    faults = [] if code == wanted else [f"exit code {code}, not {wanted}"]
    faults += [f"does not say {text!r}" for text in texts if not bench.said(name, text)]
    return faults + (["shows a stack trace"] if bench.said(name, "Traceback") else [])


def go_on(
    bench: Bench, name: str, *, whole: str = "whole", workdir: Path | None = None, variant: str = "plain"
) -> list[str]:
    """What differs when the same command is given again."""
    if code := bench.finish(name, workdir=workdir, variant=variant):
        return [f"does not go on: exit code {code}, see {bench.log(name)}"]
    return differences(workdir or bench.folder / name, bench.folder / whole)


@contextlib.contextmanager
def small_disk(bench: Bench, name: str, size: str) -> Iterator[Path | None]:
    """A disk in memory; None where this process may not mount one."""
    folder = bench.folder / f"{name}_disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    is_there = shutil.which("mount") and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield folder if is_there else None
    finally:
        if is_there:
            subprocess.run(["umount", str(folder)], check=True)


def full_disk(bench: Bench, room: int) -> Fault:
    """Behind the first checkpoint somebody else fills the disk, up to so many bytes."""
    name, title = f"full_disk_{room}", f"disk full up to {room} bytes (tmpfs)"
    with small_disk(bench, name, "24m") as disk:
        if disk is None:
            return Fault(title, "not tried: no disk may be mounted here", [])
        process, filler = bench.start(name, workdir=disk / "run"), disk / "filler"
        wait_for((disk / "run" / "checkpoints" / str(CHECKPOINT_EVERY)).exists, process)
        with open(filler, "wb", buffering=0) as file:
            while (left := shutil.disk_usage(disk).free) > room and process.poll() is None:
                with contextlib.suppress(OSError):
                    file.write(bytes(min(left - room, 2**16)))
        faults = expect(bench, name, process.wait(), 1, "the disk is full; make room, and the same command goes on")
        filler.unlink()
        return Fault(title, "ends with one sentence; goes on", faults + go_on(bench, name, workdir=disk / "run"))


def full_quota(bench: Bench) -> Fault:
    """No file may grow any more, which the kernel says as it says that of a full disk."""
    name = "full_quota"
    process = bench.start(name)
    wait_for((bench.folder / name / "checkpoints" / str(CHECKPOINT_EVERY)).exists, process)
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2000, 2000))
    faults = expect(bench, name, process.wait(), 1, "the disk is full")
    return Fault(
        "no file may grow any more (RLIMIT_FSIZE)", "ends with one sentence; goes on", faults + go_on(bench, name)
    )


def no_room(bench: Bench) -> Fault:
    name, title = "no_room", "too small a disk from the start (tmpfs)"
    with small_disk(bench, name, "3m") as disk:
        if disk is None:
            return Fault(title, "not tried: no disk may be mounted here", [])
        code = bench.finish(name, workdir=disk / "run")
        said = re.search(r"[\d.]+ MiB are needed, [\d.]+ MiB are free", bench.log(name).read_text(errors="replace"))
        faults = expect(bench, name, code, 1, "this config cannot be run")
        faults += ["metrics were written"] * (disk / "run" / "metrics.jsonl").exists()
    return Fault(title, f"refused: {said[0] if said else 'without numbers'}", faults)


def damaged(bench: Bench, how: str) -> Fault:
    """Of a run that was killed behind its third checkpoint one file of the newest one is damaged."""
    rng, name = random.Random(how), f"damaged_{how}"
    process, checkpoints = bench.start(name), bench.folder / name / "checkpoints"
    wait_for((checkpoints / str(3 * CHECKPOINT_EVERY)).exists, process)
    process.kill()
    process.wait()
    newest = max((path for path in checkpoints.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    files = [path for path in sorted(newest.rglob("*")) if path.is_file() and path.name != "commit_success.txt"]
    path = rng.choice([path for path in files if path.name != "_CHECKPOINT_METADATA"])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    content = {"truncated": content[: len(content) // 2], "garbage": rng.randbytes(len(content))}.get(how, content)
    path.unlink() if how == "missing" else path.write_bytes(content)
    faults = go_on(bench, name)
    faults += expect(bench, name, 0, 0, f"checkpoint {newest.name} is damaged", f"goes back to {int(newest.name) - 3}")
    return Fault(f"newest checkpoint: {path.relative_to(newest)} {how}", "says so; goes on from the one before", faults)


def dead_worker(bench: Bench) -> Fault:
    """The verifier's process is killed at three moments of a run whose every answer it must compare."""
    bench.finish("whole_algebra", variant="algebra")
    rng, name, killed = random.Random(0), "dead_worker", 0
    process = bench.start(name, variant="algebra")
    while process.poll() is None:
        time.sleep(0.5 + rng.random())
        for pid in workers_of(process.pid)[: int(killed < 3)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    from mig_jax.records import metrics

    faults, restarts = expect(bench, name, process.wait(), 0), 0.0
    for run in ("dead_worker", "whole_algebra"):  # but for the count the rows must be the same
        path = bench.folder / run / metrics.FILE_NAME
        restarts += sum(map(float, re.findall(r'"verifier/restarts": ([\d.]+)', path.read_text())))
        path.write_text(re.sub(r'"verifier/restarts": [\d.]+', '"verifier/restarts": 0.0', path.read_text()))
    different = differences(bench.folder / name, bench.folder / "whole_algebra")
    faults += [] if restarts else ["nothing was counted"]
    faults += [name for name in different if name != "tensorboard"]
    return Fault("verifier's worker killed", f"{killed} × killed, verifier/restarts adds up to {restarts:.0f}", faults)


def one_of_two_killed(bench: Bench, kills: int = 6) -> Fault:
    """SIGKILL at one of two processes, at a random moment: the other one leaves, and both go on."""
    began, rng, faults, seconds, phases = time.monotonic(), random.Random(0), [], [], collections.Counter()
    if any([process.wait() for process in bench.start_two("whole_two")]):
        return Fault("one of two processes killed", "the undisturbed run failed", ["see whole_two_0.log"])
    whole = time.monotonic() - began
    for number in range(kills):
        name, victim = f"two_{number}", number % 2
        processes = bench.start_two(name)
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[victim].wait(whole * (0.3 + 0.6 * rng.random()))
        phases["checkpoint write" if being_written(bench.folder / name) else bench.phase(f"{name}_{victim}")] += 1
        processes[victim].kill()
        began = time.monotonic()
        code = processes[1 - victim].wait()
        seconds.append(time.monotonic() - began)
        words = ("another process of this run has ended; rerun the same command to resume", "that another task died")
        if code == 0 or not any(bench.said(f"{name}_{1 - victim}", text) for text in words):
            faults.append(f"kill {number}: the other one ended with {code}, see {name}_{1 - victim}.log")
        if any([process.wait() for process in bench.start_two(name)]):
            faults.append(f"kill {number}: does not go on, see {name}_0.log")
        else:
            faults += [
                f"kill {number}: {text}" for text in differences(bench.folder / name, bench.folder / "whole_two")
            ]
    during = ", ".join(f"{count} during {phase}" for phase, count in phases.items())
    outcome = f"{kills} × killed ({during}); the other leaves within {max(seconds):.0f} s; both go on, same bytes"
    return Fault("one of two processes killed", outcome, faults)


def workers_of(pid: int) -> list[int]:
    """Processes of the verifier that this one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            is_child = int(path.read_text().rpartition(")")[2].split()[1]) == pid
            if is_child and b"mig_jax.text.answers.verifier_worker" in (path.parent / "cmdline").read_bytes():
                found.append(int(path.parent.name))
    return found


def few_bad_batches(bench: Bench) -> Fault:
    from mig_jax.records import metrics

    code = bench.finish("few_bad", poisoned="4,5")
    rows = [r for r in metrics.read_metrics(str(bench.folder / "few_bad"))[1] if "gradient/skipped" in r]
    faults = expect(bench, "few_bad", code, 0)
    faults += [] if [r["gradient/skipped"] for r in rows] == [0] * 3 + [1] + [2] * 8 else ["not counted"]
    return Fault("nan in 2 batches", f"goes on; gradient/skipped is {rows[-1]['gradient/skipped']:.0f}", faults)


def many_bad_batches(bench: Bench) -> Fault:
    name = "many_bad"
    code = bench.finish(name, poisoned="4,5,6,7,8,9,10")
    faults = expect(bench, name, code, 1, "was not finite in the last 5 updates (optimizer.max_skipped=5)")
    faults += [] if (bench.folder / name / "not_finite_000008.npz").exists() else ["no batch is written"]
    if bench.finish(name) != 0 or not bench.said(name, "where 8 of 12 steps are done"):
        faults.append("does not go on behind the checkpoint")
    return Fault("nan in 7 batches", "ends behind the fifth, batch and checkpoint written; goes on", faults)


def other_faults(bench: Bench) -> list[Callable[[], Fault]]:
    checks = [full_quota, no_room, dead_worker, one_of_two_killed, few_bad_batches, many_bad_batches]
    # Rows do not fit; or rows do, and checkpoints do not.
    checks += [functools.partial(full_disk, room=room) for room in (0, 200_000)]
    checks += [functools.partial(damaged, how=how) for how in ("truncated", "garbage", "flipped", "missing")]
    return [functools.partial(check, bench) for check in checks]


def fault_table(faults: list[Fault]) -> str:
    lines = ["| fault | what the run does | as wanted |", "|---|---|---|"]
    return "\n".join(lines + [f"| {f.name} | {f.outcome} | {'; '.join(f.faults) or 'yes'} |" for f in faults])


# ------------------------------------------------------------------------------------------------------------- together


def run_harness(folder: Path, *, runs: int, jobs: int, with_faults: bool) -> bool:
    """Print both tables; is everything as it should be?"""
    bench = Bench(folder, folder / "algebra.jsonl")
    write_algebra(bench.rows)
    if code := bench.finish("whole"):
        raise RuntimeError(f"the undisturbed run ended with {code}, see {bench.log('whole')}")
    began = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        # As many at once as later, so that moments are drawn from how long a run takes then.
        probes = [pool.submit(bench.finish, f"again_{n}", cached=False) for n in range(jobs)]
        codes = [probe.result() for probe in probes]
        seconds = time.monotonic() - began
        again = [differences(folder / f"again_{n}", folder / "whole") for n in range(jobs)]
        print(f"{jobs} undisturbed runs at once, {seconds:.0f} s: exit codes {codes}, differences {again}", flush=True)
        kills = list(pool.map(lambda number: kill(bench, number, seconds), range(runs)))
        print(f"\n{runs} runs killed and resumed\n\n{kill_table(kills)}\n", flush=True)
        faults = list(pool.map(lambda check: check(), other_faults(bench))) if with_faults else []
    if faults:
        print(fault_table(faults))
    return not any(k.different for k in kills) and not any(f.faults for f in faults) and not any(again)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="kills")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--faults", action=argparse.BooleanOptionalAction, default=True, help="the other faults too")
    parser.add_argument("--folder", help="where to leave everything; a temporary one when left out")
    options = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    with contextlib.ExitStack() as stack:
        folder = options.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="fault_harness_"))
        Path(folder).mkdir(parents=True, exist_ok=True)
        is_fine = run_harness(Path(folder), runs=options.runs, jobs=options.jobs, with_faults=options.faults)
    sys.exit(0 if is_fine else 1)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    if sys.argv[1:2] == ["--inside"]:
        run_wrapped(sys.argv[2], set(map(int, filter(None, sys.argv[4].split(",")))), sys.argv[5:])
    else:
        main()
