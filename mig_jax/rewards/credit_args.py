"""The parameters of credit rules: which there are, and what is wrong with given ones. Needs no jax."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

# Parameters that every rule takes, with their defaults.
SHARED: dict[str, Any] = {"step_price": 0.0, "excess_step_price": 0.0, "gate": "all", "gate_tolerance": 0.0}

# Largest value of numeric parameters; the smallest is 0. Parameters of other rules are not restricted.
_LIMITS = {
    "threshold": float("inf"),
    "drawdown": 1.0,
    "step_price": float("inf"),
    "excess_step_price": float("inf"),
    "gate_tolerance": float("inf"),
}


def errors(
    name: str, args: Mapping[str, Any], rules: Mapping[str, Callable[..., Any]], gates: Collection[str]
) -> list[str]:
    """Return what is wrong with the arguments of a credit rule, one message for each error.

    Args:
      name: key of `rules`.
      args: of the rule, and of every rule.
      rules: functions whose keyword-only arguments are their parameters.
      gates: names of the gates.
    """
    if name not in rules:
        return [f"unknown credit rule {name!r}; choose one of {', '.join(rules)}"]
    taken = _parameters(rules[name]) | SHARED
    elsewhere = {key: value for rule in rules.values() for key, value in _parameters(rule).items()}
    found = []
    for key, value in args.items():
        if key not in taken and key not in elsewhere:
            found.append(f"credit rule {name!r} has no parameter {key!r}; it takes {', '.join(taken)}")
        elif key not in taken and value != elsewhere[key]:
            takers = ", ".join(rule for rule in rules if key in _parameters(rules[rule]))
            found.append(f"{key}={value!r} has no effect on credit rule {name!r}; only {takers} takes it")
        elif key in taken and (error := _range_error(key, value, gates)):
            found.append(error)
    if args.get("gate", "all") in ("all", "correct") and args.get("gate_tolerance", 0.0) != 0:
        found.append(f"gate_tolerance={args['gate_tolerance']!r} has no effect unless gate is 'kept'")
    return found


def _range_error(key: str, value: Any, gates: Collection[str]) -> str | None:
    """Return why `value` is no value of the parameter `key`, or None."""
    if key == "gate":
        return None if value in gates else f"unknown gate {value!r}; choose one of {', '.join(gates)}"
    if key not in _LIMITS:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= value <= _LIMITS[key] and value < float("inf"):
        return None
    expected = "a number from 0 to 1" if _LIMITS[key] == 1 else "a finite number of at least 0"
    return f"{key}={value!r} must be {expected}"


def split(args: Mapping[str, Any], rule: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments that `rule` takes itself, and those that every rule takes, filled up with their defaults."""
    own = {key: value for key, value in args.items() if key in _parameters(rule)}
    return own, SHARED | {key: value for key, value in args.items() if key in SHARED}


def _parameters(rule: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword-only arguments of a rule with their defaults."""
    parameters = inspect.signature(rule).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
