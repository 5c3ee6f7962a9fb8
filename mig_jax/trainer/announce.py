"""What a training run prints before it begins: devices, model, problems, steps, and what compiles."""

import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from mig_jax.config import Config
from mig_jax.data.sources import parse_mixture
from mig_jax.learning.train_step import partition
from mig_jax.policy.load import Policy
from mig_jax.rollout.problem_set import FilteredDataset, eval_source
from mig_jax.trainer.update import plan_microbatches


def describe_devices(mesh: Mesh, *, mode: str, workdir: str) -> str:
    """Return what runs where: "train in /tmp/run, on 4 × NVIDIA H100 (gpu), mesh data=4"."""
    device = mesh.devices.flat[0]
    axes = ", ".join(f"{name}={size}" for name, size in mesh.shape.items() if size > 1)
    kind = f"{device.device_kind} ({device.platform})" if device.device_kind != device.platform else device.platform
    where = f"{mesh.size} × {kind}" + (f", mesh {axes}" if axes else "")
    processes = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{mode} in {workdir}, on {where}{processes}"


def describe_model(policy: Policy, path: str) -> str:
    """Return the model and how many of its parameters are trained.

    Args:
      policy: before its parameters are donated.
      path: where the model was read from; "" for random parameters.
    """
    trained, frozen = (_count(part) for part in partition(policy.params, policy.is_trainable))
    split = f"{_short(trained)} trained, {_short(frozen)} frozen" if frozen else "all trained"
    return f"model: {path or 'random parameters'}, {_short(trained + frozen)} parameters ({split})"


def describe_microbatches(policy: Policy, config: Config, *, mode: str) -> str:
    """Return the micro-batches of an update: "micro-batches: 64 to an update, of 4 rows; chosen for cpu"."""
    n, rows = plan_microbatches(policy, config, mode)
    told = f"micro-batches: {n} to an update, of {rows} row{'s' if rows > 1 else ''}"
    if config.optimizer.microbatches:
        return f"{told} (optimizer.microbatches)"
    return f"{told}; chosen for {policy.mesh.devices.flat[0].device_kind}, fewer where rows are short"


def describe_problems(config: Config, train: Sequence[FilteredDataset], held_out: FilteredDataset | None) -> str:
    """Return the number of accepted and rejected problems of each source."""
    names = [part.name for part in parse_mixture(config.data.train)]
    parts = [_accepted(name, source) for name, source in zip(names, train, strict=True)]
    held = _accepted(eval_source(config), held_out) if held_out else "none (evaluation is off)"
    return f"problems: {', '.join(parts)}; held out: {held}"


def describe_plan(config: Config, *, mode: str, workdir: str, done: int) -> str:
    """Return the plan of a run, as lines: its steps and rows, its evaluations, and what compiles.

    Args:
      config: of the run.
      mode: "train" or "sft".
      workdir: of the run.
      done: steps that are done already; if all are, the lines say that.
    """
    if done >= config.steps:
        return _describe_finished(config, workdir=workdir, done=done)
    r, e, tokens = config.rollout, config.eval, config.data.max_prompt_tokens + config.rollout.max_new_tokens
    rows = f"{config.sft.batch_size} solutions"
    compiled = "the update"
    if mode == "train":
        rows = f"{r.questions} questions × {r.group_size} samples = {r.questions * r.group_size} responses"
        compiled = "sampling, " + ("scoring, " if config.loss.alpha else "") + "the update"
    lines = [f"steps: {done + 1} to {config.steps}, each of {rows}, of at most {tokens} tokens with the prompt"]
    times = ["at the start"] if e.at_start and not done else []
    times += [f"every {e.every} steps"] if e.every else []
    times += ["at the end"] if e.at_end else []
    if times:
        lines.append(f"evaluation: {', '.join(times)}; 1 greedy and {e.samples} sampled responses to a problem")
    first = "the first evaluation and the first step compile" if times else "the first step compiles"
    lines.append(f"{first} ({compiled}), which takes longest")
    return "\n".join(lines)


def _describe_finished(config: Config, *, workdir: str, done: int) -> str:
    """Return that nothing is left to do, where the model is, and how to train on."""
    model = os.path.join(workdir, "model")
    steps = f"{done} of {done} steps are done"
    if done > config.steps:
        steps = f"{done} steps are done, more than steps={config.steps}"
    told = f"this run is finished: {steps}, and the model is in {model}"
    if config.optimizer.decay != "constant":
        advice = f"its learning rate has decayed: to train on, use a new workdir with --model={model}"
    else:
        advice = f"to train on, give more steps: --config.steps={2 * max(done, config.steps)}"
    return f"{told}\n{advice}"


def _accepted(name: str, source: FilteredDataset) -> str:
    """Return "gsm8k 7,300", or with its rejected problems "gsm8k 7,300 (173 of 7,473 rejected)"."""
    accepted, rejected = len(source), source.rejected.total()
    note = f" ({rejected:,} of {accepted + rejected:,} rejected)" if rejected else ""
    return f"{name} {accepted:,}{note}"


def _count(params: object) -> int:
    return int(sum(np.prod(x.shape) for x in jax.tree.leaves(params)))


def _short(count: int) -> str:
    """Return a number of parameters as "165K" or "3.09B"."""
    for unit, letter in ((1e9, "B"), (1e6, "M")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return f"{count / 1e3:.3g}K"
