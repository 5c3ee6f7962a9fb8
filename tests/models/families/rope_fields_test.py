"""Scaled rotary embeddings are read from the fields of transformers 4 and 5, and written back."""

import dataclasses

import pytest

from mig_jax.models import families
from mig_jax.models.rope import RopeScaling, attention_factor
from tests.models.families import published
from tests.models.families.published import read

QWEN25_05B, SMOLLM2_135M = published.CONFIGS["Qwen2.5-0.5B"], published.CONFIGS["SmolLM2-135M"]
YARN = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
SCALINGS = {
    "linear": ({"type": "linear", "factor": 2.0}, RopeScaling("linear", 2.0)),
    "qwen's recipe": (YARN, RopeScaling("yarn", 4.0, original_max_position_embeddings=32768)),
    "yarn, no context": (
        {"rope_type": "yarn", "factor": 2, "beta_fast": None},
        RopeScaling("yarn", 2, original_max_position_embeddings=32768),
    ),
    "yarn, all fields": (
        YARN | {"attention_factor": 1.5, "beta_fast": 16, "beta_slow": 2, "truncate": False, "finetuned": True},
        RopeScaling(
            "yarn", 4.0, original_max_position_embeddings=32768, attention_factor=1.5, beta_fast=16, beta_slow=2,
            truncate=False,
        ),
    ),
    "yarn, deepseek's": (
        YARN | {"mscale": 1.0, "mscale_all_dim": 0.5},
        RopeScaling("yarn", 4.0, original_max_position_embeddings=32768, mscale=1.0, mscale_all_dim=0.5),
    ),
    # DeepSeek-R1-0528-Qwen3-8B: 0.8782 is what makes the attention factor 1.
    "yarn, attn_factor": (
        YARN | {"attn_factor": 0.8782488562869419},
        RopeScaling("yarn", 4.0, original_max_position_embeddings=32768, attn_factor=0.8782488562869419),
    ),
    "yarn, factors that change nothing": (
        YARN | {"extrapolation_factor": 1.0, "mrope_interleaved": False},
        RopeScaling("yarn", 4.0, original_max_position_embeddings=32768),
    ),
    "llama3": (
        published.CONFIGS["Llama-3.1-8B"]["rope_scaling"],
        RopeScaling("llama3", 8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192),
    ),
    "default": ({"type": "default"}, None),
}  # fmt: skip


@pytest.mark.parametrize("raw, want", SCALINGS.values(), ids=SCALINGS)
def test_scaling_is_read_from_both_layouts_and_written_back(raw, want):
    old = read(QWEN25_05B | {"rope_scaling": raw})
    without = {k: v for k, v in QWEN25_05B.items() if k != "rope_theta"}
    new = read(without | {"rope_parameters": raw | {"rope_theta": 1e6}})
    assert old == new == dataclasses.replace(old, rope_scaling=want, rope_theta=1e6)
    is_yarn = want is not None and want.kind == "yarn"
    assert old.max_positions == 32_768 * (want.factor if is_yarn else 1)
    assert read(families.raw_config(old)) == old


def test_scaling_is_written_with_the_fields_of_its_type_only():
    config = read(SMOLLM2_135M | {"rope_scaling": {"type": "linear", "factor": 2.0}})
    assert families.raw_config(config)["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}


def test_attn_factor_multiplies_the_derived_factor_and_is_written_under_both_names():
    """Serving engines read `attn_factor`, transformers reads `attention_factor`."""
    config = read(QWEN25_05B | {"rope_scaling": YARN | {"attn_factor": 0.8782488562869419}})
    assert attention_factor(config.rope_scaling) == pytest.approx(1.0, abs=1e-12)
    written = families.raw_config(config)["rope_scaling"]
    assert written["attn_factor"] == 0.8782488562869419 and written["attention_factor"] == pytest.approx(1.0)
    assert read(QWEN25_05B | {"rope_scaling": written}) == config


def test_recipe_on_top_of_a_file_of_transformers_5():
    """The README of Qwen2.5 adds `rope_scaling`; the base of the frequencies stays that of `rope_parameters`."""
    new = {k: v for k, v in QWEN25_05B.items() if k != "rope_theta"}
    new |= {"rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}}
    config = read(new | {"rope_scaling": YARN})
    assert config == read(QWEN25_05B | {"rope_scaling": YARN}) and config.rope_theta == 1e6


def test_context_beside_the_scaling():
    """Some files have `original_max_position_embeddings` at the top, and transformers 5 reads it there."""
    beside = {"original_max_position_embeddings": 32768, "max_position_embeddings": 131072}
    config = read(QWEN25_05B | {"rope_scaling": {"type": "yarn", "factor": 4.0}} | beside)
    assert config.rope_scaling.original_max_position_embeddings == 32768
