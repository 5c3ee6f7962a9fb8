"""The user's own files and folders: every format gives the same problems, and all errors are reported."""

import csv
import io
import json
import re

import numpy as np
import pyarrow
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from pyarrow import parquet

from mig_jax.data.problem import Problem
from mig_jax.data.problem_files import read_problems

COLUMNS = {"id": "key", "question": "{passage} {ask}", "answer": "gold", "kind": "=number", "level": "grade"}
ROWS = [
    {"key": "a", "passage": "Two birds.", "ask": "How many?", "gold": "2 birds", "grade": 3, "other": [1]},
    {"key": "b", "passage": 'Three, or "so".', "ask": "Wie viele?\nÜber 2", "gold": "3", "grade": 4, "other": []},
]
EXPECTED = [
    ("a", "Two birds. How many?", "2 birds", "number", "3"),
    ("b", 'Three, or "so". Wie viele?\nÜber 2', "3", "number", "4"),
]


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 4), "red").save(file, "PNG")
    return file.getvalue()


def write(file_format: str, folder) -> str:
    """Write ROWS in one of the formats; return the path for `read_problems`."""
    path = folder / f"rows.{file_format}"
    flat = [{name: value for name, value in row.items() if name != "other"} for row in ROWS]
    if file_format == "jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    elif file_format == "json":
        path.write_text(json.dumps(ROWS))
    elif file_format in ("csv", "tsv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, flat[0], delimiter="\t" if file_format == "tsv" else ",")
            writer.writeheader()
            writer.writerows(flat)
    elif file_format == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif file_format == "datasets":
        path = folder / "saved" / "train"
        path.mkdir(parents=True)
        for n, row in enumerate(ROWS):  # two shards
            write_arrow(path / f"data-{n:05d}-of-00002.arrow", [row])
        return f"{path.parent}@train"
    return str(path)


def write_arrow(path, rows) -> None:
    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)


@pytest.mark.parametrize("file_format", ["jsonl", "json", "csv", "tsv", "parquet", "datasets"])
def test_all_formats_give_the_same_problems(file_format, tmp_path):
    problems = read_problems(file_format, write(file_format, tmp_path), columns=COLUMNS)
    assert [(p.id, p.question, p.answer, p.kind, p.level) for p in problems] == EXPECTED


def test_tfds_folder(tmp_path):
    class Birds(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Birds."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            text = tfds.features.Text()
            features = {"ask": text, "gold": np.int64, "image": tfds.features.Image(encoding_format="png")}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"validation": iter([(1, {"ask": "Wie viele?", "gold": 2, "image": io.BytesIO(png())})])}

        def _generate_examples(self):
            raise NotImplementedError

    Birds(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    folder = tmp_path / "birds" / "1.0.0"
    columns = {"question": "ask", "answer": "gold", "images": "image"}
    (problem,) = read_problems("tfds", f"{folder}@validation", columns=columns)
    assert problem.question == "Wie viele?" and problem.answer == "2" and problem.images == (png(),)
    assert read_problems("tfds", str(folder), columns=columns) == (problem,), "the only split need not be named"
    with pytest.raises(ValueError, match="no split 'train'; available: validation"):
        read_problems("tfds", f"{folder}@train", columns=columns)


@pytest.mark.parametrize("state", ["as written", None, "[]", '{"_data_files": null}'])
def test_saved_dataset_with_cache_files(state, tmp_path):
    """Rows of the two data files are read; those of a cache file, as `map` leaves it, are not."""
    folder = tmp_path / "ds"
    folder.mkdir()
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    write_arrow(folder / names[0], [{"q": "1?", "a": "1"}, {"q": "2?", "a": "2"}])
    write_arrow(folder / names[1], [{"q": "3?", "a": "3"}])
    write_arrow(folder / "cache-dab67096a8754f57.arrow", [{"q": "4?", "a": "4"}])
    if state == "as written":
        state = json.dumps({"_data_files": [{"filename": name} for name in names], "_fingerprint": "36cb479ee7a273c6"})
    if state:
        (folder / "state.json").write_text(state)
    columns = {"id": "id", "question": "q", "answer": "a"}
    if state and names[0] not in state:
        with pytest.raises(ValueError, match="state.json: no list of files under _data_files"):
            read_problems("datasets", str(folder), columns=columns)
    else:
        problems = read_problems("datasets", str(folder), columns=columns)
        assert [(p.id, p.answer) for p in problems] == [("ds:1", "1"), ("ds:2", "2"), ("ds:3", "3")]


def test_saved_dataset_files_are_read_in_listed_order(tmp_path):
    names = ["dataset.arrow", "another.arrow"]
    for name, answer in zip(names, "12", strict=True):
        write_arrow(tmp_path / name, [{"q": "?", "a": answer}])
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    problems = read_problems("datasets", str(tmp_path), columns={"question": "q", "answer": "a"})
    assert [problem.answer for problem in problems] == ["1", "2"]


def test_choices_and_answers_take_many_forms(tmp_path):
    lines = "\nA. bank\nB. library, or so\nC. mall"
    listed = ["bank", "library, or so", "mall"]
    rows = [("B. library, or so", lines), ("B", listed), ("library, or so", listed), ("(B)", lines), ("B) yes", listed)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"q": "Where?", "answer": a, "options": o}) for a, o in rows))
    columns = {"question": "q", "answer": "answer", "kind": "=choice", "choices": "options"}
    problems = read_problems("jsonl", str(path), columns=columns)
    assert {(p.answer, p.choices) for p in problems} == {("B", ("bank", "library, or so", "mall"))}


@pytest.mark.parametrize("text", ["A. one\nB. \nC. three", "A. one\nB. two\nC.", "A.\nB. two", "A. one\n\nB.\n\nC. 3"])
def test_empty_choices_are_rejected(text, tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"q": "?", "a": "A", "c": text}]))
    columns = {"question": "q", "answer": "a", "kind": "=choice", "choices": "c"}
    with pytest.raises(ValueError, match="row 1: c has an empty item"):
        read_problems("json", str(path), columns=columns)


def errors_of(path, **columns) -> list[str]:
    with pytest.raises(ValueError) as caught:
        read_problems(path.suffix[1:], str(path), columns={name: name for name in Problem._fields} | columns)
    title, *errors = str(caught.value).split("\n  ")
    assert re.fullmatch(rf"(1 error|[0-9]+ errors) in {re.escape(str(path))}( \([0-9]+ of [0-9]+ rows\))?:", title)
    return errors


def test_missing_columns_are_reported_once(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"question": "?", "answer": "A", "options": ["x", "y"]}] * 30 + [{"question": "?", "answer": "A", "way": 1}]
    path.write_text("\n".join(map(json.dumps, rows)))
    available = "available: question, answer, options, way"
    assert errors_of(path, choices="optoins", kind="choice", id="{way} {wya}", level="", subject="=algebra") == [
        f"data.columns.id: no column 'wya' (did you mean way?); {available}",
        f"data.columns.kind: no column 'choice' (did you mean =choice?); {available}",
        f"data.columns.choices: no column 'optoins' (did you mean options?); {available}",
    ]
    # The other columns are still read, and the first row errors are listed.
    errors = errors_of(path, choices="optoins", answer="way")
    assert errors[0].startswith("data.columns.choices") and len(errors) == 21 and errors[-1] == "… and 11 more"
    assert errors[1] == "rows.jsonl, row 1: way is missing"


def test_braces_of_a_template_are_escaped(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "1+1?", "answer": "2"}))
    columns = {"question": r"{question} Write \boxed{{answer}}, as \frac{{1}}{{2}}.", "answer": "answer"}
    (problem,) = read_problems("jsonl", str(path), columns=columns)
    assert problem.question == r"1+1? Write \boxed{answer}, as \frac{1}{2}."


@pytest.mark.parametrize(
    "question, answer, message",
    [
        (
            r"{question} \boxed{answer}",
            "answer",
            "{answer} would put the reference answer into the question; write {{an",
        ),
        ("answer", "answer", "'answer' would put the reference answer into the question"),
        ("{question} {answer}", "={answer}", None),
        ("{question} {answer}", "so: {answer}", "{answer} would put the reference answer into the question"),
        (r"{question} \frac{1}{2}", "answer", "no column '1' (for braces write {{ and }}); no column '2' (for braces"),
        ("{question} {anwser}", "answer", "no column 'anwser' (did you mean answer?); available"),
        ("{question} {gold}", "gold.value", "{gold} would put the reference answer into the question"),
        ("{question} {steps}", "answer", "{steps} would put the reference answer into the question"),
    ],
)
def test_answer_in_the_question_is_refused(question, answer, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "1+1?", "answer": "2", "steps": "2", "gold": '{"value": "2"}'}))
    if message is None:
        assert read_problems("jsonl", str(path), columns={"question": question, "answer": answer})
        return
    (error,) = errors_of(path, question=question, answer=answer, steps="steps")
    assert error.startswith(f"data.columns.question: {message}")


def test_cells_after_the_last_column_are_refused(tmp_path):
    """A number such as 1,234 that is not quoted would be cut."""
    path = tmp_path / "rows.csv"
    path.write_text('question,answer\n1+1?,"1,234"\n2+2?,1,234\n')
    assert errors_of(path) == [
        "rows.csv, row 2: 1 more cells than the 2 columns of the first line; quote cells with ','"
    ]


def test_constant_kind_that_does_not_exist_is_an_error_of_the_config(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "1+1?", "answer": "2"}\n' * 2)
    (error,) = errors_of(path, kind="=numbr")
    assert error.startswith("data.columns.kind: 'numbr' is not one of number, ")
    assert error.endswith(" (did you mean number?)")


def test_missing_question_column_lists_the_columns(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("question;answer\n" + "1+1, or so?;2\n" * 300)
    assert errors_of(path, question="question") == [
        "data.columns.question: no column 'question' (did you mean question;answer?); available: question;answer",
        "data.columns.answer: no column 'answer'; available: question;answer",
    ]


def test_all_row_errors_are_reported_at_once(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"q": "?", "a": "D", "c": ["x", "y"]},
        {"q": "", "a": "A", "c": "x or y"},
        {"q": "?", "a": "A", "c": ["x", ""], "k": "guess"},
        {"q": "fine", "a": "A", "c": ["x", "y"], "i": "same"},
        {"q": "fine", "a": "A", "c": ["x", "y"], "i": "same"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    columns = {"question": "q", "answer": "a", "kind": "k", "choices": "c", "id": "i"}
    with pytest.raises(ValueError) as caught:
        read_problems("jsonl", str(path), columns=columns | {"kind": "=choice"})
    message = str(caught.value)
    for error in (
        "row 1: answer 'D' is none of the choices x, y",
        "row 2: q is empty",
        "row 2: c has no lines 'A. …', 'B. …'",
        "row 3: c has an empty item",
        "id 'same' is that of an earlier row",
    ):
        assert error in message
    with pytest.raises(ValueError, match="row 3: kind is 'guess', not one of number, expression"):
        read_problems("jsonl", str(path), columns=columns)


@pytest.mark.parametrize(
    "file_format, name, content, message",
    [
        ("parquet", "rows.parquet", b"PAR1 no", "not a parquet file"),
        ("json", "rows.json", b"{}", "no list of rows"),
        ("json", "rows.json", b"{", "not JSON"),
        ("jsonl", "rows.jsonl.gz", b"{}", "rows.jsonl.gz: cannot be read"),
        ("json", "rows.parquet", b"PAR1", "rows.parquet: not JSON"),
        ("datasets", "saved/x.txt", b"", "no .arrow files"),
        ("tfds", "saved/x.txt", b"", "not the folder of a TFDS dataset"),
    ],
)
def test_files_of_another_format_are_rejected(file_format, name, content, message, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_problems(file_format, str(path.parent if file_format in ("datasets", "tfds") else path), columns=COLUMNS)


def test_images_in_tables_and_single_images(tmp_path):
    rows = [{"q": "?", "a": "1", "i": {"bytes": png(), "path": None}}, {"q": "?", "a": "2", "i": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    columns = {"question": "q", "answer": "a", "images": "i"}
    with_image, without_image = read_problems("parquet", str(tmp_path / "rows.parquet"), columns=columns)
    assert with_image.images == (png(),) and without_image == Problem(
        "rows.parquet:2", "?", "2", source="rows", row=rows[1]
    )


@pytest.mark.parametrize("row", [{"question": "<video>What moves?"}, {"question": "What?", "videos": ["a.mp4"]}])
def test_rows_with_videos_are_refused(tmp_path, row):
    (tmp_path / "rows.jsonl").write_text(json.dumps({**row, "answer": "1"}))
    with pytest.raises(ValueError, match="rows.jsonl, row 1: the question has a video; videos are not read"):
        read_problems("jsonl", str(tmp_path / "rows.jsonl"), columns={"question": "question", "answer": "answer"})
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "?", "videos": [], "answer": "1"}))
    assert (
        len(read_problems("jsonl", str(tmp_path / "rows.jsonl"), columns={"question": "question", "answer": "answer"}))
        == 1
    )
