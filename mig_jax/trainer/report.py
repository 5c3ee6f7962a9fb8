"""Write the plots and the report of a run; print its accuracy, what went wrong, and where its files are."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from tqdm import tqdm

from mig_jax.parts import own_constant
from mig_jax.records import metrics
from mig_jax.records.atomic_file import replace_file
from mig_jax.records.transcripts import read_transcripts
from mig_jax.trainer import diagnosis

# Folder in a workdir with the SFT stage that comes before the first rollout.
SFT_STAGE = "sft"

# What a run writes, in the order in which it is listed.
FILES = {
    "model": "the trained policy, in Hugging Face format",
    "curves.png": "accuracy, rewards, losses and times by step",
    "gains_first.html": "the first responses, each step tinted by its gain; also gains_first.png",
    "gains_last.html": "the last responses; also gains_last.png",
    "transcripts": "sampled responses with their grades and gains",
    "metrics.jsonl": "every metric of every logged step",
    "tensorboard": "the same, for tensorboard --logdir",
    "wandb": "the same, for wandb sync",
    "profile": "traces of log.profile_steps, for tensorboard --logdir",
    "parts": "copies of the files with parts of your own",
    "checkpoints": "the training state",
    "report.md": "these lines",
}


def write_report(workdir: str) -> None:
    """Plot a run's curves and the gains of its first and last scored transcripts; write and print a summary."""
    from mig_jax.records import plots  # matplotlib is not loaded before the first step

    config, rows = metrics.read_metrics(workdir)
    plots.training_curves({"": rows}, os.path.join(workdir, "curves.png"))
    folder = os.path.join(workdir, "transcripts")
    files = sorted(name for name in os.listdir(folder) if name.endswith(".jsonl")) if os.path.isdir(folder) else []
    own_kind = own_constant(config["data"]["columns"]["kind"])
    for name, chosen in (("gains_first", files[:1]), ("gains_last", files[-1:])):
        read = [t for file in chosen for t in read_transcripts(os.path.join(folder, file), own_kind=own_kind)]
        scored = [t for t in read if t.ell_k]
        if scored:
            plots.draw_gains(scored, os.path.join(workdir, name))
    findings = _diagnose(config, diagnosis.recent(rows))
    lines = [*([diagnosis.render(findings)] if findings else []), accuracy_line(workdir)]
    with replace_file(os.path.join(workdir, "report.md")) as file:
        items = [*(f"Warning: {finding.message}." for finding in findings), f"{lines[-1]}."]
        file.write("\n\n".join([f"# {config['mode']} in {workdir}", *items, "\n".join(list_files(workdir))]) + "\n")
    print("\n".join([f"everything is in {workdir}:", *list_files(workdir), *lines]))


def list_files(workdir: str) -> list[str]:
    """Return a line for each of `FILES` that exists, with its content."""
    # The report itself is written last.
    found = [name for name in FILES if os.path.exists(os.path.join(workdir, name)) or name == "report.md"]
    names = {name: f"{name}/" if os.path.isdir(os.path.join(workdir, name)) else name for name in found}
    return [f"- {names[name]:<16} {FILES[name]}" for name in found]


def warn_after_step(workdir: str, *, done: int, every: int) -> None:
    """Print what is wrong with a run, after some of its steps: about 5, 10, 20, 40 and so on.

    Args:
      workdir: of the run.
      done: steps done; their rows are written.
      every: steps between rows.
    """
    due = diagnosis.FIRST_STEPS
    while due <= done - every:
        due *= 2
    if done % every or done < due:
        return
    config, rows = metrics.read_metrics(workdir)
    _warn(_diagnose(config, rows if due == diagnosis.FIRST_STEPS else diagnosis.recent(rows)))


def report_late_programs(names: Sequence[str], *, done: int) -> None:
    """Print what was compiled after the first row of metrics: "step 7: compiled make_train_batch, train_step".

    Args:
      names: of the programs, one for each size.
      done: steps done.
    """
    counts = Counter(names)
    if counts:
        listed = ", ".join(f"{name} × {n}" if n > 1 else name for name, n in counts.items())
        tqdm.write(f"step {done:>5}  compiled {listed}")


def warn_after_evaluation(workdir: str) -> None:
    """Print what is wrong with the policy that a run starts from."""
    config, rows = metrics.read_metrics(workdir)
    _warn(_diagnose(config, [row for row in rows if row["step"] == 0]))


def _diagnose(config: dict[str, Any], rows: Sequence[diagnosis.Row]) -> list[diagnosis.Finding]:
    view: Any = ConfigDict(config, allow_dotted_keys=True)  # rewards are named by files
    return diagnosis.diagnose(rows, view, mode=config["mode"])


def _warn(findings: Sequence[diagnosis.Finding]) -> None:
    if findings:
        tqdm.write(diagnosis.render(findings))


class _Point(NamedTuple):
    """An evaluation: when it was made, and its accuracy."""

    when: str
    accuracy: float


def accuracy_line(workdir: str) -> str:
    """Return how accuracy on held-out problems changed, over the SFT stage if there was one.

    Without evaluations, return how the accuracy of training responses changed.
    """
    runs = [os.path.join(workdir, SFT_STAGE), workdir]
    rows_of = [metrics.read_metrics(run)[1] for run in runs if os.path.isdir(run)]
    points = {name: _evaluations(rows_of, f"eval/{name}") for name in ("sampled", "greedy")}
    if any(points.values()):
        stages = " → ".join(point.when for point in points["sampled"])
        parts = [f"{name} {' → '.join(f'{p.accuracy:.3f}' for p in found)}" for name, found in points.items()]
        return f"held-out accuracy ({stages}): {', '.join(parts)}"
    training = metrics.column(rows_of[-1], "reward/accuracy")[1]
    trained = f"; accuracy in training: {training[0]:.3f} → {training[-1]:.3f}" if len(training) else ""
    return f"held-out accuracy: not evaluated{trained}"


def _evaluations(rows_of: Sequence[Sequence[diagnosis.Row]], name: str) -> list[_Point]:
    """Return the first and the last evaluation of each run: of RL alone, or of its SFT stage and of RL."""
    points = []
    for rows, (first, last) in zip(rows_of, _STAGES[len(rows_of)], strict=True):
        steps, values = metrics.column(rows, name)
        if len(steps) and steps[0] == 0:
            points.append(_Point(first, values[0]))
        if len(steps) and steps[-1] > 0:
            points.append(_Point(last, values[-1]))
    return points


# The names of the first and the last evaluation of each of one or two runs.
_STAGES = {1: (("start", "end"),), 2: (("start", "after SFT"), ("start of RL", "end"))}
