"""A run with a kind of answers from a user's file."""

import json

import pytest

import mig_jax
from mig_jax import parts
from mig_jax.text.answers import kinds
from tests import tiny

# What a user writes.
OWN = """
from mig_jax.text.answers.kinds import AnswerKind

def same_digits(response, reference, choices=()):
    return sorted(response.strip()) == sorted(reference)

DIGITS = AnswerKind(same_digits, spell=lambda reference, choices: [reference[::-1]])
"""


@pytest.mark.slow
def test_a_run_with_an_own_kind_is_trained_and_evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_kinds.py").write_text(OWN)
    rows = [{"question": f"{n}+12", "answer": str(n + 12)} for n in range(64)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = tiny.get_config(data__train="jsonl:rows.jsonl", data__eval="jsonl:rows.jsonl")
    config.data.columns.kind = "=my_kinds.py:DIGITS"
    run = mig_jax.train(config, "run")
    assert run.metrics[-1]["step"] == 2
    # The run has a copy, with which it is evaluated when the file is gone.
    (tmp_path / "my_kinds.py").unlink()
    monkeypatch.setattr(parts, "_modules", {})
    kinds._find_own.cache_clear()
    assert (tmp_path / "run" / "parts" / "my_kinds.py").read_text() == OWN
    assert mig_jax.evaluate("run/model", "eval", **{"eval.scored": 2}).results
