"""Colors, fonts and text of all plots.

Figures use matplotlib's object interface without pyplot, so drawing has no global state and works in any thread.
"""

import functools
import io
import os
import textwrap
from typing import Any

from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = ("#2563eb", "#ea580c", "#0d9488", "#9333ea", "#ca8a04", "#64748b")
INK, MUTED, FAINT, LINE = "#1f2937", "#4b5563", "#9ca3af", "#e5e7eb"
SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"  # both come with matplotlib
FILE_DPI, SCREEN_DPI = 130, 80
LINE_CHARACTERS = 95  # the length at which text is wrapped, by default


class InlineFigure(Figure):
    """A figure that a notebook shows when it is the value of a cell, although pyplot knows nothing of it."""

    def _repr_png_(self) -> bytes:
        """Return the figure as PNG, for IPython."""
        png = io.BytesIO()
        self.savefig(png, dpi=SCREEN_DPI, format="png")
        return png.getvalue()


def drawable_text(text: str, *, lines: int = 1, characters: int = LINE_CHARACTERS) -> str:
    """Wrap text to at most `lines` lines, elide the rest, replace characters the fonts lack by �, and escape `$`.

    Line breaks and tabs become spaces.
    """
    known = _known_characters()
    text = "".join(" " if c in "\r\n\t" else c if ord(c) in known else "\ufffd" for c in text[:2000])
    wrapped = textwrap.wrap(text, characters, max_lines=lines, placeholder=" …", break_on_hyphens=False)
    return "\n".join(wrapped).replace("$", r"\$")


@functools.cache
def _known_characters() -> frozenset[int]:
    """Return the code points both fonts can draw; others would appear as empty boxes, with a warning."""
    fonts = [ft2font.FT2Font(font_manager.findfont(family)) for family in (SANS, MONO)]
    return frozenset.intersection(*(frozenset(font.get_charmap()) for font in fonts))


def annotate(ax: Axes, text: str, x: float, y: float, **style: Any) -> None:
    """Write text at an offset in points from the upper left corner of the axes."""
    ax.annotate(text, (0, 1), (x, y), xycoords="axes fraction", textcoords="offset points", **style)


def save_figure(figure: Figure, path: str) -> None:
    """Save a figure as PNG; creates the folder if needed."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    figure.savefig(path, dpi=FILE_DPI)
