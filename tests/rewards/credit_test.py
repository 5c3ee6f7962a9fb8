"""Prices of steps and gates by hand, and the errors of their arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax import rewards
from mig_jax.rewards import credit as credits
from tests.rewards.gains_test import compiled, make_group, random_group

# Two probed intervals, ℓ rises by 1 in each. Response 0 has 1 + 3 steps, response 1 has 2, and response 2 none.
RISES = make_group(
    [[-3, -2, -1], [-3, -2, 9], [-3, 9, 9]],
    valid_gk=[[True, True, True], [True, True, False], [True, False, False]],
    steps_gk=[[1, 3], [2, 0], [0, 0]],
    is_correct_g=[False, True, True],
)


excess_steps = jax.jit(credits.excess_steps)


@pytest.mark.parametrize("name", ["watermark", "delta_sum", "final"])
def test_step_price_counts_all_steps_of_an_interval(name):
    """With c = 1/4, an interval of three steps loses 3/4."""
    credit = compiled(name, step_price=0.25)(RISES)
    np.testing.assert_array_equal(credit.gain_gk, [[0.75, 0.25], [0.5, 0], [0, 0]])
    start = -3 if name == "final" else 0
    np.testing.assert_array_equal(credit.reward_g - start, [1.0, 0.5, 0.0])


def test_excess_step_price_by_hand():
    """The mean is (4 + 2 + 0) / 3 = 2 steps, so only the last two of response 0 are in excess."""
    np.testing.assert_array_equal(excess_steps(RISES), [[0, 2], [0, 0], [0, 0]])
    credit = compiled("watermark", excess_step_price=0.25)(RISES)
    np.testing.assert_array_equal(credit.gain_gk, [[1, 0.5], [1, 0], [0, 0]])
    np.testing.assert_array_equal(credit.reward_g, [1.5, 1.0, 0.0])


def test_excess_over_a_mean_within_an_interval():
    """The mean is (4 + 1) / 2 = 2.5 steps: an interval from step 1 to step 4 has 1.5 in excess."""
    group = make_group([[0, 0, 0], [0, 0, 9]], [[True] * 3, [True, True, False]], [[1, 3], [1, 0]])
    np.testing.assert_array_equal(excess_steps(group), [[0, 1.5], [0, 0]])


@pytest.mark.parametrize("size", [3, 8])
@pytest.mark.parametrize("n_steps", [7, 30])
def test_equal_numbers_of_steps_have_no_excess(size, n_steps):
    """Exactly: a mean in float32 could miss the number by a little. Half of the intervals cover several steps."""
    steps_k = [1] * (n_steps // 2) + [n_steps - n_steps // 2]
    group = make_group(np.zeros((size, len(steps_k) + 1)), steps_gk=[steps_k] * size)
    assert (excess_steps(group) == 0).all()
    plain, priced = (compiled("watermark", excess_step_price=c)(group) for c in (0.0, 5.0))
    np.testing.assert_array_equal(plain.gain_gk, priced.gain_gk)


@pytest.mark.parametrize("seed", range(5))
def test_prices_sum_to_price_times_steps(seed):
    """R loses c·n, and c·max(0, n − n̄) for the excess, whatever the rule."""
    group = random_group(seed)
    n_g = np.where(group.valid_gk[:, 1:], group.steps_gk, 0).sum(1)
    for name in rewards.CREDITS:
        plain = compiled(name)(group).reward_g
        every = compiled(name, step_price=0.25)(group).reward_g
        excess = compiled(name, excess_step_price=0.25)(group).reward_g
        np.testing.assert_allclose(plain - every, 0.25 * n_g, atol=1e-4)
        np.testing.assert_allclose(plain - excess, 0.25 * np.maximum(0, n_g - n_g.mean()), atol=1e-4)


@pytest.mark.parametrize("name", rewards.CREDITS)
def test_gate_correct_leaves_out_wrong_responses(name):
    """Wrong ones earn nothing and pay no price; for correct ones, the gate has no effect."""
    group = random_group(0)
    prices = {"step_price": 0.25, "excess_step_price": 0.25}
    plain = compiled(name, **prices)(group)
    gated = compiled(name, gate="correct", **prices)(group)
    right = np.array(group.is_correct_g)
    np.testing.assert_array_equal(gated.gain_gk[right], plain.gain_gk[right])
    np.testing.assert_array_equal(gated.reward_g[right], plain.reward_g[right])
    np.testing.assert_array_equal(gated.gain_gk[~right], 0)
    np.testing.assert_array_equal(gated.reward_g[~right], -5 if name == "final" else 0)


def test_final_pays_a_gated_response_as_one_without_steps():
    """A reward of 0 would pay most, because ℓ is negative."""
    wrong, right = compiled("final", gate="correct")(RISES).reward_g[:2]
    assert (wrong, right) == (-3, -2)


# ℓ falls from its best by 0, 0.5 and 2; the watermark would pay each of them 2.
FALLS = make_group([[-3, -2, -1], [-3, -1, -1.5], [-3, -1, -3]])


@pytest.mark.parametrize("tolerance, paid", [(0.0, [2, 0, 0]), (0.5, [2, 2, 0]), (1.9, [2, 2, 0]), (2.0, [2, 2, 2])])
def test_gate_kept_pays_within_the_tolerance(tolerance, paid):
    credit = compiled("watermark", gate="kept", gate_tolerance=tolerance)(FALLS)
    np.testing.assert_array_equal(credit.reward_g, paid)


def test_gate_kept_compares_with_the_watermark_of_the_rule():
    """With δ = 1 a rise of 0.5 leaves the mark, so falling back from it is no fall."""
    group = make_group([[-3, -1, -0.5, -1]])
    for threshold, paid in ((0.0, 0.0), (1.0, 1.0)):
        credit = compiled("watermark", threshold=threshold, gate="kept")(group)
        np.testing.assert_array_equal(credit.reward_g, [paid])


def test_gates_leave_the_mean_number_of_steps():
    """The mean is that of all responses of the group, paid or not."""
    credit = compiled("watermark", excess_step_price=0.25, gate="correct")(RISES)
    np.testing.assert_array_equal(credit.reward_g, [0.0, 1.0, 0.0])
    flipped = RISES._replace(is_correct_g=~RISES.is_correct_g)
    credit = compiled("watermark", excess_step_price=0.25, gate="correct")(flipped)
    np.testing.assert_array_equal(credit.reward_g, [1.5, 0.0, 0.0])


def test_rules_of_others_get_prices_and_gates(monkeypatch):
    def longest(group: rewards.Group, *, scale: float = 1.0) -> rewards.Credit:
        gain_gk = jnp.where(group.valid_gk[:, 1:], scale * group.tokens_gk, 0.0)
        return rewards.Credit(gain_gk.sum(1), gain_gk)

    monkeypatch.setitem(rewards.CREDITS, "longest", rewards.CreditRule(longest, "tokens"))
    credit = rewards.make_credit("longest", scale=2.0, step_price=1.0, gate="correct")(RISES)
    np.testing.assert_array_equal(credit.gain_gk, [[0, 0], [38, 0], [0, 0]])
    assert rewards.credit_arg_errors("watermark", {"scale": 2.0}) == [
        "scale=2.0 has no effect on credit rule 'watermark'; only longest takes it"
    ]


DEFAULTS = {
    "threshold": 0.0,
    "drawdown": 0.0,
    "step_price": 0.0,
    "excess_step_price": 0.0,
    "gate": "all",
    "gate_tolerance": 0.0,
}


@pytest.mark.parametrize("name", rewards.CREDITS)
def test_defaults_of_all_knobs_are_no_error(name):
    """Also of those that the rule does not take: a config gives every key."""
    group = random_group(0)
    assert rewards.credit_arg_errors(name, DEFAULTS) == []
    np.testing.assert_array_equal(compiled(name, **DEFAULTS)(group).gain_gk, compiled(name)(group).gain_gk)


def test_errors_are_listed_together():
    args = DEFAULTS | {"threshold": 0.5, "drawdown": 1, "step_price": -1.0, "gate_tolerance": 0.5, "slope": 1}
    assert rewards.credit_arg_errors("final", args) == [
        "threshold=0.5 has no effect on credit rule 'final'; only watermark takes it",
        "drawdown=1 has no effect on credit rule 'final'; only watermark takes it",
        "step_price=-1.0 must be a finite number of at least 0",
        "credit rule 'final' has no parameter 'slope'; it takes step_price, excess_step_price, gate, gate_tolerance",
        "gate_tolerance=0.5 has no effect unless gate is 'kept'",
    ]
    with pytest.raises(ValueError, match="threshold=0.5 has no effect.*gate_tolerance=0.5 has no effect"):
        rewards.make_credit("final", **args)


@pytest.mark.parametrize(
    "args, message",
    [
        ({"drawdown": 1.5}, "drawdown=1.5 must be a number from 0 to 1"),
        ({"drawdown": float("nan")}, "drawdown=nan must be a number from 0 to 1"),
        ({"threshold": float("inf")}, "threshold=inf must be a finite number"),
        ({"threshold": "0"}, "threshold='0' must be a finite number"),
        ({"excess_step_price": True}, "excess_step_price=True must be a finite number"),
        ({"gate": "right"}, "unknown gate 'right'; choose one of all, correct, kept"),
    ],
)
def test_values_out_of_range_raise(args, message):
    with pytest.raises(ValueError, match=message):
        rewards.make_credit("watermark", **args)


def test_unknown_rule_raises():
    with pytest.raises(ValueError, match="unknown credit rule 'marks'; choose one of watermark, final"):
        rewards.make_credit("marks")


def test_units():
    units = {name: rule.unit for name, rule in rewards.CREDITS.items()}
    assert units == dict.fromkeys(units, "nats") | {"segment_progress": "probability"}
