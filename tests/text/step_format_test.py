"""Response formats: ours by name and a user's own, read, written, and robust against any text."""

import dataclasses
import time

import numpy as np
import pytest

from mig_jax.errors import UserError
from mig_jax.text.response_format import (
    lead_in_prefix,
    parse_response,
    place_steps,
    render_response,
    suggest_format,
)
from mig_jax.text.splitters import find_splitter
from mig_jax.text.step_format import BOXED, FORMATS, MIG, SPACES, StepFormat, find_format, format_errors
from tests.text.hostile import FRAGMENTS

SENTENCES = StepFormat(
    think=("<work>", "</work>"),
    answer=("<final>", "</final>"),
    splitter="sentence",
    step="{text} ",
    fits_lead_in=True,
)
LETTERS = StepFormat(think=None, splitter=r"^\([a-z]\) ", step="({text}) {text}\n", before_answer="")
ALL = FORMATS | {"sentences": SENTENCES, "letters": LETTERS}


def steps_of(text, format):
    return [text[step.start : step.end] for step in parse_response(text, format).steps]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", [*FORMATS, "sentences"])
def test_rendered_responses_parse_back(name, space):
    format = dataclasses.replace(ALL[name], space=space)
    steps = ["So 7+5=2.", "Half: \\frac{1}{2} of 4 is 2.", "你好 😀 = {x}!"]
    text = render_response(steps, "\\frac{1}{2}", format)
    response = parse_response(text, format)
    assert response.is_well_formed and response.answer == "\\frac{1}{2}"
    assert [step.endswith(own) for step, own in zip(steps_of(text, format), steps, strict=True)] == [True] * 3
    # A probe after the last step completes the response, up to a blank before it.
    cut = response.cuts[-1]
    written = lead_in_prefix(text, cut, format) + format.lead_in + "\\frac{1}{2}" + format.close
    assert text.endswith(written) and not text[cut : len(text) - len(written)].strip()
    assert format.write(["...", "..."], "only the final answer") in format.system_prompt()


@pytest.mark.parametrize("name", ALL)
def test_probe_before_the_first_step_closes_what_it_opens(name):
    format = ALL[name]
    written = format.opening + format.lead_in
    for tag in format.tags[:-1] if not format.is_boxed else format.tags:
        assert written.count(tag) == 1
    assert written.endswith(format.answer[0])
    if not format.reads_empty_think:
        fitted, fixed = (dataclasses.replace(format, fits_lead_in=fits) for fits in (True, False))
        assert fitted.opening + fitted.lead_in == fixed.opening + fixed.lead_in


@pytest.mark.parametrize(
    "name, completion, steps, answer, format_error",
    [
        ("r1", "<think>\na\n\nb\nc\n</think>\n\nSo it is \\boxed{5}.", ["a", "b\nc"], "5", None),
        # Boxes inside the reasoning are no answers, and do not end it.
        ("r1", "<think>\na \\boxed{3}\n\nb\n</think>\n\\boxed{5}", ["a \\boxed{3}", "b"], "5", None),
        ("r1", "<think>\na \\boxed{3}\n\nb", ["a \\boxed{3}", "b"], None, "no </think>"),
        ("r1", "<think>\na\n</think>\n\\boxed{5} or \\boxed{ 5 }", ["a"], "5", None),
        ("r1", "<think>\na\n</think>\n\\boxed{5} or \\boxed{6}", ["a"], None, "several boxes that differ"),
        ("r1", "<think>\na\n</think>\n\\boxed{\\frac{1}{2}", ["a"], None, "\\boxed{ is not closed"),
        ("r1", "<think>\na\n</think>\n} { \\boxed{\\{1, 2\\}} {", ["a"], "\\{1, 2\\}", None),
        ("r1", "<think>\na\n</think>\n\\boxed{ }", ["a"], None, "no answer"),
        ("r1", "<think>\na\n</think>\nIt is 5.", ["a"], None, "no \\boxed{}"),
        ("r1", "<think>\n\n</think>\n\na\n\n\\boxed{5}", [], "5", "no step"),
        ("r1", "Sure. <think>\na\n</think>\n\\boxed{5}", ["a"], "5", "text outside the blocks"),
        ("qwen3", "<think>\n\n</think>\n\na\n\nb\n\nSo \\boxed{5}.", ["a", "b"], "5", None),
        ("qwen3", "<think>\na\n\nb\n</think>\n\nc\n\n\\boxed{5}", ["a", "b"], "5", None),
        ("qwen3", "<think>\n\n</think>\n\n\\boxed{5}", [], "5", "no step"),
        ("llama_steps", "## Step 1: a\nb\n\n## Step 2: c\n\nThe answer is $\\boxed{5}$.",
         ["## Step 1: a\nb", "## Step 2: c"], "5", None),
        ("llama_steps", "**Step 1:** a\nStep 2. b\n\n\\boxed{5}", ["**Step 1:** a\nStep 2. b"], "5",
         "almost a step header: 'Step 2.'"),
        ("tunix", "<reasoning>a\n\nb</reasoning><answer>5</answer>", ["a", "b"], "5", None),
        ("tunix", "<reasoning>a</reasoning>so<answer>5</answer>", ["a"], "5", "text outside the blocks"),
        ("plain", "a\n\nb\nc\n\nThe answer is \\boxed{5}.", ["a", "b\nc"], "5", None),
        ("plain", "a\n\nb", ["a", "b"], None, "no \\boxed{}"),
        ("plain", "a, so \\boxed{5}", ["a, so"], "5", None),
        ("plain", "\\boxed{5}", [], "5", "no step"),
        ("plain", "a \\boxed{5}\n\nb \\boxed{6}", ["a"], None, "several boxes that differ"),
        ("sentences", "<work>A is 1. B is 2.</work><final>3</final>", ["A is 1.", "B is 2."], "3", None),
        ("letters", "(a) one\n(b) two\n<answer>3</answer>", ["(a) one", "(b) two"], "3", None),
        ("letters", "(a) one\n<answer>3</answer> done", ["(a) one"], "3", "text outside the blocks"),
        ("mig", "<think>\n### Step 1: a\n### Step two: b\n</think>\n<answer>4</answer>",
         ["### Step 1: a\n### Step two: b"], "4", "almost a step header: '### Step two:'"),
        ("mig", "<think>\n#### Step 1: a\n**Step 2:** b\n</think>\n<answer>4</answer>",
         ["#### Step 1: a", "**Step 2:** b"], "4", None),
    ],
)  # fmt: skip
def test_what_is_read(name, completion, steps, answer, format_error):
    response = parse_response(completion, ALL[name])
    assert (steps_of(completion, ALL[name]), response.answer, response.format_error) == (steps, answer, format_error)


def test_last_words_before_an_answer_in_the_same_line_announce_it():
    format = dataclasses.replace(FORMATS["plain"], splitter="sentence")
    assert steps_of("A is 1. B is 2. So it is \\boxed{3}", format) == ["A is 1.", "B is 2."]
    assert steps_of("A is 1. B is 2. \\boxed{3}", format) == ["A is 1.", "B is 2."]


@pytest.mark.parametrize(
    "name, completion, cut, prefix",
    [
        ("qwen3", "<think>\na\n</think>\n\n\\boxed{5}", 10, "</think>\n\n"),
        ("qwen3", "<think>\n\n</think>\n\na\n\\boxed{5}", 21, ""),
        ("sentences", "<work>\nA is 1. B is 2.\n</work>", 14, "\n</work>\n"),
        ("sentences", "<work>\nA is 1. B is 2.\n</work>", 23, "</work>\n"),
        ("r1", "<think>\na\n</think>\n\n\\boxed{5}", 10, ""),
    ],
)
def test_lead_ins_are_fitted_to_their_cuts(name, completion, cut, prefix):
    assert lead_in_prefix(completion, cut, ALL[name]) == prefix
    assert cut in parse_response(completion, ALL[name]).cuts


def hostile(rng, format, n):
    """Yield texts of the tags of a format, boxes, step headers and hostile fragments."""
    own = [*format.tags, *format.answer, format.lead_in, "\\boxed{4}", "\\boxed {", "a. b.\n\n", "\n### Step 1: a\n"]
    frame = format.write(["a", "b"], "4")
    for _ in range(n):
        parts = [frame[: len(frame) // 2], frame[len(frame) // 2 :]] if rng.random() < 0.5 else []
        for _ in range(int(rng.integers(0, 10))):
            choices = own if rng.random() < 0.5 else FRAGMENTS
            parts.insert(int(rng.integers(len(parts) + 1)), choices[int(rng.integers(len(choices)))])
        yield "".join(parts)


@pytest.mark.parametrize("name", ALL)
def test_any_text_is_read(name):
    """Check that parts are consistent, that no error is hidden, and that masks depend on the past alone."""
    format, rng = ALL[name], np.random.default_rng(0)
    n_well_formed = n_steps = 0
    for text in hostile(rng, format, 2500):
        format.split(text)
        response = parse_response(text, format)
        assert 0 <= response.cot.start <= response.cot.end <= len(text)
        end = response.cot.start
        for step, cut in zip(response.steps, response.cuts, strict=True):
            assert end <= step.start < step.end <= response.cot.end
            assert step.end <= cut and not text[step.end : cut].strip() and cut <= len(text)
            assert not text[step.start].isspace() and not text[step.end - 1].isspace()
            lead_in_prefix(text, cut, format)
            end = step.end
        assert list(response.cuts) == sorted(response.cuts)
        assert response.answer is None or response.answer == response.answer.strip() != ""
        assert not response.is_well_formed or (response.steps and response.answer)
        n_well_formed += response.is_well_formed
        n_steps += len(response.steps)
        # Whether the reasoning is open before a character is known from the text before it.
        stop = int(rng.integers(0, len(text) + 1))
        shorter = parse_response(text[:stop], format).open_spans
        for position in (stop, stop // 2):
            is_open = [any(start <= position < end for start, end in s) for s in (shorter, response.open_spans)]
            assert is_open[0] == is_open[1], (text, position)
    assert n_steps > 500 and n_well_formed > 50, (n_steps, n_well_formed)


@pytest.mark.parametrize("name", ALL)
def test_time_is_linear_in_the_length(name):
    format = ALL[name]
    pieces = ("\\boxed{", "{", "}", "\\boxed{1}", *format.tags, "### Step 1", "\n\n", "a. ", "Step 1: a\n")

    def seconds(n):
        start = time.process_time()
        for piece in pieces:
            parse_response(format.opening + piece * (n // len(piece)), format)
        return time.process_time() - start

    # A quadratic parser would take 256 times as long.
    assert seconds(128_000) < 100 * max(seconds(8_000), 0.002)


def test_prompts_that_have_written_the_opening():
    r1 = dataclasses.replace(FORMATS["r1"], prompt_opening="<think>\n")
    assert r1.opening == ""
    text = render_response(["a", "b"], "5", r1)
    assert text == "a\n\nb\n</think>\n\n\\boxed{5}"
    response = parse_response(text, r1)
    assert response.is_well_formed and response.open_spans[0] == (0, text.index("</think>") + 8)
    assert steps_of(text, r1) == ["a", "b"]
    closed = dataclasses.replace(FORMATS["qwen3"], prompt_opening="<think>\n\n</think>\n\n")
    assert closed.opening == "" and steps_of("a\n\nb\n\n\\boxed{5}", closed) == ["a", "b"]


def test_given_steps():
    text = "Add 3 and 4.  That is 7.\nSo \\boxed{7}"
    response = place_steps(text, parse_response(text, FORMATS["plain"]), ["Add 3 and 4.", " That is 7. "], MIG)
    assert [text[step.start : step.end] for step in response.steps] == ["Add 3 and 4.", "That is 7."]
    assert response.cuts == (12, 25)
    for steps, error in (
        (["That is 7.", "Add"], "step 2 does not occur after step 1: 'Add'"),
        (["Ad 3"], "step 1 does not occur in the response: 'Ad 3'"),
        (["Add", " "], "step 2 is empty"),
    ):
        with pytest.raises(UserError, match=error):
            place_steps(text, response, steps, MIG)


def test_suggested_format():
    assert suggest_format(["<think>\na\n</think>\n\\boxed{5}", "b"]) == "r1"
    assert suggest_format(["a\n\nb\n\n\\boxed{5}"]) == "plain" and suggest_format(["b", ""]) is None


def test_own_formats(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from mig_jax.text.step_format import StepFormat\n"
        "FORMAT = StepFormat(think=('<w>', '</w>'), splitter='line', step='{text}\\n')\n"
        "BAD = StepFormat(think=('<w>', '<w>'), splitter='(', step='{txt}', reads_empty_think=True)\n"
        "OTHER = 3\n"
    )
    format = find_format(f"{file}:FORMAT")
    assert steps_of("<w>\na\nb\n</w>\n<answer>5</answer>", format) == ["a", "b"]
    with pytest.raises(UserError) as raised:
        find_format(f"{file}:BAD")
    for part in ("the tags must differ", "step='{txt}'", "not a regular expression", "reads_empty_think needs"):
        assert part in str(raised.value)
    with pytest.raises(UserError, match="is a int; must be a mig_jax.text.step_format.StepFormat"):
        find_format(f"{file}:OTHER")
    with pytest.raises(UserError, match="did you mean qwen3"):
        find_format("qwen2")


@pytest.mark.parametrize(
    "fields, error",
    [
        ({"answer": ("<think>a", "</x>")}, "tags: '<think>' is inside of '<think>a'"),
        ({"instructions": 5}, "instructions=5: must be a text"),
        ({"step": "{text}\n"}, "of which the splitter reads 0"),
        ({"splitter": "sentence"}, "needs fits_lead_in=True"),
        ({"splitter": "paragrph"}, "splitter='paragrph': did you mean paragraph?"),
        ({"splitter": lambda text: [(0, 10**6)]}, "in order, disjoint, and inside of the text"),
        ({"splitter": lambda text: [(0, len(text)), (0, len(text))]}, "in order, disjoint, and inside of the text"),
    ],
)
def test_formats_that_would_lose_steps_have_errors(fields, error):
    assert any(error in found for found in format_errors(StepFormat(**fields)))


@pytest.mark.parametrize("name", ALL)
def test_formats_have_no_errors(name):
    assert format_errors(ALL[name]) == []
    assert ALL[name].describe() and ALL[name].closings[0] == ALL[name].close


def test_splitter_that_fails_in_a_run_finds_no_steps():
    def split(text):
        return [(0, 1 // text.count("a"))]

    response = parse_response("<think>b</think><answer>4</answer>", dataclasses.replace(MIG, splitter=split))
    assert response.steps == () and response.answer == "4" and response.format_error == "no step"


def test_steps_are_written_as_their_splitter_reads_them():
    for splitter in ("header", "paragraph", "line", "sentence"):
        format = StepFormat(splitter=splitter)
        assert len(parse_response(render_response(["One is 1.", "Two is 2."], "4", format), format).steps) == 2
    assert StepFormat(splitter=str.split).step == "{text}\n" and MIG.step == "### Step {number}: {text}\n"


def test_descriptions():
    assert MIG.describe() == "<think>, lines '### Step 1: …', </think>, <answer>…</answer>"
    assert FORMATS["plain"].describe() == "paragraphs, \\boxed{…}" and BOXED == ("\\boxed{", "}")
    by_pattern = dataclasses.replace(FORMATS["r1"], splitter=find_splitter("^Step [0-9]+", key="--steps"))
    assert by_pattern.describe_steps() == "lines that match '^Step [0-9]+'"
    usual = "<think>a</think><answer>4</answer>"
    assert SENTENCES.with_usual_tags("<work>a</work><final>4</final>") == usual == MIG.with_usual_tags(usual)
