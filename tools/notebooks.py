"""Write the notebooks of colab/ from their sources: `python -m tools.notebooks`; `--owner=NAME` sets the address.

The sources are percent scripts beside them. Outputs are left out; a notebook shows what it computes when it is run.
"""

import argparse
import re
from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).parent.parent / "colab"
# Where the badges and the install cells find the project.
ADDRESS = re.compile(r"(github(?:\.com)?/)[\w-]+(/mig_jax\b)")


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
    """Write the notebook of every source in colab/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owner", help="GitHub account in the addresses of badges and install cells")
    owner = parser.parse_args().owner
    for path in sorted(FOLDER.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if owner:
            source = ADDRESS.sub(rf"\g<1>{owner}\g<2>", source)
            path.write_text(source, encoding="utf-8")
        nbformat.write(to_notebook(source), path.with_suffix(".ipynb"))
        print(f"{path.with_suffix('.ipynb').name}: {code_lines(source)} lines of code")


if __name__ == "__main__":
    main()
