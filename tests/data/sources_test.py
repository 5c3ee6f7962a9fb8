"""Sources: deterministic, split apart, clear about what is wrong; the iterator resumes exactly."""

import base64
import io
import json

import pytest
from PIL import Image

from mig_jax.data import sources
from mig_jax.data.problem import Problem

CHAIN = "chain:terms=4,noise=0.25"
SCENES = "scenes:objects=3-4,size=56,noise=0.25"


def _numbered(n: int) -> tuple[Problem, ...]:
    return tuple(Problem(str(i), f"question {i}", str(i)) for i in range(n))


def _ids(batches) -> list[list[str]]:
    return [[problem.id for problem in batch] for batch in batches]


def _take(iterator, n: int) -> list[list[Problem]]:
    return [next(iterator) for _ in range(n)]


def _write_rows(path, rows) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return f"jsonl:{path}"


def test_chain_problems_bring_their_demonstration():
    problem = sources.open_source(CHAIN, split="train", seed=0, size=10)[3]
    steps, demonstrated = problem.demonstration
    assert problem.question.startswith("Last digits of ") and problem.kind == "expression"
    assert len(steps) == len(problem.answer) == len(demonstrated) == 3


def test_a_chain_source_depends_on_name_split_and_seed_alone():
    def questions(**changed):
        options = {"split": "train", "seed": 0, "size": 20} | changed
        return [p.question for p in sources.open_source(CHAIN, **options)]

    assert questions() == questions()
    assert questions() != questions(seed=1)
    assert questions() != questions(split="test")


def test_no_test_question_among_fifty_thousand_training_ones():
    train = sources.open_source(CHAIN, split="train", seed=0, size=50_000)
    test = sources.open_source(CHAIN, split="test", seed=1, size=2_000)
    trained = {problem.question for problem in train}
    # More than half of the 56,000 chains that are not held out have been seen, so that luck cannot pass this test.
    assert len(trained) > 20_000
    assert not trained & {problem.question for problem in test}


def test_scenes_bring_a_picture_and_a_demonstration():
    source = sources.open_source(SCENES, split="train", seed=0, size=40)
    for problem in source:
        (image,) = problem.images
        with Image.open(io.BytesIO(image)) as opened:
            assert opened.size == (56, 56)
        assert len(problem.demonstration[0]) == 2
        assert problem.kind == ("expression" if problem.answer.isdigit() else "text")
    assert list(source) == list(sources.open_source(SCENES, split="train", seed=0, size=40))
    assert any(problem.demonstration[1] != problem.answer for problem in source)
    assert {problem.question.split()[0] for problem in source} == {"How", "More", "Is"}


def test_no_held_out_scene_among_the_training_ones(monkeypatch):
    # Without pixels; so few scenes that each split alone would hold most of them.
    monkeypatch.setattr(sources.rendering, "render", lambda scene: scene.description)
    monkeypatch.setattr(sources.rendering, "to_png", str.encode)
    name = "scenes:objects=2,size=56,colors=3,kinds=count"
    train = sources.open_source(name, split="train", seed=0, size=2500)
    test = sources.open_source(name, split="test", seed=1, size=600)
    trained = {(problem.question, problem.images) for problem in train}
    assert len(trained) > 1200
    assert not trained & {(problem.question, problem.images) for problem in test}


def test_options_of_scenes_are_heard():
    def opened(options: str) -> list[Problem]:
        return list(sources.open_source(f"scenes:{options}", split="test", seed=0, size=20))

    assert all(problem.question.startswith("More") for problem in opened("objects=3,size=56,kinds=compare"))
    assert all(p.demonstration[1] == p.answer for p in opened("objects=3,size=56"))
    assert {len(p.demonstration[0]) for p in opened("objects=9,haste=0.5")} == {1, 2, 3}
    assert any("cyan" in step for p in opened("objects=9,colors=6") for step in p.demonstration[0])


def test_reasoning_gym_ids_lead_back_to_the_entry():
    reasoning_gym = pytest.importorskip("reasoning_gym")
    for task, kind in (("chain_sum", "expression"), ("spell_backward", "reasoning_gym")):
        problem = sources.open_source(f"reasoning_gym:{task}", split="test", seed=7, size=20)[13]
        _, name, seed, size, index = problem.id.split(":")
        entry = reasoning_gym.create_dataset(name, seed=int(seed), size=int(size))[int(index)]
        assert (problem.question, problem.answer, problem.kind) == (entry["question"], entry["answer"], kind)


def test_reasoning_gym_splits_are_disjoint_and_solutions_become_steps():
    pytest.importorskip("reasoning_gym")
    train, test = (sources.open_source("reasoning_gym:gsm_symbolic", split=s, seed=0, size=50) for s in sources.SPLITS)
    assert not {p.question for p in train} & {p.question for p in test}
    for problem in train:
        steps, answer = problem.demonstration
        assert steps and answer == problem.answer and not any("####" in step for step in steps)


def test_a_source_ends():
    source = sources.open_source(CHAIN, split="train", seed=0, size=3)
    assert len(list(source)) == 3
    with pytest.raises(IndexError, match="of a source of 3"):
        source[3]


@pytest.mark.parametrize(
    "name, said",
    [
        ("chian:terms=4", "did you mean chain"),
        ("chain:term=4,noise=lots", r"no option 'term' \(did you mean terms\?\); noise='lots' is no float"),
        ("chain:noise=0", "option terms is missing"),
        ("chain:terms=1", "at least 2 terms"),
        ("chain:terms=4,noise=2", "probability"),
        ("scenes:size=84", "option objects is missing"),
        (
            "scenes:objects=few,colours=4",
            r"objects='few' is no number or range; no option 'colours' .did you mean color",
        ),
        ("scenes:objects=5,size=56", "objects are from 2 to 4 in a picture of 56 pixels"),
        ("scenes:objects=4,noise=3", "noise is a probability"),
        ("reasoning_gym:chainsum", "no task 'chainsum' .did you mean chain_sum"),
        ("reasoning_gym:rubiks_cube", "no reference answer"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(name, said):
    if name.startswith("reasoning_gym"):
        pytest.importorskip("reasoning_gym")
    with pytest.raises(ValueError, match=said):
        sources.open_source(name, split="train", seed=0, size=9)


def test_a_wrong_split_or_size_is_refused():
    with pytest.raises(ValueError, match="size of at least 1"):
        sources.open_source(CHAIN, split="train", seed=0, size=0)
    with pytest.raises(ValueError, match="did you mean train"):
        sources.open_source(CHAIN, split="trian", seed=0, size=3)


def test_jsonl_rows_become_problems(tmp_path):
    rows = [
        {"question": "1/2 as a decimal?", "answer": 0.5, "level": 3},
        "",
        {"id": "b", "question": "Which?", "answer": "B", "kind": "choice", "steps": ["Look.", "See \u2028 B."]},
    ]
    name = _write_rows(tmp_path / "rows.jsonl", rows)
    assert sources.open_source(name, split="test", seed=0, size=1) == (
        Problem("rows.jsonl:1", "1/2 as a decimal?", "0.5"),
        Problem("b", "Which?", "B", "choice", (("Look.", "See \u2028 B."), "B")),
    )


def test_every_bad_jsonl_row_is_reported_at_once(tmp_path):
    rows = [
        {"question": "fine", "answer": "1"},
        {"answer": "1"},
        "{torn",
        {"question": "q", "answer": ""},
        ["no object"],
        {"question": "q", "answer": True, "kind": "maths"},
        {"question": "q", "answer": "1", "steps": "one text"},
    ]
    with pytest.raises(ValueError) as caught:
        sources.open_source(_write_rows(tmp_path / "rows.jsonl", rows), split="train", seed=0, size=1)
    said = str(caught.value).split("\n  ")
    assert said[0].startswith("7 faults in ")
    assert [line.split(":")[0] for line in said[1:]] == [f"line {n}" for n in (2, 3, 4, 5, 6, 6, 7)]
    assert "question is missing" in said[1] and "not JSON" in said[2] and "steps" in said[7]


def _image(format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 4), "red").save(file, format)
    return file.getvalue()


def test_images_of_jsonl_rows_come_as_the_bytes_of_their_files(tmp_path):
    png, jpeg = _image("PNG"), _image("JPEG")
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "a.png").write_bytes(png)
    (tmp_path / "b.jpg").write_bytes(jpeg)
    uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    rows = [{"question": "Which?", "answer": "1", "images": ["shown/a.png", str(tmp_path / "b.jpg"), uri]}]
    (problem,) = sources.open_source(_write_rows(tmp_path / "rows.jsonl", rows), split="test", seed=0, size=1)
    assert problem.images == (png, jpeg, png)


def test_every_bad_image_is_reported_with_its_line(tmp_path):
    (tmp_path / "fine.png").write_bytes(_image("PNG"))
    (tmp_path / "torn.jpg").write_bytes(_image("JPEG")[:-20])
    (tmp_path / "text.png").write_text("no image")
    row = {"question": "q", "answer": "1"}
    rows = [
        row | {"images": ["fine.png"]},
        row | {"images": ["gone.png", "fine.png", "torn.jpg"]},
        row | {"images": ["text.png"]},
        row | {"images": "fine.png"},
        row | {"images": ["data:image/png;base64,AAAA", "data:image/png,x", "data:image/png;base64,?"]},
        row | {"images": [""], "answer": ""},
    ]
    with pytest.raises(ValueError) as caught:
        sources.open_source(_write_rows(tmp_path / "rows.jsonl", rows), split="train", seed=0, size=1)
    said = str(caught.value).split("\n  ")[1:]
    assert [line.split(":")[0] for line in said] == [f"line {n}" for n in (2, 2, 3, 4, 5, 5, 5, 6, 6)]
    assert "gone.png: No such file" in said[0] and "torn.jpg: not an image" in said[1]
    assert "text.png: not an image" in said[2] and "not a list of file names" in said[3] and "base64" in said[5]


def test_same_seed_same_stream_and_every_epoch_another_order():
    first, again, other = (sources.iterate(_numbered(12), seed=seed, batch_size=4) for seed in (0, 0, 1))
    batches = _ids(_take(first, 6))
    assert batches == _ids(_take(again, 6)) != _ids(_take(other, 6))
    epochs = sum(batches[:3], []), sum(batches[3:], [])
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(str(i) for i in range(12))
    assert epochs[0] != epochs[1]


# 10 problems in batches of 4: the third and the fifth batch straddle or touch an end of an epoch.
@pytest.mark.parametrize("taken", [0, 1, 2, 3, 5])
def test_resume_is_exact_within_and_across_epochs(taken):
    iterator = sources.iterate(_numbered(10), seed=3, batch_size=4)
    _take(iterator, taken)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = _take(iterator, 6)
    resumed = sources.iterate(_numbered(10), seed=3, batch_size=4)
    _take(resumed, 1)
    resumed.set_state(state)
    assert _take(resumed, 6) == expected


@pytest.mark.parametrize("num_hosts", [2, 3])
def test_the_hosts_share_the_stream_of_one(num_hosts):
    source = _numbered(12)
    hosts = [sources.iterate(source, seed=5, batch_size=2, host=h, num_hosts=num_hosts) for h in range(num_hosts)]
    seen = []
    alone = sources.iterate(source, seed=5, batch_size=2 * num_hosts)
    for _ in range(12 // (2 * num_hosts)):
        shares, whole = _ids(map(next, hosts)), _ids([next(alone)])[0]
        assert sorted(sum(shares, [])) == sorted(whole)
        seen += whole
    assert sorted(seen) == sorted(problem.id for problem in source)


def test_an_empty_source_is_refused():
    with pytest.raises(ValueError, match="no problem"):
        sources.iterate((), seed=0, batch_size=2)
