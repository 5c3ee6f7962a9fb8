"""The plot of gains, for all kinds of responses."""

import dataclasses

import matplotlib.text
import pytest
from PIL import Image

from mig_jax.records import gains_plot
from tests.records.gallery import MINIMAL, NASTY, PLAIN, WITH_IMAGES


@pytest.fixture
def figures(monkeypatch):
    """The figures saved by a test."""
    caught, save = [], gains_plot.save_figure

    def catch(figure, path):
        caught.append(figure)
        save(figure, path)

    monkeypatch.setattr(gains_plot, "save_figure", catch)
    return caught


def _texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize("transcripts", [(), (PLAIN,), (NASTY,), MINIMAL, (PLAIN, NASTY, WITH_IMAGES, *MINIMAL)])
def test_plot_is_drawn_for_any_responses(tmp_path, transcripts):
    path = tmp_path / "new folder" / "gains.png"
    gains_plot.draw_gains_plot(transcripts, str(path))
    with Image.open(path) as image:
        assert image.format == "PNG" and image.size[0] == 1560


def test_figure_is_shown_by_notebooks():
    assert gains_plot.gains_figure([PLAIN])._repr_png_().startswith(b"\x89PNG")


def test_plot_shows_steps_gains_verdict_and_answers(tmp_path, figures):
    gains_plot.draw_gains_plot([PLAIN], str(tmp_path / "gains.png"))
    texts = _texts(figures[0])
    for expected in ("7+5=2", "2-3=8", "8*3=4", "+1.25", "+0.00", "+0.25", "✗ wrong", PLAIN.question):
        assert expected in texts, expected
    assert "Σ gain +1.50 · answered 284, reference answer 297" in texts


def test_likelihood_and_watermark_are_on_the_rows_of_the_steps(tmp_path, figures):
    gains_plot.draw_gains_plot([PLAIN], str(tmp_path / "gains.png"))
    mark, ell = figures[0].axes[-1].lines
    assert list(zip(ell.get_xdata(), ell.get_ydata(), strict=True)) == [(-2.5, 0), (-1.25, 1), (-1.75, 2), (-1.0, 3)]
    assert list(mark.get_xdata()) == list(PLAIN.watermark_k)
    assert figures[0].axes[-1].get_ylim() == figures[0].axes[-2].get_ylim() == (3.5, -0.5)


def test_images_are_left_of_the_steps(tmp_path, figures):
    gains_plot.draw_gains_plot([PLAIN, WITH_IMAGES], str(tmp_path / "gains.png"))
    _, plain_steps, _, red, blue, steps, _ = figures[0].axes
    assert red.images[0].get_array().shape == (6, 6, 3) and blue.images[0].get_array().shape == (3, 9, 3)
    assert tuple(blue.images[0].get_array()[0, 0]) == (0, 0, 255)
    places = [ax.get_position() for ax in (red, blue, steps)]
    assert places[0].y0 > places[1].y1 and places[0].x1 < places[2].x0
    # Rows start at the top of the first image, and end at the same right edge as rows without images.
    original = red.get_position(original=True)
    assert original.y1 == pytest.approx(places[2].y1)
    assert places[2].x1 == pytest.approx(plain_steps.get_position().x1)
    assert "7+5=2" in [text.get_text() for text in steps.texts]


def test_long_steps_next_to_an_image_end_before_their_gain(tmp_path, figures):
    wordy = dataclasses.replace(WITH_IMAGES, steps=("word " * 60,) * 3)
    gains_plot.draw_gains_plot([wordy], str(tmp_path / "gains.png"))
    figures[0].set_dpi(130)  # as saved: glyph positions depend on the pixel grid
    figures[0].canvas.draw()
    steps = figures[0].axes[-2]
    texts = {text.get_text(): text.get_window_extent() for text in steps.texts}
    widest = max(box.x1 for text, box in texts.items() if text.startswith("word"))
    assert widest < min(box.x0 for text, box in texts.items() if text.startswith("+"))


def test_larger_gains_have_stronger_colors(tmp_path, figures):
    gains_plot.draw_gains_plot([PLAIN], str(tmp_path / "gains.png"))
    red = [bar.get_facecolor()[0] for bar in figures[0].axes[-2].patches]
    assert red[1] < red[3] < red[2] == pytest.approx(1.0, abs=0.01)
