"""Rows that have ended leave the batch, and nothing else changes: tokens, log-probs, keys and values, compilations."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.aot.collectives import read_collectives
from mig_jax.distributed import sharding
from mig_jax.models import decoder, leaving, sampler
from mig_jax.policy.generate import Sampler
from mig_jax.policy.load import load_policy
from tests import tiny

CONFIG = decoder.DecoderConfig(vocab_size=19, width=16, layers=2, heads=4, kv_heads=2, head_size=4, mlp_width=24)
PROMPTS = sampler.Prompts(jnp.array([[0, 0, 7, 8, 9], [1, 2, 4, 6, 8], [0, 0, 0, 0, 11]]), jnp.array([2, 0, 4]))
TOKENS, GROUP = 24, 4


def tiny_sampler(chunks):
    """Return a sampler of 12 rows and 24 tokens; one id of six ends a completion."""
    tokenizer = SimpleNamespace(pad_id=0, eos_ids=(3, 5, 12))
    mesh = sharding.make_mesh({}, devices=jax.devices()[:1])
    policy = SimpleNamespace(config=CONFIG, tokenizer=tokenizer, is_token_v=None, mesh=mesh)
    return Sampler(policy, group_size=GROUP, max_new_tokens=TOKENS, temperature=1.0, kv_cache_chunks=chunks)


def assert_same(got, want, atol=1e-5):
    """Assert that completions are equal, and their caches where tokens are."""
    np.testing.assert_array_equal(got.token_bt, want.token_bt)
    np.testing.assert_array_equal(got.length_b, want.length_b)
    np.testing.assert_array_equal(got.is_truncated_b, want.is_truncated_b)
    np.testing.assert_allclose(got.logprob_bt, want.logprob_bt, atol=atol)
    assert [part.key_lbmsh.shape for part in got.cache] == [part.key_lbmsh.shape for part in want.cache]
    start = 0
    for part, other in zip(got.cache[1:], want.cache[1:], strict=True):
        end = start + part.key_lbmsh.shape[3]
        is_real_bs = np.arange(start, end)[None] < np.asarray(want.length_b)[:, None]
        for x, y in zip(part, other, strict=True):
            np.testing.assert_allclose(*(np.moveaxis(z, 2, 3)[:, is_real_bs] for z in (x, y)), atol=atol)
        start = end


def test_subset_sizes():
    assert leaving.subset_sizes(64) == (32, 16, 8) and leaving.subset_sizes(20) == (10,)
    assert leaving.subset_sizes(8) == leaving.subset_sizes(1) == ()


@pytest.mark.parametrize(
    ("chunks", "sizes", "decode_programs"), [(1, (6,), 2), pytest.param(2, (6, 3), 4, marks=pytest.mark.slow)]
)
def test_completions_are_the_same_without_those_that_have_ended(monkeypatch, chunks, sizes, decode_programs):
    """From 12 rows to 6, and to 3, which need the second chunk; a second call compiles nothing."""
    params = decoder.init_params(CONFIG, jax.random.key(1))
    monkeypatch.setattr(leaving, "subset_sizes", lambda rows: ())
    together = tiny_sampler(chunks)(params, PROMPTS, jax.random.key(0))
    assert sorted(together.length_b.tolist())[-4] < 12 < together.length_b.max(), "the seed must have a tail"
    monkeypatch.setattr(leaving, "subset_sizes", lambda rows: sizes)
    sample = tiny_sampler(chunks)
    assert_same(sample(params, PROMPTS, jax.random.key(0)), together)
    programs = (sample.decode, sample.leave, sample.rejoin_state, sample.rejoin_chunk)
    compiled = [program._cache_size() for program in programs]
    assert compiled[0] == decode_programs
    sample(params, PROMPTS, jax.random.key(0))
    assert [program._cache_size() for program in programs] == compiled


@pytest.mark.slow
def test_programs_are_bounded(monkeypatch):
    """Whatever the lengths are, one program decodes a number of rows in a chunk."""
    params = decoder.init_params(CONFIG, jax.random.key(1))
    monkeypatch.setattr(leaving, "subset_sizes", lambda rows: (6,))
    sample = tiny_sampler(chunks=2)
    for seed in range(8):
        sample(params, PROMPTS, jax.random.key(seed))
    assert 2 <= sample.decode._cache_size() <= 4


def test_rows_are_taken_and_put_back_by_shard():
    """The drawing of the module: two shards of four rows, two of each kept."""
    is_open_b = jnp.array([1, 0, 0, 1, 0, 1, 0, 0], bool)
    index_sb = leaving._choose_rows(is_open_b, shards=2, size=2)
    np.testing.assert_array_equal(index_sb, [[0, 3], [1, 0]])
    x = jnp.arange(16).reshape(2, 8)
    taken = leaving._take_rows(x, index_sb, axis=1)
    np.testing.assert_array_equal(taken, [[0, 3, 5, 4], [8, 11, 13, 12]])
    put = leaving._put_rows(x, -taken, index_sb, axis=1)
    np.testing.assert_array_equal(put, [[0, 1, 2, -3, -4, -5, 6, 7], [-8, 9, 10, -11, -12, -13, 14, 15]])
    np.testing.assert_array_equal(leaving._put_rows(x[0], taken[0] * 0, index_sb, axis=0), [0, 1, 2, 0, 0, 0, 6, 7])


@pytest.mark.slow
def test_sharded_rows_leave_and_tokens_are_those_of_one_device(monkeypatch):
    """Four shards of rows on eight devices, two of them for the heads."""
    completions = []
    for shape, devices, sizes in (({}, 1, ()), ({"data": 2, "fsdp": 2, "tensor": 2}, 8, (4, 2))):
        mesh = sharding.make_mesh(shape, devices=jax.devices()[:devices])
        policy = load_policy(tiny.get_quickstart().model, mesh, seed=0)
        stops = tuple(n for n in range(policy.tokenizer.vocab_size) if n % 3 == 0)
        policy = dataclasses.replace(policy, tokenizer=dataclasses.replace(policy.tokenizer, eos_ids=stops))
        monkeypatch.setattr(leaving, "subset_sizes", lambda rows, sizes=sizes: sizes)
        prompt = policy.tokenizer.chat_prompt([{"role": "user", "content": "Last digits of 7 +5 -3 *3 +8 -2 +6"}])
        tokens = np.array([[0] * n + prompt[n:] for n in range(8)], np.int32)
        with jax.set_mesh(mesh):
            sample = Sampler(policy, group_size=4, max_new_tokens=16, temperature=1.0, kv_cache_chunks=2)
            prompts = sharding.to_mesh(sampler.Prompts(tokens, np.arange(8, dtype=np.int32)), mesh)
            completions.append(jax.device_get(sample(policy.params, prompts, jax.random.key(0))))
            if sizes:
                assert sample.decode._cache_size() > 2, "the seed must let rows leave"
    assert_same(completions[1], completions[0], atol=1e-4)


@pytest.mark.slow
def test_rows_stay_on_their_device():
    """No collective moves keys and values when rows leave or come back."""
    mesh = sharding.make_mesh({"data": 8})
    with jax.set_mesh(mesh):
        spec = jax.sharding.NamedSharding(mesh, sharding.kv_cache_spec(2, mesh))
        rows = sharding.batch_sharding(mesh)
        kv = jax.ShapeDtypeStruct((2, 64, 2, 16, 4), jnp.float32, sharding=spec)
        few = jax.ShapeDtypeStruct((2, 16, 2, 16, 4), jnp.float32, sharding=spec)
        index_sb = jax.ShapeDtypeStruct((8, 2), jnp.int32, sharding=rows)
        back = jax.jit(leaving.rejoin_chunk).lower(decoder.KVCache(kv, kv), decoder.KVCache(few, few), index_sb)
        take = jax.jit(lambda x, index_sb: sharding.constrain_kv_cache(leaving._take_rows(x, index_sb, axis=1)))
        for program in (back, take.lower(kv, index_sb)):
            assert not read_collectives(program.compile().as_text())
