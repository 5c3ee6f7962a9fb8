"""An inline SVG chart of ℓ and the watermark over the steps of a response."""

import math
from collections.abc import Sequence

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 210, 44, 12, 24, 34


def likelihood_chart(ell_k: Sequence[float], watermark_k: Sequence[float]) -> str:
    """Return the SVG element; "" if no ℓ is finite.

    Args:
      ell_k: `[K+1]` nats per token.
      watermark_k: `[K+1]` running maximum of `ell_k`.
    """
    finite = [ell for ell in ell_k if math.isfinite(ell)]
    if not finite:
        return ""
    pad = 0.05 * max(max(finite) - min(finite), 0.2)
    low, high = min(finite) - pad, max(finite) + pad

    def x(k: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * k / max(len(ell_k) - 1, 1)

    def y(ell: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - ell) / (high - low)

    points = [(x(k), y(ell), k, ell) for k, ell in enumerate(ell_k) if math.isfinite(ell)]
    corners = [(x(k), y(mark)) for k, mark in enumerate(watermark_k) if math.isfinite(mark)]
    ticks = _round_ticks(low, high)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="ℓ and the watermark after each step">',
        _text(LEFT, 12, "ℓ, nats per token", "start"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "step", "middle"),
        *(_text(x(k), HEIGHT - BOTTOM + 16, k, "middle") for k in range(0, len(ell_k), math.ceil(len(ell_k) / 12))),
        *(_text(LEFT - 6, y(tick) + 4, format_number(tick), "end") for tick in ticks),
        *(f'<path class="grid" d="M{LEFT},{y(tick):.1f}H{WIDTH}"/>' for tick in ticks),
        f'<path class="mark-line" d="{_staircase(corners)}"/>',
        f'<polyline class="ell-line" points="{" ".join(f"{px:.1f},{py:.1f}" for px, py, *_ in points)}"/>',
        *(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5"><title>step {k}: ℓ {format_number(ell)}</title></circle>'
            for px, py, k, ell in points
        ),
        "</svg>",
    ]
    return "\n".join(parts)


def format_number(value: float | None, *, sign: str = "-") -> str:
    """Format a number with two decimals and a typographic minus; "" for None.

    Args:
      sign: "+" also marks positive numbers.
    """
    return "" if value is None else f"{value:{sign}.2f}".replace("-", "−")


def _text(left: float, top: float, content: object, anchor: str) -> str:
    return f'<text x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">{content}</text>'


def _staircase(corners: Sequence[tuple[float, float]]) -> str:
    """Return the path data of a line that goes right, then up or down, to each corner."""
    return "".join(f"{'H' if i else 'M'}{px:.1f}{'V' if i else ','}{py:.1f}" for i, (px, py) in enumerate(corners))


def _round_ticks(low: float, high: float) -> list[float]:
    """Return three to seven round numbers from `low` to `high`."""
    rough = (high - low) / 3
    unit = 10 ** math.floor(math.log10(rough))
    step = max(factor * unit for factor in (1, 2, 5) if factor * unit <= rough)
    return [multiple * step for multiple in range(math.ceil(low / step), math.floor(high / step) + 1)]
