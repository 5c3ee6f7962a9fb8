"""Log-probs of the trainer: those of the sampler, also where rows of the output matrix are no tokens; SFT log-probs."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.models import sampler
from mig_jax.policy.generate import Sampler
from mig_jax.policy.load import Policy, load_policy
from mig_jax.policy.logprobs import make_logprob_fn
from tests import tiny
from tests.learning.toy_training import random_batch

QUESTION = "Last digits of 7 +5 -3 *3 +8 -2 +6"
# Rows of a padded matrix: three times the row of a token that the policy often writes, so that they win.
COPIED, FACTOR = "0123456789", 3.0


@pytest.fixture(scope="module")
def start():
    """The policy of the quickstart, on one device."""
    return load_policy(tiny.get_quickstart().model, sharding.make_mesh({}, devices=jax.devices()[:1]), seed=0)


@pytest.fixture(scope="module")
def padded(start):
    """The policy with rows of the embedding, also its output matrix, that are no tokens."""
    assert start.config.tied_head
    table_vd = start.params["embedding"]
    rows = table_vd[jnp.array(start.tokenizer.encode(COPIED))] * FACTOR
    config = dataclasses.replace(start.config, vocab_size=start.config.vocab_size + len(COPIED))
    params = start.params | {"embedding": jnp.concatenate([table_vd, rows])}
    return dataclasses.replace(start, config=config, params=params)


class EveryRow(Policy):
    """A policy that takes every row of its output matrix for a token."""

    is_token_v = None


SAMPLES = {}


def sample(policy, temperature):
    """Return completions and their batch; once for each policy and temperature."""
    if (id(policy), temperature) not in SAMPLES:
        SAMPLES[id(policy), temperature] = policy, *draw_sample(policy, temperature)
    return SAMPLES[id(policy), temperature][1:]


def draw_sample(policy, temperature):
    prompt = policy.tokenizer.chat_prompt([{"role": "user", "content": QUESTION}])
    prompts = sampler.Prompts(jnp.array([[0, 0, *prompt]]), jnp.array([2]))
    draw = Sampler(policy, kv_cache_chunks=1, group_size=6, max_new_tokens=40, temperature=temperature)
    completions = draw(policy.params, prompts, jax.random.key(0))
    batch = random_batch()._replace(
        token_bs=jax.device_put(np.concatenate([np.repeat(prompts.token_qs, 6, axis=0), completions.token_bt], axis=1)),
        start_b=jax.device_put(np.repeat(prompts.start_q, 6)),
        full_mask_bt=jax.device_put(np.arange(40)[None] < np.asarray(completions.length_b)[:, None]),
    )
    return completions, batch


def logprobs_of(policy, batch, *, temperature, need_sft=False):
    logprobs = make_logprob_fn(policy, temperature=temperature, chunk=16, need_sft=need_sft, need_entropy=True)
    return jax.jit(logprobs)(policy.params, batch)


def test_rows_without_a_token_are_known(start, padded):
    assert start.is_token_v is None
    vocab_size = start.config.vocab_size
    assert padded.is_token_v.tolist() == [True] * vocab_size + [False] * len(COPIED)
    assert padded.config.vocab_size == vocab_size + len(COPIED)


def test_ids_without_bytes_are_no_tokens_but_every_end_of_sequence_is(start):
    eos = start.tokenizer.eos_ids
    empty = (3, 5, eos[0])
    token_bytes = tuple(b"" if id in empty else b"x" for id in range(start.tokenizer.vocab_size))
    tokenizer = dataclasses.replace(start.tokenizer, token_bytes=token_bytes, eos_ids=(*eos, 10**6))
    policy = dataclasses.replace(start, tokenizer=tokenizer)
    assert np.flatnonzero(~policy.is_token_v).tolist() == [3, 5]


@pytest.mark.parametrize("temperature", [0.0, *(pytest.param(t, marks=pytest.mark.slow) for t in (0.8, 1.0))])
def test_rows_without_a_token_are_never_sampled(start, padded, temperature):
    every_row = EveryRow(**{field.name: getattr(padded, field.name) for field in dataclasses.fields(padded)})
    vocab_size = start.config.vocab_size
    others, completions, expected = (sample(policy, temperature)[0] for policy in (every_row, padded, start))
    is_padding = np.asarray(others.token_bt) >= vocab_size
    assert is_padding.sum() / np.asarray(others.length_b).sum() > 0.05, "these rows would win"
    assert np.max(completions.token_bt) < vocab_size
    if temperature == 0:
        np.testing.assert_array_equal(completions.token_bt, expected.token_bt)


@pytest.mark.parametrize("temperature", [0.8, pytest.param(1.0, marks=pytest.mark.slow)])
def test_sampler_and_trainer_agree_about_a_padded_model(start, padded, temperature):
    completions, batch = sample(padded, temperature)
    logprob_bt, entropy_bt, _ = logprobs_of(padded, batch, temperature=temperature)
    np.testing.assert_allclose(logprob_bt, completions.logprob_bt, atol=1e-4)
    # They are those of the model without these rows, so that probabilities of tokens sum to 1.
    without = logprobs_of(start, batch, temperature=temperature)
    np.testing.assert_allclose(logprob_bt, without[0], atol=1e-5)
    np.testing.assert_allclose(entropy_bt, without[1], atol=1e-5)
    assert np.abs(logprob_bt).sum() > 1


def test_gradient_of_a_padded_model_is_finite_where_padding_is_no_token(padded):
    _, batch = sample(padded, 1.0)
    padding_id = padded.config.vocab_size - 1
    width = batch.full_mask_bt.shape[1]
    tokens = np.array(batch.token_bs)
    tokens[:, -width:][~np.asarray(batch.full_mask_bt)] = padding_id
    batch = batch._replace(token_bs=jax.device_put(tokens))
    assert (tokens == padding_id).sum() > 0
    logprobs = make_logprob_fn(padded, temperature=1.0, chunk=16, need_sft=False)
    value, gradient = jax.jit(jax.value_and_grad(lambda params: logprobs(params, batch)[0].sum()))(padded.params)
    assert all(np.isfinite(x).all() for x in (value, *jax.tree.leaves(gradient)))


@pytest.mark.parametrize("temperature, need_sft, is_same", [(0.7, True, False), (0.7, False, True), (1.0, True, True)])
def test_sft_logprobs_are_at_temperature_1(start, temperature, need_sft, is_same):
    _, batch = sample(start, 1.0)
    logprob_bt, _, sft_logprob_bt = logprobs_of(start, batch, temperature=temperature, need_sft=need_sft)
    expected_bt = logprobs_of(start, batch, temperature=temperature if is_same else 1.0)[0]
    np.testing.assert_allclose(sft_logprob_bt, expected_bt, atol=1e-6)
    assert np.allclose(logprob_bt, sft_logprob_bt, atol=1e-3) == is_same


def test_logits_are_computed_once_and_exponentials_once_for_each_temperature(start):
    _, batch = sample(start, 1.0)

    def count(operation, temperature, need_sft, need_entropy=True):
        logprobs = make_logprob_fn(
            start, temperature=temperature, chunk=16, need_sft=need_sft, need_entropy=need_entropy
        )
        program = str(jax.make_jaxpr(logprobs)(start.params, batch))
        return len(re.findall(rf":f32\[\d+,{start.config.vocab_size}\] = {operation}\b", program))

    for case in ((1.0, False, False), (1.0, False), (1.0, True), (0.7, False)):
        assert [count(operation, *case) for operation in ("dot_general", "exp")] == [1, 1]
    assert [count(operation, 0.7, True) for operation in ("dot_general", "exp")] == [1, 2]


def test_entropy_is_computed_only_where_it_is_asked_for(start):
    _, batch = sample(start, 1.0)
    with_it, without = (
        jax.jit(make_logprob_fn(start, temperature=0.7, chunk=16, need_entropy=need))(start.params, batch)
        for need in (True, False)
    )
    assert without[1] is None
    np.testing.assert_allclose(with_it[0], without[0], atol=1e-5)
    assert np.max(with_it[1]) > 0.01


@pytest.mark.parametrize("chunk", [7, 64, 10_000])
def test_memory_of_logits_does_not_depend_on_rows(start, chunk):
    _, batch = sample(start, 1.0)
    logprobs = make_logprob_fn(start, temperature=1.0, chunk=chunk, need_entropy=True)
    program = str(jax.make_jaxpr(jax.grad(lambda params: logprobs(params, batch)[0].sum()))(start.params))
    tokens = batch.full_mask_bt.size
    rows = {int(n) for n in re.findall(rf":f32\[(\d+),{start.config.vocab_size}\] = exp\b", program)}
    assert rows == {-(-tokens // -(-tokens // chunk))}
