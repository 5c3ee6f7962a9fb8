"""bfloat16 between updates: right on average where rounding to nearest stands still, half as large, and it learns."""

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
from tests.learning.losses_test import LOSS_CONFIG, random_batch

N = 20_000


def test_rounding_is_to_a_neighbour_and_right_on_average():
    low, high = 1.0, 1.0 + 2**-7  # neighbours in bfloat16
    for share, sign in ((0.25, 1), (0.25, -1), (0.0, 1)):
        x = jnp.full(N, sign * (low + share * (high - low)), jnp.float32)
        rounded = stochastic_rounding.cast_like([x], [x.astype(jnp.bfloat16)], jax.random.key(0))[0]
        assert rounded.dtype == jnp.bfloat16 and set(np.abs(rounded.astype(np.float32))) <= {low, high}
        assert np.mean(np.abs(rounded) == high) == pytest.approx(share, abs=0.02)


def test_float32_is_not_touched_and_leaves_have_noise_of_their_own():
    x = jnp.linspace(0.1, 0.2, N)
    wide, first, second = stochastic_rounding.cast_like([x] * 3, [x, *[x.astype(jnp.bfloat16)] * 2], jax.random.key(0))
    assert wide is x
    assert 0.1 < np.mean(np.asarray(first != second)) < 0.6


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_second_moment_reaches_the_square_of_the_gradient(dtype):
    """From 1 down to 0.25, at b2 = 0.999: rounded to nearest it would stay at 1, as optax's moments do."""
    adam = stochastic_rounding.scale_by_adam(b1=0.9, b2=0.999, dtype=dtype)
    gradient = {"w": jnp.full(256, 0.5)}

    def after(tx, state):
        state = state._replace(mu=jax.tree.map(lambda x: x + 0.5, state.mu), nu=jax.tree.map(lambda x: x + 1, state.nu))
        return jax.lax.fori_loop(0, 1000, lambda _, s: tx.update(gradient, s, gradient)[1], state)

    state = after(adam, adam.init(gradient))
    expected = 0.25 + 0.75 * 0.999**1000
    assert state.nu["w"].dtype == dtype
    assert float(state.nu["w"].astype(jnp.float32).mean()) == pytest.approx(expected, rel=0.01)
    assert float(state.mu["w"].astype(jnp.float32).mean()) == pytest.approx(0.5, rel=0.01)
    held = optax.scale_by_adam(b1=0.9, b2=0.999)
    nearest = after(held, held.init(optax.tree.cast(gradient, jnp.bfloat16)))
    assert (nearest.nu["w"] == 1).all()


def logprobs(params, batch):
    logprob_bt = jnp.broadcast_to(
        jax.nn.log_softmax(params["matrix"].astype(jnp.float32), axis=0).mean(1)[None], (4, 6)
    )
    return logprob_bt, jnp.ones_like(logprob_bt)


def trained(weight_dtype, state_dtype, *, lr, steps=100):
    tx = make_optimizer(lr, weight_decay=0.0, clip_norm=1e9, b1=0.9, b2=0.999, state_dtype=state_dtype)
    loss = functools.partial(losses.total_loss, config=LOSS_CONFIG)
    step = jax.jit(train_step.make_train_step(logprobs, loss, tx, aggregate="tokens", microbatches=1))
    start = jnp.repeat(jnp.linspace(0.1, 0.6, 6)[:, None], 5000, axis=1)
    state = train_step.init_state({"matrix": start.astype(weight_dtype)}, tx)
    begun = state.params["matrix"].astype(jnp.float32)
    for _ in range(steps):
        state, _ = step(state, random_batch(0, rows=4))
    return np.mean(state.params["matrix"].astype(np.float32) - begun, axis=1), state


@pytest.mark.parametrize(
    "weight_dtype, state_dtype", [("float32", "bfloat16"), ("bfloat16", ""), ("bfloat16", "float32")]
)
def test_weights_move_as_in_float32(weight_dtype, state_dtype):
    """At a rate of which a weight in bfloat16 would feel nothing: 100 updates of 1e-5, on weights of 0.1 to 0.6."""
    expected, _ = trained("float32", "", lr=1e-5)
    moved, state = trained(weight_dtype, state_dtype, lr=1e-5)
    assert np.abs(expected).max() > 5e-4
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    held = state.opt_state[1][0]
    assert held.mu["matrix"].dtype == held.nu["matrix"].dtype == (state_dtype or weight_dtype)
    assert state.params["matrix"].dtype == weight_dtype


def test_moments_of_a_run_are_half_as_large_and_cut_like_the_weights():
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    sizes = {}
    for state_dtype in ("", "bfloat16"):
        config = tiny.get_config(optimizer__state_dtype=state_dtype)
        policy = load_policy(config.model, mesh, seed=0)
        axes = decoder.param_axes(policy.config)
        placed = sharding.shardings(policy.params, axes, mesh)
        init, _ = update.build_step(policy, config, "train")
        held = init(policy.params).opt_state[1][0]
        for moments in (held.mu, held.nu):
            assert jax.tree.map(lambda x: x.sharding, moments) == placed
        sizes[state_dtype] = sum(x.nbytes for x in jax.tree.leaves((held.mu, held.nu)))
    assert sizes["bfloat16"] * 2 == sizes[""]
