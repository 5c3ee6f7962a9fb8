"""Run a study: its unfinished runs in sequence, then its page.

WORKDIR/study.json          the study, its config and its plan; another one is refused
WORKDIR/runs/NAME/          what a run wrote; run.json, written last, says that it is finished; output.txt
WORKDIR/report.md, figure.png, results.json    the page, from all runs that are finished

A run that is stopped resumes, and a finished one is never run again. Several processes may share a workdir: each takes
runs that no other has. Machines may each run a part (`part`) in a workdir of its own; put their runs/ together then.
"""

import contextlib
import dataclasses
import fcntl
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from mig_jax.check_config import COMPUTE_ONLY, ConfigError
from mig_jax.config_file import flatten
from mig_jax.config_sources import load_config
from mig_jax.errors import UserError
from mig_jax.records.atomic_file import read_json_object, replace_file
from mig_jax.studies import page, provenance, tiny
from mig_jax.studies.study import RECORD, Job, Plan, Results, Run, Study
from mig_jax.trainer.preemption import Preempted

# Failed runs in a row after which no other is tried.
MAX_FAILURES = 3

# Where the package is: its model is the same one in another place.
PACKAGE = str(Path(__file__).parents[1])


@dataclasses.dataclass(frozen=True)
class Selection:
    """The runs that this process may start, with all that they need.

    only: parts of names, such as "grpo"; () for all.
    part: (I, N): the I-th of N parts, from 1.
    """

    only: Sequence[str] = ()
    part: tuple[int, int] = (1, 1)

    def of(self, runs: Sequence[Run]) -> list[Run]:
        """Return the runs that are selected; runs that others need come with those.

        Raises:
          UserError: nothing is selected.
        """
        index, count = self.part
        leaves = [run for run in runs if not self.only or any(text in run.name for text in self.only)]
        chosen = {run.name for number, run in enumerate(leaves) if number % count == index - 1}
        if not leaves:
            raise UserError(f"--only={','.join(self.only)}: no run has this in its name; there are {_names(runs)}")
        for run in reversed(runs):  # what a run needs stands before it
            chosen |= set(run.needs) if run.name in chosen else set()
        return [run for run in runs if run.name in chosen]


def run_study(
    study: Study,
    workdir: str,
    plan: Plan,
    *,
    overrides: Mapping[str, Any] | None = None,
    selection: Selection | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> Results:
    """Run what is unfinished, and write the page.

    Args:
      study: see `table.STUDIES`.
      workdir: see the top of this module.
      plan: seeds and size.
      overrides: config key → value, for all runs; what an arm changes is stronger.
      selection: the runs to start; None for all.
      should_stop: see `trainer.train.run`.
      say: prints a line.

    Raises:
      UserError: the workdir is of another study or config; or runs failed, which are named after the page is written.
      Preempted: `should_stop` was true; the same call resumes.
    """
    root, runs = Path(workdir), list(study.plan_runs(plan))
    _check_runs(runs)
    results = Results(plan, runs, root / "runs")
    chosen = (selection or Selection()).of(runs)
    waiting = [run for run in chosen if not results.is_finished(run)]
    _check_study(root, study, plan, overrides or {}, is_running=bool(waiting))
    _check_finished(results)
    say(f"{study.name}: {len(runs)} runs, {sum(map(results.is_finished, runs))} finished; {len(waiting)} to run here")
    failed = _run_all(study, waiting, results, overrides or {}, should_stop, say)
    page.write_page(study, results, root, overrides or {})
    say(f"report.md, figure.png and results.json are in {root}")
    if failed:
        more = ", …" if len(failed) > 3 else ""
        raise UserError(
            f"{len(failed)} run{'s' * (len(failed) > 1)} failed ({', '.join(failed[:3])}{more}); see output.txt in "
            f"{root / 'runs'}/RUN, then run the same command again"
        )
    return results


def config_of(study: Study, plan: Plan, run: Run, results: Results, overrides: Mapping[str, Any]) -> Any:
    """Return the config of a run: the study's, then --smoke, the overrides, and the changes of the run."""
    changes: dict[str, Any] = dict(_settings(study, plan))
    changes |= {**tiny.SMOKE, **study.smoke} if plan.smoke else {}
    changes |= {"model.path": plan.model, "model.tokenizer": ""} if plan.model else {}
    changes |= {**overrides, **run.changes, "seed": run.seed}
    if run.model:
        changes |= {"model.path": str(results.folder(run.model) / "model"), "model.tokenizer": ""}
    return load_config(plan.config or study.config, **changes)


def _settings(study: Study, plan: Plan) -> Mapping[str, Any]:
    """Return the changes of the config that all runs have in common."""
    return {**({} if plan.config else study.settings), **study.baseline}


def _run_all(
    study: Study,
    waiting: Sequence[Run],
    results: Results,
    overrides: Mapping[str, Any],
    should_stop: Callable[[], bool],
    say: Callable[[str], None],
) -> list[str]:
    """Run all; return the names of those that failed. Runs that another process has at the moment come last."""
    failed: dict[str, str] = {}
    in_a_row = 0
    for wait in (False, True):
        for run in waiting:
            missing = [name for name in run.needs if not (results.folder(name) / RECORD).is_file()]
            if results.is_finished(run) or run.name in failed or (missing and not wait) or in_a_row == MAX_FAILURES:
                continue
            if should_stop():
                raise Preempted(f"stopped before {run.name}")
            if missing:
                failed[run.name] = f"{missing[0]} is missing"
                continue
            with _lock(results.folder(run.name), wait=wait) as has_lock:
                if not has_lock or results.is_finished(run):
                    continue
                began = time.perf_counter()
                error = _run_one(study, run, results, overrides, should_stop)
                say(f"{run.name}: {error or f'{time.perf_counter() - began:.0f} s'}")
            failed |= {run.name: error} if error else {}
            in_a_row = in_a_row + 1 if error else 0
    return list(failed)


def _run_one(
    study: Study, run: Run, results: Results, overrides: Mapping[str, Any], should_stop: Callable[[], bool]
) -> str | None:
    """Run one, and record that it is finished; return why it failed, or None.

    Raises:
      ConfigError, Preempted: no result of the run.
    """
    folder, began = results.folder(run.name), time.perf_counter()
    job = Job(run, config_of(study, results.plan, run, results, overrides), folder, results.folder, should_stop)
    with open(folder / "output.txt", "a", encoding="utf-8", buffering=1) as log:
        try:
            with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                run.action(job)
        except (ConfigError, Preempted):
            raise
        except Exception as failure:
            traceback.print_exc(file=log)
            return " ".join(f"{type(failure).__name__}: {failure}".split())[:200]
    record = provenance.record(study, results.plan, run, overrides, seconds=time.perf_counter() - began)
    with replace_file(folder / RECORD) as file:
        json.dump(record, file, indent=1, default=str)
    return None


@contextlib.contextmanager
def _lock(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a run while the block runs, if it can be had; a process that is killed releases it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _check_runs(runs: Sequence[Run]) -> None:
    """Check the grid of a study.

    Raises:
      ValueError: names repeat, or a run needs one that does not stand before it.
    """
    seen: set[str] = set()
    for run in runs:
        missing = [name for name in run.needs if name not in seen]
        if run.name in seen or missing:
            raise ValueError(f"run {run.name} is there twice, or stands before {missing}")
        seen.add(run.name)


def _check_study(root: Path, study: Study, plan: Plan, overrides: Mapping[str, Any], *, is_running: bool) -> None:
    """Check that the workdir is new or has this study, with this config; the number of seeds may change.

    Defaults that have changed since do not matter where nothing is left to run: then only the page is written.

    Raises:
      UserError: it does not.
    """
    base = flatten(cast(Any, load_config(plan.config or study.config)))
    free = {*COMPUTE_ONLY, *_settings(study, plan)}  # how it is computed, and what the study sets itself
    base = {key: str(value).replace(PACKAGE, "mig_jax") for key, value in base.items() if key not in free}
    kept = {"study": study.name, "smoke": plan.smoke, "model": plan.model, "config": Path(plan.config).name}
    kept |= {"overrides": dict(overrides), "base": base}
    mine, path = json.loads(json.dumps(kept, default=str)), root / "study.json"
    if path.is_file():
        theirs = {"config": "", **read_json_object(path, keys=("study", "smoke", "model", "overrides", "base"))}
        if changed := _changed_settings(mine, theirs, with_base=is_running):
            more = f" and {len(changed) - 8} more" if len(changed) > 8 else ""
            raise UserError(
                f"{root} was started with other settings; use another workdir, or restore these: "
                f"{', '.join(changed[:8])}{more}"
            )
        return
    with replace_file(path) as file:
        json.dump(mine, file, indent=1)


def _changed_settings(mine: Mapping[str, Any], theirs: Mapping[str, Any], *, with_base: bool) -> list[str]:
    """Return the old values of changed settings of a study; those of its config only if all flags are the same."""
    changed = [f"study {theirs['study']}"] if mine["study"] != theirs["study"] else []
    flags = [(f"--{key}", theirs[key]) for key in ("smoke", "model", "config") if mine[key] != theirs[key]]
    changed += [flag if value is True else f"{flag}={value}" if value else f"no {flag}" for flag, value in flags]
    new, old = mine["overrides"], theirs["overrides"]
    for key in sorted({*new, *old}):
        if key not in old:
            changed.append(f"no --config.{key}")
        elif new.get(key) != old[key]:
            changed.append(f"--config.{key}={old[key]}")
    if with_base and not changed:  # keys that only one version has do not matter
        new, old = mine["base"], theirs["base"]
        changed = [f"{key}={old[key]}" for key in new if key in old and new[key] != old[key]]
    return changed


def _check_finished(results: Results) -> None:
    """Check that finished runs are those of this version of the study.

    Raises:
      UserError: some were made with other changes or options; names them.
    """
    other = []
    for run in results.finished():
        record = results.record(run)
        mine = json.loads(json.dumps([run.seed, dict(run.changes), dict(run.options)], default=str))
        if mine != [record["seed"], record["changes"], record["options"]]:
            other.append(run)
    if other:
        raise UserError(
            f"{_names(other)} in {results.root} were made with other settings, by another version of the study; remove "
            "their folders, or use another workdir"
        )


def _names(runs: Sequence[Run]) -> str:
    names = [run.name for run in runs]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def parse_part(text: str) -> tuple[int, int]:
    """Return (I, N) of "I/N".

    Raises:
      UserError: it is something else, or I is not from 1 to N.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UserError(f"--part={text}: must be I/N, such as 1/4 for the first of four parts")
    return int(index), int(count)
