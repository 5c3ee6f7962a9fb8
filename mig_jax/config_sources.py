"""Configs from names, files, the runs that made a model, and overrides from Python."""

import copy
import functools
import operator
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, cast

from ml_collections import ConfigDict

from mig_jax import parts
from mig_jax.config import RENAMED_KEYS, Config
from mig_jax.config_file import check_config_file, check_overrides, default_module, find_config_file, flatten
from mig_jax.distributed import multihost
from mig_jax.errors import UserError
from mig_jax.policy.load import RUN_CONFIG, find_run_config
from mig_jax.records.atomic_file import read_json_object
from mig_jax.text.prompt_options import read_system_prompt

# A file or folder.
AnyPath = str | os.PathLike[str]

# Sections of its run's config that a model is prompted, sampled and scored with.
RUN_SECTIONS = ("data", "rollout", "reward")


def load_config(base: AnyPath | Config = "default", /, **overrides: Any) -> Config:
    """Return a config of its own, in which some values are replaced.

    Args:
      base: name of a config of the package, such as "quickstart"; a config file; or a config, which stays as it is.
      **overrides: values by key. A section takes a dict, as in `rollout={"group_size": 16}`; a key may also have dots,
        as in `**{"rollout.group_size": 16}`.

    Raises:
      UserError: there is no such config, it fails, or it has no such key; lists all such keys, with the nearest names.
    """
    config: Any
    if isinstance(base, ConfigDict):
        config = copy.deepcopy(base)
        if missing := flatten(default_module().get_config()).keys() - flatten(config).keys():
            raise UserError(f"the config lacks {', '.join(sorted(missing)[:8])}; start from mig_jax.load_config()")
    else:
        config = check_config_file(find_config_file(os.fspath(cast(AnyPath, base))))
    _override(config, overrides)
    config.model.path = local_path("model.path", config.model.path)
    use_absolute_parts(config)
    config.data.system_prompt = read_system_prompt(config.data.system_prompt)
    return config


def use_run_config(config: Any, *, with_columns: bool = True) -> None:
    """Set the sections `RUN_SECTIONS` to those of the run that made `model.path`, if one did; print whose are used.

    Args:
      config: is changed.
      with_columns: also set `data.columns`, which describes the run's data.

    Raises:
      UserError: see `apply_run_config`.
    """
    path, columns = find_run_config(config.model.path), config.data.columns.to_dict()
    if config.model.path and multihost.is_main_process():
        source = path or f"the defaults, because {config.model.path} has no {RUN_CONFIG}"
        print(f"prompts, lengths and rewards are those of {source}", file=sys.stderr)
    if path:
        apply_run_config(config, path)
    if not with_columns:
        config.data.columns.update(columns)


def apply_run_config(config: Any, path: str) -> None:
    """Set the sections `RUN_SECTIONS` of a config to those of the run whose config is stored at `path`.

    Raises:
      UserError: the file is damaged, has keys that were renamed since, or names code that comes with it.
    """
    parts.use_copies(os.path.join(os.path.dirname(path), parts.FOLDER))
    stored = read_json_object(path, keys=RUN_SECTIONS)
    used = [key.split(".") for key in RENAMED_KEYS if key.startswith(tuple(f"{name}." for name in RUN_SECTIONS))]
    old = [f"{section}.{name}" for section, name in used if name in (stored.get(section) or {})]
    if old:
        names = ", ".join(f"{key} is now {RENAMED_KEYS[key]}" for key in old)
        raise UserError(f"{path} was written by an earlier version: {names}. Rename these keys in the file")
    if isinstance((stored.get("data") or {}).get("system_prompt"), bool):
        raise UserError(
            f'{path} was written by an earlier version: data.system_prompt is now a text. Write "format" for true '
            'and "" for false in the file'
        )
    parts.check_stored({key: stored.get(key) for key in (*RUN_SECTIONS, "response_format")}, path)
    if isinstance(stored.get("response_format"), str):  # runs of earlier versions have none
        config.response_format = stored["response_format"]
    for section in RUN_SECTIONS:
        try:
            config[section].update({key: value for key, value in stored[section].items() if key in config[section]})
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} is damaged: {section}: {error}; give --config") from error


def use_absolute_parts(config: Any) -> None:
    """Give every file with a part of the user's its absolute path, so that it is found from any folder."""
    for section in [config, *_sections(config)]:
        for key, value in section.items():
            if isinstance(value, str):
                absolute: Any = parts.absolute_spec(value)
            elif isinstance(value, tuple):
                absolute = tuple(parts.absolute_spec(item) if isinstance(item, str) else item for item in value)
            elif isinstance(value, dict):
                absolute = {parts.absolute_spec(name): item for name, item in value.items()}
            else:
                continue
            if absolute != value:
                section[key] = absolute


def _sections(config: Any) -> Iterator[Any]:
    for value in config.values():
        if isinstance(value, ConfigDict):
            yield value
            yield from _sections(value)


def local_path(name: str, path: AnyPath | None) -> str:
    """Return a path with `~` expanded; "" for None.

    Args:
      name: of the argument or the flag, for the message.
      path: a file or folder.

    Raises:
      UserError: the path is a URL, such as gs://bucket/run.
    """
    text = os.fspath(path or "")
    if "://" in text:
        raise UserError(f"{name}={text}: remote paths are not supported; give a local folder or file")
    return os.path.expanduser(text)


def _override(config: Any, overrides: Mapping[str, Any]) -> None:
    """Replace values of a config.

    Raises:
      UserError: lists the keys that do not exist, else the values of the wrong type.
    """
    flat = _flatten_overrides(overrides, config)
    check_overrides([f"--config.{key}=" for key in flat], config)
    errors = []
    for key, value in flat.items():
        *sections, name = key.split(".")
        section = functools.reduce(operator.getitem, sections, config)
        kind = type(section[name]).__name__
        try:
            section[name] = os.fspath(value) if isinstance(value, os.PathLike) else value
        except (TypeError, ValueError):
            errors.append(f"{key}={value!r}: must be of type {kind}")
    if errors:
        raise UserError("; ".join(errors))


def _flatten_overrides(overrides: Any, config: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values of nested dicts by key, those of inner dicts with dots, unless the value is a dict itself."""
    flat: dict[str, Any] = {}
    for key, value in overrides.items():
        inside = functools.reduce(_get, str(key).split("."), config)
        if isinstance(value, Mapping | ConfigDict) and not isinstance(inside, dict):
            flat |= _flatten_overrides(value, inside, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _get(config: Any, key: str) -> Any:
    return config[key] if isinstance(config, ConfigDict) and key in config else None
