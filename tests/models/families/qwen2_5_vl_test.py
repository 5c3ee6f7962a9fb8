"""config.json of Qwen2.5-VL: as published, as transformers 5 nests it, and its unsupported fields."""

import copy
import dataclasses
import math
import re

import jax
import pytest

from mig_jax.errors import UserError
from mig_jax.models import decoder, families
from mig_jax.models.qwen2_vl import VisionConfig
from mig_jax.models.rope import RopeScaling
from tests.models.families.published import read

# Qwen/Qwen2.5-VL-3B-Instruct, as on the hub.
HUB_3B = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "vision_token_id": 151654,
    "image_token_id": 151655,
    "video_token_id": 151656,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 128000,
    "max_window_layers": 70,
    "model_type": "qwen2_5_vl",
    "num_attention_heads": 16,
    "num_hidden_layers": 36,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vision_config": {
        "depth": 32,
        "hidden_act": "silu",
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "in_chans": 3,
        "out_hidden_size": 2048,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
        "tokens_per_second": 2,
        "temporal_patch_size": 2,
    },
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vocab_size": 151936,
}
LARGER = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
    "vocab_size": 152064,
    "vision_config": HUB_3B["vision_config"] | {"out_hidden_size": 3584},
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "mrope_section": [16, 24, 24]}
# Fields that stay outside `text_config` when transformers 5 nests.
OUTSIDE = ("architectures", "model_type", "vision_config", "tie_word_embeddings", "image_token_id")


def nested(raw):
    """Return the same model as transformers 5 saves it."""
    text = {name: value for name, value in raw.items() if name not in OUTSIDE and not name.startswith("vision")}
    theta, scaling = text.pop("rope_theta"), text.pop("rope_scaling")
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": theta,
        "mrope_section": scaling["mrope_section"],
    }
    whole = {name: raw[name] for name in raw if name in OUTSIDE or name.startswith("vision")}
    vision = raw["vision_config"] | {"rope_parameters": {"rope_type": "axial", "rope_theta": 10_000.0}}
    return whole | {"text_config": text | {"model_type": "qwen2_5_vl_text"}, "vision_config": vision}


def test_published_config():
    config = read(HUB_3B)
    assert config.vision == VisionConfig(width=1280, layers=32, heads=16, mlp_width=3420, full_layers=(7, 15, 23, 31))
    assert (config.rope_sections, config.rope_theta, config.rope_scaling) == ((16, 24, 24), 1e6, None)
    assert (config.tied_head, config.qkv_bias, config.head_size) == (True, True, 128)
    assert (config.vision.values_per_patch, config.vision.patches_per_window) == (1176, 64)


# Counts are those in the metadata of the published checkpoints.
@pytest.mark.parametrize("changes, count", [({}, 3_754_622_976), (LARGER, 8_292_166_656)], ids=["3B", "7B"])
def test_published_models_have_as_many_parameters(changes, count):
    shapes = jax.tree.leaves(decoder.abstract_params(read(HUB_3B | changes)))
    assert sum(math.prod(x.shape) for x in shapes) == count


def test_flat_and_nested_configs_are_equal():
    assert read(nested(HUB_3B)) == read(HUB_3B)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        LARGER,
        {"image_token_id": 5, "vision_start_token_id": 6, "vision_end_token_id": 7},
        {
            "rope_scaling": {
                "type": "yarn",
                "mrope_section": [16, 24, 24],
                "factor": 4,
                "original_max_position_embeddings": 32768,
            }
        },
    ],
    ids=["3B", "7B", "other tokens", "yarn"],
)
def test_written_config_is_read_back(changes):
    config = read(HUB_3B | changes)
    assert (config.rope_scaling is not None) == ("rope_scaling" in changes)
    assert read(families.raw_config(config)) == config


def test_fields_in_both_places():
    """transformers 4.52 to 4.57 write the fields of the decoder twice."""
    both = HUB_3B | {"text_config": nested(HUB_3B)["text_config"] | {"tie_word_embeddings": False}}
    both["text_config"]["rope_scaling"] = {"rope_type": "default", "type": "default", "mrope_section": [16, 24, 24]}
    assert read(both) == read(HUB_3B)


def test_defaults_that_transformers_leaves_out():
    """transformers 4.49 to 4.57 write only the fields that differ from the defaults of their classes."""
    raw = copy.deepcopy(HUB_3B | LARGER)
    for field in ("depth", "num_heads", "intermediate_size", "out_hidden_size", "fullatt_block_indexes", "hidden_act"):
        raw["vision_config"].pop(field)
    short = nested(raw)
    for field in ("vocab_size", "hidden_act", "initializer_range"):
        short["text_config"].pop(field)
    assert read(raw) == read(short) == read(HUB_3B | LARGER)


def test_sections_beside_a_scaling():
    scaling = {"type": "linear", "factor": 2.0, "mrope_section": [16, 24, 24]}
    config = read(HUB_3B | {"rope_scaling": scaling})
    assert config.rope_scaling == RopeScaling("linear", 2.0) and config.rope_sections == (16, 24, 24)


def test_all_errors_are_listed_at_once():
    raw = copy.deepcopy(HUB_3B) | {"hidden_act": "gelu", "image_token_id": "<image>"}
    raw["rope_scaling"]["mrope_section"] = [16, 24]
    raw["vision_config"] |= {
        "depth": 0,
        "num_heads": "16",
        "hidden_act": "quick_gelu",
        "out_hidden_size": 1024,
        "fullatt_block_indexes": 7,
        "rope_parameters": {"rope_theta": 5.0},
    }
    errors = "\n".join(families.config_errors(raw))
    for words in (
        "hidden_act = 'gelu'",
        "image_token_id = '<image>'",
        "mrope_section = [16, 24]",
        "vision_config.depth = 0",
        "vision_config.num_heads = '16'",
        "vision_config.hidden_act = 'quick_gelu'",
        "vision_config.out_hidden_size = 1024",
        "vision_config.fullatt_block_indexes = 7",
        "vision_config.rope_theta = 5.0",
    ):
        assert words in errors


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("vision_config", None, "vision_config = None"),
        ("rope_scaling", "mrope", "mrope_section = None"),
        ("rope_scaling", {"type": "mrope", "mrope_section": [16, 24, 25]}, "half a head"),
        ("rope_scaling", {"type": "longrope", "mrope_section": [16, 24, 24]}, "longrope"),
        (
            "vision_config",
            HUB_3B["vision_config"] | {"deepstack_visual_indexes": [8]},
            "config.deepstack_visual_indexes",
        ),
        ("vision_config", HUB_3B["vision_config"] | {"rope_parameters": {"factor": 2.0}}, "rope_parameters.factor = 2"),
        ("rope_scaling", HUB_3B["rope_scaling"] | {"mrope_interleaved": True}, "mrope_interleaved = True"),
        ("text_config", 5, "text_config = 5; supported: an object"),
        ("text_config", {"model_type": "qwen3"}, "text_config.model_type = 'qwen3'; supported: 'qwen2_5_vl_text'"),
        ("vision_config", HUB_3B["vision_config"] | {"model_type": "siglip"}, "vision_config.model_type = 'siglip'"),
        (
            "vision_config",
            HUB_3B["vision_config"] | {"in_channels": 1},
            "in_chans = 3, in_channels = 1; supported: one",
        ),
        ("text_config", {"num_hidden_layers": 28}, "num_hidden_layers is 36 in config.json and 28 in its text_config"),
        ("text_config", {"surprise": 28}, "surprise = 28, which this family does not have"),
        ("text_config", {"rope_scaling": YARN}, "rope_scaling is .* in config.json and .* in its text_config"),
        ("vision_config", HUB_3B["vision_config"] | {"fullatt_block_indexes": [7, 32]}, "names \\[32\\]"),
        ("vision_config", HUB_3B["vision_config"] | {"window_size": 100}, "window_size=100"),
        ("vision_config", HUB_3B["vision_config"] | {"rope_parameters": [1]}, "rope_parameters = \\[1\\]"),
    ],
)
def test_single_errors(field, value, words):
    assert re.search(words, "\n".join(families.config_errors(HUB_3B | {field: value})))


@pytest.mark.parametrize(
    "changes", [{"qkv_bias": False}, {"qk_norm": True}, {"head_size": 64}, {"rope_sections": (16, 24)}]
)
def test_config_that_the_family_does_not_have_is_rejected(changes):
    config = dataclasses.replace(read(HUB_3B), **changes)
    with pytest.raises(UserError, match="qwen2_5_vl"):
        families.raw_config(config)
