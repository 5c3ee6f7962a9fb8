"""The shapes to compile for are those of the published models."""

import json
import math
from importlib import resources

import jax
import pytest

from mig_jax.models import decoder
from mig_jax.models.huggingface import config as hf_config

SHAPES = resources.files("mig_jax.assets") / "shapes"
# Elements of all tensors, as the models' pages on the hub state them.
PARAMETERS = {
    "qwen2_5_0_5b": 494_032_768,
    "qwen2_5_1_5b": 1_543_714_304,
    "qwen2_5_3b": 3_085_938_688,
    "qwen2_5_7b": 7_615_616_512,
    "qwen2_5_32b": 32_763_876_352,
    "qwen2_5_72b": 72_706_203_648,
    "qwen2_5_vl_3b": 3_754_622_976,
    "smollm3_3b": 3_075_098_624,
    "qwen3_30b_a3b": 30_532_122_624,
    "qwen3_vl_4b": 4_437_815_808,
    # Gemma 3 4B has 4,300,079,472 with its vision tower and projector.
    "gemma3_4b_text": 4_300_079_472 - 419_816_304,
}


def test_every_shape_is_counted():
    assert {path.name for path in SHAPES.iterdir() if path.is_dir()} == PARAMETERS.keys()


@pytest.mark.parametrize("name, count", PARAMETERS.items())
def test_number_of_parameters(name, count):
    config = hf_config.read_config(str(SHAPES / name))
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(decoder.abstract_params(config))) == count


def test_small_shapes_have_the_heads_and_positions_of_qwen():
    for name, heads in (("qwen2_5_0_5b", 14), ("qwen2_5_1_5b", 12)):
        stored = json.loads((SHAPES / name / "config.json").read_text())
        assert stored["hidden_size"] % heads == 0 and stored["num_attention_heads"] == heads
        assert (stored["num_key_value_heads"], stored["max_position_embeddings"]) == (2, 32768)
