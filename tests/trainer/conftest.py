"""Runs of these tests write blank pictures: drawing takes them seconds, and is tested in tests/records and api_test."""

import os

import pytest
from PIL import Image

from mig_jax.records import gains_plot, plot_style


def save_blank(_, path):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    Image.new("L", (1, 1)).save(path)


@pytest.fixture(autouse=True, scope="package")
def blank_pictures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot_style, "save_figure", save_blank)
        patch.setattr(gains_plot, "save_figure", save_blank)
        yield
