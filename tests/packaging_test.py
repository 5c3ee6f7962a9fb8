"""The distribution has every package and every file that comes with it."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_listed():
    found = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in ROOT.glob("mig_jax/**/__init__.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found | {"mig_jax.configs"}


def test_every_asset_is_listed():
    assets = ROOT / "mig_jax" / "assets"
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["mig_jax.assets"]
    listed = {path for pattern in patterns for path in assets.glob(pattern)}
    assert {path for path in assets.glob("*/**/*") if path.is_file()} == listed
