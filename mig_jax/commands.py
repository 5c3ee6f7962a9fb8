"""The commands that do not train: eval, sample, score, export, variants, data, aot, study."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mig_jax import api
from mig_jax.aot import report as aot_report
from mig_jax.api import open_policy
from mig_jax.config import Config
from mig_jax.config_sources import local_path
from mig_jax.data import builders, sources
from mig_jax.data.options import did_you_mean
from mig_jax.data.problem import Problem
from mig_jax.errors import UserError
from mig_jax.evaluation.answer_variants import propose_variants
from mig_jax.evaluation.score_transcripts import score_transcripts, splitter_of
from mig_jax.parts import find_part
from mig_jax.policy.load import check_run_lengths
from mig_jax.records.given_transcripts import read_given_transcripts
from mig_jax.records.plots import draw_gains
from mig_jax.records.transcript_list import TranscriptList
from mig_jax.records.transcripts import Transcript, TranscriptWriter, write_transcripts
from mig_jax.rollout.problem_set import open_source
from mig_jax.text.response_format import choices_by_letter
from mig_jax.trainer import disk_space
from mig_jax.trainer import export as trainer_export

# What `score` has scored so far.
PARTIAL_SCORES = "scores_partial.jsonl"


def evaluate(config: Config, workdir: str) -> None:
    """Evaluate every source of `eval.benchmarks`, or the held-out problems; write results and pages to `workdir`."""
    evaluation = api.evaluate(config, workdir)
    print(evaluation)
    print(f"results.json and results.md are in {workdir}; pages to browse the responses:")
    for source in evaluation.results:
        print(f"  {evaluation.page(source)}")


def variants(config: Config, workdir: str) -> None:
    """Find further ways to write the answers of `data.train`; write them to `workdir`."""
    disk_space.check_workdir(workdir)
    path = Path(workdir) / "variants.jsonl"
    with open_policy(config, mode="variants") as (policy, verifier):
        check_run_lengths(policy, config)
        parts = sources.parse_mixture(config.data.train)
        problems = [problem for part in parts for problem in open_source(config, part.name, split="train")]
        proposed, confirmed, new = propose_variants(policy, config, verifier, problems, path)
    print(f"{proposed} variants proposed, {confirmed} confirmed by the verifier, {new} of them known to no rule")
    print(f"they are in {path}; train with --config.data.variants={path}")


def prepare(config: Config, names: Sequence[str]) -> None:
    """Build the named benchmarks and show a problem of each; without names, list all benchmarks and their files.

    Raises:
      UserError: lists the benchmarks that cannot be built.
    """
    data_dir, errors = Path(local_path("data.dir", config.data.dir)), []
    if not names:
        print("\n".join(builders.overview(data_dir)))
        return
    for name in names:
        kind, _, split = name.partition(":")
        try:
            if kind not in builders.BENCHMARKS:
                raise UserError(f"no benchmark {kind!r}{did_you_mean(kind, builders.BENCHMARKS)}")
            problems = builders.open_benchmark(kind, split=split, data_dir=data_dir)
        except UserError as error:
            errors.append(str(error))
            continue
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(problem.kind for problem in problems).most_common())
        print(f"{name}: {len(problems)} problems ({kinds}) in {data_dir / kind}; the first one:")
        print_problem(problems[0])
    if errors:
        raise UserError("\n".join(errors))


def print_problem(problem: Problem) -> None:
    """Print a problem, indented."""
    images = f"[{len(problem.images)} images] " if problem.images else ""
    lines = [f"{images}{problem.question}", *(f"{a}. {text}" for a, text in choices_by_letter(problem.choices).items())]
    print("\n".join(f"    {line}" for line in "\n".join([*lines, f"→ {problem.answer}"]).split("\n")))


def sample(
    config: Config,
    questions: Sequence[str],
    answers: Sequence[str] = (),
    *,
    kind: str = "expression",
    limit: int | None = None,
    workdir: str = "",
) -> None:
    """Print completions of questions, or of held-out problems; where the answer is known, with the gain of each step.

    Args:
      config: of the command.
      questions: none for the held-out problems of the config.
      answers: the reference answer of each question; none if they are unknown.
      kind: how answers are compared with these.
      limit: number of held-out problems; None for `SAMPLED_PROBLEMS`.
      workdir: folder for samples.jsonl and pictures; "" for none.

    Raises:
      UserError: the config, the kind or the workdir cannot be used.
    """
    if workdir:
        disk_space.check_workdir(workdir)
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(_open_writer(workdir, "samples.jsonl")) if workdir else None

        def show(part: Sequence[Transcript]) -> None:
            for transcript in part:
                print_transcript(transcript)
            if writer:
                writer.write(part)

        sampled = api.sample(config, questions, answers, kind=kind, limit=limit, on_sampled=show)
    if workdir:
        is_scored = bool(answers or not questions)
        if is_scored:
            draw_gains(sampled, os.path.join(workdir, "gains"))
        print(f"samples.jsonl{', gains.png and gains.html are' if is_scored else ' is'} in {workdir}")


@contextmanager
def _open_writer(workdir: str, name: str) -> Iterator[TranscriptWriter]:
    """Open a new file of transcripts that is written as they come."""
    with open(os.path.join(workdir, name), "w", encoding="utf-8") as file:
        yield TranscriptWriter(file, Path(workdir))


def print_transcript(transcript: Transcript) -> None:
    """Print one response, and the gain of each step if it was scored."""
    print(f"\n{transcript.question}\n{transcript.response}")
    if transcript.ell_k:
        verdict = {True: "right", False: "wrong", None: "not graded"}[transcript.is_correct]
        before = f"log-likelihood {transcript.ell_k[0]:.2f} nats before the first step"
        print(f"-- {verdict}; reference answer {transcript.answer}, {before}")
        for step, ell, gain in zip(transcript.steps, transcript.ell_k[1:], transcript.gain_k, strict=True):
            print(f"   gain {gain:5.2f}  log-likelihood {ell:6.2f}  {step}")


def score(config: Config, input_file: str, workdir: str, *, limit: int | None = None, steps: str = "") -> None:
    """Score given transcripts; write scores.jsonl, gains.png and gains.html to `workdir`, or beside the input if "".

    Until all are scored, those that are done are in scores_partial.jsonl, shorter ones first.

    Args:
      config: of the command; its `data.columns` name the columns of the file.
      input_file: see `read_given_transcripts`.
      workdir: folder of the results.
      limit: score only the first rows; None for all.
      steps: how responses divide into steps, see `score_transcripts`.

    Raises:
      UserError: the file cannot be read or has no transcripts, or the workdir cannot be written.
    """
    workdir = workdir or os.path.splitext(input_file)[0] + "_scores"
    transcripts = read_given_transcripts(
        input_file,
        columns=config.data.columns.to_dict(),
        limit=limit,
        choice_answers=config.data.choice_answers,
        bad_rows=config.data.bad_rows,
    )
    if not transcripts:
        raise UserError(f"{input_file} has no transcripts")
    splitter_of(steps)  # refuses a wrong one before the model is loaded
    disk_space.check_workdir(workdir)
    with open_policy(config, mode="score") as (policy, verifier), _open_writer(workdir, PARTIAL_SCORES) as partial:
        scored = score_transcripts(policy, config, transcripts, verifier, steps=steps, on_scored=partial.write)
    write_transcripts(scored, os.path.join(workdir, "scores.jsonl"))
    os.remove(os.path.join(workdir, PARTIAL_SCORES))
    draw_gains(scored, os.path.join(workdir, "gains"))
    print(f"{TranscriptList(scored).summary()}; scores.jsonl, gains.png and gains.html are in {workdir}")


def export(workdir: str, *, step: int | None, best: bool, output: str, overrides: Mapping[str, Any]) -> None:
    """Write the model of a checkpoint, see `trainer.export.export`."""
    exported = trainer_export.export(workdir, step=step, best=best, output=output, overrides=overrides)
    if best and (better := trainer_export.better_evaluation(workdir, exported.step)):
        print(f"{better}; checkpoint.keep_best=1 keeps the best checkpoint of a run")
    print(f"the model after step {exported.step} is in {exported.folder}; README.md says how it was trained")


def aot(config: Config, topology: str, workdir: str) -> None:
    """Compile a training run for another machine and print what fits; write aot.json and aot.md to a workdir."""
    if workdir:
        disk_space.check_workdir(workdir)
    report = aot_report.compile_run(config, topology)
    page = aot_report.render(report)
    print(page)
    if workdir:
        folder = Path(workdir)
        (folder / "aot.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (folder / "aot.md").write_text(page, encoding="utf-8")
        print(f"aot.json and aot.md are in {workdir}")


def list_studies() -> None:
    """Print the names of all studies with their questions."""
    from mig_jax.studies import table  # late: studies need scipy, which training does not

    print(table.overview())


def study(
    name: str,
    workdir: str,
    *,
    config: str,
    model: str,
    seeds: int,
    smoke: bool,
    only: Sequence[str],
    part: str,
    overrides: Mapping[str, Any],
    should_stop: Callable[[], bool],
) -> None:
    """Run a study and write its page, see `studies.runner.run_study`.

    Args:
      name: key of `STUDIES`, or `package.module:STUDY` or `my_study.py:STUDY` of a user's own.
      workdir: folder of the runs and of the page.
      config, model: in place of the study's own; "" for those.
      seeds: of each arm.
      smoke: only show that it works.
      only: parts of the names of the runs to start; () for all.
      part: "I/N", the part of the runs to start.
      overrides: config key → value, for all runs.
      should_stop: whether to stop after the current training step.

    Raises:
      UserError: there is no such study, a run's config is wrong, or runs failed.
    """
    from mig_jax.studies import runner, table
    from mig_jax.studies.study import Plan

    found = find_part(name, table.STUDIES, key="study")
    selection = runner.Selection(only, runner.parse_part(part))
    disk_space.check_workdir(workdir)
    plan = Plan(seeds, smoke, model, config)
    runner.run_study(found, workdir, plan, overrides=overrides, selection=selection, should_stop=should_stop)
