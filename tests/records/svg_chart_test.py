"""The chart of ℓ and the watermark."""

import re

import pytest

from mig_jax.records import svg_chart
from tests.records.gallery import PLAIN


def test_staircase_follows_the_watermark():
    path = re.search(
        r'class="mark-line" d="([^"]*)"', svg_chart.likelihood_chart(PLAIN.ell_k, PLAIN.watermark_k)
    ).group(1)
    heights = [float(y) for y in re.findall(r"[,V]([\d.]+)", path)]
    assert heights[0] > heights[1] == heights[2] > heights[3]


@pytest.mark.parametrize("low, high", [(-3.2, -0.1), (-0.11, -0.1), (-700.0, 0.0), (0.0, 1.0)])
def test_ticks_are_few_and_inside(low, high):
    ticks = svg_chart._round_ticks(low, high)
    assert 3 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
