"""Rooms import only from the floors below them, and light modules stay light to import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mig_jax"
# Lowest first. Rooms of one floor never import each other.
FLOORS = [
    {"errors"},
    {"config", "configs", "config_comments", "assets", "extras", "gguf_file", "parts"},
    {"distributed"},
    {"text", "rewards", "models", "data", "config_file"},
    {"learning"},
    {"policy", "records", "command_help"},
    {"rollout", "config_sources"},
    {"check_parts"},
    {"check_config"},
    {"evaluation"},
    {"trainer"},
    {"aot", "api", "integrations"},
    {"studies"},
    {"commands"},
    {"main"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# All that these rooms may import, besides `errors`, `gguf_file` and `parts`.
BLIND = {"text": set(), "rewards": set(), "data": set(), "models": {"distributed"}, "learning": {"rewards"}}


def imports_of(path: Path) -> set[str]:
    """Return the rooms of mig_jax that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("mig_jax.")} - {"__version__"}


def test_rooms_import_downwards():
    for path in PACKAGE.glob("**/*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room == "__init__":
            continue
        for name in imports_of(path) - {room}:
            assert FLOOR[name] < FLOOR[room], f"{path} is on floor {FLOOR[room]}, {name} is not below"
            assert name in BLIND.get(room, {name}) | {"errors", "gguf_file", "parts"}, f"{path} imports {name}"


def test_defaults_exist_once():
    for path in PACKAGE.glob("**/*.py"):
        assert "config.get(" not in path.read_text(encoding="utf-8"), f"{path} has a default outside configs/default.py"


@pytest.mark.parametrize(
    "module, absent",
    [
        ("mig_jax", ["jax", "flax", "transformers", "ml_collections", "numpy"]),
        ("mig_jax.configs.quickstart", ["jax", "flax", "transformers"]),
        ("mig_jax.rewards", ["flax", "transformers", "optax", "mig_jax.models"]),
        ("mig_jax.text.answers.verifier", ["jax", "flax", "transformers", "sympy"]),
        ("mig_jax.main", ["jax", "flax", "transformers"]),
        ("mig_jax.integrations", ["jax", "flax", "transformers", "torch"]),
        pytest.param("mig_jax.trainer.train", ["matplotlib", "transformers", "mig_jax.aot"], marks=pytest.mark.slow),
    ],
)
def test_import_is_light(module, absent):
    code = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
