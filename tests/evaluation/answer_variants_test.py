"""Spellings that a model proposes: only what the verifier confirms is kept, and it reaches the probes."""

import json

import jax
import pytest

from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
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


def test_a_list_is_read_without_its_bullets():
    assert answer_variants.spellings_in(COMPLETION, limit=9) == ["one half", "0.50", "2/4", "3/4"]
    assert answer_variants.spellings_in(COMPLETION, limit=2) == ["one half", "0.50"]
    assert answer_variants.spellings_in("-5\n- -5\n3.5", limit=9) == ["-5", "3.5"], (
        "a sign is no bullet, nor is a decimal"
    )
    assert answer_variants.spellings_in(" \n", limit=9) == []


def test_only_equal_spellings_are_confirmed(verifier):
    # Of a kind that forgives 5 %, too.
    proposed = [["0.50", "3/4", "2/4", "nonsense"], ["41", "40.0"]]
    assert answer_variants.confirm(verifier, [HALF, NEAR], proposed) == [["0.50", "2/4"], ["40.0"]]


def test_a_pass_keeps_what_is_new_and_goes_on(policy, verifier, tmp_path, monkeypatch):
    asked = []

    def ask(policy, config, sample, batch, size):
        asked.append([problem.id for problem in batch])
        return [COMPLETION] * len(batch)

    monkeypatch.setattr(answer_variants, "_ask", ask)
    config, path = tiny.get_quickstart(reward__max_variants=9, eval__batch_size=1), tmp_path / "variants.jsonl"
    assert answer_variants.propose_variants(policy, config, verifier, [HALF], path) == (4, 2, 2)
    with open(path, "a") as file:
        file.write('{"source": "", "id": "near", "ans')  # a kill
    # The letters and texts of choices are known to rules.
    assert answer_variants.propose_variants(policy, config, verifier, [HALF, EAST, NEAR], path) == (4, 0, 0)
    assert asked == [["half"], ["near"]]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [
        {"source": "", "id": "half", "answer": "1/2", "variants": ["0.50", "2/4"]},
        {"source": "", "id": "near", "answer": "40", "variants": []},
    ]


def test_the_model_is_really_asked(policy, verifier, tmp_path):
    config = tiny.get_quickstart(data__max_prompt_tokens=400, rollout__max_new_tokens=8)
    proposed, confirmed, _ = answer_variants.propose_variants(
        policy, config, verifier, [HALF, NEAR], tmp_path / "v.jsonl"
    )
    assert proposed >= confirmed
    short = tiny.get_quickstart(data__max_prompt_tokens=5)
    assert answer_variants.propose_variants(policy, short, verifier, [HALF], tmp_path / "short.jsonl") == (0, 0, 0)


def test_the_file_reaches_the_probes(policy, tmp_path):
    """data.variants changes what is probed: the spelling stands behind the reference, before those of rules."""
    config = tiny.get_quickstart(data__train="jsonl:" + str(tmp_path / "rows.jsonl"))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "half", "question": "1/2 of 1", "answer": "1/2"}))
    path, row = tmp_path / "variants.jsonl", {"source": "rows", "id": "half", "answer": "1/2", "variants": ["2/4"]}
    # Of a problem of this id in another source, or that had another answer, the spellings are none of its.
    for change, expected in ((None, "0.5"), ({}, "2/4"), ({"source": "other"}, "0.5"), ({"answer": "2"}, "0.5")):
        path.write_text(json.dumps(row | (change or {})))
        config.data.variants = "" if change is None else str(path)
        ((chosen,), _) = problem_set.open_training(policy, config, solved=False)
        assert encoding.answer_spellings(chosen[0], limit=2) == ("1/2", expected)
    path.write_text('{"id": "half"}\n{"id": "a", "answer": 1, "variants": 3}\n')
    with pytest.raises(ValueError, match="row 1: answer is missing\n.*row 2: variants is a number, not a list"):
        problem_set.read_variants(str(path))
