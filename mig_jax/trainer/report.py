"""Write the plots of a finished run, and print its accuracy and where its files are."""

import os

from mig_jax.records import metrics, plots
from mig_jax.records.transcripts import read_transcripts

# Folder in a workdir with the SFT stage that comes before the first rollout.
SFT_STAGE = "sft"


def write_report(workdir: str) -> None:
    """Plot the run's curves and the gains of its first and last scored transcripts; print a summary."""
    _, rows = metrics.read_metrics(workdir)
    plots.training_curves({"": rows}, os.path.join(workdir, "curves.png"))
    written = ["curves.png"]
    folder = os.path.join(workdir, "transcripts")
    files = sorted(name for name in os.listdir(folder) if name.endswith(".jsonl")) if os.path.isdir(folder) else []
    for name, chosen in (("gains_first", files[:1]), ("gains_last", files[-1:])):
        scored = [t for file in chosen for t in read_transcripts(os.path.join(folder, file)) if t.ell_k]
        if scored:
            plots.draw_gains(scored, os.path.join(workdir, name))
            written += [f"{name}.png", f"{name}.html"]
    print(accuracy_line(workdir))
    print(f"{', '.join(written)}, metrics.jsonl and the trained model/ are in {workdir}")


def accuracy_line(workdir: str) -> str:
    """Return how accuracy on held-out problems changed, over the SFT stage if there was one."""
    runs = [os.path.join(workdir, SFT_STAGE), workdir]
    rows_of = {run: metrics.read_metrics(run)[1] for run in runs if os.path.isdir(run)}
    parts = []
    for name in ("eval/sampled", "eval/greedy"):
        columns = [metrics.column(rows, name)[1] for rows in rows_of.values()]
        values = [value for column in columns if len(column) for value in column[[0, -1]]]
        parts.append(
            f"{name.removeprefix('eval/')} " + (" → ".join(f"{value:.3f}" for value in values) or "not evaluated")
        )
    stages = "start → after SFT → start of RL → end" if len(rows_of) > 1 else "start → end"
    return f"held-out accuracy ({stages}): {', '.join(parts)}"
