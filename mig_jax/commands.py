"""The commands that do not train: eval, sample, score, variants, data, aot."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jax

from mig_jax.aot import report as aot_report
from mig_jax.check_config import check_config
from mig_jax.config import Config
from mig_jax.data import builders, sources
from mig_jax.data.options import did_you_mean
from mig_jax.data.problem import Problem
from mig_jax.distributed import multihost, sharding
from mig_jax.evaluation import run
from mig_jax.evaluation.answer_variants import propose_variants
from mig_jax.evaluation.evaluator import answer_problems
from mig_jax.evaluation.score_transcripts import score_transcripts
from mig_jax.policy.generate import make_rollout_params, make_sampler
from mig_jax.policy.load import Policy, load_policy
from mig_jax.records.plots import draw_gains
from mig_jax.records.transcripts import Transcript, read_transcripts, write_transcripts
from mig_jax.rollout.problem_set import held_out_source, open_configured_source, open_held_out
from mig_jax.text.answers.verifier import Verifier
from mig_jax.text.response_format import choices_by_letter
from mig_jax.trainer import disk_space


@contextmanager
def loaded(config: Config, *, mode: str) -> Iterator[tuple[Policy, Verifier]]:
    """The policy on its mesh and a pool of checkers, for as long as the block runs.

    Raises:
      ConfigError: with everything that is wrong with the config.
    """
    multihost.sync_errors(lambda: check_config(config, mode=mode, n_devices=jax.device_count()))
    mesh = sharding.make_mesh(config.mesh.to_dict())
    with jax.set_mesh(mesh), Verifier(**config.verifier.to_dict()) as verifier:
        yield multihost.sync_errors(lambda: load_policy(config.model, mesh, seed=config.seed)), verifier


def evaluate(config: Config, workdir: str) -> None:
    """Figures of every source of `eval.benchmarks` (or of the held-out problems), as files in `workdir`, see there."""
    names = sources.split_names(config.eval.benchmarks) or (held_out_source(config),)
    disk_space.check_workdir(workdir)
    with loaded(config, mode="eval") as (policy, verifier):
        figures = run.evaluate_sources(policy, config, verifier, names, Path(workdir))
    print(run.report(figures))
    print(f"results.json and results.md are in {workdir}; responses, to be browsed, in")
    for name in names:
        print(f"  {os.path.join(workdir, run.folder_name(name), 'transcripts.html')}")


def variants(config: Config, workdir: str) -> None:
    """Further spellings of the answers of `data.train`, as a file in `workdir`."""
    path = Path(workdir) / "variants.jsonl"
    with loaded(config, mode="variants") as (policy, verifier):
        problems = [
            p
            for part in sources.parse_mixture(config.data.train)
            for p in open_configured_source(config, part.name, split="train")
        ]
        proposed, confirmed, new = propose_variants(policy, config, verifier, problems, path)
    print(f"{proposed} spellings proposed, {confirmed} confirmed by the verifier, {new} of them known to no rule")
    print(f"they are in {path}; train with --config.data.variants={path}")


def prepare(config: Config, names: Sequence[str]) -> None:
    """Build and show the named benchmarks, a split of each; without names list what there is and what it needs.

    Raises:
      ValueError: a benchmark cannot be built; said of all of them at once.
    """
    data_dir, faults = Path(config.data.dir).expanduser(), []
    if not names:
        print("\n".join(builders.overview(data_dir)))
        return
    for name in names:
        kind, _, split = name.partition(":")
        try:
            if kind not in builders.BENCHMARKS:
                raise ValueError(f"no benchmark {kind!r}{did_you_mean(kind, builders.BENCHMARKS)}")
            problems = builders.open_benchmark(kind, split=split, data_dir=data_dir)
        except ValueError as error:
            faults.append(str(error))
            continue
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(problem.kind for problem in problems).most_common())
        print(f"{name}: {len(problems)} problems ({kinds}) in {data_dir / kind}; the first one:")
        print_problem(problems[0])
    if faults:
        raise ValueError("\n".join(faults))


def print_problem(problem: Problem) -> None:
    """A problem on the terminal, indented."""
    shown = f"[{len(problem.images)} images] " if problem.images else ""
    lines = [f"{shown}{problem.question}", *(f"{a}. {text}" for a, text in choices_by_letter(problem.choices).items())]
    print("\n".join(f"    {line}" for line in "\n".join([*lines, f"→ {problem.answer}"]).split("\n")))


def sample(config: Config, questions: Sequence[str]) -> None:
    """Print a completion of each question, or of four held-out problems with what each step has earned."""
    with loaded(config, mode="score" if questions else "sample") as (policy, verifier):
        problems = [Problem(str(number), question, "?", "text") for number, question in enumerate(questions)]
        problems = problems or open_held_out(policy, config)[:4]
        r = config.rollout
        draw = make_sampler(policy, r, group_size=1, temperature=r.temperature)
        weights = make_rollout_params(policy, gather=r.gather_params)(policy.params)
        key = jax.random.key(config.seed)
        transcripts = answer_problems(
            policy, config, verifier, draw, weights, problems, key, samples=1, name="sampling"
        )
        if not questions:
            transcripts = score_transcripts(policy, config, transcripts, verifier)
    for transcript in transcripts:
        print_transcript(transcript)


def print_transcript(transcript: Transcript) -> None:
    """One response on the terminal, with the gain of each step where it was scored."""
    print(f"\n{transcript.question}\n{transcript.response}")
    if transcript.ell_k:
        verdict = {True: "right", False: "wrong", None: "unchecked"}[transcript.is_correct]
        print(
            f"-- {verdict}; the answer is {transcript.answer}, log-likelihood at first {transcript.ell_k[0]:.2f} nats"
        )
        for step, ell, gain in zip(transcript.steps, transcript.ell_k[1:], transcript.gain_k, strict=True):
            print(f"   gain {gain:5.2f}  log-likelihood {ell:6.2f}  {step}")


def score(config: Config, input_file: str, workdir: str | None) -> None:
    """Step credit of given transcripts: scores.jsonl, gains.png and gains.html in `workdir`."""
    workdir = workdir or os.path.splitext(input_file)[0] + "_scores"
    transcripts = read_transcripts(input_file)
    if not transcripts:
        raise ValueError(f"{input_file} holds no transcripts")
    with loaded(config, mode="score") as (policy, verifier):
        scored = score_transcripts(policy, config, transcripts, verifier)
    os.makedirs(workdir, exist_ok=True)
    write_transcripts(scored, os.path.join(workdir, "scores.jsonl"))
    draw_gains(scored, os.path.join(workdir, "gains"))
    print(f"{len(scored)} transcripts; scores.jsonl, gains.png and gains.html are in {workdir}")


def aot(config: Config, topology: str, workdir: str | None) -> None:
    """Compile for machines that are not here, and print what fits; aot.json and aot.md in `workdir` if there is one."""
    report = aot_report.compile_run(config, topology)
    page = aot_report.render(report)
    print(page)
    if workdir:
        folder = Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "aot.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (folder / "aot.md").write_text(page, encoding="utf-8")
        print(f"aot.json and aot.md are in {workdir}")
