"""Tensors on disk, by name: a folder of safetensors, one file or several with an index, read in parts and written.

Reading maps a file for one tensor at a time: pages of a mapped file count as memory of the process for as long as the
mapping lives, so a file that stays open costs its whole size once all of it has been read.

Source: https://huggingface.co/docs/safetensors
"""

import functools
import itertools
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-(\d+-)?\d{5}-of-\d{5}\.safetensors(\.part)?")
_FLOATS = ("F32", "F16", "BF16")

Slices = tuple[slice, ...]


class StoredTensor(NamedTuple):
    """One tensor on disk.

    shape: on disk.
    dtype: as the file calls it.
    is_float: can it be read as numbers.
    read: a part of it, from one slice for each axis; in the dtype of the file, or what comes closest in numpy.
    """

    shape: tuple[int, ...]
    dtype: str
    is_float: bool
    read: Callable[[Slices], np.ndarray]


# None: the index says that there is such a tensor, but its file cannot be read.
Tensors = dict[str, StoredTensor | None]


def open_folder(folder: str | os.PathLike) -> tuple[Tensors, list[str]]:
    """Every tensor of model.safetensors, else of the shards of its index; and what is wrong with the files.

    Only headers are read. A file counts as broken when its header is, or when it is longer or shorter than that says.
    """
    folder = pathlib.Path(folder)
    promised, problems = {}, []
    if not (folder / SINGLE).exists() and (folder / INDEX).exists():
        promised, problems = _read_index(folder / INDEX)
        if problems:
            return {}, problems
    stored: Tensors = dict.fromkeys(promised)
    for file in sorted(set(promised.values())) or [SINGLE]:
        try:
            tensors = _open_file(folder / file)
        except (OSError, safetensors.SafetensorError) as error:
            problems.append(f"{file}: {error}")
        else:
            problems += [f"{file}: {name} is in another file too" for name in tensors if stored.get(name)]
            problems += [
                f"{file}: lacks {name}, which the index promises"
                for name in promised
                if promised[name] == file and name not in tensors
            ]
            stored |= tensors
    return stored, problems


def _read_index(file: pathlib.Path) -> tuple[dict[str, str], list[str]]:
    """Tensor → file, and what is wrong with the index."""
    try:
        weight_map = json.loads(file.read_bytes())["weight_map"]
        is_map = all(isinstance(shard, str) for shard in weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return {}, [f"{file.name}: no JSON object with a weight_map of tensor names to files ({error!r})"]
    if not is_map or not weight_map:
        return {}, [f"{file.name}: its weight_map is empty, or names something that is no file"]
    return weight_map, []


def _open_file(file: pathlib.Path) -> dict[str, StoredTensor]:
    tensors = {}
    with safetensors.safe_open(file, framework="numpy") as opened:
        for name in opened.keys():
            header = opened.get_slice(name)
            dtype, read = header.get_dtype(), functools.partial(_read, file, name)
            tensors[name] = StoredTensor(tuple(header.get_shape()), dtype, dtype in _FLOATS, read)
    return tensors


def _read(file: pathlib.Path, name: str, slices: Slices) -> np.ndarray:
    with safetensors.safe_open(file, framework="numpy") as opened:
        return opened.get_slice(name)[slices]


class Unwritten(NamedTuple):
    """A tensor to be written: how many bytes it will have, and where to get it when its turn comes."""

    nbytes: int
    fetch: Callable[[], np.ndarray]


def write_folder(tensors: dict[str, Unwritten], folder: pathlib.Path, *, max_shard_bytes: int) -> None:
    """Write model.safetensors, or several shards and their index; only one file is ever held in memory.

    Whoever reads the folder meanwhile, or after this has died, finds all of the old weights or all of the new: new
    shards never have the name of old ones, and what a reader looks at first is put in its place last, in one move.

    Args:
      tensors: name → tensor.
      max_shard_bytes: of one file; a tensor that is larger has a file to itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = list(_cut_into_shards(tensors, max_shard_bytes))
    if len(shards) == 1:
        _write_file(tensors, shards[0], folder / SINGLE)
        (folder / INDEX).unlink(missing_ok=True)
        _remove_shards(folder, keep=())
        return
    files = _free_names(folder, len(shards))
    for file, names in zip(files, shards, strict=True):
        _write_file(tensors, names, folder / file)
    weight_map = {name: file for file, names in zip(files, shards, strict=True) for name in names}
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    unfinished = folder / f"{INDEX}.part"
    unfinished.write_text(json.dumps(index, indent=2) + "\n")
    unfinished.replace(folder / INDEX)
    (folder / SINGLE).unlink(missing_ok=True)  # from here on readers see the index
    _remove_shards(folder, keep=files)


def _cut_into_shards(tensors: dict[str, Unwritten], max_shard_bytes: int) -> Iterable[list[str]]:
    """Names of the tensors of each file, filled in order."""
    shard, size = [], 0
    for name, tensor in tensors.items():
        if shard and size + tensor.nbytes > max_shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += tensor.nbytes
    yield shard


def _write_file(tensors: dict[str, Unwritten], names: list[str], file: pathlib.Path) -> None:
    unfinished = file.with_name(f"{file.name}.part")  # a name that no reader looks for, until all is written
    arrays: dict[str, Any] = {name: np.ascontiguousarray(tensors[name].fetch()) for name in names}
    safetensors.numpy.save_file(arrays, unfinished, metadata={"format": "pt"})
    unfinished.replace(file)


def _free_names(folder: pathlib.Path, count: int) -> list[str]:
    for save in itertools.count():
        again = f"{save}-" if save else ""
        names = [f"model-{again}{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
        if not any((folder / name).exists() for name in names):
            return names


def _remove_shards(folder: pathlib.Path, *, keep: Iterable[str]) -> None:
    """Shards of earlier saves, finished or not."""
    for file in folder.iterdir():
        if _SHARD.fullmatch(file.name) and file.name not in keep:
            file.unlink()
