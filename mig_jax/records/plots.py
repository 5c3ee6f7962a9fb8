"""Pictures of a run, drawn with matplotlib from what it has recorded: training curves, and gains step by step.

Figures are made through the object interface, without pyplot, so that drawing leaves no state behind and works in any
thread. `pages` shows the gains in a browser.
"""

import functools
import io
import os
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from mig_jax.records import gains_html
from mig_jax.records.metrics import column
from mig_jax.records.transcripts import Transcript
from mig_jax.text.response_format import parse_response

COLORS = ("#2563eb", "#ea580c", "#0d9488", "#9333ea", "#ca8a04", "#64748b")
STYLES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1, 1, 1)))
INK, MUTED, FAINT, LINE = "#1f2937", "#4b5563", "#9ca3af", "#e5e7eb"
# Pale enough at both ends for dark text; a signed credit makes losses.
GAIN_COLORS = LinearSegmentedColormap.from_list("gain", ["#f08a4b", "#fbd3b8", "#ffffff", "#b3d2fd", "#5596fb"])
VERDICTS = {True: ("✓ right", "#15803d"), False: ("✗ wrong", "#b91c1c"), None: ("? undecided", FAINT)}
SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"  # both come with matplotlib

# The panels of the training curves: title, axis, and the metrics with their labels.
PANELS = (
    ("Accuracy", "share", {"reward/accuracy": "training", "eval/sampled": "held out", "eval/greedy": "greedy"}),
    ("Process reward", "nats", {"reward/process": "mean", "reward/process_std_in_group": "spread in the group"}),
    ("Likelihood of the answer, ℓ", "nats per token", {"ell/first": "before step 1", "ell/last": "after the last"}),
    ("Advantages", "mean |A|", {"advantage/process": "process", "advantage/outcome": "outcome"}),
    ("Responses", "share", {"reward/format": "well formed", "reward/gate": "gate", "rollout/truncated": "cut off"}),
    ("Groups without a signal", "share", {"reward/zero_variance_groups": "all rewards equal"}),
    ("Length", "tokens per response", {"rollout/length": "tokens"}),
    ("Losses", "loss", {"loss/process": "process", "loss/outcome": "outcome", "loss/sft": "imitation"}),
    ("Entropy of the policy", "nats per token", {"policy/entropy": "entropy"}),
    ("Gradient", "norm before clipping", {"gradient/norm": "norm"}),
    ("Divergence", "nats per token", {"kl/old": "from the sampling policy", "kl/reference": "from the reference"}),
)

# ---------------------------------------------------------------------------------------------------- training curves


def training_curves(runs: Mapping[str, Sequence[Mapping[str, float]]], path: str) -> None:
    """Draws what the rows of one run, or of several over each other, tell of the training.

    A panel is drawn when any run has one of its metrics. Noisy curves are thin, their running mean is thick. One run
    has a colour for each metric; several have a colour each, and their metrics differ by dashes.

    Args:
      runs: rows, as `metrics.read_metrics` gives them, under the name of the run.
      path: of the PNG.
    """
    names = dict.fromkeys(name for rows in runs.values() for row in rows for name in row)
    times = [name for name in names if name.startswith("time/") and name.endswith("_share")]
    panels = [panel for panel in PANELS if names.keys() & panel[2].keys()]
    n_panels = len(panels) + bool(times)
    n_columns = min(3, max(1, n_panels))
    n_rows = max(1, -(-n_panels // n_columns))
    figure = Figure(figsize=(4.6 * n_columns, 3.0 * n_rows + 0.4), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for ax, (title, unit, labels) in zip(axes, panels, strict=False):
        _draw_curves(ax, runs, labels)
        _frame(ax, title, unit)
    if times:
        _draw_times(axes[len(panels)], runs, times)
    for ax in axes[n_panels:]:
        ax.set_axis_off()
    if not n_panels:
        _note(axes[0], "no numbers yet", 0, -20, color=FAINT)
    if len(runs) > 1:
        lines = [Line2D([], [], color=COLORS[number % len(COLORS)], lw=3) for number in range(len(runs))]
        figure.legend(lines, map(_drawable, runs), loc="outside upper center", ncols=len(runs), frameon=False)
    _save(figure, path)


def _draw_curves(ax: Axes, runs: Mapping, labels: Mapping[str, str]) -> None:
    legend = {}
    for run_number, rows in enumerate(runs.values()):
        for number, (name, label) in enumerate(labels.items()):
            steps, values = column(rows, name)
            color, style = (run_number, number) if len(runs) > 1 else (number, 0)
            look = {"color": COLORS[color % len(COLORS)], "ls": STYLES[style % len(STYLES)], "lw": 1.8}
            values = np.where(np.isfinite(values), values, np.nan)
            if values.size >= 20:
                ax.plot(steps, values, **look | {"ls": "-", "lw": 0.7}, alpha=0.3)
                ax.plot(steps, _running_mean(values), **look)
            elif values.size:
                ax.plot(steps, values, **look, marker="o", ms=3.5)
            if values.size:
                legend[label] = Line2D([], [], **look | ({"color": MUTED} if len(runs) > 1 else {}))
    if len(labels) > 1:
        ax.legend(legend.values(), legend, frameon=False, fontsize=8)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over a window of a tenth of the curve, centred, smaller at the ends; gaps are left out of it."""
    window = np.ones(2 * (values.size // 20) + 1)
    known = np.isfinite(values)
    weight = np.convolve(known, window, mode="same")
    total = np.convolve(np.where(known, values, 0.0), window, mode="same")
    return np.divide(total, weight, out=np.full(values.size, np.nan), where=weight > 0)


def _draw_times(ax: Axes, runs: Mapping, names: Sequence[str]) -> None:
    """A bar for each run: how its time divides into the stages of a step."""
    for y, rows in enumerate(runs.values()):
        left = 0.0
        for number, name in enumerate(names):
            share = np.mean(column(rows, name)[1]) if any(name in row for row in rows) else 0.0
            label = name.removeprefix("time/").removesuffix("_share") if y == 0 else None
            ax.barh(y, share, left=left, color=COLORS[number % len(COLORS)], height=0.6, label=label)
            if share > 0.08:
                ax.text(left + share / 2, y, f"{share:.0%}", ha="center", va="center", color="white", fontsize=8)
            left += share
    _frame(ax, "Where the time goes", "")
    ax.grid(False)
    ax.set(xlim=(0, 1), ylim=(len(runs) - 0.4, -1.6), xlabel="share of a step")
    ax.set_yticks(range(len(runs)) if len(runs) > 1 else [], map(_drawable, runs) if len(runs) > 1 else [])
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")


def _frame(ax: Axes, title: str, unit: str) -> None:
    ax.set_title(title, fontsize=10, loc="left", color=INK, fontweight="bold")
    ax.set_xlabel("step", fontsize=9, color=MUTED)
    ax.set_ylabel(unit, fontsize=9, color=MUTED)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[:].set_color(FAINT)
    ax.grid(axis="y", color=LINE, lw=0.7)
    ax.tick_params(labelsize=8, color=FAINT)
    if unit == "share":
        ax.set_ylim(-0.03, 1.03)


# -------------------------------------------------------------------------------------------------------------- gains

# Inches; the likelihood has the width that the text leaves.
WIDTH, TEXT_WIDTH, MARGIN, ROW, HEADER, LEGEND = 12.0, 7.6, 0.3, 0.34, 0.72, 0.6
IMAGE, GAP = 1.5, 0.2  # an image is a square of this side, or what of it the image fills
MAX_IMAGES = 4  # of a question; more are on the page
CHARACTERS = 95  # of a line of text


def draw_gains(transcripts: Sequence[Transcript], stem: str) -> None:
    """Both pictures of the gains: `stem`.png with the first eight responses, `stem`.html with all of them."""
    gain_heatmap(transcripts[:8], f"{stem}.png")
    gains_html.gain_page(transcripts, f"{stem}.html")


def gain_heatmap(transcripts: Sequence[Transcript], path: str) -> None:
    """Draws each response as rows, one a step, tinted by its gain; beside them ℓ and the watermark on the same rows.

    What the question shows stands on the other side of the rows, one image under the other.

    Args:
      transcripts: a handful; the picture grows by a third of an inch with every step. Without steps or without
        numbers they are drawn as far as they go.
      path: of the PNG.
    """
    height_r = [max(ROW * (len(t.steps) + 1), IMAGE * len(t.images[:MAX_IMAGES])) for t in transcripts]
    height = LEGEND + sum(height_r) + HEADER * len(transcripts) + 2 * MARGIN
    figure = Figure(figsize=(WIDTH, height))

    def axes(left: float, top: float, width: float, tall: float) -> Axes:
        """Axes placed in inches from the upper left corner."""
        return figure.add_axes((left / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height))

    gains = [gain for transcript in transcripts for gain in transcript.gain_k if np.isfinite(gain)]
    ells = [ell for transcript in transcripts for ell in transcript.ell_k if np.isfinite(ell)] or [0.0]
    pad = 0.06 * (max(ells) - min(ells)) + 0.02
    largest = max(map(abs, gains), default=0.0) or 1.0
    norm = Normalize(-largest, largest)
    _draw_scale(axes(MARGIN, 0.2, 2.4, 0.14), norm, low=-largest if min(gains, default=0.0) < 0 else 0.0)
    top = LEGEND
    for transcript, tall in zip(transcripts, height_r, strict=True):
        top += HEADER
        for n, image in enumerate(transcript.images[:MAX_IMAGES]):
            _draw_image(axes(MARGIN, top + n * IMAGE, IMAGE - 0.06, IMAGE - 0.06), image)
        indent = IMAGE + GAP if transcript.images else 0.0
        rows = ROW * (len(transcript.steps) + 1)
        step_axes = axes(MARGIN + indent, top, TEXT_WIDTH - indent, rows)
        _draw_header(step_axes, transcript, -72 * indent)
        _draw_steps(step_axes, transcript, norm, TEXT_WIDTH - indent)
        left = MARGIN + TEXT_WIDTH + GAP
        ell_axes = axes(left, top, WIDTH - left - MARGIN, rows)
        _draw_likelihood(ell_axes, transcript, norm)
        ell_axes.set(xlim=(min(ells) - pad, max(ells) + pad), ylim=(len(transcript.steps) + 0.5, -0.5))
        top += tall
    _save(figure, path)


def _draw_scale(ax: Axes, norm: Normalize, *, low: float) -> None:
    """The colour scale and the names of the lines."""
    ramp = np.linspace(low, norm.vmax, 200)
    ax.imshow(GAIN_COLORS(norm(ramp))[None], aspect="auto", extent=(low, norm.vmax, 0, 1))
    ax.set_yticks([])
    ax.tick_params(labelsize=7, length=2, color=FAINT)
    ax.spines[:].set_color(LINE)
    _note(ax, "gain of the step, nats", 185, -9, color=INK, fontsize=9)
    _note(ax, "●  ℓ after the step", 555, -9, color=COLORS[0], fontsize=9)
    _note(ax, "▬  watermark, the best so far", 670, -9, color=COLORS[1], fontsize=9)


def _draw_image(ax: Axes, image: bytes) -> None:
    with Image.open(io.BytesIO(image)) as opened:
        ax.imshow(opened.convert("RGB"))
    ax.set_anchor("NW")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color(LINE)


def _draw_header(ax: Axes, transcript: Transcript, x: float) -> None:
    """Question, verdict and facts above the axes, from `x` points off their left edge."""
    verdict, color = VERDICTS[transcript.is_correct]
    earned = f"Σ gain {_signed(sum(transcript.gain_k))} · " if transcript.gain_k else ""
    problem = f" · not well formed: {transcript.format_error}" if transcript.format_error else ""
    _note(ax, _drawable(transcript.question), x, 21, color=INK, fontsize=9, fontweight="bold")
    _note(ax, verdict, x, 6, color=color, fontsize=8.5, fontweight="bold")
    given = parse_response(transcript.response).answer
    answered = "no answer" if given is None else f"answered {given}"
    facts = f"{earned}{answered}, reference {transcript.answer}{problem}"
    _note(ax, _drawable(facts), x + 72, 6, color=MUTED, fontsize=8.5)


def _draw_steps(ax: Axes, transcript: Transcript, norm: Normalize, width: float) -> None:
    """A row for each step, `width` inches wide, k = 0 (no step yet) on top: its number, its text, its gain."""
    ax.set(xlim=(0, width), ylim=(len(transcript.steps) + 0.5, -0.5))
    ax.set_axis_off()
    _draw_row(ax, 0, "before the first step", None, "#f3f4f6", width)
    gains = [*transcript.gain_k, *[None] * len(transcript.steps)]
    for k, (text, gain) in enumerate(zip(transcript.steps, gains, strict=False), start=1):
        # The row has the number of the step; a heading that says the same is left out.
        text = text.strip().removeprefix(f"### Step {k}:").strip()
        _draw_row(ax, k, text, gain, "#f3f4f6" if gain is None else GAIN_COLORS(norm(gain)), width)


def _draw_row(ax: Axes, k: int, text: str, gain: float | None, color, width: float) -> None:
    ax.barh(k, width, height=0.92, color=color, edgecolor=LINE, lw=0.6)
    style = {"color": INK if k else FAINT, "va": "center"}
    characters = int(CHARACTERS * width / TEXT_WIDTH)
    ax.text(0.09, k, str(k), fontsize=8, **style | {"color": MUTED})
    text = _drawable(text, lines=2, characters=characters)
    ax.text(0.32, k, text, fontsize=7.5, family=MONO, linespacing=1.1, **style)
    if gain is not None:
        style["color"] = INK if gain else FAINT
        ax.text(width - 0.08, k, _signed(gain), fontsize=8.5, fontweight="bold", ha="right", **style)


def _draw_likelihood(ax: Axes, transcript: Transcript, norm: Normalize) -> None:
    """ℓ as dots, the watermark as a staircase, and each lift of the watermark as a bar in the colour of the gain."""
    mark_k, rows = transcript.watermark_k, range(len(transcript.ell_k))
    for k, gain in enumerate(transcript.gain_k, start=1):
        ax.barh(k, mark_k[k] - mark_k[k - 1], left=mark_k[k - 1], height=0.92, color=GAIN_COLORS(norm(gain)))
    ax.step(mark_k, rows, where="pre", color=COLORS[1], lw=1.3)
    ax.plot(transcript.ell_k, rows, color=COLORS[0], lw=1.2, marker="o", ms=4)
    _note(ax, "ℓ, nats per token" if transcript.ell_k else "not scored", 0, 6, color=MUTED, fontsize=8.5)
    ax.axis("on" if transcript.ell_k else "off")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.grid(axis="x", color=LINE, lw=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=7, color=FAINT, left=False, labelleft=False)


# ---------------------------------------------------------------------------------------------------- text and saving


@functools.cache
def _known_characters() -> frozenset[int]:
    """What both fonts can draw; another character would be drawn as an empty box, with a warning."""
    fonts = [ft2font.FT2Font(font_manager.findfont(family)) for family in (SANS, MONO)]
    return frozenset.intersection(*(frozenset(font.get_charmap()) for font in fonts))


def _drawable(text: str, *, lines: int = 1, characters: int = CHARACTERS) -> str:
    """Text on at most `lines` lines, the rest elided; with � for what the fonts lack, and `$` as no mathematics."""
    known = _known_characters()
    text = "".join(c if ord(c) in known else "\ufffd" for c in text[:2000])
    wrapped = textwrap.wrap(text, characters, max_lines=lines, placeholder=" …", break_on_hyphens=False)
    return "\n".join(wrapped).replace("$", r"\$")


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _note(ax: Axes, text: str, x: float, y: float, **style) -> None:
    """Writes text at a distance, in points, from the upper left corner of the axes."""
    ax.annotate(text, (0, 1), (x, y), xycoords="axes fraction", textcoords="offset points", **style)


def _save(figure: Figure, path: str) -> None:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    figure.savefig(path, dpi=130)
