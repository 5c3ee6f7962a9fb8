"""The hybrid loss: hand-computed values, loops as in the paper, reductions, and that every knob has an effect."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.learning import losses
from tests.learning.toy_training import LOSS_CONFIG, random_batch

AGGREGATES = pytest.mark.parametrize("aggregate", losses.AGGREGATES)
# A changed value of each knob, and the other knobs without which it has no effect.
CHANGES = {
    "alpha": 0.35, "beta": 0.65, "gamma": 0.2, "kl_coef": 0.1, "clip_low": 0.1, "clip_high": 0.15,
    "policy_loss": "cispo", "ratio": "sequence", "dual_clip": 1.4,
}  # fmt: skip
NEEDED = {"dual_clip": {"policy_loss": "dual_clip"}}


def loss_of(logprob_bt, batch, *, aggregate="responses", sft_logprob_bt=None, **changes):
    token_weights = losses.stream_token_weights(batch, aggregate=aggregate)
    config = dataclasses.replace(LOSS_CONFIG, **changes)
    sft_logprob_bt = logprob_bt if sft_logprob_bt is None else sft_logprob_bt
    return losses.total_loss(logprob_bt, jnp.ones_like(logprob_bt), sft_logprob_bt, batch, token_weights, config)


@pytest.fixture
def case():
    batch = random_batch(with_sampler_weights=True)
    noise = np.random.default_rng(1).normal(size=batch.old_logprob_bt.shape)
    return jax.device_put(batch.old_logprob_bt + 0.05 * noise.astype(np.float32)), batch


@pytest.fixture
def far_case(case):
    """Ratios beyond all bounds."""
    logprob, batch = case
    return jax.device_put(logprob + np.where(np.arange(6)[None] % 2 == 0, 0.5, -0.5).astype(np.float32)), batch


# -------------------------------------------------------------------------------------------------------- aggregates


@pytest.mark.parametrize(
    "aggregate, expected",
    [
        ("responses", [[1 / 2, 0, 0], [1 / 6, 1 / 6, 1 / 6], [0, 0, 0]]),
        ("tokens", [[0.25, 0, 0], [0.25] * 3, [0] * 3]),
        ("constant", [[1 / 9, 0, 0], [1 / 9] * 3, [0] * 3]),
    ],
)
def test_aggregates_by_hand(aggregate, expected):
    mask = jnp.array([[True, False, False], [True, True, True], [False, False, False]])
    np.testing.assert_allclose(losses.AGGREGATES[aggregate](mask), expected, rtol=1e-6)


@AGGREGATES
def test_weights_of_an_empty_mask_are_zero(aggregate):
    empty = jnp.zeros((4, 6), bool)
    batch = random_batch()._replace(full_mask_bt=empty, cot_mask_bt=empty)
    for weight_bt in losses.stream_token_weights(batch, aggregate=aggregate):
        np.testing.assert_array_equal(weight_bt, jnp.zeros((4, 6)))


def test_all_aggregates_are_the_same_mean_at_full_length():
    mask = jnp.ones((3, 5), bool)
    for weigh in losses.AGGREGATES.values():
        np.testing.assert_allclose(weigh(mask), jnp.full((3, 5), 1 / 15), rtol=1e-6)


def test_constant_at_equal_lengths_is_a_multiple_of_the_token_mean():
    mask = jnp.tile(jnp.arange(6)[None] < 4, (3, 1))
    np.testing.assert_allclose(losses.sum_over_constant(mask), 4 / 6 * losses.mean_of_tokens(mask), rtol=1e-6)


@AGGREGATES
def test_weights_of_metrics_sum_to_one(aggregate):
    weights = losses.stream_token_weights(random_batch(), aggregate=aggregate)
    for mean_bt, weight_bt in (
        (weights.process_mean_bt, weights.process_bt),
        (weights.outcome_mean_bt, weights.outcome_bt),
    ):
        np.testing.assert_allclose(mean_bt.sum(), 1.0, rtol=1e-6)
        np.testing.assert_allclose(mean_bt * weight_bt.sum(), weight_bt, rtol=1e-6)


def test_unknown_names_raise(case):
    with pytest.raises(ValueError, match="loss.aggregate='rows': choose one of tokens, responses, constant"):
        loss_of(*case, aggregate="rows")
    with pytest.raises(ValueError, match="loss.policy_loss='ppo': choose one of clip, dual_clip, cispo"):
        loss_of(*case, policy_loss="ppo")
    with pytest.raises(ValueError, match="loss.ratio='tokens': choose one of token, sequence"):
        loss_of(*case, ratio="tokens")


# ------------------------------------------------------------------------------------------------- importance weights


def test_importance_weights_by_hand():
    """Ratios trainer / sampler 1, 1.5, 4 and 0.1, and padding of any kind."""
    sampler = jnp.log(jnp.array([[0.2, 0.2, 0.2, 0.5, jnp.nan, 0.1]]))
    trainer = jnp.log(jnp.array([[0.2, 0.3, 0.8, 0.05, 0.3, jnp.inf]]))
    mask = jnp.arange(6)[None] < 4
    for cap, expected in (
        (2.0, [1, 1.5, 2, 0.1, 1, 1]),
        (0.5, [0.5, 0.5, 0.5, 0.1, 1, 1]),
        (jnp.inf, [1, 1.5, 4, 0.1, 1, 1]),
    ):
        found = losses.importance_weights(trainer, sampler, mask, cap=cap)
        np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_importance_weights_have_no_gradient():
    def total(x):
        return losses.importance_weights(x, x - 0.1, x < 2, cap=9.0).sum()

    assert (jax.grad(total)(jnp.ones((1, 3))) == 0).all()


def test_cap_of_importance_weights_must_be_positive():
    with pytest.raises(ValueError, match="cap of importance weights must be positive, not 0"):
        losses.importance_weights(jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.ones((1, 1), bool), cap=0.0)


def test_sampler_weights_of_one_are_no_weights(case):
    logprob, batch = case
    ones, none = (loss_of(logprob, batch._replace(sampler_weight_bt=x)) for x in (np.ones((4, 6), np.float32), None))
    jax.tree.map(np.testing.assert_array_equal, ones, none)
    assert loss_of(logprob, batch)[0] != none[0]


def test_sampler_weights_scale_the_policy_gradients_and_the_kl_alone(case):
    logprob, batch = case
    once, twice = (
        loss_of(logprob, batch._replace(sampler_weight_bt=np.full((4, 6), x, np.float32)))[1] for x in (1.0, 2.0)
    )
    scaled = {"loss/process", "loss/outcome", "kl/reference"}
    assert all(twice[name] == (2 if name in scaled else 1) * once[name] for name in once if name != "loss/total")


def test_policy_gradient_and_kl_are_unbiased_for_any_sampler():
    """By enumeration: row b is the response of token b, with the probability that the sampler gives it."""
    logits, trainer, sampler, ref, advantage = jax.random.normal(jax.random.key(5), (5, 4))
    old, sampled, ref = (jax.nn.log_softmax(x)[:, None] for x in (trainer, sampler, ref))
    mask = jnp.ones((4, 1), bool)
    batch = random_batch(rows=4, width=2)._replace(
        full_mask_bt=mask, cot_mask_bt=mask, old_logprob_bt=old, ref_logprob_bt=ref,
        process_advantage_bt=advantage[:, None], outcome_advantage_bt=advantage[:, None],
        sampler_weight_bt=losses.importance_weights(old, sampled, mask, cap=jnp.inf),
    )  # fmt: skip
    token_weights = losses.TokenWeights(*[jnp.exp(sampled)] * 5)
    config = dataclasses.replace(LOSS_CONFIG, gamma=0.0, clip_low=1.0, clip_high=1e9)

    def expected_loss(logits):
        logprob = jax.nn.log_softmax(logits)[:, None]
        return losses.total_loss(logprob, logprob, logprob, batch, token_weights, config)[0]

    def exact_loss(logits):
        logprob = jax.nn.log_softmax(logits)
        kl = jnp.sum(jnp.exp(logprob) * (logprob - ref[:, 0]))
        return 0.2 * kl - (0.7 + 1.3) * jnp.sum(jnp.exp(logprob) * advantage)

    found, expected = (jax.jit(jax.value_and_grad(x))(logits) for x in (expected_loss, exact_loss))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), found, expected)


# -------------------------------------------------------------------------------------------------------------- total


def test_total_loss_equals_loops_over_responses_and_tokens(case):
    """Every stream as the paper writes it: a mean over the tokens of a response, then over responses."""
    logprob, batch = case
    full, cot, gate = (np.array(x) for x in (batch.full_mask_bt, batch.cot_mask_bt, batch.gate_b))
    ratio, weight = np.exp(np.array(logprob - batch.old_logprob_bt)), np.array(batch.sampler_weight_bt)

    def surrogate(advantage, mask):
        means = []
        for b in range(len(mask)):
            terms = []
            for t in np.flatnonzero(mask[b]):
                a, r = float(advantage[b, t]), ratio[b, t]
                terms.append(weight[b, t] * min(r * a, np.clip(r, 0.8, 1.3) * a))
            means.append(np.mean(terms))
        return -np.mean(means)

    sft = -sum(np.array(logprob)[b][full[b]].mean() for b in np.flatnonzero(gate)) / max(1, gate.sum())
    log_r = np.array(batch.ref_logprob_bt - logprob)
    kl_bt = weight * ratio * (np.exp(log_r) - 1 - log_r)
    kl = np.mean([kl_bt[b][full[b]].mean() for b in range(len(full))])
    expected = (
        0.7 * surrogate(batch.process_advantage_bt, cot)
        + 1.3 * surrogate(batch.outcome_advantage_bt, full)
        + 0.4 * sft
        + 0.2 * kl
    )
    np.testing.assert_allclose(loss_of(logprob, batch)[0], expected, rtol=1e-5)


@AGGREGATES
def test_metrics_by_hand(aggregate):
    """One completion of four tokens, three of them reasoning, then padding; the bounds of the ratio are 0.8 and 1.3.

    Clipped are 2.0 with a positive advantage and 0.5 with a negative one; the metrics are means for every aggregate.
    """
    ratio, entropy = np.array([1.0, 2.0, 0.5, 1.25]), np.array([1.0, 2.0, 4.0, 8.0])
    batch = random_batch(rows=1)._replace(
        full_mask_bt=jax.device_put(np.arange(6)[None] < 4), cot_mask_bt=jax.device_put(np.arange(6)[None] < 3),
        old_logprob_bt=np.full((1, 6), -1.0, np.float32),
        process_advantage_bt=jnp.array([[1.0, 1.0, 1.0, 0, 0, 0]]),
        outcome_advantage_bt=jnp.array([[-1.0, -1.0, -1.0, -1.0, 0, 0]]),
    )  # fmt: skip
    logprob_bt = jax.device_put(np.pad(np.log(ratio) - 1, (0, 2), constant_values=-7.0)[None].astype(np.float32))
    entropy_bt = jax.device_put(np.pad(entropy, (0, 2), constant_values=99.0)[None].astype(np.float32))
    token_weights = losses.stream_token_weights(batch, aggregate=aggregate)

    total_loss = jax.jit(losses.total_loss, static_argnames="config")

    def metrics_of(batch, **changes):
        config = dataclasses.replace(LOSS_CONFIG, **changes)
        return total_loss(logprob_bt, entropy_bt, logprob_bt, batch, token_weights, config)[1]

    metrics = metrics_of(batch)
    np.testing.assert_allclose(metrics["policy/entropy"], 15 / 4, rtol=1e-6)
    np.testing.assert_allclose(metrics["ratio/mean"], 4.75 / 4, rtol=1e-6)
    np.testing.assert_allclose(metrics["ratio/clipped_process"], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["ratio/clipped_outcome"], 1 / 4, rtol=1e-6)
    np.testing.assert_allclose(metrics["kl/old"], np.mean(ratio - 1 - np.log(ratio)), rtol=1e-5)
    log_r = np.array(batch.ref_logprob_bt)[0, :4] - np.log(ratio) + 1
    np.testing.assert_allclose(metrics["kl/reference"], np.mean(ratio * (np.exp(log_r) - 1 - log_r)), rtol=1e-5)
    # The dual clip at 1.5 cuts the other bound of negative advantages too; without advantages nothing is clipped.
    np.testing.assert_allclose(metrics_of(batch, policy_loss="dual_clip")["ratio/clipped_outcome"], 2 / 4, rtol=1e-6)
    without = metrics_of(batch._replace(process_advantage_bt=jnp.zeros((1, 6)), outcome_advantage_bt=jnp.zeros((1, 6))))
    assert without["ratio/clipped_process"] == without["ratio/clipped_outcome"] == 0


def test_sequence_ratio_is_over_the_mask_of_each_stream(case):
    """The process stream does not see the ratio of the token after the reasoning, the outcome stream does."""
    logprob, batch = case
    after = batch.full_mask_bt & ~batch.cot_mask_bt
    plain = loss_of(logprob, batch, ratio="sequence")[1]
    moved = loss_of(logprob + 0.1 * after, batch, ratio="sequence")[1]
    assert moved["loss/process"] == plain["loss/process"]
    assert moved["loss/outcome"] != plain["loss/outcome"]


def test_first_update_is_the_policy_gradient(case):
    """With ratio 1 the gradient of the surrogate is −Σ w A."""
    batch = case[1]._replace(sampler_weight_bt=None)
    gradient = jax.grad(lambda x: loss_of(x, batch, alpha=0.0, beta=1.0, gamma=0.0, kl_coef=0.0)[0])(
        batch.old_logprob_bt
    )
    weight_bt = losses.stream_token_weights(batch, aggregate="responses").outcome_bt
    np.testing.assert_allclose(gradient, -weight_bt * batch.outcome_advantage_bt, atol=1e-7)


def test_every_knob_is_changed():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(losses.LossSettings)}


@pytest.mark.parametrize("name", CHANGES)
def test_every_knob_has_an_effect(far_case, name):
    needed = NEEDED.get(name, {})
    assert loss_of(*far_case, **needed)[0] != loss_of(*far_case, **needed, **{name: CHANGES[name]})[0]


def test_every_variant_has_a_gradient_of_its_own(far_case):
    """All combinations of aggregate, ratio and policy loss; the first and last rows have ratios far from 1."""
    logprob, batch = far_case
    logprob = logprob + jnp.array([0.8, 0.0, 0.0, -0.8])[:, None]
    variants = list(itertools.product(losses.AGGREGATES, losses.RATIOS, losses.LOSSES))
    gradients = [
        jax.grad(lambda x, v=v: loss_of(x, batch, aggregate=v[0], ratio=v[1], policy_loss=v[2])[0])(logprob)
        for v in variants
    ]
    assert len({tuple(np.ravel(gradient)) for gradient in gradients}) == len(variants) == 18


def test_dual_clip_without_a_bound_is_clip(far_case):
    unbounded = loss_of(*far_case, policy_loss="dual_clip", dual_clip=jnp.inf)
    jax.tree.map(np.testing.assert_array_equal, unbounded, loss_of(*far_case))


def test_imitation_alone_has_log_probs_of_its_own(case):
    """They are at temperature 1; the policy gradient, the KL and the metrics are at that of sampling."""
    logprob, batch = case
    sft_logprob = 0.5 * logprob
    plain, changed = loss_of(logprob, batch)[1], loss_of(logprob, batch, sft_logprob_bt=sft_logprob)[1]
    assert {name for name in plain if plain[name] != changed[name]} == {"loss/sft", "loss/total"}
    np.testing.assert_allclose(changed["loss/sft"], 0.5 * plain["loss/sft"], rtol=1e-6)
    gradient = jax.grad(lambda x: loss_of(logprob, batch, sft_logprob_bt=x)[0])(sft_logprob)
    weight_bt = losses.stream_token_weights(batch, aggregate="responses").sft_bt
    np.testing.assert_allclose(gradient, -LOSS_CONFIG.gamma * weight_bt, rtol=1e-6)


def test_grpo_ignores_process_and_imitation(case):
    logprob, batch = case
    other = batch._replace(process_advantage_bt=batch.process_advantage_bt * 9, gate_b=~batch.gate_b)
    grpo = {"alpha": 0.0, "gamma": 0.0}
    assert loss_of(logprob, batch, **grpo)[0] == loss_of(logprob, other, **grpo)[0]


def test_closed_gates_give_no_imitation(case):
    logprob, batch = case
    _, metrics = loss_of(logprob, batch._replace(gate_b=jnp.zeros(4, bool)))
    assert metrics["loss/sft"] == 0


@pytest.mark.parametrize("ratio", losses.RATIOS)
@pytest.mark.parametrize("policy_loss", losses.LOSSES)
@AGGREGATES
def test_padding_has_no_effect(case, aggregate, policy_loss, ratio):
    logprob, batch = case
    variant = {"aggregate": aggregate, "policy_loss": policy_loss, "ratio": ratio}

    def loss_and_gradient(logprob_bt, batch):
        return jax.value_and_grad(lambda x: loss_of(x, batch, **variant), has_aux=True)(logprob_bt)

    def pad_with(value, x_bt):
        return jax.device_put(np.where(batch.full_mask_bt, x_bt, np.float32(value)))

    nan_batch = batch._replace(
        old_logprob_bt=pad_with(jnp.nan, batch.old_logprob_bt),
        ref_logprob_bt=pad_with(jnp.nan, batch.ref_logprob_bt),
        sampler_weight_bt=pad_with(jnp.nan, batch.sampler_weight_bt),
    )
    expected = loss_and_gradient(logprob, batch)
    for found in (loss_and_gradient(pad_with(80.0, logprob), batch), loss_and_gradient(logprob, nan_batch)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), found, expected)


def test_no_reference_means_no_kl():
    batch = random_batch(with_reference=False)
    _, metrics = loss_of(batch.old_logprob_bt, batch)
    assert "kl/reference" not in metrics
