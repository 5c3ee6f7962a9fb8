"""GGUF, the one-file format of llama.cpp: its metadata as a `DecoderConfig`, its tensors under Hugging Face names.

Tensors are dequantised one at a time, row by row as far as they are asked for. The names come from the map of the
`gguf` package, from the names that `hf_weights` uses. llama.cpp rotates pairs of neighbours in files of the llama
architecture where Hugging Face rotates halves, so the rows of their queries and keys are in another order:

    row (head n, half j, pair i) here  =  row (head n, pair i, half j) in the file

Rotary scaling is "linear" or "yarn" in the metadata. That of Llama 3.1 is there as its result alone, one factor for
each frequency; it is taken for what all releases of Llama 3 have, if those are the factors that follow from it.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and convert_hf_to_gguf.py of llama.cpp (`permute`).
"""

import functools
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mig_jax.models import rope
from mig_jax.models.decoder import DecoderConfig
from mig_jax.models.huggingface.tensor_files import Slices, StoredTensor, Tensors
from mig_jax.models.rope import RopeScaling

_ARCHITECTURES = ("llama", "qwen2", "qwen3")
_SIZES = {
    "vocab_size": "vocab_size",
    "width": "embedding_length",
    "layers": "block_count",
    "heads": "attention.head_count",
    "kv_heads": "attention.head_count_kv",
    "head_size": "attention.key_length",
    "mlp_width": "feed_forward_length",
}
_SCALING_KEYS = ("type", "factor", "original_context_length", "finetuned")


def is_gguf(path: str | os.PathLike) -> bool:
    return os.fspath(path).endswith(".gguf")


def read_config(path: str | os.PathLike) -> DecoderConfig:
    """The config of a GGUF file of the architectures llama (Llama, SmolLM2 …), qwen2 (also 2.5) or qwen3.

    Raises:
      ValueError: the file is broken, or asks for what the decoder does not compute; all of it is listed.
    """
    reader = _open(path)
    names = {tensor.name for tensor in reader.tensors}
    raw = _metadata(reader)
    problems = list(_problems(raw))
    scaling = None
    if not problems:
        try:
            scaling = _rope_scaling(raw, reader)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError(f"{path}: not a model that the decoder runs:\n  " + "\n  ".join(problems))
    return DecoderConfig(
        **{ours: raw[theirs] for ours, theirs in _SIZES.items()},
        rope_theta=float(raw.get("rope.freq_base", 10_000)),
        rope_scaling=scaling,
        norm_eps=_shortest(raw["attention.layer_norm_rms_epsilon"]),
        tied_head="output.weight" not in names,
        qkv_bias="blk.0.attn_q.bias" in names,
        o_bias="blk.0.attn_output.bias" in names,
        qk_norm="blk.0.attn_q_norm.weight" in names,
        max_positions=raw["context_length"],
    )


def open_file(path: str | os.PathLike, hf_names: Iterable[str]) -> tuple[Tensors, list[str]]:
    """Every tensor of the file, and what is wrong with it.

    Args:
      hf_names: the names that the caller may ask for. A tensor with none of these keeps its name of the file.
    """
    try:
        reader = _open(path)
    except ValueError as error:
        return {}, [str(error)]
    raw = _metadata(reader)
    if problems := list(_problems(raw)):
        return {}, problems
    hf_name = _hf_names(raw, hf_names)
    return {
        hf_name.get(tensor.name, tensor.name): _stored(path, tensor, _row_order(tensor, raw))
        for tensor in reader.tensors
    }, []


def _open(path: str | os.PathLike) -> Any:
    """A `gguf.GGUFReader`, whose tensors have not been touched.

    Raises:
      ValueError: there is no such file, or it is broken.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    return _open_version(os.fspath(path), found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=1)
def _open_version(path: str, modified: int, size: int) -> Any:
    """Kept for who asks for the config and then for the tensors: a large vocabulary takes seconds to read."""
    try:
        import gguf
    except ImportError as error:
        raise ValueError(f"{path}: reading GGUF needs a package; `pip install gguf`") from error
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError, LookupError, OverflowError, TypeError) as error:
        raise ValueError(f"{path}: no GGUF file, or cut short ({error})") from error
    if reader.get_field("general.architecture") is None:
        raise ValueError(f"{path}: no general.architecture; a model has one")
    return reader


def _metadata(reader: Any) -> dict[str, Any]:
    """Metadata without the prefix of the architecture, and with what files may leave out."""
    architecture = reader.get_field("general.architecture").contents()
    raw = {"architecture": architecture}
    for key, field in reader.fields.items():
        if key.startswith(f"{architecture}."):
            raw[key.removeprefix(f"{architecture}.")] = field.contents()
    if tokens := reader.get_field("tokenizer.ggml.tokens"):
        raw.setdefault("vocab_size", len(tokens.data))
    raw.setdefault("attention.head_count_kv", raw.get("attention.head_count"))
    width, heads = raw.get("embedding_length"), raw.get("attention.head_count")
    if isinstance(width, int) and isinstance(heads, int) and heads:
        raw.setdefault("attention.key_length", width // heads)
    return raw


def _problems(raw: dict[str, Any]) -> Iterator[str]:
    """Every piece of metadata that stands in the way, with what would be supported."""
    if raw["architecture"] not in _ARCHITECTURES:
        yield f"general.architecture = {raw['architecture']!r}; supported: {', '.join(_ARCHITECTURES)}"
        return
    prefix = raw["architecture"]
    for key in (*_SIZES.values(), "context_length"):
        if not isinstance(raw.get(key), int) or raw[key] < 1:
            yield f"{prefix}.{key} = {raw.get(key)!r}; supported: a positive integer"
    if not isinstance(raw.get("attention.layer_norm_rms_epsilon"), float):
        yield f"{prefix}.attention.layer_norm_rms_epsilon = {raw.get('attention.layer_norm_rms_epsilon')!r}"
    for key in ("attention.value_length", "rope.dimension_count"):
        if raw.get(key, raw.get("attention.key_length")) != raw.get("attention.key_length"):
            yield f"{prefix}.{key} = {raw[key]!r}; supported: the size of a head, {raw.get('attention.key_length')}"
    for key in ("expert_count", "attention.sliding_window"):
        if raw.get(key):
            yield f"{prefix}.{key} = {raw[key]!r}; supported: 0"


def _rope_scaling(raw: dict[str, Any], reader: Any) -> RopeScaling | None:
    """From the metadata, or from the tensor of factors."""
    kind = raw.get("rope.scaling.type", "none")
    settings = {key: value for key, value in raw.items() if key.startswith("rope.scaling.") and value}
    if unknown := sorted(settings.keys() - {f"rope.scaling.{key}" for key in _SCALING_KEYS}):
        raise ValueError(f"{', '.join(unknown)}: not supported; supported: {', '.join(_SCALING_KEYS)}")
    factors = next((tensor for tensor in reader.tensors if tensor.name == "rope_freqs.weight"), None)
    if factors is not None:
        return _llama3_scaling(np.array(factors.data), raw)
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise ValueError(f"rope.scaling.type = {kind!r}; supported: 'none', 'linear', 'yarn'")
    context = settings.get("rope.scaling.original_context_length") if kind == "yarn" else None
    return RopeScaling(kind, settings.get("rope.scaling.factor"), original_max_position_embeddings=context)


def _llama3_scaling(factor_f: np.ndarray, raw: dict[str, Any]) -> RopeScaling:
    scaling = RopeScaling(
        "llama3",
        float(factor_f.max()),
        original_max_position_embeddings=8192,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
    )
    head_size, theta = raw["attention.key_length"], raw.get("rope.freq_base", 10_000)
    want_f = rope.rope_frequencies(head_size, theta) / rope.rope_frequencies(head_size, theta, scaling)
    if factor_f.shape != want_f.shape or not np.allclose(factor_f, want_f, rtol=1e-4):
        raise ValueError("rope_freqs.weight: rotary factors that are not those of Llama 3; supported: " + repr(scaling))
    return scaling


def _shortest(x: float) -> float:
    """1e-05 for the float32 9.999999747378752e-06: the shortest decimal that is the same float32."""
    return float(str(np.float32(x)))


def _hf_names(raw: dict[str, Any], hf_names: Iterable[str]) -> dict[str, str]:
    """Name in the file → name of Hugging Face."""
    import gguf

    architecture = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[raw["architecture"]]
    name_map = gguf.get_tensor_name_map(architecture, raw["block_count"])
    return {name_map.get_name(name, try_suffixes=(".weight", ".bias")): name for name in hf_names}


def _row_order(tensor: Any, raw: dict[str, Any]) -> np.ndarray | None:
    """Which row of the file is each of ours; None: the same."""
    part = tensor.name.rsplit(".", 2)[-2]
    if raw["architecture"] != "llama" or part not in ("attn_q", "attn_k"):
        return None
    rows, heads = int(tensor.shape[-1]), raw["attention.head_count" if part == "attn_q" else "attention.head_count_kv"]
    if rows % (2 * heads):
        return None  # of a wrong shape, as will be said
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


def _stored(path: str | os.PathLike, tensor: Any, row_order: np.ndarray | None) -> StoredTensor:
    shape = tuple(int(size) for size in reversed(tensor.shape))  # GGUF counts axes from the innermost
    kind, offset, nbytes = tensor.tensor_type, int(tensor.data_offset), int(tensor.n_bytes)
    read = functools.partial(_read, path, kind, offset, nbytes, shape, row_order)
    return StoredTensor(shape, kind.name, _is_readable(kind), read)


def _is_readable(kind: Any) -> bool:
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
    """Rows are picked as bytes, before they are dequantised; a vector is one row of bytes."""
    import gguf

    rows = math.prod(shape[:-1])
    # Mapped for this tensor alone: see `stored`.
    raw = np.memmap(path, np.uint8, mode="r", offset=offset, shape=(rows, nbytes // rows))
    if len(shape) == 1:
        values = gguf.quants.dequantize(np.array(raw[0]), kind)
        return (values if row_order is None else values[row_order])[slices]
    picked = raw[slices[0]] if row_order is None else raw[row_order[slices[0]]]
    return gguf.quants.dequantize(np.array(picked), kind)[:, *slices[1:]]
