"""Fuzz tests: any completion is parsed without an exception, and its parts are consistent."""

import time

import numpy as np

from mig_jax.text.response_format import Response, parse_response
from mig_jax.text.splitters import STEP_HEADERS
from mig_jax.text.tokenizer import build_character_tokenizer
from tests.text.hostile import hostile_completions, hostile_ids


def check_response(text: str, response: Response) -> None:
    """Check the invariants of a parsed response, for any text."""
    assert 0 <= response.cot.start <= response.cot.end <= len(text)
    assert len(response.cuts) == len(response.steps) and list(response.cuts) == sorted(response.cuts)
    end = response.cot.start
    for step, cut in zip(response.steps, response.cuts, strict=True):
        assert end <= step.start < step.end <= response.cot.end
        assert not text[step.end - 1].isspace()
        # It has text between its header and the next one, or its end.
        assert STEP_HEADERS(text[step.start : step.end]) == [(0, step.end - step.start)]
        # Between the end of a step and its cut there are only blanks, up to one line break.
        assert step.end <= cut <= response.cot.end and not text[step.end : cut].strip()
        assert text[step.end : cut].count("\n") == text[step.end : cut].endswith("\n") == (step.end < cut)
        end = cut
    opens = [position for span in response.open_spans for position in span if span.start <= span.end]
    assert opens == sorted(opens) and all(0 <= position <= len(text) + 1 for position in opens)
    assert response.answer is None or response.answer == response.answer.strip() != ""
    assert not response.is_well_formed or (response.steps and response.answer)


def test_hostile_completions():
    rng = np.random.default_rng(0)
    tokenizer = build_character_tokenizer()
    kinds = {"well formed": 0, "with steps": 0, "with an answer": 0, "with U+FFFD": 0}
    for completion in hostile_completions(rng, 30_000):
        ids = hostile_ids(rng, completion, tokenizer.vocab_size)
        text, char_end_t = tokenizer.decode_with_ends(ids)
        response = parse_response(text)
        check_response(text, response)

        ends = [0, *char_end_t]
        assert len(char_end_t) == len(ids)
        assert ends[-1] == len(text)
        assert ends == sorted(ends)
        positions = response.cuts
        cuts = tokenizer.cut_tokens(char_end_t, positions)
        for before, cut, position in zip([0, *cuts], cuts, positions, strict=False):
            assert before <= cut <= len(ids)
            # The first token boundary at or after the position.
            assert ends[cut] >= position
            assert cut == 0 or ends[cut - 1] < position

        kinds["well formed"] += response.is_well_formed
        kinds["with steps"] += bool(response.steps)
        kinds["with an answer"] += response.answer is not None
        kinds["with U+FFFD"] += "\ufffd" in text
    # The generator covers every kind.
    assert min(kinds.values()) > 600, kinds


def test_parsing_time_is_linear_in_the_length():
    pieces = [
        "<think>",
        "</think>",
        "<answer>",
        "### Step 1:\n",
        "\n### Step 1",
        "[",
        " \n",
        "### Step " + "9" * 50,
        "<",
    ]

    def seconds(length: int) -> float:
        """Return CPU seconds to parse texts of this many characters."""
        start = time.process_time()
        for piece in pieces:
            text = piece * (length // len(piece))
            for completion in (text, "<think>\n" + text, "<think>\n### Step 1:" + text + "</think><answer>"):
                check_response(completion, parse_response(completion))
        return time.process_time() - start

    seconds(10_000)
    assert seconds(400_000) < 9 * seconds(100_000)  # linear: 4 times as long, quadratic: 16 times
