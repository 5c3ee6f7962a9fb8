"""The vision tower equals a stored reference of transformers; windows, images and padding are masked correctly."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mig_jax.distributed import sharding
from mig_jax.models import decoder, image_layout, qwen2_vl
from mig_jax.models.image_layout import Grid
from mig_jax.models.qwen2_vl import Pixels, VisionConfig
from tests.models.stored_logits import check_logits, quick_jit

REFERENCE = pathlib.Path(__file__).parent / "vision_reference"
VISION = VisionConfig(
    width=16, layers=3, heads=2, mlp_width=24, full_layers=(1,), patch_size=2, window_size=8, channels=1
)
CONFIG = decoder.DecoderConfig(
    vocab_size=11,
    width=12,
    layers=1,
    heads=1,
    kv_heads=1,
    head_size=12,
    mlp_width=8,
    qkv_bias=True,
    rope_sections=(1, 2, 3),
    vision=VISION,
)
GRIDS = (Grid(6, 6), Grid(2, 10))  # 4 windows of 16 slots, then 3
SLOTS = 8 * 16


def random_params(config, seed=0):
    """Return parameters far from their initial values, including norms and biases."""
    rng, shapes = np.random.default_rng(seed), decoder.abstract_params(config)
    return jax.tree.map(lambda x: jax.device_put((rng.normal(size=x.shape) * 0.4).astype(np.float32)), shapes)


def make_pixels(grids=GRIDS, slots=SLOTS, seed=1):
    """Return the images of one question, one after the other; the slots after them hold values that must be masked."""
    rng = np.random.default_rng(seed)
    layouts = [image_layout.build_layout(grid, VISION) for grid in grids]
    patch_jc = rng.normal(size=(sum(len(layout.patch_j) for layout in layouts), VISION.values_per_patch))
    image_j = np.concatenate([np.where(layout.patch_j < 0, -1, i) for i, layout in enumerate(layouts)])
    position_j2 = np.concatenate([layout.position_j2 for layout in layouts])
    rest = slots - len(image_j)
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


def with_layers(*full_layers):
    return dataclasses.replace(CONFIG, vision=dataclasses.replace(VISION, full_layers=full_layers))


# --- against transformers ---


def test_logits_equal_transformers():
    """Two prompts of different lengths with two images each; no side is a multiple of the window."""
    check_logits(REFERENCE, max_patches=160)


# --- visibility ---


def test_window_layer_equals_full_layer_with_windows_as_images():
    pixels = make_pixels()
    params = jax.tree.map(lambda x: np.asarray(x)[0], random_params(CONFIG)["vision"]["layers"])
    layer = quick_jit(bind_layer(params))
    x_qjd = np.random.default_rng(2).normal(size=(1, SLOTS, VISION.width)).astype(np.float32)
    rope = jax.jit(qwen2_vl.patch_rope, static_argnums=1)(pixels.position_qj2, VISION.width // VISION.heads)
    image_qj, valid_n = pixels.image_qj, np.asarray(pixels.image_qj[0]) >= 0
    window_qn = np.where(image_qj >= 0, np.arange(SLOTS, dtype=np.int32)[None] // VISION.patches_per_window, -1)
    got = layer(x_qjd, rope, image_qj, False)
    want = layer(x_qjd, rope, window_qn, True)
    np.testing.assert_allclose(*(np.asarray(x)[0][valid_n] for x in (got, want)), atol=1e-5)
    assert not np.allclose(got, layer(x_qjd, rope, image_qj, True), atol=1e-2)


def bind_layer(params):
    """Return one layer of the tower with these parameters."""
    tower = nnx.eval_shape(
        lambda: qwen2_vl.VisionTower(VISION, CONFIG.width, nnx.Rngs(0), dtype="float32", param_dtype="float32")
    )
    graphdef = nnx.split(tower.layers)[0]
    return lambda *args: nnx.merge(graphdef, params)(*args)


def test_images_do_not_see_each_other():
    pixels, params = make_pixels(), random_params(CONFIG)
    other = pixels._replace(patch_qjc=np.where(pixels.image_qj[..., None] == 1, np.float32(7), pixels.patch_qjc))
    before_id, after_id = (encode(CONFIG, params, x)[0] for x in (pixels, other))
    first, second = units_of(pixels, 0), units_of(pixels, 1)
    np.testing.assert_array_equal(before_id[first], after_id[first])
    assert np.all(np.abs(before_id[second] - after_id[second]).max(-1) > 1e-3)


@pytest.mark.parametrize("full_layers", [(), (1,)])
def test_patch_is_visible_to_its_window_or_its_image(full_layers):
    pixels, params, config = make_pixels(), random_params(CONFIG), with_layers(*full_layers)
    other = pixels._replace(patch_qjc=pixels.patch_qjc + (np.arange(SLOTS) == 0)[:, None].astype(np.float32))
    changed_i = np.any(np.asarray(encode(config, params, pixels) != encode(config, params, other))[0], axis=-1)
    units_of_window = VISION.patches_per_window // VISION.patches_per_unit
    want = units_of(pixels, 0) if full_layers else np.arange(units_of_window)
    valid_i = np.asarray(pixels.image_qj)[0, :: VISION.patches_per_unit] >= 0
    np.testing.assert_array_equal(np.flatnonzero(changed_i & valid_i), want)


def test_padding_changes_nothing():
    params = random_params(CONFIG)
    few, many = make_pixels(slots=7 * 16), make_pixels(slots=12 * 16)
    units = np.concatenate([units_of(few, 0), units_of(few, 1)])
    np.testing.assert_allclose(encode(CONFIG, params, few)[0][units], encode(CONFIG, params, many)[0][units], atol=1e-5)


def test_questions_are_independent_and_may_have_no_image():
    params = random_params(CONFIG)
    with_images, other = make_pixels(), make_pixels(GRIDS[::-1], seed=3)
    without = Pixels(np.zeros_like(other.patch_qjc), 0 * other.position_qj2, np.full_like(other.image_qj, -1))
    together = jax.tree.map(lambda *parts: np.concatenate(parts), with_images, without, other)
    feature_qid = encode(CONFIG, params, together)
    assert np.isfinite(feature_qid).all()
    for got, alone in ((feature_qid[0], with_images), (feature_qid[2], other)):
        np.testing.assert_allclose(got, encode(CONFIG, params, alone)[0], atol=2e-5, rtol=1e-4)


# --- gradients, dtypes, shards ---


def test_gradients_are_finite_and_reach_every_parameter():
    pixels, params = make_pixels(), random_params(CONFIG)
    target = np.random.default_rng(4).normal(size=(1, SLOTS // 4, CONFIG.width)).astype(np.float32)
    is_unit = (pixels.image_qj[:, ::4] >= 0)[..., None]

    def total(params, pixels):
        return jnp.sum(jnp.where(is_unit, decoder.bind(CONFIG, params).vision(pixels) * target, 0))

    found = quick_jit(jax.grad(total))(params, pixels)["vision"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 1e-4, path


def test_remat_policies_recompute_more_and_more():
    def count_products(policy):
        config, pixels = dataclasses.replace(CONFIG, remat=policy), jax.device_put(make_pixels())
        features = jax.grad(lambda p: decoder.bind(config, p).vision(pixels).sum())
        return str(jax.make_jaxpr(features)(decoder.abstract_params(config))).count("dot_general")

    assert count_products("none") < count_products("matmuls") < count_products("layer")


def test_bfloat16_is_close_and_stays_bfloat16():
    pixels, params = make_pixels(), jax.tree.map(lambda x: np.asarray(x) * np.float32(0.5), random_params(CONFIG))
    want = encode(CONFIG, params, pixels)
    got = encode(dataclasses.replace(CONFIG, dtype="bfloat16"), params, pixels)
    assert got.dtype == jnp.bfloat16
    units = units_of(pixels, 0)
    assert np.abs(got.astype(np.float32) - want)[0][units].max() < 0.05 * np.abs(want[0][units]).max()


def test_sharded_tower_equals_one_device():
    mesh, params = sharding.make_mesh({"fsdp": 4, "tensor": 2}), random_params(CONFIG)
    pixels = jax.tree.map(lambda x: np.concatenate([x] * 4), make_pixels())
    want = encode(CONFIG, params, pixels)
    sharded = jax.device_put(params, sharding.shardings(params, decoder.param_axes(CONFIG), mesh))
    assert len(sharded["vision"]["layers"]["attention"]["qkv"].sharding.device_set) == 8
    with jax.set_mesh(mesh):
        got = encode(CONFIG, sharded, jax.device_put(pixels, sharding.batch_sharding(mesh)))
    units = units_of(pixels, 0)
    np.testing.assert_allclose(got[:, units], want[:, units], rtol=1e-4, atol=1e-4)


def test_all_errors_of_a_config_are_reported():
    with pytest.raises(ValueError, match="width=18.*window_size=10.*full_layers=.*there are layers 0 to 2"):
        dataclasses.replace(VISION, width=18, window_size=10, full_layers=(1, 3))


def test_partial_windows_are_rejected():
    with pytest.raises(AssertionError):
        encode(CONFIG, random_params(CONFIG), jax.tree.map(lambda x: x[:, :-8], make_pixels()))
