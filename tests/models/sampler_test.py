"""Sampling: log-probs and cache equal those of a full forward pass; stop ids, keys, groups and temperature."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.models import decoder, sampler

CONFIG = decoder.DecoderConfig(
    vocab_size=19, width=16, layers=2, heads=4, kv_heads=2, head_size=4, mlp_width=24, qkv_bias=True
)
STOP_IDS = (3, 5)
PROMPTS = np.array([[0, 0, 7, 8, 9], [1, 2, 4, 6, 8], [0, 0, 0, 0, 11]])
START = np.array([2, 0, 4])


@pytest.fixture(scope="module")
def params():
    return jax.jit(decoder.init_params, static_argnums=0)(CONFIG, jax.random.key(1))


@functools.partial(jax.jit, static_argnames=("group_size", "max_new_tokens", "temperature", "stop_ids"))
def run(params, key, *, group_size=4, max_new_tokens=12, temperature=1.0, stop_ids=STOP_IDS):
    return sampler.sample(
        decoder.bind(CONFIG, params),
        sampler.Prompts(jnp.array(PROMPTS), jnp.array(START)),
        key,
        group_size=group_size,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        stop_ids=stop_ids,
        pad_id=0,
    )


@jax.jit
def full_forward(params, token_bs, start_b):
    model = decoder.bind(CONFIG, params)
    position_bs, valid_bs = sampler.row_positions(start_b, token_bs.shape[1])
    hidden, cache = model(token_bs, position_bs, valid_bs)
    return hidden @ model.unembed_dv(), cache


def rows_of(completions, group_size=4):
    prompts = np.repeat(PROMPTS, group_size, axis=0)
    return np.concatenate([prompts, completions.token_bt], axis=1), np.repeat(START, group_size)


@pytest.mark.parametrize("temperature", [pytest.param(1.0, marks=pytest.mark.slow), 0.7])
def test_logprobs_equal_full_forward(params, temperature):
    completions = run(params, jax.random.key(0), temperature=temperature)
    logits, _ = full_forward(params, *rows_of(completions))
    scores = np.asarray(logits, np.float64)[:, 4:-1] / temperature
    logprobs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    expected = np.take_along_axis(logprobs, np.asarray(completions.token_bt)[..., None], axis=2)[..., 0]
    is_sampled = np.arange(12)[None] < np.asarray(completions.length_b)[:, None]
    np.testing.assert_allclose(completions.logprob_bt, np.where(is_sampled, expected, 0.0), atol=1e-4)


def test_cache_equals_full_forward(params):
    completions = run(params, jax.random.key(0))
    _, cache = full_forward(params, *rows_of(completions))
    (prompt, chunk), cache = jax.tree.map(np.asarray, (completions.cache, cache))
    assert prompt.key_lbmsh.shape == (2, 3, 2, 5, 4) and chunk.key_lbmsh.shape == (2, 12, 2, 12, 4)
    joined = jax.tree.map(lambda p, c: np.concatenate([np.repeat(p, 4, axis=1), c], axis=3), prompt, chunk)
    slots = np.arange(cache.key_lbmsh.shape[3])[None]
    _, start_b = rows_of(completions)
    is_real = (slots >= start_b[:, None]) & (slots < 5 + np.asarray(completions.length_b)[:, None])
    is_real = is_real[None, :, None, :, None]
    for mine, full in zip(joined, cache, strict=True):
        np.testing.assert_allclose(mine * is_real, full * is_real, atol=1e-4)


def test_completions_end_at_any_stop_id(params):
    completions = run(params, jax.random.key(0))
    lengths, found = [], set()
    for tokens in np.array(completions.token_bt):
        stops = np.flatnonzero(np.isin(tokens, STOP_IDS))
        lengths.append(stops[0] + 1 if len(stops) else 12)
        found |= {tokens[stops[0]]} if len(stops) else set()
        assert (tokens[lengths[-1] :] == 0).all()
    np.testing.assert_array_equal(completions.length_b, lengths)
    np.testing.assert_array_equal(completions.is_truncated_b, ~np.isin(completions.token_bt, STOP_IDS).any(1))
    assert found == set(STOP_IDS), "the seed must produce both"


def test_decoding_stops_when_all_rows_have_ended(params):
    """If every id ends a completion, only the first slot after the prompt is written."""
    completions = run(params, jax.random.key(0), stop_ids=tuple(range(19)))
    assert (np.asarray(completions.length_b) == 1).all()
    written = np.abs(completions.cache[1].key_lbmsh).sum((0, 1, 2, 4)) > 0
    np.testing.assert_array_equal(written, [True] + [False] * 11)


def test_samples_differ_and_keys_matter(params):
    one, other = run(params, jax.random.key(0)), run(params, jax.random.key(1))
    assert len(np.unique(one.token_bt, axis=0)) == 12
    assert (np.asarray(one.token_bt) != other.token_bt).any(1).all()
    np.testing.assert_array_equal(one.token_bt, run(params, jax.random.key(0)).token_bt)


def test_greedy_takes_the_most_likely_token(params):
    completions = run(params, jax.random.key(0), temperature=0.0, group_size=1)
    logits, _ = full_forward(params, *rows_of(completions, group_size=1))
    is_sampled = np.arange(12)[None] < np.asarray(completions.length_b)[:, None]
    np.testing.assert_array_equal(
        np.where(is_sampled, completions.token_bt, 0), np.where(is_sampled, np.asarray(logits)[:, 4:-1].argmax(-1), 0)
    )


def test_temperature_sharpens(params):
    cold, warm = (np.asarray(run(params, jax.random.key(0), temperature=t).logprob_bt)[:, 0].mean() for t in (0.2, 1.0))
    assert cold > warm


def test_prompt_padding_does_not_matter(params):
    """The samples are the same whether the prompt is in a wide or a narrow row."""
    model = decoder.bind(CONFIG, params)
    options = {"group_size": 3, "max_new_tokens": 4, "temperature": 1.0, "stop_ids": STOP_IDS, "pad_id": 0}
    rows = ([[7, 8, 9]], [0]), ([[4, 4, 7, 8, 9]], [2])
    prompts = [sampler.Prompts(jnp.array(token), jnp.array(start)) for token, start in rows]
    sample = jax.jit(functools.partial(sampler.sample, model, **options))
    narrow, wide = (sample(p, jax.random.key(0)) for p in prompts)
    np.testing.assert_array_equal(narrow.token_bt, wide.token_bt)
    np.testing.assert_allclose(narrow.logprob_bt, wide.logprob_bt, atol=1e-5)


@pytest.mark.slow  # scoring_test scores on the rollout's cache
def test_probes_on_the_rollout_cache_equal_packed_scoring(params):
    """With the real decoder and cache, leaves see the same tokens as in a packed sequence."""
    completions = run(params, jax.random.key(0))
    token_bs, start_b = rows_of(completions)
    position_bs, valid_bs = sampler.row_positions(start_b, token_bs.shape[1])
    trunk = rewards.Trunk(position_bs, valid_bs)
    cut_bk = 5 + jnp.minimum(jnp.arange(0, 12, 3)[None], completions.length_b[:, None])
    cuts = rewards.Cuts(cut_bk, jnp.ones_like(cut_bk, bool))
    answers = rewards.pack_answers((1, 2), [(7, 8), (9,)], [(4,)], max_variants=2, max_tokens=2)
    answers = jax.tree.map(lambda x: jnp.repeat(jnp.array(x)[None], 12, axis=0), answers)
    model = decoder.bind(CONFIG, params)
    on_cache = jax.jit(functools.partial(rewards.score_on_cache, model, share_lead_in=True))
    packed = jax.jit(functools.partial(rewards.score_packed, model))
    ell_bk = on_cache(model.unembed_dv(), completions.cache, trunk, cuts, answers)
    packed_ell_bk, logprob_bs = packed(model.unembed_dv(), token_bs, trunk, cuts, answers)
    np.testing.assert_allclose(ell_bk, packed_ell_bk, atol=1e-5)
    is_sampled = jnp.arange(12)[None] < completions.length_b[:, None]
    np.testing.assert_allclose(completions.logprob_bt, jnp.where(is_sampled, logprob_bs[:, 5:], 0.0), atol=1e-4)


@pytest.mark.slow
def test_unrolled_layers_decode_the_same():
    """As on CPUs, with layers that differ, and fewer slots read than the chunk has."""
    config = dataclasses.replace(CONFIG, window=6, full_layers=(1,), no_rope_layers=(0,))
    params, prompts = (
        decoder.init_params(config, jax.random.key(1)),
        sampler.Prompts(jnp.array(PROMPTS), jnp.array(START)),
    )

    @functools.partial(jax.jit, static_argnames="platform")
    def sample(params, platform):
        model = decoder.bind(config, params)
        state, cache = sampler.prefill(model, prompts, group_size=4, max_new_tokens=300, pad_id=0)
        options = {"temperature": 1.0, "stop_ids": (99,), "pad_id": 0, "platform": platform}
        chunk = sampler.empty_chunk(cache, 12, 300)
        return sampler.decode(model, state, (cache,), chunk, jax.random.key(0), **options)

    (state, chunk), (want_state, want_chunk) = sample(params, "cpu"), sample(params, "tpu")
    np.testing.assert_array_equal(state.token_bt, want_state.token_bt)
    np.testing.assert_allclose(state.logprob_bt, want_state.logprob_bt, atol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), chunk, want_chunk)


@pytest.mark.parametrize(("platform", "shape", "arrays"), [("tpu", "2,12,2,256,4", 2), ("cpu", "12,2,256,4", 4)])
def test_decoding_copies_no_cache(params, platform, shape, arrays):
    """In the compiled loop, keys and values are only passed on, and updated in place: of all layers, or of each."""
    width = 256

    def start(params):
        model = decoder.bind(CONFIG, params)
        state, cache = sampler.prefill(
            model, sampler.Prompts(jnp.array(PROMPTS), jnp.array(START)), group_size=4, max_new_tokens=width, pad_id=0
        )
        return state, (cache,), sampler.empty_chunk(cache, 12, width)

    def decode(params, state, kv_cache, chunk, key):
        model, options = decoder.bind(CONFIG, params), {"temperature": 1.0, "stop_ids": STOP_IDS, "pad_id": 0}
        return sampler.decode(model, state, kv_cache, chunk, key, platform=platform, **options)

    compiled = jax.jit(decode, donate_argnums=(1, 3)).lower(params, *jax.eval_shape(start, params), jax.random.key(0))
    loops = compiled.compile().as_text().split("\nENTRY ")[0]
    operations = re.findall(rf"= f32\[{shape}\]\S* ([a-z-]+)\(", loops)
    assert set(operations) <= {"parameter", "get-tuple-element", "dynamic-update-slice", "fusion", "bitcast"}
    updates = operations.count("fusion") or operations.count("dynamic-update-slice")  # some versions fuse them
    assert updates == arrays, "one update of keys and one of values"
