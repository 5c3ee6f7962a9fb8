"""Too little disk space is reported with numbers before a run begins."""

import errno
import shutil
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from mig_jax.check_config import ConfigError
from mig_jax.trainer import disk_space, train
from tests import tiny

MIB = 2**20


def test_unwritable_workdir_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigError, match=r"cannot be run:\n  workdir='.*/file/run' cannot be written: .*Not a directory"
    ):
        disk_space.check_workdir(str(tmp_path / "file" / "run"))
    with pytest.raises(ConfigError, match="file' cannot be written: it is a file, not a folder"):
        disk_space.check_workdir(str(tmp_path / "file"))
    disk_space.check_workdir(str(tmp_path / "new" / "run"))
    assert list((tmp_path / "new" / "run").iterdir()) == []


def free(monkeypatch, size):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=size))


def test_required_space_is_computed(monkeypatch, tmp_path):
    """Three kept checkpoints and one being written, of 10 MiB each, and a model of 4 MiB."""
    room = {"checkpoint": 10 * MIB, "kept": 3, "model": 4 * MIB}
    free(monkeypatch, 44 * MIB)
    disk_space.check_room(str(tmp_path), **room)
    free(monkeypatch, 44 * MIB - 1)
    with pytest.raises(ConfigError, match=r"needs 44 MiB, 44 MiB are free\. There will be 3 checkpoints .* of 10 MiB"):
        disk_space.check_room(str(tmp_path), **room)
    # What this run already has on disk will be replaced.
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    (tmp_path / "checkpoints" / "7" / "file").write_bytes(bytes(8 * MIB))
    free(monkeypatch, 36 * MIB)
    disk_space.check_room(str(tmp_path), **room)
    free(monkeypatch, 35 * MIB)
    with pytest.raises(ConfigError, match=r"35 MiB are free, 8 MiB are used by this run"):
        disk_space.check_room(str(tmp_path), **room)


def test_bytes_of_a_tree():
    assert disk_space.nbytes({"a": jnp.zeros((3, 4)), "b": (jnp.zeros(5, jnp.bfloat16), None)}) == 58


# Parameters take 646 KiB, adapters of rank 2 take 28.5 KiB; each has two moments.
@pytest.mark.parametrize(
    "adapters, numbers", [(0, "of 1.89 MiB, .* model of 646 KiB"), (2, "of 85.5 KiB, .* model of 674 KiB")]
)
def test_run_is_refused_before_anything_is_built(monkeypatch, tmp_path, adapters, numbers):
    """Adapters have small checkpoints; the whole model is written at the end."""
    free(monkeypatch, 100)
    monkeypatch.setattr(train, "open_run", None)
    with pytest.raises(ConfigError, match=numbers):
        train.run(tiny.get_quickstart(model__lora__rank=adapters, mesh__data=8), str(tmp_path), mode="train")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", disk_space.FULL)
def test_full_disk_is_recognised_however_wrapped(number):
    try:
        try:
            raise OSError(number, "text")
        except OSError as error:
            raise RuntimeError("wrapped") from error
    except RuntimeError as error:
        assert disk_space.is_full(error)
    assert disk_space.is_full(ValueError("RESOURCE_EXHAUSTED: write failed [OS error 28: No space left on device]"))
    assert not disk_space.is_full(OSError(errno.ENOENT, "No such file"))
    assert not disk_space.is_full(ValueError("RESOURCE_EXHAUSTED: out of memory"))
