"""Problems become prompts, SFT targets and probes."""

import copy
import dataclasses

import numpy as np
import pytest

from mig_jax.data.problem import Problem
from mig_jax.policy import encoding
from mig_jax.text import tokenizer as tokenizers
from mig_jax.text.response_format import TRIAL_ANSWERS, parse_response
from tests.policy.probes_as_written import check_probes
from tests.text import byte_pairs
from tests.text.template_shapes import SHAPES


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.build_character_tokenizer()


@pytest.fixture(scope="module")
def merging():
    """Return a tokenizer that, like Qwen's, merges plain tags with answers and ".\\n" into one token."""
    return tokenizers.wrap(byte_pairs.to_fast(byte_pairs.train_core()))


def test_probes_match_what_a_policy_would_generate(tokenizer, merging):
    check_probes(tokenizer, answers=TRIAL_ANSWERS[::8])
    check_probes(merging, answers=TRIAL_ANSWERS[::8])


def test_sft_targets_probes_and_prompt_use_the_tokenizers_tags(merging):
    problem = Problem("1", "7 +5 -3", "A", solution=(("7+5=2",), "A"))
    written = merging.decode(encoding.sft_target_ids(merging, problem)[:-1])
    assert written == "<think>\n### Step 1: 7+5=2\n</think>\n<answer>\nA </answer>"
    answers = encoding.pack_probes(merging, [Problem("1", "q", "A")], max_variants=1, max_tokens=2, terminator="tag")
    token_p, scored_y = answers.token_ap[0, 0], answers.scored_ay[0, 0]
    lead_in = merging.encode("</think>\n<answer>\n")
    assert token_p[: len(lead_in)].tolist() == lead_in
    assert merging.decode(answers.target_aye[0, 0, :, 0][scored_y]) == "A </answer>"
    style = dataclasses.replace(merging.style, instructions=merging.format.system_prompt())
    asking = dataclasses.replace(merging, style=style)
    prompt = asking.decode(encoding.prompt_ids(asking, Problem("1", "q", "A")))
    assert merging.format.system_prompt() in prompt and "<answer>\nonly the final answer </answer>" in prompt


def test_prompt_with_images(tokenizer):
    ids = encoding.prompt_ids(tokenizer, Problem("1", "How many?", "2", images=(b"", b"")))
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    assert tokenizer.decode(ids) == f"<|im_start|>user\n{image}{image}How many?<|im_end|>\n<|im_start|>assistant\n"
    assert ids.count(tokenizer.token_id("<|image_pad|>")) == 2


def test_images_in_the_template_of_qwen3_vl(tokenizer):
    fast = copy.deepcopy(tokenizer.fast)
    fast.chat_template = SHAPES["qwen3 vl"].template
    tokenizer = dataclasses.replace(tokenizer, fast=fast)
    problem = Problem("1", "Is <image> like <image>?", "2", images=(b"", b""))
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    want = f"<|im_start|>user\nIs {image} like {image}?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(encoding.prompt_ids(tokenizer, problem)) == want


def test_choices_follow_the_question_with_their_letters(tokenizer):
    problem = Problem("1", "Where?", "B", "choice", choices=("west", "east, or so"))
    prompt = tokenizer.decode(encoding.prompt_ids(tokenizer, problem))
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


def test_sft_target_parses_as_well_formed(tokenizer):
    problem = Problem("1", "7 +5 -3", "29", solution=(("7+5=2", "2-3=9"), "29"))
    ids = encoding.sft_target_ids(tokenizer, problem)
    assert ids[-1] == tokenizer.eos_ids[0]
    response = parse_response(tokenizer.decode(ids[:-1]))
    assert response.is_well_formed and response.answer == "29"


def test_probes_surround_the_answer_with_lead_in_and_closing_tag(tokenizer):
    problems = [Problem("1", "q", "29"), Problem("2", "q", "7")]
    answers = encoding.pack_probes(tokenizer, problems, max_variants=1, max_tokens=4, terminator="tag")
    assert tokenizer.decode(answers.token_ap[0, 0, :5]) == "</think>\n<answer>29"
    assert tokenizer.decode(answers.target_aye[0, 0, :, 0][answers.scored_ay[0, 0]]) == "29</answer>"
    assert tokenizer.decode(answers.target_aye[1, 0, :, 0][answers.scored_ay[1, 0]]) == "7</answer>"


def test_closings_are_those_that_the_parser_reads(tokenizer, merging):
    for tok, texts in (
        (tokenizer, ["</answer>", " </answer>", "\n</answer>"]),
        (merging, [" </answer>", "</answer>", "\n</answer>"]),
    ):
        assert [tok.decode(ids) for ids in encoding.closing_ids(tok)] == texts
        assert encoding.closing_ids(tok)[0] == tok.encode(tok.format.close)
        for text in texts:
            assert parse_response(f"<think>\n### Step 1: a\n</think>\n<answer>4{text}").answer == "4"


@pytest.mark.parametrize("kind, first", [("tokenizer", ["</answer>", " ", "\n"]), ("merging", [" </", "</", "\n"])])
def test_event_scores_one_position_of_any_closing(kind, first, request):
    tok = request.getfixturevalue(kind)
    answers = encoding.pack_probes(tok, [Problem("1", "q", "4")], max_variants=1, max_tokens=8, terminator="event")
    scored_ye = answers.target_aye[0, 0][answers.scored_ay[0, 0]]
    assert [tok.decode(ids[ids >= 0]) for ids in scored_ye] == ["4", "".join(first)]
    assert [tok.decode([id]) for id in scored_ye[-1]] == first


def test_arrays_are_as_large_as_the_answers_need(tokenizer, monkeypatch):
    """Check A and the room for answer tokens against every limit: the closing tag is one token."""
    monkeypatch.setattr(encoding, "answer_variants", lambda reference, **_: (reference,))

    def size(*problems, max_variants=8, max_tokens=10):
        answers = encoding.pack_probes(
            tokenizer, problems, max_variants=max_variants, max_tokens=max_tokens, terminator="tag"
        )
        assert answers.scored_ay.any(-1).any(-1).all() and len(answers.token_ap) == len(problems)
        return answers.scored_ay.shape[1], answers.scored_ay.shape[2] - 1

    short, long = Problem("1", "q", "4", "text"), Problem("2", "q", "x" * 9, "text")
    three = Problem("3", "q", "4", "text", variants=("four", "IV"))
    assert size(short) == (1, 4)
    assert size(short, long) == (1, 10)
    assert size(short, long, max_tokens=16) == (1, 12)
    assert size(three) == (4, 4)
    assert size(three, max_variants=3) == (3, 4)
    assert size(three, max_variants=2) == (2, 4)
    # A variant that is too long is left out, and does not count.
    assert size(three._replace(variants=("four", "I" * 11))) == (2, 4)
    with pytest.raises(ValueError, match="raise the limit on answer tokens"):
        size(long, max_tokens=8)


def test_buckets_are_powers_of_two_within_the_limit():
    assert [encoding.bucket_size(n) for n in (0, 1, 2, 3, 4, 5, 8, 9)] == [1, 1, 2, 4, 4, 8, 8, 16]
    assert [encoding.bucket_size(n, 6) for n in (0, 3, 5, 6)] == [1, 4, 6, 6]


@pytest.mark.parametrize(
    "problem, limits, reason",
    [
        (Problem("1", "q", "1" * 9), {}, "an answer of more than 8"),
        (Problem("1", "q", "1"), {"max_new_tokens": 50}, "without a solution in steps or a ready-made response"),
        (Problem("1", "q", "1", solution=(("x" * 50,), "1")), {"max_new_tokens": 50}, "a solution of more"),
        (Problem("1", "q", "1", solution=(("x", ""), "1")), {"max_new_tokens": 50}, "empty steps"),
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
