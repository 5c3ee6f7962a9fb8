"""Text in plots."""

from mig_jax.records import plot_style
from tests.records.gallery import HOSTILE


def test_dollars_are_escaped_and_unknown_characters_replaced():
    shown = plot_style.drawable_text(HOSTILE, lines=3)
    assert shown.startswith(r"\$\frac{1}{2\$ <script>alert('x')</script>")
    assert "\ufffd" in shown and not set(shown) & set("中文\U0001f914\ud800\x00")
    assert plot_style.drawable_text("word " * 100, lines=2).endswith(" …")
    assert plot_style.drawable_text("one\n\ttwo", lines=2) == "one  two"
