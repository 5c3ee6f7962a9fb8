"""Plots of a run: training curves here, gains of responses in `gains_plot` and `gains_html`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mig_jax.records import gains_html, gains_plot, plot_style
from mig_jax.records.metrics import column
from mig_jax.records.plot_style import COLORS, FAINT, INK, LINE, MUTED, InlineFigure, drawable_text
from mig_jax.records.transcripts import Transcript

# The rows of a run, as `metrics.read_metrics` returns them.
Rows = Sequence[Mapping[str, float]]

# A name, or an offset with the lengths of dashes and gaps.
LineStyle = str | tuple[float, Sequence[float]]

LINE_STYLES: tuple[LineStyle, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1, 1, 1)))
LINE_WIDTH = 1.8

# The panels of the training curves: title, unit of the axis, and the metrics with their labels.
PANELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "Accuracy",
        "share",
        {"reward/accuracy": "training", "eval/sampled": "held-out, sampled", "eval/greedy": "held-out, greedy"},
    ),
    ("Process reward", "nats", {"reward/process": "mean", "reward/process_std_in_group": "std within group"}),
    (
        "Likelihood of the reference answer, ℓ",
        "nats per token",
        {"ell/first": "before step 1", "ell/last": "after the last step"},
    ),
    ("Advantages", "mean |A|", {"advantage/process": "process", "advantage/outcome": "outcome"}),
    ("Responses", "share", {"reward/format": "well formed", "sft/gate": "gate", "rollout/truncated": "truncated"}),
    ("Groups with equal rewards", "share", {"reward/zero_variance_groups": "zero variance"}),
    ("Length", "tokens per response", {"rollout/length": "tokens"}),
    ("Losses", "loss", {"loss/process": "process", "loss/outcome": "outcome", "loss/sft": "SFT"}),
    ("Policy entropy", "nats per token", {"policy/entropy": "entropy"}),
    ("Gradient", "norm before clipping", {"gradient/norm": "norm"}),
    ("KL divergence", "nats per token", {"kl/old": "sampling policy", "kl/reference": "reference policy"}),
)


def draw_gains(transcripts: Sequence[Transcript], stem: str) -> None:
    """Write `stem`.png with the gains of the first eight responses, and the page `stem`.html with those of all."""
    gains_plot.draw_gains_plot(transcripts[:8], f"{stem}.png")
    gains_html.write_gains_page(transcripts, f"{stem}.html")


def training_curves(runs: Mapping[str, Rows], path: str | None = None) -> InlineFigure:
    """Draw the training curves of one run, or of several runs in the same panels.

    A panel is drawn if any run has one of its metrics. Long curves are thin, with a thick running mean. With one run,
    each metric has a color. With several, each run has a color, and each metric a line style.

    Args:
      runs: rows by name of the run.
      path: of a PNG to write; None for none.
    """
    names = dict.fromkeys(name for rows in runs.values() for row in rows for name in row)
    stages = [name for name in names if name.startswith("time/") and name.endswith("_share")]
    panels = [panel for panel in PANELS if names.keys() & panel[2].keys()]
    figure, axes = _make_grid(len(panels) + bool(stages))
    for ax, (title, unit, labels) in zip(axes, panels, strict=False):
        _draw_curves(ax, runs, labels)
        _style_axes(ax, title, unit)
    if stages:
        _draw_stage_times(axes[len(panels)], runs, stages)
    elif not panels:
        plot_style.annotate(axes[0], "no metrics yet", 0, -20, color=FAINT)
    if len(runs) > 1:
        lines = [Line2D([], [], color=COLORS[number % len(COLORS)], lw=3) for number in range(len(runs))]
        figure.legend(lines, list(map(drawable_text, runs)), loc="outside upper center", ncols=len(runs), frameon=False)
    if path is not None:
        plot_style.save_figure(figure, path)
    return figure


def _make_grid(n_panels: int) -> tuple[InlineFigure, list[Axes]]:
    """Return a figure with at least `n_panels` axes, at most three in a row; unused axes are hidden."""
    n_columns = min(3, max(1, n_panels))
    n_rows = max(1, -(-n_panels // n_columns))
    figure = InlineFigure(figsize=(4.6 * n_columns, 3.0 * n_rows + 0.4))
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for ax in axes[n_panels:]:
        ax.set_axis_off()
    return figure, axes


def _draw_curves(ax: Axes, runs: Mapping[str, Rows], labels: Mapping[str, str]) -> None:
    several = len(runs) > 1
    legend = {}
    for run_number, rows in enumerate(runs.values()):
        for number, (name, label) in enumerate(labels.items()):
            steps, values = column(rows, name)
            if not values.size:
                continue
            color_number, style_number = (run_number, number) if several else (number, 0)
            color = COLORS[color_number % len(COLORS)]
            style = LINE_STYLES[style_number % len(LINE_STYLES)]
            _draw_curve(ax, steps, values, color, style)
            legend[label] = Line2D([], [], color=MUTED if several else color, ls=style, lw=LINE_WIDTH)
    if len(labels) > 1:
        ax.legend(legend.values(), legend, frameon=False, fontsize=8)


def _draw_curve(ax: Axes, steps: np.ndarray, values: np.ndarray, color: str, style: LineStyle) -> None:
    values = np.where(np.isfinite(values), values, np.nan)
    if values.size >= 20:
        ax.plot(steps, values, color=color, lw=0.7, alpha=0.3)
        ax.plot(steps, _running_mean(values), color=color, ls=style, lw=LINE_WIDTH)
    else:
        ax.plot(steps, values, color=color, ls=style, lw=LINE_WIDTH, marker="o", ms=3.5)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Return the centered mean over a tenth of the curve, over fewer points at its ends; nan values are ignored."""
    window = np.ones(2 * (values.size // 20) + 1)
    known = np.isfinite(values)
    weight = np.convolve(known, window, mode="same")
    total = np.convolve(np.where(known, values, 0.0), window, mode="same")
    return np.divide(total, weight, out=np.full(values.size, np.nan), where=weight > 0)


def _draw_stage_times(ax: Axes, runs: Mapping[str, Rows], stages: Sequence[str]) -> None:
    """Draw a bar per run, divided into the stages of a training step."""
    for y, rows in enumerate(runs.values()):
        left = 0.0
        for number, name in enumerate(stages):
            share = float(np.mean(column(rows, name)[1])) if any(name in row for row in rows) else 0.0
            label = name.removeprefix("time/").removesuffix("_share") if y == 0 else None
            ax.barh(y, share, left=left, color=COLORS[number % len(COLORS)], height=0.6, label=label)
            if share > 0.08:
                ax.text(left + share / 2, y, f"{share:.0%}", ha="center", va="center", color="white", fontsize=8)
            left += share
    _style_axes(ax, "Time per stage", "")
    ax.grid(False)
    ax.set(xlim=(0, 1), ylim=(len(runs) - 0.4, -1.6), xlabel="share of a step")
    names = list(map(drawable_text, runs)) if len(runs) > 1 else []
    ax.set_yticks(range(len(names)), names)
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")


def _style_axes(ax: Axes, title: str, unit: str) -> None:
    ax.set_title(title, fontsize=10, loc="left", color=INK, fontweight="bold")
    ax.set_xlabel("step", fontsize=9, color=MUTED)
    ax.set_ylabel(unit, fontsize=9, color=MUTED)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_color(FAINT)
    ax.grid(axis="y", color=LINE, lw=0.7)
    ax.tick_params(labelsize=8, color=FAINT)
    if unit == "share":
        ax.set_ylim(-0.03, 1.03)
