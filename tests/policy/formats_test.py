"""Probes, SFT targets and masks in every response format, with every tokenizer at hand."""

import dataclasses

import numpy as np
import pytest

from mig_jax.data.problem import Problem
from mig_jax.policy import completions, encoding
from mig_jax.text import tokenizer as tokenizers
from mig_jax.text.response_format import TRIAL_ANSWERS, parse_response
from mig_jax.text.step_format import FORMATS, SPACES, StepFormat
from tests.policy.probes_as_written import check_format
from tests.text import byte_pairs

SENTENCES = StepFormat(splitter="sentence", step="{text} ", fits_lead_in=True)
ALL = FORMATS | {"sentences": SENTENCES}


@pytest.fixture(scope="module")
def characters():
    return tokenizers.build_character_tokenizer()


@pytest.fixture(scope="module")
def shipped():
    return tokenizers.load("mig_jax/assets/quickstart")


@pytest.fixture(scope="module")
def merging():
    """Return a tokenizer that, like Qwen's, merges plain tags with answers and ".\\n" into one token."""
    return tokenizers.wrap(byte_pairs.to_fast(byte_pairs.train_core()))


@pytest.mark.parametrize("kind", ["characters", "shipped", "merging"])
@pytest.mark.parametrize("name", ALL)
def test_probes_are_what_a_policy_would_generate(name, kind, request):
    tokenizer = request.getfixturevalue(kind).with_format(ALL[name])
    check_format(tokenizer, answers=TRIAL_ANSWERS[::8])


def test_space_around_answers_is_chosen_for_each_format(characters, merging):
    for format in ALL.values():
        assert characters.with_format(format).format == format
    # It merges `>A`, but no brace.
    assert merging.with_format(FORMATS["tunix"]).format == dataclasses.replace(FORMATS["tunix"], space=SPACES[1])
    assert merging.with_format(FORMATS["r1"]).format == FORMATS["r1"]


@pytest.mark.parametrize("name", ALL)
def test_sft_targets_and_closings(name, characters):
    tokenizer = characters.with_format(ALL[name])
    problem = Problem("1", "7 +5 -3", "29", solution=(("So 7+5=2.", "And 2-3=9."), "29"))
    ids = encoding.sft_target_ids(tokenizer, problem)
    response = parse_response(tokenizer.decode(ids[:-1]), tokenizer.format)
    assert response.is_well_formed and response.answer == "29" and len(response.steps) == 2
    assert encoding.closing_ids(tokenizer)[0] == tokenizer.encode(tokenizer.format.close)
    for closing in tokenizer.format.closings:
        written = tokenizer.format.write(["a"], "4").removesuffix(tokenizer.format.close) + closing
        assert parse_response(written, tokenizer.format).answer == "4", closing
    for terminator in ("tag", "event"):
        answers = encoding.pack_probes(tokenizer, [problem], max_variants=2, max_tokens=8, terminator=terminator)
        assert answers.scored_ay[0, 0].sum() >= 3


def parse(tokenizer, text, **kwargs):
    ids = [*tokenizer.encode(text), tokenizer.eos_ids[0]]
    options = {"is_truncated": False, "max_steps": 8, "width": len(ids), "process_mask": "closing"} | kwargs
    return ids, completions.parse_completion(tokenizer, ids, **options)


def masked(tokenizer, text, **kwargs):
    ids, parsed = parse(tokenizer, text, **kwargs)
    pieces = [tokenizer.decode([id]) for id in ids[:-1]] + ["$"]
    return "".join(piece for piece, step in zip(pieces, parsed.step_t, strict=True) if step >= 0)


@pytest.mark.parametrize(
    "name, text, closing, think",
    [
        ("r1", "<think>\na \\boxed{1}\n</think>\n\n\\boxed{2}", "\na \\boxed{1}\n</think>", "\na \\boxed{1}\n"),
        ("qwen3", "<think>\n\n</think>\n\na\n\\boxed{2}", "\n\n</think>\n\na\n\\boxed{", "\n\na\n"),
        ("tunix", "<reasoning>a</reasoning><answer>2</answer>", "a</reasoning>", "a"),
        ("plain", "a\n\nSo \\boxed{2}.", "a\n\nSo \\boxed{", "a\n\n"),
        ("llama_steps", "## Step 1: a", "## Step 1: a$", "## Step 1: a"),
    ],
)
def test_masks(name, text, closing, think, characters):
    tokenizer = characters.with_format(FORMATS[name])
    assert masked(tokenizer, text) == closing
    assert masked(tokenizer, text, process_mask="think") == think


def test_given_steps_have_cuts(characters):
    tokenizer = characters.with_format(dataclasses.replace(FORMATS["plain"], fits_lead_in=True))
    ids, parsed = parse(tokenizer, "Add 3 and 4. It is 7.\n\\boxed{7}", steps=("Add 3 and 4.", "It is 7."))
    assert [tokenizer.decode(ids[:cut]) for cut in parsed.cuts] == ["Add 3 and 4", "Add 3 and 4. It is 7.\n"]
    prefixes = [tokenizer.decode(prefix) for prefix in parsed.prefixes]
    # The line break that the probe writes may merge with the full stop.
    assert prefixes == [".\nThe final answer is ", "The final answer is "]
    np.testing.assert_array_equal(parsed.counts, (1, 1))
