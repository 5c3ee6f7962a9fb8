"""Images of scenes show the objects of the scene, and are deterministic."""

import io

import numpy as np
import pytest
from PIL import Image

from mig_jax.data.synthetic import rendering, scenes
from mig_jax.data.synthetic.scenes import Scene, SceneObject


def _scenes(n: int, **changed) -> list[Scene]:
    options = {"objects": (3, 4), "size": 84, "colors": 6, "kinds": scenes.KINDS} | changed
    return [scenes.draw_scene(np.random.default_rng(i), **options)[0] for i in range(n)]


@pytest.mark.parametrize("size", [56, 84, 112])
def test_png_is_deterministic_and_has_the_requested_size(size):
    scene, other = _scenes(2, size=size)
    png = rendering.to_png(rendering.render(scene))
    assert png == rendering.to_png(rendering.render(scene)) != rendering.to_png(rendering.render(other))
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (size, size))


def test_only_cells_with_objects_are_colored_and_in_their_color():
    for scene in _scenes(20):
        pixel_hwc = np.asarray(rendering.render(scene)).astype(float)
        object_at = {(item.column, item.row): item for item in scene.objects}
        for column in range(3):
            for row in range(3):
                cell_hwc = pixel_hwc[row * 28 : row * 28 + 28, column * 28 : column * 28 + 28]
                colored_n3 = cell_hwc[np.ptp(cell_hwc, axis=2) > 60]
                item = object_at.get((column, row))
                assert (len(colored_n3) > 60) == (item is not None)
                if item:
                    hue = colored_n3.mean(axis=0) / np.linalg.norm(colored_n3.mean(axis=0))
                    match = {name: hue @ (np.array(rgb) / np.linalg.norm(rgb)) for name, rgb in rendering.RGB.items()}
                    assert max(match, key=match.get) == item.color


def test_shapes_and_sizes_are_distinguishable():
    def drawn(shape: str, radius: float) -> np.ndarray:
        objects = (SceneObject("red", shape, 0, 0, 14.0, 14.0, radius),)
        return np.asarray(rendering.render(Scene(56, ("red",), 0.9, objects))).astype(int)

    small, large = ([np.ptp(drawn(shape, r), axis=2) > 60 for shape in scenes.SHAPES] for r in scenes.RADII)
    for few, many in zip(small, large, strict=True):
        assert many.sum() > 1.3 * few.sum()
    pixel_shwc = np.stack([drawn(shape, scenes.RADII[1]) for shape in scenes.SHAPES])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        differs_hw = np.abs(pixel_shwc[one] - pixel_shwc[other]).max(axis=2) > 40
        assert differs_hw.sum() > 0.3 * large[one].sum(), (one, other)
