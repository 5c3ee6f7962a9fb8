"""The parts that all HTML pages share: the document or fragment, the color scale, and a response as rows.

A page is one file without external scripts, fonts or images. All text is escaped.
"""

import html
import math
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mig_jax.data import image_files
from mig_jax.records.svg_chart import format_number
from mig_jax.records.transcripts import Transcript

# Verdict → CSS class, label.
VERDICTS = {True: ("right", "✓ right"), False: ("wrong", "✗ wrong"), None: ("undecided", "? undecided")}

_LIGHT = """--paper: #f8fafc; --card: #ffffff; --ink: #1e293b; --muted: #64748b; --line: #e2e8f0; --gain: #5596fb;
  --loss: #f08a4b; --ell: #2563eb; --mark: #ea580c; --right: #15803d; --wrong: #b91c1c;"""
_DARK = """--paper: #0f172a; --card: #172036; --ink: #e2e8f0; --muted: #94a3b8; --line: #2b3850; --gain: #2f6fe0;
  --loss: #bd5519; --ell: #7db0ff; --mark: #fb923c; --right: #4ade80; --wrong: #f87171;"""
_TEXT = "background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;"
_PARTS = """
* { box-sizing: border-box; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; }
header p { margin: .2rem 0; color: var(--muted); max-width: 50rem; }
.legend { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem; margin-top: 1rem; font-size: .85rem; }
.scale { width: 14rem; height: .9rem; border: 1px solid var(--line); border-radius: 3px;
  background: linear-gradient(to right, var(--low), var(--card) var(--zero), var(--gain)); }
.ell { color: var(--ell); margin-left: 1.2rem; } .mark { color: var(--mark); margin-left: .6rem; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin-top: 1.4rem;
  padding: 1.1rem 1.3rem; }
h2 { font-size: 1rem; margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.facts { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .3rem 0 .8rem; font-size: .85rem;
  color: var(--muted); overflow-wrap: anywhere; }
.right { color: var(--right); } .wrong { color: var(--wrong); } .right, .wrong, .undecided { font-weight: 600; }
.body { display: grid; grid-template-columns: minmax(0, 1fr) 340px; gap: 1.4rem; align-items: start; }
.with-images { grid-template-columns: 190px minmax(0, 1fr) 300px; }
@media (max-width: 900px) { .body { grid-template-columns: minmax(0, 1fr); } }
figure { margin: 0; display: flex; flex-wrap: wrap; align-items: start; gap: .6rem; }
img { width: 190px; max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; }
.row { display: grid; grid-template-columns: 1.6rem minmax(0, 1fr) 3.6rem 3.6rem; gap: .5rem; padding: .25rem .6rem;
  border-radius: 4px; margin: 2px 0; font-variant-numeric: tabular-nums; }
.row > :nth-child(n + 3) { text-align: right; }
.row > :nth-child(1), .row > :nth-child(4), .head, .other { color: var(--muted); }
.step > :nth-child(1), .step > :nth-child(4) { color: inherit; opacity: .75; }
.head { font-size: .8rem; }
.text { font: 13px/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  unicode-bidi: isolate; }
.step { background: color-mix(in srgb, var(--tint, var(--gain)) calc(var(--share, 0) * 100%), var(--card));
  border: 1px solid var(--line); }
.gain { font-weight: 600; } .none { opacity: .5; }
svg { width: 100%; height: auto; font-size: 11px; }
svg text { fill: var(--muted); } .grid { stroke: var(--line); }
.ell-line { fill: none; stroke: var(--ell); stroke-width: 2; } circle { fill: var(--ell); }
.mark-line { fill: none; stroke: var(--mark); stroke-width: 2; stroke-dasharray: 5 3; }
"""


def _theme(selector: str) -> str:
    """Return the rules that define the colors, light and dark, below an element."""
    return (
        f"{selector} {{ color-scheme: light dark; {_LIGHT} }}\n"
        f"@media (prefers-color-scheme: dark) {{ {selector} {{ {_DARK} }} }}\n"
    )


def _limit(css: str, selector: str) -> str:
    """Return the rules, limited to what is inside an element; no selector may contain a comma in parentheses."""

    def limit_rule(rule: re.Match) -> str:
        selectors = [f"{selector} {part.strip()}" for part in rule[1].split(",")]
        return f"{', '.join(selectors)} {rule[2]}\n"

    return re.sub(r"([^{}]+)({[^{}]*})", limit_rule, css)


# Of a page of its own.
STYLE = (
    _theme(":root")
    + f"body {{ margin: 0; {_TEXT} }}\nmain {{ max-width: 1120px; margin: 0 auto; padding: 2rem 1rem 4rem; }}"
    + _PARTS
)
# Of a part of another page, such as the output of a notebook's cell: it changes nothing outside of this class.
FRAGMENT_CLASS = "mig-jax"
FRAGMENT_STYLE = (
    _theme(f".{FRAGMENT_CLASS}")
    + f".{FRAGMENT_CLASS} {{ {_TEXT} padding: .2rem 1rem 1rem; border-radius: 10px; }}\n"
    + _limit(_PARTS, f".{FRAGMENT_CLASS}")
)


class ColorScale(NamedTuple):
    """The color scale of a page.

    largest: the largest absolute gain, in nats; it has the full color.
    has_losses: whether there are negative gains.
    """

    largest: float
    has_losses: bool


def color_scale(transcripts: Sequence[Transcript]) -> ColorScale:
    """Return the scale that covers the gains of all transcripts."""
    gains = [gain for transcript in transcripts for gain in transcript.gain_k if math.isfinite(gain)]
    return ColorScale(max(map(abs, gains), default=0.0) or 1.0, min(gains, default=0.0) < 0)


def write_page(parts: Iterable[str], path: str, *, title: str, style: str) -> None:
    """Write a page; creates the folder if needed.

    Args:
      parts: HTML of the body.
      path: of the HTML file.
      title: plain text.
      style: CSS.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    # Lone surrogates have no UTF-8 form and become "?"; all other text is unchanged.
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        file.write(
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        )
        file.writelines(parts)
        file.write("</main>\n</body>\n</html>\n")


def fragment(parts: Iterable[str]) -> str:
    """Return HTML to insert into another page, such as the output of a notebook's cell.

    Args:
      parts: HTML of the body.
    """
    text = f'<div class="{FRAGMENT_CLASS}">\n<style>{FRAGMENT_STYLE}</style>\n{"".join(parts)}</div>\n'
    return text.encode(errors="replace").decode()


def legend(scale: ColorScale) -> str:
    """Return the HTML of the legend: the color scale and the marks of the chart."""
    largest = format_number(scale.largest)
    low, zero, first = ("var(--loss)", "50%", f"−{largest}") if scale.has_losses else ("var(--card)", "0%", "0")
    return (
        f'<div class="legend"><span>gain {first}</span>'
        f'<div class="scale" style="--low: {low}; --zero: {zero}"></div><span>{largest} nats</span>'
        '<span class="ell">● ℓ after the step</span><span class="mark">╍╍ watermark (best ℓ so far)</span></div>\n'
    )


def image_figure(images: Sequence[bytes]) -> str:
    """Return the HTML of a question's images, embedded in the page; "" if there are none."""
    tags = [
        f'<img src="{image_files.data_uri(image)}" alt="image {n} of the question" tabindex="0" loading="lazy">'
        for n, image in enumerate(images, 1)
    ]
    return f"<figure>{''.join(tags)}</figure>\n" if tags else ""


def response_rows(transcript: Transcript, scale: ColorScale) -> str:
    """Return the HTML of a whole response: rows of its steps with gain and ℓ, and of the text between them."""
    first, rows, position = "", [], 0
    if transcript.ell_k:
        first = format_number(transcript.ell_k[0])
        rows.append('<div class="row head"><span>k</span><span></span><span>g</span><span>ℓ</span></div>\n')
    for k, step in enumerate(transcript.steps, start=1):
        start = transcript.response.find(step, position)
        if start >= 0:
            rows.append(_other_row(transcript.response[position:start], first if k == 1 else ""))
            position = start + len(step)
        gain = transcript.gain_k[k - 1] if transcript.gain_k else None
        ell = transcript.ell_k[k] if transcript.ell_k else None
        rows.append(_step_row(k, step, gain, ell, scale.largest))
    rows.append(_other_row(transcript.response[position:], "" if transcript.steps else first))
    return "".join(rows)


def _step_row(k: int, text: str, gain: float | None, ell: float | None, largest: float) -> str:
    tint = ""
    if gain is not None and math.isfinite(gain):
        tint = f' style="--share: {abs(gain) / largest:.3f}{"; --tint: var(--loss)" if gain < 0 else ""}"'
    css_class = "gain" if gain else "none"
    return (
        f'<div class="row step"{tint}><span>{k}</span><span class="text">{html.escape(text)}</span>'
        f'<span class="{css_class}">{format_number(gain, sign="+")}</span><span>{format_number(ell)}</span></div>\n'
    )


def _other_row(text: str, ell: str) -> str:
    """Return the row of text outside of steps; the first of these rows has ℓ₀."""
    if not (text.strip() or ell):
        return ""
    text = html.escape(text.strip("\n"))
    return (
        f'<div class="row other"><span>{"0" if ell else ""}</span><span class="text">{text}</span>'
        f"<span></span><span>{ell}</span></div>\n"
    )
