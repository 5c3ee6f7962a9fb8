"""Whatever is sampled, it is read without an exception, and what is read of it fits."""

import time

import numpy as np

from mig_jax.text.response_format import Response, parse_response
from mig_jax.text.tokenizer import build_character_tokenizer
from tests.text.hostile import hostile_completions, hostile_ids


def check_response(text: str, read: Response) -> None:
    """The invariants of a reading, for any text."""
    assert read.cuts[0] in (0, read.cot.start) or text[read.cot.start : read.cuts[0]].isspace()
    assert 0 <= read.cot.start <= read.cot.end <= len(text)
    assert len(read.cuts) == 1 + len(read.steps) and list(read.cuts) == sorted(read.cuts)
    end = read.cot.start
    for step, cut in zip(read.steps, read.cuts[1:], strict=True):
        assert end <= step.start < step.end <= read.cot.end
        assert text[step.start : step.end].startswith("### Step ")
        assert not text[step.end - 1].isspace()
        # Blanks up to one line break, at most, lie between the end of a step and its cut.
        assert step.end <= cut <= read.cot.end and not text[step.end : cut].strip()
        assert text[step.end : cut].count("\n") == text[step.end : cut].endswith("\n") == (step.end < cut)
        end = cut
    assert read.answer is None or read.answer == read.answer.strip() != ""
    assert not read.is_well_formed or (read.steps and read.answer)


def test_30_000_hostile_completions():
    rng = np.random.default_rng(0)
    tokenizer = build_character_tokenizer()
    kinds = {"well formed": 0, "with steps": 0, "with an answer": 0, "with U+FFFD": 0}
    for completion in hostile_completions(rng, 30_000):
        ids = hostile_ids(rng, completion, tokenizer.vocab_size)
        text, char_end_t = tokenizer.decode_with_ends(ids)
        read = parse_response(text)
        check_response(text, read)

        ends = [0, *char_end_t]
        assert len(char_end_t) == len(ids)
        assert ends[-1] == len(text)
        assert ends == sorted(ends)
        positions = read.cuts
        cuts = tokenizer.cut_tokens(char_end_t, positions)
        for before, cut, position in zip([0, *cuts], cuts, positions, strict=False):
            assert before <= cut <= len(ids)
            # The first boundary at or behind the position.
            assert ends[cut] >= position
            assert cut == 0 or ends[cut - 1] < position

        kinds["well formed"] += read.is_well_formed
        kinds["with steps"] += bool(read.steps)
        kinds["with an answer"] += read.answer is not None
        kinds["with U+FFFD"] += "\ufffd" in text
    # The generator reaches what it is there for.
    assert min(kinds.values()) > 600, kinds


def test_time_is_linear_in_the_length():
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
    start = time.monotonic()
    for piece in pieces:
        text = piece * (1_000_000 // len(piece))
        for completion in (text, "<think>\n" + text, "<think>\n### Step 1:" + text + "</think><answer>"):
            check_response(completion, parse_response(completion))
    assert time.monotonic() - start < 10
