"""The floors of the house: imports only go down, and what must be quick to import is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mig_jax"
# What each part may import of the others; parts on one line do not know each other.
ALLOWED = {
    **dict.fromkeys(("text", "rewards", "models", "data"), set()),
    "learning": {"rewards"},
}
FLAT = [  # lowest first
    ("processes",),
    (
        "transcripts",
        "check_config",
        "metrics",
        "checkpoints",
        "encoding",
        "images",
        "stopping",
        "not_finite",
        "collectives",
        "costs",
    ),
    ("disk", "policy", "pages", "results", "verdicts"),
    ("prompts", "sampling", "credit", "browse_page", "pictures", "updates"),
    ("problems", "rollouts"),
    ("evaluate", "score"),
    ("benchmarks", "variants", "train"),
    ("aot",),
    ("aot_report",),
    ("commands",),
    ("main",),
]
LIBRARIES = set(ALLOWED)


def imports_of(path: Path) -> set[str]:
    """The parts of mig_jax that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("mig_jax.")}


@pytest.mark.parametrize("library", ALLOWED)
def test_libraries_are_blind(library):
    for path in (PACKAGE / library).glob("**/*.py"):
        strangers = imports_of(path) - {library} - ALLOWED[library]
        assert not strangers, f"{path} imports {strangers}"


def test_flat_files_import_downwards():
    floor = {name: number for number, names in enumerate(FLAT) for name in names}
    for path in PACKAGE.glob("*.py"):
        if path.stem == "__init__":
            continue
        for name in imports_of(path) - LIBRARIES - {"configs"}:
            assert floor[name] < floor[path.stem], f"{path.name} is on floor {floor[path.stem]}, {name} is not below"


def test_defaults_exist_once():
    for path in PACKAGE.glob("**/*.py"):
        assert "config.get(" not in path.read_text(encoding="utf-8"), f"{path} hides a default"


@pytest.mark.parametrize(
    "module, absent",
    [
        ("mig_jax", ["jax", "flax", "transformers"]),
        ("mig_jax.rewards", ["flax", "transformers", "optax", "mig_jax.models"]),
        ("mig_jax.text.verifier", ["jax", "flax", "transformers", "sympy"]),
        ("mig_jax.main", ["jax", "flax", "transformers"]),
    ],
)
def test_import_is_light(module, absent):
    code = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
