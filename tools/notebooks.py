"""Write the notebooks of colab/ from their sources.

    python -m tools.notebooks                            all of them, without outputs
    python -m tools.notebooks --owner=NAME               with another GitHub account in their addresses
    python -m tools.notebooks --picture=step_credit      run this one, and keep the picture of its tagged cell

The sources are percent scripts beside the notebooks. The only output that a notebook keeps is the last image of the
cell with the tag "picture", for readers who do not run it; it stays until that cell changes.
"""

import argparse
import copy
import re
import tempfile
from pathlib import Path

import jupytext
import nbclient
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
        if title := cell.metadata.pop("title", ""):
            cell.source = f"# @title {title}\n{cell.source}"  # Colab shows it above the cell
    return notebook


def find_picture_cell(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Return the cell with the tag "picture", None if there is none."""
    return next((cell for cell in notebook.cells if "picture" in cell.metadata.get("tags", ())), None)


def take_picture(notebook: nbformat.NotebookNode) -> None:
    """Run a copy of a notebook, and give its tagged cell the last image of the copy's."""
    cell = find_picture_cell(notebook)
    if cell is None:
        raise SystemExit('no cell has the tag "picture"')
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(ran := copy.deepcopy(notebook), timeout=3600, resources=resources).execute()
    outputs = getattr(find_picture_cell(ran), "outputs", [])
    *_, image = (output for output in outputs if "image/png" in output.get("data", {}))
    cell.outputs = [nbformat.v4.new_output("display_data", data={"image/png": image.data["image/png"]})]


def keep_picture(notebook: nbformat.NotebookNode, stored: Path) -> None:
    """Copy the picture of the stored notebook, if its tagged cell has the same source."""
    cell = find_picture_cell(notebook)
    old = find_picture_cell(nbformat.read(stored, as_version=4)) if stored.is_file() else None
    if cell and old and old.source == cell.source:
        cell.outputs = old.outputs


def code_lines(source: str) -> int:
    """Return how many lines of code a percent script has, without blank lines and comments."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in source.splitlines())


def main() -> None:
    """Write the notebook of every source in colab/, with the given account in all addresses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owner", help="GitHub account in the addresses of badges and install cells")
    parser.add_argument("--picture", default="", help="notebook to run, for its picture")
    args = parser.parse_args()
    sources = sorted(FOLDER.glob("*.py"))
    for path in (*sources, *WITH_ADDRESS) if args.owner else ():
        path.write_text(ADDRESS.sub(rf"\g<1>{args.owner}\g<2>", path.read_text(encoding="utf-8")), encoding="utf-8")
    for path in sources:
        source = path.read_text(encoding="utf-8")
        notebook, stored = to_notebook(source), path.with_suffix(".ipynb")
        keep_picture(notebook, stored)
        if path.stem == args.picture:
            take_picture(notebook)
        nbformat.write(notebook, stored)
        print(f"{stored.name}: {code_lines(source)} lines of code")


if __name__ == "__main__":
    main()
