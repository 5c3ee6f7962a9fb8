"""Configs. A config anywhere else starts from the defaults: `from mig_jax.configs import default`."""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """Import a config when it is first used, as in `mig_jax.configs.quickstart.get_config()`."""
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no config {name!r}") from None
