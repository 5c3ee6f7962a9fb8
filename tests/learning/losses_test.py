"""The hybrid loss: hand-computed values, loops as in the paper, reductions, and that every knob has an effect."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.learning import losses
from tests.learning.toy_training import LOSS_CONFIG, random_batch

KNOBS = [field.name for field in dataclasses.fields(losses.LossSettings)]


def loss_of(logprob_bt, batch, *, aggregate="responses", **changes):
    token_weights = losses.stream_token_weights(batch, aggregate=aggregate)
    config = dataclasses.replace(LOSS_CONFIG, **changes)
    return losses.total_loss(logprob_bt, jnp.ones_like(logprob_bt), batch, token_weights, config)


@pytest.fixture
def case():
    batch = random_batch()
    return batch.old_logprob_bt + 0.05 * jax.random.normal(jax.random.key(1), batch.old_logprob_bt.shape), batch


def test_clipped_surrogate_by_hand():
    # Ratios 1, 2, 2, 1/2, 1/2 with bounds 0.8 and 1.3: clipped where a further move would increase the objective.
    log_ratio = jnp.log(jnp.array([[1.0, 2.0, 2.0, 0.5, 0.5]]))
    advantage = jnp.array([[1.0, 1.0, -1.0, 1.0, -1.0]])
    value = losses.clipped_surrogate(log_ratio, jnp.zeros((1, 5)), advantage, clip_low=0.2, clip_high=0.3)
    np.testing.assert_allclose(value[0], [1.0, 1.3, -2.0, 0.5, -0.8], rtol=1e-6)


def test_clip_bounds_are_separate():
    log_ratio, advantage = jnp.log(jnp.array([[2.0, 0.5]])), jnp.array([[1.0, -1.0]])
    value = losses.clipped_surrogate(log_ratio, jnp.zeros((1, 2)), advantage, clip_low=0.1, clip_high=0.4)
    np.testing.assert_allclose(value[0], [1.4, -0.9], rtol=1e-6)


def test_huge_ratio_without_advantage_is_no_nan():
    value = losses.clipped_surrogate(
        jnp.array([[1e4]]), jnp.zeros((1, 1)), jnp.zeros((1, 1)), clip_low=0.2, clip_high=0.3
    )
    assert value == 0


def test_kl_estimate_by_hand():
    # r = π_other / πθ = 2 and 1/2: r − 1 − log r.
    kl = losses.kl_estimate(jnp.log(jnp.array([[0.25, 0.5]])), jnp.log(jnp.array([[0.5, 0.25]])))
    np.testing.assert_allclose(kl, [[1 - np.log(2), -0.5 + np.log(2)]], rtol=1e-6)


@pytest.mark.parametrize(
    "aggregate, expected",
    [("responses", [[1 / 2, 0, 0], [1 / 6, 1 / 6, 1 / 6], [0, 0, 0]]), ("tokens", [[0.25, 0, 0], [0.25] * 3, [0] * 3])],
)
def test_mean_weights_by_hand(aggregate, expected):
    mask = jnp.array([[True, False, False], [True, True, True], [False, False, False]])
    np.testing.assert_allclose(losses.mean_weights(mask, aggregate=aggregate), expected, rtol=1e-6)


@pytest.mark.parametrize("aggregate", ["responses", "tokens"])
def test_mean_weights_of_an_empty_mask_are_zero(aggregate):
    weights = losses.mean_weights(jnp.zeros((2, 3), bool), aggregate=aggregate)
    np.testing.assert_array_equal(weights, jnp.zeros((2, 3)))


def test_unknown_aggregate_raises():
    with pytest.raises(ValueError, match="unknown aggregate 'rows'; use 'responses' or 'tokens'"):
        losses.mean_weights(jnp.ones((1, 1), bool), aggregate="rows")


def test_total_loss_equals_loops_over_responses_and_tokens(case):
    """Every stream as the paper writes it: a mean over the tokens of a response, then over responses."""
    logprob, batch = case
    full, cot, gate = (np.array(x) for x in (batch.full_mask_bt, batch.cot_mask_bt, batch.gate_b))
    ratio = np.exp(np.array(logprob - batch.old_logprob_bt))

    def surrogate(advantage, mask):
        means = []
        for b in range(len(mask)):
            terms = []
            for t in np.flatnonzero(mask[b]):
                a, r = float(advantage[b, t]), ratio[b, t]
                terms.append(min(r * a, np.clip(r, 0.8, 1.3) * a))
            means.append(np.mean(terms))
        return -np.mean(means)

    sft = -sum(np.array(logprob)[b][full[b]].mean() for b in np.flatnonzero(gate)) / max(1, gate.sum())
    log_r = np.array(batch.ref_logprob_bt - logprob)
    kl = np.mean([(np.exp(log_r) - 1 - log_r)[b][full[b]].mean() for b in range(len(full))])
    expected = (
        0.7 * surrogate(batch.process_advantage_bt, cot)
        + 1.3 * surrogate(batch.outcome_advantage_bt, full)
        + 0.4 * sft
        + 0.2 * kl
    )
    np.testing.assert_allclose(loss_of(logprob, batch)[0], expected, rtol=1e-5)


def test_metrics_by_hand():
    """One completion of four tokens, three of them reasoning, then padding; the bounds of the ratio are 0.8 and 1.3."""
    ratio, entropy = np.array([1.0, 2.0, 0.5, 1.25]), np.array([1.0, 2.0, 4.0, 8.0])
    batch = random_batch(rows=1)._replace(
        full_mask_bt=jnp.arange(6)[None] < 4, cot_mask_bt=jnp.arange(6)[None] < 3, old_logprob_bt=jnp.full((1, 6), -1.0)
    )
    logprob_bt = jnp.pad(jnp.array(np.log(ratio) - 1, jnp.float32), (0, 2), constant_values=-7.0)[None]
    entropy_bt = jnp.pad(jnp.array(entropy, jnp.float32), (0, 2), constant_values=99.0)[None]
    token_weights = losses.stream_token_weights(batch, aggregate="tokens")
    _, metrics = losses.total_loss(logprob_bt, entropy_bt, batch, token_weights, LOSS_CONFIG)
    np.testing.assert_allclose(metrics["policy/entropy"], 15 / 4, rtol=1e-6)
    np.testing.assert_allclose(metrics["ratio/mean"], 4.75 / 4, rtol=1e-6)
    np.testing.assert_allclose(metrics["ratio/clipped"], 2 / 4, rtol=1e-6)
    np.testing.assert_allclose(metrics["kl/old"], np.mean(ratio - 1 - np.log(ratio)), rtol=1e-5)


def test_first_update_is_the_policy_gradient(case):
    """With ratio 1 the gradient of the surrogate is −Σ w A."""
    _, batch = case
    gradient = jax.grad(lambda x: loss_of(x, batch, alpha=0.0, beta=1.0, gamma=0.0, kl_coef=0.0)[0])(
        batch.old_logprob_bt
    )
    weight_bt = losses.stream_token_weights(batch, aggregate="responses").outcome_bt
    np.testing.assert_allclose(gradient, -weight_bt * batch.outcome_advantage_bt, atol=1e-7)


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_has_an_effect(case, name):
    logprob, batch = case
    logprob = logprob + jnp.where(jnp.arange(6)[None] % 2 == 0, 0.5, -0.5)  # ratios beyond both bounds
    assert loss_of(logprob, batch)[0] != loss_of(logprob, batch, **{name: getattr(LOSS_CONFIG, name) / 2})[0]


def test_aggregate_has_an_effect(case):
    assert loss_of(*case)[0] != loss_of(*case, aggregate="tokens")[0]


def test_grpo_ignores_process_and_imitation(case):
    logprob, batch = case
    other = batch._replace(process_advantage_bt=batch.process_advantage_bt * 9, gate_b=~batch.gate_b)
    grpo = {"alpha": 0.0, "gamma": 0.0}
    assert loss_of(logprob, batch, **grpo)[0] == loss_of(logprob, other, **grpo)[0]


def test_closed_gates_give_no_imitation(case):
    logprob, batch = case
    _, metrics = loss_of(logprob, batch._replace(gate_b=jnp.zeros(4, bool)))
    assert metrics["loss/sft"] == 0


@pytest.mark.parametrize("aggregate", ["responses", "tokens"])
def test_padding_has_no_effect(case, aggregate):
    logprob, batch = case

    def loss_and_gradient(logprob_bt, batch):
        return jax.value_and_grad(lambda x: loss_of(x, batch, aggregate=aggregate), has_aux=True)(logprob_bt)

    def pad_with(value, x_bt):
        return jnp.where(batch.full_mask_bt, x_bt, value)

    nan_batch = batch._replace(
        old_logprob_bt=pad_with(jnp.nan, batch.old_logprob_bt), ref_logprob_bt=pad_with(jnp.nan, batch.ref_logprob_bt)
    )
    expected = loss_and_gradient(logprob, batch)
    for found in (loss_and_gradient(pad_with(80.0, logprob), batch), loss_and_gradient(logprob, nan_batch)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), found, expected)


def test_no_reference_means_no_kl():
    batch = random_batch(with_reference=False)
    _, metrics = loss_of(batch.old_logprob_bt, batch)
    assert "kl/reference" not in metrics
