"""Stochastic rounding: right on average where rounding to nearest stands still, and half the memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mig_jax.distributed import sharding
from mig_jax.learning import losses, stochastic_rounding, train_step
from mig_jax.learning.optimizer import make_optimizer
from mig_jax.models import decoder
from mig_jax.policy.load import load_policy
from mig_jax.trainer import update
from tests import tiny
from tests.learning.toy_training import KEY, LOSS_CONFIG, random_batch

N = 20_000


def test_rounds_to_a_neighbour_and_right_on_average():
    low, high = 1.0, 1.0 + 2**-7  # neighbours in bfloat16
    for share, sign in ((0.25, 1), (0.25, -1), (0.0, 1)):
        x = jnp.full(N, sign * (low + share * (high - low)), jnp.float32)
        rounded = stochastic_rounding.cast_like([x], [x.astype(jnp.bfloat16)], jax.random.key(0))[0]
        assert rounded.dtype == jnp.bfloat16 and set(np.abs(rounded.astype(np.float32))) <= {low, high}
        assert np.mean(np.abs(rounded) == high) == pytest.approx(share, abs=0.02)


def test_float32_is_unchanged_and_each_leaf_has_its_own_noise():
    x = jnp.linspace(0.1, 0.2, N)
    wide, first, second = stochastic_rounding.cast_like([x] * 3, [x, *[x.astype(jnp.bfloat16)] * 2], jax.random.key(0))
    assert wide is x
    assert 0.1 < np.mean(np.asarray(first != second)) < 0.6


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_second_moment_reaches_the_squared_gradient(dtype):
    """From 1 down towards 0.25, at b2 = 0.999; rounded to nearest it would stay at 1, as in optax."""
    gradient = {"w": jnp.full(256, 0.5)}

    def after_1000_updates(tx, state):
        state = state._replace(mu=jax.tree.map(lambda x: x + 0.5, state.mu), nu=jax.tree.map(lambda x: x + 1, state.nu))
        return jax.lax.fori_loop(0, 1000, lambda _, s: tx.update(gradient, s, gradient)[1], state)

    adam = stochastic_rounding.scale_by_adam(b1=0.9, b2=0.999, dtype=dtype, key=KEY)
    state = after_1000_updates(adam, adam.init(gradient))
    expected = 0.25 + 0.75 * 0.999**1000
    assert state.nu["w"].dtype == dtype
    assert float(state.nu["w"].astype(jnp.float32).mean()) == pytest.approx(expected, rel=0.01)
    assert float(state.mu["w"].astype(jnp.float32).mean()) == pytest.approx(0.5, rel=0.01)
    optax_adam = optax.scale_by_adam(b1=0.9, b2=0.999)
    nearest = after_1000_updates(optax_adam, optax_adam.init(optax.tree.cast(gradient, jnp.bfloat16)))
    assert (nearest.nu["w"] == 1).all()


def matrix_logprobs(params, batch):
    """Return log-probs of a policy whose six logits are each spread over 5000 equal parameters."""
    logprob_t = jax.nn.log_softmax(params["matrix"].astype(jnp.float32), axis=0).mean(1)
    logprob_bt = jnp.broadcast_to(logprob_t[None], (4, 6))
    return logprob_bt, jnp.ones_like(logprob_bt), logprob_bt


def train_matrix(param_dtype, state_dtype, *, lr, steps=100, key=KEY):
    """Return the change `[6, 5000]` of every parameter over some updates, and the last state."""
    tx = make_optimizer(lr, weight_decay=0.0, clip_norm=1e9, b1=0.9, b2=0.999, state_dtype=state_dtype, key=key)
    loss = functools.partial(losses.total_loss, config=LOSS_CONFIG)
    step = jax.jit(train_step.make_train_step(matrix_logprobs, loss, tx, key=key, aggregate="tokens", microbatches=1))
    start = jnp.repeat(jnp.linspace(0.1, 0.6, 6)[:, None], 5000, axis=1)
    state = train_step.init_state({"matrix": start.astype(param_dtype)}, tx)
    begun = state.params["matrix"].astype(jnp.float32)
    for _ in range(steps):
        state, _ = step(state, random_batch(0, rows=4))
    return state.params["matrix"].astype(np.float32) - begun, state


@functools.cache
def expected_change():
    return np.mean(train_matrix("float32", "", lr=1e-5)[0], axis=1)


@pytest.mark.parametrize(
    "param_dtype, state_dtype", [("float32", "bfloat16"), ("bfloat16", ""), ("bfloat16", "float32")]
)
def test_parameters_move_as_in_float32(param_dtype, state_dtype):
    """100 updates of 1e-5 on parameters of 0.1 to 0.6: rounded to nearest, bfloat16 would not move at all."""
    expected = expected_change()
    change, state = train_matrix(param_dtype, state_dtype, lr=1e-5)
    assert np.abs(expected).max() > 5e-4
    np.testing.assert_allclose(np.mean(change, axis=1), expected, atol=1e-4)
    adam_state = state.opt_state[1][0]
    assert adam_state.mu["matrix"].dtype == adam_state.nu["matrix"].dtype == (state_dtype or param_dtype)
    assert state.params["matrix"].dtype == param_dtype


def test_noise_is_independent_between_updates():
    """Each of n updates of size d moves a share p = d / u of the parameters by one unit u in the last place.

    The deviation over the parameters is √n u √(p (1 − p)). With the same noise at every update, the same parameters
    would move every time, and it would be √n times as large.
    """
    n, d = 100, 1e-5
    change, _ = train_matrix("bfloat16", "float32", lr=d, steps=n)
    u = 2.0 ** (np.floor(np.log2(np.linspace(0.1, 0.6, 6))) - 7)
    expected = n**0.5 * u * np.sqrt(d / u * (1 - d / u))
    inside = np.array([0, 1, 2, 3, 5])  # 0.5 is a power of two: below it u is half as large
    np.testing.assert_allclose(np.std(np.asarray(change), axis=1)[inside], expected[inside], rtol=0.1)


def test_rounding_keys_differ_by_use_update_and_key():
    """The key itself and the key folded by the update alone are what others may use for sampling."""
    keys = [stochastic_rounding.rounding_key(KEY, use, update) for use in ("params", "moments") for update in range(3)]
    keys += [stochastic_rounding.rounding_key(jax.random.key(8), "params", 0), KEY]
    keys += [jax.random.fold_in(KEY, update) for update in range(3)]
    assert len({tuple(np.ravel(jax.random.key_data(key))) for key in keys}) == len(keys)


@pytest.mark.parametrize("dtypes", [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_noise_depends_on_the_key_alone(dtypes):
    first, again, other = (train_matrix(*dtypes, lr=1e-3, steps=4, key=key)[0] for key in (KEY, KEY, jax.random.key(8)))
    np.testing.assert_array_equal(first, again)
    assert np.mean(first != other) > 0.01
    np.testing.assert_allclose(np.mean(first, axis=1), np.mean(other, axis=1), atol=1e-4)


def test_bfloat16_moments_take_half_the_memory_and_are_sharded_like_the_parameters():
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    sizes = {}
    for state_dtype in ("", "bfloat16"):
        config = tiny.get_config(optimizer__state_dtype=state_dtype)
        policy = load_policy(config.model, mesh, seed=0)
        axes = decoder.param_axes(policy.config)
        expected = sharding.shardings(policy.params, axes, mesh)
        init = update.build_step(policy, config, "train").init
        adam_state = init(policy.params).opt_state[1][0]
        for moments in (adam_state.mu, adam_state.nu):
            assert jax.tree.map(lambda x: x.sharding, moments) == expected
        sizes[state_dtype] = sum(x.nbytes for x in jax.tree.leaves((adam_state.mu, adam_state.nu)))
    assert sizes["bfloat16"] * 2 == sizes[""]
