"""A credit rule with its parameters, the prices of steps and a gate, as one function of a group."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from mig_jax.rewards import gains
from mig_jax.rewards.gains import CREDITS, Credit, CreditRule, Group

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
      name: key of `CREDITS`.
      **args: parameters of that rule, and these of every rule, in its unit unless stated:
        step_price: c ≥ 0; step k loses c for each step that its interval covers, so R loses c·n for n steps.
        excess_step_price: c ≥ 0; R loses c·max(0, n − n̄), n̄ the mean of the group; a step loses what it adds to that.
        gate: key of `GATES`: pay all responses, the correct ones, or those that kept the watermark.
        gate_tolerance: kept: h_K − ℓ_K may be this large, in nats per token.

    Returns:
      `(Group) -> Credit`, jit-able. Its gains sum to the reward (`final`: to R − ℓ₀).

    Raises:
      ValueError: an error of `credit_arg_errors`.
    """
    errors = credit_arg_errors(name, args)
    if errors:
        raise ValueError("; ".join(errors))
    rule = CREDITS[name]
    own = {key: value for key, value in args.items() if key in _parameters(rule)}
    shared = _SHARED | {key: value for key, value in args.items() if key in _SHARED}

    def credit(group: Group) -> Credit:
        _assert_one_group(group)
        fall_g = gains.falls(group, own.get("threshold", 0.0))[:, -1]
        is_paid_g = GATES[shared["gate"]](group, fall_g, shared["gate_tolerance"])
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


# Parameters that every rule takes, with their defaults.
_SHARED: dict[str, Any] = {"step_price": 0.0, "excess_step_price": 0.0, "gate": "all", "gate_tolerance": 0.0}

# Largest value of numeric parameters; the smallest is 0. Parameters of other rules are not restricted.
_LIMITS = {
    "threshold": float("inf"),
    "drawdown": 1.0,
    "step_price": float("inf"),
    "excess_step_price": float("inf"),
    "gate_tolerance": float("inf"),
}


def credit_arg_errors(name: str, args: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the arguments of `make_credit`, one message for each error.

    A parameter that has no effect here is an error, unless it has its default: one of another rule, or a
    `gate_tolerance` of a gate without tolerance.
    """
    if name not in CREDITS:
        return [f"unknown credit rule {name!r}; choose one of {', '.join(CREDITS)}"]
    taken = _parameters(CREDITS[name]) | _SHARED
    elsewhere = {key: value for rule in CREDITS.values() for key, value in _parameters(rule).items()}
    errors = []
    for key, value in args.items():
        if key not in taken and key not in elsewhere:
            errors.append(f"credit rule {name!r} has no parameter {key!r}; it takes {', '.join(taken)}")
        elif key not in taken and value != elsewhere[key]:
            rules = ", ".join(rule for rule in CREDITS if key in _parameters(CREDITS[rule]))
            errors.append(f"{key}={value!r} has no effect on credit rule {name!r}; only {rules} takes it")
        elif key in taken and (error := _range_error(key, value)):
            errors.append(error)
    if args.get("gate", "all") != "kept" and args.get("gate_tolerance", 0.0) != 0:
        errors.append(f"gate_tolerance={args['gate_tolerance']!r} has no effect unless gate is 'kept'")
    return errors


def _range_error(key: str, value: Any) -> str | None:
    """Return why `value` is no value of the parameter `key`, or None."""
    if key == "gate":
        return None if value in GATES else f"unknown gate {value!r}; choose one of {', '.join(GATES)}"
    if key not in _LIMITS:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= value <= _LIMITS[key] and value < float("inf"):
        return None
    expected = "a number from 0 to 1" if _LIMITS[key] == 1 else "a finite number of at least 0"
    return f"{key}={value!r} must be {expected}"


def _parameters(rule: CreditRule) -> dict[str, Any]:
    """Return the keyword-only arguments of a rule with their defaults."""
    parameters = inspect.signature(rule.apply).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def _assert_one_group(group: Group) -> None:
    message = "a credit rule takes one group: use jax.vmap for a batch"
    chex.assert_rank(list(group), [2, 2, 2, 2, 1], custom_message=message)
    chex.assert_equal_shape([group.ell_gk, group.valid_gk])
    chex.assert_equal_shape([group.ell_gk[:, 1:], group.steps_gk, group.tokens_gk])
