"""Sampled ids become steps, cuts and masks, at exact token boundaries."""

import time

import numpy as np
import pytest

from mig_jax.policy import completions
from mig_jax.text import tokenizer as tokenizers
from mig_jax.text.step_format import MIG
from tests.policy.probes_as_written import check_closing
from tests.text import byte_pairs
from tests.text.hostile import hostile_completions, hostile_ids

OPENING = MIG.opening
RESPONSE = "<think>\n### Step 1: 7+5=2\n### Step 2: 2-3=9\n</think>\n<answer>29</answer>"


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.build_character_tokenizer()


@pytest.fixture(scope="module")
def merging():
    """Return a tokenizer that, like Qwen's, merges ".\\n" and ".</" into one token, and has no token for a tag."""
    return tokenizers.wrap(byte_pairs.to_fast(byte_pairs.train_core()))


@pytest.fixture(scope="module")
def greedy():
    """Return a tokenizer with tokens that end a step and begin what follows: ".\n###", "a\n</" and half a character."""
    merged = ("##", "###", ".\n", ".\n###", "</", "a\n", "a\n</", b"\x82</")
    return tokenizers.wrap(byte_pairs.to_fast(byte_pairs.merge_core(merged)))


def parse_ids(tokenizer, ids, *, is_truncated=False, max_steps=3, width=None, process_mask="closing"):
    return completions.parse_completion(
        tokenizer,
        ids,
        is_truncated=is_truncated,
        max_steps=max_steps,
        width=width or len(ids),
        process_mask=process_mask,
    )


def parse(tokenizer, text, *, is_truncated=False, **kwargs):
    ids = tokenizer.encode(text) + ([] if is_truncated else [tokenizer.eos_ids[0]])
    return parse_ids(tokenizer, ids, is_truncated=is_truncated, **kwargs)


def pieces(tokenizer, text, mask):
    """Return the text of the tokens where `mask` is True, the end-of-sequence as $."""
    ids = [*tokenizer.encode(text), None]
    return "".join(
        "$" if id is None else tokenizer.decode([id]) for id, chosen in zip(ids, mask, strict=True) if chosen
    )


@pytest.mark.parametrize("process_mask, closing", [("closing", 2), ("think", -1)])
def test_parsed_completion_by_hand(tokenizer, process_mask, closing):
    """Tokens: <think> \\n | '### Step ' '1' ':' ' ' '7' '+' '5' '=' '2' \\n | ten more | </think> …"""
    parsed = parse(tokenizer, RESPONSE, width=60, process_mask=process_mask)
    assert parsed.text == RESPONSE and parsed.response.is_well_formed
    assert (parsed.cuts, parsed.prefixes, parsed.counts, parsed.n_steps) == ((12, 22), ((), ()), (1, 1), 2)
    # <think> is outside; the line break before the first step belongs to it, the others to the steps they end.
    np.testing.assert_array_equal(parsed.step_t, [-1] + [0] * 11 + [1] * 10 + [closing] + [-1] * 37)


def test_cuts_follow_the_text_of_each_step(tokenizer):
    parsed = parse(tokenizer, RESPONSE)
    ids = tokenizer.encode(RESPONSE)
    for cut, step in zip(parsed.cuts, parsed.response.steps, strict=True):
        assert tokenizer.decode(ids[:cut]) == RESPONSE[: step.end] + "\n"


def test_cut_includes_a_line_break_merged_with_the_end_of_a_step(merging):
    text = "<think>\n### Step 1: so it is that.\n### Step 2: 5\n</think>\n<answer>\nA </answer>"
    ids = merging.encode(text)
    assert ".\n" in [merging.decode([id]) for id in ids]
    parsed = parse(merging, text)
    trunks = [merging.decode(ids[:cut]) for cut in parsed.cuts]
    assert trunks == [text[:35], text[: text.index("</think>")]] and not any(parsed.prefixes)
    assert [text[step.start : step.end][-5:] for step in parsed.response.steps] == ["that.", " 2: 5"]


def test_whitespace_merged_with_the_end_of_a_step_stays_in_the_trunk(merging):
    text = "<think>\n### Step 1: so it is that.\n\n### Step 2: 5\n</think>\n<answer>\nA </answer>"
    parsed, ids = parse(merging, text), merging.encode(text)
    assert ".\n\n" in [merging.decode([id]) for id in ids]
    assert merging.decode(ids[: parsed.cuts[0]]) == text[:36] and parsed.prefixes == ((), ())


def test_closing_tag_merged_with_the_end_of_a_step_is_not_in_the_trunk(tokenizer, merging):
    text = "<think>\n### Step 1: so it is that.</think>\n<answer>\nA </answer>"
    parsed, ids = parse(merging, text), merging.encode(text)
    (cut,), (prefix,) = parsed.cuts, parsed.prefixes
    assert [merging.decode([id]) for id in ids[cut - 1 : cut + 3]] == [" that", ".</", "think", ">\n"]
    assert merging.decode(prefix) == "."
    # The probe reads the tag of its lead-in alone.
    probed = merging.decode([*ids[:cut], *prefix, *merging.encode(merging.format.lead_in)])
    assert probed == f"{text[:34]}</think>\n<answer>\n"
    # The policy closes the reasoning with these three tokens.
    assert pieces(merging, text, parsed.step_t == 1) == ".</think>\n"
    assert check_closing(tokenizer) == []
    assert set(check_closing(merging)) == {".</", ")</", "}</", "$</", "%</"}


def test_token_that_begins_the_next_step_is_not_in_the_trunk(greedy):
    text = "<think>\n### Step 1: a.\n### Step 2: a\n</think>\n<answer>\nA </answer>"
    parsed, ids = parse(greedy, text), greedy.encode(text)
    assert [greedy.decode([ids[cut]]) for cut in parsed.cuts] == [".\n###", "a\n</"]
    assert [greedy.decode(prefix) for prefix in parsed.prefixes] == [".\n", "a\n"]
    for cut, prefix, position in zip(parsed.cuts, parsed.prefixes, parsed.response.cuts, strict=True):
        assert greedy.decode([*ids[:cut], *prefix]) == text[:position]


def test_bytes_of_a_split_character_are_not_in_the_trunk(greedy):
    """The last byte of a character is merged with the tag: its other bytes are after the cut too."""
    text = "<think>\n### Step 1: b。</think>\n<answer>\nA </answer>"
    parsed, ids = parse(greedy, text), greedy.encode(text)
    (cut,), (prefix,) = parsed.cuts, parsed.prefixes
    assert [greedy.token_bytes[id] for id in ids[cut : cut + 3]] == [b"\xe3", b"\x80", b"\x82</"]
    assert (greedy.decode(ids[:cut]), greedy.decode(prefix)) == (f"{OPENING}### Step 1: b", "。")


@pytest.mark.parametrize(
    "n_steps, max_steps, expected",
    [
        (0, 3, []),
        (1, 3, [1]),
        (3, 3, [1, 2, 3]),
        (4, 3, [2, 3, 4]),
        (5, 3, [2, 4, 5]),
        (7, 3, [3, 5, 7]),
        (9, 3, [3, 6, 9]),
        (30, 4, [8, 15, 23, 30]),
        (5, 1, [5]),
    ],
)
def test_probes_are_spread_over_all_steps(n_steps, max_steps, expected):
    assert completions.probed_steps(n_steps, max_steps) == expected


def test_spread_is_even_and_ends_with_the_last_step():
    for n_steps in range(1, 60):
        for max_steps in range(1, 20):
            counts = np.diff([0, *completions.probed_steps(n_steps, max_steps)])
            assert len(counts) == min(n_steps, max_steps) and counts.sum() == n_steps
            assert counts.min() >= 1 and counts.max() - counts.min() <= 1


def test_steps_that_share_a_probe_are_one_interval(tokenizer):
    parsed = parse(tokenizer, RESPONSE, max_steps=1)
    assert (parsed.cuts, parsed.counts, parsed.n_steps) == ((22,), (2,), 2)
    np.testing.assert_array_equal(parsed.step_t[:24], [-1] + [0] * 21 + [1, -1])
    text = OPENING + "".join(f"### Step {n}: a\n" for n in range(1, 6)) + "</think>\n<answer>4</answer>"
    parsed = parse(tokenizer, text, max_steps=3)
    assert (parsed.counts, parsed.n_steps) == ((2, 2, 1), 5)
    ids = tokenizer.encode(text)
    last_lines = [tokenizer.decode(ids[:cut]).splitlines()[-1] for cut in parsed.cuts]
    assert last_lines == ["### Step 2: a", "### Step 4: a", "### Step 5: a"]
    # A step has six tokens, and the first one the line break of the opening too.
    assert [int((parsed.step_t == k).sum()) for k in range(4)] == [13, 12, 6, 1]


def test_header_without_text_is_not_probed(tokenizer):
    padded = RESPONSE.replace("### Step 2", "### Step 9:\n### Step 9: \n### Step 2")
    parsed = parse(tokenizer, padded)
    assert (len(parsed.cuts), parsed.counts, parsed.n_steps) == (2, (1, 1), 2)


def test_truncated_completion_keeps_its_last_token(tokenizer):
    parsed = parse(tokenizer, RESPONSE[:40], is_truncated=True)
    assert parsed.text == RESPONSE[:40] and not parsed.response.is_well_formed
    assert len(parsed.cuts) == 2 and parsed.cuts[-1] == len(parsed.step_t)


@pytest.mark.parametrize(
    "text, closing, think",
    [
        ("<think>\nab\n</think>\n<answer>4</answer>", "\nab\n</think>", "\nab\n"),
        (" \n<think>a</think>b", "a</think>", "a"),
        # Nothing closes the reasoning: the end-of-sequence does.
        ("<think>\nab", "\nab$", "\nab"),
        # The answer does.
        ("<think>\na<answer>4</answer>", "\na<answer>", "\na"),
        ("<think>a<answer>4</answer></think><answer>5</answer>", "a<answer>", "a<answer>4</answer>"),
        # No think tag, or text before it. Whether a tag will come is not known before the first token.
        ("ab</think>c", "b</think>", "ab"),
        ("ab", "b$", "ab"),
        ("ab<think>c</think>d", "b<think>c</think>", "c"),
        ("a</think>b<think>c</think>d", "</think>c</think>", "c"),
        ("", "", ""),
        ("</think>", "", ""),
        ("<answer>4", "", ""),
    ],
)
def test_masks(tokenizer, text, closing, think):
    masks = {name: parse(tokenizer, text, process_mask=name).step_t >= 0 for name in completions.PROCESS_MASKS}
    assert {name: pieces(tokenizer, text, mask) for name, mask in masks.items()} == {
        "closing": closing,
        "think": think,
    }


def test_masks_of_tags_in_several_tokens(merging):
    text = "<think>\n### Step 1: 5\n</think>\n<answer>\nA </answer>"
    closing, think = (parse(merging, text, process_mask=name).step_t for name in ("closing", "think"))
    # The line break is in the token that ends the think tag.
    assert pieces(merging, text, closing >= 0) == "### Step 1: 5\n</think>\n"
    assert pieces(merging, text, closing == 1) == "</think>\n"
    assert pieces(merging, text, think >= 0) == ">\n### Step 1: 5\n"


def hostile_continuations(rng, tokenizer, n):
    """Yield pairs of rows of ids with a shared beginning, whose length is given, and whether each is truncated."""
    rows = [hostile_ids(rng, text, tokenizer.vocab_size)[:80] for text in hostile_completions(rng, 2 * n)]
    for first, second in zip(rows[:n], rows[n:], strict=True):
        shared = int(rng.integers(0, len(first) + 1))
        rest = second if rng.random() < 0.5 else second[shared:]
        pair = first, first[:shared] + rest
        is_truncated = rng.random(2) < 0.5
        yield (
            shared,
            [
                ([*ids, *([] if cut_off else [tokenizer.eos_ids[0]])], bool(cut_off))
                for ids, cut_off in zip(pair, is_truncated, strict=True)
            ],
        )


@pytest.mark.parametrize("kind", ["tokenizer", "merging", "greedy"])
def test_closing_mask_of_a_token_depends_on_the_tokens_before_it(kind, request):
    """Compare responses that share a beginning: their masks agree there, and at the first token that differs."""
    tok, rng = request.getfixturevalue(kind), np.random.default_rng(2)
    disagreeing, chosen = 0, 0
    for shared, rows in hostile_continuations(rng, tok, 3000):
        masks = {
            name: [
                parse_ids(tok, ids, is_truncated=cut_off, process_mask=name, width=200).step_t >= 0
                for ids, cut_off in rows
            ]
            for name in completions.PROCESS_MASKS
        }
        end = min(shared + 1, *(len(ids) for ids, _ in rows))
        first, second = masks["closing"]
        np.testing.assert_array_equal(first[:end], second[:end], err_msg=repr(rows))
        chosen += bool(first[:end].any())
        disagreeing += not np.array_equal(masks["think"][0][:end], masks["think"][1][:end])
    assert chosen > 1000 and disagreeing > 100, "the test must tell the masks apart"


def test_every_prefix_has_the_mask_of_the_whole(tokenizer, merging, greedy):
    """Check it at each token, for responses with every tag in every order."""
    texts = (
        RESPONSE,
        f"Sure. {RESPONSE}",
        "<think>a<answer>b</think>c",
        "a</think>b<think>c</think>d<think>e",
        "<thin <think>a",
        " \n <think> \n",
        "é<think>😀</think>",
    )
    for tok in (tokenizer, merging, greedy):
        for text in texts:
            ids = tok.encode(text)
            whole = parse_ids(tok, ids, is_truncated=True).step_t >= 0
            for n in range(len(ids)):
                stopped = parse_ids(tok, [*ids[:n], tok.eos_ids[0]]).step_t >= 0
                np.testing.assert_array_equal(stopped, whole[: n + 1], err_msg=repr(tok.decode(ids[:n])))


@pytest.mark.parametrize("process_mask", completions.PROCESS_MASKS)
def test_intervals_of_hostile_completions(tokenizer, merging, greedy, process_mask):
    rng = np.random.default_rng(3)
    n_prefixes = 0
    for tok in (tokenizer, merging, greedy):
        for text in hostile_completions(rng, 2000):
            # More steps that end with a merged token.
            text = text.replace("a\n", "a.\n").replace("b\n", "b.")
            ids = tok.encode(text) if rng.random() < 0.5 else hostile_ids(rng, text, tok.vocab_size)
            is_truncated = bool(rng.random() < 0.5)
            max_steps = int(rng.integers(1, 4))
            parsed = parse_ids(
                tok, ids, is_truncated=is_truncated, max_steps=max_steps, width=len(ids) + 3, process_mask=process_mask
            )
            n = len(parsed.cuts)
            assert n == len(parsed.prefixes) == len(parsed.counts) == min(parsed.n_steps, max_steps)
            assert sum(parsed.counts) == parsed.n_steps and min(parsed.counts, default=1) >= 1
            assert list(parsed.cuts) == sorted(parsed.cuts) and all(0 <= cut <= len(ids) for cut in parsed.cuts)
            assert (parsed.step_t[len(ids) :] == -1).all() and parsed.step_t.max(initial=-1) <= n
            inside = parsed.step_t >= 0
            interval = np.searchsorted(parsed.cuts, np.arange(len(parsed.step_t)), side="right")
            np.testing.assert_array_equal(parsed.step_t[inside], interval[inside])
            last_steps = np.cumsum(parsed.counts) - 1
            for cut, prefix, last in zip(parsed.cuts, parsed.prefixes, last_steps, strict=True):
                position = parsed.response.cuts[last]
                if prefix and "\ufffd" not in parsed.text[:position]:
                    assert tok.decode([*ids[:cut], *prefix]) == parsed.text[:position]
                    n_prefixes += 1
    assert n_prefixes > 200


def test_stacked_cuts(tokenizer, merging):
    one = parse(tokenizer, RESPONSE)
    none = parse(tokenizer, "no steps")
    cuts, count_bk = completions.stack_cuts([one, none], max_steps=4)
    np.testing.assert_array_equal(cuts.cut_k, [[12, 22, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(cuts.valid_k, [[True, True, False, False], [False] * 4])
    np.testing.assert_array_equal(count_bk, [[1, 1, 0, 0], [0, 0, 0, 0]])
    assert cuts.prefix_kx is None and cuts.prefix_length_k is None

    split = parse(merging, f"{OPENING}### Step 1: 5\n### Step 2: so.</think>")
    cuts, _ = completions.stack_cuts([split, split._replace(prefixes=((), (1, 2, 3)))], max_steps=2)
    (dot,) = merging.encode(".")
    np.testing.assert_array_equal(cuts.prefix_kx, [[[0] * 4, [dot, 0, 0, 0]], [[0] * 4, [1, 2, 3, 0]]])
    np.testing.assert_array_equal(cuts.prefix_length_k, [[0, 1], [0, 3]])


def test_parsing_time_is_linear_in_the_length(merging):
    pieces = ("### Step 1: a.</", "\n### Step 1: a.\n", "<think>", "</think>", ".</", "### Step 1:\n", " \n")
    start = time.process_time()
    for piece in pieces:
        text = OPENING + piece * (100_000 // len(piece)) + "</think>"
        for process_mask in completions.PROCESS_MASKS:
            parse(merging, text, max_steps=16, process_mask=process_mask)
    assert time.process_time() - start < 10
