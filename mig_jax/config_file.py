"""Find and load a config file, and explain what is wrong with it, or with a flag, in one line."""

import ast
import difflib
import importlib
import importlib.util
import os
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import tuple_parser

from mig_jax.config import RENAMED_KEYS
from mig_jax.errors import UserError

# --config.KEY or --noconfig.KEY, with or without a value.
_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")
_WRONG_TYPE = re.compile(
    r"override field '(\w+)'.*?\. (.*) is of original type <class '(\w+)'> and .* to type <class '(?:[\w.]+\.)?(\w+)'>"
)


def default_module() -> Any:
    """Import `configs/default.py`, which type checkers do not find under its package name."""
    return importlib.import_module("mig_jax.configs.default")


def find_config_file(path: str) -> str:
    """Return the config file that the value of --config names.

    Args:
      path: a file; or, if there is no such file, the name of a config of the package, as quickstart, quickstart.py or
        configs/quickstart.py. `:ARGUMENT` may follow, for its `get_config`.

    Raises:
      UserError: there is neither; the message lists the configs of the package.
    """
    if "://" in path:
        raise UserError(f"--config={path}: remote paths are not supported; give a local file")
    file, colon, argument = path.partition(":")
    file = os.path.expanduser(file)
    if os.path.isfile(file):
        return file + colon + argument
    folder, name = os.path.split(file.removesuffix(".py"))
    configs = Path(default_module().__file__).parent
    if folder in ("", "configs", "mig_jax/configs") and (configs / f"{name}.py").is_file():
        return f"{configs / name}.py{colon}{argument}"
    names = sorted(config.stem for config in configs.glob("*.py") if config.stem != "__init__")
    close = difflib.get_close_matches(name, names, n=1)
    meant = f" (did you mean --config={close[0]}?)" if close else ""
    found = "a folder" if os.path.isdir(file) else "no such file"
    raise UserError(
        f"--config={path}: {found}{meant}; give a file, or one of the configs that come with mig_jax: "
        f"{', '.join(names)}"
    )


def check_config_file(path: str) -> ConfigDict:
    """Run a config file as ml_collections will, explain what fails, and return its config.

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
    missing = set(flatten(default_module().get_config())) - set(flatten(config))
    if missing:
        raise UserError(f"{path}: get_config lacks {', '.join(sorted(missing)[:8])}; start from default.get_config()")
    return config


def check_overrides(arguments: Sequence[str], config: ConfigDict) -> None:
    """Check that the keys of --config.KEY=VALUE exist.

    Args:
      arguments: of the command line.
      config: has all keys.

    Raises:
      UserError: lists the unknown keys, with the nearest names.
    """
    values = flatten(config)
    sections = {key[:end] for key in values for end in range(len(key)) if key[end] == "."}
    errors = []
    for argument in arguments:
        found = _OVERRIDE.match(argument)
        key = re.sub(r"\[\d+\]$", "", found[1]) if found else ""
        if key in sections:
            errors.append(f"{key} is a section: set one of its keys, such as --config.{_first_key(values, key)}=VALUE")
        elif key and key not in values:
            errors.append(_unknown_key(key, values))
    if errors:
        raise UserError("; ".join(errors))


def _first_key(keys: Iterable[str], section: str) -> str:
    return next(key for key in keys if key.startswith(f"{section}."))


def _unknown_key(key: str, known: Iterable[str]) -> str:
    """Return the message about a key that does not exist: its new name, the nearest keys, or those of its section."""
    if key in RENAMED_KEYS:
        return f"the config has no {key}: it is now called {RENAMED_KEYS[key]}"
    section, _, name = key.rpartition(".")
    siblings = [other for other in known if other.rpartition(".")[0] == section]
    # The name may be misspelt, be a part of the right one, or be in another section.
    for keys in (siblings, known):
        by_name = {other.rpartition(".")[2]: other for other in keys}
        close = [key for other, key in by_name.items() if name == other]
        close = close or [by_name[other] for other in difflib.get_close_matches(name, list(by_name), n=1, cutoff=0.7)]
        close = close or [key for other, key in by_name.items() if name in other.split("_")]
        if close:
            return f"the config has no {key}: did you mean {' or '.join(close[:3])}?"
    names = [other.rpartition(".")[2] for other in siblings] if section else []
    return f"the config has no {key}" + (f"; {section} has {', '.join(names)}" if names else "")


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Return the values of a config by key, those of sections with dots."""
    flat = {}
    for key, value in config.items():
        is_section = isinstance(value, ConfigDict)
        flat |= {f"{key}.{inner}": v for inner, v in flatten(value).items()} if is_section else {key: value}
    return flat


def flatten_record(record: Mapping[str, Any], config: ConfigDict) -> dict[str, Any]:
    """Return the values of a config that was stored as nested dicts by key, as `flatten` does.

    Args:
      record: nested dicts; other values may be dicts, too.
      config: tells sections, whose keys get dots, from such values.
    """
    flat = {}
    for key, value in record.items():
        inside = config[key] if key in config else None
        if isinstance(value, Mapping) and (inside is None or isinstance(inside, ConfigDict)):
            inner = flatten_record(value, ConfigDict() if inside is None else inside)
            flat |= {f"{key}.{name}": v for name, v in inner.items()}
        else:
            flat[key] = value
    return flat


class WeightsParser(flags.ArgumentParser):
    """Reads a dict of weights on the command line: "accuracy=1,my_file.py:shortness=-0.1", or Python's own form."""

    def parse(self, argument: Any) -> dict[str, float]:
        if isinstance(argument, dict):
            return argument
        try:
            if argument.lstrip().startswith("{"):
                return {str(name): weight for name, weight in ast.literal_eval(argument).items()}
            pairs = [item.rpartition("=") for item in argument.split(",") if item.strip()]
            return {name.strip(): float(weight) for name, _, weight in pairs}
        except (ValueError, SyntaxError, AttributeError) as error:
            raise ValueError(f"{argument!r} must have the form NAME=NUMBER,NAME=NUMBER") from error

    def flag_type(self) -> str:
        return "weights"


class NamesParser(tuple_parser.TupleParser):
    """Reads a tuple on the command line: "tensorboard,my_file.py:Csv", or Python's own form."""

    def parse(self, argument: Any) -> tuple[Any, ...]:
        if isinstance(argument, str) and "," in argument and not argument.lstrip().startswith(("(", "[")):
            try:
                ast.literal_eval(argument)
            except (ValueError, SyntaxError):
                return tuple(item.strip() for item in argument.split(",") if item.strip())
        return super().parse(argument)


config_flags.register_flag_parser_for_type(dict, WeightsParser())
config_flags.register_flag_parser_for_type(tuple, NamesParser())


def short_message(error: BaseException) -> str:
    """Return what ml_collections or absl says about a config or a flag, without quotation marks and traces."""
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
    if value := re.search(r"flag --(?:config\.)?([\w.]+)=(.*?): invalid literal for int", message):
        return f"{value[1]}={value[2]}: must be an integer"
    if value := re.search(r"flag --(?:config\.)?([\w.]+)=(.*?): could not convert string to float", message):
        return f"{value[1]}={value[2]}: must be a number"
    if value := re.search(r"flag --(?:config\.)?([\w.]+)=(.*?): \('Non-boolean argument", message):
        return f"{value[1]}={value[2]}: must be True or False"
    if value := _WRONG_TYPE.search(message):
        hint = " (format for True, '' for False, or a text of your own)" if value[1] == "system_prompt" else ""
        return f"{value[1]}={value[2]}: must be of type {value[4]}, not {value[3]}{hint}"
    if isinstance(error, AttributeError | KeyError):
        return "the config has no " + re.sub(r"[\\'\"]+", "'", message)
    return message.splitlines()[-1] if "Traceback" in message else " ".join(message.split())


def _explain(error: BaseException, path: str) -> str:
    """Return "file:line: reason" for the last line of the config file, or of a config it imports, that failed."""
    folders = (os.path.dirname(path), os.path.dirname(default_module().__file__))
    frames = traceback.extract_tb(error.__traceback__)
    is_of_config = bool(frames) and "ml_collections" in frames[-1].filename
    own = [frame for frame in frames if os.path.dirname(os.path.abspath(frame.filename)) in folders]
    if isinstance(error, AttributeError) and "get_config" in str(error):
        return f"{path}: has no function get_config"
    place = f"{own[-1].filename}:{own[-1].lineno}" if own else path
    message = " ".join(str(error).split())
    if is_of_config:
        message = short_message(error)
    elif not message or isinstance(error, KeyError):
        message = f"{type(error).__name__} {message}".strip()
    return f"{place}: {message}"
