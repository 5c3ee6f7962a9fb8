"""What a study is: hypotheses that are stated before its runs, a grid of runs, and an analysis of what they wrote."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mig_jax.records import metrics
from mig_jax.records.transcripts import Transcript, read_transcripts

# Written last into the folder of a run: it is finished.
RECORD = "run.json"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the grid of a study depends on.

    seeds: number of seeds of each arm.
    smoke: whether the runs only show that the study works: two training steps of a tiny model.
    model: of --model, for all runs in place of the study's own; "" if none is given.
    config: of --config, in place of the study's own; "" if none is given.
    """

    seeds: int
    smoke: bool = False
    model: str = ""
    config: str = ""


@dataclasses.dataclass(frozen=True)
class Run:
    """One command of a study, with the changes it makes to the study's config.

    name: unique; its folder is WORKDIR/runs/NAME. "/" makes folders, as in "mig/start_3/seed_0".
    action: what it does, see `actions`.
    changes: config key → value.
    seed: of the run. Arms that are compared have the same seeds.
    arm: what is compared, such as a method.
    setting: where it is compared, such as a difficulty; "" if there is one setting.
    model: name of the run that trained the model it starts from; "" for the config's.
    after: names of further runs whose files it reads.
    options: arguments of the action.
    """

    name: str
    action: Callable[["Job"], None]
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    arm: str = ""
    setting: str = ""
    model: str = ""
    after: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of all runs that must be finished before."""
        return (*((self.model,) if self.model else ()), *self.after)


@dataclasses.dataclass(frozen=True)
class Job:
    """A run that is under way, for its action.

    run: the run.
    config: the `Config` of the run, with its changes, its seed, and its model.
    folder: for everything it writes.
    folder_of: returns the folder of a run by its name.
    should_stop: whether the study is to stop after the current training step.
    """

    run: Run
    config: Any
    folder: Path
    folder_of: Callable[[str], Path]
    should_stop: Callable[[], bool]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A difference between two arms, with its 95 % interval.

    what: such as "mig − grpo, start 3 %".
    mean, low, high: of the difference.
    p: two-sided p-value; None if it is not a test.
    """

    what: str
    mean: float
    low: float
    high: float
    p: float | None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the page: a title, column names, and rows of texts."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What a study found.

    findings: sentences with figures, one for each hypothesis first.
    tables: see `Table`.
    comparisons: all tests that were made, so that they can be corrected for their number.
    figure: None if there is nothing to draw yet.
    numbers: further numbers for results.json.
    timing: tables that depend on the time that runs took. They are on a page of their own, timing.md: all else is the
      same whenever and wherever a study is run again.
    """

    findings: Sequence[str]
    tables: Sequence[Table] = ()
    comparisons: Sequence[Comparison] = ()
    figure: Figure | None = None
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    timing: Sequence[Table] = ()


@dataclasses.dataclass(frozen=True)
class Study:
    """A question, what is expected, the runs that may answer it, and what is read from them.

    name: of the command line.
    question: one sentence.
    hypotheses: what is expected, stated before the runs.
    plan_runs: returns all runs, those first that should be finished first.
    analyze: reads what finished runs wrote; some may be missing.
    config: name of the config of all runs, unless --config names another.
    settings: changes of that config, for all runs.
    baseline: changes of any config, that of --config, too: what runs have that set nothing else.
    smoke: changes for --smoke, besides `tiny.SMOKE`.
    limits: what the study cannot tell.
    """

    name: str
    question: str
    hypotheses: Sequence[str]
    plan_runs: Callable[[Plan], Sequence[Run]]
    analyze: Callable[["Results"], Analysis]
    config: str = "quickstart"
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    baseline: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    smoke: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    limits: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Results:
    """The finished runs of a study, and readers of their files.

    plan: of the study.
    planned: all runs.
    root: the folder that has the folders of the runs.
    """

    plan: Plan
    planned: Sequence[Run]
    root: Path

    def folder(self, name: str) -> Path:
        """Return the folder of a run."""
        return self.root / name

    def is_finished(self, run: Run) -> bool:
        """Return whether a run is finished."""
        return (self.root / run.name / RECORD).is_file()

    def finished(self, **fields: Any) -> list[Run]:
        """Return the finished runs whose fields have these values, as in `finished(arm="mig", setting="3 %")`."""
        return [run for run in self.planned if self._has(run, fields) and self.is_finished(run)]

    def record(self, run: Run) -> dict[str, Any]:
        """Return what is recorded of a finished run: command, commit, hardware, seconds."""
        return json.loads((self.root / run.name / RECORD).read_text(encoding="utf-8"))

    def rows(self, run: Run) -> list[dict[str, float]]:
        """Return the logged rows of a training run."""
        return metrics.read_metrics(str(self.root / run.name))[1]

    def last(self, run: Run, metric: str, n: int = 1) -> float:
        """Return the mean of the last `n` logged values of a metric; nan if there is none."""
        values = metrics.column(self.rows(run), metric)[1][-n:]
        return float(values.mean()) if len(values) else float("nan")

    def transcripts(self, run: Run) -> list[Transcript]:
        """Return the transcripts that an `evaluate`, `sample` or `score` run wrote, in their order."""
        return [t for path in self._transcript_files(run) for t in read_transcripts(str(path))]

    def accuracy_by_problem(self, run: Run, sampling: str = "sampled") -> np.ndarray:
        """Return the share of right responses to each problem of an `evaluate` run, `[Q]`, in the order of ids."""
        by_id: dict[str, list[bool]] = {}
        for t in self.transcripts(run):
            if t.sampling == sampling:
                by_id.setdefault(t.id, []).append(t.is_correct_strict is True)
        return np.array([np.mean(by_id[key]) for key in sorted(by_id)])

    def accuracies(self, runs: Sequence[Run], sampling: str = "sampled") -> np.ndarray:
        """Return the accuracy by problem of runs that differ in their seed, `[S, Q]`, in the order of seeds."""
        return np.stack([self.accuracy_by_problem(run, sampling) for run in sorted(runs, key=lambda run: run.seed)])

    def _transcript_files(self, run: Run) -> Iterator[Path]:
        folder = self.root / run.name
        for name in ("samples.jsonl", "scores.jsonl", "*/transcripts.jsonl"):
            yield from sorted(folder.glob(name))

    @staticmethod
    def _has(run: Run, fields: Mapping[str, Any]) -> bool:
        return all(getattr(run, name) == value for name, value in fields.items())
