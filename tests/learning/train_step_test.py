"""The train step: micro-batches, the optimizer's knobs, frozen parameters, skipped updates, and a golden step."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from mig_jax.learning import losses, train_step
from tests.learning.toy_training import KEY, LOSS_CONFIG, build_optimizer, random_batch, toy_logprobs, toy_params

LOSS = functools.partial(losses.total_loss, config=LOSS_CONFIG)


def run_step(batch, *, aggregate="responses", microbatches=1, steps=1, loss=LOSS, **optimizer):
    """Return the state and the metrics after some updates on one batch."""
    tx = build_optimizer(**optimizer)
    step = train_step.make_train_step(toy_logprobs, loss, tx, key=KEY, aggregate=aggregate, microbatches=microbatches)
    state = train_step.init_state(toy_params(), tx)
    for _ in range(steps):
        state, metrics = jax.jit(step)(state, batch)
    return state, metrics


# Each aggregate, loss and ratio once; all combinations are slow.
EACH_ONCE = [("tokens", "clip", "token"), ("responses", "dual_clip", "sequence"), ("constant", "cispo", "sequence")]
OTHERS = sorted({*itertools.product(losses.AGGREGATES, losses.LOSSES, losses.RATIOS)} - {*EACH_ONCE})


@pytest.mark.parametrize(
    "aggregate, policy_loss, ratio", [*EACH_ONCE, *(pytest.param(*names, marks=pytest.mark.slow) for names in OTHERS)]
)
def test_microbatches_are_exact(aggregate, policy_loss, ratio):
    """The masks are unequal, so a mean of means would be wrong."""
    config = dataclasses.replace(LOSS_CONFIG, policy_loss=policy_loss, ratio=ratio)
    loss = functools.partial(losses.total_loss, config=config)
    batch = random_batch(3, rows=8, with_sampler_weights=True)
    whole, metrics = run_step(batch, aggregate=aggregate, loss=loss)
    parts, part_metrics = run_step(batch, aggregate=aggregate, loss=loss, microbatches=8)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), whole, parts)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), metrics, part_metrics)


def test_microbatches_must_divide_the_rows():
    with pytest.raises(ValueError, match="4 rows cannot be split into 3"):
        run_step(random_batch(), microbatches=3)


@functools.cache
def plain_run():
    return run_step(random_batch(), steps=4)[0]


@pytest.mark.parametrize(
    "change",
    [{"peak_lr": 0.2}, {"warmup_steps": 0}, {"decay": "constant"}, {"weight_decay": 0.0}, {"clip_norm": 1e-9},
     {"b1": 0.5}, {"b2": 0.5}, {"total_steps": 5}, {"state_dtype": "bfloat16"}],
    ids=str,
)  # fmt: skip
def test_every_knob_of_the_optimizer_has_an_effect(change):
    batch = random_batch()
    changed = run_step(batch, steps=4, **change)[0]
    assert not np.allclose(plain_run().params["matrix"], changed.params["matrix"], rtol=1e-5, atol=0)


def test_optimizer_gets_float32_gradients_of_bfloat16_parameters():
    dtypes = []

    def record(gradients, params):
        del params
        dtypes.extend(x.dtype for x in jax.tree.leaves(gradients))
        return gradients

    tx = optax.stateless(record)
    step = train_step.make_train_step(toy_logprobs, LOSS, tx, key=KEY, aggregate="tokens", microbatches=1)
    state = train_step.init_state(optax.tree.cast(toy_params(), jnp.bfloat16), tx)
    state, _ = jax.jit(step)(state, random_batch())
    assert dtypes == [jnp.float32, jnp.float32]
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.bfloat16)}


# ------------------------------------------------------------------------------------------------------ mini-batches


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_minibatches_are_dealt_out_like_microbatches_and_hold_every_row_once(parts):
    batch = random_batch(rows=8)._replace(start_b=np.arange(8), images=np.arange(8.0)[:, None])
    take = jax.jit(train_step.take_minibatch, static_argnames="parts")
    found = [take(batch, n, parts=parts) for n in range(parts)]
    for n, part in enumerate(found):
        np.testing.assert_array_equal(part.start_b, np.arange(n, 8, parts))
        jax.tree.map(np.testing.assert_array_equal, part, jax.tree.map(lambda x, n=n: np.asarray(x)[n::parts], batch))


def test_minibatch_keeps_the_rows_of_a_question_with_its_images():
    batch = random_batch(rows=8)._replace(start_b=np.arange(8), images=np.arange(4)[:, None])
    part = jax.jit(train_step.take_minibatch, static_argnames="parts")(batch, 1, parts=2)
    np.testing.assert_array_equal(part.images, [[1], [3]])
    np.testing.assert_array_equal(part.start_b, [2, 3, 6, 7])


def test_one_minibatch_is_the_batch():
    batch = random_batch()
    assert train_step.take_minibatch(batch, 0, parts=1) is batch


def test_minibatches_must_divide_the_rows():
    with pytest.raises(ValueError, match="4 rows cannot be split into 3"):
        train_step.take_minibatch(random_batch(), 0, parts=3)


# ------------------------------------------------------------------------------------------------- frozen parameters

JAXPRS = (ClosedJaxpr, Jaxpr)
# Nothing else in the step has the shape 6 × 7, so an output of this shape would be a gradient or a moment of `wide`.
PARTLY = {"block": {"matrix": jnp.linspace(0.0, 1.0, 6), "wide": jnp.ones((6, 7))}, "bias": jnp.zeros(())}


def is_matrix(path):
    return path == "block/matrix"


def make_partial_step(trainable, *, tx=None, microbatches=1):
    """Return a step in which the frozen `wide` takes part in the forward pass, and its state."""
    tx = tx or build_optimizer(warmup_steps=0)

    def wide_logprobs(params, batch):
        matrix = params["block"]["wide"] @ jnp.linspace(0.0, 1.0, 7) * params["block"]["matrix"]
        return toy_logprobs({"matrix": matrix, "bias": params["bias"]}, batch)

    step = train_step.make_train_step(
        wide_logprobs, LOSS, tx, key=KEY, aggregate="tokens", microbatches=microbatches, trainable=trainable
    )
    return step, train_step.init_state(PARTLY, tx, trainable)


def output_shapes(jaxpr):
    """Return the shapes of everything that a program computes, at any depth."""
    inner = [x for eqn in jaxpr.eqns for x in jax.tree.leaves(list(eqn.params.values())) if type(x) in JAXPRS]
    parts = [output_shapes(x.jaxpr if type(x) is ClosedJaxpr else x) for x in inner]
    return {var.aval.shape for eqn in jaxpr.eqns for var in eqn.outvars}.union(*parts)


def test_partition_and_combine():
    trained, frozen = train_step.partition(PARTLY, is_matrix)
    assert trained == {"block": {"matrix": PARTLY["block"]["matrix"], "wide": None}, "bias": None}
    assert frozen == {"block": {"matrix": None, "wide": PARTLY["block"]["wide"]}, "bias": PARTLY["bias"]}
    combined = train_step.combine(trained, frozen)
    assert jax.tree.all(jax.tree.map(lambda a, b: a is b, combined, PARTLY))
    tree = {"block": {"matrix": True, "wide": False}, "bias": False}
    assert train_step.partition(PARTLY, tree) == (trained, frozen)


def test_partition_without_trained_parameters_raises():
    with pytest.raises(ValueError, match="no parameter is trained"):
        train_step.partition(PARTLY, lambda path: "lora" in path)


@pytest.mark.parametrize("microbatches", [1, 2])
def test_frozen_parameters_stay_bit_for_bit(microbatches):
    step, state = make_partial_step(is_matrix, microbatches=microbatches)
    after, _ = jax.jit(step)(state, random_batch())
    assert (after.params["block"]["matrix"] != PARTLY["block"]["matrix"]).all()
    np.testing.assert_array_equal(after.params["block"]["wide"], PARTLY["block"]["wide"])
    assert after.params["bias"] == 0
    assert jax.tree.structure(after.params) == jax.tree.structure(PARTLY)


def test_trained_parameters_do_not_depend_on_what_is_frozen():
    """Plain gradient descent, so the gradients themselves are compared."""
    batch = random_batch()
    updated = []
    for trainable in (train_step.train_all, is_matrix):
        step, state = make_partial_step(trainable, tx=optax.sgd(0.5))
        updated.append(jax.jit(step)(state, batch)[0].params["block"]["matrix"])
    np.testing.assert_allclose(*updated, rtol=1e-6)
    assert not np.allclose(updated[0], PARTLY["block"]["matrix"], rtol=1e-3)


def test_frozen_parameters_have_no_gradient_and_no_moments():
    batch, frozen_shape = random_batch(), (6, 7)
    whole, whole_state = make_partial_step(train_step.train_all)
    assert frozen_shape in output_shapes(jax.make_jaxpr(whole)(whole_state, batch).jaxpr)
    step, state = make_partial_step(is_matrix)
    assert frozen_shape not in output_shapes(jax.make_jaxpr(step)(state, batch).jaxpr)
    assert frozen_shape not in {x.shape for x in jax.tree.leaves(state.opt_state)}


# --------------------------------------------------------------------------------------------------- skipped updates


def run_batches(batches, *, microbatches):
    """Return the state after each batch, with the metrics of its update."""
    tx = build_optimizer()
    step = jax.jit(
        train_step.make_train_step(toy_logprobs, LOSS, tx, key=KEY, aggregate="tokens", microbatches=microbatches)
    )
    state = train_step.init_state(toy_params(), tx)
    history = []
    for batch in batches:
        state, metrics = step(state, batch)
        history.append((jax.device_get(state), jax.device_get(metrics)))
    return history


@pytest.mark.parametrize("microbatches", [1, 4])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_update_that_is_not_finite_is_skipped(poison, microbatches):
    """One bad number in one row; after two such batches the run is where it would be without them."""
    good = [random_batch(seed, rows=4) for seed in range(2)]
    bad = good[0]._replace(outcome_advantage_bt=good[0].outcome_advantage_bt.at[2].set(poison))
    history = run_batches([good[0], bad, bad, good[1]], microbatches=microbatches)
    without = run_batches(good, microbatches=microbatches)
    skipped = [(int(m["gradient/skipped"]), int(m["gradient/skipped_in_a_row"])) for _, m in history]
    assert skipped == [(0, 0), (1, 1), (2, 2), (2, 0)]
    for left, right in ((history[2], history[0]), (history[3], without[1])):
        for part in ("step", "params", "opt_state"):
            jax.tree.map(np.testing.assert_array_equal, *(getattr(state, part) for state, _ in (left, right)))
    assert int(history[3][0].step) == 2


def test_update_whose_gradient_norm_overflows_is_skipped():
    """Clipped by an infinite norm, it would be an update of zeros that still decays the moments."""
    batch = random_batch(0, rows=4)
    large = batch._replace(outcome_advantage_bt=batch.outcome_advantage_bt * 1e30)
    _, metrics = run_batches([large], microbatches=1)[0]
    assert np.isfinite(metrics["loss/total"])
    assert metrics["gradient/norm"] == np.inf
    assert metrics["gradient/skipped"] == 1


def test_update_whose_loss_alone_is_not_finite_is_skipped():
    def nan_loss(*args):
        loss, metrics = LOSS(*args)
        return loss, metrics | {"loss/total": jnp.nan * metrics["loss/total"]}

    tx = build_optimizer()
    step = train_step.make_train_step(toy_logprobs, nan_loss, tx, key=KEY, aggregate="tokens", microbatches=1)
    state, metrics = jax.jit(step)(train_step.init_state(toy_params(), tx), random_batch())
    assert np.isfinite(metrics["gradient/norm"])
    assert state.skipped == metrics["gradient/skipped"] == 1
    jax.tree.map(np.testing.assert_array_equal, state.params, toy_params())


# ------------------------------------------------------------------------------------------------------- golden step

# Loss, gradient norm and a parameter after two updates.
GOLDEN = [1.18757379, 0.85022408, 0.09980658]


def test_golden_step():
    state, metrics = run_step(random_batch(0), steps=2)
    found = [float(metrics["loss/total"]), float(metrics["gradient/norm"]), float(state.params["matrix"][0])]
    np.testing.assert_allclose(
        found,
        GOLDEN,
        rtol=1e-4,
        err_msg="The loss or the optimizer computes other numbers than before. If that is intended, replace GOLDEN by "
        f"these and give the reason in the commit: {found}",
    )
