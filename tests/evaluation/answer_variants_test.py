"""Variants proposed by a model: the verifier confirms them, and they are used in the probes."""

import json

import jax
import pytest

from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.evaluation import answer_variants
from mig_jax.policy import encoding
from mig_jax.policy.load import load_policy
from mig_jax.rollout import problem_set
from mig_jax.text.answers.verifier import Verifier
from tests import tiny

HALF = Problem("half", "1/2 hour in minutes, or 0.5?", "1/2")
NEAR = Problem("near", "About how many?", "40", "relaxed")
EAST = Problem("east", "Where does the sun rise?", "B", "choice", choices=("west", "east"))
COMPLETION = "- one half\n1. 0.50\n2) 2/4\n* 3/4\n\n0.50\n"


@pytest.fixture(scope="module")
def verifier():
    with Verifier(workers=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def policy():
    mesh = sharding.make_mesh({}, devices=jax.devices()[:1])
    return load_policy(tiny.get_quickstart().model, mesh, seed=0)


def test_parse_variants_removes_bullets():
    assert answer_variants.parse_variants(COMPLETION, limit=9) == ["one half", "0.50", "2/4", "3/4"]
    assert answer_variants.parse_variants(COMPLETION, limit=2) == ["one half", "0.50"]
    assert answer_variants.parse_variants("-5\n- -5\n3.5", limit=9) == ["-5", "3.5"], (
        "neither a sign nor a decimal is a bullet"
    )
    assert answer_variants.parse_variants(" \n", limit=9) == []


def test_only_equal_variants_are_confirmed(verifier):
    # Exact equality also for a kind with a tolerance of 5 %.
    proposed = [["0.50", "3/4", "2/4", "nonsense"], ["41", "40.0"]]
    assert answer_variants.confirm_variants(verifier, [HALF, NEAR], proposed) == [["0.50", "2/4"], ["40.0"]]


def test_a_pass_keeps_new_variants_and_resumes(policy, verifier, tmp_path, monkeypatch):
    asked = []

    def answer_requests(policy, config, sample, batch, size):
        asked.append([problem.id for problem in batch])
        return [COMPLETION] * len(batch)

    monkeypatch.setattr(answer_variants, "_answer_requests", answer_requests)
    config, path = tiny.get_quickstart(reward__max_variants=9, eval__batch_size=1), tmp_path / "variants.jsonl"
    assert answer_variants.propose_variants(policy, config, verifier, [HALF], path) == (4, 2, 2)
    with open(path, "a") as file:
        file.write('{"source": "", "id": "near", "ans')  # as after a kill
    # Rules derive the letters and texts of choices, so `east` is skipped.
    assert answer_variants.propose_variants(policy, config, verifier, [HALF, EAST, NEAR], path) == (4, 0, 0)
    assert asked == [["half"], ["near"]]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [
        {"source": "", "id": "half", "answer": "1/2", "variants": ["0.50", "2/4"]},
        {"source": "", "id": "near", "answer": "40", "variants": []},
    ]


def test_the_model_answers_requests(policy, verifier, tmp_path):
    config = tiny.get_quickstart(data__max_prompt_tokens=400, rollout__max_new_tokens=8)
    proposed, confirmed, _ = answer_variants.propose_variants(
        policy, config, verifier, [HALF, NEAR], tmp_path / "v.jsonl"
    )
    assert proposed >= confirmed
    short = tiny.get_quickstart(data__max_prompt_tokens=5)
    assert answer_variants.propose_variants(policy, short, verifier, [HALF], tmp_path / "short.jsonl") == (0, 0, 0)


def test_variants_of_the_file_are_probed(policy, tmp_path):
    """Variants of `data.variants` follow the reference answer, before those derived by rules."""
    config = tiny.get_quickstart(data__train="jsonl:" + str(tmp_path / "rows.jsonl"))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "half", "question": "1/2 of 1", "answer": "1/2"}))
    path, row = tmp_path / "variants.jsonl", {"source": "rows", "id": "half", "answer": "1/2", "variants": ["2/4"]}
    # Variants of another source, or of another answer, are ignored.
    derived = r"\frac{1}{2}"
    for change, expected in ((None, derived), ({}, "2/4"), ({"source": "other"}, derived), ({"answer": "2"}, derived)):
        path.write_text(json.dumps(row | (change or {})))
        config.data.variants = "" if change is None else str(path)
        ((chosen,), _) = problem_set.open_train_problems(policy, config, need_solution=False)
        assert encoding.reference_variants(chosen[0], limit=2) == ("1/2", expected)
    path.write_text('{"id": "half"}\n{"id": "a", "answer": 1, "variants": 3}\n')
    with pytest.raises(UserError, match="row 1: answer is missing\n.*row 2: variants is a number, not a list"):
        problem_set.read_variants(str(path))


def test_an_unwritable_file_is_a_user_error(policy, verifier, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file/v.jsonl"):
        answer_variants.propose_variants(policy, tiny.get_quickstart(), verifier, [], tmp_path / "file" / "v.jsonl")
