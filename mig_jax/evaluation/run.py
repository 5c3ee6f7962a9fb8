"""Evaluation of several sources, one after the other, with resumable results and one report.

workdir/gsm8k/transcripts.jsonl   every response with both verdicts, some with scored steps
workdir/gsm8k/results.json        the metrics of this source
workdir/gsm8k/transcripts.html    a page to browse the responses
workdir/results.json, results.md  the metrics of all sources
"""

import functools
import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from mig_jax.check_config import COMPUTE_ONLY, ConfigError, check_unchanged
from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.distributed import multihost
from mig_jax.evaluation.evaluator import Evaluator
from mig_jax.evaluation.score_transcripts import score_transcripts
from mig_jax.policy.load import Policy, find_model
from mig_jax.records import eval_metrics, eval_tables, transcript_browser
from mig_jax.records.atomic_file import read_json_object, replace_file
from mig_jax.records.progress import progress
from mig_jax.records.transcripts import Transcript, write_transcripts
from mig_jax.rollout.problem_set import FilteredDataset, open_eval_problems
from mig_jax.text.answers.verifier import Verifier

# Config sections and keys that do not affect an evaluation, and so may change when it is resumed.
MAY_CHANGE = ("steps", "loss", "optimizer", "sft", "checkpoint", "log", "verifier", "eval.benchmarks", "eval.every",
              "eval.at_start", "eval.at_end", "data.train", "data.train_size", "data.read_ahead",
              "data.columns.response", *COMPUTE_ONLY)  # fmt: skip

# Bytes of images in a page, as much as browsers open quickly.
MAX_PAGE_BYTES = 100_000_000


def evaluate_sources(
    policy: Policy, config: Config, verifier: Verifier, names: Sequence[str], workdir: Path
) -> dict[str, Any]:
    """Evaluate every source, and write the files listed at the top of this module.

    Called again with the same workdir, it resumes after the last finished batch.

    Args:
      policy: to evaluate.
      config: of the evaluation.
      verifier: grades the answers.
      names: sources, such as gsm8k or jsonl:FILE.
      workdir: folder of the results.

    Returns:
      source → results, as `eval_metrics.compute_eval_metrics` returns them, with the number of rejected problems by
      reason (`rejected`) and a digest of the questions (`questions`).

    Raises:
      UserError: a source cannot be used.
      ConfigError: the workdir has an evaluation of another config or of other problems.
    """
    problems = multihost.sync_errors(lambda: {name: open_eval_problems(policy, config, name) for name in names})
    multihost.broadcast_from_main(lambda: _check_config(config, workdir / "config.json"))
    evaluator, results_by_source = Evaluator(policy, config, verifier), {}
    for name in progress(names, desc="evaluating", unit="source") if len(names) > 1 else names:
        folder = workdir / folder_name(name)
        results = multihost.broadcast_from_main(functools.partial(_read_results, folder, problems[name]))
        if results:
            tqdm.write(f"{name} is already evaluated: {folder / 'results.json'}")
        else:
            n, samples = len(problems[name]), config.eval.samples
            tqdm.write(f"{short_name(name)}: {n} problems, 1 greedy and {samples} sampled responses to each")
        results_by_source[name] = results or _evaluate_source(evaluator, problems[name], name, folder)
        # After every source, so that results can be read while other sources are evaluated.
        if multihost.is_main_process():
            _write_json(workdir / "results.json", {"model": config.model.path, "sources": results_by_source})
            _write_text(workdir / "results.md", report(results_by_source))
    return results_by_source


def report(results_by_source: dict[str, Any]) -> str:
    """Return the tables of `eval_tables.render_tables`, and the numbers of rejected problems, as Markdown."""
    short = {name: short_name(name) for name in results_by_source}
    if len(set(short.values())) < len(short):
        short = {name: name for name in results_by_source}
    notes = [
        f"Rejected: {count} of {results['problems'] + sum(results['rejected'].values())} problems of {short[name]}, "
        f"{reason}."
        for name, results in results_by_source.items()
        for reason, count in results["rejected"].items()
    ]
    tables = eval_tables.render_tables({short[name]: results for name, results in results_by_source.items()})
    return "\n".join([tables, *notes, *[""] * bool(notes)])


def short_name(name: str) -> str:
    """Return a source's name without folders: jsonl:/data/my.jsonl becomes jsonl:my.jsonl."""
    kind, colon, rest = name.partition(":")
    return kind + colon + (os.path.basename(rest.rstrip("/")) if "/" in rest else rest)


def folder_name(name: str) -> str:
    """Return a source's folder name: jsonl:/data/my.jsonl becomes jsonl_my.jsonl_ with six hex digits for its path."""
    suffix = f"_{_digest([name])[:6]}" if short_name(name) != name else ""
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", short_name(name)) + suffix


def select_for_page(transcripts: Sequence[Transcript], max_bytes: int) -> list[Transcript]:
    """Return the responses to the first problems whose images have at most `max_bytes` in total; at least to one."""
    bytes_by_id = {t.id: sum(map(len, t.images)) for t in transcripts}
    total_by_id = dict(zip(bytes_by_id, itertools.accumulate(bytes_by_id.values()), strict=True))
    selected = {id for n, id in enumerate(bytes_by_id) if not n or total_by_id[id] <= max_bytes}
    return [t for t in transcripts if t.id in selected]


def select_for_scoring(transcripts: Sequence[Transcript], n: int) -> list[int]:
    """Return the indices of n greedy responses: the first correct and the first others, half of each if possible."""
    greedy = [i for i, t in enumerate(transcripts) if t.sampling == "greedy"]
    correct = [i for i in greedy if transcripts[i].is_correct]
    others = [i for i in greedy if not transcripts[i].is_correct]
    n_correct = max(min(len(correct), n - n // 2), n - len(others))
    return sorted((correct[:n_correct] + others)[:n])


def _evaluate_source(evaluator: Evaluator, problems: FilteredDataset, name: str, folder: Path) -> dict[str, Any]:
    """Answer and grade all problems of a source, score some responses, and write the files of the source."""
    policy, config = evaluator.policy, evaluator.config
    key = jax.random.key(config.seed)
    transcripts = evaluator.answer(policy.params, problems, key, name=short_name(name), folder=folder / "parts")
    selected = select_for_scoring(transcripts, config.eval.scored)
    if selected:
        scored = score_transcripts(policy, config, [transcripts[n] for n in selected], evaluator.verifier)
        for n, transcript in zip(selected, scored, strict=True):
            transcripts[n] = transcript
    # A barrier: the main process deletes the parts, which other processes may still be reading.
    multihost.all_gather_objects("parts are read")
    return multihost.broadcast_from_main(lambda: _write_source(transcripts, problems, name, folder))


def _write_source(
    transcripts: Sequence[Transcript], problems: FilteredDataset, name: str, folder: Path
) -> dict[str, Any]:
    results = eval_metrics.compute_eval_metrics(transcripts)
    # From the transcripts, which are in memory; problems with images would be read from disk again.
    asked = [t for t in transcripts if t.sampling == "greedy"]
    results |= {"rejected": dict(problems.rejected), "questions": _digest_questions(asked)}
    write_transcripts(transcripts, str(folder / "transcripts.jsonl"))
    shown = select_for_page(transcripts, MAX_PAGE_BYTES)
    part = f", {len({t.id for t in shown})} of {len(problems)} problems" if len(shown) < len(transcripts) else ""
    page = str(folder / "transcripts.html")
    transcript_browser.write_transcript_browser(shown, page, title=short_name(name) + part)
    # Written last: its presence means that the source is complete.
    _write_json(folder / "results.json", results)
    shutil.rmtree(folder / "parts")
    return _read_results(folder, problems)


def _read_results(folder: Path, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the results of an evaluated source; {} if it is not evaluated.

    Raises:
      ConfigError: the results are for other problems.
    """
    if not (folder / "results.json").exists():
        return {}
    results = read_json_object(folder / "results.json", keys=("questions", "metrics", "truncated"))
    if results["questions"] != _digest_questions(problems):
        raise ConfigError(
            f"{folder} has metrics of other problems than the source has now; use another workdir, or remove the folder"
        )
    return results


def _digest_questions(asked: Iterable[Problem | Transcript]) -> str:
    """Return a digest of questions and answers, by which a changed data file is noticed."""
    return _digest(text for problem in asked for text in (problem.id, problem.question, problem.answer))


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def _check_config(config: Config, path: Path) -> None:
    """Check that the workdir has no evaluation of another config or model, and write the config.

    Raises:
      ConfigError: lists the differences.
    """
    now = json.loads(json.dumps(config.to_dict())) | {"weights": _model_file_stats(config)}
    if path.exists():
        check_unchanged(str(path.parent), before=read_json_object(path), now=now, free=MAY_CHANGE)
    _write_json(path, now)


def _model_file_stats(config: Config) -> dict[str, list[int]]:
    """Return size in bytes and modification time in ns of the model's files, by which further training is noticed."""
    if not config.model.path:
        return {}
    path = Path(find_model(config.model.path))
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    return {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}


def _write_json(path: Path, value: Any) -> None:
    _write_text(path, json.dumps(value, indent=1))


def _write_text(path: Path, text: str) -> None:
    with replace_file(path) as file:
        file.write(text)
