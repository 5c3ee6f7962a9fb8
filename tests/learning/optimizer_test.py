"""Schedules by hand, and which parameters decay; `train_step_test` checks that every knob has an effect."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mig_jax.learning.optimizer import make_schedule
from tests.learning.toy_training import SCHEDULE, build_optimizer


@pytest.mark.parametrize(
    "decay, warmup_steps, expected",
    [
        ("constant", 3, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("constant", 0, [1, 1, 1, 1, 1, 1, 1, 1]),
        # (1 + cos(π i / 4)) / 2 for i = 0 … 4
        ("cosine", 3, [0.25, 0.5, 0.75, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0]),
    ],
)
def test_schedule_by_hand(decay, warmup_steps, expected):
    schedule = make_schedule(peak_lr=1.0, warmup_steps=warmup_steps, total_steps=7, decay=decay)
    np.testing.assert_allclose([schedule(step) for step in range(8)], expected, atol=1e-6)


def test_unknown_decay_raises():
    with pytest.raises(ValueError, match="unknown decay 'linear'; use 'constant' or 'cosine'"):
        make_schedule(**(SCHEDULE | {"decay": "linear"}))


def test_biases_and_norms_do_not_decay():
    tx = build_optimizer(warmup_steps=0, decay="constant")
    params = {"query": jnp.ones(2), "query_bias": jnp.ones(2), "mlp_norm": jnp.ones(2)}
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    updated = optax.apply_updates(params, updates)
    assert (updated["query"] < 1).all() and (updated["query_bias"] == 1).all() and (updated["mlp_norm"] == 1).all()
