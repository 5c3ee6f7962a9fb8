"""The parts that all pages share."""

from mig_jax.records import html_page
from tests.records.gallery import HOSTILE
from tests.records.page_reader import read_page


def test_title_is_escaped(tmp_path):
    html_page.write_page(["<p>body</p>"], str(tmp_path / "page.html"), title=f"</title>{HOSTILE}", style="")
    reader = read_page(tmp_path / "page.html")
    assert [tag for tag, _ in reader.tags] == ["html", "head", "meta", "meta", "title", "style", "body", "main", "p"]
    assert "</title>" in reader.text and "body" in reader.text
