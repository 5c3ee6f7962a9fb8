"""The balance of routers: its extremes, and that it is a term of the loss whose gradient evens them out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.learning import router
from mig_jax.learning.losses import TokenWeights


def test_extremes():
    """Even: 1 and 1/E. All tokens choose the same 2 of 8 experts with certainty: E/C = 4 and 1/C."""
    even_le, same_le = jnp.ones((3, 8)), jnp.zeros((3, 8)).at[:, :2].set(5.0)
    assert router.balance(even_le, 7 * even_le) == pytest.approx(1)
    assert router.largest_share(even_le) == pytest.approx(1 / 8)
    assert router.balance(same_le, same_le) == pytest.approx(4) and router.largest_share(same_le) == 0.5
    assert router.balance(jnp.zeros((3, 8)), jnp.zeros((3, 8))) == 0  # no token


def test_layers_are_balanced_one_by_one():
    """Two layers that each use half of the experts are uneven, although all are used alike together."""
    assigned_le = jnp.array([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    assert router.balance(assigned_le, assigned_le) == pytest.approx(2)


def test_sums_of_parts_are_summarized_as_the_whole():
    rng = np.random.default_rng(0)
    parts = [[jnp.array(rng.random((2, 4)) * size, jnp.float32) for size in (9, 5)] for _ in range(3)]

    def loss_fn(*inputs):
        return jnp.float32(len(inputs)), {"loss/total": jnp.float32(0)}

    shares = [0.5, 0.3, 0.2]  # of the tokens of the batch
    weights = [TokenWeights(*[jnp.full((2, 4), share / 8)] * 5) for share in shares]
    loss_fn = router.add_balance(loss_fn, coef=0.3)
    found = [loss_fn(None, None, None, load, None, w) for load, w in zip(parts, weights, strict=True)]
    for (loss, metrics), load, share in zip(found, parts, shares, strict=True):
        assert loss == metrics["loss/total"] == pytest.approx(5 + 0.3 * share * float(router.balance(*load)))
    metrics = router.summarize(jax.tree.map(lambda *x: sum(x), *[metrics for _, metrics in found]))
    whole = [sum(x) for x in zip(*parts, strict=True)]
    assert set(metrics) == {"loss/total", "router/balance", "router/largest_share"}
    assert metrics["router/balance"] == pytest.approx(float(router.balance(*whole)))
    assert metrics["router/largest_share"] == pytest.approx(float(router.largest_share(whole[0])))
    assert router.summarize({"loss/total": 1}) == {"loss/total": 1}
