"""Parts of the vision tower of Qwen2.5-VL equal those of transformers. Needs torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mig_jax.models import qwen2_vl

pytest.importorskip("torch")

from tests.models.vision_models import Both, capture, run_tower, with_padding, without_padding  # noqa: E402


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return Both(tmp_path_factory.mktemp("both"))


def test_patches_embedded(both):
    want_md = capture(both.theirs.model.visual.blocks[0], run_tower(both))["args"][0].numpy()
    got_md = without_padding(both, both.model.vision.embed(jnp.array(both.images.pixels.patch_qjc)))
    np.testing.assert_allclose(got_md, want_md, atol=1e-5)


def test_rotary_angles(both):
    want = capture(both.theirs.model.visual.blocks[0], run_tower(both))["kwargs"]["position_embeddings"]
    vision = both.config.vision
    got = qwen2_vl.patch_rope(jnp.array(both.images.pixels.position_qj2), vision.width // vision.heads)
    for ours, theirs in zip(got, want, strict=True):
        half = theirs.shape[-1] // 2
        np.testing.assert_allclose(without_padding(both, ours), theirs.numpy()[:, :half], atol=1e-6)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_one_layer(both, layer):
    """0 and 2 attend within windows, 1 and 3 within images."""
    captured = capture(both.theirs.model.visual.blocks[layer], run_tower(both))
    pixels, vision = both.images.pixels, both.config.vision
    graphdef, params = nnx.split(both.model.vision.layers)
    ours = nnx.merge(graphdef, jax.tree.map(lambda x: x[layer], params))
    rope = qwen2_vl.patch_rope(jnp.array(pixels.position_qj2), vision.width // vision.heads)
    is_full = jnp.array(layer in vision.full_layers)
    got_qnd = ours(with_padding(both, captured["args"][0].numpy()), rope, jnp.array(pixels.image_qj), is_full)
    np.testing.assert_allclose(without_padding(both, got_qnd), captured["output"].numpy(), atol=1e-5)


def test_merger(both):
    captured = capture(both.theirs.model.visual.merger, run_tower(both))
    got_qid = both.model.vision.merger(with_padding(both, captured["args"][0].numpy()))
    is_unit_qi = np.asarray(both.images.pixels.image_qj)[:, ::4] >= 0
    np.testing.assert_allclose(np.asarray(got_qid)[is_unit_qi], captured["output"].numpy(), atol=1e-4)
