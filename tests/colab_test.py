"""The notebooks of colab/: each runs from its first cell to its last, and is what its source says."""

import json
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("jupytext")
from tools import notebooks  # noqa: E402

SOURCES = sorted(notebooks.FOLDER.glob("*.py"))
NAMES = [path.stem for path in SOURCES]


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_notebook_is_that_of_its_source(source):
    stored = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    made = notebooks.to_notebook(source.read_text(encoding="utf-8"))
    pictures = [output for cell in stored["cells"] for output in cell.get("outputs", [])]
    assert all(list(output["data"]) == ["image/png"] for output in pictures) and len(pictures) <= 1
    notebooks.keep_picture(made, source.with_suffix(".ipynb"))
    assert stored == json.loads(nbformat.writes(made)), "run python -m tools.notebooks"


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_notebook_is_short_and_has_a_badge(source):
    text = source.read_text(encoding="utf-8")
    assert notebooks.code_lines(text) < 80
    assert f"/mig_jax/blob/main/colab/{source.stem}.ipynb)" in text
    assert "chex==0.1.90" in text, "an install cell that moves no package of Colab's"


# Notebooks that need another framework have its marker.
FRAMEWORKS = {"mig_in_trl": pytest.mark.trl, "mig_in_tunix": pytest.mark.tunix, "will_it_fit_on_a_pod": pytest.mark.aot}


@pytest.mark.parametrize(
    "source",
    [pytest.param(path, marks=FRAMEWORKS.get(path.stem, pytest.mark.notebooks), id=path.stem) for path in SOURCES],
)
def test_notebook_runs(source, tmp_path, monkeypatch):
    monkeypatch.setenv("MIG_JAX_TINY", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # some notebooks compile the same twice
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    ran = nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    errors = [out for cell in ran.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    assert not errors
