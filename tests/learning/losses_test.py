"""The loss by hand, its reductions, and that every weight of it matters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.learning import losses

LOSS_CONFIG = losses.LossConfig(alpha=0.7, beta=1.3, gamma=0.4, kl_coef=0.2, clip_low=0.2, clip_high=0.3)


def random_batch(seed=0, rows=4, width=6, with_reference=True):
    rng = np.random.default_rng(seed)
    length = rng.integers(2, width + 1, rows)
    full = np.arange(width)[None] < length[:, None]
    cot = full & (np.arange(width)[None] < length[:, None] - 1)

    def noise():
        return jnp.array(rng.normal(size=(rows, width)), jnp.float32)

    return losses.Batch(
        token_bs=jnp.zeros((rows, width + 2), jnp.int32),
        start_b=jnp.zeros(rows, jnp.int32),
        full_mask_bt=jnp.array(full),
        cot_mask_bt=jnp.array(cot),
        old_logprob_bt=noise() * 0.1 - 1,
        ref_logprob_bt=noise() * 0.1 - 1 if with_reference else None,
        process_advantage_bt=jnp.where(cot, noise(), 0.0),
        outcome_advantage_bt=jnp.where(full, noise(), 0.0),
        gate_b=jnp.array([True, False, True, False])[:rows],
    )


def loss_of(logprob_bt, batch, *, aggregate="responses", **changes):
    token_weights = losses.stream_token_weights(batch, aggregate=aggregate)
    config = dataclasses.replace(LOSS_CONFIG, **changes)
    return losses.total_loss(logprob_bt, jnp.ones_like(logprob_bt), batch, token_weights, config)


@pytest.fixture
def case():
    batch = random_batch()
    return batch.old_logprob_bt + 0.05 * jax.random.normal(jax.random.key(1), batch.old_logprob_bt.shape), batch


def test_clipped_surrogate_by_hand():
    # Ratios 1, 2, 2, 1/2, 1/2 with bounds 0.8 and 1.3: what would move on in its direction is cut off.
    log_ratio = jnp.log(jnp.array([[1.0, 2.0, 2.0, 0.5, 0.5]]))
    advantage = jnp.array([[1.0, 1.0, -1.0, 1.0, -1.0]])
    value = losses.clipped_surrogate(log_ratio, jnp.zeros((1, 5)), advantage, clip_low=0.2, clip_high=0.3)
    np.testing.assert_allclose(value[0], [1.0, 1.3, -2.0, 0.5, -0.8], rtol=1e-6)


def test_clip_bounds_are_separate():
    log_ratio, advantage = jnp.log(jnp.array([[2.0, 0.5]])), jnp.array([[1.0, -1.0]])
    value = losses.clipped_surrogate(log_ratio, jnp.zeros((1, 2)), advantage, clip_low=0.1, clip_high=0.4)
    np.testing.assert_allclose(value[0], [1.4, -0.9], rtol=1e-6)


@pytest.mark.parametrize(
    "over, expected",
    [("responses", [[1 / 2, 0, 0], [1 / 6, 1 / 6, 1 / 6], [0, 0, 0]]), ("tokens", [[0.25, 0, 0], [0.25] * 3, [0] * 3])],
)
def test_mean_weights_by_hand(over, expected):
    mask = jnp.array([[True, False, False], [True, True, True], [False, False, False]])
    np.testing.assert_allclose(losses.mean_weights(mask, aggregate=over), expected, rtol=1e-6)


def test_unknown_aggregations_are_refused():
    with pytest.raises(ValueError, match="'responses' or 'tokens'"):
        losses.mean_weights(jnp.ones((1, 1), bool), aggregate="rows")


def test_total_is_the_loop_of_the_paper(case):
    """Every stream by explicit loops over responses and tokens, as METHOD writes them."""
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


def test_first_update_is_the_policy_gradient(case):
    """With ratio 1 the gradient of the surrogate is −Σ w A."""
    _, batch = case
    gradient = jax.grad(lambda x: loss_of(x, batch, alpha=0.0, beta=1.0, gamma=0.0, kl_coef=0.0)[0])(
        batch.old_logprob_bt
    )
    weights = losses.stream_token_weights(batch, aggregate="responses").outcome_bt
    np.testing.assert_allclose(gradient, -weights * batch.outcome_advantage_bt, atol=1e-7)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(losses.LossConfig)])
def test_every_knob_matters(case, name):
    logprob, batch = case
    logprob = logprob + jnp.where(jnp.arange(6)[None] % 2 == 0, 0.5, -0.5)  # ratios beyond both bounds
    assert loss_of(logprob, batch)[0] != loss_of(logprob, batch, **{name: getattr(LOSS_CONFIG, name) / 2})[0]


def test_aggregation_matters(case):
    assert loss_of(*case)[0] != loss_of(*case, aggregate="tokens")[0]


def test_grpo_forgets_process_and_imitation(case):
    logprob, batch = case
    other = batch._replace(process_advantage_bt=batch.process_advantage_bt * 9, gate_b=~batch.gate_b)
    off = {"alpha": 0.0, "gamma": 0.0}
    assert loss_of(logprob, batch, **off)[0] == loss_of(logprob, other, **off)[0]


def test_closed_gates_give_no_imitation(case):
    logprob, batch = case
    _, metrics = loss_of(logprob, batch._replace(gate_b=jnp.zeros(4, bool)))
    assert metrics["loss/sft"] == 0


@pytest.mark.parametrize("over", ["responses", "tokens"])
def test_padding_is_never_read(case, over):
    logprob, batch = case
    dirty = jnp.where(batch.full_mask_bt, logprob, 80.0)
    for mine, other in zip(
        jax.value_and_grad(lambda x: loss_of(x, batch, aggregate=over)[0])(dirty),
        jax.value_and_grad(lambda x: loss_of(x, batch, aggregate=over)[0])(logprob),
        strict=True,
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-6)


def test_without_reference_there_is_no_kl():
    batch = random_batch(with_reference=False)
    _, metrics = loss_of(batch.old_logprob_bt, batch)
    assert "kl/reference" not in metrics
