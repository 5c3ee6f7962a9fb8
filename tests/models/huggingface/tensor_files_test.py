"""Shards are written so that readers never see half a save, and every damaged file is named. No model, no jax."""

import functools
import json
import os

import numpy as np
import pytest
import safetensors.numpy

from mig_jax.models.huggingface import tensor_files
from mig_jax.models.huggingface.tensor_files import INDEX, SINGLE, NewTensor

EVERYTHING = (slice(None),)


def write(folder, value, *, max_shard_bytes, tensors=6):
    """Write `tensors` vectors of 16 bytes, filled with `value`."""
    fetch = functools.partial(np.full, 4, value, np.float32)
    new = {f"t{number}": NewTensor(16, fetch) for number in range(tensors)}
    tensor_files.write_folder(new, folder, max_shard_bytes=max_shard_bytes)


def values(folder):
    """Return the value that all tensors share, and the number of tensors."""
    found, errors = tensor_files.open_folder(folder)
    assert not errors
    (value,) = {float(x) for tensor in found.values() for x in tensor.read(EVERYTHING)}
    return value, len(found)


@pytest.fixture
def three_shards(tmp_path):
    write(tmp_path, 1, max_shard_bytes=32)
    return tmp_path, [tmp_path / f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


def edit_index(folder, change):
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


def errors_of(folder):
    return sorted(tensor_files.open_folder(folder)[1])


def test_shards_equal_those_of_transformers(three_shards):
    folder, files = three_shards
    index = json.loads((folder / INDEX).read_text())
    assert index["metadata"] == {"total_size": 96}
    assert sorted(folder.iterdir()) == [*files, folder / INDEX]
    for file in files:
        tensors = safetensors.numpy.load_file(file)
        assert len(tensors) == 2 and all(index["weight_map"][name] == file.name for name in tensors)
        with safetensors.safe_open(file, framework="numpy") as opened:
            assert opened.metadata() == {"format": "pt"}
    assert values(folder) == (1, 6)


@pytest.mark.parametrize("max_shard_bytes, files", [(1, 6), (16, 6), (47, 3), (48, 2), (95, 2), (96, 1)])
def test_no_file_exceeds_the_limit_unless_one_tensor_does(max_shard_bytes, files, tmp_path):
    write(tmp_path, 1, max_shard_bytes=max_shard_bytes)
    assert len(list(tmp_path.glob("*.safetensors"))) == files
    assert (tmp_path / SINGLE).exists() == (files == 1) != (tmp_path / INDEX).exists()


def test_at_most_one_shard_is_in_memory(tmp_path, monkeypatch):
    held, save_file = [], safetensors.numpy.save_file

    def spy(tensors, *args, **settings):
        held.append(sum(x.nbytes for x in tensors.values()))
        save_file(tensors, *args, **settings)

    monkeypatch.setattr(safetensors.numpy, "save_file", spy)
    write(tmp_path, 1, max_shard_bytes=40)
    assert held == [32, 32, 32]


@pytest.mark.parametrize("old", [96, 32, 16])
@pytest.mark.parametrize("new", [96, 32, 16])
def test_files_of_earlier_saves_are_removed(old, new, tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not ours")
    (tmp_path / "model-00001-of-00009.safetensors.part").write_bytes(b"left by a crash")
    write(tmp_path, 1, max_shard_bytes=old)
    write(tmp_path, 2, max_shard_bytes=new)
    write(tmp_path, 3, max_shard_bytes=new)
    assert values(tmp_path) == (3, 6)
    ours = {96: {SINGLE}, 32: 4, 16: 7}[new]
    left = {file.name for file in tmp_path.iterdir()} - {"adapter_model.safetensors"}
    assert left == ours if new == 96 else len(left) == ours


@pytest.mark.parametrize("old", [96, 32])
@pytest.mark.parametrize("new", [96, 32])
def test_interrupted_save_leaves_all_old_or_all_new(old, new, tmp_path, monkeypatch):
    """The save is interrupted before its n-th visible file operation, for every n."""
    remaining = 0

    def interrupted(operation):
        def wrapped(*args, **settings):
            nonlocal remaining
            remaining -= 1
            if remaining < 0:
                raise KeyboardInterrupt
            return operation(*args, **settings)

        return wrapped

    write(tmp_path, 0, max_shard_bytes=old)
    for owner, name in ((tensor_files.pathlib.Path, "replace"), (tensor_files.pathlib.Path, "unlink")):
        monkeypatch.setattr(owner, name, interrupted(getattr(owner, name)))
    monkeypatch.setattr(safetensors.numpy, "save_file", interrupted(safetensors.numpy.save_file))
    seen, allowed = [], 0
    while not seen or seen[-1] is not None:
        before, remaining = values(tmp_path)[0], allowed
        try:
            write(tmp_path, allowed + 1, max_shard_bytes=new)
            seen.append(None)
        except KeyboardInterrupt:
            assert values(tmp_path) in [(before, 6), (allowed + 1, 6)]
            seen.append(values(tmp_path)[0] == before)
        allowed += 1
    assert len(seen) > 2 and seen[0]  # it was interrupted more than once
    assert values(tmp_path) == (allowed, 6)


def test_every_damaged_file_is_named(three_shards):
    folder, (truncated, lost, whole) = three_shards
    truncated.write_bytes(truncated.read_bytes()[:-7])
    lost.unlink()
    first, second = errors_of(folder)
    assert first.startswith(f"{truncated.name}: ") and "not fully covered" in first
    assert second.startswith(f"{lost.name}: ") and "No such file" in second
    found, _ = tensor_files.open_folder(folder)
    assert {name: tensor is None for name, tensor in found.items()} == {
        "t0": True, "t1": True, "t2": True, "t3": True, "t4": False, "t5": False,
    }  # fmt: skip


def test_index_lists_a_tensor_that_is_missing(three_shards):
    folder, files = three_shards
    edit_index(folder, lambda weight_map: weight_map.update(t9=files[0].name))
    assert errors_of(folder) == [f"{files[0].name}: lacks t9, which the index lists"]


def test_tensor_in_two_files(three_shards):
    folder, files = three_shards
    os.replace(files[0], files[1])
    edit_index(folder, lambda weight_map: weight_map.update(t0=files[1].name, t1=files[1].name))
    safetensors.numpy.save_file({f"t{n}": np.ones(4) for n in (1, 4, 5)}, files[2])
    assert f"{files[2].name}: t1 is in another file too" in errors_of(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"no json", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000]
    + [b'{"weight_map": %s}' % wrong for wrong in (b"[]", b"{}", b'{"a": 1}')],
)
def test_invalid_index(content, tmp_path):
    (tmp_path / INDEX).write_bytes(content)
    (error,) = errors_of(tmp_path)
    assert error.startswith(f"{INDEX}: ")


@pytest.mark.parametrize("content", [None, b"", b"not a header", b"\xff" * 64])
def test_missing_and_damaged_single_file(content, tmp_path):
    if content is not None:
        (tmp_path / SINGLE).write_bytes(content)
    (error,) = errors_of(tmp_path)
    assert error.startswith(f"{SINGLE}: ")


def test_single_file_takes_precedence_over_an_index(three_shards):
    folder, _ = three_shards
    safetensors.numpy.save_file({"t0": np.full(4, 9, np.float32)}, folder / SINGLE)
    assert values(folder) == (9, 1)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_parts_and_dtypes(dtype, tmp_path):
    x = np.arange(24).reshape(4, 6).astype(dtype)
    safetensors.numpy.save_file({"x": x}, tmp_path / SINGLE)
    tensor = tensor_files.open_folder(tmp_path)[0]["x"]
    assert tensor.is_float == (dtype != "int8") and tensor.shape == (4, 6)
    np.testing.assert_array_equal(tensor.read((slice(1, 3), slice(2, 5))), x[1:3, 2:5])
