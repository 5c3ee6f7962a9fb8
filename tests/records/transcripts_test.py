"""Files of transcripts: round trips, images next to the file, and errors with their lines."""

import dataclasses
import json

import pytest

from mig_jax.errors import UserError
from mig_jax.records.transcript_list import TranscriptList
from mig_jax.records.transcripts import make_transcripts, read_transcripts, write_transcripts
from tests.records.gallery import MINIMAL, NASTY, PLAIN, WITH_IMAGES


def test_round_trip(tmp_path):
    path = str(tmp_path / "new folder" / "rows.jsonl")
    write_transcripts([PLAIN, WITH_IMAGES, *MINIMAL], path)
    assert read_transcripts(path) == [PLAIN, WITH_IMAGES, *MINIMAL]
    write_transcripts([NASTY], path)
    assert read_transcripts(path)[0].steps == NASTY.steps


def test_samples_of_a_question_share_its_image_files(tmp_path):
    write_transcripts([WITH_IMAGES, WITH_IMAGES, PLAIN], str(tmp_path / "one.jsonl"))
    write_transcripts([WITH_IMAGES], str(tmp_path / "two.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert rows[0]["images"] == rows[1]["images"] and rows[2]["images"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "one.jsonl", "two.jsonl"]
    written = {f"images/{path.name}": path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert written == dict(zip(rows[0]["images"], WITH_IMAGES.images, strict=True))


def test_image_names_are_relative_to_the_file(tmp_path):
    write_transcripts([WITH_IMAGES], str(tmp_path / "here" / "rows.jsonl"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert read_transcripts(str(tmp_path / "there" / "rows.jsonl")) == [WITH_IMAGES]


def test_every_wrong_row_is_reported_with_its_line(tmp_path):
    row = {"question": "q", "response": "r", "answer": "1"}
    rows = [row, row | {"images": ["gone.png"], "kind": "maths"}, {"question": "q"}, row | {"images": 3}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{torn\n")
    with pytest.raises(UserError) as caught:
        read_transcripts(str(path))
    lines = str(caught.value).split("\n  ")[1:]
    assert [line.split(":")[0] for line in lines] == [f"line {n}" for n in (2, 2, 3, 4, 5)]
    assert "kind 'maths'" in lines[0] and "gone.png: No such file" in lines[1] and "response, answer" in lines[2]


def test_a_file_with_a_damaged_image_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not an image"):
        write_transcripts([WITH_IMAGES.__class__("q", "r", "1", images=(b"text",))], str(tmp_path / "rows.jsonl"))
    assert not (tmp_path / "rows.jsonl").exists()


def test_unreadable_and_unwritable_files_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="cannot read .*gone.jsonl: No such file"):
        read_transcripts(str(tmp_path / "gone.jsonl"))
    (tmp_path / "latin1.jsonl").write_bytes('{"question": "Où?"}\n'.encode("latin1"))
    with pytest.raises(UserError, match="cannot read .*latin1.jsonl: not UTF-8"):
        read_transcripts(str(tmp_path / "latin1.jsonl"))
    with pytest.raises(UserError, match="cannot write .*latin1.jsonl/rows.jsonl: "):
        write_transcripts([PLAIN], str(tmp_path / "latin1.jsonl" / "rows.jsonl"))


@pytest.mark.parametrize(
    "field, error",
    [
        ('"choices": 5', "choices is not a list of texts"),
        ('"choices": ["x", "y"], "kind": "choice"', "answer '1' is not the letter of a choice: A, B"),
        ('"steps": ["a", 1]', "steps is not a list of texts"),
        (f'"level": {"1" * 5000}', "not JSON"),
        (f'"level": {"[" * 100_000}', "not JSON"),
    ],
)
def test_wrong_fields_are_errors_with_their_line(tmp_path, field, error):
    (tmp_path / "rows.jsonl").write_text(f'{{"question": "1?", "response": "1", "answer": "1", {field}}}\n')
    with pytest.raises(UserError, match=f"line 1: {error}"):
        read_transcripts(str(tmp_path / "rows.jsonl"))


def test_rows_in_memory_are_read_like_those_of_a_file(tmp_path):
    row = {"question": "1 + 1?", "response": "2", "answer": 2, "choices": ("1", "2"), "unknown": 0}
    written = dataclasses.asdict(WITH_IMAGES)
    made, same, again = make_transcripts([row, PLAIN, written])
    assert (made.answer, made.choices) == ("2", ("1", "2")) and same is PLAIN and again == WITH_IMAGES
    assert isinstance(written["images"][0], bytes) and row["answer"] == 2, "the rows are unchanged"
    (tmp_path / "blue.png").write_bytes(WITH_IMAGES.images[1])
    (named,) = make_transcripts([row | {"images": ["blue.png"]}], str(tmp_path))
    assert named.images == WITH_IMAGES.images[1:2]


def test_every_wrong_row_in_memory_is_reported_with_its_number():
    with pytest.raises(UserError) as caught:
        make_transcripts([PLAIN, {"question": "1?"}, "text", {"question": "1?", "response": "", "answer": " "}])
    assert str(caught.value).splitlines() == [
        "these rows are not transcripts:",
        "  row 2: no text in response, answer",
        "  row 3: not an object",
        "  row 4: no text in answer",
    ]


def test_lists_show_their_transcripts_in_a_notebook():
    several = TranscriptList([PLAIN, WITH_IMAGES, PLAIN])
    assert several[0] is PLAIN and isinstance(several[1:], TranscriptList) and len(several[1:]) == 2
    assert several._repr_html_().count("<article>") == 3 and several[:1]._repr_html_().count("<article>") == 1
    assert len(several[:1].figure().axes) == len(several.figure(1).axes) == 3


def test_a_list_is_summed_up_in_a_line():
    wrong = dataclasses.replace(PLAIN, is_correct=False, format_error="no answer", ell_k=(), steps=(), gain_k=())
    transcripts = TranscriptList([dataclasses.replace(PLAIN, is_correct=True, format_error=""), wrong])
    steps = f"{len(PLAIN.gain_k)} steps that gain {sum(PLAIN.gain_k):.3g} nats a response"
    assert repr(transcripts) == f"<2 transcripts, 1 right, 1 malformed, {steps}>"
    assert TranscriptList().summary() == "0 transcripts, 0 right"
