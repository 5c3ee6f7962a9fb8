"""The transcript browser: complete, self-contained, safe with any text, and with the data its filters need."""

import base64
import dataclasses
import re

import pytest

from mig_jax.records import transcript_browser
from mig_jax.records.transcripts import Transcript
from mig_jax.text.response_format import TRUNCATED
from tests.records.gallery import HOSTILE, MINIMAL, NASTY, PLAIN, WITH_IMAGES
from tests.records.page_reader import PageReader, read_page

# Hostile text in every field.
WORST = dataclasses.replace(
    NASTY,
    id=HOSTILE,
    choices=(HOSTILE, '"><script>'),
    level=HOSTILE,
    subject=f"'{HOSTILE}",
    source=f'"{HOSTILE}',
    history=(("user", HOSTILE), (HOSTILE, "a")),
)


def _transcript(id, sampling, strict, lenient, *, format_error="", **fields) -> Transcript:
    return dataclasses.replace(
        PLAIN,
        id=id,
        sampling=sampling,
        is_correct=strict,
        is_correct_lenient=lenient,
        format_error=format_error,
        **fields,
    )


# Two problems: one with a greedy response and three samples, one with a single response.
TWO = (
    _transcript("a", "sampled", True, True, source="math", level="Level 10", subject="Algebra"),
    _transcript("b", "greedy", None, False, source="gsm8k", images=WITH_IMAGES.images),
    _transcript("a", "sampled", True, True, source="math", level="Level 10", subject="Algebra", format_error="no step"),
    _transcript("a", "greedy", False, True, source="math", level="Level 10", subject="Algebra"),
    _transcript("a", "sampled", False, None, source="math", level="Level 10", subject="Algebra"),
    _transcript("c", "greedy", True, True, source="math", level="Level 2", subject="Algebra"),
)


def _read(tmp_path, transcripts, title="Responses") -> PageReader:
    path = tmp_path / "new folder" / "page.html"
    transcript_browser.write_transcript_browser(transcripts, str(path), title=title)
    return read_page(path)


@pytest.mark.parametrize("transcripts", [(), (PLAIN,), (WORST,), MINIMAL, (PLAIN, WORST, WITH_IMAGES, *MINIMAL), TWO])
def test_page_is_well_formed_and_self_contained(tmp_path, transcripts):
    reader = _read(tmp_path, transcripts)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"link", "iframe", "object", "a", "base"})
    assert reader.all("script") == [{}], "the only script is embedded"
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "xlink:href", "srcset")]
        assert "src" not in attributes or (tag == "img" and attributes["src"].startswith("data:image/"))
    page = (tmp_path / "new folder" / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|//[a-z]|@import|url\(|fetch\(|import\(", page)


def test_everything_is_closed_and_readable_without_the_script(tmp_path):
    reader = _read(tmp_path, TWO)
    assert not any("open" in attributes for attributes in reader.all("details"))
    hidden = [tag for tag, attributes in reader.tags if "hidden" in attributes]
    assert hidden == ["form"], "only the filters need the script"


def test_hostile_text_is_escaped(tmp_path):
    reader = _read(tmp_path, [WORST, dataclasses.replace(WORST, level="", sampling="greedy")], title=HOSTILE)
    shown = HOSTILE.replace("\ud800", "?")
    assert reader.text.count(shown) >= 10 and '"><script>' in reader.text
    assert "x" * 5000 in reader.text
    article, details = reader.all("article")[0], reader.all("details")[0]
    assert article == {"data-source": f'"{shown}', "data-level": shown, "data-subject": f"'{shown}"}
    assert details.keys() == {"data-strict", "data-lenient", "data-format", "data-steps", "data-sampling"}


def test_responses_are_grouped_by_problem_greedy_first(tmp_path):
    reader = _read(tmp_path, TWO)
    assert [article["data-source"] for article in reader.all("article")] == ["math", "gsm8k", "math"]
    nested = [
        (attributes.get("class"), attributes.get("data-sampling"), inside.count("details"))
        for (tag, attributes), inside in zip(reader.tags, reader.inside, strict=True)
        if tag == "details"
    ]
    assert nested == [
        (None, "greedy", 0), ("samples", None, 0), *[(None, "sampled", 1)] * 3, (None, "greedy", 0), (None, "greedy", 0)
    ]  # fmt: skip
    assert "3 samplesstrict 1 rightlenient 2 right✓✗✗" in reader.text


def test_summary_line_has_verdicts_answer_and_format_error(tmp_path):
    reader = _read(tmp_path, TWO[2:3])
    assert reader.all("details")[0] == {
        "data-strict": "wrong", "data-lenient": "right", "data-format": "malformed", "data-steps": "scored",
        "data-sampling": "sampled",
    }  # fmt: skip
    assert "✗ strict✓ lenient284Σ gain +1.50no step" in reader.text
    assert "no answer" in _read(tmp_path, [dataclasses.replace(PLAIN, response="")]).text


def test_counts(tmp_path):
    text = _read(tmp_path, TWO).text
    assert "3 problems, 6 responses." in text
    assert "responsesstrictlenientcut offmalformed" in text
    assert "greedy3✓ 1 ✗ 1 ? 1✓ 2 ✗ 10.0 %0.0 %" in text.replace("\n", "")
    assert "sampled3✓ 1 ✗ 2✓ 2 ✗ 0 ? 10.0 %33.3 %" in text.replace("\n", "")
    assert "Warning: 33.3 % of the sampled and 0.0 % of the greedy responses to these problems are malformed" in text
    assert "1 problem, 1 response." in _read(tmp_path, [PLAIN]).text


def test_responses_that_were_cut_off_are_counted_apart(tmp_path):
    cut_off = dataclasses.replace(PLAIN, format_error=TRUNCATED)
    text = _read(tmp_path, [cut_off, *[PLAIN] * 3]).text
    assert "(none)4✓ 0 ✗ 4✓ 0 ✗ 0 ? 425.0 %0.0 %" in text.replace("\n", "")
    assert "Warning: 25.0 % of the responses to these problems were cut off by the length limit" in text
    assert "Warning" not in _read(tmp_path, [cut_off, *[PLAIN] * 19]).text, "5 % is not more than 5 %"


def test_filter_options_match_the_data_attributes(tmp_path):
    reader = _read(tmp_path, TWO)
    options, name = {}, None
    for tag, attributes in reader.tags:
        name = attributes["name"] if tag == "select" else name
        if tag == "option" and "value" in attributes:
            options.setdefault(name, []).append(attributes["value"])
    assert options == {
        "strict": ["right", "wrong", "undecided"],
        "lenient": ["right", "wrong", "undecided"],
        "format": ["well formed", "malformed"],
        "sampling": ["greedy", "sampled"],
        "source": ["gsm8k", "math"],
        "level": ["", "Level 2", "Level 10"],
        "subject": ["", "Algebra"],
    }
    elements = [*reader.all("article"), *(d for d in reader.all("details") if "class" not in d)]
    for name, values in options.items():
        assert {element[f"data-{name}"] for element in elements if f"data-{name}" in element} <= {*values}
    assert {name for element in elements for name in element} == {"data-steps", *(f"data-{name}" for name in options)}
    assert len(reader.all("input")) == 1


def test_filters_with_one_option_are_omitted(tmp_path):
    names = [select["name"] for select in _read(tmp_path, [PLAIN, *MINIMAL]).all("select")]
    assert names == ["strict", "lenient", "format", "steps"]


def test_images_and_choices_are_shown_once_per_problem(tmp_path):
    problem = dataclasses.replace(WITH_IMAGES, id="p", kind="choice", choices=("left <b>", "right"), answer="B")
    samples = [dataclasses.replace(problem, sampling=sampling) for sampling in ("greedy", "sampled", "sampled")]
    reader = _read(tmp_path, samples)
    sources = [image["src"].partition(",") for image in reader.all("img")]
    assert [base64.b64decode(data) for _, _, data in sources] == list(WITH_IMAGES.images)
    assert all(image["loading"] == "lazy" for image in reader.all("img"))
    assert reader.all("li") == [{}, {"class": "reference"}]
    assert "A left <b>B right" in reader.text


def test_scored_steps_are_colored_and_others_are_plain_text(tmp_path):
    plain = dataclasses.replace(PLAIN, id="plain", ell_k=(), watermark_k=(), gain_k=())
    reader = _read(tmp_path, [PLAIN, plain])
    tints = [attributes["style"] for _, attributes in reader.tags if "--share" in attributes.get("style", "")]
    assert tints == ["--share: 1.000", "--share: 0.000", "--share: 0.200"]
    assert len(reader.all("svg")) == 1
    assert reader.text.count(PLAIN.response) == 1
    assert "watermark" in reader.text and "watermark" not in _read(tmp_path, [plain]).text


def test_the_same_question_from_two_sources_is_two_problems(tmp_path):
    two = [dataclasses.replace(PLAIN, source=source) for source in ("x", "y", "x")]
    assert len(_read(tmp_path, two).all("article")) == 2
