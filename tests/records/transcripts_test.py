"""Files of transcripts: what is written is read, images lie beside, and what is wrong is said with its line."""

import json

import pytest

from mig_jax.records.transcripts import read_transcripts, write_transcripts
from tests.records.gallery import BARE, NASTY, PLAIN, SEEN


def test_what_is_written_is_read(tmp_path):
    path = str(tmp_path / "new folder" / "rows.jsonl")
    write_transcripts([PLAIN, SEEN, *BARE], path)
    assert read_transcripts(path) == [PLAIN, SEEN, *BARE]
    write_transcripts([NASTY], path)
    assert read_transcripts(path)[0].steps == NASTY.steps


def test_samples_of_a_question_share_the_files_of_its_images(tmp_path):
    write_transcripts([SEEN, SEEN, PLAIN], str(tmp_path / "one.jsonl"))
    write_transcripts([SEEN], str(tmp_path / "two.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert rows[0]["images"] == rows[1]["images"] and rows[2]["images"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "one.jsonl", "two.jsonl"]
    written = {f"images/{path.name}": path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert written == dict(zip(rows[0]["images"], SEEN.images, strict=True))


def test_a_folder_can_be_moved_with_its_images(tmp_path):
    write_transcripts([SEEN], str(tmp_path / "here" / "rows.jsonl"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert read_transcripts(str(tmp_path / "there" / "rows.jsonl")) == [SEEN]


def test_every_bad_row_is_reported_with_its_line(tmp_path):
    row = {"question": "q", "response": "r", "answer": "1"}
    rows = [row, row | {"images": ["gone.png"], "kind": "maths"}, {"question": "q"}, row | {"images": 3}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{torn\n")
    with pytest.raises(ValueError) as caught:
        read_transcripts(str(path))
    said = str(caught.value).split("\n  ")[1:]
    assert [line.split(":")[0] for line in said] == [f"line {n}" for n in (2, 2, 3, 4, 5)]
    assert "kind 'maths'" in said[0] and "gone.png: No such file" in said[1] and "response, answer" in said[2]


def test_what_is_no_image_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not an image"):
        write_transcripts([SEEN.__class__("q", "r", "1", images=(b"text",))], str(tmp_path / "rows.jsonl"))
    assert not (tmp_path / "rows.jsonl").exists()
