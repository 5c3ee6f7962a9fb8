"""The typed view of the config names the keys of the defaults, with their types."""

import typing

from mig_jax.configs import default
from ml_collections import ConfigDict

from mig_jax import config as config_types


def mismatches(section: ConfigDict, view: type, path: str) -> list[str]:
    """Keys that only one side has, and values of another type than the view says."""
    hints = typing.get_type_hints(view)
    found = [f"{path}{key}: only in one of the two" for key in set(section) ^ set(hints)]
    for key in set(section) & set(hints):
        value, hint = section[key], hints[key]
        if isinstance(value, ConfigDict):
            found += mismatches(value, hint, f"{path}{key}.")
        elif type(value) is not (typing.get_origin(hint) or hint):
            found.append(f"{path}{key}: {value!r} is no {hint}")
    return found


def test_typed_view_names_every_key_of_the_defaults():
    assert mismatches(default.get_config(), config_types.Config, "") == []


def test_differences_are_found():
    config = default.get_config()
    config.unlock()
    del config.rollout["questions"]
    del config.loss["alpha"]
    config.extra = 1
    assert {line.split(":")[0] for line in mismatches(config, config_types.Config, "")} == {
        "rollout.questions", "loss.alpha", "extra",
    }  # fmt: skip


def test_every_number_has_a_range():
    """The ranges of the others have two ends, or depend on each other; `check_config` has them."""

    def without_range(view, path):
        for key, hint in typing.get_type_hints(view, include_extras=True).items():
            if hint in (int, float):
                yield f"{path}{key}"
            elif isinstance(hint, type) and config_types.Section in hint.__mro__:
                yield from without_range(hint, f"{path}{key}.")

    others = {"seed", "data.eval_seed", "optimizer.b1", "optimizer.b2", "mesh.data", "mesh.fsdp", "mesh.tensor"}
    assert set(without_range(config_types.Config, "")) == others
