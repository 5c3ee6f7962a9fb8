"""Load a config file and explain what is wrong with it in one line: file, line and reason."""

import importlib
import importlib.util
import os
import re
import traceback
from typing import Any

from ml_collections import ConfigDict

from mig_jax.config import RENAMED_KEYS
from mig_jax.errors import UserError


def check_config_file(path: str) -> None:
    """Run a config file as ml_collections will, and explain what fails.

    Args:
      path: the file, optionally followed by `:ARGUMENT` for its `get_config`.

    Raises:
      UserError: no such file, not Python, an error while it runs, or no `get_config` that returns a ConfigDict.
    """
    path, *arguments = path.split(":", 1)
    path = os.path.abspath(path)
    if not os.path.isfile(path):
        raise UserError(f"--config={path}: no such file")
    if not path.endswith(".py"):
        raise UserError(f"--config={path}: must be a Python file (.py) with a function get_config")
    try:
        spec = importlib.util.spec_from_file_location("config_file", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config(*arguments)
    except SyntaxError as error:
        raise UserError(f"{error.filename or path}:{error.lineno or 1}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        raise UserError(_explain(error, path)) from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path}: get_config returns a {type(config).__name__}, not a ml_collections.ConfigDict")
    missing = set(_keys(_defaults().get_config())) - set(_keys(config))
    if missing:
        raise UserError(f"{path}: get_config lacks {', '.join(sorted(missing)[:8])}; start from default.get_config()")


def _defaults() -> Any:
    """Import `configs/default.py`, which type checkers do not find under its package name."""
    return importlib.import_module("mig_jax.configs.default")


def _keys(config: ConfigDict) -> list[str]:
    """Return all keys, those of sections with dots."""
    return [
        name
        for key, value in config.items()
        for name in ([f"{key}.{inner}" for inner in _keys(value)] if isinstance(value, ConfigDict) else [key])
    ]


def short_message(error: BaseException) -> str:
    """Return what ml_collections says about a config, without its quotation marks and traces."""
    message = str(error).strip()
    guess = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', message)
    missing = re.search(r"Key \\?['\"](\w+)\\?['\"] does not exist", message) or re.search(r"'([\w.]+)'", message)
    old = guess[2] if guess else missing[1] if missing else ""
    renamed = [new for key, new in RENAMED_KEYS.items() if key.endswith(f".{old}") or key == old] if old else []
    if renamed:
        return f"the config has no {old!r}: it is now called {renamed[0]}"
    if guess:
        return f'the config has no "{guess[2]}": did you mean "{guess[1]}"?'
    if missing and "does not exist" in message:
        return f"the config has no {missing[1]!r}"
    if value := re.search(r"flag --config\.([\w.]+)=(.*?): invalid literal for int", message):
        return f"{value[1]}={value[2]}: must be an integer"
    if value := re.search(r"flag --config\.([\w.]+)=(.*?): could not convert string to float", message):
        return f"{value[1]}={value[2]}: must be a number"
    if isinstance(error, AttributeError | KeyError):
        return "the config has no " + re.sub(r"[\\'\"]+", "'", message)
    return message.splitlines()[-1] if "Traceback" in message else message


def _explain(error: BaseException, path: str) -> str:
    """Return "file:line: reason" for the last line of the config file, or of a config it imports, that failed."""
    folders = (os.path.dirname(path), os.path.dirname(_defaults().__file__))
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if os.path.dirname(os.path.abspath(frame.filename)) in folders]
    if isinstance(error, AttributeError) and "get_config" in str(error):
        return f"{path}: has no function get_config"
    place = f"{own[-1].filename}:{own[-1].lineno}" if own else path
    return f"{place}: {short_message(error)}"
