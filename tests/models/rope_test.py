"""Rotary embeddings: values by hand, and the formulas of the papers in float64."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.models.rope import FIELDS, RopeScaling, attention_factor, make_rope, rope_frequencies, section_axes

LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
YARN = dict(factor=4.0, original_max_position_embeddings=32768)


def test_frequencies_by_hand():
    np.testing.assert_array_equal(rope_frequencies(4, 100.0), np.float32([1, 0.1]))
    np.testing.assert_array_equal(rope_frequencies(4, 100.0, RopeScaling("linear", 4.0)), np.float32([1, 0.1]) / 4)


def test_frequencies_are_the_nearest_float32():
    for head_size, theta in [(64, 1e5), (128, 1e6), (128, 5e5), (80, 12345.0)]:
        exact = theta ** (-np.arange(0, head_size, 2) / head_size)
        # Three roundings: the exponent (several ulps of the power at large θ), the power, and its inverse.
        np.testing.assert_allclose(rope_frequencies(head_size, theta), exact, rtol=6e-7)


def slow_llama3(frequency, factor, low_freq_factor, high_freq_factor, original_max_position_embeddings):
    """Scale one frequency as the code published with Llama 3.1 does."""
    wavelength = 2 * math.pi / frequency
    if wavelength < original_max_position_embeddings / high_freq_factor:
        return frequency
    if wavelength > original_max_position_embeddings / low_freq_factor:
        return frequency / factor
    smooth = (original_max_position_embeddings / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor)
    return (1 - smooth) * frequency / factor + smooth * frequency


@pytest.mark.parametrize("changes", [{}, {"factor": 32.0}, {"low_freq_factor": 2.0}, {"high_freq_factor": 9.0}])
def test_llama3_equals_the_published_loop(changes):
    plain, given = rope_frequencies(128, 5e5), LLAMA3 | changes
    want = [slow_llama3(float(f), **given) for f in plain]
    got = rope_frequencies(128, 5e5, RopeScaling("llama3", **given))
    np.testing.assert_allclose(got, want, rtol=5e-7)
    assert 0 < (got == plain).sum() < (got >= plain / 8 * 1.001).sum() < 64  # all three ranges occur


def test_yarn_by_hand():
    """θ = 10⁴, H = 8: frequencies 1, 0.1, 0.01, 0.001 turn 1000, 100, 10, 1 times in a context of 2π·1000 tokens.

    With beta_fast = 100 and beta_slow = 1, pair 1 is kept, pair 3 is divided, and pair 2 is halfway between.
    """
    given = dict(factor=5.0, original_max_position_embeddings=2 * math.pi * 1000, beta_fast=100, beta_slow=1)
    got = rope_frequencies(8, 1e4, RopeScaling("yarn", truncate=False, **given))
    np.testing.assert_allclose(got, [1, 0.1, 0.01 * (0.5 / 5 + 0.5), 0.001 / 5], rtol=1e-6)
    # Bounds at pairs 1.3 and 1.7 are rounded outwards to 1 and 2.
    inner = given | {"beta_fast": 1000 / 10**1.3, "beta_slow": 1000 / 10**1.7}
    got = rope_frequencies(8, 1e4, RopeScaling("yarn", **inner))
    np.testing.assert_allclose(got, [1, 0.1, 0.01 / 5, 0.001 / 5], rtol=1e-6)


@pytest.mark.parametrize(
    "given, want",
    [
        ({}, 0.1 * math.log(4) + 1),
        ({"factor": 1.0}, 1.0),
        ({"attention_factor": 1.25}, 1.25),
        ({"mscale": 2.0, "mscale_all_dim": 0.5}, (0.2 * math.log(4) + 1) / (0.05 * math.log(4) + 1)),
        ({"mscale": 2.0}, 0.1 * math.log(4) + 1),
        ({"mscale": 2.0, "mscale_all_dim": 0}, 0.1 * math.log(4) + 1),
    ],
)
def test_attention_factor(given, want):
    assert attention_factor(RopeScaling("yarn", **YARN | given)) == pytest.approx(want, rel=1e-15)


def test_attention_factor_multiplies_cos_and_sin():
    position_bt, frequencies = jnp.array([[0, 3, 70]]), rope_frequencies(8, 1e4)
    cos, sin = make_rope(position_bt, frequencies)
    for got, want in zip(make_rope(position_bt, frequencies, attention_factor=1.5), (cos, sin), strict=True):
        np.testing.assert_array_equal(got, 1.5 * want)
    assert attention_factor(None) == attention_factor(RopeScaling("linear", 2.0)) == 1.0
    np.testing.assert_allclose(cos**2 + sin**2, 1, rtol=1e-6)


@pytest.mark.parametrize("kind, given", [("yarn", YARN), ("llama3", LLAMA3), ("linear", {"factor": 2.0})])
def test_every_field_of_a_kind_changes_something(kind, given):
    changes = {
        "factor": 3.0, "original_max_position_embeddings": 999, "low_freq_factor": 2.5, "high_freq_factor": 7.0,
        "beta_fast": 90.0, "beta_slow": 5.0, "truncate": False, "attention_factor": 0.7, "attn_factor": 0.8,
    }  # fmt: skip
    before = RopeScaling(kind, **given)
    for field in set(sum(FIELDS[kind], ())) - {"mscale", "mscale_all_dim"}:
        after = RopeScaling(kind, **given | {field: changes[field]})
        is_same = np.array_equal(rope_frequencies(64, 1e4, before), rope_frequencies(64, 1e4, after))
        assert not is_same or attention_factor(before) != attention_factor(after), field


@pytest.mark.parametrize(
    "kind, given, want",
    [
        ("dynamic", {"factor": 2.0}, "rope type = 'dynamic'"),
        ("yarn", {"factor": 0.5}, "factor = 0.5 of yarn rope.*\noriginal_max_position_embeddings = None"),
        ("linear", {"factor": True}, "factor = True"),
        ("linear", {"factor": math.nan}, "factor = nan"),
        ("llama3", LLAMA3 | {"low_freq_factor": 4.0}, "low_freq_factor ≥ high_freq_factor"),
    ],
)
def test_invalid_scalings_are_rejected(kind, given, want):
    with pytest.raises(ValueError, match=want):
        RopeScaling(kind, **given)


def test_scaling_is_hashable():
    assert len({RopeScaling("llama3", **LLAMA3), RopeScaling("llama3", **LLAMA3), RopeScaling("yarn", **YARN)}) == 2


@pytest.mark.parametrize(
    "sections, want",
    [((3, 3, 2), [0, 1, 2, 0, 1, 2, 0, 1]), ((4, 2, 2), [0, 1, 2, 0, 1, 2, 0, 0]), ((2, 0, 0), [0, 0])],
)
def test_interleaved_sections(sections, want):
    """The axes take turns for as long as height and width have frequencies left."""
    np.testing.assert_array_equal(section_axes(sections, is_interleaved=True), want)
    np.testing.assert_array_equal(np.bincount(want, minlength=3), sections)
    consecutive = section_axes(sections, is_interleaved=False)
    np.testing.assert_array_equal(consecutive, np.repeat([0, 1, 2], sections))
