"""Training, by reinforcement or on demonstrations: check the config, build the run, go round the loop."""

import contextlib
import copy
import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from mig_jax.check_config import COMPUTED_BY, check_config, check_unchanged
from mig_jax.config import Config, ModelConfig
from mig_jax.data import stream
from mig_jax.distributed import multihost, sharding
from mig_jax.evaluation.evaluator import Evaluator
from mig_jax.learning import losses
from mig_jax.learning.train_step import TrainState, combine, init_state, partition
from mig_jax.models import lora
from mig_jax.policy import encoding
from mig_jax.policy.load import Policy, load_policy, save_policy
from mig_jax.policy.prompts import PromptBatch, encode_prompts
from mig_jax.records import metrics, plots
from mig_jax.records.metrics import LogWindow
from mig_jax.records.transcripts import Transcript, read_transcripts, write_transcripts
from mig_jax.rollout.problem_set import FilteredDataset, open_held_out, open_training
from mig_jax.rollout.rollout import Rollout, Stopwatch
from mig_jax.text.answers.verifier import Verifier
from mig_jax.trainer import disk_space, nonfinite
from mig_jax.trainer.checkpointing import Checkpoints
from mig_jax.trainer.preemption import Preempted
from mig_jax.trainer.update import build_optimizer, build_update

# Where in a workdir the steps on demonstrations are that come before the first rollout.
WARM_UP = "warm_up"

RolloutResult = tuple[losses.Batch, dict[str, float], list[Transcript]]


def run(
    config: Config,
    workdir: str,
    *,
    mode: str,
    devices: Sequence[jax.Device] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train in `workdir`, or go on from where a run in it was stopped.

    Args:
      config: as in `configs/default.py`.
      workdir: gets checkpoints/, metrics.jsonl, tensorboard/, transcripts/, pictures and the trained model/.
      mode: "train" (reinforcement) or "sft" (demonstrations).
      devices: those to use; all when left out.
      is_asked_to_stop: asked behind every step, see `preemption.catch_stop_signals`. Any process may be asked; all stop.

    Raises:
      ConfigError: with everything that is wrong with the config, or with the disk.
      Stopped: the run was asked to stop; started again it goes on.
      NotFiniteError: loss or gradient was not finite in `optimizer.max_skipped` updates in a row.
    """
    devices = jax.devices() if devices is None else devices
    multihost.sync_errors(lambda: check_config(config, mode=mode, n_devices=len(devices)))
    disk_space.check_workdir(workdir)
    mesh = sharding.make_mesh(config.mesh.to_dict(), devices=devices)
    start = config.model
    if mode == "train" and config.sft.steps:
        start = warm_up(config, os.path.join(workdir, WARM_UP), devices, should_stop)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        policy = multihost.sync_errors(lambda: load_policy(start, mesh, seed=config.seed))
        _run(config, workdir, mode, policy, lambda: any(multihost.all_gather_objects(should_stop())), stack)


def warm_up(
    config: Config, workdir: str, devices: Sequence[jax.Device], should_stop: Callable[[], bool]
) -> ModelConfig:
    """`config.model`, starting from what `config.sft.steps` steps on demonstrations have made of it in `workdir`."""
    model, first = os.path.join(workdir, "model"), copy.deepcopy(config)
    first.steps, first.optimizer.peak_lr, first.optimizer.decay = config.sft.steps, config.sft.peak_lr, "cosine"
    first.optimizer.updates_per_rollout = 1
    first.data.train, first.data.eval = config.sft.data or config.data.train, config.data.eval or config.data.train
    first.data.train_size = config.sft.data_size or config.data.train_size
    first.model.lora.save = "merged"
    # Written last, so that where it is, all is.
    if not multihost.broadcast_from_main(lambda: os.path.exists(os.path.join(model, "config.json"))):
        run(first, workdir, mode="sft", devices=devices, should_stop=should_stop)
    start = copy.deepcopy(config.model)
    start.path, start.tokenizer = model, ""
    return start


def _run(
    config: Config,
    workdir: str,
    mode: str,
    policy: Policy,
    should_stop: Callable[[], bool],
    stack: contextlib.ExitStack,
) -> None:
    """Everything behind the checks; `stack` closes what is opened here, whatever happens."""
    multihost.broadcast_from_main(lambda: check_room(policy, config, workdir))
    verifier = stack.enter_context(Verifier(**config.verifier.to_dict()))

    batches, eval_problems = open_data(policy, config, mode)

    # ---------------------------------------------------------------------------------------------- state and compiled
    if mode == "train":
        on_host = config.loss.kl_reference_on_host
        reference = reference_of(policy, on_host=on_host) if config.loss.kl_coef else None
        collect = Rollout(policy, config, verifier, reference=reference)
    else:
        collect = functools.partial(make_sft_batch, policy, config)
    state, update = build_update(policy, config, mode)
    evaluator = Evaluator(policy, config, verifier)

    # ---------------------------------------------------------------------------------------------------------- resume
    # As it is read back: JSON knows no tuples.
    first, described = 0, json.loads(json.dumps(config.to_dict() | {"mode": mode}))
    k = config.checkpoint
    checkpoints = stack.enter_context(Checkpoints(workdir, keep=k.keep, keep_best=k.keep_best))
    restored = restore(checkpoints, state, policy, check=functools.partial(check_resume, workdir, now=described))
    is_owed = restored is None
    if restored:
        state, data_state = restored
        batches.set_state(data_state["stream"])
        first, is_owed = data_state["done"], data_state["owes_evaluation"]
        tqdm.write(f"going on in {workdir}, where {first} of {config.steps} steps are done")
    resume_step = first + 1 if restored else None
    sink = stack.enter_context(metrics.open_metrics(workdir, config=described, resume_step=resume_step))
    # The noise of a step depends on the seed and the step alone, so that a resumed run samples what it would have.
    key = jax.random.key(config.seed)

    def evaluate(done: int) -> float:
        name = f"evaluation after {done} steps"
        noise = jax.random.fold_in(key, 2 * done + 1)
        figures = evaluator.metrics(state.params, eval_problems, noise, name=name)
        sink.write(done, figures)
        return float(figures["eval/sampled"])

    # ------------------------------------------------------------------------------------------------------------ loop
    window = LogWindow(verifier)
    # An evaluation may have been made up for already, by a run that came no further.
    if is_owed and not multihost.broadcast_from_main(lambda: is_evaluated(workdir, first)):
        evaluate(first)
    if should_stop() and first < config.steps:
        raise Preempted(f"stopped behind step {first} of {config.steps}")
    window.start = time.perf_counter()
    for step in tqdm(range(first, config.steps), initial=first, total=config.steps, desc=mode, unit="step"):
        done, is_last = step + 1, step + 1 == config.steps
        leaving, figure = None, None
        batch, numbers, transcripts = collect(state.params, next(batches), jax.random.fold_in(key, 2 * step))
        window.add(numbers)
        if multihost.is_main_process() and transcripts and (step % config.log.transcripts_every == 0 or is_last):
            chosen = some_of_each_group(transcripts, config.rollout.group_size)[: config.log.transcripts]
            write_transcripts(chosen, transcripts_path(workdir, done))
        state, learned = update(state, batch)
        if done % config.log.every == 0 or is_last:
            learned = jax.device_get(learned)
            sink.write(done, window.summary(learned))
            window = LogWindow(verifier)
            limit = config.optimizer.max_skipped
            leaving = nonfinite.error_of(learned, batch, limit=limit, workdir=workdir, done=done)
        if should_stop() and not is_last:
            leaving = leaving or Preempted(f"stopped behind step {done} of {config.steps}")
        # Who leaves does so at once; the evaluation is made up for on resume.
        is_owed = is_last or (config.eval.every and done % config.eval.every == 0)
        if is_owed and not leaving:
            began = time.perf_counter()
            figure, is_owed = evaluate(done), False
            window.start += time.perf_counter() - began
        # Rows are written before the checkpoint that vouches for them; later ones are dropped on resume.
        if leaving or is_last or done % k.every == 0:
            trained = state._replace(params=partition(state.params, policy.is_trainable)[0])
            data_state = {"done": done, "stream": batches.get_state(), "owes_evaluation": bool(is_owed)}
            checkpoints.save(trained, data_state, described, figure=figure)
        if leaving:
            raise leaving

    # ----------------------------------------------------------------------------------------------------------- after
    save_policy(policy, state.params, os.path.join(workdir, "model"), config=config)
    multihost.broadcast_from_main(lambda: draw(workdir))


def open_data(policy: Policy, config: Config, mode: str) -> tuple[grain.DatasetIterator, FilteredDataset]:
    """The stream of batches to train on, and the problems to evaluate on, the same on all processes.

    Raises:
      ValueError: a source is wrong, or not the same on all processes, nor is the config.
    """
    train_problems, weights = multihost.sync_errors(lambda: open_training(policy, config, solved=mode == "sft"))
    eval_problems = multihost.sync_errors(lambda: open_held_out(policy, config))
    opened = {"mode": mode, "config": config.to_dict()} | {
        f"source {n}": [len(source), source[0].question, source[-1].question]
        for n, source in enumerate([*train_problems, eval_problems])
    }
    multihost.assert_equal_across_processes(opened)
    batches = stream.iterate(
        train_problems,
        weights=weights,
        seed=config.seed,
        batch_size=config.rollout.questions if mode == "train" else config.sft.batch_size,
        prepare=lambda problems: encode_prompts(policy, config, problems),
        read_ahead=config.data.read_ahead,
    )
    return batches, eval_problems


def is_evaluated(workdir: str, step: int) -> bool:
    """Is there a row of metrics of an evaluation behind this step?"""
    return any(row["step"] == step and "eval/sampled" in row for row in metrics.read_metrics(workdir)[1])


def check_room(policy: Policy, config: Config, workdir: str) -> None:
    """Is there room for the checkpoints and the trained model? Nothing is compiled to tell.

    Raises:
      ConfigError: there is not.
    """
    trained, frozen = partition(jax.eval_shape(lambda: policy.params), policy.is_trainable)
    state = jax.eval_shape(functools.partial(init_state, tx=build_optimizer(config)), trained)
    is_part = policy.config.lora and config.model.lora.save == "adapter"
    disk_space.check_room(
        workdir,
        checkpoint=disk_space.nbytes(state),
        kept=config.checkpoint.keep + config.checkpoint.keep_best,
        model=disk_space.nbytes(trained if is_part else (trained, frozen)),
    )


def reference_of(policy: Policy, *, on_host: bool) -> Callable[[Any], Any]:
    """(weights now) → weights at the start. Those that are trained are copied; adapters are simply left out.

    Args:
      on_host: the copy is in the memory of the hosts, and on the devices only as long as somebody holds the result.
    """
    if policy.config.lora:
        return lora.strip
    trained = partition(policy.params, policy.is_trainable)[0]
    if not on_host:
        copied = jax.tree.map(jnp.copy, trained)
        return lambda params: combine(copied, partition(params, policy.is_trainable)[1])
    places = jax.tree.map(lambda x: x.sharding, trained)
    # No alias, not even where host and device are one: updates give the memory of the weights away.
    of_host = jax.tree.map(lambda place: place.with_memory_kind("pinned_host"), places)
    copied = jax.device_put(trained, of_host, may_alias=False)
    return lambda params: combine(jax.device_put(copied, places), partition(params, policy.is_trainable)[1])


def make_sft_batch(
    policy: Policy, config: Config, params: Any, prompt_batch: PromptBatch, key: jax.Array
) -> RolloutResult:
    """A batch of written solutions, all gates open; it depends neither on the weights nor on chance."""
    del params, key
    watch = Stopwatch()
    tokenizer, (problems, prompts) = policy.tokenizer, prompt_batch
    here = sharding.local_row_indices(policy.mesh, len(problems))
    completions = [encoding.solution_ids(tokenizer, problems[row]) for row in here]
    completion_bt, mask_bt = encoding.pad_right(completions, config.rollout.max_new_tokens, tokenizer.pad_id)
    nothing_bt = np.zeros(mask_bt.shape, np.float32)
    batch = losses.Batch(
        token_bs=np.concatenate([prompts.token_qs, completion_bt], axis=1),
        start_b=prompts.start_q,
        full_mask_bt=mask_bt,
        cot_mask_bt=np.zeros_like(mask_bt),
        old_logprob_bt=nothing_bt,
        ref_logprob_bt=None,
        process_advantage_bt=nothing_bt,
        outcome_advantage_bt=nothing_bt,
        gate_b=np.ones(len(here), bool),
        images=prompts.images,
    )
    watch.lap("assemble")
    batch = sharding.to_mesh(batch, policy.mesh)
    # Of all rows; a number on the accelerator, which is not waited for.
    numbers = {"rollout/tokens": batch.full_mask_bt.sum(), "verifier/timeouts": 0.0} | watch.seconds
    return batch, numbers, []


def restore(
    checkpoints: Checkpoints, state: TrainState, policy: Policy, *, check: Callable[[dict], None]
) -> tuple[TrainState, dict[str, Any]] | None:
    """What `checkpoints` has: only the trained weights are in it, the frozen ones are those of `state`."""
    trained, frozen = partition(state.params, policy.is_trainable)
    found = checkpoints.restore(state._replace(params=trained), check=check)
    return found and (found[0]._replace(params=combine(found[0].params, frozen)), found[1])


def check_resume(workdir: str, before: dict[str, Any], *, now: dict[str, Any]) -> None:
    """A run goes on with the config that it began with; only what does not touch the learning may change.

    Arrays are laid out anew on other devices, and cast to another dtype, when they are read.

    Raises:
      ConfigError: with every value that differs.
    """
    free = ["log", "eval", "checkpoint", "verifier", "mesh", "data.read_ahead", "loss.kl_reference_on_host"]
    free += ["model.param_dtype", *COMPUTED_BY]
    free += [f"optimizer.{name}" for name in ("microbatches", "logprob_chunk", "max_skipped", "state_dtype")]
    if now["optimizer"]["decay"] == "constant":
        free.append("steps")  # a cosine is laid out over all of them
    check_unchanged(workdir, before=before, now=now, free=free)


def some_of_each_group(transcripts: Sequence[Transcript], group_size: int) -> list[Transcript]:
    """Four samples of the first question, four of the second, and so on."""
    groups = [transcripts[i : i + group_size] for i in range(0, len(transcripts), group_size)]
    return [transcript for group in groups for transcript in group[:4]]


def transcripts_path(workdir: str, done: int) -> str:
    return os.path.join(workdir, "transcripts", f"step_{done:06d}.jsonl")


def draw(workdir: str) -> None:
    """Pictures of a run, from what it has written: curves, and the gains of its first and last scored transcripts."""
    _, rows = metrics.read_metrics(workdir)
    plots.training_curves({"": rows}, os.path.join(workdir, "curves.png"))
    drawn = ["curves.png"]
    folder = os.path.join(workdir, "transcripts")
    files = sorted(name for name in os.listdir(folder) if name.endswith(".jsonl")) if os.path.isdir(folder) else []
    for name, chosen in (("gains_first", files[:1]), ("gains_last", files[-1:])):
        scored = [t for file in chosen for t in read_transcripts(os.path.join(folder, file)) if t.ell_k]
        if scored:
            plots.draw_gains(scored, os.path.join(workdir, name))
            drawn += [f"{name}.png", f"{name}.html"]
    print(accuracy_line(workdir))
    print(f"{', '.join(drawn)}, metrics.jsonl and the trained model/ are in {workdir}")


def accuracy_line(workdir: str) -> str:
    """How accuracy on held-out problems has moved, over a warm-up if there was one."""
    runs = [os.path.join(workdir, WARM_UP), workdir]
    read = {run: metrics.read_metrics(run)[1] for run in runs if os.path.isdir(run)}
    said = []
    for name in ("eval/sampled", "eval/greedy"):
        values = [value for rows in read.values() for value in metrics.column(rows, name)[1][[0, -1]]]
        said.append(f"{name.removeprefix('eval/')} " + " → ".join(f"{value:.3f}" for value in values))
    stages = "start → warmed up → start of RL → end" if len(read) > 1 else "start → end"
    return f"held-out accuracy ({stages}): {', '.join(said)}"
