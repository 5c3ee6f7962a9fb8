"""Transcripts in files of any format: columns of other names, templates, constants, chat messages."""

import json

import pytest
from mig_jax.configs import default

from mig_jax.errors import UserError
from mig_jax.records.given_transcripts import FIELDS, read_given_transcripts
from mig_jax.records.transcripts import Transcript, write_transcripts

USER = {"role": "user", "content": "1+1?"}
ASSISTANT = {"role": "assistant", "content": " <think>\n"}
SYSTEM = {"role": "system", "content": "Answer."}


def read(tmp_path, rows, *, limit=None, name="in.jsonl", bad_rows="refuse", **columns):
    if rows is not None:
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    given = default.get_config().data.columns.to_dict() | columns
    return read_given_transcripts(str(tmp_path / name), columns=given, limit=limit, bad_rows=bad_rows)


def test_written_transcripts_are_read_as_they_are(tmp_path):
    written = [
        Transcript("1+1?", "", "2", kind="number", is_correct=False, format_error="no <think>", id="7", level="1"),
        Transcript("A or B?", " A\n", "A", kind="choice", choices=("x", "y"), steps=("s",), ell_k=(-1.0, -0.5)),
    ]
    write_transcripts(written, str(tmp_path / "in.jsonl"))
    assert read(tmp_path, None) == written
    assert read(tmp_path, None, limit=1) == written[:1]


def test_columns_may_have_any_name(tmp_path):
    rows = [{"passage": "You have 1.", "q": "Plus 1?", "output": "two ", "gold": 2}]
    (read_one,) = read(tmp_path, rows, question="{passage} {q}", response="output", answer="gold", kind="=number")
    assert read_one == Transcript("You have 1. Plus 1?", "two ", "2", kind="number")
    (tmp_path / "in.csv").write_text('q,response,answer\n1+1?,"two, of course",2\n')
    assert read(tmp_path, None, name="in.csv", question="q")[0].response == "two, of course"


@pytest.mark.parametrize(
    "row, columns",
    [
        ({"messages": [USER, ASSISTANT]}, {"question": "messages"}),
        ({"messages": [USER, ASSISTANT]}, {"question": "messages", "response": "messages"}),
        ({"prompt": [USER], "response": " <think>\n"}, {"question": "prompt"}),
        ({"prompt": [USER], "completion": [ASSISTANT]}, {"question": "prompt", "response": "completion"}),
        ({"prompt": [{"role": "user", "content": [{"type": "text", "text": "1+1?"}]}], "response": " <think>\n"},
         {"question": "prompt"}),
        ({"question": "1+1?", "response": [USER, ASSISTANT]}, {}),
    ],
)  # fmt: skip
def test_chat_messages(row, columns, tmp_path):
    assert read(tmp_path, [row | {"answer": "2"}], **columns) == [Transcript("1+1?", " <think>\n", "2")]


def test_turns_before_the_question(tmp_path):
    row = {"question": [USER, ASSISTANT, {"role": "user", "content": "2+2?"}], "response": "r", "answer": "… #### 4"}
    (transcript,) = read(tmp_path, [row])
    history = (("user", "1+1?"), ("assistant", " <think>\n"))
    assert transcript == Transcript("2+2?", "r", "4", history=history)
    write_transcripts([transcript], str(tmp_path / "out.jsonl"))
    assert read(tmp_path, None, name="out.jsonl") == [transcript]


def test_nested_fields_and_choices(tmp_path):
    choices = {"text": ["west", "east"], "label": ["1", "2"]}
    rows = [{"in": {"q": "?"}, "out": ["r"], "options": choices, "key": "2"}]
    (tmp_path / "a-0.jsonl").write_text(json.dumps(rows[0]))
    (tmp_path / "a-1.jsonl").write_text(json.dumps(rows[0]))
    read_two = read(tmp_path, None, name="a-*", question="in.q", response="out[0]", answer="key", choices="options")
    assert read_two == [Transcript("?", "r", "B", kind="choice", choices=("west", "east"))] * 2


def test_bad_rows_are_skipped(tmp_path, caplog):
    good = {"question": "q", "response": "r", "answer": "a"}
    rows = [good, good | {"response": ["r"]}, good | {"answer": None}, good | {"kind": "numbr"}]
    assert read(tmp_path, rows, bad_rows="skip") == [Transcript("q", "r", "a")]
    assert "3 of 4 rows skipped (data.bad_rows), such as\n  in.jsonl, row 2: response is a list" in caplog.text
    assert "in.jsonl, row 3: no text in answer" in caplog.text
    with pytest.raises(UserError, match="is not a file of transcripts"):
        read(tmp_path, rows[1:], bad_rows="skip")


def test_system_message_is_reported(tmp_path, caplog):
    read(tmp_path, [{"question": [SYSTEM, USER, ASSISTANT], "answer": "2"}])
    assert "1 rows have a system message; data.system_prompt, unless it is empty, takes its place" in caplog.text


@pytest.mark.parametrize(
    "row, columns, message",
    [
        ({"response": "r"}, {"question": "qestion"}, "columns.question: no column 'qestion' (did you mean question?)"),
        ({"response": "r"}, {"response": "output"}, "columns.response: no column 'output'; available: question"),
        ({"response": None}, {}, "row 1: no text in response"),
        ({"response": "r", "answer": None}, {}, "row 1: no text in answer"),
        ({"response": ["r"]}, {}, "row 1: response is a list, not a string or a number"),
        ({"question": [ASSISTANT], "response": "r"}, {}, "row 1: question has no user message"),
        ({"question": [USER]}, {}, "the question has no assistant message after it; name the column of the response"),
        ({"response": "r", "choices": ["2", "3", "5"], "answer": 2}, {}, "answer '2' may be A (as its text) or C"),
        ({"question": [{"role": "user", "content": [{"type": "image"}]}], "response": "r"}, {}, "data.columns.images"),
        ({"response": "r", "kind": "numbr"}, {}, "kind 'numbr' is not one of"),
    ],
)
def test_errors_name_the_row_and_the_column(row, columns, message, tmp_path):
    with pytest.raises(UserError) as error:
        read(tmp_path, [{"question": "q", "answer": "a"} | row], **columns)
    assert message in str(error.value) and "in.jsonl" in str(error.value)


def test_damaged_lines_are_listed(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"question": "q"\n[1]\n{"question": "q", "response": "r", "answer": "a"}\n')
    with pytest.raises(UserError, match=r"(?s)row 1: not JSON.*row 2: a list, not an object"):
        read(tmp_path, None)


@pytest.mark.parametrize("name, message", [("nowhere.jsonl", "no such file"), ("in.txt", "unknown suffix '.txt'")])
def test_other_files_are_refused(name, message, tmp_path):
    (tmp_path / "in.txt").write_text("")
    with pytest.raises(UserError, match=message):
        read(tmp_path, None, name=name)


@pytest.mark.parametrize(
    "name, value",
    [
        ("is_correct", "yes"),
        ("answered", 5),
        ("rewards", [1]),
        ("ell_k", ["a"]),
        ("history", 5),
        ("history", [["What is 1 + 1?", "2"]]),  # pairs of question and answer
    ],
)
def test_columns_named_like_our_fields_with_other_values_are_refused(name, value, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "?", "response": "r", "answer": "5", name: value}))
    with pytest.raises(UserError, match=rf"row 1: {name} is .*, not .*; give columns of another meaning another name"):
        read_given_transcripts(str(path), columns={field: field for field in FIELDS})
