"""What the README says can be copied works."""

import re
from pathlib import Path

from mig_jax import assets

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_snippet_runs_and_prints_what_it_says(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith("#")]) <= 12
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()
    for line, said in zip(printed, re.findall(r"print\(.*?\) +# (\[.*?\])", code), strict=True):
        assert line.split() == said.split()


def test_ci_runs_the_readmes_test_command():
    (command,) = re.findall(r"^    (pip install .*pytest)$", README, re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_file_of_the_tree_is_there():
    tree = README.split("## The house")[1].split("### Letters")[0]
    missing = [name for name in re.findall(r"[a-z0-9_]+\.py", tree) if not list(ROOT.glob(f"**/{name}"))]
    assert not missing


def test_no_placeholder_is_left():
    assert not re.findall(r"^[A-Z]{4,}$", README, re.MULTILINE)


def test_the_starting_policy_is_small_and_remembers_how_it_was_asked():
    assert (assets.QUICKSTART / "mig_jax_config.json").exists()
    files = assets.QUICKSTART.glob("*")
    assert sum(file.stat().st_size for file in files) <= 3 * 2**20
