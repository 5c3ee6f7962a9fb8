"""Commands and functions that need more packages than are installed say which, and what to run."""

import importlib
import importlib.metadata
import sys

import pytest

import mig_jax
from mig_jax import __main__, extras

REQUIREMENTS = [
    "chex>=0.1.90",
    'flax>=0.11.2; extra == "train"',
    'a-b_c.d; extra == "train"',
    'jax[cuda12]; extra == "cuda"',
    'x1; extra == "train"',
    'x2; extra == "train"',
    'x3; extra == "train"',
]


@pytest.fixture
def installed(monkeypatch):
    """Install nothing but what is added to this set."""
    names = set()

    def version(name):
        if name not in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIREMENTS)
    monkeypatch.setattr(importlib.metadata, "version", version)
    return names


def test_missing_packages_are_those_of_the_extra(installed):
    assert extras.missing_packages("train") == ["flax", "a-b_c.d", "x1", "x2", "x3"]
    assert extras.missing_packages("cuda") == ["jax"] and extras.missing_packages("tpu") == []
    installed |= {"flax", "x1"}
    assert extras.missing_packages("train") == ["a-b_c.d", "x2", "x3"]


def test_nothing_is_missing_where_nothing_is_known(monkeypatch):
    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert extras.how_to_install("train") is None


def test_commands_exit_with_one_line(installed):
    with pytest.raises(SystemExit) as exit_:
        __main__.main()
    assert exit_.value.code == "mig-jax: not installed: flax, a-b_c.d, 3 others. Run: pip install 'mig_jax[train]'"


def test_public_functions_raise_it(installed, monkeypatch):
    installed |= {"flax", "x1", "x2", "x3"}
    monkeypatch.setitem(sys.modules, "mig_jax.api", None)
    with pytest.raises(
        ImportError, match=r"^mig_jax.train: not installed: a-b_c.d. Run: pip install 'mig_jax\[train\]'"
    ):
        mig_jax.train  # noqa: B018
    assert importlib.import_module("mig_jax.rewards") is mig_jax.rewards
