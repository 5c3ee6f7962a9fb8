"""Qwen3-VL end to end, from a folder: rollout, probes, update, score and export, its tower frozen or trained."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.models.huggingface import config as hf_config
from mig_jax.policy.generate import Sampler, make_encode_images_fn
from mig_jax.policy.load import load_policy
from mig_jax.policy.logprobs import make_logprob_fn
from mig_jax.policy.prompts import encode_prompts
from mig_jax.policy.save import save_policy
from tests import tiny_qwen3_vl

# The same tests as for Qwen2.5-VL, with another policy.
from tests.trainer.vision_test import (  # noqa: F401
    batch_of,
    policy,
    problems,
    rollout,
    test_frozen_vision_tower_is_not_trained,
    test_micro_batches_with_images,
    test_probes_equal_prompts_written_out,
    test_run_from_sft_stage_to_score,
    test_the_samplers_logprobs_are_the_trainers,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen3_vl")
    tiny_qwen3_vl.write(folder)
    return folder


@pytest.fixture(scope="module")
def scenes(folder):
    return functools.partial(tiny_qwen3_vl.get_scenes, folder)


def test_all_features_are_computed_once(policy, problems, scenes):  # noqa: F811
    """With deepstack the prompts hold three features of each unit; the pixels are not kept."""
    prompts = encode_prompts(policy, scenes(), problems).prompts
    encoded = make_encode_images_fn(policy)(policy.params, prompts)
    assert encoded.images.pixels is None and encoded.images.feature_qid.shape == (4, 4, 3 * 16)


def test_features_of_every_layer_count(policy, rollout):  # noqa: F811
    batch = batch_of(*rollout)
    logprobs = jax.jit(make_logprob_fn(policy, temperature=1.0, chunk=8))
    want, features = logprobs(policy.params, batch)[0], batch.images.feature_qid
    for number in range(3):
        blank = features.at[..., 16 * number : 16 * (number + 1)].set(0)
        changed = batch._replace(images=batch.images._replace(feature_qid=blank))
        assert jnp.abs(logprobs(policy.params, changed)[0] - want).max() > 1e-4


def test_sharded_policy_samples_the_same_tokens(policy, problems, scenes):  # noqa: F811
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    sharded = load_policy(scenes().model, mesh, seed=0)
    found = []
    for each in (policy, sharded):
        prompts = encode_prompts(each, scenes(), problems).prompts
        with jax.set_mesh(each.mesh):
            prompts = jax.device_put(prompts, sharding.batch_sharding(each.mesh))
            sample = Sampler(each, kv_cache_chunks=1, group_size=2, max_new_tokens=8, temperature=0.0)
            found.append(jax.device_get(sample(each.params, prompts, jax.random.key(0))))
    np.testing.assert_array_equal(found[0].token_bt, found[1].token_bt)
    np.testing.assert_allclose(found[0].logprob_bt, found[1].logprob_bt, atol=1e-4)


def test_saved_model_has_the_base_models_files(policy, folder, scenes, tmp_path):  # noqa: F811
    """Limits of images, settings of videos and fields of both parts of config.json are kept as they came."""
    save_policy(policy, policy.params, str(tmp_path), config=scenes())
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert hf_config.read_config(tmp_path) == hf_config.read_config(folder)
    written = json.loads((tmp_path / "config.json").read_text())
    assert "hidden_size" not in written and written["text_config"]["eos_token_id"] == list(policy.tokenizer.eos_ids)
