"""Three steps of every method on one device, on eight, and on two processes of four each: is it the same?

    python tools/device_table.py            the whole table, in half an hour

Two processes hold devices that are neighbours in the mesh, or every other one ("in turns"): then the rows of a process
are not neighbours, and where there is a `tensor` axis it spans both processes, which hold the same rows.

Tokens must be identical. What is added up in another order is not, so losses and weights are compared to rounding:
losses by their difference, and in parts of them where they are more than 1 (those of RL are next to nothing, the sum
of parts of that size); weights by the norm of the difference in parts of their norm. `moved` is stricter: in parts of
what three steps have moved them by.

The optimizer is plain gradient descent. Adam divides a gradient by its own size, also where it is nothing but rounding,
as that of a bias of keys, to which softmax is blind: its first step goes up or down by the learning rate, as chance has
it, and would tell nothing of how devices are used.

This file is also what the processes run.
"""

import argparse
import contextlib
import functools
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
STEPS = 3
MODELS, METHODS = ("text", "vision"), ("mig", "grpo", "sft")
SHAPES = ({"fsdp": 8}, {"fsdp": 4, "tensor": 2}, {"data": 2, "fsdp": 2, "tensor": 2})
# More is a fault.
LOSS, WEIGHTS, MOVED = 1e-6, 1e-5, 1e-4


class Run(NamedTuple):
    """What three steps leave, on the host.

    tokens: `[3, B, S]`; loss: `[3]`; start, end: all weights, one behind the other.
    """

    tokens: Any
    loss: Any
    start: Any
    end: Any


def config_of(model: str, method: str):
    """Few rows of few tokens, and large steps, which make visible what is wrong with them."""
    from tests import tiny

    config = {"text": tiny.get_quickstart, "vision": tiny.get_scenes}[model](model__vision__freeze=False)
    config.rollout.questions, config.rollout.group_size, config.sft.batch_size = 8, 2, 8
    config.reward.max_steps, config.optimizer.peak_lr = 3, 0.1
    config.rollout.max_new_tokens, config.rollout.kv_cache_chunks = 90 if method == "sft" else 40, 2
    if method == "grpo":
        config.loss.alpha = config.loss.gamma = 0.0
    return config


def run(model: str, method: str, shape: dict[str, int], devices: Sequence[Any]) -> Run:
    """Three steps, as `train` makes them."""
    import jax
    import numpy as np

    from mig_jax.distributed import sharding
    from mig_jax.policy.load import load_policy
    from mig_jax.policy.prompts import encode_prompts
    from mig_jax.rollout.problem_set import open_training
    from mig_jax.rollout.rollout import Rollout
    from mig_jax.text.answers.verifier import Verifier
    from mig_jax.trainer import train
    from mig_jax.trainer import update as updates

    config, mode = config_of(model, method), "sft" if method == "sft" else "train"
    mesh = sharding.make_mesh(shape, devices=devices)
    with contextlib.ExitStack() as stack:
        stack.enter_context(plain_descent())
        if model == "vision":
            stack.enter_context(steps_and_verdicts_of_noise())
        stack.enter_context(jax.set_mesh(mesh))
        verifier = stack.enter_context(Verifier(workers=1))
        policy = load_policy(config.model, mesh, seed=0)
        (problems,), _ = open_training(policy, config, solved=mode == "sft")
        start = flat(policy.params)
        state, update = updates.build_update(policy, config, mode)
        collect = functools.partial(train.make_sft_batch, policy, config)
        if mode == "train":
            collect = Rollout(policy, config, verifier)
        tokens, losses = [], []
        for step in range(STEPS):
            asked = encode_prompts(policy, config, problems[step : step + 8])
            batch, _, _ = collect(state.params, asked, jax.random.key(step))
            tokens.append(sharding.to_host(batch.token_bs))
            state, metrics = update(state, batch)
            losses.append(float(metrics["loss/total" if mode == "train" else "loss/sft"]))
        return Run(np.stack(tokens), np.array(losses), start, flat(state.params))


def flat(params: Any) -> Any:
    import jax
    import numpy as np

    from mig_jax.distributed import sharding

    return np.concatenate([x.reshape(-1) for x in jax.tree.leaves(sharding.to_host(params))])


def plain_descent() -> contextlib.AbstractContextManager:
    import optax

    from mig_jax.trainer import update as updates

    return mock.patch.object(updates, "build_optimizer", lambda config: optax.sgd(config.optimizer.peak_lr))


@contextlib.contextmanager
def steps_and_verdicts_of_noise():
    """Random weights write no steps and no answers: there is a step every ten tokens, and tokens say who is right."""
    import numpy as np

    from mig_jax.policy import encoding
    from mig_jax.rollout import rollout

    read = encoding.parse_completion

    def read_completion(tokenizer, ids, *, is_truncated, max_steps, width):
        reading = read(tokenizer, ids, is_truncated=is_truncated, max_steps=max_steps, width=width)
        at_k, at_t = 10 * np.arange(max_steps + 1), np.arange(width)
        step_t = np.where(at_t < len(ids), np.minimum(at_t // 10, max_steps - 1), -1)
        return reading._replace(cut_k=np.minimum(at_k, len(ids)), valid_k=at_k <= len(ids), step_t=step_t)

    def check_answers(verifier, problems, readings):
        return [len(set(reading.text)) % 2 == 0 for reading in readings]

    with (
        mock.patch.object(encoding, "parse_completion", read_completion),
        mock.patch.object(rollout, "grade_completions", check_answers),
    ):
        yield


class Difference(NamedTuple):
    """Between two runs, as at the top. has_moved: what is compared is not nothing."""

    identical: bool
    loss: float
    weights: float
    moved: float
    has_moved: bool

    @property
    def is_rounding(self) -> bool:
        return self.identical and self.has_moved and self.loss < LOSS and self.weights < WEIGHTS and self.moved < MOVED


def difference(one: Run, many: Run) -> Difference:
    import numpy as np

    norm = np.linalg.norm
    apart, moved = norm(one.end - many.end), norm(one.end - one.start)
    return Difference(
        np.array_equal(one.tokens, many.tokens),
        float((np.abs(one.loss - many.loss) / np.maximum(1, np.abs(one.loss))).max()),
        float(apart / norm(one.end)),
        float(apart / max(moved, 1e-30)),
        bool(moved > 1e-4 * norm(one.end)),
    )


# ---------------------------------------------------------------------------------------------- in processes of its own


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class Job(NamedTuple):
    """A run. order: of the devices, "neighbours", "in turns", "reversed", or "one" for one device alone."""

    model: str
    method: str
    shape: dict[str, int]
    order: str


def run_in(count: int, devices: int, jobs: Sequence[Job], folder: Path) -> list[Run]:
    """The jobs, one after the other, in `count` processes of so many devices each.

    Raises:
      RuntimeError: one of them failed; with what it has said.
    """
    import numpy as np

    folder.mkdir(parents=True)
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    environment["PJRT_NPROC"] = "32"  # fake devices wait for each other in threads, of which there must be enough
    command = [sys.executable, __file__, "--inside", f"127.0.0.1:{free_port()}", str(count), json.dumps(jobs), folder]
    logs = [folder / f"{index}.log" for index in range(count)]
    with contextlib.ExitStack() as stack:
        started = [
            subprocess.Popen([*command, str(index)], env=environment, stdout=file, stderr=file)
            for index, file in enumerate(stack.enter_context(log.open("wb")) for log in logs)
        ]
        codes = [process.wait() for process in started]
    if any(codes):
        raise RuntimeError("\n".join(log.read_text(errors="replace")[-3000:] for log in logs))
    runs = []
    for number in range(len(jobs)):
        with np.load(folder / f"{number}.npz") as arrays:
            runs.append(Run(*(arrays[name] for name in Run._fields)))
    return runs


def run_inside(coordinator: str, count: int, jobs: str, folder: str, index: int) -> None:
    from mig_jax.distributed import multihost

    if count > 1:
        multihost.initialize(coordinator, count, index)
    import jax
    import numpy as np

    devices = np.array(jax.devices())
    turns = devices.reshape(count, -1).T.reshape(-1)
    orders = {"one": devices[:1], "neighbours": devices, "in turns": turns, "reversed": devices[::-1]}
    for number, job in enumerate(Job(*fields) for fields in json.loads(jobs)):
        done = run(job.model, job.method, job.shape, orders[job.order].tolist())
        if multihost.is_main_process():
            np.savez(Path(folder) / f"{number}.npz", **done._asdict())


def table(folder: Path, models: Sequence[str], methods: Sequence[str], shapes: Sequence[dict[str, int]]) -> bool:
    """Print it, line by line; is everything the same but for rounding?"""
    print("| model | method | mesh | devices | tokens | loss | weights | moved |\n|---|---|---|---|---|---|---|---|")
    is_fine = True
    for model, method in itertools.product(models, methods):
        near = [Job(model, method, shape, "neighbours") for shape in shapes]
        turns = [job._replace(order="in turns") for job in near]
        first = Job(model, method, {}, "one")
        one, *eight = run_in(1, 8, [first, *near], folder / f"{model}_{method}_eight")
        two = run_in(2, 4, near + turns, folder / f"{model}_{method}_two")
        for n, shape in enumerate(shapes):
            found = {"8": eight[n], "2 × 4": two[n], "2 × 4, in turns": two[n + len(shapes)]}
            for where, many in found.items():
                d = difference(one, many)
                is_fine &= d.is_rounding
                named = " × ".join(f"{axis} {size}" for axis, size in shape.items())
                tokens = "identical" if d.identical else "DIFFERENT"
                print(
                    f"| {model} | {method} | {named} | {where} | {tokens} | {d.loss:.0e} | {d.weights:.0e} | "
                    f"{d.moved:.0e} |{'' if d.is_rounding else ' MORE THAN ROUNDING'}",
                    flush=True,
                )
    return is_fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="devices_table_") as folder:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(folder, "cache"))
        sys.exit(0 if table(Path(folder), options.models, options.methods, SHAPES) else 1)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    if sys.argv[1:2] == ["--inside"]:
        coordinator, count, jobs, folder, index = sys.argv[2:]
        run_inside(coordinator, int(count), jobs, folder, int(index))
    else:
        main()
