"""Our step beside those of tunix and TRL: the same model, the same number of tokens, whole steps in turns.

    python -m venv /tmp/tunix && /tmp/tunix/bin/pip install google-tunix==0.1.7
    python -m venv /tmp/trl && /tmp/trl/bin/pip install trl==1.16.0 --extra-index-url https://download.pytorch.org/whl/cpu
    python benchmarks/against_peers.py --tunix_python=/tmp/tunix/bin/python --trl_python=/tmp/trl/bin/python

Peers are used as their packages come, in float32. One random Qwen2 is written, and read by all. Each side is a process
of its own (`benchmarks/peers/`), and waits while the others work. A round is one step of each side, so what else the
machine does hits all alike; what is printed is the median over the rounds, and the range, of theirs / ours.

`--what` chooses what is compared:

    step        64 rows of 128 new tokens after prompts of 64, and one GRPO update, at V = 8,192
    logprobs    log-probs of given completions, the forward pass alone, at `--large_vocab`
    update      one update on given completions, at `--large_vocab`
    first_step  from the start of the process to the end of the first step, with an empty and a filled compilation cache

`--ours=CHECKOUT` takes our side from another folder, such as a clone at an older commit; `--before=CHECKOUT` adds one
as a side of its own. Without a peer's `--…_python` that peer is left out. `--cores=1` gives every side one core: on a
busy machine, threads that wait for each other take CPU time of their own, torch's above all. One process holds at most
16 GiB at the default sizes; `--large_rows=16` takes a quarter of it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from peers.model_folder import draw_prompts, write_model

HERE = Path(__file__).resolve().parent
WHAT = ("step", "logprobs", "update", "first_step")
COLUMNS = {
    "step": ("rollout", "update", "wall", "rollout_cpu", "update_cpu", "cpu", "peak_mib"),
    "logprobs": ("wall", "cpu", "peak_mib"),
    "update": ("wall", "cpu", "peak_mib"),
    "first_step": ("cold", "warm", "cold_cpu", "warm_cpu"),
}
Laps = dict[str, float]


class Worker:
    """One side in its own process: each call is one unit of work, and returns what it measured."""

    def __init__(self, command: Sequence[str], env: dict[str, str], cores: int):
        self.name = command[-2]
        self.log = tempfile.TemporaryFile("w+")
        if cores:
            chosen = sorted(os.sched_getaffinity(0))[:cores]
            command = ["taskset", "--cpu-list", ",".join(map(str, chosen)), *command]
        self.process = subprocess.Popen(
            command, env=os.environ | env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )

    def __call__(self) -> Laps:
        assert self.process.stdin
        print("go", file=self.process.stdin, flush=True)
        return self.read()

    def read(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
          SystemExit: the process has ended; says what it printed last.
        """
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise SystemExit(f"{self.name} ended with code {self.process.returncode}:\n{self.log.read()[-4000:]}")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


@contextmanager
def open_worker(command: Sequence[str], *, cores: int = 0, env: dict[str, str] | None = None) -> Iterator[Worker]:
    """Start a worker on so many cores, 0 for all, and wait until it is ready; end it afterwards."""
    worker = Worker(command, env or {}, cores)
    try:
        worker.read()
        yield worker
    finally:
        worker.close()


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", default="step,logprobs,update,first_step", help="comparisons, separated by commas")
    parser.add_argument("--ours", default=str(HERE.parent), help="checkout of our side")
    parser.add_argument("--before", default="", help="a second checkout of our side, to compare with the first")
    parser.add_argument("--ours_python", default=sys.executable, help="Python of our side")
    parser.add_argument("--tunix_python", default="", help="Python that has tunix")
    parser.add_argument("--trl_python", default="", help="Python that has TRL")
    parser.add_argument("--ours_options", default="{}", help='keys of our config, as {"optimizer.microbatches": 8}')
    parser.add_argument("--trl_options", default="{}", help='of GRPOConfig, as {"gradient_checkpointing": false}')
    parser.add_argument("--out", default="", help="JSON file for all that was measured")
    for name, value in {
        "questions": 8, "group_size": 8, "prompt": 64, "response": 128, "layers": 6, "width": 256, "vocab": 8192,
        "large_vocab": 151_936, "large_rows": 64, "rounds": 5, "large_rounds": 3, "warm_up": 2,
        "cores": 0,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args(argv)
    args.what = args.what.split(",")
    if unknown := set(args.what) - set(WHAT):
        parser.error(f"--what: {', '.join(sorted(unknown))}: choose from {', '.join(WHAT)}")
    if args.large_rows % args.group_size:
        parser.error("--large_rows must be a multiple of --group_size")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    print(f"{describe_machine(args.ours)}\n{' '.join(sys.argv[1:])}", flush=True)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for what in args.what:
            task = make_task(args, what, Path(scratch))
            commands = make_commands(args, task)
            if what == "first_step":
                found[what] = {
                    side: measure_first_steps(command, scratch, args.cores) for side, command in commands.items()
                }
            else:
                rounds = args.rounds if what == "step" else args.large_rounds
                found[what] = take_turns(commands, warm_up=args.warm_up, rounds=rounds, cores=args.cores)
            report(what, found[what])
    if args.out:
        Path(args.out).write_text(json.dumps(found, indent=1), encoding="utf-8")


def describe_machine(checkout: str) -> str:
    """Return commit, number of cores and load."""
    git = subprocess.run(["git", "-C", checkout, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return f"commit {git.stdout.strip() or 'unknown'}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def make_task(args: argparse.Namespace, what: str, scratch: Path) -> dict[str, Any]:
    """Write the model of a comparison, unless it is there, and return the task of its workers."""
    is_large = what in ("logprobs", "update")
    vocab, questions = (
        (args.large_vocab, args.large_rows // args.group_size) if is_large else (args.vocab, args.questions)
    )
    folder = scratch / f"model_{vocab}"
    if not folder.exists():
        write_model(folder, layers=args.layers, width=args.width, vocab=vocab)
    return {
        "kind": "step" if what == "first_step" else what,
        "folder": str(folder),
        "prompts": draw_prompts(questions, args.prompt),
        "prompt": args.prompt,
        "group_size": args.group_size,
        "response": args.response,
        "checkout": os.path.abspath(args.ours),
    }


def make_commands(args: argparse.Namespace, task: dict[str, Any]) -> dict[str, list[str]]:
    """Return the command of each side that is asked for, ours first."""
    pythons = {
        "ours": args.ours_python, "before": args.before and args.ours_python, "tunix": args.tunix_python,
        "trl": args.trl_python,
    }  # fmt: skip
    changes: dict[str, dict[str, Any]] = {
        "ours": {"options": json.loads(args.ours_options)},
        "before": {"checkout": os.path.abspath(args.before)},
        "trl": {"options": json.loads(args.trl_options)},
    }
    return {
        side: [python, str(HERE / "peers" / "worker.py"), side, json.dumps(task | changes.get(side, {}))]
        for side, python in pythons.items()
        if python
    }


def take_turns(commands: dict[str, list[str]], *, warm_up: int, rounds: int, cores: int = 0) -> dict[str, list[Laps]]:
    """Return what each round measured, by side, without the rounds that compile."""
    with ExitStack() as stack:
        workers = {side: stack.enter_context(open_worker(command, cores=cores)) for side, command in commands.items()}
        for worker in workers.values():
            for _ in range(warm_up):
                worker()
        laps: dict[str, list[Laps]] = {side: [] for side in workers}
        for _ in range(rounds):
            for side, worker in workers.items():
                laps[side].append(worker())
        return laps


def measure_first_steps(command: list[str], scratch: str, cores: int) -> list[Laps]:
    """Return the seconds from the start of a process to the end of its first step: compilation cache empty, then full.

    TRL compiles nothing; its second start shows what else is faster the second time.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        env = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5"}
        laps = {}
        for name in ("cold", "warm"):
            start = time.perf_counter()
            with open_worker(command, cores=cores, env=env) as worker:
                laps[f"{name}_cpu"] = worker()["process_cpu"]
                laps[name] = time.perf_counter() - start
    return [laps]


def report(what: str, laps: dict[str, list[Laps]]) -> None:
    """Print the medians of each side, and the median and range of theirs / ours over the rounds."""
    columns = COLUMNS[what]
    print(f"\n{what:14}" + "".join(f"{column:>20}" for column in columns))
    for side, rounds in laps.items():
        print(f"{side:14}" + "".join(f"{statistics.median(lap[column] for lap in rounds):20.2f}" for column in columns))
    for side in [side for side in laps if side != "ours"]:
        rounds = list(zip(laps["ours"], laps[side], strict=True))
        cells = [ratio_text([theirs[column] / ours[column] for ours, theirs in rounds]) for column in columns]
        print(f"{f'{side} / ours':14}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


def ratio_text(ratios: Sequence[float]) -> str:
    """Return the median of ratios, with their range where there are several."""
    text = f"{statistics.median(ratios):.2f}"
    return text if len(ratios) == 1 else f"{text} ({min(ratios):.2f}–{max(ratios):.2f})"


if __name__ == "__main__":
    main()
