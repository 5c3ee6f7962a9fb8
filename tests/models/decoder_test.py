"""The decoder equals a slow reference in numpy; caches, masks, flags, dtypes and rematerialization."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.distributed import sharding
from mig_jax.models import decoder, remat
from mig_jax.models.experts import ExpertsConfig
from tests.models.slow_decoder import slow_decoder

PLAIN = decoder.DecoderConfig(
    vocab_size=19, width=12, layers=3, heads=4, kv_heads=2, head_size=6, mlp_width=20, rope_theta=100.0, norm_eps=1e-3
)
FLAGS = {
    "llama": {},
    "llama_biased": {"qkv_bias": True, "o_bias": True},
    "qwen2": {"qkv_bias": True, "tied_head": False},
    "qwen3": {"qk_norm": True},
    "qwen3_moe": {"qk_norm": True, "experts": ExpertsConfig(count=5, per_token=2, width=7, is_normalized=True)},
    "smollm3": {"no_rope_layers": (0, 2)},
    "mistral": {"window": 3},
    "gemma3": {
        **{"window": 3, "full_layers": (1,), "window_rope_theta": 20.0, "score_divisor": 9.0, "qk_norm": True},
        **{"post_norms": True, "shifted_norms": True, "scaled_embedding": True, "activation": "gelu_tanh"},
    },
}
FULL = dataclasses.replace(PLAIN, qkv_bias=True, o_bias=True, qk_norm=True, tied_head=False, no_rope_layers=(1,))
ROWS, LENGTH = 2, 6


def random_params(config, seed=0):
    """Return parameters far from their initial values, including norms and biases."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jax.device_put((rng.normal(size=x.shape) * 0.4).astype(np.float32)), decoder.abstract_params(config)
    )


def inputs(seed=1):
    """Return tokens, positions with gaps, and a mask with padding anywhere in the first half."""
    rng = np.random.default_rng(seed)
    token_bt = rng.integers(0, PLAIN.vocab_size, (ROWS, LENGTH), np.int32)
    position_bt = np.cumsum(rng.integers(0, 4, (ROWS, LENGTH)), axis=1, dtype=np.int32)
    valid_bt = (rng.random((ROWS, LENGTH)) < 0.6) | (np.arange(LENGTH) >= LENGTH // 2)
    return token_bt, position_bt, valid_bt


@functools.partial(jax.jit, static_argnums=0)
def run_compiled(config, params, token_bt, position_bt, visible_bx, kv_cache=()):
    return decoder.bind(config, params)(token_bt, position_bt, visible_bx, kv_cache)


def run(*args):
    """Return the hidden states and the keys and values as numpy arrays, which compile nothing when they are cut."""
    return jax.tree.map(np.asarray, run_compiled(*args))


@pytest.mark.parametrize("family", FLAGS)
def test_decoder_equals_slow_reference(family):
    config = dataclasses.replace(PLAIN, **FLAGS[family])
    params, (token_bt, position_bt, valid_bt) = random_params(config), inputs()
    if config.window:  # without a cache, padding comes before the tokens or after them
        valid_bt = np.arange(LENGTH)[None] >= np.array([[2], [0]])
    assert not valid_bt.all()
    hidden_btd, _ = run(config, params, token_bt, position_bt, valid_bt)
    for row in range(ROWS):
        valid_t = np.asarray(valid_bt[row])
        visible_tt = np.tril(valid_t[None] == valid_t[:, None])
        want = slow_decoder(config, params, *(np.asarray(x[row]) for x in (token_bt, position_bt)), visible_tt)
        np.testing.assert_allclose(hidden_btd[row][valid_t], want[valid_t], atol=4e-5 if config.shifted_norms else 2e-5)


@pytest.mark.parametrize(
    "pieces", [*(pytest.param(pieces, marks=pytest.mark.slow) for pieces in ((4, 2), (3, 1, 2))), (3, 1, 1, 1)]
)
def test_cached_pieces_equal_full_forward(pieces):
    """The cache is a tuple of the keys and values that earlier calls returned."""
    params, (token_bt, position_bt, valid_bt) = random_params(FULL), inputs()
    want_btd, want = run(FULL, params, token_bt, position_bt, valid_bt)
    kv_cache, hidden, start = (), [], 0
    for size in pieces:
        part = slice(start, start + size)
        visible_bx = valid_bt[:, :start] if kv_cache else valid_bt[:, part]
        hidden_btd, new_kv = run(FULL, params, token_bt[:, part], position_bt[:, part], visible_bx, kv_cache)
        assert new_kv.key_lbmsh.shape == (FULL.layers, ROWS, FULL.kv_heads, size, FULL.head_size)
        kv_cache, start = (*kv_cache, new_kv), start + size
        hidden.append(hidden_btd)
    np.testing.assert_allclose(np.concatenate(hidden, 1), want_btd, atol=1e-5)
    for mine, full in zip(jax.tree.map(lambda *parts: np.concatenate(parts, 3), *kv_cache), want, strict=True):
        np.testing.assert_allclose(mine, full, atol=1e-5)


@pytest.mark.parametrize("family", [pytest.param("mistral", marks=pytest.mark.slow), "gemma3"])
def test_cached_pieces_with_windows_equal_full_forward(family):
    """Rows padded on the left, so that slots are not positions; windows are shorter than the cache."""
    config = dataclasses.replace(PLAIN, **FLAGS[family])
    params, (token_bt, position_bt, _) = random_params(config), inputs()
    valid_bt = np.arange(LENGTH)[None] >= np.array([[2], [0]])
    want_btd, want = run(config, params, token_bt, position_bt, valid_bt)
    kv_cache, hidden = (), []
    for part in (slice(0, 3), slice(3, 4), slice(4, 6)):
        visible_bx = valid_bt[:, : part.start] if kv_cache else valid_bt[:, part]
        hidden_btd, new_kv = run(config, params, token_bt[:, part], position_bt[:, part], visible_bx, kv_cache)
        kv_cache = (*kv_cache, new_kv)
        hidden.append(hidden_btd)
    got_btd = np.concatenate(hidden, 1)
    np.testing.assert_allclose(got_btd[valid_bt], want_btd[valid_bt], atol=5e-5)
    for mine, full in zip(jax.tree.map(lambda *parts: np.concatenate(parts, 3), *kv_cache), want, strict=True):
        got, expected = (x_lbmsh.swapaxes(2, 3)[:, valid_bt] for x_lbmsh in (mine, full))
        np.testing.assert_allclose(got, expected, atol=5e-5)


def test_masked_tokens_have_no_influence():
    """Padding, masked cache slots and later tokens do not change a bit; visible tokens do."""
    params, (token_bt, position_bt, valid_bt) = random_params(PLAIN), inputs()
    before, cache = run(PLAIN, params, token_bt, position_bt, valid_bt)
    other_bt = (token_bt + 1) % PLAIN.vocab_size
    after, _ = run(PLAIN, params, np.where(valid_bt, token_bt, other_bt), position_bt, valid_bt)
    np.testing.assert_array_equal(after[valid_bt], before[valid_bt])

    visible_bs = np.tile(np.arange(LENGTH) != 2, (ROWS, 1))
    before, _ = run(PLAIN, params, token_bt, position_bt, visible_bs, (cache,))
    changed = jax.tree.map(lambda x: np.where(np.arange(LENGTH)[:, None] == 2, np.float32(1e3), x), cache)
    np.testing.assert_array_equal(run(PLAIN, params, token_bt, position_bt, visible_bs, (changed,))[0], before)
    after, _ = run(
        PLAIN, params, np.where(np.arange(LENGTH) == 4, other_bt, token_bt), position_bt, visible_bs, (cache,)
    )
    np.testing.assert_array_equal(after[:, :4], before[:, :4])
    assert (np.abs(after - before)[:, 4:].max(-1) > 1e-3).all()


def test_sequences_that_share_a_cache_row():
    """Two sequences for each row, with different masks, equal sequences with rows of their own."""
    params, (token_bt, position_bt, valid_bt) = random_params(FULL), inputs()
    _, shared = run(FULL, params, token_bt, position_bt, valid_bt)
    rng = np.random.default_rng(3)
    token_rt = rng.integers(0, FULL.vocab_size, (2 * ROWS, 3), np.int32)
    position_rt = 40 + np.arange(3, dtype=np.int32)[None].repeat(2 * ROWS, 0)
    visible_rs = rng.random((2 * ROWS, LENGTH)) < 0.7
    own = jax.tree.map(lambda x: np.repeat(x, 2, axis=1), shared)
    want, _ = run(FULL, params, token_rt, position_rt, visible_rs, (own,))
    np.testing.assert_allclose(run(FULL, params, token_rt, position_rt, visible_rs, (shared,))[0], want, atol=1e-5)
    # A shared part, followed by one of their own.
    _, mine = run(FULL, params, token_rt, position_rt, visible_rs, (shared,))
    both_rs = np.concatenate([visible_rs, np.ones_like(token_rt, bool)], axis=1)
    got, want = (run(FULL, params, token_rt, position_rt + 3, both_rs, (first, mine))[0] for first in (shared, own))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_grouped_attention_is_multi_head_attention_with_repeated_keys():
    full = dataclasses.replace(PLAIN, kv_heads=PLAIN.heads, qkv_bias=True)
    grouped = dataclasses.replace(full, kv_heads=2)
    params = random_params(grouped)
    attention = dict(params["layers"]["attention"])
    for name in ("key", "value", "key_bias", "value_bias"):
        attention[name] = np.repeat(attention[name], PLAIN.heads // 2, axis=-2)
    repeated = {**params, "layers": {**params["layers"], "attention": attention}}
    np.testing.assert_allclose(run(full, repeated, *inputs())[0], run(grouped, params, *inputs())[0], atol=1e-5)


def test_only_differences_of_positions_matter():
    params, (token_bt, position_bt, valid_bt) = random_params(PLAIN), inputs()
    hidden = [run(PLAIN, params, token_bt, position_bt + shift, valid_bt)[0] for shift in (0, 1000)]
    np.testing.assert_allclose(*hidden, atol=1e-3)
    assert np.abs(run(PLAIN, params, token_bt, 2 * position_bt, valid_bt)[0] - hidden[0]).max() > 0.05


def loss(config, params, valid_bt):
    token_bt, position_bt, _ = map(jax.device_put, inputs())
    model = decoder.bind(config, params)
    hidden_btd, _ = model(token_bt, position_bt, valid_bt)
    return (jnp.einsum("btd,dv->btv", hidden_btd, model.unembed_dv()) ** 2).mean()


@pytest.mark.parametrize(
    "policy", [pytest.param(name, marks=() if name == "layer" else pytest.mark.slow) for name in remat.POLICIES]
)
def test_gradient_is_finite_for_fully_masked_rows_and_equal_with_remat(policy):
    valid_bt = inputs()[2] & (np.arange(ROWS) != 1)[:, None]
    compiled = jax.jit(jax.grad(loss, argnums=1), static_argnums=0)
    stored, recomputed = (
        compiled(dataclasses.replace(FULL, remat=name), random_params(FULL), valid_bt) for name in ("none", policy)
    )
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(stored))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), stored, recomputed)


def count_stored(policy):
    """Return how many numbers per token the forward pass stores in each layer for the backward pass."""
    config = dataclasses.replace(FULL, remat=policy, no_rope_layers=())  # whose flag is one more number per layer
    params, valid_bt = random_params(FULL), inputs()[2]
    forward = jax.make_jaxpr(lambda params: jax.vjp(lambda params: loss(config, params, valid_bt), params)[1])(params)
    (scan,) = [eqn for eqn in forward.eqns if eqn.primitive.name == "scan"]
    stacked = [v.aval.size for v in scan.outvars if v.aval.shape[0] == config.layers]
    return sum(stacked) / (config.layers * ROWS * LENGTH)


def test_embedding_gradients_are_summed_in_the_dtype_of_the_parameters():
    """A thousand ones sum to 1000; in bfloat16 the sum would stop at 256."""
    token_bt = jnp.zeros((1, 1000), int)
    gradient = jax.jit(
        jax.grad(lambda table_vd: sharding.embed_lookup(table_vd, token_bt, "bfloat16").astype(jnp.float32).sum())
    )
    np.testing.assert_array_equal(gradient(jnp.ones((3, 2))), [[1000, 1000], [0, 0], [0, 0]])


def test_stored_activations_of_each_remat_policy():
    c = FULL
    cache = products = 2 * c.kv_heads * c.head_size
    products += c.heads * c.head_size + c.width + 2 * c.mlp_width  # not the output of `down`: only a sum follows it
    assert count_stored("layer") == cache + c.width
    assert count_stored("matmuls") == cache + c.width + products
    assert count_stored("none") > cache + c.width + products + c.heads * LENGTH


def test_fully_masked_sequences_are_finite():
    params, (token_bt, position_bt, valid_bt) = random_params(FULL), inputs()
    _, cache = run(FULL, params, token_bt, position_bt, valid_bt & False)
    hidden_btd, _ = run(FULL, params, token_bt, position_bt, valid_bt & False, (cache,))
    assert np.isfinite(hidden_btd).all()


def test_windows_that_hide_nothing_cost_nothing():
    """The program is the same, letter by letter: for sequences as long as the window, and on a cache."""

    def programs(config):
        params, (token_bt, position_bt, valid_bt) = decoder.abstract_params(config), inputs()
        cache = jax.eval_shape(functools.partial(run_compiled, config), params, token_bt, position_bt, valid_bt)[1]
        caches = (), (cache,)
        return [run_compiled.lower(config, params, token_bt, position_bt, valid_bt, kv).as_text() for kv in caches]

    assert programs(dataclasses.replace(PLAIN, window=2 * LENGTH)) == programs(PLAIN)
    narrow = programs(dataclasses.replace(PLAIN, window=2 * LENGTH - 1))
    assert narrow[0] == programs(PLAIN)[0] and narrow[1] != programs(PLAIN)[1]


def test_program_does_not_grow_with_depth():
    def lines(layers):
        config = dataclasses.replace(PLAIN, layers=layers)
        return run_compiled.lower(config, decoder.abstract_params(config), *inputs()).as_text().count("\n")

    assert lines(2) == lines(24)


def test_bfloat16_computes_close_to_float32_from_the_same_parameters():
    config, params = dataclasses.replace(FULL, dtype="bfloat16"), random_params(FULL)
    hidden_btd, cache = run(config, params, *inputs())
    want_btd, _ = run(FULL, params, *inputs())
    assert hidden_btd.dtype == cache.key_lbmsh.dtype == decoder.bind(config, params).unembed_dv().dtype == jnp.bfloat16
    np.testing.assert_allclose(hidden_btd.astype(np.float32), want_btd, atol=0.1)


def test_initial_parameters():
    config = dataclasses.replace(FULL, vocab_size=400, width=64, param_dtype="bfloat16")
    params = jax.jit(decoder.init_params, static_argnums=0)(config, jax.random.key(0))
    attention = params["layers"]["attention"]
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
    deviations = [
        float(np.asarray(x, np.float32).std()) for x in (params["head"], attention["query"], attention["out"])
    ]
    out_inputs = config.heads * config.head_size
    expected = [64**-0.5, 64**-0.5, (out_inputs * 2 * config.layers) ** -0.5]
    assert deviations == pytest.approx(expected, rel=0.05)
    assert not np.array_equal(attention["query"][0], attention["query"][1])
    assert (np.asarray(attention["key_bias"]) == 0).all() and (np.asarray(params["norm"]) == 1).all()


@pytest.mark.parametrize("config", [PLAIN, FULL, dataclasses.replace(PLAIN, **FLAGS["qwen3_moe"])])
def test_abstract_parameters_and_axes_match_initial_parameters(config):
    params = jax.eval_shape(lambda: decoder.init_params(config, jax.random.key(0)))
    chex.assert_trees_all_equal_shapes_and_dtypes(params, decoder.abstract_params(config))
    ranks = jax.tree.map(lambda x, axes: (x.ndim, len(axes)), params, decoder.param_axes(config))
    assert all(rank == axes for rank, axes in jax.tree.leaves(ranks, is_leaf=lambda x: isinstance(x, tuple)))


def test_unembedding_is_the_embedding_when_tied():
    tied, untied = random_params(PLAIN), random_params(FULL)
    np.testing.assert_array_equal(decoder.bind(PLAIN, tied).unembed_dv(), tied["embedding"].T)
    np.testing.assert_array_equal(decoder.bind(FULL, untied).unembed_dv(), untied["head"])


def test_wrong_shapes_are_rejected():
    token_bt, position_bt, valid_bt = inputs()
    model = decoder.bind(PLAIN, random_params(PLAIN))
    with pytest.raises(AssertionError):
        model(token_bt, position_bt, valid_bt[:, 1:])
    with pytest.raises(ValueError, match="heads=4 must be a multiple of kv_heads=3"):
        dataclasses.replace(PLAIN, kv_heads=3)
    with pytest.raises(ValueError, match="head_size=5"):
        dataclasses.replace(PLAIN, head_size=5)
