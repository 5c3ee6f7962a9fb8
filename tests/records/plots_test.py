"""The pictures: written for any input, with the numbers in them, and with any text as it is."""

import dataclasses

import matplotlib.text
import numpy as np
import pytest
from PIL import Image

from mig_jax.records import plots
from tests.records.gallery import BARE, HOSTILE, NASTY, PLAIN, SEEN


def _rows(n: int, **more) -> list[dict]:
    times = {"time/rollout_share": 0.6, "time/train_share": 0.4}
    return [{"step": step, "reward/accuracy": step / n} | times | more for step in range(n)]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved while a test runs."""
    caught, save = [], plots._save

    def catch(figure, path):
        caught.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "_save", catch)
    return caught


def _texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize("transcripts", [(), (PLAIN,), (NASTY,), BARE, (PLAIN, NASTY, SEEN, *BARE)])
def test_heatmap_is_drawn_whatever_there_is(tmp_path, transcripts):
    path = tmp_path / "new folder" / "gains.png"
    plots.gain_heatmap(transcripts, str(path))
    with Image.open(path) as image:
        assert image.format == "PNG" and image.size[0] == 1560


def test_heatmap_shows_steps_gains_verdict_and_answers(tmp_path, figures):
    plots.gain_heatmap([PLAIN], str(tmp_path / "gains.png"))
    texts = _texts(figures[0])
    for expected in ("7+5=2", "2-3=8", "8*3=4", "+1.25", "+0.00", "+0.25", "✗ wrong", PLAIN.question):
        assert expected in texts, expected
    assert "Σ gain +1.50 · answered 284, reference 297" in texts


def test_heatmap_draws_likelihood_and_watermark_on_the_rows_of_the_steps(tmp_path, figures):
    plots.gain_heatmap([PLAIN], str(tmp_path / "gains.png"))
    mark, ell = figures[0].axes[-1].lines
    assert list(zip(ell.get_xdata(), ell.get_ydata(), strict=True)) == [(-2.5, 0), (-1.25, 1), (-1.75, 2), (-1.0, 3)]
    assert list(mark.get_xdata()) == list(PLAIN.watermark_k)
    assert figures[0].axes[-1].get_ylim() == figures[0].axes[-2].get_ylim() == (3.5, -0.5)


def test_heatmap_shows_the_images_beside_the_steps(tmp_path, figures):
    plots.gain_heatmap([PLAIN, SEEN], str(tmp_path / "gains.png"))
    _, plain_steps, _, red, blue, steps, _ = figures[0].axes
    assert red.images[0].get_array().shape == (6, 6, 3) and blue.images[0].get_array().shape == (3, 9, 3)
    assert tuple(blue.images[0].get_array()[0, 0]) == (0, 0, 255)
    places = [ax.get_position() for ax in (red, blue, steps)]
    assert places[0].y0 > places[1].y1 and places[0].x1 < places[2].x0
    # The rows begin where the first image does, and end where those without an image end.
    original = red.get_position(original=True)
    assert original.y1 == pytest.approx(places[2].y1)
    assert places[2].x1 == pytest.approx(plain_steps.get_position().x1)
    assert "7+5=2" in [text.get_text() for text in steps.texts]


def test_long_steps_beside_an_image_stay_left_of_their_gain(tmp_path, figures):
    wordy = dataclasses.replace(SEEN, steps=("word " * 60,) * 3)
    plots.gain_heatmap([wordy], str(tmp_path / "gains.png"))
    figures[0].set_dpi(130)  # as saved: glyphs are fitted to the pixels
    figures[0].canvas.draw()
    steps = figures[0].axes[-2]
    texts = {text.get_text(): text.get_window_extent() for text in steps.texts}
    widest = max(box.x1 for text, box in texts.items() if text.startswith("word"))
    assert widest < min(box.x0 for text, box in texts.items() if text.startswith("+"))


def test_stronger_gains_have_stronger_tints(tmp_path, figures):
    plots.gain_heatmap([PLAIN], str(tmp_path / "gains.png"))
    red = [bar.get_facecolor()[0] for bar in figures[0].axes[-2].patches]
    assert red[1] < red[3] < red[2] == pytest.approx(1.0, abs=0.01)


def test_dollars_and_unknown_characters_are_no_trouble():
    shown = plots._drawable(HOSTILE, lines=3)
    assert shown.startswith(r"\$\frac{1}{2\$ <script>alert('x')</script>")
    assert "\ufffd" in shown and not set(shown) & set("中文\U0001f914\ud800\x00")
    assert plots._drawable("word " * 100, lines=2).endswith(" …")


def test_curves_of_one_run_and_of_two_are_drawn_where_there_are_numbers(tmp_path, figures):
    long, short = _rows(50), _rows(5, **{"gradient/norm": np.nan})
    plots.training_curves({"": long}, str(tmp_path / "one.png"))
    plots.training_curves({"MIG $": long, "GRPO": short}, str(tmp_path / "two.png"))
    titles = [[ax.get_title(loc="left") for ax in figure.axes if ax.axison] for figure in figures]
    assert titles == [["Accuracy", "Where the time goes"], ["Accuracy", "Gradient", "Where the time goes"]]
    assert [text.get_text() for text in figures[1].legends[0].get_texts()] == [r"MIG \$", "GRPO"]
    assert not figures[0].legends
    shares = [bar.get_width() for bar in figures[0].axes[1].patches]
    assert shares == pytest.approx([0.6, 0.4])


def test_a_metric_that_only_the_second_run_has_is_named(tmp_path, figures):
    runs = {"GRPO": _rows(5), "MIG": _rows(5, **{"advantage/process": 1.0})}
    plots.training_curves(runs, str(tmp_path / "curves.png"))
    named = {ax.get_title(loc="left"): ax.get_legend() for ax in figures[0].axes}
    assert [text.get_text() for text in named["Advantages"].get_texts()] == ["process"]
    assert [text.get_text() for text in named["Accuracy"].get_texts()] == ["training"]


@pytest.mark.parametrize("runs", [{}, {"": []}, {"": [{"step": 0}]}, {"a": [], "b": _rows(30)}])
def test_curves_without_numbers_are_no_trouble(tmp_path, runs):
    plots.training_curves(runs, str(tmp_path / "curves.png"))
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_running_mean_keeps_lines_and_bridges_gaps():
    line = np.arange(100.0)
    smooth = plots._running_mean(line)
    assert smooth[5:-5] == pytest.approx(line[5:-5])
    line[50] = np.nan
    assert np.isfinite(plots._running_mean(line)).all()
    assert np.isnan(plots._running_mean(np.full(30, np.nan))).all()


def test_the_page_has_all_responses_and_the_picture_the_first_eight(tmp_path, figures):
    plots.draw_gains(BARE * 4, str(tmp_path / "gains"))
    assert (tmp_path / "gains.html").read_text().count("<article>") == 12
    assert (tmp_path / "gains.png").exists()
    assert len(figures[0].axes) == 1 + 2 * 8
