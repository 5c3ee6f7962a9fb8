"""The parts that all pages share."""

import re

from mig_jax.records import html_page
from tests.records.gallery import HOSTILE
from tests.records.page_reader import read_page


def test_title_is_escaped(tmp_path):
    html_page.write_page(["<p>body</p>"], str(tmp_path / "page.html"), title=f"</title>{HOSTILE}", style="")
    reader = read_page(tmp_path / "page.html")
    assert [tag for tag, _ in reader.tags] == ["html", "head", "meta", "meta", "title", "style", "body", "main", "p"]
    assert "</title>" in reader.text and "body" in reader.text


def test_style_of_a_fragment_changes_nothing_outside_of_it():
    """It has the same rules as a page's, each limited to the fragment."""
    rules = re.findall(r"([^{}]+){[^{}]*}", html_page.FRAGMENT_STYLE)
    selectors = [selector.strip() for rule in rules for selector in rule.split(",")]
    assert selectors and all(re.match(r"\.mig-jax( |$)", selector) for selector in selectors), selectors
    page = re.findall(r"[^{}]+({[^{}]*})", html_page.STYLE)
    assert len(rules) == len(page) - 1, "a fragment has no main"
    assert html_page.FRAGMENT_STYLE.count("{") == html_page.FRAGMENT_STYLE.count("}")
    assert html_page.FRAGMENT_STYLE.count("@media") == html_page.STYLE.count("@media")
