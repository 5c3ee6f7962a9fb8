"""What each step has earned, as a page for the browser: one file, without scripts, fonts or pictures from elsewhere.

The look of a page, and how a response stands on it, are shared with `browse_page`.
"""

import html
import math
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mig_jax.data import image_files
from mig_jax.records.transcripts import Transcript

VERDICTS = {True: ("right", "✓ right"), False: ("wrong", "✗ wrong"), None: ("undecided", "? undecided")}

STYLE = """
:root { color-scheme: light dark; --paper: #f8fafc; --card: #ffffff; --ink: #1e293b; --muted: #64748b;
  --line: #e2e8f0; --gain: #5596fb; --loss: #f08a4b; --ell: #2563eb; --mark: #ea580c; --right: #15803d;
  --wrong: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f172a; --card: #172036; --ink: #e2e8f0; --muted: #94a3b8;
  --line: #2b3850; --gain: #2f6fe0; --loss: #bd5519; --ell: #7db0ff; --mark: #fb923c; --right: #4ade80;
  --wrong: #f87171; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2rem 1rem 4rem; }
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


class Scale(NamedTuple):
    """The one colour scale of a page: its largest gain or loss, and whether there are losses."""

    largest: float
    has_losses: bool


def gain_page(transcripts: Sequence[Transcript], path: str) -> None:
    """Writes a page of responses whose steps are tinted by what they have earned, on one colour scale.

    Beside the text stand gₖ and ℓₖ of every step, and a chart of ℓ and the watermark. Without steps or without
    numbers, a response is shown as far as it goes. All text is shown as it is, whatever it holds. What the question
    shows stands to the left of the steps, and is held by the page itself.

    Args:
      transcripts: any number.
      path: of the HTML file.
    """
    scale = scale_of(transcripts)
    articles = (_article(transcript, scale) for transcript in transcripts)
    write_page([_header(transcripts, scale), *articles], path, title="What each step has earned", style=STYLE)


def write_page(parts: Iterable[str], path: str, *, title: str, style: str) -> None:
    """Writes a whole page, its folder too; `title` is a text, `parts` are HTML."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    # Half of a surrogate pair has no bytes; everything else is written as it is.
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        file.write(
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        )
        file.writelines(parts)
        file.write("</main>\n</body>\n</html>\n")


def scale_of(transcripts: Sequence[Transcript]) -> Scale:
    gains = [gain for transcript in transcripts for gain in transcript.gain_k if math.isfinite(gain)]
    return Scale(max(map(abs, gains), default=0.0) or 1.0, min(gains, default=0.0) < 0)


def legend(scale: Scale) -> str:
    """What the colours say."""
    low, zero, first = (
        ("var(--loss)", "50%", number(-scale.largest)) if scale.has_losses else ("var(--card)", "0%", "0")
    )
    return (
        f'<div class="legend"><span>{first}</span>'
        f'<div class="scale" style="--low: {low}; --zero: {zero}"></div><span>{number(scale.largest)} nats</span>'
        '<span class="ell">● ℓ after the step</span><span class="mark">╍╍ watermark</span></div>\n'
    )


def _header(transcripts: Sequence[Transcript], scale: Scale) -> str:
    verdicts = [transcript.is_correct for transcript in transcripts]
    counts = [f"{verdicts.count(verdict)} {name}" for verdict, (name, _) in VERDICTS.items()]
    return (
        "<header>\n<h1>What each step has earned</h1>\n"
        "<p>A step is tinted by its gain g: how far it lifts ℓ, the log-likelihood of the reference answer per token, "
        "above the best that any earlier step had reached (the watermark). All numbers are in nats.</p>\n"
        f"<p>Responses: {len(verdicts)} ({', '.join(counts)})</p>\n{legend(scale)}</header>\n"
    )


def _article(transcript: Transcript, scale: Scale) -> str:
    kind, verdict = VERDICTS[transcript.is_correct]
    facts = [f'<span class="{kind}">{verdict}</span>', f"<span>reference {html.escape(transcript.answer)}</span>"]
    if transcript.gain_k:
        facts.append(f"<span>Σ gain {number(sum(transcript.gain_k))}</span>")
    if transcript.format_error:
        facts.append(f"<span>not well formed: {html.escape(transcript.format_error)}</span>")
    images = image_figure(transcript.images)
    return (
        f"<article>\n<h2>{html.escape(transcript.question)}</h2>\n"
        f'<div class="facts">{"".join(facts)}</div>\n<div class="body{" with-images" if images else ""}">\n'
        f"{images}<div>{response_rows(transcript, scale)}</div>\n"
        f"<div>{likelihood_chart(transcript.ell_k, transcript.watermark_k)}</div>\n</div>\n</article>\n"
    )


def image_figure(images: Sequence[bytes]) -> str:
    """What a question shows, held by the page itself; "" when it shows nothing."""
    shown = [
        f'<img src="{image_files.data_uri(image)}" alt="image {n} of the question" tabindex="0" loading="lazy">'
        for n, image in enumerate(images, 1)
    ]
    return f"<figure>{''.join(shown)}</figure>\n" if shown else ""


def response_rows(transcript: Transcript, scale: Scale) -> str:
    """The whole response in rows: its steps with their numbers, and what stands between them."""
    first, rows, position = "", [], 0
    if transcript.ell_k:
        first = number(transcript.ell_k[0])
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
    kind = "gain" if gain else "none"
    return (
        f'<div class="row step"{tint}><span>{k}</span><span class="text">{html.escape(text)}</span>'
        f'<span class="{kind}">{number(gain, sign="+")}</span><span>{number(ell)}</span></div>\n'
    )


def _other_row(text: str, ell: str) -> str:
    """What is no step; the first of these rows has ℓ₀."""
    if not (text.strip() or ell):
        return ""
    text = html.escape(text.strip("\n"))
    return (
        f'<div class="row other"><span>{"0" if ell else ""}</span><span class="text">{text}</span>'
        f"<span></span><span>{ell}</span></div>\n"
    )


def number(value: float | None, *, sign: str = "-") -> str:
    """With two places and a true minus; "" for none."""
    return "" if value is None else f"{value:{sign}.2f}".replace("-", "−")


# -------------------------------------------------------------------------------------------------------------- chart

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 210, 44, 12, 24, 34


def likelihood_chart(ell_k: Sequence[float], watermark_k: Sequence[float]) -> str:
    """ℓ and the watermark against the step, as an inline SVG; nothing when nothing was scored."""
    finite = [ell for ell in ell_k if math.isfinite(ell)]
    if not finite:
        return ""
    pad = 0.05 * max(max(finite) - min(finite), 0.2)
    low, high = min(finite) - pad, max(finite) + pad

    def x(k: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * k / max(len(ell_k) - 1, 1)

    def y(ell: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - ell) / (high - low)

    def text(left: float, top: float, words: object, anchor: str) -> str:
        return f'<text x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">{words}</text>'

    points = [(x(k), y(ell), k, ell) for k, ell in enumerate(ell_k) if math.isfinite(ell)]
    stairs = [(x(k), y(mark)) for k, mark in enumerate(watermark_k) if math.isfinite(mark)]
    path = "".join(f"{'H' if i else 'M'}{px:.1f}{'V' if i else ','}{py:.1f}" for i, (px, py) in enumerate(stairs))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="ℓ and the watermark after each step">',
        text(LEFT, 12, "ℓ, nats per token", "start"),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "step", "middle"),
        *(text(x(k), HEIGHT - BOTTOM + 16, k, "middle") for k in range(0, len(ell_k), math.ceil(len(ell_k) / 12))),
        *(text(LEFT - 6, y(tick) + 4, number(tick), "end") for tick in _ticks(low, high)),
        *(f'<path class="grid" d="M{LEFT},{y(tick):.1f}H{WIDTH}"/>' for tick in _ticks(low, high)),
        f'<path class="mark-line" d="{path}"/>',
        f'<polyline class="ell-line" points="{" ".join(f"{px:.1f},{py:.1f}" for px, py, *_ in points)}"/>',
        *(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5"><title>step {k}: ℓ {number(ell)}</title></circle>'
            for px, py, k, ell in points
        ),
        "</svg>",
    ]
    return "\n".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two."""
    rough = (high - low) / 3
    unit = 10 ** math.floor(math.log10(rough))
    step = max(factor * unit for factor in (1, 2, 5) if factor * unit <= rough)
    return [multiple * step for multiple in range(math.ceil(low / step), math.floor(high / step) + 1)]
