"""Compare probes, which are encoded in three pieces, with the same text encoded whole."""

import unicodedata

from mig_jax.policy import completions
from mig_jax.text.response_format import TRIAL_ANSWERS, render_response
from mig_jax.text.tokenizer import Tokenizer

# Steps whose last characters may merge with the line break after them.
STEPS = (
    "7+5=12",
    "so it is that.",
    "(a+b)",
    "\\frac{1}{2}",
    "$x$",
    "50%",
    'he said "no!"',
    "A:",
    "你好。",
    "a\n\nb...",
)


def check_probes(
    tokenizer: Tokenizer, steps: tuple[str, ...] = STEPS, answers: tuple[str, ...] = TRIAL_ANSWERS
) -> None:
    """Assert that at every cut of a well-formed response, trunk and probe have the ids of their whole text."""
    tags = tokenizer.tags
    for answer in answers:
        text = render_response(steps, answer, tags)
        ids = tokenizer.encode(text) + [tokenizer.eos_ids[0]]
        parsed = completions.parse_completion(tokenizer, ids, is_truncated=False, max_steps=len(steps), width=len(ids))
        assert parsed.response.is_well_formed and parsed.valid_k.all()
        # Qwen's tokenizer composes e and its accent.
        assert parsed.response.answer == unicodedata.normalize("NFC", answer) or parsed.response.answer == answer
        leaf = [*tokenizer.encode(tags.lead_in), *tokenizer.encode(answer), *tokenizer.encode(tags.close)]
        for cut, position in zip(parsed.cut_k, parsed.response.cuts, strict=True):
            assert tokenizer.decode(ids[:cut]) == text[:position]
            assert ids[:cut] + leaf == tokenizer.encode(text[:position] + tags.lead_in + answer + tags.close)
        # The last probe is the response itself.
        assert ids[: parsed.cut_k[-1]] + leaf == ids[:-1]
