"""GGUF, the one-file format of llama.cpp: its metadata as a `DecoderConfig`, its tensors under Hugging Face names.

Tensors are dequantized one at a time, and of each only the rows that are asked for. Their names come from the map of
the `gguf` package, which starts from those of `layout.tensor_table`. In files of the llama architecture, llama.cpp
rotates pairs of neighbors where Hugging Face rotates halves, so the rows of queries and keys have another order:

    row (head n, half j, pair i) here  =  row (head n, pair i, half j) in the file

Rotary scaling is "linear" or "yarn" in the metadata. For that of Llama 3.1 a file holds only the result, one factor
per frequency. It is read as the scaling that all releases of Llama 3 have, if these factors follow from it.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and convert_hf_to_gguf.py of llama.cpp (`permute`).
"""

import functools
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mig_jax import gguf_file
from mig_jax.errors import UserError
from mig_jax.gguf_file import GgufFile, GgufTensor
from mig_jax.models import families, rope
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.huggingface.tensor_files import DiskTensor, Slices, Tensors
from mig_jax.models.rope import RopeScaling

_ARCHITECTURES = ("llama", "qwen2", "qwen3")
# Families that are read from folders alone → what these files hold that is not read.
_FOLDERS_ALONE = {"gemma3": "norm weights plus 1, and no kinds of layers; give the folder in Hugging Face format"}
# Field of `DecoderConfig` → key of the metadata.
_SIZES = {
    "vocab_size": "vocab_size",
    "width": "embedding_length",
    "layers": "block_count",
    "heads": "attention.head_count",
    "kv_heads": "attention.head_count_kv",
    "head_size": "attention.key_length",
    "mlp_width": "feed_forward_length",
}
_SCALING_KEYS = ("type", "factor", "original_context_length", "finetuned", "attn_factor")


def is_gguf(path: str | os.PathLike) -> bool:
    """Return whether a path has the extension of a GGUF file."""
    return os.fspath(path).endswith(".gguf")


def read_config(path: str | os.PathLike) -> DecoderConfig:
    """Read the config of a GGUF file of the architectures llama (Llama, SmolLM2 …), qwen2 (also Qwen2.5) or qwen3.

    Raises:
      UserError: the file is missing or damaged, or asks for what the decoder does not compute; lists every such key.
    """
    file = _open(path)
    names = {tensor.name for tensor in file.tensors}
    raw = _model_metadata(file)
    errors = list(_metadata_errors(raw))
    scaling = None
    if not errors:
        try:
            scaling = _rope_scaling(raw, _rope_factors(path, file))
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise UserError(f"{path}: this model is not supported:\n  " + "\n  ".join(errors))
    return DecoderConfig(
        **{ours: raw[theirs] for ours, theirs in _SIZES.items()},
        rope_theta=float(raw.get("rope.freq_base", 10_000)),
        rope_scaling=scaling,
        norm_eps=_shortest_decimal(raw["attention.layer_norm_rms_epsilon"]),
        tied_head="output.weight" not in names,
        qkv_bias="blk.0.attn_q.bias" in names,
        o_bias="blk.0.attn_output.bias" in names,
        qk_norm="blk.0.attn_q_norm.weight" in names,
        max_positions=raw["context_length"],
    )


def read_license(path: str | os.PathLike) -> dict[str, str]:
    """Return the fields license, license_name and license_link that the metadata of a file states."""
    metadata = gguf_file.read(path).metadata
    keys = {
        "license": "general.license",
        "license_name": "general.license.name",
        "license_link": "general.license.link",
    }
    return {name: str(metadata[key]) for name, key in keys.items() if key in metadata}


def open_file(path: str | os.PathLike, hf_names: Iterable[str]) -> tuple[Tensors, list[str]]:
    """Open a file; reads its metadata only.

    Args:
      hf_names: Hugging Face names that the caller may ask for. A tensor with none of these keeps its name of the file.

    Returns:
      Every tensor by its name, and what is wrong with the file.
    """
    try:
        file = _open(path)
    except UserError as error:
        return {}, [str(error)]
    raw = _model_metadata(file)
    if errors := list(_metadata_errors(raw)):
        return {}, errors
    hf_name, tensors = _hf_names(raw, hf_names), Tensors()
    for tensor in file.tensors:
        tensors[hf_name.get(tensor.name, tensor.name)] = _disk_tensor(path, tensor, _row_order(tensor, raw))
    return tensors, []


def _open(path: str | os.PathLike) -> GgufFile:
    """Return the metadata and tensors of a file; it reads no tensor.

    Raises:
      UserError: the file is missing or damaged, or holds no model; or the package gguf is not installed.
    """
    file = gguf_file.read(path)
    try:
        ends = [tensor.offset + _nbytes(tensor) for tensor in file.tensors]
    except ImportError as error:
        raise UserError(f"{path}: reading GGUF needs a package; `pip install gguf`") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged, or newer than the package gguf ({error})") from error
    if max(ends, default=0) > file.nbytes:
        raise UserError(f"{path}: incomplete, {file.nbytes} of {max(ends)} bytes; copy it again")
    if "general.architecture" not in file.metadata:
        raise UserError(f"{path}: no general.architecture; the file does not hold a model")
    return file


def _kind(tensor: GgufTensor) -> Any:
    """Return the `gguf.GGMLQuantizationType` of a tensor; ValueError if there is none of its number."""
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType(tensor.kind)


def _nbytes(tensor: GgufTensor) -> int:
    """Return the size of the tensor's data."""
    from gguf import GGML_QUANT_SIZES

    block, nbytes = GGML_QUANT_SIZES[_kind(tensor)]
    return math.prod(tensor.shape) * nbytes // block


def _model_metadata(file: GgufFile) -> dict[str, Any]:
    """Return the metadata without the architecture's prefix, keys that files may leave out filled in."""
    architecture = str(file.metadata["general.architecture"])
    prefix = f"{architecture}."
    raw = {key.removeprefix(prefix): value for key, value in file.metadata.items() if key.startswith(prefix)}
    raw["architecture"] = architecture
    if tokens := file.metadata.get("tokenizer.ggml.tokens"):
        raw.setdefault("vocab_size", len(tokens))
    raw.setdefault("attention.head_count_kv", raw.get("attention.head_count"))
    width, heads = raw.get("embedding_length"), raw.get("attention.head_count")
    if isinstance(width, int) and isinstance(heads, int) and heads:
        raw.setdefault("attention.key_length", width // heads)
    return raw


def _metadata_errors(raw: dict[str, Any]) -> Iterator[str]:
    """Yield every key of the metadata that is not supported, with what would be supported."""
    if raw["architecture"] not in _ARCHITECTURES:
        alone = _FOLDERS_ALONE.get(raw["architecture"])
        reason = f" ({alone})" if alone else families.reason_of(raw["architecture"].replace("-", "_"))
        yield f"general.architecture = {raw['architecture']!r}{reason}; supported: {', '.join(_ARCHITECTURES)}"
        return
    prefix = raw["architecture"]
    for key in (*_SIZES.values(), "context_length"):
        if not isinstance(raw.get(key), int) or raw[key] < 1:
            yield f"{prefix}.{key} = {raw.get(key)!r}; supported: a positive integer"
    epsilon = raw.get("attention.layer_norm_rms_epsilon")
    if not isinstance(epsilon, float):
        yield f"{prefix}.attention.layer_norm_rms_epsilon = {epsilon!r}; supported: a number"
    for key in ("attention.value_length", "rope.dimension_count"):
        if raw.get(key, raw.get("attention.key_length")) != raw.get("attention.key_length"):
            yield f"{prefix}.{key} = {raw[key]!r}; supported: the size of a head, {raw.get('attention.key_length')}"
    for key in ("expert_count", "attention.sliding_window"):
        if raw.get(key):
            yield f"{prefix}.{key} = {raw[key]!r}; supported: 0"


def _rope_factors(path: str | os.PathLike, file: GgufFile) -> np.ndarray | None:
    """Return the factors `[H/2]` by which the file divides the rotary frequencies; None if it has none."""
    tensor = next((tensor for tensor in file.tensors if tensor.name == "rope_freqs.weight"), None)
    return None if tensor is None else _disk_tensor(path, tensor, None).read((slice(None),))


def _rope_scaling(raw: dict[str, Any], factors: np.ndarray | None) -> RopeScaling | None:
    """Return the scaling given by the metadata or by the factors of the frequencies, or None.

    Raises:
      ValueError: it is not supported.
    """
    # llama.cpp takes a factor without a type as linear.
    kind = raw.get("rope.scaling.type", "linear" if raw.get("rope.scaling.factor") else "none")
    settings = {key: value for key, value in raw.items() if key.startswith("rope.scaling.") and value}
    if unknown := sorted(settings.keys() - {f"rope.scaling.{key}" for key in _SCALING_KEYS}):
        raise ValueError(f"{', '.join(unknown)}: not supported; supported: {', '.join(_SCALING_KEYS)}")
    if factors is not None:
        return _llama3_scaling(factors, raw)
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise ValueError(f"rope.scaling.type = {kind!r}; supported: 'none', 'linear', 'yarn'")
    factor: Any = settings.get("rope.scaling.factor")  # `RopeScaling` reports where it is missing
    context = settings.get("rope.scaling.original_context_length") if kind == "yarn" else None
    attn_factor = settings.get("rope.scaling.attn_factor")
    if attn_factor is not None and kind != "yarn":
        raise ValueError(f"rope.scaling.attn_factor = {attn_factor!r} of {kind} rope; supported: absent")
    return RopeScaling(kind, factor, original_max_position_embeddings=context, attn_factor=attn_factor)


def _llama3_scaling(factors: np.ndarray, raw: dict[str, Any]) -> RopeScaling:
    """Return the scaling of Llama 3, if it gives the factors `[H/2]` by which the file divides the frequencies.

    Raises:
      ValueError: it gives others.
    """
    scaling = RopeScaling(
        "llama3",
        float(factors.max()),
        original_max_position_embeddings=8192,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
    )
    head_size, theta = raw["attention.key_length"], raw.get("rope.freq_base", 10_000)
    want = rope.rope_frequencies(head_size, theta) / rope.rope_frequencies(head_size, theta, scaling)
    if factors.shape != want.shape or not np.allclose(factors, want, rtol=1e-4):
        raise ValueError(f"rope_freqs.weight: rotary factors that are not those of Llama 3; supported: {scaling!r}")
    return scaling


def _shortest_decimal(x: float) -> float:
    """Return the shortest decimal that is the same float32: 1e-05 for the float32 9.999999747378752e-06."""
    return float(str(np.float32(x)))


def _hf_names(raw: dict[str, Any], hf_names: Iterable[str]) -> dict[str, str]:
    """Return Hugging Face's name of each tensor by its name in the file."""
    import gguf

    architecture = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[raw["architecture"]]
    name_map = gguf.get_tensor_name_map(architecture, raw["block_count"])
    gguf_names = ((name_map.get_name(name, try_suffixes=(".weight", ".bias")), name) for name in hf_names)
    return {gguf_name: name for gguf_name, name in gguf_names if gguf_name}


def _row_order(tensor: GgufTensor, raw: dict[str, Any]) -> np.ndarray | None:
    """Return the row of the file that is each of our rows; None: the order is the same."""
    module = tensor.name.rsplit(".", 2)[-2]
    if raw["architecture"] != "llama" or module not in ("attn_q", "attn_k"):
        return None
    rows = tensor.shape[0]
    heads = raw["attention.head_count" if module == "attn_q" else "attention.head_count_kv"]
    if rows % (2 * heads):
        return None  # its shape is wrong, which the caller reports
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


def _disk_tensor(path: str | os.PathLike, tensor: GgufTensor, row_order: np.ndarray | None) -> DiskTensor:
    kind = _kind(tensor)
    read = functools.partial(_read, path, kind, tensor.offset, _nbytes(tensor), tensor.shape, row_order)
    return DiskTensor(tensor.shape, kind.name, _is_readable(kind), read)


def _is_readable(kind: Any) -> bool:
    """Return whether the `gguf` package can dequantize a type of tensor."""
    import gguf

    try:
        gguf.quants.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _read(
    path: str | os.PathLike,
    kind: Any,
    offset: int,
    nbytes: int,
    shape: tuple[int, ...],
    row_order: np.ndarray | None,
    slices: Slices,
) -> np.ndarray:
    """Read a part of a tensor. Rows are selected as bytes, before they are dequantized; a vector is one row."""
    import gguf

    rows = math.prod(shape[:-1])
    # Mapped for this tensor only, see `tensor_files`.
    raw = np.memmap(path, np.uint8, mode="r", offset=offset, shape=(rows, nbytes // rows))
    if len(shape) == 1:
        values = gguf.quants.dequantize(np.array(raw[0]), kind)
        return (values if row_order is None else values[row_order])[slices]
    selected = raw[slices[0]] if row_order is None else raw[row_order[slices[0]]]
    return gguf.quants.dequantize(np.array(selected), kind)[:, *slices[1:]]
