"""Problems become prompts, SFT targets and probes; completions become cuts and masks, at exact token boundaries."""

import numpy as np
import pytest

from mig_jax.data.problem import Problem
from mig_jax.policy import completions, encoding
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
    """Return a tokenizer that, like Qwen's, merges plain tags with answers and ".\\n" into one token."""
    return tokenizers.wrap(byte_pairs.to_fast(byte_pairs.train_core()))


def parse(tokenizer, text, *, is_truncated=False, max_steps=3, width=60):
    ids = tokenizer.encode(text) + ([] if is_truncated else [tokenizer.eos_ids[0]])
    return completions.parse_completion(tokenizer, ids, is_truncated=is_truncated, max_steps=max_steps, width=width)


def test_parsed_completion_by_hand(tokenizer):
    """Tokens: <think> \\n | '### Step ' '1' ':' ' ' '7' '+' '5' '=' '2' \\n | eleven more | </think> …"""
    parsed = parse(tokenizer, RESPONSE)
    assert parsed.text == RESPONSE and parsed.response.is_well_formed
    np.testing.assert_array_equal(parsed.valid_k, [True, True, True, False])
    np.testing.assert_array_equal(parsed.cut_k, [2, 12, 22, 0])
    # <think> is outside; the line break before the first step belongs to it, the others to the steps they end.
    np.testing.assert_array_equal(parsed.step_t, [-1] + [0] * 11 + [1] * 10 + [-1] * 38)


def test_cuts_follow_the_text_of_each_step(tokenizer):
    parsed = parse(tokenizer, RESPONSE)
    ids = tokenizer.encode(RESPONSE)
    for cut, step in zip(parsed.cut_k[1:], parsed.response.steps, strict=False):
        assert tokenizer.decode(ids[:cut]) == RESPONSE[: step.end] + "\n"


def test_cut_includes_a_line_break_merged_with_the_end_of_a_step(merging):
    text = "<think>\n### Step 1: so it is that.\n### Step 2: 5\n</think>\n<answer>\nA </answer>"
    ids = merging.encode(text)
    assert ".\n" in [merging.decode([id]) for id in ids]
    parsed = parse(merging, text, width=len(ids) + 1)
    trunks = [merging.decode(ids[:cut]) for cut in parsed.cut_k[parsed.valid_k]]
    assert trunks == [text[:8], text[:35], text[: text.index("</think>")]]
    assert [text[step.start : step.end][-5:] for step in parsed.response.steps] == ["that.", " 2: 5"]


def test_probes_match_what_a_policy_would_generate(tokenizer, merging):
    check_probes(tokenizer, answers=TRIAL_ANSWERS[::8])
    check_probes(merging, answers=TRIAL_ANSWERS[::8])


def test_sft_targets_probes_and_prompt_use_the_tokenizers_tags(merging):
    problem = Problem("1", "7 +5 -3", "A", solution=(("7+5=2",), "A"))
    written = merging.decode(encoding.sft_target_ids(merging, problem)[:-1])
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


def test_choices_follow_the_question_with_their_letters(tokenizer):
    problem = Problem("1", "Where?", "B", "choice", choices=("west", "east, or so"))
    prompt = tokenizer.decode(encoding.prompt_ids(tokenizer, problem, system_prompt=False))
    assert "user\nWhere?\nA. west\nB. east, or so<|im_end|>" in prompt


def test_variants_begin_with_the_reference():
    problem = Problem("1", "q", "1/2", variants=("half", "0.5"))
    assert encoding.reference_variants(problem, limit=3) == ("1/2", "half", "0.5")
    assert encoding.reference_variants(problem, limit=1) == ("1/2",)
    assert set(encoding.reference_variants(problem._replace(variants=()), limit=9)) <= set(
        encoding.reference_variants(problem, limit=9)
    )
    choice = Problem("1", "q", "B", "choice", choices=("west", "east"))
    variants = encoding.reference_variants(choice, limit=9)
    assert variants[0] == "B" and "east" in variants


def test_steps_beyond_the_limit_are_not_probed(tokenizer):
    parsed = parse(tokenizer, RESPONSE, max_steps=1)
    np.testing.assert_array_equal(parsed.cut_k, [2, 12])
    np.testing.assert_array_equal(parsed.step_t[:23], [-1] + [0] * 21 + [-1])


def test_truncated_completion_keeps_its_last_token(tokenizer):
    parsed = parse(tokenizer, RESPONSE[:40], is_truncated=True)
    assert parsed.text == RESPONSE[:40] and not parsed.response.is_well_formed
    assert parsed.valid_k.sum() == 3


def test_sft_target_parses_as_well_formed(tokenizer):
    problem = Problem("1", "7 +5 -3", "29", solution=(("7+5=2", "2-3=9"), "29"))
    ids = encoding.sft_target_ids(tokenizer, problem)
    parsed = completions.parse_completion(tokenizer, ids, is_truncated=False, max_steps=2, width=len(ids))
    assert parsed.response.is_well_formed and parsed.response.answer == "29"


def test_probes_surround_the_answer_with_lead_in_and_closing_tag(tokenizer):
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
        (Problem("1", "q", "1"), {"max_new_tokens": 50}, "without a solution in steps"),
        (Problem("1", "q", "1", solution=(("x" * 50,), "1")), {"max_new_tokens": 50}, "a solution of more"),
        (Problem("1", "q", "1", solution=(("x",), "1")), {"max_new_tokens": 50}, None),
    ],
)
def test_rejection_reasons(tokenizer, problem, limits, reason):
    limits = {"max_answer_tokens": 8, "max_new_tokens": None} | limits
    found = encoding.rejection_reason(tokenizer, problem, **limits)
    assert found is None if reason is None else reason in found


def test_padding():
    left, start = encoding.pad_left([[1, 2], [3]], 3, 0)
    np.testing.assert_array_equal(left, [[0, 1, 2], [0, 0, 3]])
    np.testing.assert_array_equal(start, [1, 2])
    right, length = encoding.pad_right([[1, 2], [3]], 3, 0)
    np.testing.assert_array_equal(right, [[1, 2, 0], [3, 0, 0]])
    np.testing.assert_array_equal(length, [2, 1])
    with pytest.raises(ValueError, match="no rows"):
        encoding.pad_left([], 4, 0)
