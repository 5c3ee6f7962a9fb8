"""docs/config.md is what `tools/docs_config.py` writes, and the tool reads comments as they are written."""

import pytest

from tools import docs_config

SOURCE = """
def get_config():
    c = ConfigDict()
    c.seed = 0  # of the data

    c.model = m = ConfigDict()  # the policy
    # Shape, when there is no path.
    m.init = v = ConfigDict()
    m.path = ""
    v.layers = (
        4  # above each other
    )
    # Not of this line.

    m.init.width = 8  # of each layer
    return c.lock()
"""


def test_page_is_up_to_date():
    assert docs_config.render() == docs_config.PAGE.read_text(encoding="utf-8"), f"run {docs_config.COMMAND}"


def test_comments_are_found_by_path():
    assert docs_config.read_comments(SOURCE) == {
        "seed": "of the data",
        "model": "the policy",
        "model.init": "Shape, when there is no path.",
        "model.path": "",
        "model.init.layers": "above each other",
        "model.init.width": "of each layer",
    }


def test_a_key_that_is_not_found_in_the_source_is_an_error(monkeypatch):
    monkeypatch.setattr(docs_config, "read_comments", lambda source: {})
    with pytest.raises(ValueError, match="checkpoint.every, checkpoint.keep"):
        docs_config.render()


def test_check_reports_a_page_that_is_out_of_date(monkeypatch, tmp_path):
    monkeypatch.setattr(docs_config, "PAGE", tmp_path / "config.md")
    monkeypatch.setattr("sys.argv", ["docs_config"])
    docs_config.main()
    monkeypatch.setattr("sys.argv", ["docs_config", "--check"])
    docs_config.main()
    docs_config.PAGE.write_text("old")
    with pytest.raises(SystemExit, match="out of date: run python -m tools.docs_config"):
        docs_config.main()
