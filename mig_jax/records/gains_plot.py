"""A PNG of responses, step by step: text and gain of each step, and ℓ with its watermark next to them.

`gains_html` shows the same in a browser.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from PIL import Image

from mig_jax.records.plot_style import (
    COLORS,
    FAINT,
    INK,
    LINE,
    LINE_CHARACTERS,
    MONO,
    MUTED,
    InlineFigure,
    annotate,
    drawable_text,
    save_figure,
)
from mig_jax.records.read_answers import strict_answer
from mig_jax.records.transcripts import Transcript
from mig_jax.text.splitters import STEP_HEADERS

# Light enough at both ends for dark text. Only signed credit has negative gains.
GAIN_COLORS = LinearSegmentedColormap.from_list("gain", ["#f08a4b", "#fbd3b8", "#ffffff", "#b3d2fd", "#5596fb"])
NO_GAIN = "#f3f4f6"
VERDICTS = {True: ("✓ right", "#15803d"), False: ("✗ wrong", "#b91c1c"), None: ("? undecided", FAINT)}

# Inches. The likelihood panel has the width that the text leaves.
WIDTH, TEXT_WIDTH, MARGIN, ROW, HEADER, LEGEND = 12.0, 7.6, 0.3, 0.34, 0.72, 0.6
IMAGE, GAP = 1.5, 0.2  # an image fits into a square of this side
POINTS_PER_INCH = 72
MAX_IMAGES = 4  # of a question; the page shows all

# (left, top, width, height) in inches from the upper left corner → axes.
AddAxes = Callable[[float, float, float, float], Axes]


def draw_gains_plot(transcripts: Sequence[Transcript], path: str) -> None:
    """Write `gains_figure` as PNG.

    Args:
      transcripts: a few.
      path: of the PNG.
    """
    save_figure(gains_figure(transcripts), path)


def gains_figure(transcripts: Sequence[Transcript]) -> InlineFigure:
    """Draw each response as rows, one per step, colored by gain, with ℓ and the watermark to the right of the rows.

    The question's images are to the left of the rows, one below the other.

    Args:
      transcripts: a few; the figure grows by a third of an inch per step. Those without steps or scores are drawn
        without them.
    """
    height_r = [max(_rows_height(t), IMAGE * len(t.images[:MAX_IMAGES])) for t in transcripts]
    height = LEGEND + sum(height_r) + HEADER * len(transcripts) + 2 * MARGIN
    figure = InlineFigure(figsize=(WIDTH, height))

    def add_axes(left: float, top: float, width: float, tall: float) -> Axes:
        return figure.add_axes((left / WIDTH, 1 - (top + tall) / height, width / WIDTH, tall / height))

    gains = [gain for transcript in transcripts for gain in transcript.gain_k if np.isfinite(gain)]
    largest = max(map(abs, gains), default=0.0) or 1.0
    norm = Normalize(-largest, largest)
    _draw_legend(add_axes(MARGIN, 0.2, 2.4, 0.14), norm, low=-largest if min(gains, default=0.0) < 0 else 0.0)
    limits = _likelihood_limits(transcripts)
    top = LEGEND
    for transcript, tall in zip(transcripts, height_r, strict=True):
        top += HEADER
        _draw_response(add_axes, top, transcript, norm, limits)
        top += tall
    return figure


def _rows_height(transcript: Transcript) -> float:
    return ROW * (len(transcript.steps) + 1)


def _likelihood_limits(transcripts: Sequence[Transcript]) -> tuple[float, float]:
    """Return the range of the ℓ axis, the same for all responses."""
    ells = [ell for transcript in transcripts for ell in transcript.ell_k if np.isfinite(ell)] or [0.0]
    pad = 0.06 * (max(ells) - min(ells)) + 0.02
    return min(ells) - pad, max(ells) + pad


def _draw_legend(ax: Axes, norm: Normalize, *, low: float) -> None:
    """Draw the color scale from `low` to the largest gain, and the names of the lines."""
    largest = float(norm.vmax or 0.0)
    ramp = np.linspace(low, largest, 200)
    ax.imshow(GAIN_COLORS(norm(ramp))[None], aspect="auto", extent=(low, largest, 0, 1))
    ax.set_yticks([])
    ax.tick_params(labelsize=7, length=2, color=FAINT)
    ax.spines[:].set_color(LINE)
    annotate(ax, "gain of the step, nats", 185, -9, color=INK, fontsize=9)
    annotate(ax, "●  ℓ after the step", 555, -9, color=COLORS[0], fontsize=9)
    annotate(ax, "▬  watermark (best ℓ so far)", 670, -9, color=COLORS[1], fontsize=9)


def _draw_response(
    add_axes: AddAxes, top: float, transcript: Transcript, norm: Normalize, limits: tuple[float, float]
) -> None:
    """Draw images, steps and likelihoods of one response, from `top` inches down."""
    for n, image in enumerate(transcript.images[:MAX_IMAGES]):
        _draw_image(add_axes(MARGIN, top + n * IMAGE, IMAGE - 0.06, IMAGE - 0.06), image)
    indent = IMAGE + GAP if transcript.images else 0.0
    height = _rows_height(transcript)
    step_axes = add_axes(MARGIN + indent, top, TEXT_WIDTH - indent, height)
    _draw_header(step_axes, transcript, -POINTS_PER_INCH * indent)
    _draw_steps(step_axes, transcript, norm, TEXT_WIDTH - indent)
    left = MARGIN + TEXT_WIDTH + GAP
    ell_axes = add_axes(left, top, WIDTH - left - MARGIN, height)
    _draw_likelihood(ell_axes, transcript, norm)
    ell_axes.set(xlim=limits, ylim=(len(transcript.steps) + 0.5, -0.5))


def _draw_image(ax: Axes, image: bytes) -> None:
    with Image.open(io.BytesIO(image)) as opened:
        ax.imshow(np.asarray(opened.convert("RGB")))
    ax.set_anchor("NW")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color(LINE)


def _draw_header(ax: Axes, transcript: Transcript, x: float) -> None:
    """Write question, verdict and answers above the axes, `x` points to the right of their left edge."""
    verdict, color = VERDICTS[transcript.is_correct]
    total = f"Σ gain {_signed(sum(transcript.gain_k))} · " if transcript.gain_k else ""
    format_error = f" · malformed: {transcript.format_error}" if transcript.format_error else ""
    annotate(ax, drawable_text(transcript.question), x, 21, color=INK, fontsize=9, fontweight="bold")
    annotate(ax, verdict, x, 6, color=color, fontsize=8.5, fontweight="bold")
    answer = strict_answer(transcript)
    answered = "no answer" if answer is None else f"answered {answer}"
    facts = f"{total}{answered}, reference answer {transcript.answer}{format_error}"
    annotate(ax, drawable_text(facts), x + 72, 6, color=MUTED, fontsize=8.5)


def _draw_steps(ax: Axes, transcript: Transcript, norm: Normalize, width: float) -> None:
    """Draw a row per step, `width` inches wide, with number, text and gain; the top row, k = 0, is before step 1."""
    ax.set(xlim=(0, width), ylim=(len(transcript.steps) + 0.5, -0.5))
    ax.set_axis_off()
    _draw_row(ax, 0, "before step 1", None, NO_GAIN, width)
    gains = [*transcript.gain_k, *[None] * len(transcript.steps)]
    for k, (text, gain) in enumerate(zip(transcript.steps, gains, strict=False), start=1):
        # The row shows the number already.
        text = STEP_HEADERS.without_number(text, k)
        _draw_row(ax, k, text, gain, NO_GAIN if gain is None else GAIN_COLORS(norm(gain)), width)


def _draw_row(
    ax: Axes, k: int, text: str, gain: float | None, color: str | tuple[float, float, float, float], width: float
) -> None:
    ax.barh(k, width, height=0.92, color=color, edgecolor=LINE, lw=0.6)
    ax.text(0.09, k, str(k), fontsize=8, color=MUTED, va="center")
    text = drawable_text(text, lines=2, characters=int(LINE_CHARACTERS * width / TEXT_WIDTH))
    ax.text(0.32, k, text, fontsize=7.5, family=MONO, linespacing=1.1, color=INK if k else FAINT, va="center")
    if gain is not None:
        style = {"fontsize": 8.5, "fontweight": "bold", "color": INK if gain else FAINT}
        ax.text(width - 0.08, k, _signed(gain), ha="right", va="center", **style)


def _draw_likelihood(ax: Axes, transcript: Transcript, norm: Normalize) -> None:
    """Draw ℓ as dots, the watermark as a staircase, and each rise of the watermark as a bar colored by gain."""
    mark_k, rows = transcript.watermark_k, range(len(transcript.ell_k))
    for k, gain in enumerate(transcript.gain_k, start=1):
        ax.barh(k, mark_k[k] - mark_k[k - 1], left=mark_k[k - 1], height=0.92, color=GAIN_COLORS(norm(gain)))
    ax.step(mark_k, rows, where="pre", color=COLORS[1], lw=1.3)
    ax.plot(transcript.ell_k, rows, color=COLORS[0], lw=1.2, marker="o", ms=4)
    annotate(ax, "ℓ, nats per token" if transcript.ell_k else "not scored", 0, 6, color=MUTED, fontsize=8.5)
    ax.axis("on" if transcript.ell_k else "off")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.grid(axis="x", color=LINE, lw=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=7, color=FAINT, left=False, labelleft=False)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
