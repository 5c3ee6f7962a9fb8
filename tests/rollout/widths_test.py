"""Batches cut to their longest row: the same numbers, and few shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mig_jax.distributed import multihost, sharding
from mig_jax.learning import losses
from mig_jax.learning.train_step import init_state, make_train_step
from mig_jax.models import decoder
from mig_jax.models.sampler import Prompts
from mig_jax.models.vision import Images
from mig_jax.policy.load import Policy
from mig_jax.policy.logprobs import make_logprob_fn
from mig_jax.rollout import resample, widths
from mig_jax.text import tokenizer as tokenizers
from tests.learning.toy_training import LOSS_CONFIG, random_batch

PROMPT, LIMIT = 3, 8


def test_widths_by_hand():
    assert widths.possible_widths(42) == (42,)
    assert widths.possible_widths(74) == (74,)  # the quickstart's: a smaller one saves less than it compiles
    assert widths.possible_widths(128) == (64, 96, 128)
    assert widths.possible_widths(2048) == (256, 512, 1024, 1536, 2048)
    assert [widths.choose_width(n, 2048) for n in (1, 256, 257, 400, 2048)] == [256, 256, 512, 512, 2048]
    with pytest.raises(ValueError, match="2049 tokens do not fit into 2048"):
        widths.choose_width(2049, 2048)


@pytest.mark.parametrize("limit", [1, 63, 64, 65, 100, 511, 4096])
def test_there_are_at_most_five_widths_and_every_length_fits_into_the_smallest_one(limit):
    possible = widths.possible_widths(limit)
    assert len(possible) <= 5 and list(possible) == sorted(set(possible)) and possible[-1] == limit
    for longest in range(limit + 1):
        width = widths.choose_width(longest, limit)
        assert longest <= width and all(other < longest for other in possible if other < width)


def test_longest_of_all_is_that_of_every_process(monkeypatch):
    monkeypatch.setattr(multihost, "all_gather_objects", lambda value: [value, [7, 2], [3, 9]])
    assert widths.longest_of_all(5, 4) == [7, 9]


def prompts_of(lengths, slots):
    starts = np.array([slots - n for n in lengths], np.int32)
    column = np.arange(slots)[None]
    is_token = column >= starts[:, None]
    token_qs = np.where(is_token, 10 + column - starts[:, None], 0)
    images = Images(np.where(is_token, token_qs, -1), np.repeat(token_qs[..., None], 3, -1), starts)
    return Prompts(token_qs, starts, images)


def test_cut_prompts_keep_their_tokens_and_images():
    cut = widths.cut_prompts(prompts_of([70, 3], 256), 70)
    expected = prompts_of([70, 3], 128)
    for name in ("token_qs", "start_q"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(expected, name))
    np.testing.assert_array_equal(cut.images.index_qs, expected.images.index_qs)
    np.testing.assert_array_equal(cut.images.position_qs3, expected.images.position_qs3)
    assert widths.longest_prompt(cut) == 70


def test_merged_batches_are_as_wide_as_both():
    """Prompts of one batch are wider, completions of the other."""
    plain = narrow_batch()
    one, other = widths.widen(plain, PROMPT + 2, LIMIT), widths.widen(plain, PROMPT, LIMIT + 4)
    merged = resample.merge_batches(one, other, jnp.array([0, 3]))
    assert widths.widths_of(merged) == (PROMPT + 2, LIMIT + 4)
    both = widths.widen(plain, PROMPT + 2, LIMIT + 4)
    for x, y in zip(jax.tree.leaves(merged), jax.tree.leaves(both), strict=True):
        np.testing.assert_array_equal(x, y)


def narrow_batch():
    """Return a batch of 4 rows with prompts of 3 and completions of at most 8 tokens."""
    batch = random_batch(rows=4, width=LIMIT)
    token_bs = np.arange(4 * (PROMPT + LIMIT), dtype=np.int32).reshape(4, -1) % 20 + 40
    return batch._replace(token_bs=jax.device_put(token_bs), start_b=jnp.array([0, 1, 2, 0]))


@pytest.fixture(scope="module")
def policy():
    config = decoder.DecoderConfig(vocab_size=97, width=8, layers=1, heads=1, kv_heads=1, head_size=8, mlp_width=8)
    params = jax.jit(decoder.init_params, static_argnums=0)(config, jax.random.key(0))
    return Policy(
        tokenizers.build_character_tokenizer(), config, sharding.make_mesh({}, devices=jax.devices()[:1]), params
    )


def compiled_step(policy, aggregate):
    """Return a compiled step, with SGD, whose gradients are comparable."""
    tx = optax.sgd(1.0)
    step = make_train_step(
        make_logprob_fn(policy, temperature=0.7, chunk=8, need_sft=True, need_entropy=True),
        lambda *arguments: losses.total_loss(*arguments, LOSS_CONFIG),
        tx,
        key=jax.random.key(0),
        aggregate=aggregate,
        microbatches=2,
        token_limit=20,
    )
    return init_state(policy.params, tx), jax.jit(step)


@pytest.mark.parametrize(
    "aggregate", ["constant", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tokens", "responses"))]
)
def test_update_is_the_same_at_any_width_and_compiles_once_for_each(policy, aggregate):
    batch = narrow_batch()
    state, step = compiled_step(policy, aggregate)
    expected, expected_metrics = step(state, batch)
    wide = [widths.widen(batch, PROMPT + left, LIMIT + right) for left, right in ((0, 0), (5, 12))]
    assert [widths.widths_of(x) for x in wide] == [(3, 8), (8, 20)]
    for other in wide * 2:
        found, metrics = step(state, other)
        for x, y in zip(jax.tree.leaves(found.params), jax.tree.leaves(expected.params), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
        for name, value in metrics.items():
            np.testing.assert_allclose(value, expected_metrics[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert step._cache_size() == len(wide)
    change = [
        jnp.abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (expected.params, policy.params)), strict=True)
    ]
    assert max(change) > 1e-3


def test_constant_aggregate_divides_by_the_limit_not_by_the_width():
    batch = narrow_batch()
    weights = losses.stream_token_weights(batch, aggregate="constant", token_limit=20)
    np.testing.assert_allclose(weights.outcome_bt, batch.full_mask_bt / (4 * 20))
