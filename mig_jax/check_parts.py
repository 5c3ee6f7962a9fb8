"""Check the parts that a config names: ours by name, a user's own by calling them on a small sample.

Functions of arrays are traced on shapes alone: nothing is compiled. A part that a command does not use is not loaded.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mig_jax import rewards
from mig_jax.config import Config
from mig_jax.errors import UserError
from mig_jax.learning import advantages, losses
from mig_jax.learning.policy_gradient import ClipSettings
from mig_jax.parts import find_part, is_own, part_name, signature_error, user_traceback
from mig_jax.records.writers import WRITERS, missing_packages, writer_error
from mig_jax.rewards.gains import find_rule
from mig_jax.rollout.outcomes import OUTCOMES, reward_error
from mig_jax.text.answers.kinds import find_kind

# Sizes of the sample: questions, samples, steps, tokens, variants.
Q, G, K, T, A = 2, 3, 4, 5, 2
# Metrics of `reward/` that no outcome may be named like.
RESERVED = ("process", "process_if_wrong", "process_std_in_group", "zero_variance_groups")


class Kind(NamedTuple):
    """A key of the config that names parts.

    table: ours, by name.
    modes: the commands that use the part.
    error: (part, config) → what is wrong with a user's own, or None; may raise whatever the part raises.
    """

    table: Mapping[str, Any]
    modes: tuple[str, ...]
    error: Callable[[Any, Config], str | None]


def part_errors(config: Config, *, mode: str) -> list[str]:
    """Return what is wrong with the parts that a config names, one message for each.

    Args:
      config: values of the right types.
      mode: the command, see `check_config`. The user's own parts are loaded if it uses them.
    """
    errors = []
    mode = "" if mode == "eval" and not config.eval.scored else mode  # then no part is used
    for key, spec in _named_parts(config):
        kind = KINDS[key]
        try:
            if spec in kind.table or (is_own(spec) and mode not in kind.modes):
                continue
            part: Any = find_part(spec, kind.table, key=key)
            error = _traced_error(kind, part, config)
            errors += [f"{key}={spec!r}: {error}"] if error else []
        except UserError as error:
            errors.append(str(error))
    if not errors and mode in KINDS["reward.credit"].modes:
        credit, args = config.reward.credit, config.reward.credit_args.to_dict()
        errors += [f"reward.credit_args: {error}" for error in rewards.credit_arg_errors(credit, args)]
    if mode in KINDS["log.writers"].modes:
        errors += missing_packages(config.log.writers)
    return errors + _outcome_name_errors(config) + _answer_kind_errors(config)


def names(key: str) -> tuple[str, ...]:
    """Return the names of our parts that a key may have; none for other keys."""
    return tuple(KINDS[key].table) if key in KINDS else ()


def _named_parts(config: Config) -> Iterator[tuple[str, str]]:
    for key in KINDS:
        value: Any = config
        for name in key.split("."):
            value = value[name]
        for spec in [value] if isinstance(value, str) else value:
            yield key, spec


def _outcome_name_errors(config: Config) -> list[str]:
    """Return which outcomes cannot be told apart by the names of their metrics."""
    specs = list(config.reward.outcomes)
    taken = {*OUTCOMES, *RESERVED}
    errors = []
    for spec in filter(is_own, specs):
        name = part_name(spec)
        if name in taken:
            errors.append(f"reward.outcomes={spec!r}: the name {name!r} is taken; give the function another one")
        taken.add(name)
    return errors


def _answer_kind_errors(config: Config) -> list[str]:
    """Return what is wrong with a kind of answers of the user's own, given for all rows."""
    kind = config.data.columns.kind
    if not kind.startswith("=") or not is_own(kind[1:]):
        return []
    try:
        find_kind(kind[1:])
    except UserError as error:
        return [f"data.columns.{error}"]
    return []


def _traced_error(kind: Kind, part: Any, config: Config) -> str | None:
    """Return what is wrong with a user's part, or what it raises."""
    try:
        return kind.error(part, config)
    except Exception as error:
        return f"fails on a sample: {user_traceback(error)}"


def _array(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def _bool(*shape: int) -> Any:
    return _array(*shape, dtype=bool)


def _group() -> rewards.Group:
    return rewards.Group(_array(G, K + 1), _bool(G, K + 1), _array(G, K), _array(G, K), _bool(G))


def _shape_error(found: Any, *expected: tuple[int, ...]) -> str | None:
    """Return how arrays differ from the expected shapes, or None."""
    arrays = found if isinstance(found, tuple) and not hasattr(found, "shape") else (found,)
    shapes = tuple(getattr(x, "shape", type(x).__name__) for x in arrays)
    if shapes == expected:
        return None
    return f"returns {', '.join(map(str, shapes))}; must return {', '.join(map(str, expected))} for this sample"


def _call(part: Any, names: str, *arrays: Any, **options: Any) -> Any:
    """Return the shapes that a part returns.

    Raises:
      UserError: it does not take these arguments.
    """
    if error := signature_error(part, *names.split(), **options):
        raise UserError(error)
    return jax.eval_shape(lambda *values: part(*values, **options), *arrays)


def _credit_error(part: Any, config: Config) -> str | None:
    del part
    w = config.reward
    apply, unit = find_rule(w.credit)
    if unit not in (units := w.process_eps.to_dict()):
        return f"its unit is {unit!r}; must be one of {', '.join(units)}"
    if error := _shape_error(tuple(_call(apply, "group", _group())), (G,), (G, K)):
        return error
    own = {key: value for key, value in w.credit_args.to_dict().items() if not key.startswith("gate")}
    if errors := rewards.credit_arg_errors(w.credit, own):
        return "; ".join(errors)
    return _shape_error(tuple(jax.eval_shape(rewards.make_credit(w.credit, **own), _group())), (G,), (G, K))


def _gate_error(gate: Any, config: Config) -> str | None:
    del config
    return _shape_error(_call(gate, "group fall_g tolerance", _group(), _array(G), 0.0), (G,))


def _advantage_error(advantage: Any, config: Config) -> str | None:
    # Steps are a further axis.
    shapes = [(Q, G)] + [(Q, G, K)] * (config.reward.credit_level == "step")
    found = [_call(advantage, "reward_qg valid_qg", _array(*shape), _bool(*shape)) for shape in shapes]
    return next(filter(None, map(_shape_error, found, shapes)), None)


def _scale_error(scale: Any, config: Config) -> str | None:
    for shape in [(Q, G)] + [(Q, G, K)] * (config.reward.credit_level == "step"):
        found = _call(scale, "deviation_qg valid_qg eps", _array(*shape), _bool(*shape), 0.1)
        if jnp.broadcast_shapes(found.shape, shape) != shape:
            return f"returns {found.shape}; must broadcast with {shape}"
    return None


def _level_error(level: Any, config: Config) -> str | None:
    w = config.reward
    arrays = _array(Q, G), _array(Q, G, K), _bool(Q, G, K), _array(Q * G, T, dtype=jnp.int32)
    options = {"discount": 1.0, "advantage": "group_mean", "scale": "group_std", "eps": w.process_eps.nats}
    found = _call(level, "reward_qg gain_qgk valid_qgk step_bt", *arrays, **options, valid_qg=jnp.ones((Q, G), bool))
    return _shape_error(found, (Q * G, T))


def _loss_error(loss: Any, config: Config) -> str | None:
    s = config.loss
    settings = ClipSettings(clip_low=s.clip_low, clip_high=s.clip_high, dual_clip=s.dual_clip)
    if error := signature_error(loss, "ratio_bt", "logprob_bt", "advantage_bt", "settings"):
        return error
    found = jax.eval_shape(lambda *arrays: loss(*arrays, settings), *[_array(Q, T)] * 3)
    return _shape_error(found, (Q, T), (Q, T))


_SCORED = ("train", "eval", "sample", "score")
KINDS: dict[str, Kind] = {
    "reward.outcomes": Kind(OUTCOMES, ("train",), lambda part, config: reward_error(part)),
    "reward.credit": Kind(rewards.CREDITS, _SCORED, _credit_error),
    "reward.credit_args.gate": Kind(rewards.GATES, _SCORED, _gate_error),
    "reward.credit_level": Kind(advantages.CREDIT_LEVELS, ("train",), _level_error),
    "reward.advantage": Kind(advantages.ADVANTAGES, ("train", "sft"), _advantage_error),
    "reward.outcome_scale": Kind(advantages.SCALES, ("train", "sft"), _scale_error),
    "reward.process_scale": Kind(advantages.SCALES, ("train",), _scale_error),
    "reward.over_tokens": Kind(
        rewards.OVER_TOKENS,
        _SCORED,
        lambda part, config: _shape_error(_call(part, "logprob_kay scored_ay", _array(K, A, T), _bool(A, T)), (K, A)),
    ),
    "reward.over_spellings": Kind(
        rewards.OVER_SPELLINGS, _SCORED, lambda part, config: _shape_error(_call(part, "ell_ka", _array(K, A)), (K,))
    ),
    "loss.policy_loss": Kind(losses.LOSSES, ("train", "sft"), _loss_error),
    "loss.ratio": Kind(
        losses.RATIOS,
        ("train", "sft"),
        lambda part, config: _shape_error(
            _call(part, "logprob_bt old_logprob_bt mask_bt", _array(Q, T), _array(Q, T), _bool(Q, T)), (Q, T)
        ),
    ),
    "loss.aggregate": Kind(
        losses.AGGREGATES,
        ("train", "sft"),
        lambda part, config: _shape_error(_call(part, "mask_bt", _bool(Q, T)), (Q, T)),
    ),
    "log.writers": Kind(WRITERS, ("train", "sft"), lambda part, config: writer_error(part)),
}
