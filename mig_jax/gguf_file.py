"""GGUF files, the one-file format of llama.cpp: their metadata, and where each tensor is.

A file is parsed once, for the tokenizer and for the parameters: a large vocabulary makes its head long.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import functools
import mmap
import os
import struct
from typing import Any, NamedTuple

import numpy as np

from mig_jax.errors import UserError

# The types of values, by their numbers in a file: numpy's names of numbers, and two that have a length.
_NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_ALIGNMENT = 32  # bytes, if the metadata do not say

_UINT32, _UINT64 = struct.Struct("<I"), struct.Struct("<Q")


class GgufTensor(NamedTuple):
    """A tensor of a file.

    name: in the file.
    shape: the outermost axis first.
    kind: its number among the types of ggml, `gguf.GGMLQuantizationType`.
    offset: of its first byte in the file.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


class GgufFile(NamedTuple):
    """What a file holds, but for the data of its tensors.

    metadata: values by their keys, such as "general.architecture"; numbers, texts, or lists of these.
    tensors: in the order of the file.
    nbytes: size of the file.
    """

    metadata: dict[str, Any]
    tensors: tuple[GgufTensor, ...]
    nbytes: int


def read(path: str | os.PathLike) -> GgufFile:
    """Return the metadata and the tensors of a file; one that was just read, and has not changed, is not read again.

    Raises:
      UserError: the file is missing or damaged, or is no GGUF file.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return _read_version(os.fspath(path), found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=1)
def _read_version(path: str, modified: int, size: int) -> GgufFile:
    """Read one version of a file."""
    del modified
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(_Reader(data), size)
    except (OSError, ValueError, OverflowError, struct.error) as error:
        raise UserError(f"{path}: not a GGUF file, or incomplete ({error}); copy it again") from error


def _parse(reader: "_Reader", nbytes: int) -> GgufFile:
    """Parse the head of a file.

    Raises:
      ValueError, struct.error: it is damaged.
    """
    if reader.take(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    if (version := reader.uint32()) not in _VERSIONS:
        raise ValueError(f"version {version}; supported: {', '.join(map(str, _VERSIONS))}, with the lowest byte first")
    n_tensors, n_keys = reader.uint64(), reader.uint64()
    metadata: dict[str, Any] = {}
    for _ in range(n_keys):
        key = reader.string()
        metadata[key] = reader.value(reader.uint32())
    tensors = []
    for _ in range(n_tensors):
        name = reader.string()
        shape = tuple(reversed([reader.uint64() for _ in range(reader.uint32())]))  # the file has the innermost first
        tensors.append(GgufTensor(name, shape, reader.uint32(), reader.uint64()))
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"general.alignment = {alignment!r}")
    start = -(-reader.offset // alignment) * alignment
    return GgufFile(metadata, tuple(t._replace(offset=start + t.offset) for t in tensors), nbytes)


class _Reader:
    """Reads values of a file one after another; raises ValueError or struct.error at its end."""

    def __init__(self, data: mmap.mmap):
        self.data, self.offset = data, 0

    def take(self, nbytes: int) -> bytes:
        """Return the next bytes."""
        taken = self.data[self.offset : self.offset + nbytes]
        if len(taken) < nbytes:
            raise ValueError("it ends too early")
        self.offset += nbytes
        return taken

    def uint32(self) -> int:
        (number,) = _UINT32.unpack_from(self.data, self.offset)
        self.offset += 4
        return number

    def uint64(self) -> int:
        (number,) = _UINT64.unpack_from(self.data, self.offset)
        self.offset += 8
        return number

    def string(self) -> str:
        return self.take(self.uint64()).decode()

    def value(self, kind: int) -> Any:
        """Return the next value, of a type of the file."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.numbers(kind, 1)[0]
        kind, length = self.uint32(), self.uint64()
        return [self.string() for _ in range(length)] if kind == _STRING else self.numbers(kind, length)

    def numbers(self, kind: int, length: int) -> list[Any]:
        """Return the next numbers, all of a type."""
        if kind not in _NUMBERS:
            raise ValueError(f"a value of type {kind}")
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self.take(length * dtype.itemsize), dtype).tolist()
