"""Parsing of responses, well formed and malformed, and rendering of prompts and responses."""

import dataclasses
import re

import pytest

from mig_jax.errors import UserError
from mig_jax.text.response_format import FORMATS, MIG, parse_response, render_response, with_opening, without_opening
from mig_jax.text.step_format import SPACES

GOOD = "<think>\n### Step 1: 7+5=2\n### Step 2: 2-3=9\n</think>\n<answer>29</answer>"


def parts(completion: str, **kwargs) -> tuple[list[str], str | None, str]:
    """Return the texts of the steps, the answer and the format error."""
    response = parse_response(completion, **kwargs)
    return [completion[step.start : step.end] for step in response.steps], response.answer, response.format_error


@pytest.mark.parametrize(
    "completion, steps, answer",
    [
        (GOOD, ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], "29"),
        (f"\n {GOOD}\t\n", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], "29"),
        ("<think>\n### Step 1: a\n\n  b  \n\n</think><answer>\n x = 5 \n</answer>", ["### Step 1: a\n\n  b"], "x = 5"),
        ("<think>### Step 1: a</think> <answer>4</answer>", ["### Step 1: a"], "4"),
        ("<think>\nFirst a plan.\n### Step 7: a\n</think>\n<answer>4</answer>", ["### Step 7: a"], "4"),
        (
            "<think>\n### Step 1: a < b <b> </answer\n</think>\n<answer><b></answer>",
            ["### Step 1: a < b <b> </answer"],
            "<b>",
        ),
        ("<think>\r\n### Step 1: a\r\n</think>\r\n<answer>4</answer>\r\n", ["### Step 1: a"], "4"),
        # Near misses of a header.
        ("<think>\n ### Step 1: a\n</think>\n<answer>4</answer>", ["### Step 1: a"], "4"),
    ],
)
def test_well_formed(completion, steps, answer):
    assert parts(completion) == (steps, answer, None)
    assert parse_response(completion).is_well_formed


@pytest.mark.parametrize(
    "completion, steps, answer, format_error",
    [
        ("", [], None, "no <think>"),
        ("42", [], None, "no <think>"),
        ("### Step 1: a\n</think><answer>4</answer>", ["### Step 1: a"], "4", "no <think>"),
        ("<think>\n### Step 1: a\n<answer>4</answer>", ["### Step 1: a"], "4", "no </think>"),
        ("<think>\n### Step 1: a\n### Step 2: b", ["### Step 1: a", "### Step 2: b"], None, "no </think>"),
        ("<think>\n### Step 1: a\n</think>\n4", ["### Step 1: a"], None, "no <answer>"),
        ("<think>\n### Step 1: a\n</think>\n<answer>4", ["### Step 1: a"], None, "no </answer>"),
        ("<think>\n</think>\n<answer>4</answer>", [], "4", "no step"),
        ("<think>\n### Step 1:\n### Step 2: \n</think>\n<answer>4</answer>", [], "4", "no step"),
        ("<think>\n### Step one: a\n</think>\n<answer>4</answer>", [], "4", "no step"),
        ("<think>\n### Step ٣: a\n</think>\n<answer>4</answer>", [], "4", "no step"),
        ("<think>\n### Step 1: a\n</think>\n<answer> \n</answer>", ["### Step 1: a"], None, "no answer"),
        (f"Sure! {GOOD}", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], "29", "text outside the blocks"),
        (f"{GOOD}.", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], "29", "text outside the blocks"),
        ("<think>\n### Step 1: a\n</think> so <answer>4</answer>", ["### Step 1: a"], "4", "text outside the blocks"),
        ("<answer>4</answer><think>\n### Step 1: a\n</think>", ["### Step 1: a"], None, "tags out of order"),
        ("<think>\n### Step 1: a</think></answer>4<answer>", ["### Step 1: a"], None, "tags out of order"),
        # A tag twice, at any position; several answers count as none.
        (f"<think>{GOOD}", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], "29", "<think> 2 times"),
        ("<think>\n### Step 1: a</think>\n</think><answer>4</answer>", ["### Step 1: a"], "4", "</think> 2 times"),
        (f"{GOOD}<answer>30</answer>", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], None, "<answer> 2 times"),
        (f"{GOOD}<answer>", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], None, "<answer> 2 times"),
        (f"{GOOD}</answer>", ["### Step 1: 7+5=2", "### Step 2: 2-3=9"], None, "</answer> 2 times"),
        # An answer block inside the reasoning does not count, the one after it does.
        (
            "<think>\n### Step 1: <answer>3</answer>\n</think><answer>4</answer>",
            ["### Step 1: <answer>3</answer>"],
            "4",
            "<answer> 2 times",
        ),
        # Text before the think tag is not reasoning.
        (
            "### Step 1: a\n<think>\n### Step 2: b\n</think><answer>4</answer>",
            ["### Step 2: b"],
            "4",
            "text outside the blocks",
        ),
    ],
)
def test_malformed(completion, steps, answer, format_error):
    assert parts(completion) == (steps, answer, format_error)
    assert not parse_response(completion).is_well_formed


def test_truncated_is_not_well_formed():
    assert parts(GOOD, is_truncated=True) == (
        ["### Step 1: 7+5=2", "### Step 2: 2-3=9"],
        "29",
        "truncated by the length limit",
    )


@pytest.mark.parametrize(
    "reasoning, steps",
    [
        ("### Step 1:\n### Step 2: b\n", ["### Step 2: b"]),
        ("### Step 1: a\n### Step 2:\n### Step 3: c\n", ["### Step 1: a\n### Step 2:", "### Step 3: c"]),
        ("### Step 1: a\n### Step 2: \u00a0\t\n\n### Step 3:", ["### Step 1: a\n### Step 2: \u00a0\t\n\n### Step 3:"]),
        ("### Step 1:\na\n### Step 2:.", ["### Step 1:\na", "### Step 2:."]),
    ],
)
def test_header_without_text_begins_no_step(reasoning, steps):
    """Check that it belongs to the step before it, whose cut comes after it."""
    completion = f"<think>\n{reasoning}</think>\n<answer>4</answer>"
    assert parts(completion) == (steps, "4", None)
    response = parse_response(completion)
    assert [completion[:cut].rstrip() for cut in response.cuts] == [completion[: step.end] for step in response.steps]


@pytest.mark.parametrize(
    "completion, reasoning",
    [
        (GOOD, "\n### Step 1: 7+5=2\n### Step 2: 2-3=9\n"),
        (" \n<think>a</think>", "a"),
        ("<think> \r\n\na</think>", " \r\n\na"),
        ("a <think>b", "b"),
        ("a</think>", "a"),
        ("\na</think>", "\na"),
        ("a<answer>b", "a"),
        ("</think>", ""),
        ("<answer><think>a", "a"),
    ],
)
def test_reasoning(completion, reasoning):
    response = parse_response(completion)
    assert completion[response.cot.start : response.cot.end] == reasoning


@pytest.mark.parametrize(
    "completion, is_open",
    [
        ("<think>ab</think>\n", "-" * 7 + "+" * 10 + "--"),
        (" \n<think>ab</think>", "-" * 9 + "+" * 10 + "-"),
        ("<think>a", "-------++"),
        ("<think>", "-------+"),
        # A think tag that was begun is neither reasoning nor a tag.
        ("", "-"),
        (" \n", "---"),
        (" <think", "--------"),
        (" <thinx", "-------+"),
        # Without a think tag at the beginning, the reasoning opens after the first character that rules one out.
        ("ab</think>c", "-" + "+" * 9 + "--"),
        ("ab", "-++"),
        ("a<think>b</think>c", "-" + "+" * 16 + "--"),
        ("a</think>b<think>c</think>d", "-" + "+" * 8 + "-" * 8 + "+" * 9 + "--"),
        ("a<answer>b<think>c", "-" + "+" * 8 + "-" * 8 + "++"),
        # The first of the tags that close it.
        ("<think>a<answer>b</think>c<think>d", "-" * 7 + "+" * 9 + "-" * 19),
        ("<think></think><think>a", "-" * 7 + "+" * 8 + "-" * 9),
        ("<answer>a", "--++++++--"),
    ],
)
def test_where_the_reasoning_is_open(completion, is_open):
    """Check it before every character, and after the last one."""
    spans = parse_response(completion).open_spans
    found = [any(start <= n < end for start, end in spans) for n in range(len(completion) + 1)]
    assert "".join("-+"[n] for n in found) == is_open


@pytest.mark.parametrize(
    "ending, before",
    [
        ("\n</think>", "\n"),
        ("  \r\n</think>", "  \r\n"),
        ("\n\n\n### Step 2: b", "\n"),
        ("</think>", ""),
        ("  </think>", ""),
        ("\n", "\n"),
        ("", ""),
    ],
)
def test_cut_comes_after_the_line_break_of_a_step(ending, before):
    """Check that the step's own span excludes the line break."""
    opening = "<think>\n### Step 1: a."
    response = parse_response(opening + ending)
    assert response.steps[0] == (8, len(opening))
    assert response.cuts[0] == len(opening + before)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    "steps, answer",
    [(["7+5=2"], "2"), (["a", "b\nc\n\nd", ".", "### Stepwise: <x>"], "\\frac{1}{2}"), (["é😀\u202e"] * 30, "\x00")],
)
def test_rendered_response_parses_back(steps, answer, space):
    response = render_response(steps, answer, dataclasses.replace(MIG, space=space))
    step_texts = [f"### Step {number}: {step}".rstrip() for number, step in enumerate(steps, start=1)]
    assert parts(response) == (step_texts, answer, None)


def test_rendered_response():
    assert render_response(["7+5=2", "2-3=9"], " 29\n") == GOOD


@pytest.mark.parametrize("space", SPACES)
def test_system_prompt_shows_a_rendered_response(space):
    format = dataclasses.replace(MIG, space=space)
    prompt = format.system_prompt()
    shown = prompt[prompt.index("<think>") :]
    assert parts(shown) == (["### Step 1: ...", "### Step 2: ..."], "only the final answer", None)
    assert shown == render_response(["...", "..."], "only the final answer", format)


@pytest.mark.parametrize(
    "steps, answer, reason",
    [
        ([], "4", "no step"),
        (["", " "], "4", "no step"),
        (["a", ""], "4", "a step without text"),
        (["a"], " ", "no answer"),
        (["a</think>"], "4", "</think> 2 times"),
        (["a\n### Step 9: b"], "4", "a step inside a step"),
    ],
)
def test_solution_that_would_not_parse_back_is_refused(steps, answer, reason):
    with pytest.raises(UserError, match=reason):
        render_response(steps, answer)


def test_plain_system_prompt_is_that_of_the_shipped_policy():
    assert MIG.system_prompt() == (
        "Solve the problem step by step. Reply in exactly this format, with as many steps as needed:\n"
        "<think>\n### Step 1: ...\n### Step 2: ...\n</think>\n<answer>only the final answer</answer>"
    )


@pytest.mark.parametrize("space", SPACES)
def test_probe_completes_a_response(space):
    format = dataclasses.replace(MIG, space=space)
    response = render_response(["7+5=2", "2-3=9"], "29", format)
    assert response[: parse_response(response).cuts[-1]] + format.lead_in + "29" + format.close == response
    # The pairs of tags differ only in whitespace.
    assert re.sub(r"\s+(?=29|</answer>)", "", response) == GOOD


def test_openings_of_prompts():
    """A whole response, what is left of it after a prompt, and what another model's prompt had opened."""
    whole, opened = "<think>\n### Step 1: a\n</think>\n<answer>1</answer>", "<think>\n"
    rest = whole.removeprefix(opened)
    after = dataclasses.replace(MIG, prompt_opening=opened)
    assert without_opening(whole, after) == without_opening(rest, after) == rest == with_opening(rest, after)
    assert with_opening(rest, MIG) == with_opening(f"\n{rest}", MIG) == whole == with_opening(whole, MIG)
    assert without_opening(whole, MIG) == whole and with_opening("no tags", MIG) == "no tags"
    parsed = parse_response(rest, after)
    assert parsed.is_well_formed and rest[slice(*parsed.steps[0])] == "### Step 1: a"
    assert parse_response(whole, after).format_error == "<think> 2 times"
    closed = dataclasses.replace(FORMATS["qwen3"], prompt_opening="<think>\n\n</think>\n\n")
    written = render_response(["a", "b"], "1", closed)
    assert written == "a\n\nb\n\n\\boxed{1}" and parse_response(written, closed).is_well_formed
