"""Compare three training steps on one device, on eight, and on two processes with four devices each.

    python tools/device_table.py            the whole table, in half an hour

The devices of a process are neighbors in the mesh, or every other one ("in turns"). In turns, the rows of a process are
not contiguous. Where the mesh has a `tensor` axis, it spans both processes, which then hold the same rows.

Tokens must be identical. Sums are added up in another order on several devices, so losses and parameters are compared
to rounding. The columns of the table:

  loss     maximum difference, divided by the loss where that is more than 1. The loss of RL is close to 0: its terms
           are of order 1 and cancel.
  params   norm of the difference, divided by the norm of the parameters.
  moved    norm of the difference, divided by the norm of the change that three steps made. It is stricter.

The optimizer is plain gradient descent. Adam divides a gradient by its own size, even where it is only rounding, such
as that of a key bias, which softmax ignores. Its first step would go up or down by the learning rate at random.

The exit code is 1 if anything differs by more than rounding. The child processes run this file, too.
"""

import argparse
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
STEPS = 3
MODELS, METHODS = ("text", "vision"), ("mig", "grpo", "sft")
SHAPES = ({"fsdp": 8}, {"fsdp": 4, "tensor": 2}, {"data": 2, "fsdp": 2, "tensor": 2})
# Limits of rounding.
LOSS, PARAMS, MOVED = 1e-6, 1e-5, 1e-4


class Run(NamedTuple):
    """Results of the three steps, on the host.

    tokens: `[3, B, S]` ids of prompts and completions.
    loss: `[3]`.
    start, end: `[P]` all parameters before and after, concatenated.
    """

    tokens: np.ndarray
    loss: np.ndarray
    start: np.ndarray
    end: np.ndarray


def get_config(model: str, method: str) -> Any:
    """Return a config of few rows and few tokens, with a learning rate so large that a wrong update is visible."""
    from tests import tiny

    config = {"text": tiny.get_quickstart, "vision": tiny.get_scenes}[model](model__vision__freeze=False)
    config.rollout.questions, config.rollout.group_size, config.sft.batch_size = 8, 2, 8
    config.reward.max_steps, config.optimizer.peak_lr = 3, 0.1
    config.rollout.max_new_tokens, config.rollout.kv_cache_chunks = 90 if method == "sft" else 40, 2
    if method == "grpo":
        config.loss.alpha = config.loss.gamma = 0.0
    return config


def run(model: str, method: str, shape: dict[str, int], devices: Sequence[Any]) -> Run:
    """Make three steps as `train` does, on a mesh of this shape."""
    import jax

    from mig_jax.distributed import sharding
    from mig_jax.policy.load import load_policy
    from mig_jax.policy.prompts import encode_prompts
    from mig_jax.rollout.problem_set import open_train_problems
    from mig_jax.rollout.rollout import Rollout
    from mig_jax.rollout.sft_batch import SftBatches
    from mig_jax.text.answers.verifier import Verifier
    from mig_jax.trainer.update import build_update

    config, mode = get_config(model, method), "sft" if method == "sft" else "train"
    mesh = sharding.make_mesh(shape, devices=devices)
    with contextlib.ExitStack() as stack:
        stack.enter_context(plain_gradient_descent())
        if model == "vision":
            stack.enter_context(synthetic_steps_and_verdicts())
        stack.enter_context(jax.set_mesh(mesh))
        verifier = stack.enter_context(Verifier(workers=1))
        policy = load_policy(config.model, mesh, seed=0)
        (problems,), _ = open_train_problems(policy, config, need_solution=mode == "sft")
        start = concatenate_params(policy.params)
        state, update = build_update(policy, config, mode)
        make_batch = Rollout(policy, config, verifier) if mode == "train" else SftBatches(policy, config)
        tokens, losses = [], []
        for step in range(STEPS):
            prompt_batch = encode_prompts(policy, config, problems[step : step + 8])
            batch = make_batch(state.params, prompt_batch, jax.random.key(step)).batch
            tokens.append(sharding.to_host(batch.token_bs))
            state, (metrics,) = update(state, batch)
            losses.append(float(metrics["loss/total" if mode == "train" else "loss/sft"]))
        return Run(np.stack(tokens), np.array(losses), start, concatenate_params(state.params))


def concatenate_params(params: Any) -> np.ndarray:
    """Return all parameters as one vector, on the host of every process."""
    import jax

    from mig_jax.distributed import sharding

    return np.concatenate([x.reshape(-1) for x in jax.tree.leaves(sharding.to_host(params))])


def plain_gradient_descent() -> contextlib.AbstractContextManager:
    """Replace the optimizer that the config asks for."""
    import optax

    from mig_jax.trainer import update

    return mock.patch.object(update, "build_optimizer", lambda config: optax.sgd(config.optimizer.peak_lr))


@contextlib.contextmanager
def synthetic_steps_and_verdicts() -> Iterator[None]:
    """Replace parsing and grading, since random parameters write no steps and no answers.

    A step ends every ten tokens, and a response is correct if its number of distinct characters is even.
    """
    from mig_jax.policy import completions
    from mig_jax.rollout import grading
    from mig_jax.text.answers.verifier import Grade
    from mig_jax.text.response_format import CharSpan

    parse = completions.parse_completion

    def parse_completion(tokenizer, ids, *, max_steps, width, **options):
        parsed = parse(tokenizer, ids, max_steps=max_steps, width=width, **options)
        cuts = tuple(range(10, len(ids) + 1, 10))[:max_steps]
        at_t = np.arange(width)
        step_t = np.where(at_t < len(ids), np.minimum(at_t // 10, len(cuts)), -1)
        answer = str(len(set(parsed.text)) % 2)
        steps = tuple(CharSpan(0, 0) for _ in cuts)
        response = parsed.response._replace(answer=answer, steps=steps)
        return parsed._replace(
            response=response, cuts=cuts, prefixes=((),) * len(cuts), counts=(1,) * len(cuts), step_t=step_t
        )

    def grade_answers(verifier, questions, answers):
        return [Grade(answer == "0") for answer in answers]

    with (
        mock.patch.object(completions, "parse_completion", parse_completion),
        mock.patch.object(grading, "grade_answers", grade_answers),
    ):
        yield


class Difference(NamedTuple):
    """Difference between two runs, as in the table.

    identical: the tokens are the same.
    has_moved: the steps changed the parameters, so that the comparison means something.
    """

    identical: bool
    loss: float
    params: float
    moved: float
    has_moved: bool

    @property
    def is_rounding(self) -> bool:
        return self.identical and self.has_moved and self.loss < LOSS and self.params < PARAMS and self.moved < MOVED


def difference(one: Run, many: Run) -> Difference:
    """Compare a run on many devices with the run on one."""
    norm = np.linalg.norm
    apart, moved = norm(one.end - many.end), norm(one.end - one.start)
    return Difference(
        np.array_equal(one.tokens, many.tokens),
        float((np.abs(one.loss - many.loss) / np.maximum(1, np.abs(one.loss))).max()),
        float(apart / norm(one.end)),
        float(apart / max(moved, 1e-30)),
        bool(moved > 1e-4 * norm(one.end)),
    )


# ---------------------------------------------------------------------------------------------------- child processes


class Job(NamedTuple):
    """A run. order: of the devices in the mesh, "neighbors", "in turns" or "reversed"; "one" for a single device."""

    model: str
    method: str
    shape: dict[str, int]
    order: str


def free_port() -> int:
    """Return a port of this machine on which nothing listens."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def run_in_processes(count: int, devices: int, jobs: Sequence[Job], folder: Path) -> list[Run]:
    """Run the jobs one after another, in `count` processes with `devices` devices each.

    Raises:
      RuntimeError: a process failed; with the end of all logs.
    """
    folder.mkdir(parents=True)
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    environment["PJRT_NPROC"] = "32"  # threads: fake devices block one each while they wait for each other
    command = [sys.executable, __file__, "--inside", f"127.0.0.1:{free_port()}", str(count), json.dumps(jobs), folder]
    logs = [folder / f"{index}.log" for index in range(count)]
    with contextlib.ExitStack() as stack:
        processes = [
            subprocess.Popen([*command, str(index)], env=environment, stdout=file, stderr=file)
            for index, file in enumerate(stack.enter_context(log.open("wb")) for log in logs)
        ]
        codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError("\n".join(log.read_text(errors="replace")[-3000:] for log in logs))
    runs = []
    for number in range(len(jobs)):
        with np.load(folder / f"{number}.npz") as arrays:
            runs.append(Run(*(arrays[name] for name in Run._fields)))
    return runs


def run_jobs(coordinator: str, count: int, jobs: str, folder: str, index: int) -> None:
    """Run the jobs as process `index` of `count`; the main process writes the results to `folder`."""
    from mig_jax.distributed import multihost

    if count > 1:
        multihost.initialize(coordinator, count, index)
    import jax

    devices = np.array(jax.devices())
    turns = devices.reshape(count, -1).T.reshape(-1)
    orders = {"one": devices[:1], "neighbors": devices, "in turns": turns, "reversed": devices[::-1]}
    for number, job in enumerate(Job(*fields) for fields in json.loads(jobs)):
        result = run(job.model, job.method, job.shape, orders[job.order].tolist())
        if multihost.is_main_process():
            np.savez(Path(folder) / f"{number}.npz", **result._asdict())


# ---------------------------------------------------------------------------------------------------------- the table


def print_table(folder: Path, models: Sequence[str], methods: Sequence[str], shapes: Sequence[dict[str, int]]) -> bool:
    """Print the table line by line; return whether all differences are rounding."""
    print("| model | method | mesh | devices | tokens | loss | params | moved |\n|---|---|---|---|---|---|---|---|")
    all_rounding = True
    for model, method in itertools.product(models, methods):
        neighbors = [Job(model, method, shape, "neighbors") for shape in shapes]
        turns = [job._replace(order="in turns") for job in neighbors]
        first = Job(model, method, {}, "one")
        one, *eight = run_in_processes(1, 8, [first, *neighbors], folder / f"{model}_{method}_eight")
        two = run_in_processes(2, 4, neighbors + turns, folder / f"{model}_{method}_two")
        for n, shape in enumerate(shapes):
            mesh = " × ".join(f"{axis} {size}" for axis, size in shape.items())
            runs = {"8": eight[n], "2 × 4": two[n], "2 × 4, in turns": two[n + len(shapes)]}
            for devices, many in runs.items():
                found = difference(one, many)
                all_rounding &= found.is_rounding
                print(table_row([model, method, mesh, devices], found), flush=True)
    return all_rounding


def table_row(cells: Sequence[str], found: Difference) -> str:
    numbers = [f"{number:.0e}" for number in (found.loss, found.params, found.moved)]
    cells = [*cells, "identical" if found.identical else "DIFFERENT", *numbers]
    return f"| {' | '.join(cells)} |{'' if found.is_rounding else ' MORE THAN ROUNDING'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="models to compare")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="training methods to compare")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="device_table_") as folder:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(folder, "cache"))
        sys.exit(0 if print_table(Path(folder), options.models, options.methods, SHAPES) else 1)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    if sys.argv[1:2] == ["--inside"]:
        coordinator, count, jobs, folder, index = sys.argv[2:]
        run_jobs(coordinator, int(count), jobs, folder, int(index))
    else:
        main()
