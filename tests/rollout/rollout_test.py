"""What a rollout reads off its texts: early answers, paid time-outs, and the steps of transcripts."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.policy.completions import parse_completion
from mig_jax.policy.load import load_policy
from mig_jax.policy.prompts import encode_prompts
from mig_jax.records.transcripts import Transcript
from mig_jax.rollout.problem_set import open_source
from mig_jax.rollout.rollout import Rollout, add_scores, names_answer_early, text_metrics
from mig_jax.rollout.scoring import Scores
from mig_jax.text.answers.verifier import Grade, Verifier
from mig_jax.text.tokenizer import build_character_tokenizer
from tests import tiny


def parse(*steps, opening="<think>\n", max_steps=8):
    tokenizer = build_character_tokenizer()
    lines = "".join(f"### Step {n + 1}: {step}\n" for n, step in enumerate(steps))
    ids = tokenizer.encode(f"{opening}{lines}</think>\n<answer>2</answer>") + [tokenizer.eos_ids[0]]
    return parse_completion(
        tokenizer, ids, is_truncated=False, max_steps=max_steps, width=len(ids), process_mask="closing"
    )


@pytest.mark.parametrize(
    "steps, answer, is_early",
    [
        (["1+1=2", "2+5=7"], "2", True),
        (["1+1=2", "2+5=7"], "7", False),  # the last step may name it
        (["it is 23", "so 4"], "3", False),  # not a word of its own
        (["so 4.", "4"], "4", True),
        (["so 5", "so 6", "2"], "2", False),  # the number of a step is no answer
        (["it is 1.5", "so 2.25", "3"], "5", False),
        (["it is 1.5", "so 2.25", "3"], "2", False),
        (["it is 1.5", "so 2.25", "3"], "1.5", True),
        (["it is (1, 2)", "done"], "(1, 2)", True),
        (["x.y", "done"], "x+y", False),  # no regular expression
        (["7"], "7", False),
        ([], "7", False),
    ],
)
def test_answers_named_before_the_last_step(steps, answer, is_early):
    assert names_answer_early(parse(*steps), answer) is is_early


def test_text_before_the_first_step_counts():
    assert names_answer_early(parse("a", "b", opening="<think>\nIt is 7.\n"), "7")


def test_timeouts_are_counted_and_those_that_are_paid():
    problems, parsed = [Problem("0", "q", "7")] * 3, [parse("7", "8"), parse("1", "2"), parse("3", "4")]
    grades = [Grade(True), Grade(False, timed_out=True), Grade(None, timed_out=True)]
    scores = Scores(*(np.zeros((3, 3)),) * 3, reward_b=np.array([2.0, 0.5, 0.0]))
    assert text_metrics(problems, parsed, grades, scores) == {
        "rollout/answer_named_early": pytest.approx(1 / 3), "verifier/timeouts": 2, "verifier/timeouts_paid": 1,
    }  # fmt: skip
    assert "verifier/timeouts_paid" not in text_metrics(problems, parsed, grades, None)


def test_transcript_joins_steps_that_share_a_probe():
    completion = parse("a", "b", "c", "d", "e", max_steps=2)
    ell_bk = np.array([[-4.0, -3.0, -1.0, 9.0]])  # the last entry is padding
    scores = Scores(ell_bk, ell_bk + 1, np.array([[1.0, 2.0, 9.0]]), np.zeros(1))
    transcript = add_scores(Transcript("q", completion.text, "2"), completion, scores, 0)
    assert transcript.steps == ("### Step 1: a\n### Step 2: b\n### Step 3: c", "### Step 4: d\n### Step 5: e")
    assert transcript.ell_k == (-4.0, -3.0, -1.0) and transcript.gain_k == (1.0, 2.0)
    assert transcript.watermark_k == (-3.0, -2.0, 0.0) and transcript.format_error == ""
    unscored = add_scores(Transcript("q", completion.text, "2"), completion, None, 0)
    assert unscored.steps == transcript.steps and unscored.ell_k == ()


def test_out_of_memory_names_the_program_and_its_options(monkeypatch):
    """An error of the device while sampling becomes one line for the user."""
    config = tiny.get_config()
    policy = load_policy(config.model, sharding.make_mesh({}, devices=jax.devices()[:1]), seed=0)
    problems = list(open_source(config, "chain:terms=3", split="train"))[: config.rollout.questions]
    with Verifier(workers=1) as verifier:
        rollout = Rollout(policy, config, verifier)

        def too_large(*arguments):
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12884901888 bytes.")

        rollout.compiled = rollout.compiled._replace(sample=SimpleNamespace(start=too_large))
        with pytest.raises(UserError, match=r"memory in sampling \(asked for 12.0 GiB more\).*rollout.questions"):
            rollout(policy.params, encode_prompts(policy, config, problems), jax.random.key(0))
