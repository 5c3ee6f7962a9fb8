"""Folders of safetensors: one file, or several with an index; tensors are read in parts and written.

A file is mapped to read one tensor and unmapped afterwards. Mapped pages count as memory of the process as long as the
mapping lives, so a file that stays open would cost its whole size once all of it has been read.

Source: https://huggingface.co/docs/safetensors
"""

import functools
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-(\d+-)?\d{5}-of-\d{5}\.safetensors(\.part)?")
FLOAT_DTYPES = ("F32", "F16", "BF16")

Slices = tuple[slice, ...]


class DiskTensor(NamedTuple):
    """One tensor on disk.

    shape: on disk.
    dtype: as the file calls it.
    is_float: whether it can be read as floating-point numbers.
    read: reads the part given by one slice per axis, in the dtype of the file or the closest that numpy has.
    """

    shape: tuple[int, ...]
    dtype: str
    is_float: bool
    read: Callable[[Slices], np.ndarray]


# None: the index lists the tensor, but its file cannot be read.
Tensors = dict[str, DiskTensor | None]


class NewTensor(NamedTuple):
    """A tensor to write: its size in bytes, and a function that returns its values."""

    nbytes: int
    fetch: Callable[[], np.ndarray]


def open_folder(folder: str | os.PathLike) -> tuple[Tensors, list[str]]:
    """Open model.safetensors, or else the shards of its index. Only headers are read.

    Returns:
      Every tensor by its name, and what is wrong with the files. A file is broken if its header is, or if the file is
      longer or shorter than the header says.
    """
    folder = pathlib.Path(folder)
    indexed, errors = {}, []
    if not (folder / SINGLE).exists() and (folder / INDEX).exists():
        indexed, errors = _read_index(folder / INDEX)
        if errors:
            return {}, errors
    found: Tensors = dict.fromkeys(indexed)
    for file in sorted(set(indexed.values())) or [SINGLE]:
        try:
            tensors = _open_file(folder / file)
        except OSError as error:
            errors.append(f"{file}: {error}")
        except safetensors.SafetensorError as error:
            errors.append(f"{file}: damaged or incomplete, copy it again ({error})")
        else:
            errors += [f"{file}: {name} is in another file too" for name in tensors if found.get(name)]
            missing = [name for name in indexed if indexed[name] == file and name not in tensors]
            errors += [f"{file}: lacks {name}, which the index lists" for name in missing]
            found |= tensors
    return found, errors


def _read_index(file: pathlib.Path) -> tuple[dict[str, str], list[str]]:
    """Return the file of every tensor, and what is wrong with the index."""
    try:
        weight_map = json.loads(file.read_bytes())["weight_map"]
        is_map = all(isinstance(shard, str) for shard in weight_map.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return {}, [f"{file.name}: no JSON object with a weight_map of tensor names to files ({error!r})"]
    if not is_map or not weight_map:
        return {}, [f"{file.name}: its weight_map is empty, or has values that are not file names"]
    return weight_map, []


def _open_file(file: pathlib.Path) -> dict[str, DiskTensor]:
    tensors = {}
    with safetensors.safe_open(file, framework="numpy") as opened:
        for name in opened.keys():
            header = opened.get_slice(name)
            dtype, read = header.get_dtype(), functools.partial(_read, file, name)
            tensors[name] = DiskTensor(tuple(header.get_shape()), dtype, dtype in FLOAT_DTYPES, read)
    return tensors


def _read(file: pathlib.Path, name: str, slices: Slices) -> np.ndarray:
    with safetensors.safe_open(file, framework="numpy") as opened:
        return opened.get_slice(name)[slices]


def write_folder(tensors: dict[str, NewTensor], folder: pathlib.Path, *, max_shard_bytes: int) -> None:
    """Write model.safetensors, or several shards and their index. At most one file is in memory at a time.

    A reader of the folder, meanwhile or after a crash, finds either all of the old tensors or all of the new: new
    shards never reuse the name of an old one, and the file that readers look at first is moved into place last.

    Args:
      tensors: name → tensor.
      max_shard_bytes: maximum size of a file; a larger tensor has a file of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = list(_partition(tensors, max_shard_bytes))
    if len(shards) == 1:
        _write_shard(tensors, shards[0], folder / SINGLE)
        (folder / INDEX).unlink(missing_ok=True)
        _remove_shards(folder, keep=())
        return
    files = _free_names(folder, len(shards))
    for file, names in zip(files, shards, strict=True):
        _write_shard(tensors, names, folder / file)
    weight_map = {name: file for file, names in zip(files, shards, strict=True) for name in names}
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    unfinished = folder / f"{INDEX}.part"
    unfinished.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(folder / INDEX)
    (folder / SINGLE).unlink(missing_ok=True)  # from here on, readers use the index
    _remove_shards(folder, keep=files)


def _partition(tensors: dict[str, NewTensor], max_shard_bytes: int) -> Iterator[list[str]]:
    """Yield the names of the tensors of each file, filled in order."""
    shard, size = [], 0
    for name, tensor in tensors.items():
        if shard and size + tensor.nbytes > max_shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(name)
        size += tensor.nbytes
    yield shard


def _write_shard(tensors: dict[str, NewTensor], names: list[str], file: pathlib.Path) -> None:
    write_file({name: np.ascontiguousarray(tensors[name].fetch()) for name in names}, file)


def write_file(arrays: dict[str, np.ndarray], file: pathlib.Path) -> None:
    """Write contiguous arrays as one file, under a name that no reader looks for until the file is complete."""
    unfinished = file.with_name(f"{file.name}.part")
    unfinished.touch()
    mode = unfinished.stat().st_mode  # as the umask gives it; safetensors writes files that only their owner can read
    safetensors.numpy.save_file(arrays, unfinished, metadata={"format": "pt"})
    unfinished.chmod(mode)
    unfinished.replace(file)


def _free_names(folder: pathlib.Path, count: int) -> list[str]:
    """Return names of `count` shards that the folder does not have yet."""
    save = 0
    while True:
        prefix = f"{save}-" if save else ""
        names = [f"model-{prefix}{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
        if not any((folder / name).exists() for name in names):
            return names
        save += 1


def _remove_shards(folder: pathlib.Path, *, keep: Iterable[str]) -> None:
    """Remove the shards of earlier saves, finished or not."""
    for file in folder.iterdir():
        if _SHARD.fullmatch(file.name) and file.name not in keep:
            file.unlink()
