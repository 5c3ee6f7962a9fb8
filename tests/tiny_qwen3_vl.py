"""A tiny Qwen3-VL with random parameters, as a folder that runs start from."""

import dataclasses
import json

import jax

from mig_jax.distributed import sharding
from mig_jax.models import decoder
from mig_jax.models.qwen3_vl import VisionConfig
from mig_jax.policy import images
from mig_jax.policy.load import load_policy
from mig_jax.policy.save import save_policy
from tests import tiny

# As the hub's files are, with the limits of the family; a run has narrower ones.
PROCESSOR = {
    "size": {"longest_edge": 16_777_216, "shortest_edge": 3136},
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "Qwen3VLProcessor",
    "image_processor_type": "Qwen2VLImageProcessorFast",
}


def write(folder):
    """Write the model, the character tokenizer and the image processor; two of three layers of the tower are tapped."""
    config = tiny.get_scenes()
    base = load_policy(config.model, sharding.make_mesh({}, devices=jax.devices()[:1]), seed=0)
    tower = VisionConfig(16, 3, 2, 16, (0, 2), 16, patch_size=14, **images.image_tokens(base.tokenizer))
    # The feature that is added after the last layer would change no token but those of images.
    changes = {
        "layers": 3,
        "rope_sections": (2, 1, 1),
        "interleaved_sections": True,
        "qkv_bias": False,
        "qk_norm": True,
    }
    shape = dataclasses.replace(base.config, vision=tower, **changes)
    params = jax.jit(lambda key: decoder.init_params(shape, key))(jax.random.key(0))
    save_policy(dataclasses.replace(base, config=shape), params, str(folder), config=config)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    (folder / "video_preprocessor_config.json").write_text(json.dumps({"fps": 2, "size": {"longest_edge": 25_165_824}}))


def get_scenes(folder, **changes):
    """Return the config of a run from this folder."""
    return tiny.get_scenes(model__path=str(folder), model__tokenizer="", **changes)
