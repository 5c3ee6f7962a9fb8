"""Training curves for any number of runs, and both files of gains."""

import numpy as np
import pytest

from mig_jax.records import gains_plot, plot_style, plots
from tests.records.gallery import MINIMAL


def _rows(n: int, **more) -> list[dict]:
    times = {"time/rollout_share": 0.6, "time/train_share": 0.4}
    return [{"step": step, "reward/accuracy": step / n} | times | more for step in range(n)]


@pytest.fixture
def figures(monkeypatch):
    """The figures saved by a test."""
    caught, save = [], plot_style.save_figure

    def catch(figure, path):
        caught.append(figure)
        save(figure, path)

    monkeypatch.setattr(plot_style, "save_figure", catch)
    monkeypatch.setattr(gains_plot, "save_figure", catch)
    return caught


def test_panels_of_one_and_two_runs(tmp_path, figures):
    long, short = _rows(50), _rows(5, **{"gradient/norm": np.nan})
    plots.training_curves({"": long}, str(tmp_path / "one.png"))
    plots.training_curves({"MIG $": long, "GRPO": short}, str(tmp_path / "two.png"))
    titles = [[ax.get_title(loc="left") for ax in figure.axes if ax.axison] for figure in figures]
    assert titles == [["Accuracy", "Time per stage"], ["Accuracy", "Gradient", "Time per stage"]]
    assert [text.get_text() for text in figures[1].legends[0].get_texts()] == [r"MIG \$", "GRPO"]
    assert not figures[0].legends
    shares = [bar.get_width() for bar in figures[0].axes[1].patches]
    assert shares == pytest.approx([0.6, 0.4])


def test_legend_has_metrics_that_only_the_second_run_has(tmp_path, figures):
    runs = {"GRPO": _rows(5), "MIG": _rows(5, **{"advantage/process": 1.0})}
    plots.training_curves(runs, str(tmp_path / "curves.png"))
    named = {ax.get_title(loc="left"): ax.get_legend() for ax in figures[0].axes}
    assert [text.get_text() for text in named["Advantages"].get_texts()] == ["process"]
    assert [text.get_text() for text in named["Accuracy"].get_texts()] == ["training"]


@pytest.mark.parametrize("runs", [{}, {"": []}, {"": [{"step": 0}]}, {"a": [], "b": _rows(30)}])
def test_runs_without_metrics_are_drawn(tmp_path, runs):
    plots.training_curves(runs, str(tmp_path / "curves.png"))
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_running_mean_preserves_lines_and_bridges_gaps():
    line = np.arange(100.0)
    smooth = plots._running_mean(line)
    assert smooth[5:-5] == pytest.approx(line[5:-5])
    line[50] = np.nan
    assert np.isfinite(plots._running_mean(line)).all()
    assert np.isnan(plots._running_mean(np.full(30, np.nan))).all()


def test_curves_are_returned_as_a_figure_that_notebooks_show(tmp_path):
    figure = plots.training_curves({"": _rows(3)})
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert not list(tmp_path.iterdir())
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.axison] == ["Accuracy", "Time per stage"]


def test_page_has_all_responses_and_plot_the_first_eight(tmp_path, figures):
    plots.draw_gains(MINIMAL * 4, str(tmp_path / "gains"))
    assert (tmp_path / "gains.html").read_text().count("<article>") == 12
    assert (tmp_path / "gains.png").exists()
    assert len(figures[0].axes) == 1 + 2 * 8
