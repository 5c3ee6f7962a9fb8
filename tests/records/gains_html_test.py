"""The page of gains: whole, self-contained, and safe with any text."""

import base64
import re

import pytest

from mig_jax.records import gains_html
from tests.records.gallery import BARE, HOSTILE, NASTY, PLAIN, SEEN
from tests.records.page_reader import PageReader, read_page


def _read(tmp_path, transcripts) -> PageReader:
    path = tmp_path / "new folder" / "page.html"
    gains_html.gain_page(transcripts, str(path))
    return read_page(path)


@pytest.mark.parametrize("transcripts", [(), (PLAIN,), (NASTY,), BARE, (PLAIN, NASTY, *BARE)])
def test_page_is_well_formed_and_needs_nothing_from_elsewhere(tmp_path, transcripts):
    reader = _read(tmp_path, transcripts)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "img", "iframe", "object"})
    for tag, attributes in reader.tags:
        assert attributes.keys().isdisjoint({"src", "href", "onload", "onclick", "xlink:href"}), tag
    assert "http" not in gains_html.STYLE and "@import" not in gains_html.STYLE and "url(" not in gains_html.STYLE


def test_numbers_verdict_and_text_appear(tmp_path):
    reader = _read(tmp_path, [PLAIN])
    numbers = ("+1.25", "+0.00", "+0.25", "−2.50", "−1.75", "Σ gain 1.50")
    for expected in (*numbers, "✗ wrong", "Responses: 1 (0 right, 1 wrong, 0 undecided)"):
        assert expected in reader.text, expected
    for part in PLAIN.response.split("\n"):
        assert part in reader.text
    assert sum(tag == "circle" for tag, _ in reader.tags) == 4


def test_images_stand_beside_the_steps_and_are_held_by_the_page(tmp_path):
    reader = _read(tmp_path, [PLAIN, SEEN])
    sources = [attributes["src"] for tag, attributes in reader.tags if tag == "img"]
    assert [base64.b64decode(uri.removeprefix("data:image/png;base64,")) for uri in sources] == list(SEEN.images)
    bodies = [attributes["class"] for _, attributes in reader.tags if attributes.get("class", "").startswith("body")]
    assert bodies == ["body", "body with-images"]
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("figure") == 1 and tags.count("article") == 2
    assert "http" not in (tmp_path / "new folder" / "page.html").read_text()


def test_tints_share_one_scale(tmp_path):
    reader = _read(tmp_path, [PLAIN, NASTY])
    tints = [attributes["style"] for _, attributes in reader.tags if "--share" in attributes.get("style", "")]
    assert tints == ["--share: 1.000", "--share: 0.000", "--share: 0.200", "--share: 0.400; --tint: var(--loss)"]


def test_hostile_text_is_shown_as_it_is(tmp_path):
    reader = _read(tmp_path, [NASTY])
    shown = HOSTILE.replace("\ud800", "?")
    assert reader.text.count(shown) >= 5
    assert "x" * 5000 in reader.text
    assert "✗ wrong" not in reader.text and "? undecided" in reader.text


def test_title_of_a_page_is_text(tmp_path):
    gains_html.write_page(["<p>body</p>"], str(tmp_path / "page.html"), title=f"</title>{HOSTILE}", style="")
    reader = read_page(tmp_path / "page.html")
    assert [tag for tag, _ in reader.tags] == ["html", "head", "meta", "meta", "title", "style", "body", "main", "p"]
    assert "</title>" in reader.text and "body" in reader.text


@pytest.mark.parametrize("transcript", BARE)
def test_without_steps_or_numbers_the_rest_is_shown(tmp_path, transcript):
    reader = _read(tmp_path, [transcript])
    assert transcript.response in reader.text
    assert any(tag == "svg" for tag, _ in reader.tags) == bool(transcript.ell_k)


def test_the_staircase_goes_through_the_watermark():
    path = re.search(
        r'class="mark-line" d="([^"]*)"', gains_html.likelihood_chart(PLAIN.ell_k, PLAIN.watermark_k)
    ).group(1)
    heights = [float(y) for y in re.findall(r"[,V]([\d.]+)", path)]
    assert heights[0] > heights[1] == heights[2] > heights[3]


@pytest.mark.parametrize("low, high", [(-3.2, -0.1), (-0.11, -0.1), (-700.0, 0.0), (0.0, 1.0)])
def test_ticks_are_few_round_and_inside(low, high):
    ticks = gains_html._ticks(low, high)
    assert 3 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
