"""Hostile completions for fuzz tests: random, truncated, nested, and in every script."""

from collections.abc import Iterator

import numpy as np

FRAGMENTS = (
    *("<think>", "</think>", "<answer>", "</answer>", "<think", "think>", "</", "<", ">", "< think >", "<THINK>"),
    *(
        "### Step 1:",
        "### Step 12:",
        "### Step ",
        "###",
        "# ",
        "Step 3:",
        "\n### Step 2: ",
        "\n### Step 99999999999:",
        "1:",
    ),
    *("\n", "\n\n", "\r\n", "\r", " ", "\t", "\x0b", "\x85", "\u2028", "\u00a0", "\u3000", "\x00", "\x1b[2J"),
    *("7", "42", "-3", "3/4", "0.5", "1e999", r"\frac{1}{2}", r"\boxed{", "{", "}", "(", "[" * 20, "$", "%", "\\"),
    *("é", "e\u0301", "你好", "😀", "👩\u200d👧", "\u202e", "\ufeff", "\ufffd", "\U0010ffff", "ß", "İ", "٣"),
    *("<|im_end|>", "<|im_start|>assistant\n", "<|endoftext|>", "&lt;think&gt;", "{{ x }}", "%s", "{0}", "lorem ipsum"),
)
FRAME = ("<think>\n", "### Step 1: a\n", "### Step 2: b\n", "</think>\n", "<answer>", "4", "</answer>")


def hostile_completions(rng: np.random.Generator, n: int) -> Iterator[str]:
    """Yield `n` completions: random fragments, or a truncated well-formed response with fragments inserted."""
    is_framed = rng.random(n) < 0.6
    kept = np.where(rng.random(n) < 0.3, rng.random(n), 1.0)
    n_fragments = rng.integers(0, 12, size=n)
    for frame, share, count in zip(is_framed.tolist(), kept.tolist(), n_fragments.tolist(), strict=True):
        parts = list(FRAME) if frame else []
        for fragment, position in rng.integers(2**30, size=(count, 2)).tolist():
            parts.insert(position % (len(parts) + 1), FRAGMENTS[fragment % len(FRAGMENTS)])
        text = "".join(parts)
        yield text[: round(share * len(text))]


def hostile_ids(rng: np.random.Generator, text: str, vocab_size: int) -> list[int]:
    """Encode a text byte by byte for the character tokenizer; half of the time insert random and invalid ids."""
    ids = list(text.encode())
    if rng.random() < 0.5:
        for position in rng.integers(0, len(ids) + 1, size=rng.integers(0, 6)).tolist():
            ids.insert(position, int(rng.integers(-3, vocab_size + 50)))
    return ids
