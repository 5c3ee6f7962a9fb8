"""The response format: prompts that ask for it, responses written in it, and the parser.

    <think>
    ### Step 1: …
    ### Step 2: …
    </think>
    <answer>…</answer>

A response is *well formed* if it is one closed think block with at least one step, then one closed answer block, and
nothing else but whitespace. A step has text after its header. The parser also finds the steps of malformed responses.
It never raises, and its time is linear in the length.
"""

import os.path
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from mig_jax.errors import UserError

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)
# Format error of a response that reached the length limit, whatever else is wrong with it.
TRUNCATED = "truncated by the length limit"
# How a well-formed response begins; before its first step, a probe writes this after the prompt.
OPENING = f"{THINK_OPEN}\n"


class AnswerTags(NamedTuple):
    """The tags written before and after an answer, with their whitespace; the parser accepts any whitespace.

    A tokenizer may merge a tag with the adjacent answer text (`>A` is one token in Qwen's vocabulary). A probe is
    encoded in three pieces, so it would then differ from what a policy generates. Therefore each tokenizer uses the
    first pair of `ANSWER_TAGS` that it merges with no answer; see `text/tokenizer.py`.

    open: written before the answer.
    close: written after the answer.
    """

    open: str
    close: str

    @property
    def lead_in(self) -> str:
        """The text of a probe between the last step, whose line break is already written, and the answer."""
        return f"{THINK_CLOSE}\n{self.open}"


PLAIN_TAGS = AnswerTags(ANSWER_OPEN, ANSWER_CLOSE)
# A line break never merges with the text after it, but may with the text before it: `)\n` is often one token.
ANSWER_TAGS = (
    PLAIN_TAGS,
    AnswerTags(f"{ANSWER_OPEN}\n", f" {ANSWER_CLOSE}"),
    AnswerTags(f"{ANSWER_OPEN}\n", f"\n{ANSWER_CLOSE}"),
)

# The ways to close an answer that a policy may be expected to write; the parser accepts any whitespace before the tag.
CLOSINGS = (ANSWER_CLOSE, f" {ANSWER_CLOSE}", f"\n{ANSWER_CLOSE}")

# Answers as in benchmarks, and edge cases. A tokenizer must not merge any of them with the tags around it.
TRIAL_ANSWERS = (
    *"0 7 42 007 1234567 -5 +5 −5 .5 0.25 -3.14 1,234 12,345.67 1e-5 3/4 50% 3\\% $5 5cm 30° 12:30 #1 1;2".split(),
    *r"A B C D E (A) (B) A. A) [A] \text{A} yes no Yes. No True false Paris it's e.g. a_1 'a' `a` *b* <b>".split(),
    *r"x x+1 x^2 2x-1 f(x) {1} [0,1) \frac{1}{2} \sqrt{2} \boxed{42} $x$ $\pi$ \(x\) \left(1\right) 2^{n} n!".split(),
    *"< > / \\ = - _ | ~ & @ ? : ; , . ! ( ) [ ] { } * ^ # % + \" '".split(),
    *"你好 é π ½ √2 ≤3 😀 да ٣ e\u0301".split(),
    *("A, C", "the red cube", "x = 5", "(1, 2)", "(-\\infty, 3]", "5 cm", "10 km/h", "1 000", "two\nlines"),
)

STEP_HEADER = re.compile(r"^### Step [0-9]+:", re.MULTILINE)
_COT_CLOSE = re.compile(f"{THINK_CLOSE}|{ANSWER_OPEN}")
_LINE_END = re.compile(r"[^\S\n]*\n")


class CharSpan(NamedTuple):
    """The characters [start, end) of a completion."""

    start: int
    end: int


class Response(NamedTuple):
    """The parts of a completion. All positions are in characters.

    cuts: positions where a probe may ask for the answer, one after each step. A cut comes after the line break that
      ends its line, because tokens such as `.\\n` cannot be split.
    cot: the reasoning: the text between the think tags, where present.
    open_spans: at most two spans; the reasoning is open before a character inside them, see `_find_open_spans`.
    steps: ordered and disjoint, inside `cot`, each from its header to its last visible character. A header without
      text of its own begins no step, and belongs to the step before it.
    answer: the content of the only answer block after `cot`; None if there is no block, an empty one, or several
      (several answers count as none).
    format_error: why the response is not well formed, in a few words; None if it is.
    """

    cuts: tuple[int, ...]
    cot: CharSpan
    open_spans: tuple[CharSpan, ...]
    steps: tuple[CharSpan, ...]
    answer: str | None
    format_error: str | None

    @property
    def is_well_formed(self) -> bool:
        """Return whether the response has exactly the format of this module."""
        return self.format_error is None


def system_prompt(tags: AnswerTags = PLAIN_TAGS) -> str:
    """Return the system prompt that asks for this format and shows it."""
    return (
        "Solve the problem step by step. Reply in exactly this format, with as many steps as needed:\n"
        f"{OPENING}### Step 1: ...\n### Step 2: ...\n{tags.lead_in}only the final answer{tags.close}"
    )


def render_prompt(
    question: str, *, system: str, n_images: int = 0, choices: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the chat messages that ask a question: images first, lettered choices last.

    Args:
      question: its text.
      system: the system prompt; no system message if empty.
      n_images: image placeholders to put before the text.
      choices: texts to choose from, each shown on its own line as "A. …".
    """
    question = "\n".join([question, *(f"{letter}. {choice}" for letter, choice in choices_by_letter(choices).items())])
    messages = [{"role": "system", "content": system}] if system else []
    # Without images the content is a plain string, because the chat templates of text-only models accept nothing else.
    content = [*[{"type": "image"}] * n_images, {"type": "text", "text": question}] if n_images else question
    return [*messages, {"role": "user", "content": content}]


def choices_by_letter(choices: Sequence[str]) -> dict[str, str]:
    """Return the choices keyed by their letters: A, B, …"""
    return {chr(ord("A") + n): choice for n, choice in enumerate(choices)}


def render_response(steps: Sequence[str], answer: str, tags: AnswerTags = PLAIN_TAGS) -> str:
    """Return the well-formed response with these steps and this answer, as SFT needs it.

    Raises:
      UserError: the response would not parse back to its parts: there are no steps, a step is empty or contains a tag
        or a step header, or the answer is empty.
    """
    lines = [f"### Step {number}: {step.strip()}\n" for number, step in enumerate(steps, start=1)]
    response = f"{OPENING}{''.join(lines)}{tags.lead_in}{answer.strip()}{tags.close}"
    parsed = parse_response(response)
    if not parsed.is_well_formed or len(parsed.steps) != len(lines):
        reason = parsed.format_error or (
            "a step without text" if len(parsed.steps) < len(lines) else "a step inside a step"
        )
        raise UserError(
            f"this solution cannot be written as a response ({reason}); it needs steps and an answer, none of them "
            f"empty, without tags or step headers inside them: {response!r}"
        )
    return response


def parse_response(completion: str, *, is_truncated: bool = False) -> Response:
    """Split a completion into its parts, well formed or not. Never raises.

    Args:
      completion: the text without its end-of-sequence token.
      is_truncated: whether it was truncated by the length limit; it is then not well formed.
    """
    before, opening, _ = completion.partition(THINK_OPEN)
    cot_start = len(before) + len(opening) if opening else 0
    ends = (completion.find(tag, cot_start) for tag in (THINK_CLOSE, ANSWER_OPEN))
    cot = CharSpan(cot_start, next((end for end in ends if end >= 0), len(completion)))
    steps = _find_steps(completion, cot)
    answer = _find_answer(completion[cot.end :])
    format_error = TRUNCATED if is_truncated else _find_format_error(completion, steps, answer)
    cuts = tuple(_after_line_break(completion, step.end) for step in steps)
    return Response(cuts, cot, _find_open_spans(completion), steps, answer, format_error)


def _find_steps(completion: str, cot: CharSpan) -> tuple[CharSpan, ...]:
    """Return the span of each step that has text, from its header to its last visible character."""
    reasoning = completion[cot.start : cot.end]
    headers = [CharSpan(*header.span()) for header in STEP_HEADER.finditer(reasoning)]
    ends = [*(header.start for header in headers[1:]), len(reasoning)]
    starts = [header.start for header, end in zip(headers, ends, strict=False) if reasoning[header.end : end].strip()]
    return tuple(
        CharSpan(cot.start + start, cot.start + start + len(reasoning[start:end].rstrip()))
        for start, end in zip(starts, [*starts, len(reasoning)][1:], strict=True)
    )


def _find_open_spans(completion: str) -> tuple[CharSpan, ...]:
    """Return where the reasoning is open: before such a character, a policy chooses how it goes on or ends.

    Whether it is open before a character depends on the text before that character alone. A policy gradient that is
    summed over tokens chosen in this way has no bias: no choice is left out because of what was chosen.

    The reasoning opens after a think tag at the beginning; whitespace and the tag are outside. Where the completion
    begins with anything else, the reasoning opens as soon as that is certain, because a think tag may never come. It
    closes after the first `</think>` or `<answer>`. If the first think tag comes later, it opens once more. Where no
    tag closes it, the span includes the position after the last character, that of the end-of-sequence.
    """
    blank = len(completion) - len(completion.lstrip())
    begun = len(os.path.commonprefix([completion[blank : blank + len(THINK_OPEN)], THINK_OPEN]))
    if begun == len(THINK_OPEN):
        start = blank + begun
        return (CharSpan(start, _find_closing_end(completion, start)),)
    first = CharSpan(blank + begun + 1, _find_closing_end(completion, 0))
    opening = completion.find(THINK_OPEN)
    if opening < first.end:
        return (first,)
    start = opening + len(THINK_OPEN)
    return first, CharSpan(start, _find_closing_end(completion, start))


def _find_closing_end(completion: str, start: int) -> int:
    """Return the end of the first tag after `start` that closes the reasoning; one more than the length if none."""
    closing = _COT_CLOSE.search(completion, start)
    return closing.end() if closing else len(completion) + 1


def _after_line_break(completion: str, position: int) -> int:
    """Return the position after the next line break if only blanks precede it, else `position` itself.

    There is none if the completion is truncated, or closes the think block on the line of its last step. The lead-in
    of the probe then directly follows the step. No policy would write exactly that, but such responses are malformed or
    nearly so.
    """
    line_end = _LINE_END.match(completion, position)
    return line_end.end() if line_end else position


def _find_answer(tail: str) -> str | None:
    """Return the content of the only answer block; None if it is empty or there are several."""
    if tail.count(ANSWER_OPEN) != 1 or tail.count(ANSWER_CLOSE) != 1:
        return None
    content, closing, _ = tail.partition(ANSWER_OPEN)[2].partition(ANSWER_CLOSE)
    return content.strip() or None if closing else None


def _find_format_error(completion: str, steps: tuple[CharSpan, ...], answer: str | None) -> str | None:
    """Return why a completion is not well formed, or None if it is."""
    counts = {tag: completion.count(tag) for tag in TAGS}
    for tag, count in counts.items():
        if count != 1:
            return f"{tag} {count} times" if count else f"no {tag}"
    positions = [completion.find(tag) for tag in TAGS]
    if positions != sorted(positions):
        return "tags out of order"
    outside = (
        completion[: positions[0]],
        completion[positions[1] + len(THINK_CLOSE) : positions[2]],
        completion[positions[3] + len(ANSWER_CLOSE) :],
    )
    if any(text.strip() for text in outside):
        return "text outside the blocks"
    if not steps:
        return "no step"
    return None if answer else "no answer"
