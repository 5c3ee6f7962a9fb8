"""A run takes the problems that fit, and its config reaches the sources."""

import datetime
import hashlib
import json
import pickle

import jax
import pytest

from mig_jax.distributed import sharding
from mig_jax.policy.load import load_policy
from mig_jax.rollout import problem_set
from tests import tiny

FIELDS = ("id", "question", "answer", "kind", "choices", "steps", "images", "level", "subject", "source")
ROW = {
    "key": "a", "ask": "Where?", "gold": "east", "what": "choice", "options": ["west", "east"],
    "how": ["Look.", "East."], "shown": [], "grade": 3, "topic": "sun", "from": "almanac",
}  # fmt: skip


@pytest.fixture(scope="module")
def policy():
    mesh = sharding.make_mesh({}, devices=jax.devices()[:1])
    return load_policy(tiny.get_config().model, mesh, seed=0)


def config_of(path, rows, **changes):
    path.write_text("\n".join(map(json.dumps, rows)))
    return tiny.get_config(data__train=f"jsonl:{path}", data__eval=f"jsonl:{path}", **changes)


def test_columns_are_read_where_the_config_says(tmp_path):
    config = config_of(tmp_path / "rows.jsonl", [ROW])
    config.data.columns.update(dict(zip(FIELDS, ROW, strict=True)))
    (problem,) = problem_set.open_source(config, config.data.train, split="train")
    assert problem == problem_set.Problem(
        "a", "Where?", "B", "choice", (("Look.", "East."), "B"), (), ("west", "east"), "3", "sun", "almanac", row=ROW
    )
    config.data.columns.question = "{ask} ({topic})"
    assert problem_set.open_source(config, config.data.train, split="train")[0].question == "Where? (sun)"


def test_problems_that_do_not_fit_are_rejected_and_counted(policy, tmp_path, caplog):
    rows = [{"question": "7" * n, "answer": "1" * m} for n, m in ((3, 1), (99, 1), (98, 2), (4, 9))]
    config = config_of(tmp_path / "rows.jsonl", rows)
    ((chosen,), mixture) = problem_set.open_train_problems(policy, config, need_solution=False)
    assert [p.question for p in chosen] == ["777"] and mixture == [1.0]
    assert sorted(chosen.rejected.values()) == [1, 2]
    # An answer too long to probe can still be evaluated.
    held_out = problem_set.open_eval_problems(policy, config)
    assert [p.answer for p in held_out] == ["1", "1" * 9] and held_out.rejected.total() == 2
    assert "2 of 4 problems rejected: 2 with a prompt of more than 32 tokens" in caplog.text


def test_filtered_dataset_is_a_sequence(policy, tmp_path):
    config = config_of(tmp_path / "rows.jsonl", [{"question": str(n), "answer": n} for n in range(5)])
    chosen = problem_set.open_eval_problems(policy, config)
    assert [p.answer for p in chosen[1:3]] == ["1", "2"] and len(chosen) == 5
    with pytest.raises(IndexError):
        chosen[5]


def test_digest_has_every_column_and_turn():
    """Rewards of one's own may read any column, so a run is not resumed after one has changed."""
    plain = problem_set.Problem("1", "q", "a")
    problems = [
        plain,
        plain._replace(row={"n": 1, "image": {"bytes": b"a"}}),
        plain._replace(row={"n": 1, "image": {"bytes": b"b"}}),
        plain._replace(row={"n": 2, "day": datetime.date(2026, 1, 2)}),
        plain._replace(history=(("user", "q0"),)),
        plain._replace(response="r"),
    ]
    digests = []
    for problem in [*problems, *map(pickle.loads, map(pickle.dumps, problems))]:
        digest = hashlib.sha256()
        problem_set.update_digest(digest, problem)
        digests.append(digest.hexdigest())
    assert len(set(digests)) == len(problems) and digests[: len(problems)] == digests[len(problems) :]
