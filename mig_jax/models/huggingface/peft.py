"""Adapters in the format of PEFT: a folder with adapter_model.safetensors and adapter_config.json, read and written.

Source: https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from flax import traverse_util

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models.adapters import ATTENTION, PROJECTIONS, LoraConfig
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.huggingface import config as hf_config
from mig_jax.models.huggingface import layout, tensor_files
from mig_jax.models.lora import param_path, require_lora

_TENSORS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
# Fields of adapter_config.json that must have a value, and those that must be empty: they change the computation.
_REQUIRED = {"peft_type": "LORA", "bias": "none"}
_UNSUPPORTED = (
    "use_dora", "use_rslora", "use_qalora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save",
    "layer_replication", "lora_bias", "target_parameters", "trainable_token_indices", "alora_invocation_tokens",
)  # fmt: skip

# Initial values of adapters with which PEFT leaves the base parameters as they are; others, such as pissa, change them.
_INITS = (None, True, False, "gaussian", "orthogonal", "eva")


class _AdapterTensors(NamedTuple):
    """One parameter of an adapter on disk: its shape in one layer, and the names of the layers' tensors."""

    shape: tuple[int, ...]
    names: list[str]


def find_base(folder: str | os.PathLike) -> str | None:
    """Return the path or hub name of the model that the adapters in a folder belong to; None: there are no adapters.

    Raises:
      UserError: adapter_config.json is damaged, or does not name the model.
    """
    file = pathlib.Path(folder) / _CONFIG
    if not file.exists():
        return None
    if base := hf_config.read_json(file).get("base_model_name_or_path"):
        return base
    raise UserError(f"{file}: base_model_name_or_path is empty: write the folder or hub name of the base model there")


def save(
    params: dict[str, Any],
    config: DecoderConfig,
    folder: str | os.PathLike,
    base: str,
    *,
    base_has_tower: bool = False,
) -> None:
    """Write the adapters of `params`, so that PEFT and `load` can read them; other parameters are left out.

    All processes must call this; the first one writes.

    Args:
      base: path or hub name of the model that the adapters belong to.
      base_has_tower: that model has a vision tower, although `config` has none: Gemma 3 from 4B on.
    """
    flat, lora, tensors = layout.flatten(params), require_lora(config), {}
    has_tower = base_has_tower or bool(config.vision)
    for name in lora.modules:
        path = param_path(name)
        a, b = (sharding.to_host(flat[path + suffix]).astype(np.float32) for suffix in ("_lora_a", "_lora_b"))
        for layer in range(config.layers):
            name_a, name_b = _tensor_names(name, layer, config, has_tower=has_tower)
            tensors[name_a] = np.ascontiguousarray(a[layer].reshape(-1, lora.rank).T)
            tensors[name_b] = np.ascontiguousarray(b[layer].reshape(lora.rank, -1).T)
    if jax.process_index():
        return
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensor_files.write_file(tensors, folder / _TENSORS)
    unfinished = folder / f"{_CONFIG}.part"
    unfinished.write_text(json.dumps(_adapter_config(config, base, has_tower=has_tower), indent=2), encoding="utf-8")
    unfinished.replace(folder / _CONFIG)


def load(
    folder: str | os.PathLike, config: DecoderConfig, params: dict[str, Any]
) -> tuple[DecoderConfig, dict[str, Any]]:
    """Load the adapters of a folder that PEFT or `save` has written.

    Args:
      folder: of the adapters.
      config: of the base model.
      params: of the base model.

    Returns:
      `config` with `lora`, and `params` with the adapters.

    Raises:
      UserError: PEFT computes something other than LoRA with these adapters; or tensors are missing, unexpected, of
        another shape, or not floating-point. Lists all of them.
    """
    folder, flat = pathlib.Path(folder), layout.flatten(params)
    raw, opened = hf_config.read_json(folder / _CONFIG), _open(folder / _TENSORS)
    name_of = {_known_name(name, config): name for name in opened.keys()}
    found = set(name_of)
    possible = ATTENTION if config.experts else PROJECTIONS
    modules = [
        name for name in possible if not found.isdisjoint(_tensor_names(name, 0, config, has_tower=bool(config.vision)))
    ]
    expected = _expected_tensors(modules, config, raw.get("r"), flat)
    errors = [*_config_errors(raw), *_tensor_errors(expected, opened, name_of)]
    if errors or not modules:
        errors = errors or ["there are no adapters"]
        raise UserError(f"{folder}: these adapters are not supported:\n  " + "\n  ".join(errors))
    config = dataclasses.replace(config, lora=LoraConfig(raw["r"], float(raw["lora_alpha"]), tuple(modules)))
    for path, (shape, names) in expected.items():
        value = np.stack([opened.get_tensor(name_of[name]).astype(np.float32).T for name in names])
        flat[path] = jnp.asarray(value.reshape(len(names), *shape))
    return config, traverse_util.unflatten_dict(flat, sep="/")


def _open(file: pathlib.Path) -> Any:
    try:
        return safetensors.safe_open(file, framework="numpy")
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"{file}: {error}") from error


def _tensor_names(name: str, layer: int, config: DecoderConfig, *, has_tower: bool) -> tuple[str, str]:
    """Return PEFT's names of A and B of a projection: its name in the model of transformers, not in the files."""
    on_disk = layout.tensor_table(config)[param_path(name)].name.format(layer)
    module = layout.canonical_name(on_disk).removesuffix(".weight")
    if has_tower:
        module = module.replace("model.", "model.language_model.", 1)
    return f"base_model.model.{module}.lora_A.weight", f"base_model.model.{module}.lora_B.weight"


def _known_name(name: str, config: DecoderConfig) -> str:
    """Return the name that `_tensor_names` gives a tensor for `config`.

    Names of models with a vision tower have changed with transformers; ours may have none although the base has one.
    """
    prefix = "base_model.model."
    if not name.startswith(prefix):
        return name
    inner = layout.canonical_name(name.removeprefix(prefix))
    is_nested = config.vision and inner.startswith("model.layers.")
    return prefix + (f"model.language_model.{inner[6:]}" if is_nested else inner)


def _adapter_config(config: DecoderConfig, base: str, *, has_tower: bool) -> dict[str, Any]:
    """Return adapter_config.json."""
    lora = require_lora(config)
    names = [layout.tensor_table(config)[param_path(name)].name.split(".")[-2] for name in lora.modules]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
        # The vision tower has projections of the same names, which have no adapters.
        "target_modules": rf".*language_model.*\.({'|'.join(names)})" if has_tower else names,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }


def _expected_tensors(
    modules: list[str], config: DecoderConfig, rank: Any, flat: dict[str, Any]
) -> dict[str, _AdapterTensors]:
    """Return the tensors of each parameter of the adapters, by its path."""
    expected = {}
    for name in modules:
        path, first_output = param_path(name), 1 + PROJECTIONS[name].inputs
        shape = flat[path].shape
        names = [_tensor_names(name, layer, config, has_tower=bool(config.vision)) for layer in range(config.layers)]
        expected[path + "_lora_a"] = _AdapterTensors((*shape[1:first_output], rank), [a for a, _ in names])
        expected[path + "_lora_b"] = _AdapterTensors((rank, *shape[first_output:]), [b for _, b in names])
    return expected


def _config_errors(raw: dict[str, Any]) -> Iterator[str]:
    """Yield the fields of adapter_config.json with which PEFT computes something other than the decoder."""
    for key, want in _REQUIRED.items():
        if raw.get(key) != want:
            yield f"{key}={raw.get(key)!r}: must be {want!r}"
    for key in _UNSUPPORTED:
        if raw.get(key):
            yield f"{key}={raw[key]!r}: is not supported"
    if raw.get("init_lora_weights") not in _INITS:
        yield f"init_lora_weights={raw['init_lora_weights']!r}: changes the base parameters, which is not supported"
    for key in ("r", "lora_alpha"):
        if not raw.get(key):
            yield f"{key}={raw.get(key)!r}: must be > 0"


def _tensor_errors(expected: dict[str, _AdapterTensors], opened: Any, name_of: dict[str, str]) -> Iterator[str]:
    """Yield every tensor that is missing, unexpected, or not as config and base model require; reads headers only."""
    found = set(name_of)
    for name in sorted(set(opened.keys()) - set(name_of.values())):
        yield f"there twice, under two names: {name}"
    for shape, names in expected.values():
        is_a = names[0].endswith("lora_A.weight")
        rows, columns = (shape[-1], math.prod(shape[:-1])) if is_a else (math.prod(shape[1:]), shape[0])
        for name in names:
            if name not in found:
                yield f"missing: {name} {[rows, columns]}"
                continue
            header = opened.get_slice(name_of[name])
            if header.get_shape() != [rows, columns]:
                yield f"wrong shape: {name} is {header.get_shape()}, not {[rows, columns]}"
            if header.get_dtype() not in tensor_files.FLOAT_DTYPES:
                types = ", ".join(tensor_files.FLOAT_DTYPES)
                yield f"unsupported dtype: {name} is {header.get_dtype()}, not one of {types}"
    unexpected = found.difference(*(names for _, names in expected.values()))
    if of_experts := sorted(name for name in unexpected if ".mlp.experts." in name):
        yield f"adapters of experts, which only attention can have here: {of_experts[0]} and {len(of_experts) - 1} more"
    for name in sorted(unexpected.difference(of_experts)):
        yield f"unexpected: {name}"
