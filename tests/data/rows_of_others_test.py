"""Rows in the layouts of other projects, read by config alone."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from mig_jax.data.problem import Problem
from mig_jax.data.problem_files import read_problems
from mig_jax.errors import UserError
from tests.data.problem_files_test import png

DEFAULTS = {name: name for name in Problem._fields if name not in ("solution", "history", "row", "variants")} | {
    "steps": "steps"
}


def read(tmp_path, *rows, file_format="jsonl", bad_rows="refuse", choice_answers="", **columns):
    path = tmp_path / f"rows.{file_format}"
    if file_format == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    options = {"bad_rows": bad_rows, "choice_answers": choice_answers}
    return read_problems(file_format, str(path), columns=DEFAULTS | columns, **options)


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_verl(tmp_path, file_format):
    row = {
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "user", "content": "How many? Write the answer after ####."}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "72"},
        "extra_info": {"split": "train", "index": 0, "answer": "48/2=24\n24+48=72\n#### 72", "question": "How many?"},
    }
    columns = {"answer": "reward_model.ground_truth", "source": "data_source", "subject": "ability"}
    (problem,) = read(tmp_path, row, file_format=file_format, question="prompt", **columns)
    question = "How many? Write the answer after ####."
    assert problem[:4] == (f"rows.{file_format}:1", question, "72", "expression")
    assert (problem.source, problem.subject, problem.row) == ("openai/gsm8k", "math", row)
    (problem,) = read(
        tmp_path, row, file_format=file_format, question="extra_info.question", steps="extra_info.answer",
        id="{extra_info.split}/{extra_info.index}", **columns,
    )  # fmt: skip
    assert problem.id == "train/0" and problem.solution == (("48/2=24", "24+48=72"), "72")
    (problem,) = read(tmp_path, row, file_format=file_format, question="prompt[0].content", **columns)
    assert problem.question.startswith("How many?")


def test_trl(tmp_path):
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    (problem,) = read(
        tmp_path, {"prompt": prompt, "solution": "$\\boxed{2}$", "n": 3}, question="prompt", answer="solution"
    )
    assert (problem.question, problem.answer) == ("1+1?", "2")
    assert problem.history == (("system", "Be brief."),) and problem.row["n"] == 3
    # Prompt and completion, as for SFT.
    row = {"prompt": prompt, "completion": [{"role": "assistant", "content": "<think>…</think> 2"}], "answer": 2}
    (problem,) = read(tmp_path, row, question="prompt", response="completion")
    assert (problem.answer, problem.response) == ("2", "<think>…</think> 2")


def test_ms_swift(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    row = {
        "messages": [
            {"role": "system", "content": "Count."},
            {"role": "user", "content": "<image>How many cubes?"},
            {"role": "assistant", "content": "There are <answer>3</answer>."},
        ],
        "images": ["a.png"],
        "solution": "<answer> 3 </answer>",
    }
    (problem,) = read(tmp_path, row, question="messages", answer="solution")
    assert (problem.question, problem.answer, problem.images) == ("<image>How many cubes?", "3", (png(),))
    assert problem.response == "There are <answer>3</answer>."
    with pytest.raises(UserError, match="row 1: the question has <image> 1 times, but 2 images"):
        read(tmp_path, row | {"images": ["a.png", "a.png"]}, question="messages", answer="solution")
    sharegpt = {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}], "answer": 2}
    (problem,) = read(tmp_path, sharegpt, question="conversations")
    assert (problem.question, problem.response) == ("1+1?", "2")


def test_open_r1(tmp_path):
    row = {
        "problem": "What is $1+1$?",
        "solution": "Add them: $\\boxed{2}$.",
        "answer": "2",
        "problem_type": "Algebra",
        "source": "olympiads",
        "uuid": "8aeb",
        "generations": ["<think>\nOne and one.\n</think>\n\n\\boxed{2}", "<think>no"],
        "correctness_math_verify": [True, False],
        "messages": [{"role": "user", "content": "What is $1+1$?"}, {"role": "assistant", "content": "<think>…"}],
    }
    columns = {"question": "problem", "subject": "problem_type", "id": "uuid", "response": "generations[0]"}
    (problem,) = read(tmp_path, row, file_format="parquet", **columns)
    assert (problem.id, problem.answer, problem.source) == ("8aeb", "2", "olympiads")
    assert problem.response == row["generations"][0] and problem.row["correctness_math_verify"] == [True, False]


def test_gsm8k(tmp_path, caplog):
    rows = [{"question": "1+1?", "answer": "1+1 = <<1+1=2>>2\n#### 2"}, {"question": "2+2?", "answer": "4"}]
    problems = read(tmp_path, *rows, steps="answer")
    assert [problem.answer for problem in problems] == ["2", "4"]
    assert problems[0].solution == (("1+1 = 2",), "2")
    assert "answers of 1 of 2 rows are written solutions; the answer is taken from ####, such as '2'" in caplog.text


def test_chats_of_several_turns(tmp_path):
    turns = [("user", "1+1?"), ("assistant", "2"), ("user", "And twice that?")]
    row = {"chat": [{"role": role, "content": text} for role, text in turns], "answer": "4"}
    (problem,) = read(tmp_path, row, question="chat")
    assert problem.question == "And twice that?" and problem.history == tuple(turns[:2])
    (problem,) = read(tmp_path, row | {"chat": json.dumps(row["chat"])}, question="chat")
    assert problem.history == tuple(turns[:2]), "as JSON in a text, such as a cell of a .csv file"
    parts = [{"type": "image", "image": f"data:image/png;base64,{__import__('base64').b64encode(png()).decode()}"}]
    row["chat"][-1]["content"] = [*parts, {"type": "text", "text": "How many?"}]
    (problem,) = read(tmp_path, row, question="chat")
    assert problem.question == "<image>How many?" and problem.images == (png(),)
    row["chat"].append({"role": "tool", "content": "3"})
    with pytest.raises(UserError, match="row 1: chat has tool after the last user message"):
        read(tmp_path, row, question="chat")


TEXTS = ("west", "east", "north", "south")


@pytest.mark.parametrize(
    "choices",
    [
        list(TEXTS),
        "A. west\nB. east\nC. north\nD. south",
        ["(A) west", "(B) east", "(C) north", "(D) south"],
        {"text": list(TEXTS), "label": ["A", "B", "C", "D"]},
        {"text": list(TEXTS), "label": ["1", "2", "3", "4"]},
        [{"label": "a", "text": text} | {"label": label} for label, text in zip("abcd", TEXTS, strict=True)],
        dict(zip("ABCD", TEXTS, strict=True)),
        json.dumps(TEXTS),
        str(TEXTS).replace("(", "[").replace(")", "]"),
    ],
)
def test_choices(tmp_path, choices):
    own = "B" if not (isinstance(choices, dict) and choices.get("label", "A")[0] == "1") else "2"
    for answer in (own, "east", f"({own})", f"{own}. east"):
        (problem,) = read(tmp_path, {"question": "Where?", "choices": choices, "answer": answer})
        assert problem.choices == TEXTS and (problem.answer, problem.kind) == ("B", "choice"), answer


def test_answers_by_index(tmp_path):
    """MMLU: indices from 0. One row that an index cannot be read in tells that they are something else."""
    rows = [{"question": "?", "choices": ["2", "3", "5", "7"], "answer": n} for n in (0, 1, 3)]
    assert [problem.answer for problem in read(tmp_path, *rows)] == ["A", "B", "D"]
    with pytest.raises(UserError, match=r"row 1: answer '2' may be A \(as its text\) or C \(as its index\)"):
        read(tmp_path, rows[0] | {"answer": 2})
    for form, letter in (("text", "A"), ("index", "C"), ("number", "B")):
        (problem,) = read(tmp_path, rows[0] | {"answer": 2}, choice_answers=form)
        assert problem.answer == letter
    with pytest.raises(UserError, match="'4' is none of the choices x, y, z, w .for numbers from 1, data.choice_ans"):
        read(tmp_path, {"question": "?", "choices": list("xyzw"), "answer": 4})
    rows = [{"question": "?", "choices": ["Paris", "Rome"], "answer": n} for n in (1, 1)]
    with pytest.raises(UserError, match=r"answer '1' may be B \(as its index\) or A \(as its number\): set data"):
        read(tmp_path, *rows)  # none is 0
    assert [problem.answer for problem in read(tmp_path, *rows, choice_answers="index")] == ["B", "B"]
    assert [problem.answer for problem in read(tmp_path, *rows, choice_answers="number")] == ["A", "A"]


def test_yes_and_no_as_booleans(tmp_path):
    rows = [{"question": "Is it?", "answer": value} for value in (True, False)]
    assert [problem.answer for problem in read(tmp_path, *rows, kind="=yes_no")] == ["yes", "no"]
    with pytest.raises(UserError, match="row 1: answer is a boolean, not a string or a number"):
        read(tmp_path, *rows)


def test_answers_that_look_like_labels(tmp_path):
    row = {"question": "Who?", "choices": ["G. Washington", "A. Lincoln"], "answer": "A. Lincoln"}
    assert read(tmp_path, row)[0].answer == "B"
    numbered = {"text": ["2", "3.5", "5"], "label": ["1", "2", "3"]}
    row = {"question": "?", "choices": numbered, "answer": "3.5"}
    assert read(tmp_path, row)[0].answer == "B"
    assert read(tmp_path, row | {"answer": "3. 5"})[0].answer == "C"
    with pytest.raises(UserError, match=r"may be B \(as its label\) or A \(as its text\)"):
        read(tmp_path, row | {"answer": "2"})
    assert read(tmp_path, row | {"answer": "2"}, row | {"answer": "3"})[0].answer == "B", "both are labels"


@pytest.mark.parametrize(
    "choices, error",
    [
        ({"text": ["a", "b"], "label": ["A"]}, "choices has 2 texts, but 1 labels"),
        ([{"label": "A", "wording": "a"}], "choices is a list of objects without a text"),
        ({"text": ["a", "b"], "label": ["A", "a"]}, "two choices with the same label"),
        (["same", "same"], "answer 'same' is none of the choices"),
        (["x"] * 27, "choices has 27 items, more than there are letters"),
    ],
)
def test_wrong_choices(tmp_path, choices, error):
    with pytest.raises(UserError, match=f"row 1: .*{error}"):
        read(tmp_path, {"question": "?", "choices": choices, "answer": "same"})


def test_paths_that_lead_nowhere(tmp_path):
    row = {"question": "?", "reward_model": {"ground_truth": "1"}, "prompt": [{"content": "?"}], "a.b": "2"}
    for entry, error in {
        "reward_model.truth": r"no column 'reward_model.truth' \(reward_model is an object with ground_truth\)",
        "prompt[1].content": r"no column 'prompt\[1\].content' \(prompt is a list\)",
        "reward_modle.truth": r"no column 'reward_modle.truth'",
    }.items():
        with pytest.raises(UserError, match=f"data.columns.answer: {error}"):
            read(tmp_path, row, answer=entry)
    assert [read(tmp_path, row, answer=entry)[0].answer for entry in ("a.b", "reward_model.ground_truth")] == ["2", "1"]
    with pytest.raises(UserError, match="would put the reference answer into the question"):
        read(tmp_path, row, question="{question} {reward_model.ground_truth}", answer="reward_model.ground_truth")


def test_bad_rows(tmp_path, caplog):
    rows = [{"question": "1+1?", "answer": "2"}, {"question": "", "answer": "2"}, {"question": "2+2?"}]
    with pytest.raises(UserError, match=r"2 errors in .*rows.jsonl \(2 of 3 rows\):\n  rows.jsonl, row 2: question is"):
        read(tmp_path, *rows)
    (problem,) = read(tmp_path, *rows, bad_rows="skip")
    assert problem.question == "1+1?"
    assert "2 of 3 rows skipped (data.bad_rows), such as\n  rows.jsonl, row 2: question is empty" in caplog.text
    with pytest.raises(UserError, match="2 of 2 rows"):
        read(tmp_path, *rows[1:], bad_rows="skip")
    with pytest.raises(UserError, match="no column 'prompt'"):
        read(tmp_path, *rows, question="prompt", bad_rows="skip")
