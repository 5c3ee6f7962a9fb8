"""Sources: deterministic, with disjoint splits, and with error messages that tell what is wrong."""

import base64
import io
import json

import pytest
from mig_jax.configs import default
from PIL import Image

from mig_jax.data import sources
from mig_jax.data.problem import Problem
from mig_jax.data.synthetic import generators
from mig_jax.errors import UserError

CHAIN = "chain:terms=4,slip_prob=0.25"
SCENES = "scenes:objects=3-4,size=56,slip_prob=0.25"


COLUMNS = default.get_config().data.columns.to_dict()


def open_source(name, *, split, seed, size, columns=COLUMNS, data_dir=None):
    return sources.open_source(name, split=split, seed=seed, size=size, data_dir=data_dir, columns=columns)


def _write_rows(path, rows) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return f"jsonl:{path}"


def test_chain_problems_have_solutions():
    problem = open_source(CHAIN, split="train", seed=0, size=10)[3]
    steps, answer = problem.solution
    assert problem.question.startswith("Last digits of ") and problem.kind == "expression"
    assert len(steps) == len(problem.answer) == len(answer) == 3


def test_chain_source_depends_on_name_split_and_seed_only():
    def questions(**changed):
        options = {"split": "train", "seed": 0, "size": 20} | changed
        return [p.question for p in open_source(CHAIN, **options)]

    assert questions() == questions()
    assert questions() != questions(seed=1)
    assert questions() != questions(split="test")


def test_chain_splits_are_disjoint():
    train = open_source(CHAIN, split="train", seed=0, size=15_000)
    test = open_source(CHAIN, split="test", seed=1, size=2_000)
    train_questions = {problem.question for problem in train}
    # A good part of the 56,000 training chains occurs, so the test cannot pass by chance.
    assert len(train_questions) > 10_000
    assert not train_questions & {problem.question for problem in test}


def test_scene_problems_have_an_image_and_a_solution():
    source = open_source(SCENES, split="train", seed=0, size=40)
    for problem in source:
        (image,) = problem.images
        with Image.open(io.BytesIO(image)) as opened:
            assert opened.size == (56, 56)
        assert len(problem.solution[0]) == 2
        assert problem.kind == ("expression" if problem.answer.isdigit() else "text")
    assert list(source) == list(open_source(SCENES, split="train", seed=0, size=40))
    assert any(problem.solution[1] != problem.answer for problem in source)
    assert {problem.question.split()[0] for problem in source} == {"How", "More", "Is"}


def test_scene_splits_are_disjoint(monkeypatch):
    # Descriptions in place of pixels. There are so few scenes that each split covers most of its own.
    monkeypatch.setattr(generators.rendering, "render", lambda scene: scene.description)
    monkeypatch.setattr(generators.rendering, "to_png", str.encode)
    name = "scenes:objects=2,size=56,colors=3,kinds=count"
    train = open_source(name, split="train", seed=0, size=2500)
    test = open_source(name, split="test", seed=1, size=600)
    train_scenes = {(problem.question, problem.images) for problem in train}
    assert len(train_scenes) > 1200
    assert not train_scenes & {(problem.question, problem.images) for problem in test}


def test_scene_options_take_effect():
    def opened(options: str) -> list[Problem]:
        return list(open_source(f"scenes:{options}", split="test", seed=0, size=20))

    assert all(problem.question.startswith("More") for problem in opened("objects=3,size=56,kinds=compare"))
    assert all(p.solution[1] == p.answer for p in opened("objects=3,size=56"))
    assert {len(p.solution[0]) for p in opened("objects=9,early_guess_prob=0.5")} == {1, 2, 3}
    assert any("cyan" in step for p in opened("objects=9,colors=6") for step in p.solution[0])


def test_chains_may_ask_for_the_last_digit():
    digits, last = (open_source(f"chain:terms=5{o}", split="train", seed=0, size=20) for o in ("", ",asked=last"))
    assert all(problem.question.startswith("Last digits of") and len(problem.answer) == 4 for problem in digits)
    assert all(problem.question.startswith("Last digit of") for problem in last)
    assert all(problem.answer == problem.solution[1] == problem.solution[0][-1][-1] for problem in last)
    with pytest.raises(UserError, match="asked='first' is not digits or last"):
        open_source("chain:terms=5,asked=first", split="train", seed=0, size=20)


def test_reasoning_gym_ids_identify_the_entry():
    reasoning_gym = pytest.importorskip("reasoning_gym")
    for task, kind in (("chain_sum", "expression"), ("spell_backward", "reasoning_gym")):
        problem = open_source(f"reasoning_gym:{task}", split="test", seed=7, size=20)[13]
        _, name, seed, size, index = problem.id.split(":")
        entry = reasoning_gym.create_dataset(name, seed=int(seed), size=int(size))[int(index)]
        assert (problem.question, problem.answer, problem.kind) == (entry["question"], entry["answer"], kind)


def test_reasoning_gym_splits_are_disjoint_and_have_solutions():
    pytest.importorskip("reasoning_gym")
    train, test = (open_source("reasoning_gym:gsm_symbolic", split=s, seed=0, size=50) for s in sources.SPLITS)
    assert not {p.question for p in train} & {p.question for p in test}
    for problem in train:
        steps, answer = problem.solution
        assert steps and answer == problem.answer and not any("####" in step for step in steps)


def test_source_is_finite():
    source = open_source(CHAIN, split="train", seed=0, size=3)
    assert len(list(source)) == 3
    with pytest.raises(IndexError, match="index 3 is out of range for a source of 3 problems"):
        source[3]


@pytest.mark.parametrize(
    "name, message",
    [
        ("chian:terms=4", "did you mean chain"),
        (
            "chain:term=4,slip_prob=lots",
            r"unknown option 'term' \(did you mean terms\?\); slip_prob='lots' is not a float",
        ),
        ("chain:slip_prob=0", "option terms is missing"),
        ("chain:terms=1", "at least 2 terms"),
        ("chain:terms=4,slip_prob=2", "probability"),
        ("chain:terms=4,noise=0.2", r"unknown option 'noise' \(now called slip_prob\)"),
        ("scenes:size=84", "option objects is missing"),
        (
            "scenes:objects=few,colours=4",
            r"objects='few' is not a number or range; unknown option 'colours' .did you mean color",
        ),
        ("scenes:objects=5,size=56", "objects must be from 2 to 4 in an image of 56 pixels"),
        ("scenes:objects=4,slip_prob=3", "slip_prob must be a probability"),
        ("reasoning_gym:chainsum", "no task 'chainsum' .did you mean chain_sum"),
        ("reasoning_gym:rubiks_cube", "no reference answer"),
    ],
)
def test_wrong_names_are_explained(name, message):
    if name.startswith("reasoning_gym"):
        pytest.importorskip("reasoning_gym")
    with pytest.raises(ValueError, match=message):
        open_source(name, split="train", seed=0, size=9)


def test_wrong_split_or_size_is_rejected():
    with pytest.raises(ValueError, match="size of at least 1"):
        open_source(CHAIN, split="train", seed=0, size=0)
    with pytest.raises(ValueError, match="did you mean train"):
        open_source(CHAIN, split="trian", seed=0, size=3)


def test_jsonl_rows_are_read(tmp_path):
    rows = [
        {"question": "1/2 as a decimal?", "answer": 0.5, "level": 3},
        "",
        {"id": "b", "question": "Which?", "answer": "B", "kind": "choice", "steps": ["Look.", "See \u2028 B."]},
    ]
    name = _write_rows(tmp_path / "rows.jsonl", rows)
    assert open_source(name, split="test", seed=0, size=1) == (
        Problem("rows.jsonl:1", "1/2 as a decimal?", "0.5", level="3", source="rows", row=rows[0]),
        Problem("b", "Which?", "B", "choice", (("Look.", "See \u2028 B."), "B"), source="rows", row=rows[2]),
    )


def test_paths_expand_home_and_may_contain_an_at_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    _write_rows(tmp_path / "a@b.jsonl", [{"question": "1+1?", "answer": 2}])
    assert (
        sources.source_name_error("jsonl:~/a@b.jsonl") is None
        and sources.source_name_error("jsonl:~/a.jsonl") == "no such file"
    )
    (problem,) = open_source("jsonl:~/a@b.jsonl", split="test", seed=0, size=1)
    assert problem.answer == "2"


def test_all_wrong_jsonl_rows_are_reported_at_once(tmp_path):
    rows = [
        {"question": "fine", "answer": "1"},
        {"answer": "1"},
        "{torn",
        {"question": "q", "answer": ""},
        ["no object"],
        {"question": "q", "answer": True, "kind": "maths"},
        {"question": "q", "answer": "1", "steps": 5},
    ]
    with pytest.raises(ValueError) as caught:
        open_source(_write_rows(tmp_path / "rows.jsonl", rows), split="train", seed=0, size=1)
    lines = str(caught.value).split("\n  ")
    assert lines[0].startswith("7 errors in ")
    assert [line.split(":")[0] for line in lines[1:]] == [f"rows.jsonl, row {n}" for n in (2, 3, 4, 5, 6, 6, 7)]
    assert "question is missing" in lines[1] and "not JSON" in lines[2] and "steps" in lines[7]


def _image(image_format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 4), "red").save(file, image_format)
    return file.getvalue()


def test_images_of_jsonl_rows_are_unchanged_bytes(tmp_path):
    png, jpeg = _image("PNG"), _image("JPEG")
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "a.png").write_bytes(png)
    (tmp_path / "b.jpg").write_bytes(jpeg)
    uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    rows = [{"question": "Which?", "answer": "1", "images": ["shown/a.png", str(tmp_path / "b.jpg"), uri]}]
    (problem,) = open_source(_write_rows(tmp_path / "rows.jsonl", rows), split="test", seed=0, size=1)
    assert problem.images == (png, jpeg, png)


def test_wrong_images_are_reported_with_their_rows(tmp_path):
    (tmp_path / "fine.png").write_bytes(_image("PNG"))
    (tmp_path / "torn.jpg").write_bytes(_image("JPEG")[:-20])
    (tmp_path / "text.png").write_text("no image")
    row = {"question": "q", "answer": "1"}
    rows = [
        row | {"images": ["fine.png"]},
        row | {"images": ["gone.png", "fine.png", "torn.jpg"]},
        row | {"images": ["text.png"]},
        row | {"images": 5},
        row | {"images": ["data:image/png;base64,AAAA", "data:image/png,x", "data:image/png;base64,?"]},
        row | {"images": [""], "answer": ""},
    ]
    with pytest.raises(ValueError) as caught:
        open_source(_write_rows(tmp_path / "rows.jsonl", rows), split="train", seed=0, size=1)
    lines = str(caught.value).split("\n  ")[1:]
    assert [line.split(":")[0] for line in lines] == [f"rows.jsonl, row {n}" for n in (2, 3, 4, 5, 6, 6)]
    assert "gone.png: No such file" in lines[0] and "torn.jpg: not an image" in lines[0]
    assert "text.png: not an image" in lines[1] and "not a list of file names" in lines[2]
    assert lines[3].count("image data:") == 3 and "base64" in lines[3]


def test_split_names_splits_between_sources_only():
    names = "gsm8k,math:test,chain:terms=4,slip_prob=0.2,jsonl:/data/a,b.jsonl"
    assert sources.split_names(names) == ("gsm8k", "math:test", "chain:terms=4,slip_prob=0.2", "jsonl:/data/a,b.jsonl")
    assert sources.split_names("gsm8k, Math,aime-2025") == ("gsm8k", "Math", "aime-2025")
    assert sources.split_names("") == ()


def test_parse_mixture_reads_weights():
    assert sources.parse_mixture("3 gsm8k + 0.5 jsonl:/a+b.jsonl + chain:terms=4") == (
        ("gsm8k", 3),
        ("jsonl:/a+b.jsonl", 0.5),
        ("chain:terms=4", 1),
    )
    for wrong in ("0 gsm8k", "", "gsm8k + "):
        with pytest.raises(ValueError, match="weight|name"):
            sources.parse_mixture(wrong)


@pytest.mark.parametrize(
    "name, message",
    [
        ("gsm9k", "did you mean gsm8k"),
        ("chain", "chain is incomplete: write chain:terms=7"),
        ("gsm8k:tset", "gsm8k has no split 'tset'; available: train, test"),
        ("chain:terms=x", "terms='x' is not an int"),
        ("jsonl:/nowhere.jsonl", "no such file"),
        ("tfds:/nowhere@train", "no such folder"),
        ("gsm8k", None),
        ("chain:terms=4", None),
    ],
)
def test_source_name_errors_show_without_opening(name, message):
    error = sources.source_name_error(name)
    assert (message in error) if message else error is None
