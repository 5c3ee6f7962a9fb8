"""Parts of the vision tower of Qwen3-VL equal those of transformers. Needs torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mig_jax.models import qwen2_vl, qwen3_vl

torch = pytest.importorskip("torch")

from tests.models.vision_models import Both, capture, run_tower, with_padding, without_padding  # noqa: E402


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return Both(tmp_path_factory.mktemp("both"), "qwen3_vl")


def test_patches_embedded(both):
    """With their learned positions, interpolated to more or fewer patches than the grid has."""
    want_md = capture(both.theirs.model.visual.blocks[0], run_tower(both))["args"][0].numpy()
    pixels = jax.tree.map(jnp.asarray, both.images.pixels)
    np.testing.assert_allclose(without_padding(both, both.model.vision.embed(pixels)), want_md, atol=1e-5)


def test_sizes_of_images(both):
    pixels = jax.tree.map(jnp.asarray, both.images.pixels)
    got = without_padding(both, qwen3_vl.image_sizes(pixels.position_qj2, pixels.image_qj))
    sizes = both.inputs["image_grid_thw"].numpy()[:, 1:]
    np.testing.assert_array_equal(got, np.repeat(sizes, sizes.prod(1), axis=0))


@pytest.mark.parametrize("layer", [0, 3])
def test_one_layer(both, layer):
    captured = capture(both.theirs.model.visual.blocks[layer], run_tower(both))
    pixels, vision = both.images.pixels, both.config.vision
    graphdef, params = nnx.split(both.model.vision.layers)
    ours = nnx.merge(graphdef, jax.tree.map(lambda x: x[layer], params))
    rope = qwen2_vl.patch_rope(jnp.array(pixels.position_qj2), vision.width // vision.heads)
    for half, theirs in zip(rope, captured["kwargs"]["position_embeddings"], strict=True):
        np.testing.assert_allclose(without_padding(both, half), theirs.numpy()[:, : half.shape[-1]], atol=1e-6)
    got_qnd = ours(with_padding(both, captured["args"][0].numpy()), rope, jnp.array(pixels.image_qj))
    np.testing.assert_allclose(without_padding(both, got_qnd), captured["output"].numpy(), atol=1e-5)


@pytest.mark.parametrize("number", [None, 0, 1])
def test_mergers(both, number):
    """The last one normalizes patches, those after earlier layers whole units."""
    theirs, ours = both.theirs.model.visual, both.model.vision
    captured = capture(theirs.merger if number is None else theirs.deepstack_merger_list[number], run_tower(both))
    merger = ours.merger
    if number is not None:
        graphdef, params = nnx.split(ours.deepstack_mergers)
        merger = nnx.merge(graphdef, jax.tree.map(lambda x: x[number], params))
    got_qid = np.asarray(merger(with_padding(both, captured["args"][0].numpy())))
    is_unit_qi = np.asarray(both.images.pixels.image_qj)[:, ::4] >= 0
    np.testing.assert_allclose(got_qid[is_unit_qi], captured["output"].numpy(), atol=1e-4)
