"""Qwen3-VL equals a stored reference of transformers; images, padding and deepstack features go where they belong."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.models import decoder, image_features, qwen3_vl
from mig_jax.models.decoder import ImageFeatures
from mig_jax.models.qwen3_vl import VisionConfig
from mig_jax.models.vision import Grid, Pixels
from tests.models.stored_logits import check_logits, quick_jit

REFERENCE = pathlib.Path(__file__).parent / "qwen3_vl_reference"
VISION = VisionConfig(
    width=16, layers=3, heads=2, mlp_width=24, deepstack_layers=(0, 1), learned_positions=9, patch_size=2, channels=1
)
CONFIG = decoder.DecoderConfig(
    vocab_size=11,
    width=12,
    layers=3,
    heads=1,
    kv_heads=1,
    head_size=12,
    mlp_width=8,
    qk_norm=True,
    rope_sections=(2, 2, 2),
    interleaved_sections=True,
    vision=VISION,
)
GRIDS = (Grid(4, 6), Grid(2, 4))  # 24 patches, then 8
SLOTS = 40


def random_params(config, seed=0):
    """Return parameters far from their initial values, including norms and biases."""
    rng, shapes = np.random.default_rng(seed), decoder.abstract_params(config)
    return jax.tree.map(lambda x: jax.device_put((rng.normal(size=x.shape) * 0.4).astype(np.float32)), shapes)


def make_pixels(grids=GRIDS, slots=SLOTS, seed=1):
    """Return the images of one question; the slots after them hold values that must be masked."""
    rng = np.random.default_rng(seed)
    layouts = [VISION.layout(grid) for grid in grids]
    image_j = np.repeat(np.arange(len(grids)), [len(layout.patch_j) for layout in layouts])
    rest = slots - len(image_j)
    patch_jc = rng.normal(size=(len(image_j), VISION.values_per_patch))
    position_j2 = np.concatenate([layout.position_j2 for layout in layouts])
    return Pixels(
        np.pad(patch_jc, ((0, rest), (0, 0)), constant_values=1e3)[None].astype(np.float32),
        np.pad(position_j2, ((0, rest), (0, 0)))[None].astype(np.int32),
        np.pad(image_j, (0, rest), constant_values=-1)[None].astype(np.int32),
    )


@functools.partial(quick_jit, static_argnums=0)
def encode_compiled(config, params, pixels):
    return decoder.bind(config, params).vision(pixels)


def encode(*args):
    """Return the features as a numpy array, which compiles nothing when it is cut."""
    return np.asarray(encode_compiled(*args))


def units_of(pixels, image):
    """Return the indices of the merged units of an image."""
    return np.flatnonzero(np.asarray(pixels.image_qj)[0, :: VISION.patches_per_unit] == image)


# --- against transformers ---


def test_logits_equal_transformers():
    """Two prompts of different lengths with two images each, of more and fewer patches than learned positions."""
    check_logits(REFERENCE, max_patches=100)


# --- the tower ---


def test_order_of_the_image_processor():
    layout = VISION.layout(Grid(4, 6))
    np.testing.assert_array_equal(layout.patch_j, np.arange(24))
    np.testing.assert_array_equal(layout.position_j2[4:8], [[0, 2], [0, 3], [1, 2], [1, 3]])
    np.testing.assert_array_equal(layout.unit_i, np.arange(6))
    assert (VISION.count_units(Grid(4, 6)), VISION.count_slots(Grid(4, 6))) == (6, 24)
    with pytest.raises(ValueError, match="3 × 4 patches"):
        VISION.layout(Grid(3, 4))


def test_positions_are_interpolated_between_aligned_corners():
    """A grid of 3 × 3 whose values are row + 10 · column; an image of 5 × 2 patches, and one of a single patch."""
    table_pd = np.array([[row + 10.0 * column] for row in range(3) for column in range(3)])
    position_qj2 = np.array([[[row, column] for row in range(5) for column in range(2)] + [[0, 0]]])
    size_qj2 = np.array([[[5, 2]] * 10 + [[1, 1]]])
    got = np.asarray(jax.jit(qwen3_vl.interpolate)(table_pd, position_qj2, size_qj2))
    np.testing.assert_allclose(got[0, :, 0], [0, 20, 0.5, 20.5, 1, 21, 1.5, 21.5, 2, 22, 0], atol=1e-6)


def test_a_patch_is_visible_to_its_image_alone():
    pixels, params = make_pixels(), random_params(CONFIG)
    other = pixels._replace(patch_qjc=pixels.patch_qjc + (np.arange(SLOTS) == 0)[:, None].astype(np.float32))
    changed_i = np.any(np.asarray(encode(CONFIG, params, pixels) != encode(CONFIG, params, other))[0], axis=-1)
    valid_i = np.asarray(pixels.image_qj)[0, :: VISION.patches_per_unit] >= 0
    np.testing.assert_array_equal(np.flatnonzero(changed_i & valid_i), units_of(pixels, 0))


@pytest.mark.slow
def test_padding_and_other_questions_change_nothing():
    params, few, many = random_params(CONFIG), make_pixels(slots=32), make_pixels(slots=56)
    units = np.concatenate([units_of(few, 0), units_of(few, 1)])
    want = encode(CONFIG, params, few)[0][units]
    np.testing.assert_allclose(want, encode(CONFIG, params, many)[0][units], atol=1e-4)
    without = Pixels(np.zeros_like(many.patch_qjc), 0 * many.position_qj2, np.full_like(many.image_qj, -1))
    together = encode(CONFIG, params, jax.tree.map(lambda *parts: np.concatenate(parts), without, many))
    assert np.isfinite(together).all()
    np.testing.assert_allclose(want, together[1][units], atol=1e-4)


def test_tower_without_deepstack_has_the_first_feature_alone():
    alone = dataclasses.replace(CONFIG, vision=dataclasses.replace(VISION, deepstack_layers=()))
    params = random_params(CONFIG)
    fewer = params | {"vision": {k: x for k, x in params["vision"].items() if k != "deepstack_mergers"}}
    want, got = encode(CONFIG, params, make_pixels()), encode(alone, fewer, make_pixels())
    assert want.shape == (1, 10, 36) and got.shape == (1, 10, 12)
    np.testing.assert_allclose(got, want[..., :12], atol=1e-5)


@pytest.mark.slow
def test_gradients_are_finite_and_reach_every_parameter():
    pixels, params = make_pixels(), random_params(CONFIG)
    target = jnp.array(np.random.default_rng(4).normal(size=(1, SLOTS // 4, 36)), jnp.float32)
    is_unit = (pixels.image_qj[:, ::4] >= 0)[..., None]

    def total(params, pixels):
        return jnp.sum(jnp.where(is_unit, decoder.bind(CONFIG, params).vision(pixels) * target, 0))

    found = quick_jit(jax.grad(total))(params, pixels)["vision"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 1e-4, path


@pytest.mark.slow
def test_bfloat16_is_close_and_stays_bfloat16():
    pixels, params = make_pixels(), jax.tree.map(lambda x: x * 0.5, random_params(CONFIG))
    want = encode(CONFIG, params, pixels)
    got = encode(dataclasses.replace(CONFIG, dtype="bfloat16"), params, pixels)
    assert got.dtype == jnp.bfloat16
    units = units_of(pixels, 0)
    assert np.abs(got.astype(np.float32) - want)[0][units].max() < 0.05 * np.abs(want[0][units]).max()


@pytest.mark.slow
def test_sharded_tower_equals_one_device():
    mesh, params = sharding.make_mesh({"fsdp": 4, "tensor": 2}), random_params(CONFIG)
    pixels = jax.tree.map(lambda x: jnp.concatenate([x] * 4), make_pixels())
    want = encode(CONFIG, params, pixels)
    sharded = jax.device_put(params, sharding.shardings(params, decoder.param_axes(CONFIG), mesh))
    assert len(sharded["vision"]["deepstack_mergers"]["hidden"].sharding.device_set) == 8
    with jax.set_mesh(mesh):
        got = encode(CONFIG, sharded, jax.device_put(pixels, sharding.batch_sharding(mesh)))
    units = units_of(pixels, 0)
    np.testing.assert_allclose(got[:, units], want[:, units], rtol=1e-4, atol=1e-4)


def test_all_errors_of_a_config_are_reported():
    with pytest.raises(ValueError, match="width=18.*learned_positions=10.*deepstack_layers=.*there are layers 0 to 2"):
        dataclasses.replace(VISION, width=18, learned_positions=10, deepstack_layers=(1, 3))


# --- deepstack in the decoder ---


def test_deepstack_adds_to_image_tokens_after_its_layer():
    """Two questions of two rows each; the features of a question are numbered across its images."""
    width, rng = 3, np.random.default_rng(0)
    feature_qid, x_btd = jnp.array(rng.normal(size=(2, 4, 3 * width))), jnp.array(rng.normal(size=(4, 5, width)))
    index_bt = jnp.array([[-1, 0, 1, -1, -1], [-1, -1, 2, 3, -1], [-1] * 5, [3, 2, -1, -1, 0]])
    features = ImageFeatures(feature_qid, index_bt)
    assert image_features.count_deepstack(features, width) == 2
    for layer in range(3):
        got_btd = image_features.add_deepstack(x_btd, features, jnp.array(layer))
        want_btd = np.array(x_btd)
        for row, slot in zip(*np.nonzero(np.asarray(index_bt) >= 0), strict=True):
            if layer < 2:
                start = (layer + 1) * width
                want_btd[row, slot] += feature_qid[row // 2, index_bt[row, slot], start : start + width]
        np.testing.assert_allclose(got_btd, want_btd, atol=1e-6)


@pytest.mark.slow
def test_features_without_deepstack_leave_hidden_states_alone():
    """Zeros in the place of its features are the same as none."""
    params, rng = random_params(CONFIG), np.random.default_rng(1)
    feature_qid, token_bt = jnp.array(rng.normal(size=(1, 2, 12)), jnp.float32), jnp.array([[1, 2, 3, 4]])
    index_bt, visible_bt = jnp.array([[-1, 0, 1, -1]]), jnp.ones((1, 4), bool)

    def run(feature_qid):
        features = ImageFeatures(feature_qid, index_bt)
        return decoder.bind(CONFIG, params)(token_bt, jnp.arange(4)[None], visible_bt, features=features)[0]

    padded = jnp.pad(feature_qid, ((0, 0), (0, 0), (0, 24)))
    np.testing.assert_allclose(run(padded), run(feature_qid), atol=1e-5)
    assert np.abs(run(padded.at[0, 0, 12:].set(1.0)) - run(padded))[0, 1:].max() > 1e-3
