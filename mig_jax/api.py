"""The Python interface, which `import mig_jax` offers. The commands call the same functions.

    import mig_jax

    run = mig_jax.train("quickstart", "/tmp/mig_python", steps=10)
    run.curves()                                    # a figure
    mig_jax.evaluate(run.model, "/tmp/mig_eval")    # tables
    mig_jax.score(run.model, run.transcripts)       # the gain of every step
    mig_jax.sample(run.model, ["3 + 4 = ?"], ["7"])  # new responses, with the gain of every step
    mig_jax.values(run.model, run.transcripts)      # how often each step leads to a right answer

No flags are parsed. Progress is printed as by the commands; errors that the caller can mend are `errors.UserError`.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mig_jax.check_config import check_config
from mig_jax.config import Config
from mig_jax.config_sources import AnyPath, load_config, local_path, use_run_config
from mig_jax.data import sources
from mig_jax.data.options import did_you_mean
from mig_jax.data.problem import KINDS, Problem
from mig_jax.distributed import multihost, sharding
from mig_jax.errors import UserError
from mig_jax.evaluation import run
from mig_jax.evaluation.continuations import continuation_values
from mig_jax.evaluation.evaluator import EvalSampler
from mig_jax.evaluation.score_transcripts import score_transcripts, splitter_of
from mig_jax.parts import is_own, own_constant
from mig_jax.policy import load
from mig_jax.policy.generate import make_rollout_params_fn, make_sampler
from mig_jax.policy.load import Policy, check_run_lengths
from mig_jax.policy.prompts import with_style
from mig_jax.records.given_transcripts import read_given_transcripts
from mig_jax.records.transcript_list import TranscriptList
from mig_jax.records.transcripts import Transcript, make_transcripts, read_transcripts
from mig_jax.rollout.problem_set import eval_source, open_eval_problems
from mig_jax.text.answers.verifier import Verifier
from mig_jax.text.splitters import Splitter
from mig_jax.text.step_format import find_format
from mig_jax.trainer import disk_space
from mig_jax.trainer import train as trainer
from mig_jax.trainer.run_files import Run

# transformers prints at every import that torch is missing; it is not needed here.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

# Held-out problems that `sample` answers unless a limit is given.
SAMPLED_PROBLEMS = 4

# What can be evaluated and scored with: a folder in Hugging Face format, the workdir of a run, a .gguf file or a hub
# name; a policy that is loaded; or a config, whose `model.path` is used.
Model = AnyPath | Policy | Config


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`; printed, and shown by notebooks, as tables.

    workdir: folder of results.json, results.md, and the transcripts and pages of each source.
    results: source → metrics, see `eval_metrics.compute_eval_metrics`.
    own_kind: the kind of the user's own that `data.columns.kind` names for all answers; "" if it names none.
    """

    workdir: str
    results: dict[str, Any] = dataclasses.field(repr=False)
    own_kind: str = dataclasses.field(default="", repr=False)

    def page(self, source: str) -> str:
        """Return the path of the page to browse the responses to a source."""
        return os.path.join(self._folder(source), "transcripts.html")

    def transcripts(self, source: str) -> TranscriptList:
        """Read all responses to a source; the steps of `eval.scored` of them have gains."""
        path = os.path.join(self._folder(source), "transcripts.jsonl")
        return TranscriptList(read_transcripts(path, own_kind=self.own_kind))

    def _folder(self, source: str) -> str:
        if source not in self.results:
            raise UserError(f"{source!r} was not evaluated, but {', '.join(self.results)}")
        return os.path.join(self.workdir, run.folder_name(source))

    def __str__(self) -> str:
        return run.report(self.results)

    def _repr_markdown_(self) -> str:
        return str(self)


def train(config: AnyPath | Config, workdir: AnyPath, /, *, mode: str = "train", **overrides: Any) -> Run:
    """Train in `workdir`, or resume the run that was stopped there.

    An interrupt (KeyboardInterrupt) loses the steps since the last checkpoint; the same call resumes after it.

    Args:
      config: see `load_config`.
      workdir: see `trainer.train.run`.
      mode: "train" (RL) or "sft".
      **overrides: see `load_config`.

    Raises:
      UserError: lists everything that is wrong with the config, or says what is wrong with the model or the data.
    """
    if mode not in ("train", "sft"):
        raise UserError(f'mode={mode!r}: must be "train" or "sft"')
    folder = local_path("workdir", workdir)
    trainer.run(load_config(config, **overrides), folder, mode=mode)
    return Run(folder)


def evaluate(
    model: Model, workdir: AnyPath, /, *, benchmarks: str | Sequence[str] = (), **overrides: Any
) -> Evaluation:
    """Evaluate a model on benchmarks, or on the held-out problems of its config; called again, it resumes.

    A model that is given by its path is prompted, sampled and scored as in the run that made it.

    Args:
      model: see `Model`.
      workdir: receives results.json, results.md, and a folder of transcripts for each source.
      benchmarks: sources, such as gsm8k or jsonl:FILE; none for those of the config.
      **overrides: see `load_config`.

    Raises:
      UserError: the config, the model or a source cannot be used.
    """
    config, folder = config_of(model, overrides), local_path("workdir", workdir)
    if benchmarks:
        config.eval.benchmarks = benchmarks if isinstance(benchmarks, str) else ",".join(benchmarks)
    names = sources.split_names(config.eval.benchmarks) or (eval_source(config),)
    disk_space.check_workdir(folder)
    with open_policy(config, mode="eval", policy=_loaded(model)) as (policy, verifier):
        check_run_lengths(policy, config)
        results = run.evaluate_sources(policy, config, verifier, names, Path(folder))
        return Evaluation(folder, results, own_constant(config.data.columns.kind))


def score(
    model: Model,
    transcripts: AnyPath | Iterable[Transcript | Mapping[str, Any]],
    /,
    *,
    steps: str | Splitter = "",
    **overrides: Any,
) -> TranscriptList:
    """Return transcripts with ℓ, watermark and gain of every step, in nats, graded where they were not.

    Args:
      model: see `Model`.
      transcripts: a file (see `read_given_transcripts`), or rows: transcripts, or mappings with at least question,
        response and answer. Rows may bring their own `steps`, a list of texts that occur in the response.
      steps: how responses divide into steps: "paragraph", "line", "sentence", the pattern of a header, or a function
        (itself, or as "my_file.py:split"); "format": as the response format says, also where rows bring steps.
      **overrides: see `load_config`; `response_format` is that of the responses, and `data.columns` names the
        columns of the file.

    Raises:
      UserError: the config or the model cannot be used, or rows are wrong; lists them.
    """
    config = config_of(model, overrides, with_columns=False)
    if isinstance(transcripts, str | os.PathLike):
        path = local_path("transcripts", transcripts)
        rows = read_given_transcripts(
            path,
            columns=config.data.columns.to_dict(),
            choice_answers=config.data.choice_answers,
            bad_rows=config.data.bad_rows,
        )
    else:
        rows = make_transcripts(transcripts, own_kind=own_constant(config.data.columns.kind))
    splitter_of(steps)  # refuses a wrong one before the model is loaded
    if not rows:
        return TranscriptList()
    with open_policy(config, mode="score", policy=_loaded(model)) as (policy, verifier):
        return TranscriptList(score_transcripts(policy, config, rows, verifier, steps=steps))


def sample(
    model: Model,
    questions: Sequence[str] = (),
    answers: Sequence[str] = (),
    /,
    *,
    samples: int = 1,
    kind: str = "expression",
    limit: int | None = None,
    on_sampled: Callable[[list[Transcript]], None] = lambda sampled: None,
    **overrides: Any,
) -> TranscriptList:
    """Return completions of questions, or of held-out problems; where the answer is known, with the gain of each step.

    Args:
      model: see `Model`.
      questions: none for the held-out problems of the config.
      answers: the reference answer of each question; none if they are unknown.
      samples: completions of each question.
      kind: how answers are compared with these, see `data.problem.KINDS`.
      limit: number of held-out problems; None for `SAMPLED_PROBLEMS`.
      on_sampled: called with the completions of each batch as soon as they are there.
      **overrides: see `load_config`; `seed` and `rollout` change what is sampled.

    Raises:
      UserError: the config, the model or the kind cannot be used, or there are not as many answers as questions.
    """
    config = config_of(model, overrides)
    if isinstance(questions, str) or isinstance(answers, str):
        raise UserError("questions and answers are lists of texts: write [question] for a single one")
    if kind not in KINDS and not is_own(kind):
        raise UserError(f"kind={kind!r}: not one of {', '.join(KINDS)}{did_you_mean(kind, KINDS)}")
    if answers and len(answers) != len(questions):
        raise UserError(f"{len(questions)} questions with {len(answers)} answers: give one answer for each, or none")
    is_scored = bool(answers) or not questions
    problems = [
        Problem(str(n), question, answers[n] if answers else "?", kind if answers else "text")
        for n, question in enumerate(questions)
    ]
    sampled = TranscriptList()
    mode = "score" if questions else "sample"
    with open_policy(config, mode=mode, policy=_loaded(model)) as (policy, verifier):
        check_run_lengths(policy, config)
        problems = problems or open_eval_problems(policy, config)[: limit or SAMPLED_PROBLEMS]
        for part in _sample_parts(policy, config, verifier, problems, samples):
            part = score_transcripts(policy, config, part, verifier) if is_scored else list(map(_without_answer, part))
            on_sampled(part)
            sampled += part
    return sampled


def _sample_parts(
    policy: Policy, config: Config, verifier: Verifier, problems: Sequence[Problem], samples: int
) -> Iterator[list[Transcript]]:
    """Yield completions of the problems, `samples` of each, a batch at a time."""
    r = config.rollout
    sampler = make_sampler(policy, r, group_size=samples, temperature=r.temperature)
    params = make_rollout_params_fn(policy, gather=r.gather_params)(policy.params)
    key = jax.random.key(config.seed)
    return EvalSampler(policy, config, verifier, sampler, samples).answer_parts(params, problems, key, name="sampling")


def _without_answer(transcript: Transcript) -> Transcript:
    return dataclasses.replace(transcript, answer="", is_correct=None, is_correct_lenient=None)


def values(
    model: Model,
    transcripts: Iterable[Transcript | Mapping[str, Any]],
    /,
    *,
    samples: int = 32,
    states_per_batch: int = 8,
    **overrides: Any,
) -> list[tuple[float | None, ...]]:
    """Return the Monte-Carlo value after each step: the share of right answers among continuations from there.

    Args:
      model: see `Model`.
      transcripts: see `score`.
      samples, states_per_batch: see `continuations.continuation_values`, which also says what is returned.
      **overrides: see `load_config`; `seed` and `rollout` change what is sampled.

    Raises:
      UserError: the config or the model cannot be used, or rows are wrong.
    """
    config = config_of(model, overrides)
    rows = make_transcripts(transcripts, own_kind=own_constant(config.data.columns.kind))
    with open_policy(config, mode="score", policy=_loaded(model)) as (policy, verifier):
        return continuation_values(
            policy, config, rows, verifier, samples=samples, states_per_batch=states_per_batch, seed=config.seed
        )


def load_policy(model: AnyPath | Config, /, **overrides: Any) -> Policy:
    """Load a model onto all devices. `evaluate` and `score` take the result, and need not load the model again.

    Args:
      model: see `Model`.
      **overrides: see `load_config`.

    Raises:
      UserError: the config or the model cannot be used.
    """
    config = config_of(model, overrides)
    with open_policy(config, mode="score") as (policy, _):
        return dataclasses.replace(policy, run_config=config)


@contextmanager
def open_policy(config: Config, *, mode: str, policy: Policy | None = None) -> Iterator[tuple[Policy, Verifier]]:
    """Load the policy on its mesh and start the verifier's workers, for as long as the block runs.

    Args:
      config: of the command.
      mode: see `check_config`.
      policy: to use instead, if it is loaded already.

    Raises:
      ConfigError: lists everything that is wrong with the config.
    """
    n_devices = policy.mesh.size if policy else jax.device_count()
    multihost.sync_errors(lambda: check_config(config, mode=mode, n_devices=n_devices))
    mesh = policy.mesh if policy else sharding.make_mesh(config.mesh.to_dict())
    with jax.set_mesh(mesh), Verifier(**config.verifier.to_dict()) as verifier:
        yield multihost.sync_errors(lambda: with_style(policy or _load(config, mesh), config)), verifier


def _load(config: Config, mesh: Mesh) -> Policy:
    return load.load_policy(config.model, mesh, seed=config.seed, format=find_format(config.response_format))


def config_of(model: Model, overrides: Mapping[str, Any], *, with_columns: bool = True) -> Config:
    """Return the config to use a model with: the given one, else that of the run that made it, else the defaults.

    Args:
      model: see `Model`.
      overrides: see `load_config`.
      with_columns: see `use_run_config`.

    Raises:
      UserError: see `load_config` and `use_run_config`; or the overrides change a model that is loaded already.
    """
    if isinstance(model, ConfigDict):
        return load_config(cast(Config, model), **overrides)
    if isinstance(model, Policy):
        if changed := [key for key in overrides if key.split(".")[0] in ("model", "mesh")]:
            raise UserError(f"the model is loaded already: give {', '.join(changed)} to load_policy")
        if model.run_config is None:
            raise UserError("this policy has no config to prompt it with: load it with mig_jax.load_policy")
        return load_config(model.run_config, **overrides)
    config = load_config()
    config.model.path = local_path("model", cast(AnyPath, model))
    use_run_config(config, with_columns=with_columns)
    return load_config(config, **overrides)


def _loaded(model: Model) -> Policy | None:
    return model if isinstance(model, Policy) else None
