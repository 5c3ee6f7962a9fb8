"""An installation of TFDS that cannot be imported is explained in one line."""

import sys

import pytest

from mig_jax.data import builders, tfds_package
from mig_jax.errors import UserError


class VersionError(Exception):
    """Named like protobuf's, which is raised when packages do not fit together."""


def fail(name):
    raise VersionError("Detected incompatible Protobuf versions: gencode 6.31.1 runtime 5.29.6. See https://x.")


def test_import_works_here():
    tfds_package.require_tfds()
    assert sys.modules["tensorflow_datasets.core"]


def test_missing_package_is_a_user_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets.core", None)
    with pytest.raises(UserError, match="need TFDS, which cannot be imported: "):
        builders.get_builder("gsm8k")


def test_packages_that_do_not_fit_together_are_explained(monkeypatch):
    monkeypatch.setattr(tfds_package.importlib, "import_module", fail)
    with pytest.raises(UserError, match=r"gencode 6.31.1 runtime 5.29.6; pip install 'tensorflow-metadata<1.18'$"):
        tfds_package.require_tfds()
