"""Runs in other response formats: ours by name, and one of a user's file."""

import json

import pytest

import mig_jax
from mig_jax.errors import UserError
from mig_jax.policy import load
from tests import tiny

OWN = """
from mig_jax.text.step_format import StepFormat

FORMAT = StepFormat(
    think=("<work>", "</work>"),
    answer=("<final>", "</final>"),
    splitter=lambda text: [(n, n + 1) for n, character in enumerate(text) if character == ";"],
    step="{text};\\n",
)
"""


@pytest.mark.slow
def test_own_format_trains_and_is_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_format.py").write_text(OWN)
    config = tiny.get_config(response_format="my_format.py:FORMAT", data__system_prompt="format", eval__at_start=False)
    config.data.max_prompt_tokens, config.eval.at_end = 256, False
    run = mig_jax.train(config, tmp_path / "run")
    assert [row["step"] for row in run.metrics if "gradient/norm" in row] == [1, 2]
    # The model remembers its format, also from another folder.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    row = {"question": "7 +5", "answer": "2", "response": "<work>\n7+5=12;\n12→2;\n</work>\n<final>2</final>"}
    (scored,) = mig_jax.score(run.model, [row])
    assert scored.steps == (";", ";") and len(scored.ell_k) == 3
    assert (scored.answered, scored.is_correct, scored.format_error) == ("2", True, "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r1", "qwen3", "plain"])
def test_formats_of_ours_train(name, tmp_path):
    """`plain` has no opening, and `qwen3` fits its lead-in to each cut."""
    config = tiny.get_config(response_format=name, rollout__max_new_tokens=72, eval__scored=4)
    config.eval.at_start, config.eval.at_end, config.sft.steps = False, False, int(name == "r1")
    run = mig_jax.train(config, tmp_path / "run")
    rows = [row for row in run.metrics if "gradient/norm" in row]
    assert [row["step"] for row in rows] == [1, 2] and all(row["gradient/norm"] > 0 for row in rows)
    assert json.loads((tmp_path / "run/model" / load.RUN_CONFIG).read_text())["response_format"] == name
    assert any(t.steps and len(t.ell_k) == len(t.steps) + 1 for t in run.transcripts)
    evaluation = mig_jax.evaluate(run.model, tmp_path / "eval", **{"eval.problems": 2})
    assert evaluation.transcripts(*evaluation.results)


@pytest.mark.parametrize("name, part", [("qwen2", "did you mean qwen3"), ("missing.py:FORMAT", "no such file")])
def test_unknown_format_is_refused_before_anything_is_loaded(name, part, tmp_path):
    with pytest.raises(UserError, match=f"(?s)response_format=.*{part}"):
        mig_jax.train(tiny.get_config(response_format=name), tmp_path / "run")
