"""A credit rule with its parameters, the prices of steps and a gate, as one function of a group."""

from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from mig_jax.parts import find_part, is_own
from mig_jax.rewards import credit_args, gains
from mig_jax.rewards.arrays import Credit, Group
from mig_jax.rewards.gains import CREDITS

# Whether each response is paid, `[G]` bool, by the name that configs use. A gate takes the group, h_K − ℓ_K `[G]` and
# the tolerance, in nats per token.
GATES: dict[str, Callable[[Group, jax.Array, float], jax.Array]] = {
    "all": lambda group, fall_g, tolerance: jnp.ones_like(group.is_correct_g, bool),
    "correct": lambda group, fall_g, tolerance: group.is_correct_g,
    "kept": lambda group, fall_g, tolerance: fall_g <= tolerance,
}


def make_credit(name: str, **args: Any) -> Callable[[Group], Credit]:
    """Return the credit rule `name` with its parameters, the prices of steps and the gate.

    A response that the gate does not pay counts as one without steps: its gains are 0, its reward too (`final`: ℓ₀).
    Where the reward is signed, a negative one is left out just so.

    Args:
      name: key of `CREDITS`, or a user's own, see `gains.find_rule`.
      **args: parameters of that rule, and these of every rule, in its unit unless stated:
        step_price: c ≥ 0; step k loses c for each step that its interval covers, so R loses c·n for n steps.
        excess_step_price: c ≥ 0; R loses c·max(0, n − n̄), n̄ the mean of the group; a step loses what it adds to that.
        gate: key of `GATES`: pay all responses, the correct ones, or those that kept the watermark; or a user's own.
        gate_tolerance: kept: h_K − ℓ_K may be this large, in nats per token.

    Returns:
      `(Group) -> Credit`, jit-able. Its gains sum to the reward (`final`: to R − ℓ₀).

    Raises:
      ValueError: an error of `credit_arg_errors`.
    """
    errors = credit_arg_errors(name, args)
    if errors:
        raise ValueError("; ".join(errors))
    rule = gains.find_rule(name)
    own, shared = credit_args.split(args, rule.apply)
    gate = find_part(shared["gate"], GATES, key="reward.credit_args.gate")

    def credit(group: Group) -> Credit:
        _assert_one_group(group)
        fall_g = gains.falls(group, own.get("threshold", 0.0))[:, -1]
        is_paid_g = gate(group, fall_g, shared["gate_tolerance"])
        is_first_k = jnp.arange(group.ell_gk.shape[1]) == 0
        paid = group._replace(valid_gk=group.valid_gk & (is_paid_g[:, None] | is_first_k[None]))
        earned = rule.apply(paid, **own)
        price_gk = shared["step_price"] * group.steps_gk + shared["excess_step_price"] * excess_steps(group)
        price_gk = jnp.where(paid.valid_gk[:, 1:], price_gk, 0.0)
        return Credit(earned.reward_g - price_gk.sum(1), earned.gain_gk - price_gk)

    return credit


def excess_steps(group: Group) -> jax.Array:
    """Return the steps beyond the group's mean that each interval adds, `[G, K]`: changes of max(0, nₖ − n̄).

    nₖ is the number of steps up to probe k, and n̄ the mean number of steps of the group's responses.
    """
    count_gk = jnp.cumsum(jnp.where(group.valid_gk[:, 1:], group.steps_gk, 0), axis=1)
    total = count_gk[:, -1].sum()
    # Integers up to the division, so that equal numbers of steps have no excess at all.
    excess_gk = jnp.maximum(0, count_gk * count_gk.shape[0] - total) / count_gk.shape[0]
    return jnp.diff(excess_gk, prepend=0.0)


def credit_arg_errors(name: str, args: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the arguments of `make_credit`, one message for each error.

    A parameter that has no effect here is an error, unless it has its default: one of another rule, or a
    `gate_tolerance` of a gate without tolerance.
    """
    rules = {key: rule.apply for key, rule in CREDITS.items()}
    if is_own(name):
        rules[name] = gains.find_rule(name).apply
    gate = args.get("gate", "all")
    return credit_args.errors(name, args, rules, [*GATES, *([gate] if isinstance(gate, str) and is_own(gate) else [])])


def _assert_one_group(group: Group) -> None:
    message = "a credit rule takes one group: use jax.vmap for a batch"
    chex.assert_rank(list(group), [2, 2, 2, 2, 1], custom_message=message)
    chex.assert_equal_shape([group.ell_gk, group.valid_gk])
    chex.assert_equal_shape([group.ell_gk[:, 1:], group.steps_gk, group.tokens_gk])
