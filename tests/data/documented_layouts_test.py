"""The columns that docs/prompts_and_rows.md gives for rows of other projects read such rows, through a config."""

import json
import re
from pathlib import Path

import pytest

from mig_jax.rollout.problem_set import open_source
from tests import tiny

PAGE = Path(__file__).parent.parent.parent / "docs" / "prompts_and_rows.md"
CHAT = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "\\boxed{2}"}]
CHOICES = {"question": "1+1?", "choices": ["one", "two"], "subject": "algebra", "answer": 1}
# One row of each layout, whose question is "1+1?" and whose answer is 2 (or the second choice).
ROWS = {
    "verl": {
        "data_source": "own", "prompt": CHAT[:1], "ability": "math", "reward_model": {"ground_truth": "2"},
        "extra_info": {"split": "train", "index": 7},
    },
    "TRL": {"prompt": CHAT[:1], "completion": CHAT[1:], "solution": "So $\\boxed{2}$."},
    "ms-swift": {"messages": CHAT, "solution": "<answer>2</answer>", "images": []},
    "OpenR1-Math": {
        "problem": "1+1?", "solution": "…", "answer": "2", "problem_type": "Algebra", "uuid": "a", "messages": CHAT,
        "generations": ["\\boxed{2}"],
    },
    "GSM8K": {"question": "1+1?", "answer": "1+1 = <<1+1=2>>2\n#### 2"},
    "MMLU": CHOICES,
    "ARC": {"question": "1+1?", "choices": {"text": ["one", "two"], "label": ["1", "2"]}, "answerKey": "2"},
    "ShareGPT": {"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}], "answer": "2"},
}  # fmt: skip


def documented():
    """Return the fields and entries of each layout in the table of the page."""
    table = PAGE.read_text(encoding="utf-8").partition("## Configs of other layouts")[2]
    lines = re.findall(r"^\| ([\w-]+) \| (.*`.*) \|$", table, re.MULTILINE)
    return {name: dict(re.findall(r"`(\w+)=([^`]+)`", cell)) for name, cell in lines}


@pytest.mark.parametrize("name", ROWS)
def test_documented_columns(name, tmp_path):
    columns = documented()[name]
    assert "question" in columns and documented().keys() == ROWS.keys()
    path = tmp_path / "rows.jsonl"
    # Without a 0 somewhere, indices may be numbers from 1.
    rows = [ROWS[name], *([CHOICES | {"answer": 0}] if name == "MMLU" else [])]
    path.write_text("\n".join(map(json.dumps, rows)))
    config = tiny.get_config(data__train=f"jsonl:{path}")
    config.data.columns.update(columns)
    problem = open_source(config, config.data.train, split="train")[0]
    assert (problem.question, problem.answer) == ("1+1?", "B" if problem.choices else "2")
    assert problem.row == ROWS[name]
    if "response" in columns or name in ("ms-swift", "ShareGPT"):
        assert problem.response in ("\\boxed{2}", "2")
