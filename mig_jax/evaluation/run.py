"""Evaluation of several sources, one after the other: what is done is kept, and goes into one report.

workdir/gsm8k/transcripts.jsonl   every response with both verdicts, some with their steps scored
workdir/gsm8k/results.json        the figures of this source
workdir/gsm8k/transcripts.html    to browse them
workdir/results.json, results.md  the figures of all sources
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

from mig_jax.check_config import COMPUTED_BY, ConfigError, check_unchanged
from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.distributed import multihost
from mig_jax.evaluation.evaluator import Evaluator
from mig_jax.evaluation.score_transcripts import score_transcripts
from mig_jax.policy.load import Policy, find_model
from mig_jax.records import eval_metrics, transcript_browser
from mig_jax.records.transcripts import Transcript, write_transcripts
from mig_jax.rollout.problem_set import FilteredDataset, open_held_out
from mig_jax.text.answers.verifier import Verifier

# What an evaluation does not depend on: it may differ when one is taken up again.
FREE = ("steps", "loss", "optimizer", "sft", "checkpoint", "log", "verifier", "eval.benchmarks", "eval.every",
        "data.train", "data.train_size", "data.read_ahead", *COMPUTED_BY)  # fmt: skip

# Of images in a page, which browsers still open at once.
PAGE_BYTES = 100_000_000


def evaluate_sources(
    policy: Policy, config: Config, verifier: Verifier, names: Sequence[str], workdir: Path
) -> dict[str, Any]:
    """The figures of every source by its name, as `eval_metrics.compute_eval_metrics` gives them; files as at the top.

    Started again in the same workdir, it goes on behind the last batch that was done.

    Raises:
      ConfigError: the workdir holds an evaluation with another config.
      ValueError: a source is wrong.
    """
    problems = multihost.sync_errors(lambda: {name: open_held_out(policy, config, name) for name in names})
    multihost.broadcast_from_main(lambda: _check_config(config, workdir / "config.json"))
    evaluator, figures = Evaluator(policy, config, verifier), {}
    for name in tqdm(names, desc="evaluating", unit="source", disable=len(names) == 1):
        folder = workdir / folder_name(name)
        figures[name] = multihost.broadcast_from_main(functools.partial(_read_source, folder, problems[name]))
        if figures[name]:
            tqdm.write(f"{name} was evaluated before: {folder / 'results.json'}")
        else:
            figures[name] = _evaluate_source(evaluator, problems[name], name, folder)
        # After every source, so that what is done can be read while the rest is on its way.
        if multihost.is_main_process():
            _write(workdir / "results.json", json.dumps({"model": config.model.path, "sources": figures}, indent=1))
            _write(workdir / "results.md", report(figures))
    return figures


def report(figures: dict[str, Any]) -> str:
    """The table of `eval_metrics.table`, and how many problems are in none of its figures."""
    short = {name: label(name) for name in figures}
    if len(set(short.values())) < len(short):
        short = {name: name for name in figures}
    notes = [
        f"Left out: {count} of {part['problems'] + sum(part['rejected'].values())} problems of {short[name]}, {why}."
        for name, part in figures.items()
        for why, count in part["rejected"].items()
    ]
    table = eval_metrics.table({short[name]: of_source for name, of_source in figures.items()})
    return "\n".join([table, *notes, *[""] * bool(notes)])


def label(name: str) -> str:
    """A source's name without its folders: jsonl:/data/my.jsonl is jsonl:my.jsonl."""
    kind, colon, rest = name.partition(":")
    return kind + colon + (os.path.basename(rest.rstrip("/")) if "/" in rest else rest)


def folder_name(name: str) -> str:
    """A source's name as that of a folder: jsonl:/data/my.jsonl is jsonl_my.jsonl_ and six letters for its path."""
    path = f"_{digest([name])[:6]}" if label(name) != name else ""
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", label(name)) + path


def digest(texts: Iterable[str]) -> str:
    """Stands for these texts, in this order."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def _evaluate_source(evaluator: Evaluator, problems: FilteredDataset, name: str, folder: Path) -> dict[str, Any]:
    """The figures of a source, whose files the first process writes."""
    policy, config = evaluator.policy, evaluator.config
    key = jax.random.key(config.seed)
    transcripts = evaluator.answer(policy.params, problems, key, name=label(name), parts=folder / "parts")
    chosen = some_of_both(transcripts, config.eval.scored)
    scored = score_transcripts(policy, config, [transcripts[n] for n in chosen], evaluator.verifier) if chosen else []
    for n, transcript in zip(chosen, scored, strict=True):
        transcripts[n] = transcript
    multihost.all_gather_objects("has read what an earlier call has left")  # for now it is removed
    return multihost.broadcast_from_main(lambda: _write_source(transcripts, problems, name, folder))


def _write_source(
    transcripts: Sequence[Transcript], problems: FilteredDataset, name: str, folder: Path
) -> dict[str, Any]:
    figures = eval_metrics.compute_eval_metrics(transcripts)
    # Told from the responses, which are in memory: problems with images are read from disk.
    asked = [t for t in transcripts if t.sampling == "greedy"]
    figures |= {"rejected": dict(problems.rejected), "questions": _questions(asked)}
    write_transcripts(transcripts, str(folder / "transcripts.jsonl"))
    shown = some_problems(transcripts, PAGE_BYTES)
    part = f", {len({t.id for t in shown})} of {len(problems)} problems" if len(shown) < len(transcripts) else ""
    transcript_browser.browse_page(shown, str(folder / "transcripts.html"), title=label(name) + part)
    # Last, because where it is, all is.
    _write(folder / "results.json", json.dumps(figures, indent=1))
    shutil.rmtree(folder / "parts")
    return _read_source(folder, problems)


def some_problems(transcripts: Sequence[Transcript], max_bytes: int) -> list[Transcript]:
    """The responses to as many problems, from the first, as have images of at most so many bytes; at least to one."""
    size_of = {t.id: sum(map(len, t.images)) for t in transcripts}
    total_of = dict(zip(size_of, itertools.accumulate(size_of.values()), strict=True))
    shown = {id for n, id in enumerate(size_of) if not n or total_of[id] <= max_bytes}
    return [t for t in transcripts if t.id in shown]


def some_of_both(transcripts: Sequence[Transcript], n: int) -> list[int]:
    """The places of n greedy responses, the first right and the first wrong ones, half of each if there are so many."""
    greedy = [i for i, t in enumerate(transcripts) if t.sampling == "greedy"]
    right = [i for i in greedy if transcripts[i].is_correct]
    wrong = [i for i in greedy if not transcripts[i].is_correct]
    n_right = max(min(len(right), n - n // 2), n - len(wrong))
    return sorted((right[:n_right] + wrong)[:n])


def _questions(asked: Iterable[Problem | Transcript]) -> str:
    """Stands for what was asked, so that a changed file is noticed."""
    return digest(text for problem in asked for text in (problem.id, problem.question, problem.answer))


def _read_source(folder: Path, problems: Sequence[Problem]) -> dict[str, Any]:
    """The figures of a source that was evaluated; {} when it was not.

    Raises:
      ConfigError: they are those of other problems.
    """
    if not (folder / "results.json").exists():
        return {}
    figures = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if figures["questions"] != _questions(problems):
        raise ConfigError(
            f"{folder} holds figures of other problems than the source now has; take another workdir, or remove it"
        )
    return figures


def _weights(config: Config) -> dict[str, list[int]]:
    """Size and time of the files that the policy is read from, so that a model that was trained on is noticed."""
    if not config.model.path:
        return {}
    path = Path(find_model(config.model.path))
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    return {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}


def _check_config(config: Config, path: Path) -> None:
    now = json.loads(json.dumps(config.to_dict())) | {"weights": _weights(config)}
    if path.exists():
        check_unchanged(str(path.parent), before=json.loads(path.read_text()), now=now, free=FREE)
    _write(path, json.dumps(now, indent=1))


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(path.suffix + ".tmp").write_text(text, encoding="utf-8")
    os.replace(path.with_suffix(path.suffix + ".tmp"), path)
