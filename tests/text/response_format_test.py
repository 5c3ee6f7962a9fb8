"""What is read off responses, good and bad."""

import re

import pytest

from mig_jax.text.response_format import ANSWER_TAGS, parse_response, render_prompt, render_response, system_prompt

GOOD = "<think>\n### Step 1: 7+5=2\n### Step 2: 2-3=9\n</think>\n<answer>29</answer>"


def parts(completion: str, **kwargs) -> tuple[list[str], str | None, str]:
    read = parse_response(completion, **kwargs)
    return [completion[step.start : step.end] for step in read.steps], read.answer, read.format_error


@pytest.mark.parametrize(
    "completion, steps, answer",
    [
        (GOOD, ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], "29"),
        (f"\n {GOOD}\t\n", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], "29"),
        ("<think>\n### Step 1: a\n\n  b  \n\n</think><answer>\n x = 5 \n</answer>", ["### Step 1: a\n\n  b"], "x = 5"),
        ("<think>### Step 1: a</think> <answer>4</answer>", ["### Step 1: a"], "4"),
        ("<think>\nFirst a plan.\n### Step 7:\n</think>\n<answer>4</answer>", ["### Step 7:"], "4"),
        (
            "<think>\n### Step 1: a < b <b> </answer\n</think>\n<answer><b></answer>",
            ["### Step 1: a < b <b> </answer"],
            "<b>",
        ),
        ("<think>\r\n### Step 1: a\r\n</think>\r\n<answer>4</answer>\r\n", ["### Step 1: a"], "4"),
    ],
)
def test_well_formed(completion, steps, answer):
    assert parts(completion) == (steps, answer, None)
    assert parse_response(completion).is_well_formed


@pytest.mark.parametrize(
    "completion, steps, answer, problem",
    [
        ("", [], None, "no <think>"),
        ("42", [], None, "no <think>"),
        ("### Step 1: a\n</think><answer>4</answer>", ["### Step 1: a"], "4", "no <think>"),
        ("<think>\n### Step 1: a\n<answer>4</answer>", ["### Step 1: a"], "4", "no </think>"),
        ("<think>\n### Step 1: a\n### Step 2: b", ["### Step 1: a", "### Step 2: b"], None, "no </think>"),
        ("<think>\n### Step 1: a\n</think>\n4", ["### Step 1: a"], None, "no <answer>"),
        ("<think>\n### Step 1: a\n</think>\n<answer>4", ["### Step 1: a"], None, "no </answer>"),
        ("<think>\n</think>\n<answer>4</answer>", [], "4", "no step"),
        ("<think>\n ### Step 1: a\n</think>\n<answer>4</answer>", [], "4", "no step"),
        ("<think>\n### Step one: a\n</think>\n<answer>4</answer>", [], "4", "no step"),
        ("<think>\n### Step ٣: a\n</think>\n<answer>4</answer>", [], "4", "no step"),
        ("<think>\n### Step 1: a\n</think>\n<answer> \n</answer>", ["### Step 1: a"], None, "no answer"),
        (f"Sure! {GOOD}", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], "29", "text outside the blocks"),
        (f"{GOOD}.", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], "29", "text outside the blocks"),
        ("<think>\n### Step 1: a\n</think> so <answer>4</answer>", ["### Step 1: a"], "4", "text outside the blocks"),
        ("<answer>4</answer><think>\n### Step 1: a\n</think>", ["### Step 1: a"], None, "tags out of order"),
        ("<think>\n### Step 1: a</think></answer>4<answer>", ["### Step 1: a"], None, "tags out of order"),
        # The same tag twice, wherever it is; and a volley of answers is no answer.
        (f"<think>{GOOD}", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], "29", "<think> 2 times"),
        ("<think>\n### Step 1: </think>\n</think><answer>4</answer>", ["### Step 1:"], "4", "</think> 2 times"),
        (f"{GOOD}<answer>30</answer>", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], None, "<answer> 2 times"),
        (f"{GOOD}<answer>", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], None, "<answer> 2 times"),
        (f"{GOOD}</answer>", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], None, "</answer> 2 times"),
        # An answer inside the reasoning is none; the one behind it counts.
        (
            "<think>\n### Step 1: <answer>3</answer>\n</think><answer>4</answer>",
            ["### Step 1: <answer>3</answer>"],
            "4",
            "<answer> 2 times",
        ),
        # What stands before the think tag is no reasoning.
        (
            "### Step 1: a\n<think>\n### Step 2: b\n</think><answer>4</answer>",
            ["### Step 2: b"],
            "4",
            "text outside the blocks",
        ),
    ],
)
def test_malformed(completion, steps, answer, problem):
    assert parts(completion) == (steps, answer, problem)
    assert not parse_response(completion).is_well_formed


def test_truncated_is_not_well_formed():
    assert parts(GOOD, is_truncated=True) == (
        ["### Step 1: 7+5=2", "### Step 2: 2-3=9"],
        "29",
        "cut off by the length limit",
    )


@pytest.mark.parametrize(
    "completion, before, reasoning",
    [
        (GOOD, "<think>\n", "\n### Step 1: 7+5=2\n### Step 2: 2-3=9\n"),
        (" \n<think>a</think>", " \n<think>", "a"),
        ("<think> \r\n\na</think>", "<think> \r\n", " \r\n\na"),
        ("a <think>b", "", "b"),
        ("a</think>", "", "a"),
        ("\na</think>", "", "\na"),
        ("a<answer>b", "", "a"),
        ("</think>", "", ""),
        ("<answer><think>a", "", "a"),
    ],
)
def test_where_reasoning_is_and_where_its_first_step_could_begin(completion, before, reasoning):
    read = parse_response(completion)
    assert completion[: read.cuts[0]] == before
    assert completion[read.cot.start : read.cot.end] == reasoning


@pytest.mark.parametrize(
    "ending, before",
    [
        ("\n</think>", "\n"),
        ("  \r\n</think>", "  \r\n"),
        ("\n\n\n### Step 2:", "\n"),
        ("</think>", ""),
        ("  </think>", ""),
        ("\n", "\n"),
        ("", ""),
    ],
)
def test_a_cut_lies_behind_the_line_break_that_ends_a_step(ending, before):
    """The step's own text stays without it."""
    opening = "<think>\n### Step 1: a."
    read = parse_response(opening + ending)
    assert read.steps[0] == (8, len(opening))
    assert read.cuts[:2] == (8, len(opening + before))


@pytest.mark.parametrize("tags", ANSWER_TAGS)
@pytest.mark.parametrize(
    "steps, answer",
    [(["7+5=2"], "2"), (["a", "b\nc\n\nd", "", "### Stepwise: <x>"], "\\frac{1}{2}"), (["é😀\u202e"] * 30, "\x00")],
)
def test_reading_gives_back_what_was_written(steps, answer, tags):
    response = render_response(steps, answer, tags)
    headed = [f"### Step {number}: {step}".rstrip() for number, step in enumerate(steps, start=1)]
    assert parts(response) == (headed, answer, None)


def test_written_as_asked():
    assert render_response(["7+5=2", "2-3=9"], " 29\n") == GOOD


@pytest.mark.parametrize("tags", ANSWER_TAGS)
def test_the_prompt_shows_what_demonstrations_look_like(tags):
    asked = system_prompt(tags)
    asked = asked[asked.index("<think>") :]
    assert parts(asked) == (["### Step 1: ...", "### Step 2: ..."], "only the final answer", None)
    assert asked == render_response(["...", "..."], "only the final answer", tags)


@pytest.mark.parametrize(
    "steps, answer, reason",
    [
        ([], "4", "no step"),
        (["a"], " ", "no answer"),
        (["a</think>"], "4", "</think> 2 times"),
        (["a\n### Step 9: b"], "4", "a step within a step"),
    ],
)
def test_what_cannot_be_read_again_is_not_written(steps, answer, reason):
    with pytest.raises(ValueError, match=reason):
        render_response(steps, answer)


def test_prompt():
    user = {"role": "user", "content": "1+1?"}
    assert render_prompt("1+1?", system="") == [user]
    assert render_prompt("1+1?", system="Add.") == [{"role": "system", "content": "Add."}, user]
    seen = {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "1+1?"}]}
    assert render_prompt("1+1?", system="", n_images=2) == [seen]


def test_the_plain_prompt_is_the_one_that_shipped_policies_were_trained_with():
    assert system_prompt() == (
        "Solve the problem step by step. Reply in exactly this format, with as many steps as needed:\n"
        "<think>\n### Step 1: ...\n### Step 2: ...\n</think>\n<answer>only the final answer</answer>"
    )


@pytest.mark.parametrize("tags", ANSWER_TAGS)
def test_a_probe_completes_a_response(tags):
    response = render_response(["7+5=2", "2-3=9"], "29", tags)
    assert response[: parse_response(response).cuts[-1]] + tags.lead_in + "29" + tags.close == response
    # Whatever blanks a tokenizer's tags have, all of them are read alike.
    assert re.sub(r"\s+(?=29|</answer>)", "", response) == GOOD
