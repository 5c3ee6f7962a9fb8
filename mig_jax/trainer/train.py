"""Train a policy, by RL or by SFT: check the config, build the run, loop over its steps, save the model."""

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from mig_jax import parts
from mig_jax.check_config import check_config
from mig_jax.config import Config, ModelConfig
from mig_jax.distributed import multihost, sharding
from mig_jax.learning.train_step import init_state, partition
from mig_jax.policy.load import Policy, check_run_lengths, load_policy
from mig_jax.policy.prompts import with_style
from mig_jax.policy.save import save_policy
from mig_jax.records.progress import progress
from mig_jax.text.step_format import find_format
from mig_jax.trainer import announce, disk_space, saved_model, sft_stage
from mig_jax.trainer.preemption import Preempted
from mig_jax.trainer.report import SFT_STAGE, warn_after_evaluation, warn_after_step, write_report
from mig_jax.trainer.run_state import RunState, open_run
from mig_jax.trainer.update import build_optimizer


def run(
    config: Config,
    workdir: str,
    *,
    mode: str,
    devices: Sequence[Any] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train in `workdir`, or resume the run that was stopped there.

    Args:
      config: see `configs/default.py`.
      workdir: receives checkpoints/, metrics.jsonl, tensorboard/, transcripts/, parts/, plots and the trained model/.
      mode: "train" (RL) or "sft".
      devices: `jax.Device`s to use; None for all.
      should_stop: called after every step; when it is true on any process, all stop. See `preemption`.

    Raises:
      ConfigError: lists everything that is wrong with the config or the disk.
      UserError: the model or the data cannot be used, or have changed since the run was started.
      Preempted: `should_stop` was true; the same call resumes the run.
      NotFiniteError: loss or gradient was not finite in `optimizer.max_skipped` updates in a row.
    """
    devices = jax.devices() if devices is None else devices
    copies = os.path.join(workdir, parts.FOLDER)
    for warning in multihost.sync_errors(lambda: parts.use_copies(copies)):
        print(f"warning: {warning}", file=sys.stderr)
    multihost.sync_errors(lambda: check_config(config, mode=mode, n_devices=len(devices)))
    disk_space.check_workdir(workdir)
    multihost.broadcast_from_main(lambda: parts.save_copies(config, copies))
    mesh = sharding.make_mesh(config.mesh.to_dict(), devices=devices)
    print(announce.describe_devices(mesh, mode=mode, workdir=workdir))
    start = config.model
    if mode == "train" and config.sft.steps:
        start = run_sft_stage(config, os.path.join(workdir, SFT_STAGE), devices, should_stop)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        format = find_format(config.response_format)
        policy = multihost.sync_errors(
            lambda: with_style(load_policy(start, mesh, seed=config.seed, format=format), config)
        )
        check_run_lengths(policy, config)
        print(announce.describe_model(policy, start.path))
        print(announce.describe_microbatches(policy, config, mode=mode))
        multihost.broadcast_from_main(lambda: check_disk_space(policy, config, workdir))
        run_state = open_run(config, workdir, mode, policy, stack)
        was_finished = run_state.is_last and not run_state.eval_pending
        print(announce.describe_plan(config, mode=mode, workdir=workdir, done=run_state.done))
        train_loop(run_state, lambda: any(multihost.all_gather_objects(should_stop())))
        is_saved = functools.partial(saved_model.is_saved, workdir, step=run_state.done)
        if not was_finished or not multihost.broadcast_from_main(is_saved):
            multihost.broadcast_from_main(lambda: saved_model.begin_saving(workdir))
            save_policy(policy, run_state.train_state.params, os.path.join(workdir, "model"), config=config)
            multihost.broadcast_from_main(lambda: saved_model.write_model_card(run_state, policy))
        multihost.broadcast_from_main(lambda: write_report(workdir))


def run_sft_stage(config: Config, workdir: str, devices: Sequence[Any], should_stop: Callable[[], bool]) -> ModelConfig:
    """Run `config.sft.steps` steps of SFT in `workdir`, unless they are done; return the model to start RL from.

    Raises:
      ConfigError: they are done, but with another model, other data or other settings; lists them.
    """
    stage = sft_stage.stage_config(config)
    if not multihost.broadcast_from_main(lambda: sft_stage.is_finished(stage, workdir)):
        run(stage, workdir, mode="sft", devices=devices, should_stop=should_stop)
    return sft_stage.start_model(config, workdir)


def train_loop(run: RunState, should_stop: Callable[[], bool]) -> None:
    """Train until the last step. An error or a stop that ends the run early is raised after a checkpoint is saved.

    A checkpoint follows the rows of metrics that it covers; a resumed run drops later rows. If a stop
    preempts a due evaluation, it stays pending and is made on resume.
    """
    if run.eval_pending and not run.is_evaluated():
        run.evaluate()
        if multihost.is_main_process() and not run.done:
            warn_after_evaluation(run.workdir)
    if should_stop() and not run.is_last:
        raise Preempted(f"stopped after step {run.done} of {run.config.steps}")
    run.window.start = time.perf_counter()
    steps = range(run.done, run.config.steps)
    for _ in progress(steps, initial=run.done, total=run.config.steps, desc=run.mode, unit="step"):
        batch = run.step()
        exit_error = run.log(batch)
        if multihost.is_main_process() and not run.is_last:
            warn_after_step(run.workdir, done=run.done, every=run.config.log.every)
        if should_stop() and not run.is_last:
            exit_error = exit_error or Preempted(f"stopped after step {run.done} of {run.config.steps}")
        run.eval_pending = run.is_eval_due()
        score = run.evaluate() if run.eval_pending and not exit_error else None
        if exit_error or run.is_last or run.done % run.config.checkpoint.every == 0:
            run.save_checkpoint(score)
        if exit_error:
            raise exit_error


def check_disk_space(policy: Policy, config: Config, workdir: str) -> None:
    """Check that checkpoints and the trained model fit on the disk. Compiles nothing.

    Raises:
      ConfigError: they do not fit.
    """
    trained, frozen = partition(jax.eval_shape(lambda: policy.params), policy.is_trainable)
    state = jax.eval_shape(functools.partial(init_state, tx=build_optimizer(config)), trained)
    saves_adapters = policy.config.lora and config.model.lora.save == "adapter"
    disk_space.check_room(
        workdir,
        checkpoint=disk_space.nbytes(state),
        kept=config.checkpoint.keep + config.checkpoint.keep_best,
        model=disk_space.nbytes(trained if saves_adapters else (trained, frozen)),
    )
