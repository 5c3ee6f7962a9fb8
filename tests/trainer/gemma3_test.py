"""Gemma 3 end to end, from a folder: sampling, update and export, on one device and on eight."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.models import decoder
from mig_jax.models.huggingface import config as hf_config
from mig_jax.policy.generate import Sampler
from mig_jax.policy.load import load_policy
from mig_jax.policy.prompts import encode_prompts
from mig_jax.policy.save import save_policy
from mig_jax.rollout.problem_set import open_source
from mig_jax.trainer import train
from mig_jax.trainer.update import build_step
from tests import tiny
from tests.trainer.options_test import random_batch

pytestmark = pytest.mark.slow

# The window is shorter than prompts, and than the rows of `random_batch`.
GEMMA3 = {
    "window": 3, "full_layers": (1,), "window_rope_theta": 100.0, "rope_theta": 1e4, "score_divisor": 12.0,
    "qk_norm": True, "qkv_bias": False, "post_norms": True, "shifted_norms": True, "scaled_embedding": True,
    "activation": "gelu_tanh",
}  # fmt: skip
MESHES = [{"fsdp": 4, "tensor": 2}, {"data": 2, "fsdp": 2, "tensor": 2}]


def one_device():
    return sharding.make_mesh({}, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gemma3")
    config = tiny.get_config()
    policy = load_policy(config.model, one_device(), seed=0)
    shape = dataclasses.replace(policy.config, **GEMMA3)
    params = decoder.init_params(shape, jax.random.key(0))
    save_policy(dataclasses.replace(policy, config=shape), params, str(folder), config=config)
    return folder


def get_config(folder, **changes):
    return tiny.get_config(model__path=str(folder), model__tokenizer="", **changes)


@pytest.fixture(scope="module")
def plain(folder):
    return update(folder, one_device())


def update(folder, mesh, **changes):
    """Return the parameters after one update, and the norm of the gradient."""
    config = get_config(folder, **changes)
    policy = load_policy(config.model, mesh, seed=0)
    with jax.set_mesh(mesh):
        batch = random_batch(policy)  # before the parameters are donated to the state
        step = build_step(policy, config, "train")
        state, metrics = step.update(step.init(policy.params), batch)
    return jax.device_get(state.params), float(metrics["gradient/norm"])


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_update_on_eight_devices(folder, plain, mesh):
    params, norm = update(folder, sharding.make_mesh(mesh), optimizer__microbatches=2, model__remat="matmuls")
    assert norm == pytest.approx(plain[1], rel=1e-4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-4), params, plain[0])


def test_sharded_policy_samples_the_same_tokens(folder):
    config, found = get_config(folder), []
    problems = list(open_source(config, "chain:terms=3", split="test"))[:8]
    for mesh in (one_device(), sharding.make_mesh(MESHES[0])):
        policy = load_policy(config.model, mesh, seed=0)
        prompts = encode_prompts(policy, config, problems).prompts
        with jax.set_mesh(mesh):
            prompts = jax.device_put(prompts, sharding.batch_sharding(mesh))
            sample = Sampler(policy, kv_cache_chunks=2, group_size=2, max_new_tokens=16, temperature=0.0)
            found.append(jax.device_get(sample(policy.params, prompts, jax.random.key(0))))
    np.testing.assert_array_equal(found[0].token_bt, found[1].token_bt)
    np.testing.assert_allclose(found[0].logprob_bt, found[1].logprob_bt, atol=1e-4)


def test_run_to_export(folder, tmp_path):
    train.run(get_config(folder), str(tmp_path), mode="train", devices=jax.devices()[:1])
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    assert written["model_type"] == "gemma3_text" and written["sliding_window"] == 3
    assert hf_config.read_config(tmp_path / "model") == hf_config.read_config(folder)
