"""The mutable state of a run, and the operations of one step."""

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from mig_jax.check_config import COMPUTE_ONLY, check_unchanged, evaluates
from mig_jax.config import Config
from mig_jax.data import stream
from mig_jax.data.problem import Problem
from mig_jax.data.sources import parse_mixture
from mig_jax.distributed import multihost, sharding
from mig_jax.distributed.out_of_memory import explain_out_of_memory
from mig_jax.evaluation.evaluator import Evaluator
from mig_jax.learning.losses import Batch
from mig_jax.policy.load import Policy
from mig_jax.policy.prompts import encode_prompts
from mig_jax.records import metrics
from mig_jax.records.metrics import LogWindow
from mig_jax.records.transcripts import Transcript, write_transcripts
from mig_jax.rollout.outcome_rewards import OutcomeRewards
from mig_jax.rollout.problem_set import FilteredDataset, open_eval_problems, open_train_problems
from mig_jax.rollout.resample import Resampler
from mig_jax.rollout.rollout import Rollout
from mig_jax.rollout.sft_batch import SftBatches
from mig_jax.text.answers.verifier import Verifier
from mig_jax.trainer import announce, nonfinite, profiling
from mig_jax.trainer.checkpointing import Checkpoints
from mig_jax.trainer.fingerprints import check_fingerprints, fingerprint_params
from mig_jax.trainer.keys import purpose_key
from mig_jax.trainer.kl_reference import make_kl_reference
from mig_jax.trainer.report import report_late_programs
from mig_jax.trainer.update import build_update

if TYPE_CHECKING:
    import grain


class RunState:
    """A run between two steps: its compiled functions, open files, and training state.

    Made by `open_run`; `train.train_loop` drives it.

    train_state: parameters, optimizer and counters, on the mesh.
    prompt_batches: iterator over prompt batches, read ahead.
    done: number of steps done.
    eval_pending: an evaluation is due after step `done` and has not been made.
    has_logged: a row of metrics of steps was written.
    fingerprints: of what checkpoints do not hold, see `fingerprints`.
    """

    def __init__(
        self,
        config: Config,
        workdir: str,
        mode: str,
        policy: Policy,
        verifier: Verifier,
        outcome_rewards: OutcomeRewards | None,
        prompt_batches: "grain.DatasetIterator",
        eval_problems: FilteredDataset | None,
        fingerprints: dict[str, str],
    ):
        self.fingerprints = fingerprints
        self.config, self.workdir, self.mode, self.eval_problems = config, workdir, mode, eval_problems
        self.prompt_batches, self.verifier, self.done = prompt_batches, verifier, 0
        self.eval_pending = config.eval.at_start
        # Round-tripped through JSON (tuples become lists), to compare equal to the stored config.
        self.config_record = json.loads(json.dumps(config.to_dict() | {"mode": mode}))
        self.make_batch = _make_batch_maker(config, mode, policy, verifier, outcome_rewards, self.compile_update)
        self.train_state, self.update = build_update(policy, config, mode)
        self.evaluator = Evaluator(policy, config, verifier)
        self.window, self.has_logged = LogWindow(verifier), False

    def open_files(self, policy: Policy, stack: contextlib.ExitStack) -> None:
        """Open checkpoints and metrics, and resume if there is a checkpoint; `stack` closes them."""
        k = self.config.checkpoint
        self.checkpoints = stack.enter_context(
            Checkpoints(self.workdir, keep=k.keep, keep_best=k.keep_best, is_trainable=policy.is_trainable)
        )
        check = functools.partial(check_resume, self.workdir, now=self.config_record)
        restored = self.checkpoints.restore(self.train_state, check=check)
        if restored:
            self.train_state, progress = restored
            check_fingerprints(self.workdir, before=progress.get("fingerprints"), now=self.fingerprints)
            self.prompt_batches.set_state(progress["stream"])
            self.window.restore(progress["window"])
            self.done = progress["done"]
            # Evaluations may have been switched off since.
            self.eval_pending = progress["eval_pending"] and self.eval_problems is not None
        resume_step = self.done + 1 if restored else None
        self.metrics = stack.enter_context(
            metrics.open_metrics(self.workdir, config=self.config_record, resume_step=resume_step)
        )
        if resume_step and not self.is_last:
            print(f"resuming in {self.workdir} after step {self.done} of {self.config.steps}")

    @property
    def is_last(self) -> bool:
        """Return whether all steps are done."""
        return self.done >= self.config.steps

    def step(self) -> Batch:
        """Make a batch and update on it; return the batch. The update's metrics stay on the mesh until they are due."""
        key = self.step_key("sampling")
        is_traced = self.done + 1 in self.config.log.profile_steps
        with profiling.trace_step(self.workdir, is_due=is_traced, result=lambda: self.train_state):
            result = self.make_batch(self.train_state.params, self.prompt_batches, key)
            self.write_transcripts(result.transcripts)
            with explain_out_of_memory("update", self.config):
                self.train_state, train_metrics = self.update(self.train_state, result.batch)
        self.window.add(result.metrics, train_metrics)
        self.done += 1
        return result.batch

    def compile_update(self, batch: Batch) -> None:
        """Compile the update for a batch of these shapes, while scoring compiles and answers are graded."""
        self.update.compile_ahead(self.train_state, batch)

    def step_key(self, purpose: str) -> jax.Array:
        """Return the random key of the current step for a purpose, see `keys`."""
        return jax.random.fold_in(purpose_key(self.config.seed, purpose), self.done)

    def log(self, batch: Batch) -> Exception | None:
        """Write a row of metrics if one is due; return the error that ends the run after too many skipped updates."""
        if self.done % self.config.log.every and not self.is_last:
            return None
        with explain_out_of_memory("update", self.config):
            row = self.window.summary()
        self.metrics.write(self.done, row)
        if multihost.is_main_process() and self.has_logged:
            report_late_programs(self.window.compiled_programs(), done=self.done)
        self.has_logged = True
        self.window = LogWindow(self.verifier)
        limit = self.config.optimizer.max_skipped
        return nonfinite.error_of(row, batch, limit=limit, workdir=self.workdir, done=self.done)

    def write_transcripts(self, transcripts: Sequence[Transcript]) -> None:
        """Write some transcripts of the current step, if they are due."""
        log = self.config.log
        is_due = self.done % log.transcripts_every == 0 or self.done + 1 == self.config.steps
        if transcripts and is_due and multihost.is_main_process():
            chosen = first_of_each_group(transcripts, self.config.rollout.group_size)[: log.transcripts]
            write_transcripts(chosen, os.path.join(self.workdir, "transcripts", f"step_{self.done + 1:06d}.jsonl"))

    def is_eval_due(self) -> bool:
        """Return whether the step just done is followed by an evaluation."""
        e = self.config.eval
        return bool((self.is_last and e.at_end) or (e.every and self.done % e.every == 0))

    def is_evaluated(self) -> bool:
        """Return whether an evaluation after this step was already written, by a run that was stopped then."""

        def is_in_metrics() -> bool:
            rows = metrics.read_metrics(self.workdir)[1]
            return any(row["step"] == self.done and "eval/sampled" in row for row in rows)

        return multihost.broadcast_from_main(is_in_metrics)

    def evaluate(self) -> float:
        """Evaluate, write a row of metrics, and return the sampled accuracy. Its time is not counted as step time."""
        began = time.perf_counter()
        key = self.step_key("evaluation")
        name = f"evaluation after step {self.done}"
        assert self.eval_problems is not None, "a run that evaluates has opened its held-out problems"
        eval_metrics = self.evaluator.metrics(self.train_state.params, self.eval_problems, key, name=name)
        self.metrics.write(self.done, eval_metrics | {"eval/problems": len(self.eval_problems)})
        self.window.start += time.perf_counter() - began
        self.eval_pending = False
        return float(eval_metrics["eval/sampled"])

    def save_checkpoint(self, score: float | None) -> None:
        """Save a checkpoint in the background. Call it after the step's rows of metrics are written."""
        progress = {
            "done": self.done,
            "stream": self.prompt_batches.get_state(),
            "window": self.window.state(),
            "eval_pending": self.eval_pending,
            "fingerprints": self.fingerprints,
        }
        self.checkpoints.save(self.train_state, progress, self.config_record, score=score)


def open_run(config: Config, workdir: str, mode: str, policy: Policy, stack: contextlib.ExitStack) -> RunState:
    """Open the data and files of a run and compile nothing yet; `stack` closes what is opened.

    Raises:
      UserError: a data source is wrong, or differs between processes; or the run cannot be resumed.
    """
    verifier = stack.enter_context(Verifier(**config.verifier.to_dict()))
    train_problems, batches, eval_problems, fingerprints = open_data(policy, config, mode)
    fingerprints |= fingerprint_params(policy, config, mode)
    outcome_rewards = open_outcome_rewards(config, policy, train_problems[0][0], stack) if mode == "train" else None
    run = RunState(config, workdir, mode, policy, verifier, outcome_rewards, batches, eval_problems, fingerprints)
    run.open_files(policy, stack)
    return run


def open_outcome_rewards(
    config: Config, policy: Policy, problem: Problem, stack: contextlib.ExitStack
) -> OutcomeRewards:
    """Open the outcome rewards of a run, and try a user's own on a made-up response to a problem.

    Raises:
      UserError: one cannot be used.
    """
    outcome_rewards = stack.enter_context(OutcomeRewards(config))
    multihost.sync_errors(lambda: outcome_rewards.try_out(policy, problem))
    return outcome_rewards


class RunData(NamedTuple):
    """The data of a run.

    train_problems: of each source of `data.train`.
    prompt_batches: iterator over training batches.
    eval_problems: held-out problems; None if the run does not evaluate.
    fingerprints: of the training and the held-out problems, by name.
    """

    train_problems: Sequence[FilteredDataset]
    prompt_batches: "grain.DatasetIterator"
    eval_problems: FilteredDataset | None
    fingerprints: dict[str, str]


def open_data(policy: Policy, config: Config, mode: str) -> RunData:
    """Open the stream of training batches and the problems to evaluate on, the same on all processes.

    Raises:
      UserError: a source is wrong, or the sources or the config differ between processes.
    """
    need_solution = mode == "sft"
    train_problems, mixture = multihost.sync_errors(
        lambda: open_train_problems(policy, config, need_solution=need_solution)
    )
    eval_problems = multihost.sync_errors(lambda: open_eval_problems(policy, config)) if evaluates(config) else None
    names = [f"training problems of {part.name} (data.train)" for part in parse_mixture(config.data.train)]
    # The number of held-out problems may change when a run is resumed.
    names.append(f"held-out problems (data.eval, eval.problems={config.eval.problems})")
    opened = [*train_problems, eval_problems]
    fingerprints = {name: source.digest for name, source in zip(names, opened, strict=True) if source is not None}
    multihost.assert_equal_across_processes({"mode": mode, "config": config.to_dict()} | fingerprints)
    batches = stream.iterate(
        train_problems,
        weights=mixture,
        seed=config.seed,
        batch_size=config.rollout.questions if mode == "train" else config.sft.batch_size,
        prepare=lambda problems: encode_prompts(policy, config, problems),
        read_ahead=config.data.read_ahead,
    )
    print(announce.describe_problems(config, train_problems, eval_problems))
    return RunData(train_problems, batches, eval_problems, fingerprints)


def check_resume(workdir: str, before: dict[str, Any], *, now: dict[str, Any]) -> None:
    """Check that a run is resumed with the config it was started with; what does not affect learning may change.

    Mesh and dtypes may change: arrays are resharded and cast on restore.

    Raises:
      ConfigError: lists every value that differs.
    """
    check_unchanged(workdir, before=before, now=now, free=keys_free_to_change(now, mode=now["mode"]))


def keys_free_to_change(config: dict[str, Any], *, mode: str) -> list[str]:
    """Return the sections and keys of a config, as a nested dict, that do not affect what a run learns."""
    free = ["log", "eval", "checkpoint", "verifier", "mesh", "data.read_ahead", "data.columns.response"]
    free += ["reward.outcome_args.deadline_s", "reward.outcome_args.workers"]
    free += ["model.param_dtype", "loss.kl_reference_on_host", *COMPUTE_ONLY]
    free += [f"optimizer.{name}" for name in ("microbatches", "logprob_tokens", "max_skipped", "state_dtype")]
    if config["optimizer"]["decay"] == "constant":
        free.append("steps")  # a cosine schedule depends on the total number of steps
    if mode == "sft":
        # The SFT loss is at temperature 1, and has nothing of a rollout but the limit of its targets.
        free += ["reward", *(f"loss.{name}" for name in config["loss"] if name != "aggregate")]
        free += [f"rollout.{name}" for name in config["rollout"] if name != "max_new_tokens"]
    return free


def first_of_each_group(transcripts: Sequence[Transcript], group_size: int) -> list[Transcript]:
    """Return the first four samples of each prompt."""
    groups = [transcripts[i : i + group_size] for i in range(0, len(transcripts), group_size)]
    return [transcript for group in groups for transcript in group[:4]]


def _make_batch_maker(
    config: Config,
    mode: str,
    policy: Policy,
    verifier: Verifier,
    outcome_rewards: OutcomeRewards | None,
    on_shapes: Callable[[Batch], None],
) -> Callable:
    """Return what turns the next prompts into a `RolloutResult`, by a rollout or from SFT targets.

    It takes (params, prompt_batches, key).
    """
    if mode == "sft":
        sft_batches = SftBatches(policy, config)
        return lambda params, prompt_batches, key: sft_batches(params, next(prompt_batches), key)
    kl_reference = None
    if config.loss.kl_coef:
        kl_reference = make_kl_reference(policy, on_host=config.loss.kl_reference_on_host)
    # A batch of several rollouts may be wider than each. A GPU's compiler tries kernels, in memory that rollouts use.
    is_ahead = not config.rollout.max_resamples and policy.mesh.devices.flat[0].platform != "gpu"
    rollout = Rollout(
        policy,
        config,
        verifier,
        kl_reference=kl_reference,
        outcome_rewards=outcome_rewards,
        on_shapes=on_shapes if is_ahead else None,
    )
    row_sharding = sharding.batch_sharding(policy.mesh)
    return Resampler(rollout, row_sharding, max_resamples=config.rollout.max_resamples)
