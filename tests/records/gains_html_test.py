"""The page of gains: complete, self-contained, and safe with any text."""

import base64

import pytest

from mig_jax.records import gains_html, html_page
from tests.records.gallery import HOSTILE, MINIMAL, NASTY, PLAIN, WITH_IMAGES
from tests.records.page_reader import PageReader, read_page


def _read(tmp_path, transcripts) -> PageReader:
    path = tmp_path / "new folder" / "page.html"
    gains_html.write_gains_page(transcripts, str(path))
    return read_page(path)


@pytest.mark.parametrize("transcripts", [(), (PLAIN,), (NASTY,), MINIMAL, (PLAIN, NASTY, *MINIMAL)])
def test_page_is_well_formed_and_self_contained(tmp_path, transcripts):
    reader = _read(tmp_path, transcripts)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "link", "img", "iframe", "object"})
    for tag, attributes in reader.tags:
        assert attributes.keys().isdisjoint({"src", "href", "onload", "onclick", "xlink:href"}), tag
    assert "http" not in html_page.STYLE and "@import" not in html_page.STYLE and "url(" not in html_page.STYLE


def test_page_shows_numbers_verdict_and_text(tmp_path):
    reader = _read(tmp_path, [PLAIN])
    numbers = ("+1.25", "+0.00", "+0.25", "−2.50", "−1.75", "Σ gain 1.50")
    for expected in (*numbers, "✗ wrong", "Responses: 1 (0 right, 1 wrong, 0 undecided)"):
        assert expected in reader.text, expected
    for part in PLAIN.response.split("\n"):
        assert part in reader.text
    assert sum(tag == "circle" for tag, _ in reader.tags) == 4


def test_images_are_embedded_next_to_the_steps(tmp_path):
    reader = _read(tmp_path, [PLAIN, WITH_IMAGES])
    sources = [attributes["src"] for tag, attributes in reader.tags if tag == "img"]
    assert [base64.b64decode(uri.removeprefix("data:image/png;base64,")) for uri in sources] == list(WITH_IMAGES.images)
    bodies = [attributes["class"] for _, attributes in reader.tags if attributes.get("class", "").startswith("body")]
    assert bodies == ["body", "body with-images"]
    tags = [tag for tag, _ in reader.tags]
    assert tags.count("figure") == 1 and tags.count("article") == 2
    assert "http" not in (tmp_path / "new folder" / "page.html").read_text()


def test_all_responses_share_one_color_scale(tmp_path):
    reader = _read(tmp_path, [PLAIN, NASTY])
    tints = [attributes["style"] for _, attributes in reader.tags if "--share" in attributes.get("style", "")]
    assert tints == ["--share: 1.000", "--share: 0.000", "--share: 0.200", "--share: 0.400; --tint: var(--loss)"]


def test_hostile_text_is_escaped(tmp_path):
    reader = _read(tmp_path, [NASTY])
    shown = HOSTILE.replace("\ud800", "?")
    assert reader.text.count(shown) >= 5
    assert "x" * 5000 in reader.text
    assert "✗ wrong" not in reader.text and "? undecided" in reader.text


@pytest.mark.parametrize("transcript", MINIMAL)
def test_responses_without_steps_or_scores_are_shown(tmp_path, transcript):
    reader = _read(tmp_path, [transcript])
    assert transcript.response in reader.text
    assert any(tag == "svg" for tag, _ in reader.tags) == bool(transcript.ell_k)


def test_transcript_shows_itself_in_a_notebook():
    """With its numbers and its style, and without a script."""
    for transcript in (PLAIN, NASTY, WITH_IMAGES, *MINIMAL):
        reader = PageReader()
        html = transcript._repr_html_()
        reader.feed(html)
        assert not reader.open and reader.tags[0] == ("div", {"class": html_page.FRAGMENT_CLASS})
        assert reader.all("article") and not reader.all("script") and not reader.all("html")
        html.encode()  # no lone surrogate, which no notebook could store
    assert "+1.25" in PLAIN._repr_html_() and PLAIN.question in PLAIN._repr_html_()


def test_transcripts_of_a_fragment_share_one_color_scale():
    html = gains_html.gains_fragment([PLAIN, NASTY])
    assert html.count("--share: 1.000") == 1 and html.count("<style>") == html.count('class="legend"') == 1
