"""Completions on a KV cache that grows in chunks, and parameters cast and gathered once per rollout."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.models import sampler
from mig_jax.policy.generate import Sampler, chunk_widths, make_rollout_params_fn, rollout_param_specs
from mig_jax.policy.load import load_policy
from tests import tiny


@pytest.fixture(scope="module")
def start():
    """The policy of the quickstart, on one device."""
    return load_policy(tiny.get_quickstart().model, sharding.make_mesh({}, devices=jax.devices()[:1]), seed=0)


@pytest.mark.parametrize("stop_early", [pytest.param(False, marks=pytest.mark.slow), True])
def test_chunked_cache_equals_a_whole_one(start, stop_early):
    """Tokens, keys and values are the same; chunks that are not needed are never allocated."""
    prompt = start.tokenizer.chat_prompt([{"role": "user", "content": "Last digits of 7 +5 -3 *3 +8 -2 +6"}])
    prompts = sampler.Prompts(jnp.array([prompt, prompt]), jnp.array([0, 3]))
    # Ids that end completions soon, or none.
    stops = tuple(n for n in range(start.tokenizer.vocab_size) if n % 4) if stop_early else ()
    tokenizer = dataclasses.replace(start.tokenizer, eos_ids=stops or start.tokenizer.eos_ids)
    policy = dataclasses.replace(start, tokenizer=tokenizer)
    options = {"group_size": 3, "max_new_tokens": 22, "temperature": 1.0}
    whole, grown = (
        Sampler(policy, kv_cache_chunks=chunks, **options)(start.params, prompts, jax.random.key(0))
        for chunks in (1, 3)
    )
    np.testing.assert_array_equal(whole.token_bt, grown.token_bt)
    np.testing.assert_allclose(whole.logprob_bt, grown.logprob_bt, atol=1e-5)
    slots = [chunk.key_lbmsh.shape[3] for chunk in grown.cache]
    length = len(prompt)
    assert slots == ([length, 6, 5, 11] if not stop_early else [length, 6]) and int(whole.length_b.max()) > 1
    joined = jnp.concatenate([chunk.key_lbmsh for chunk in grown.cache[1:]], axis=3)
    np.testing.assert_allclose(joined, whole.cache[1].key_lbmsh[:, :, :, : joined.shape[3]], atol=1e-5)


def test_chunk_widths():
    assert chunk_widths(2048, 4) == [256, 256, 512, 1024]
    assert chunk_widths(22, 3) == [6, 5, 11] and chunk_widths(22, 1) == [22]
    assert chunk_widths(3, 9) == [1, 1, 1]


def test_rollout_params_are_cast_and_gathered():
    model = tiny.get_config(model__compute_dtype="bfloat16").model
    policy = load_policy(model, sharding.make_mesh({"fsdp": 2}, devices=jax.devices()[:2]), seed=0)
    for gather in (False, True):
        params = make_rollout_params_fn(policy, gather=gather)(policy.params)
        assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(params))
        assert params["layers"]["mlp"]["up"].sharding.is_fully_replicated == gather
        specs = rollout_param_specs(policy, gather=gather)
        jax.tree.map(lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim) or pytest.fail(), params, specs)


def test_ready_params_are_not_copied(start):
    assert make_rollout_params_fn(start, gather=True)(start.params) is start.params
