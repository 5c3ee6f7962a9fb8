"""The update: micro-batches change nothing, the optimizer's knobs do, and a golden step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mig_jax.learning import losses, train_step
from tests.learning.losses_test import WEIGHTS, random_batch

OPTIMIZER = {
    "peak_lr": 0.1, "warmup_steps": 2, "total_steps": 10, "decay": "cosine",
    "weight_decay": 0.1, "clip_norm": 1.0, "b1": 0.9, "b2": 0.99,
}  # fmt: skip


def logprobs(params, batch):
    """A policy of six logits and a shift: log-probs that depend on the position alone."""
    rows = batch.full_mask_bt.shape[0]
    logprob_t = jax.nn.log_softmax(params["matrix"]) + params["bias"]
    logprob_bt = jnp.broadcast_to(logprob_t[None], (rows, 6)) + 0.01 * batch.start_b[:, None]
    return logprob_bt, jnp.ones_like(logprob_bt)


def run_step(batch, *, over="responses", microbatches=1, steps=1, **optimizer):
    tx = train_step.make_optimizer(**(OPTIMIZER | optimizer))
    step = train_step.make_train_step(
        logprobs, functools.partial(losses.total_loss, **WEIGHTS), tx, mean_over=over, microbatches=microbatches
    )
    state = train_step.init_state({"matrix": jnp.linspace(0.0, 1.0, 6), "bias": jnp.zeros(())}, tx)
    for _ in range(steps):
        state, metrics = jax.jit(step)(state, batch)
    return state, metrics


@pytest.mark.parametrize("over", ["responses", "tokens"])
def test_microbatches_are_exact(over):
    """The masks are unequal, so that a mean of means would be wrong."""
    batch = random_batch(3, rows=4)
    whole, metrics = run_step(batch, over=over)
    parts, part_metrics = run_step(batch, over=over, microbatches=4)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), whole, parts)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), metrics, part_metrics)


def test_microbatches_must_divide_the_rows():
    with pytest.raises(ValueError, match="4 rows cannot be cut into 3"):
        run_step(random_batch(), microbatches=3)


@pytest.mark.parametrize(
    "change",
    [{"peak_lr": 0.2}, {"warmup_steps": 0}, {"decay": "constant"}, {"weight_decay": 0.0}, {"clip_norm": 1e-9},
     {"b1": 0.5}, {"b2": 0.5}, {"total_steps": 5}],
    ids=str,
)  # fmt: skip
def test_every_knob_of_the_optimizer_matters(change):
    batch = random_batch()
    plain, changed = run_step(batch, steps=4)[0], run_step(batch, steps=4, **change)[0]
    assert not np.allclose(plain.params["matrix"], changed.params["matrix"], rtol=1e-5, atol=0)


def test_biases_and_norms_do_not_decay():
    tx = train_step.make_optimizer(**(OPTIMIZER | {"warmup_steps": 0, "decay": "constant"}))
    params = {"query": jnp.ones(2), "query_bias": jnp.ones(2), "mlp_norm": jnp.ones(2)}
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    moved = optax.apply_updates(params, updates)
    assert (moved["query"] < 1).all() and (moved["query_bias"] == 1).all() and (moved["mlp_norm"] == 1).all()


def test_unknown_decay_is_refused():
    with pytest.raises(ValueError, match="'constant' or 'cosine'"):
        train_step.make_optimizer(**(OPTIMIZER | {"decay": "linear"}))


def test_golden_step():
    state, metrics = run_step(random_batch(0), steps=2)
    found = [float(metrics["loss/total"]), float(metrics["gradient/norm"]), float(state.params["matrix"][0])]
    golden = GOLDEN
    np.testing.assert_allclose(
        found,
        golden,
        rtol=1e-4,
        err_msg="If these moved, the loss or the optimizer computes something else than before. When that is meant, "
        f"put the new numbers here and say in the commit why: {found}",
    )


# Loss, gradient norm and a weight after two steps.
GOLDEN = [1.28478372, 1.14131927, 0.09974901]
