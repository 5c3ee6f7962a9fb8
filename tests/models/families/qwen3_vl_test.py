"""config.json of Qwen3-VL: as published, as transformers 4 and 5 save it, and its unsupported fields."""

import copy
import dataclasses
import math
import re

import jax
import pytest

from mig_jax.errors import UserError
from mig_jax.models import decoder, families
from mig_jax.models.qwen3_vl import VisionConfig
from mig_jax.models.rope import RopeScaling
from tests.models.families.published import read

# Qwen/Qwen3-VL-4B-Instruct, as on the hub.
HUB_4B = {
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "image_token_id": 151655,
    "model_type": "qwen3_vl",
    "text_config": {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "dtype": "bfloat16",
        "eos_token_id": 151645,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 2560,
        "initializer_range": 0.02,
        "intermediate_size": 9728,
        "max_position_embeddings": 262144,
        "model_type": "qwen3_vl_text",
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
        "rope_theta": 5000000,
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": 151936,
    },
    "tie_word_embeddings": True,
    "transformers_version": "4.57.0.dev0",
    "video_token_id": 151656,
    "vision_config": {
        "deepstack_visual_indexes": [5, 11, 17],
        "depth": 24,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 1024,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": 4096,
        "model_type": "qwen3_vl",
        "num_heads": 16,
        "num_position_embeddings": 2304,
        "out_hidden_size": 2560,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
    "vision_end_token_id": 151653,
    "vision_start_token_id": 151652,
}


def resized(width, layers, heads, mlp_width, *, tied=False, **vision):
    """Return config.json of another size; `vision` changes the tower's."""
    text = HUB_4B["text_config"] | {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": mlp_width,
        "tie_word_embeddings": tied,
    }
    vision = HUB_4B["vision_config"] | {"out_hidden_size": width} | vision
    return HUB_4B | {"text_config": text, "vision_config": vision, "tie_word_embeddings": tied}


_LARGE_TOWER = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
PUBLISHED = {
    "2B": resized(2048, 28, 16, 6144, tied=True),
    "4B": HUB_4B,
    "8B": resized(4096, 36, 32, 12288, **_LARGE_TOWER),
    "32B": resized(5120, 64, 64, 25600, **_LARGE_TOWER),
}
YARN = {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 262144}
SECTIONS = HUB_4B["text_config"]["rope_scaling"]


def changed(raw, **changes):
    """Return config.json with other fields of its parts, as `text_config__head_dim=64`."""
    raw = copy.deepcopy(raw)
    for name, value in changes.items():
        part, _, field = name.rpartition("__")
        (raw[part] if part else raw)[field] = value
    return raw


def saved_by_transformers_5(raw):
    """Return the same model as transformers 5 saves it: rotary embeddings in one dict, the head tied outside alone."""
    raw = copy.deepcopy(raw)
    text = raw["text_config"]
    text["rope_parameters"] = text.pop("rope_scaling") | {"rope_theta": text.pop("rope_theta")}
    text.pop("tie_word_embeddings")
    raw["vision_config"] |= {
        "model_type": "qwen3_vl_vision",
        "rope_parameters": {"rope_type": "axial", "rope_theta": 10_000.0},
    }
    return raw


def test_published_config():
    config = read(HUB_4B)
    assert config.vision == VisionConfig(
        width=1024, layers=24, heads=16, mlp_width=4096, deepstack_layers=(5, 11, 17), learned_positions=48**2
    )
    assert (config.rope_sections, config.interleaved_sections, config.rope_theta) == ((24, 20, 20), True, 5e6)
    assert (config.tied_head, config.qk_norm, config.qkv_bias, config.head_size) == (True, True, False, 128)
    assert (config.vision.values_per_patch, config.vision.patches_per_window) == (1536, 4)
    assert (config.heads * config.head_size, config.max_positions) == (4096, 262_144)


# Counts are those in the metadata of the published checkpoints.
@pytest.mark.parametrize(
    "size, count", [("2B", 2_127_532_032), ("4B", 4_437_815_808), ("8B", 8_767_123_696), ("32B", 33_357_390_064)]
)
def test_published_models_have_as_many_parameters(size, count):
    shapes = jax.tree.leaves(decoder.abstract_params(read(PUBLISHED[size])))
    assert sum(math.prod(x.shape) for x in shapes) == count


def test_configs_of_transformers_4_and_5_are_equal():
    for raw in PUBLISHED.values():
        assert read(saved_by_transformers_5(raw)) == read(raw)


def test_defaults_that_transformers_leaves_out():
    raw = changed(HUB_4B, text_config__hidden_size=3584, text_config__num_key_value_heads=32, text_config__head_dim=128)
    raw["vision_config"] = {"model_type": "qwen3_vl_vision"}
    whole = copy.deepcopy(raw)
    whole["vision_config"] |= HUB_4B["vision_config"] | _LARGE_TOWER | {"out_hidden_size": 3584}
    for field in ("vocab_size", "head_dim", "num_attention_heads", "num_key_value_heads", "rms_norm_eps"):
        raw["text_config"].pop(field)
    assert read(raw) == read(whole)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False, "text_config__tie_word_embeddings": False},
        {"image_token_id": 5, "vision_start_token_id": 6, "vision_end_token_id": 7},
        {"text_config__rope_scaling": SECTIONS | YARN},
        {"text_config__attention_bias": True},
        {"vision_config__deepstack_visual_indexes": []},
    ],
)
def test_written_config_is_read_back(changes):
    config = read(changed(HUB_4B, **changes))
    assert read(families.raw_config(config)) == config
    assert families.family_of(config) == "qwen3_vl"


def test_sections_beside_a_scaling():
    """The recipe for contexts of a million tokens."""
    config = read(changed(HUB_4B, text_config__rope_scaling=SECTIONS | YARN))
    assert config.rope_scaling == RopeScaling("yarn", 3.0, 262_144)
    assert config.rope_sections == (24, 20, 20) and config.max_positions == 3 * 262_144


def test_all_errors_are_listed_at_once():
    raw = changed(
        HUB_4B,
        image_token_id="<image>",
        hidden_size=2560,
        text_config__hidden_act="gelu",
        text_config__surprise=1,
        vision_config__depth=0,
        vision_config__hidden_act="gelu",
        vision_config__out_hidden_size=1024,
        vision_config__window_size=112,
    )
    errors = "\n".join(families.config_errors(raw))
    for words in (
        "image_token_id = '<image>'",
        "hidden_size = 2560, which this family does not have",
        "hidden_act = 'gelu'; supported: 'silu'",
        "surprise = 1, which",
        "vision_config.depth = 0",
        "vision_config.hidden_act = 'gelu'; supported: 'gelu_pytorch_tanh'",
        "vision_config.out_hidden_size = 1024",
        "vision_config.window_size = 112, which",
    ):
        assert words in errors, errors


@pytest.mark.parametrize(
    "field, value, words",
    [
        ("vision_config", None, "vision_config = None; supported: an object"),
        ("text_config", "qwen3", "text_config = 'qwen3'; supported: an object"),
        ("text_config__model_type", "qwen3", "text_config.model_type = 'qwen3'; supported: 'qwen3_vl_text'"),
        ("vision_config__model_type", "siglip", "vision_config.model_type = 'siglip'; supported: 'qwen3_vl_vision'"),
        ("tie_word_embeddings", False, "tie_word_embeddings is False in config.json, True in its text_config"),
        ("text_config__rope_scaling", None, "mrope_section = None; supported: three numbers"),
        ("text_config__rope_scaling", SECTIONS | {"mrope_section": [24, 20, 21]}, "half a head"),
        ("text_config__rope_scaling", SECTIONS | {"mrope_section": [8, 28, 28]}, "about as many numbers"),
        ("text_config__rope_scaling", SECTIONS | {"mrope_interleaved": False}, "interleaved = False; supported: True"),
        ("text_config__rope_scaling", {"mrope_section": [24, 20, 20]}, "interleaved = None; supported: True"),
        ("text_config__rope_scaling", SECTIONS | {"rope_type": "longrope"}, "longrope"),
        ("text_config__rope_theta", None, "rope_theta = None; supported: a number above 1 .versions of transformers"),
        ("vision_config__deepstack_visual_indexes", 5, "deepstack_visual_indexes = 5; supported: a list of layers"),
        ("vision_config__deepstack_visual_indexes", [5, 24], "deepstack_layers=.5, 24. must increase"),
        ("vision_config__deepstack_visual_indexes", [11, 5], "deepstack_layers=.11, 5. must increase"),
        ("text_config__num_hidden_layers", 2, "deepstack_visual_indexes = .* no more than num_hidden_layers"),
        ("vision_config__num_position_embeddings", 2300, "learned_positions=2300 must be a square"),
        ("vision_config__num_heads", 7, "width=1024 must be a multiple of 4"),
        ("vision_config__patch_size", [16, 16], "vision_config.patch_size = .16, 16.; supported: a positive integer"),
        ("vision_config__rope_parameters", {"rope_theta": 5.0}, "vision_config.rope_theta = 5.0; supported: 10000.0"),
        ("text_config__num_experts", 128, "num_experts"),
        ("model_type", "qwen3_vl_moe", "'qwen3_vl_moe' .Qwen3-VL with a mixture of experts"),
    ],
)
def test_single_errors(field, value, words):
    errors = "\n".join(families.config_errors(changed(HUB_4B, **{field: value})))
    assert re.search(words, errors), errors


@pytest.mark.parametrize(
    "changes", [{"qk_norm": False}, {"interleaved_sections": False}, {"rope_sections": (24, 20)}, {"qkv_bias": True}]
)
def test_config_that_the_family_does_not_have_is_rejected(changes):
    with pytest.raises(UserError, match="qwen3_vl"):
        families.raw_config(dataclasses.replace(read(HUB_4B), **changes))
