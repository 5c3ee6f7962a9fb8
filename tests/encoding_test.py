"""From sampled ids to cuts and masks, at exact token boundaries, whatever was sampled."""

import numpy as np
import pytest

from mig_jax import encoding
from mig_jax.data.sources import Problem
from mig_jax.text import tokenizer as tokenizers

RESPONSE = "<think>\n### Step 1: 7+5=2\n### Step 2: 2-3=9\n</think>\n<answer>29</answer>"


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.build_character_tokenizer()


def read(tokenizer, text, *, is_truncated=False, max_steps=3, width=60):
    ids = tokenizer.encode(text) + ([] if is_truncated else [tokenizer.eos_ids[0]])
    return encoding.read_completion(tokenizer, ids, is_truncated=is_truncated, max_steps=max_steps, width=width)


def test_reading_by_hand(tokenizer):
    """Tokens: <think> \\n | '### Step ' '1' ':' ' ' '7' '+' '5' '=' '2' | \\n and ten more | \\n </think> …"""
    reading = read(tokenizer, RESPONSE)
    assert reading.text == RESPONSE and reading.response.is_well_formed
    np.testing.assert_array_equal(reading.valid_k, [True, True, True, False])
    np.testing.assert_array_equal(reading.cut_k, [1, 11, 21, 0])
    # <think> is outside; the line break before a step belongs to it, as does what follows the last one.
    np.testing.assert_array_equal(reading.step_t, [-1] + [0] * 10 + [1] * 11 + [-1] * 38)


def test_cuts_are_where_the_text_of_a_step_ends(tokenizer):
    reading = read(tokenizer, RESPONSE)
    ids = tokenizer.encode(RESPONSE)
    for cut, step in zip(reading.cut_k[1:], reading.response.steps, strict=False):
        assert tokenizer.decode(ids[:cut]) == RESPONSE[: step.end]


def test_steps_beyond_the_limit_are_not_probed(tokenizer):
    reading = read(tokenizer, RESPONSE, max_steps=1)
    np.testing.assert_array_equal(reading.cut_k, [1, 11])
    np.testing.assert_array_equal(reading.step_t[:23], [-1] + [0] * 21 + [-1])


def test_truncated_completion_keeps_its_last_token(tokenizer):
    reading = read(tokenizer, RESPONSE[:40], is_truncated=True)
    assert reading.text == RESPONSE[:40] and not reading.response.is_well_formed
    assert reading.valid_k.sum() == 3


def test_demonstration_reads_as_well_formed(tokenizer):
    problem = Problem("1", "7 +5 -3", "29", demonstration=(("7+5=2", "2-3=9"), "29"))
    ids = encoding.demonstration_ids(tokenizer, problem)
    reading = encoding.read_completion(tokenizer, ids, is_truncated=False, max_steps=2, width=len(ids))
    assert reading.response.is_well_formed and reading.response.answer == "29"


def test_probes_put_lead_in_and_closing_tag_around_the_answer(tokenizer):
    answers = encoding.pack_probes(tokenizer, ["29", "7"], max_variants=1, max_tokens=4)
    assert tokenizer.decode(answers.token_ap[0, 0, :6]) == "\n</think>\n<answer>29"
    assert tokenizer.decode(answers.target_ar[0, 0][answers.scored_ar[0, 0]]) == "29</answer>"
    assert tokenizer.decode(answers.target_ar[1, 0][answers.scored_ar[1, 0]]) == "7</answer>"


@pytest.mark.parametrize(
    "problem, limits, reason",
    [
        (Problem("1", "q" * 40, "1"), {}, "a prompt of more than 30"),
        (Problem("1", "q", "1" * 9), {}, "an answer of more than 8"),
        (Problem("1", "q", "1"), {"max_new_tokens": 50}, "without written steps"),
        (Problem("1", "q", "1", demonstration=(("x" * 50,), "1")), {"max_new_tokens": 50}, "a demonstration of more"),
        (Problem("1", "q", "1", demonstration=(("x",), "1")), {"max_new_tokens": 50}, ""),
    ],
)
def test_why_a_problem_is_left_out(tokenizer, problem, limits, reason):
    limits = {"max_prompt_tokens": 30, "max_answer_tokens": 8, "max_new_tokens": None} | limits
    found = encoding.why_left_out(tokenizer, problem, system_prompt=False, **limits)
    assert reason in found and bool(reason) == bool(found)


def test_padding():
    left, start = encoding.pad_left([[1, 2], [3]], 3, 0)
    np.testing.assert_array_equal(left, [[0, 1, 2], [0, 0, 3]])
    np.testing.assert_array_equal(start, [1, 2])
    right, mask = encoding.pad_right([[1, 2], [3]], 3, 0)
    np.testing.assert_array_equal(right, [[1, 2, 0], [3, 0, 0]])
    np.testing.assert_array_equal(mask, [[True, True, False], [True, False, False]])
