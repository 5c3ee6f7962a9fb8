"""From sampled ids to cuts and masks, at exact token boundaries, whatever was sampled."""

import numpy as np
import pytest

from mig_jax.data.problem import Problem
from mig_jax.policy import encoding
from mig_jax.text import tokenizer as tokenizers
from mig_jax.text.response_format import TRIAL_ANSWERS, system_prompt
from tests.policy.probes_as_written import check_probes
from tests.text import byte_pairs

RESPONSE = "<think>\n### Step 1: 7+5=2\n### Step 2: 2-3=9\n</think>\n<answer>29</answer>"


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.build_character_tokenizer()


@pytest.fixture(scope="module")
def merging():
    """Like Qwen's, it merges the plain tags with answers, and a full stop with the line break behind it."""
    return tokenizers.wrap(byte_pairs.to_fast(byte_pairs.train_core()))


def read(tokenizer, text, *, is_truncated=False, max_steps=3, width=60):
    ids = tokenizer.encode(text) + ([] if is_truncated else [tokenizer.eos_ids[0]])
    return encoding.parse_completion(tokenizer, ids, is_truncated=is_truncated, max_steps=max_steps, width=width)


def test_reading_by_hand(tokenizer):
    """Tokens: <think> \\n | '### Step ' '1' ':' ' ' '7' '+' '5' '=' '2' \\n | eleven more | </think> …"""
    parsed = read(tokenizer, RESPONSE)
    assert parsed.text == RESPONSE and parsed.response.is_well_formed
    np.testing.assert_array_equal(parsed.valid_k, [True, True, True, False])
    np.testing.assert_array_equal(parsed.cut_k, [2, 12, 22, 0])
    # <think> is outside; the line break before the first step belongs to it, the others to the steps that they end.
    np.testing.assert_array_equal(parsed.step_t, [-1] + [0] * 11 + [1] * 10 + [-1] * 38)


def test_cuts_are_where_the_text_of_a_step_ends(tokenizer):
    parsed = read(tokenizer, RESPONSE)
    ids = tokenizer.encode(RESPONSE)
    for cut, step in zip(parsed.cut_k[1:], parsed.response.steps, strict=False):
        assert tokenizer.decode(ids[:cut]) == RESPONSE[: step.end] + "\n"


def test_a_cut_takes_the_line_break_that_is_one_token_with_the_end_of_a_step(merging):
    text = "<think>\n### Step 1: so it is that.\n### Step 2: 5\n</think>\n<answer>\nA </answer>"
    ids = merging.encode(text)
    assert ".\n" in [merging.decode([id]) for id in ids]
    parsed = read(merging, text, width=len(ids) + 1)
    trunks = [merging.decode(ids[:cut]) for cut in parsed.cut_k[parsed.valid_k]]
    assert trunks == [text[:8], text[:35], text[: text.index("</think>")]]
    assert [text[step.start : step.end][-5:] for step in parsed.response.steps] == ["that.", " 2: 5"]


def test_probes_are_what_would_be_written(tokenizer, merging):
    check_probes(tokenizer, answers=TRIAL_ANSWERS[::8])
    check_probes(merging, answers=TRIAL_ANSWERS[::8])


def test_demonstrations_probes_and_prompt_use_the_tags_of_the_tokenizer(merging):
    problem = Problem("1", "7 +5 -3", "A", solution=(("7+5=2",), "A"))
    written = merging.decode(encoding.solution_ids(merging, problem)[:-1])
    assert written == "<think>\n### Step 1: 7+5=2\n</think>\n<answer>\nA </answer>"
    answers = encoding.pack_probes(merging, [Problem("1", "q", "A")], max_variants=1, max_tokens=2)
    token_p, scored_y = answers.token_ap[0, 0], answers.scored_ay[0, 0]
    lead_in = merging.encode("</think>\n<answer>\n")
    assert token_p[: len(lead_in)].tolist() == lead_in
    assert merging.decode(answers.target_ay[0, 0][scored_y]) == "A </answer>"
    prompt = merging.decode(encoding.prompt_ids(merging, Problem("1", "q", "A"), system_prompt=True))
    assert system_prompt(merging.tags) in prompt and "<answer>\nonly the final answer </answer>" in prompt


def test_prompt_with_images(tokenizer):
    ids = encoding.prompt_ids(tokenizer, Problem("1", "How many?", "2", images=(b"", b"")), system_prompt=False)
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    assert tokenizer.decode(ids) == f"<|im_start|>user\n{image}{image}How many?<|im_end|>\n<|im_start|>assistant\n"
    assert ids.count(tokenizer.token_id("<|image_pad|>")) == 2


def test_choices_stand_lettered_behind_the_question(tokenizer):
    problem = Problem("1", "Where?", "B", "choice", choices=("west", "east, or so"))
    prompt = tokenizer.decode(encoding.prompt_ids(tokenizer, problem, system_prompt=False))
    assert "user\nWhere?\nA. west\nB. east, or so<|im_end|>" in prompt


def test_the_spellings_of_an_answer_begin_with_the_reference():
    problem = Problem("1", "q", "1/2", variants=("half", "0.5"))
    assert encoding.answer_spellings(problem, limit=3) == ("1/2", "half", "0.5")
    assert encoding.answer_spellings(problem, limit=1) == ("1/2",)
    assert set(encoding.answer_spellings(problem._replace(variants=()), limit=9)) <= set(
        encoding.answer_spellings(problem, limit=9)
    )
    choice = Problem("1", "q", "B", "choice", choices=("west", "east"))
    assert encoding.answer_spellings(choice, limit=9)[0] == "B" and "east" in encoding.answer_spellings(choice, limit=9)


def test_steps_beyond_the_limit_are_not_probed(tokenizer):
    parsed = read(tokenizer, RESPONSE, max_steps=1)
    np.testing.assert_array_equal(parsed.cut_k, [2, 12])
    np.testing.assert_array_equal(parsed.step_t[:23], [-1] + [0] * 21 + [-1])


def test_truncated_completion_keeps_its_last_token(tokenizer):
    parsed = read(tokenizer, RESPONSE[:40], is_truncated=True)
    assert parsed.text == RESPONSE[:40] and not parsed.response.is_well_formed
    assert parsed.valid_k.sum() == 3


def test_demonstration_reads_as_well_formed(tokenizer):
    problem = Problem("1", "7 +5 -3", "29", solution=(("7+5=2", "2-3=9"), "29"))
    ids = encoding.solution_ids(tokenizer, problem)
    parsed = encoding.parse_completion(tokenizer, ids, is_truncated=False, max_steps=2, width=len(ids))
    assert parsed.response.is_well_formed and parsed.response.answer == "29"


def test_probes_put_lead_in_and_closing_tag_around_the_answer(tokenizer):
    answers = encoding.pack_probes(
        tokenizer, [Problem("1", "q", "29"), Problem("2", "q", "7")], max_variants=1, max_tokens=4
    )
    assert tokenizer.decode(answers.token_ap[0, 0, :5]) == "</think>\n<answer>29"
    assert tokenizer.decode(answers.target_ay[0, 0][answers.scored_ay[0, 0]]) == "29</answer>"
    assert tokenizer.decode(answers.target_ay[1, 0][answers.scored_ay[1, 0]]) == "7</answer>"


@pytest.mark.parametrize(
    "problem, limits, reason",
    [
        (Problem("1", "q", "1" * 9), {}, "an answer of more than 8"),
        (Problem("1", "q", "1"), {"max_new_tokens": 50}, "without written steps"),
        (Problem("1", "q", "1", solution=(("x" * 50,), "1")), {"max_new_tokens": 50}, "a solution of more"),
        (Problem("1", "q", "1", solution=(("x",), "1")), {"max_new_tokens": 50}, ""),
    ],
)
def test_why_a_problem_is_left_out(tokenizer, problem, limits, reason):
    limits = {"max_answer_tokens": 8, "max_new_tokens": None} | limits
    found = encoding.rejection_reason(tokenizer, problem, **limits)
    assert reason in found and bool(reason) == bool(found)


def test_padding():
    left, start = encoding.pad_left([[1, 2], [3]], 3, 0)
    np.testing.assert_array_equal(left, [[0, 1, 2], [0, 0, 3]])
    np.testing.assert_array_equal(start, [1, 2])
    right, mask = encoding.pad_right([[1, 2], [3]], 3, 0)
    np.testing.assert_array_equal(right, [[1, 2, 0], [3, 0, 0]])
    np.testing.assert_array_equal(mask, [[True, True, False], [True, False, False]])
