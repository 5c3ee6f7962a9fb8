"""Gemma 3: both spellings of its fields are read alike, and what it has in common with no other family is refused."""

import dataclasses
import math

import jax
import pytest

from mig_jax.errors import UserError
from mig_jax.models import decoder, families
from mig_jax.models.rope import RopeScaling
from tests.models.families.checkpoints import (
    GEMMA3,
    GEMMA3_4B,
    GEMMA3_12B,
    GEMMA3_27B,
    GEMMA3_270M,
    GEMMA3_V5,
    MISTRAL,
)
from tests.models.families.published import CONFIGS, read

# Tensors of the vision tower and its projector, which files from 4B on hold besides.
TOWER = 419_816_304
BILLIONS = {"270m": (GEMMA3_270M, 0.268), "1b": (GEMMA3, 1.0), "4b": (GEMMA3_4B, 3.88), "12b": (GEMMA3_12B, 11.77),
            "27b": (GEMMA3_27B, 27.01)}  # fmt: skip


@pytest.mark.parametrize("name", BILLIONS)
def test_number_of_parameters(name):
    raw, billions = BILLIONS[name]
    total = sum(math.prod(x.shape) for x in jax.tree.leaves(decoder.abstract_params(read(raw))))
    assert total / 1e9 == pytest.approx(billions, rel=5e-3)


def test_fields_of_the_smallest_and_the_largest():
    small, large = read(GEMMA3_270M), read(GEMMA3_27B)
    assert (small.window, small.full_layers, small.window_rope_theta) == (512, (5, 11, 17), 1e4)
    assert (small.rope_theta, small.rope_scaling, small.score_divisor) == (1e6, None, None)
    assert small.tied_head and small.qk_norm and small.post_norms and small.shifted_norms and small.scaled_embedding
    assert (large.window, large.full_layers, large.window_rope_theta) == (1024, tuple(range(5, 62, 6)), 1e4)
    assert (large.head_size, large.score_divisor, large.rope_scaling) == (128, 168.0, RopeScaling("linear", 8.0))
    assert (large.vocab_size, large.max_positions) == (262_208, 131_072)


def test_both_spellings_are_the_same_model():
    assert read(GEMMA3_V5) == read(GEMMA3_270M)
    pattern = {name: value for name, value in GEMMA3_270M.items() if name != "layer_types"}
    assert read(pattern | {"sliding_window_pattern": 6}) == read(pattern) == read(GEMMA3_270M)
    ropes = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}}
    text = {name: value for name, value in GEMMA3_4B["text_config"].items() if name != "rope_scaling"}
    assert read(GEMMA3_4B | {"text_config": text | {"rope_parameters": ropes}}) == read(GEMMA3_4B)


def test_models_with_a_tower_are_written_as_text():
    config = read(GEMMA3_4B)
    assert families.has_tower(GEMMA3_4B) and not families.has_tower(GEMMA3) and config.vision is None
    written = families.raw_config(config, preferred="gemma3")
    assert written["model_type"] == "gemma3_text" and read(written) == config


ROPES = GEMMA3_V5["rope_parameters"]


@pytest.mark.parametrize(
    "changes, want",
    [
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0; supported: None"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0; supported: None"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention = True; supported: False"),
        ({"hidden_activation": "gelu"}, "hidden_activation = 'gelu'; supported: 'gelu_pytorch_tanh'"),
        ({"hidden_act": "silu"}, "hidden_act = 'silu'; supported: 'gelu_pytorch_tanh'"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar = 0; supported: a positive number"),
        ({"sliding_window": None}, "layer_types has sliding_attention, but no sliding_window is in use"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types has 3 entries; supported: one for each layer"),
        ({"sliding_window_pattern": 0}, "sliding_window_pattern = 0; supported: a positive integer"),
        ({"rope_local_base_freq": 500.0}, "rope_local_base_freq = 500.0, but rope_parameters has 10000.0"),
        ({"rope_parameters": {"rope_theta": 1e6}}, "rope_parameters.rope_theta = 1000000.0; supported: an object"),
        ({"rope_parameters": ROPES | {"chunked_attention": {}}}, "rope_parameters.chunked_attention = {}; supported"),
        (
            {"rope_parameters": ROPES | {"sliding_attention": {"rope_type": "linear", "rope_theta": 1e4}}},
            "rope_type = 'linear' of layers with a window; supported: 'default'",
        ),
        (
            {"rope_parameters": ROPES | {"sliding_attention": {"rope_theta": 1e4, "factor": 2.0}}},
            "rope_parameters.sliding_attention.factor = 2.0, which this family does not have",
        ),
    ],
)
def test_unsupported_fields(changes, want):
    errors = families.config_errors(GEMMA3_V5 | changes)
    assert any(want in error for error in errors) and all("supported: " in error for error in errors), errors


@pytest.mark.parametrize(
    "changes, want",
    [
        ({"text_config": None}, "text_config = None; supported: an object of fields"),
        ({"text_config": {"model_type": "gemma2"}}, "text_config.model_type = 'gemma2'; supported: 'gemma3_text'"),
        ({"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}}, "differs between config.json"),
    ],
)
def test_unsupported_fields_of_a_model_with_a_tower(changes, want):
    (error,) = families.config_errors(GEMMA3_4B | changes)
    assert want in error


def test_windows_of_other_families():
    mistral = read(MISTRAL | {"sliding_window": 4096})
    assert (mistral.window, mistral.full_layers) == (4096, ()) and families.family_of(mistral) == "mistral"
    qwen = CONFIGS["Qwen2.5-0.5B"] | {"use_sliding_window": True, "sliding_window": 4096}
    config = read(qwen)
    assert (config.window, config.full_layers) == (4096, tuple(range(21)))
    written = families.raw_config(config)
    assert written["max_window_layers"] == 21 and read(written) == config and written["model_type"] == "qwen2"
    listed = qwen | {"layer_types": ["sliding_attention", "full_attention"] * 12}
    assert read(listed).full_layers == tuple(range(1, 24, 2)) and read(families.raw_config(read(listed))) == read(
        listed
    )
    with pytest.raises(UserError, match="no Hugging Face family .* has .*full_layers="):
        families.family_of(dataclasses.replace(mistral, full_layers=(0,)))


def test_layers_without_a_window_need_one():
    config = read(MISTRAL)
    for fields in ({"full_layers": (0,)}, {"window_rope_theta": 1e4}):
        with pytest.raises(UserError, match="full_layers and window_rope_theta need a window"):
            dataclasses.replace(config, **fields)
