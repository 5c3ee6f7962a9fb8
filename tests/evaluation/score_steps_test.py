"""Steps of given transcripts: as their format says, divided in another way, or brought by the rows themselves."""

import dataclasses

import numpy as np
import pytest

import mig_jax
from mig_jax.errors import UserError
from mig_jax.evaluation import score_transcripts
from mig_jax.records.transcripts import Transcript
from mig_jax.text.response_format import parse_response
from mig_jax.text.splitters import SPLITTERS
from mig_jax.text.step_format import FORMATS, MIG
from mig_jax.text.tokenizer import build_character_tokenizer
from tests import tiny
from tools import docs_formats

QUESTION = "Last digits of 7 +5 -3 *3"
GOOD = "<think>\n### Step 1: 7+5=2\n### Step 2: 2-3=9\n### Step 3: 9*3=7\n</think>\n<answer>297</answer>"
STEPS = ("### Step 1: 7+5=2", "### Step 2: 2-3=9", "### Step 3: 9*3=7")


def count(*transcripts, format=MIG):
    return score_transcripts._count_steps(format, transcripts, [t.steps for t in transcripts])


def test_steps_of_rows_are_counted_or_refused_with_their_place():
    brings = Transcript("q", "one. two.", "2", steps=("one.", "two."))
    assert count(brings, Transcript("q", GOOD, "2")) == [2, 3]
    with pytest.raises(UserError) as raised:
        count(brings, *[dataclasses.replace(brings, steps=("one.", "three.")) for _ in range(2)])
    assert "row 2: step 2 does not occur after step 1: 'three.'" in str(raised.value)
    assert "row 3" in str(raised.value) and "--steps=format" in str(raised.value)


def test_responses_without_steps_are_reported_with_a_format_that_has_some(caplog):
    with caplog.at_level("WARNING"):
        assert count(Transcript("q", "one\n\ntwo\n\n\\boxed{2}", "2")) == [0]
    assert "1 of 1 responses have no step (lines '### Step 1: …'); try response_format=plain" in caplog.text


LAYOUTS = {row["layout"]: row for row in docs_formats.read_rows()}
# Text of the trunk from the step before, up to each cut.
CUTS = {
    "R1": ["<think>\nFirst the sum: 7+5=2.\n", "\nThen 2-3=9, and\n9*3=7.\n", "\nNow 7+8=5 and 5-2=3.\n",
           "\nLast, 3+6=9. A check with \\boxed{9} agrees.\n"],
    "Qwen3, empty think block": ["<think>\n\n</think>\n\nWe go from left to right.\n", "\n7+5=2, then 2-3=9.\n",
                                 "\n9*3=7, then 7+8=5.\n", "\n5-2=3 and 3+6=9.\n"],
    "Llama steps": ["## Step 1: The first two\n7+5=2, 2-3=9\n\n", "## Step 2: The next two\n9*3=7, 7+8=5\n\n",
                    "## Step 3: The last two\n5-2=3, 3+6=9\n\n"],
    "tunix tags": ["<reasoning>\n7+5=2\n", "2-3=9\n", "9*3=7\n", "7+8=5\n", "5-2=3\n", "3+6=9\n"],
    "Markdown, bold steps": ["**Step 1:** 7+5=2 and 2-3=9\n\n", "**Step 2:** 9*3=7 and 7+8=5\n\n",
                             "**Step 3:** 5-2=3 and 3+6=9\n\n"],
    "Chinese, full-width colons": ["<think>\n### 步骤 1\uff1a7+5=2\n", "### 步骤 2\uff1a2-3=9\uff0c9*3=7\n",
                                   "### 步骤 3\uff1a7+8=5\n", "### 步骤 4\uff1a5-2=3\uff0c3+6=9\n"],
    "paragraphs only": ["The sum is 7+5=2,\nand 2-3=9.\n\n", "Three times 9 ends in 7, and 7+8=5.\n\n",
                        "Then 5-2=3 and 3+6=9.\n\n"],
    "one line": ["7+5=2.", " 2-3=9, then 9*3=7.", " 7+8=5.", " 5-2=3, and 3+6=9."],
    "nested lists": ["1. The first two\n   - 7+5=2\n   - 2-3=9\n", "2. The next two\n   - 9*3=7\n   - 7+8=5\n",
                     "3. The last two\n   - 5-2=3\n   - 3+6=9\n\n"],
    "no steps": [],
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps_and_cuts_of_ten_layouts(layout):
    row, (format, _) = LAYOUTS[layout], format_of(LAYOUTS[layout])
    response = parse_response(row["response"], format)
    ends = [0, *response.cuts]
    assert [row["response"][a:b] for a, b in zip(ends, ends[1:], strict=False)] == CUTS[layout]
    assert response.answer == (row["answer"] if CUTS[layout] else None)
    assert response.format_error == (None if CUTS[layout] else "no <think>")


def format_of(row):
    """Return the format that `score` reads a row in."""
    tokenizer = build_character_tokenizer(format=FORMATS[row["response_format"]])
    policy = score_transcripts.Policy(tokenizer, None, None, None)
    policy, given = score_transcripts._with_steps(policy, [Transcript("q", row["response"], "2")], row["split"])
    return policy.tokenizer.format, given


@pytest.mark.slow
def test_given_steps_score_as_found_ones(tmp_path):
    policy = mig_jax.load_policy(tiny.get_quickstart())
    row = {"question": QUESTION, "answer": "297", "response": GOOD}
    (found,) = mig_jax.score(policy, [row])
    (given,) = mig_jax.score(policy, [row | {"steps": STEPS}])
    assert found.steps == given.steps == STEPS
    np.testing.assert_allclose(given.ell_k, found.ell_k, atol=1e-4)
    # A row that was scored before has its steps found anew; and the flag comes first.
    (again,) = mig_jax.score(policy, [dataclasses.replace(found, steps=("7+5",))])
    assert again.steps == STEPS
    (lines,) = mig_jax.score(policy, [row | {"steps": ("7+5=2",)}], steps="line")
    assert lines.steps == STEPS
    np.testing.assert_allclose(lines.ell_k, found.ell_k, atol=1e-4)
    (halves,) = mig_jax.score(policy, [row | {"steps": ("7+5", "2-3=9\n### Step 3")}])
    assert halves.steps == ("7+5", "2-3=9\n### Step 3") and len(halves.ell_k) == 3


def test_wrong_flag_is_refused_before_a_model_is_loaded():
    with pytest.raises(UserError, match=r"--steps='\(': not a regular expression"):
        mig_jax.score("/no/model", [], steps="(")


def test_steps_of_scoring_may_be_a_function():
    assert score_transcripts.splitter_of(SPLITTERS["line"]) is SPLITTERS["line"]
    assert score_transcripts.splitter_of("format") is None
    with pytest.raises(UserError, match="must be a function of .text., not a int"):
        score_transcripts.splitter_of(5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="disjoint, and inside of the text"):
        score_transcripts.splitter_of(lambda text: [(0, 1)])
