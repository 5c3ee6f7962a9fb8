"""What is done with adapters outside of the decoder: added to weights, taken off, merged, read and written as by PEFT.

What has none is the same tree without their leaves, so the base of a policy needs no second copy:

    params = lora.add(params, config, key)              # config.lora says which
    reference = decoder.bind(dataclasses.replace(config, lora=None), lora.strip(params))
"""

import dataclasses
import functools
import json
import math
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx, traverse_util

from mig_jax.distributed import sharding
from mig_jax.models import adapters
from mig_jax.models.adapters import PLACES, LoraConfig
from mig_jax.models.decoder import DecoderConfig

_TENSORS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
# What a config of PEFT must say, and what it must leave empty: those change what is computed.
_FIXED = {"peft_type": "LORA", "bias": "none"}
_UNSUPPORTED = (
    "use_dora", "use_rslora", "use_qalora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save",
    "layer_replication", "lora_bias", "target_parameters", "trainable_token_indices", "alora_invocation_tokens",
)  # fmt: skip
_DTYPES = ("F32", "F16", "BF16")


def is_adapter(path: str) -> bool:
    """Is the parameter at this path, such as "layers/mlp/up_lora_a", an adapter's?"""
    return path.endswith(("_lora_a", "_lora_b"))


def add(params: dict[str, Any], config: DecoderConfig, key: jax.Array) -> dict[str, Any]:
    """Parameters of `config` from those without adapters, which are the same buffers in both."""
    flat, rngs = traverse_util.flatten_dict(params, sep="/"), nnx.Rngs(params=key)
    for name in config.lora.modules:
        path = _path(name)
        shape = flat[path].shape
        for suffix, adapter in adapters.fresh(name, shape, ("",) * len(shape), config.lora.rank, rngs).items():
            flat[path + suffix] = adapter.get_value()
    return traverse_util.unflatten_dict(flat, sep="/")


def strip(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the base, without adapters: the same buffers."""
    flat = traverse_util.flatten_dict(params, sep="/")
    return traverse_util.unflatten_dict({path: x for path, x in flat.items() if not is_adapter(path)}, sep="/")


def merge(params: dict[str, Any], config: DecoderConfig) -> dict[str, Any]:
    """W + (alpha / rank) · A B: parameters of `config` without lora. Summed in float32, rounded to the dtype of W."""
    flat = traverse_util.flatten_dict(params, sep="/")
    for name in config.lora.modules:
        path = _path(name)
        weight, a, b = flat[path], flat.pop(path + "_lora_a"), flat.pop(path + "_lora_b")
        delta = jax.vmap(functools.partial(jnp.tensordot, axes=1))(a, b) * (config.lora.alpha / config.lora.rank)
        flat[path] = (weight.astype(jnp.float32) + delta).astype(weight.dtype)
    return traverse_util.unflatten_dict(flat, sep="/")


def _path(name: str) -> str:
    return f"layers/{PLACES[name].part}/{name}"


# --------------------------------------------------------------------------------------------------------- PEFT's files


def base_of(folder: str | os.PathLike) -> str:
    """Path or hub name of the model that the adapters in this folder are for; "" where it has none.

    Raises:
      ValueError: there are adapters, but PEFT was not told of which model.
    """
    file = pathlib.Path(folder) / _CONFIG
    base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path") if file.exists() else ""
    if base is None:
        raise ValueError(f"{file}: base_model_name_or_path is empty: write the folder or name of the model there")
    return base


def save_peft(params: dict[str, Any], config: DecoderConfig, folder: str | os.PathLike, base: str) -> None:
    """Write adapter_model.safetensors and adapter_config.json, as PEFT reads them; the weights are left out.

    All processes must call this; the first one writes.

    Args:
      base: path or name of the model that the adapters are for.
    """
    flat, tensors = traverse_util.flatten_dict(params, sep="/"), {}
    for name in config.lora.modules:
        a, b = (sharding.to_host(flat[_path(name) + suffix]).astype(np.float32) for suffix in ("_lora_a", "_lora_b"))
        for layer in range(config.layers):
            name_a, name_b = _peft_names(name, layer, config)
            tensors[name_a] = np.ascontiguousarray(a[layer].reshape(-1, config.lora.rank).T)
            tensors[name_b] = np.ascontiguousarray(b[layer].reshape(config.lora.rank, -1).T)
    if jax.process_index():
        return
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Names that no reader looks for, until all is written.
    safetensors.numpy.save_file(tensors, folder / f"{_TENSORS}.part", metadata={"format": "pt"})
    (folder / f"{_TENSORS}.part").replace(folder / _TENSORS)
    (folder / f"{_CONFIG}.part").write_text(json.dumps(_peft_config(config, base), indent=2), encoding="utf-8")
    (folder / f"{_CONFIG}.part").replace(folder / _CONFIG)


def load_peft(
    folder: str | os.PathLike, config: DecoderConfig, params: dict[str, Any]
) -> tuple[DecoderConfig, dict[str, Any]]:
    """`config` with the adapters of a folder that PEFT, or `save_peft`, has written; and `params` with them.

    Raises:
      ValueError: PEFT computes something else there than LoRA on these weights; or tensors are missing, unexpected, of
        another shape or of a dtype that is no float. All are listed.
    """
    folder = pathlib.Path(folder)
    raw, stored = json.loads((folder / _CONFIG).read_text(encoding="utf-8")), _open(folder)
    flat, names = traverse_util.flatten_dict(params, sep="/"), set(stored.keys())
    modules = [name for name in PLACES if not names.isdisjoint(_peft_names(name, 0, config))]
    wanted = _wanted(modules, config, raw.get("r"), flat)
    problems = _unsupported(raw) + _mismatches(wanted, stored)
    if problems or not modules:
        problems = problems or ["there is no adapter"]
        raise ValueError(f"{folder}: not adapters that the decoder runs:\n  " + "\n  ".join(problems))
    config = dataclasses.replace(config, lora=LoraConfig(raw["r"], float(raw["lora_alpha"]), tuple(modules)))
    for path, (shape, layers) in wanted.items():
        value = np.stack([stored.get_tensor(name).astype(np.float32).T for name in layers])
        flat[path] = jnp.asarray(value.reshape(len(layers), *shape))
    return config, traverse_util.unflatten_dict(flat, sep="/")


def _open(folder: pathlib.Path) -> Any:
    try:
        return safetensors.safe_open(folder / _TENSORS, framework="numpy")
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{folder / _TENSORS}: {error}") from error


def _peft_names(name: str, layer: int, config: DecoderConfig) -> tuple[str, str]:
    """What PEFT calls A and B of a weight: where they are in the model of transformers, not in its files."""
    inside = "model.language_model" if config.vision else "model"
    place = PLACES[name]
    weight = f"base_model.model.{inside}.layers.{layer}.{place.hf_part}.{place.hf_name}"
    return f"{weight}.lora_A.weight", f"{weight}.lora_B.weight"


def _peft_config(config: DecoderConfig, base: str) -> dict[str, Any]:
    lora, names = config.lora, [PLACES[name].hf_name for name in config.lora.modules]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if float(lora.alpha).is_integer() else lora.alpha,
        # The tower has projections of the same names, which are not meant.
        "target_modules": rf".*language_model.*\.({'|'.join(names)})" if config.vision else names,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }


def _wanted(
    modules: list[str], config: DecoderConfig, rank: int, flat: dict[str, Any]
) -> dict[str, tuple[tuple[int, ...], list[str]]]:
    """Path of each adapter → its shape in one layer, and PEFT's names of the layers."""
    wanted = {}
    for name in modules:
        shape, cut = flat[_path(name)].shape, 1 + PLACES[name].inputs
        names = [_peft_names(name, layer, config) for layer in range(config.layers)]
        wanted[_path(name) + "_lora_a"] = (*shape[1:cut], rank), [a for a, _ in names]
        wanted[_path(name) + "_lora_b"] = (rank, *shape[cut:]), [b for _, b in names]
    return wanted


def _unsupported(raw: dict[str, Any]) -> list[str]:
    """What the PEFT config says that the decoder does not compute."""
    problems = [f"{key}={raw.get(key)!r}: must be {want!r}" for key, want in _FIXED.items() if raw.get(key) != want]
    problems += [f"{key}={raw[key]!r}: is not supported" for key in _UNSUPPORTED if raw.get(key)]
    return problems + [f"{key}={raw.get(key)!r}: must be > 0" for key in ("r", "lora_alpha") if not raw.get(key)]


def _mismatches(wanted: dict[str, tuple[tuple[int, ...], list[str]]], stored: Any) -> list[str]:
    """Every tensor that is missing, unexpected, or not what the config makes of the weights; headers only."""
    unexpected, problems = set(stored.keys()), []
    for shape, names in wanted.values():
        is_a = names[0].endswith("lora_A.weight")
        rows, columns = (shape[-1], math.prod(shape[:-1])) if is_a else (math.prod(shape[1:]), shape[0])
        for name in names:
            if name not in stored.keys():
                problems.append(f"missing: {name} {[rows, columns]}")
                continue
            unexpected.discard(name)
            header = stored.get_slice(name)
            if header.get_shape() != [rows, columns]:
                problems.append(f"wrong shape: {name} is {header.get_shape()}, not {[rows, columns]}")
            if header.get_dtype() not in _DTYPES:
                problems.append(f"unsupported dtype: {name} is {header.get_dtype()}, not one of {', '.join(_DTYPES)}")
    return problems + [f"unexpected: {name}" for name in sorted(unexpected)]
