"""A wheel installs the rewards alone; with the extra `train` it runs the quickstart anywhere.

    pytest -m install -n 0        one to three minutes; downloads packages

The wheel is the one that `pip install git+URL` builds: of the last commit, without files that git does not know.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.install
ROOT = Path(__file__).parent.parent
# What `mig_jax.rewards` needs, and what that needs in turn.
LEAN = "absl-py chex jax jaxlib mig_jax ml_dtypes numpy opt_einsum scipy toolz typing_extensions".split()


class Environment:
    """A fresh environment, with an empty folder that commands run in."""

    def __init__(self, folder: Path):
        self.folder, self.bin = folder / "elsewhere", folder / "environment" / "bin"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", self.bin.parent], check=True)

    def run(self, program: str, *arguments: object, succeeds: bool = True) -> str:
        """Return what a program of the environment prints, on both streams."""
        hidden = {"PYTHONPATH", "VIRTUAL_ENV"}
        done = subprocess.run(
            [self.bin / program, *map(str, arguments)],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if name not in hidden},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (done.returncode == 0) is succeeds, done.stdout
        return done.stdout

    def packages(self) -> list[str]:
        """Return the names of the installed packages."""
        listed = json.loads(self.run("pip", "list", "--format=json", "--disable-pip-version-check"))
        return sorted({package["name"].replace("-", "_").lower() for package in listed} - {"pip", "setuptools"})


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("install"))


@pytest.fixture(scope="module")
def wheel(environment):
    environment.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir=.", f"git+file://{ROOT}")
    (wheel,) = environment.folder.glob("*.whl")
    return wheel


def test_default_is_the_rewards_alone(environment, wheel):
    environment.run("pip", "install", "--quiet", wheel)
    assert environment.packages() == sorted(name.replace("-", "_") for name in LEAN)
    code = "import jax.numpy as jnp; from mig_jax import rewards; "
    code += "print(rewards.watermark_gains(jnp.array([-4.0, -3, -5, -2]), jnp.ones(4, bool))[0])"
    assert environment.run("python", "-c", code).strip() == "[1. 0. 1.]"
    (line,) = environment.run("mig-jax", "train", succeeds=False).splitlines()
    assert line.endswith("Run: pip install 'mig_jax[train]'")


def test_extra_runs_the_quickstart(environment, wheel):
    environment.run("pip", "install", "--quiet", wheel)
    environment.run("pip", "install", "--quiet", "mig_jax[train]")
    sizes = ["--config.steps=3", "--config.data.eval_size=16", "--config.rollout.questions=8"]
    printed = environment.run("mig-jax", "train", "--config=quickstart", "--workdir=run", *sizes)
    assert "held-out accuracy (start → end)" in printed
    rows = [json.loads(line) for line in (environment.folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "gradient/norm" in row] == [1, 2, 3]
    assert (environment.folder / "run" / "model" / "model.safetensors").exists()
