"""The house report on a package of three rooms, written here."""

import ast
import subprocess

import pytest

from tools import house_report

FILES = {
    "README.md": "# Three rooms\n\nNothing is left behind.\n",
    "mig_jax/__init__.py": '"""Package of the test."""\n',
    "mig_jax/attic.py": '"""How it all started."""\n\nfrom mig_jax.cellar import wine\n\n_ = wine\n\ndef look(): ...\n',
    "mig_jax/cellar/__init__.py": "",
    "mig_jax/cellar/wine.py": "from mig_jax import hall  # the door behind the shelf\n\n_ = hall\n",
    "mig_jax/hall.py": 'def open_door():\n    """Open the door."""\n    from mig_jax import cellar\n\n    cellar\n',
    "mig_jax/untracked.py": "from mig_jax import attic\n",
}


@pytest.fixture
def checkout(tmp_path):
    """Return a repository of two commits; one title is too long, one file is not tracked."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", *(name for name in FILES if "untracked" not in name)], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "Build three rooms"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x" * 73], check=True)
    return tmp_path


def test_measure(checkout, monkeypatch):
    monkeypatch.setattr(house_report, "count_errors", lambda *args, cwd: "not installed")
    table = house_report.measure(checkout)
    expected = {
        "rooms": 3,
        "import arrows between rooms": 3,
        "arrows on a cycle": "cellar → hall, hall → cellar",
        "longest function, lines": "5 (hall.py:open_door)",
        "functions over 60 lines": 0,
        "function length, median": "3",
        "function docstrings that open with a verb": "1 of 1",
        "class and module docstrings that open with a noun phrase": "1 of 2",
        '"behind" in the prose': 2,
        "words of the README": 7,
        "pyright errors, project's config": "not installed",
        "commit titles over 72 characters": "1 of 2",
    }
    assert {name: table[name] for name in expected} == expected
    assert house_report.measure(checkout, since="HEAD~1")["commit titles over 72 characters"] == "1 of 1"


@pytest.mark.parametrize(
    "source, plain",
    [
        ('def f():\n    """Return the sum of x."""', True),
        ('def f():\n    """Sum of x."""', False),
        ('def f():\n    """Sum `x` over rows."""', True),
        ('def f():\n    """The sum."""', False),
        ('def f():\n    """Returns the sum."""', False),
        ('@property\ndef f():\n    """Number of rows."""', True),
        ('class A:\n    """Rows of a table."""', True),
        ('class A:\n    """Is this a table? Perhaps."""', False),
        ('class A:\n    """This table: is it one?"""', False),
    ],
)
def test_opens_plainly(source, plain):
    assert house_report.opens_plainly(ast.parse(source).body[0]) is plain


def test_missing_checker_is_reported(tmp_path):
    assert house_report.count_errors("no-such-checker", cwd=tmp_path) == "not installed"
