"""Completions on a cache that grows, and weights that are made ready once for a rollout."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.models import sampler
from mig_jax.policy.generate import Sampler, chunk_widths, make_rollout_params, rollout_param_specs
from mig_jax.policy.load import load_policy
from tests import tiny


@pytest.fixture(scope="module")
def start():
    """The policy of the quickstart, on one device."""
    return load_policy(tiny.get_quickstart().model, sharding.make_mesh({}, devices=jax.devices()[:1]), seed=0)


@pytest.mark.parametrize("stop_early", [False, True])
def test_a_cache_that_grows_is_one_that_was_there(start, stop_early):
    """The same tokens and the same keys and values; what is not needed is never there."""
    prompt = start.tokenizer.chat_prompt([{"role": "user", "content": "Last digits of 7 +5 -3 *3 +8 -2 +6"}])
    prompts = sampler.Prompts(jnp.array([prompt, prompt]), jnp.array([0, 3]))
    # Ids that end completions soon, or none.
    stops = tuple(n for n in range(start.tokenizer.vocab_size) if n % 4) if stop_early else ()
    tokenizer = dataclasses.replace(start.tokenizer, eos_ids=stops or start.tokenizer.eos_ids)
    policy = dataclasses.replace(start, tokenizer=tokenizer)
    options = {"group_size": 3, "max_new_tokens": 22, "temperature": 1.0}
    whole, grown = (
        Sampler(policy, kv_cache_chunks=parts, **options)(start.params, prompts, jax.random.key(0)) for parts in (1, 3)
    )
    np.testing.assert_array_equal(whole.token_bt, grown.token_bt)
    np.testing.assert_allclose(whole.logprob_bt, grown.logprob_bt, atol=1e-5)
    slots = [part.key_lbsmh.shape[2] for part in grown.cache]
    length = len(prompt)
    assert slots == ([length, 6, 5, 11] if not stop_early else [length, 6]) and int(whole.length_b.max()) > 1
    joined = jnp.concatenate([part.key_lbsmh for part in grown.cache[1:]], axis=2)
    np.testing.assert_allclose(joined, whole.cache[1].key_lbsmh[:, :, : joined.shape[2]], atol=1e-5)


def test_widths_of_a_growing_cache():
    assert chunk_widths(2048, 4) == [256, 256, 512, 1024]
    assert chunk_widths(22, 3) == [6, 5, 11] and chunk_widths(22, 1) == [22]
    assert chunk_widths(3, 9) == [1, 1, 1]


def test_weights_to_sample_with_are_rounded_and_gathered_once():
    model = tiny.get_config(model__compute_dtype="bfloat16").model
    policy = load_policy(model, sharding.make_mesh({"fsdp": 2}, devices=jax.devices()[:2]), seed=0)
    for gather in (False, True):
        weights = make_rollout_params(policy, gather=gather)(policy.params)
        assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(weights))
        assert weights["layers"]["mlp"]["up"].sharding.is_fully_replicated == gather
        announced = rollout_param_specs(policy, gather=gather)
        jax.tree.map(lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim) or pytest.fail(), weights, announced)


def test_weights_that_are_ready_are_not_copied(start):
    assert make_rollout_params(start, gather=True)(start.params) is start.params
