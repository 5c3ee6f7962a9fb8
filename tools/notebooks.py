"""Write the notebooks of colab/ from their sources: `python -m tools.notebooks`; `--owner=NAME` sets the address.

The sources are percent scripts beside them. Outputs are left out; a notebook shows what it computes when it is run.
"""

import argparse
import re
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "colab"
# Where badges, links and install cells find the project, and the other files that have them.
ADDRESS = re.compile(r"(github(?:\.com)?/)[\w-]+(/mig_jax\b)")
WITH_ADDRESS = (ROOT / "README.md", ROOT / "docs" / "colab.md")


def to_notebook(source: str) -> nbformat.NotebookNode:
    """Return the notebook of a percent script, without outputs, with cell ids that depend on their position alone."""
    notebook = jupytext.reads(source, fmt="py:percent")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for n, cell in enumerate(notebook.cells):
        cell.id = f"cell-{n}"
    return notebook


def code_lines(source: str) -> int:
    """Return how many lines of code a percent script has, without blank lines and comments."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in source.splitlines())


def main() -> None:
    """Write the notebook of every source in colab/, with the given account in all addresses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owner", help="GitHub account in the addresses of badges and install cells")
    owner = parser.parse_args().owner
    sources = sorted(FOLDER.glob("*.py"))
    for path in (*sources, *WITH_ADDRESS) if owner else ():
        path.write_text(ADDRESS.sub(rf"\g<1>{owner}\g<2>", path.read_text(encoding="utf-8")), encoding="utf-8")
    for path in sources:
        source = path.read_text(encoding="utf-8")
        nbformat.write(to_notebook(source), path.with_suffix(".ipynb"))
        print(f"{path.with_suffix('.ipynb').name}: {code_lines(source)} lines of code")


if __name__ == "__main__":
    main()
