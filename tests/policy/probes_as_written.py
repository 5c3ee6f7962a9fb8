"""Compare probes, which are encoded in pieces, with the same text encoded whole."""

import unicodedata

from mig_jax.policy import completions, encoding
from mig_jax.text.response_format import TRIAL_ANSWERS, parse_response, render_response
from mig_jax.text.tokenizer import Tokenizer, merging_answers

# Steps whose last characters may merge with the line break after them, or with a closing tag.
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
# What may be written between a step and the closing tag.
SPACES = ("", " ", "\n", "\n\n", " \n")


def check_probes(
    tokenizer: Tokenizer, steps: tuple[str, ...] = STEPS, answers: tuple[str, ...] = TRIAL_ANSWERS
) -> None:
    """Assert that at every cut of a well-formed response, trunk and probe have the ids of their whole text."""
    format = tokenizer.format
    for answer in answers:
        text = render_response(steps, answer, format)
        ids = tokenizer.encode(text) + [tokenizer.eos_ids[0]]
        parsed = parse(tokenizer, ids, max_steps=len(steps))
        assert parsed.response.is_well_formed and not any(parsed.prefixes)
        # Qwen's tokenizer composes e and its accent.
        assert parsed.response.answer == unicodedata.normalize("NFC", answer) or parsed.response.answer == answer
        leaf = [*tokenizer.encode(format.lead_in), *tokenizer.encode(answer), *tokenizer.encode(format.close)]
        for cut, position in zip(parsed.cuts, parsed.response.cuts, strict=True):
            assert tokenizer.decode(ids[:cut]) == text[:position]
            assert ids[:cut] + leaf == tokenizer.encode(text[:position] + format.lead_in + answer + format.close)
        # The last probe is the response itself.
        assert ids[: parsed.cuts[-1]] + leaf == ids[:-1]
        # The probe before the first step begins as the response does.
        opening = encoding.opening_ids(tokenizer)
        assert opening == ids[: len(opening)] and tokenizer.decode(opening) == format.opening
        assert opening + leaf == tokenizer.encode(format.opening + format.lead_in + answer + format.close)


def check_closing(tokenizer: Tokenizer, steps: tuple[str, ...] = STEPS) -> list[str]:
    """Assert that no probe reads a part of the closing tag, however it follows the last step.

    Returns:
      The tokens that were split because they contain the end of a step and visible text after it.
    """
    split = []
    for step in steps:
        for space in SPACES:
            before = f"<think>\n### Step 1: {step}"
            text = f"{before}{space}</think>\n<answer>4</answer>"
            ids = tokenizer.encode(text) + [tokenizer.eos_ids[0]]
            parsed = parse(tokenizer, ids, max_steps=1)
            (cut,), (prefix,), (position,) = parsed.cuts, parsed.prefixes, parse_response(text).cuts
            trunk = tokenizer.decode(ids[:cut])
            if prefix:
                # Trunk and prefix are what the policy writes if it ends there.
                assert trunk + tokenizer.decode(prefix) == text[:position]
                assert [*ids[:cut], *prefix] == tokenizer.encode(text[:position])
                split.append(tokenizer.decode(ids[cut : cut + 1]))
            else:
                # Only whitespace that is merged with the end of the step goes beyond its line.
                assert text.startswith(trunk) and trunk.rstrip() == before and len(trunk) >= position
            # No visible character of the closing tag is in the trunk, and all tokens of the tag are in the mask.
            closes = [t for t, step in enumerate(parsed.step_t) if step == 1]
            assert closes[0] == cut and tokenizer.decode(ids[: closes[-1] + 1]).rstrip().endswith("</think>")
    return split


def parse(tokenizer: Tokenizer, ids: list[int], *, max_steps: int) -> completions.ParsedCompletion:
    """Parse ids that end with their end-of-sequence."""
    return completions.parse_completion(
        tokenizer, ids, is_truncated=False, max_steps=max_steps, width=len(ids), process_mask="closing"
    )


def check_format(tokenizer: Tokenizer, answers: tuple[str, ...] = TRIAL_ANSWERS) -> None:
    """Assert that trunk and probe are what the policy would write if it answered there, in the tokenizer's format."""
    format = tokenizer.format
    assert merging_answers(tokenizer, TRIAL_ANSWERS) == []
    checked = 0
    for answer in answers:
        text = format.write([step for step in STEPS if "\n" not in step and step != "A:"], answer)
        ids = tokenizer.encode(text)
        if tokenizer.decode(ids) != text or parse_response(text, format).answer != answer:
            continue  # no box can hold a brace alone, and Qwen's tokenizer composes e and its accent
        parsed = parse(tokenizer, [*ids, tokenizer.eos_ids[0]], max_steps=len(STEPS))
        assert parsed.response.is_well_formed and parsed.n_steps >= 3
        leaf = [*tokenizer.encode(format.lead_in), *tokenizer.encode(answer), *tokenizer.encode(format.close)]
        for k, (cut, prefix) in enumerate(zip(parsed.cuts, parsed.prefixes, strict=True), start=1):
            written = [*ids[:cut], *prefix, *leaf]
            stopped = tokenizer.decode(written)
            # The end of the trunk is as the policy has written it: "\\n\\n" may be one token or two.
            assert tokenizer.encode(stopped)[-len(leaf) - len(prefix) :] == [*prefix, *leaf], stopped
            response = parse_response(stopped, format)
            assert response.is_well_formed and response.answer == answer and len(response.steps) == k, stopped
        whole = format.opening + format.lead_in + answer + format.close
        assert tokenizer.encode(whole) == [*encoding.opening_ids(tokenizer), *leaf]
        checked += 1
    assert checked > len(answers) // 2
