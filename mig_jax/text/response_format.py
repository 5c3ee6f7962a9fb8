"""The shape of a response: how it is asked for, written down, and taken apart again.

    <think>
    ### Step 1: …
    ### Step 2: …
    </think>
    <answer>…</answer>

A response is *well formed* when it is one closed think block with at least one step, then one closed answer block, and
nothing else but whitespace. Steps are found in all others, too, as far as they go: whatever was sampled, there is no
exception, and the time it takes is linear in the length.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)


class AnswerTags(NamedTuple):
    """How an answer is opened and closed in writing, blanks included; reading takes any blanks.

    A tokenizer may merge a tag with the answer beside it (`>A` is one token of Qwen's), and then a probe, which is put
    together of three pieces, is not what a policy would write. So each tokenizer takes the first pair of
    `ANSWER_TAGS` that it merges with nothing; see `text/tokenizer.py`.
    """

    open: str
    close: str

    @property
    def lead_in(self) -> str:
        """What a probe puts between the steps, the last of which has ended its line, and an answer."""
        return f"{THINK_CLOSE}\n{self.open}"


PLAIN_TAGS = AnswerTags(ANSWER_OPEN, ANSWER_CLOSE)
# A line break merges with no answer behind it, but may with one before it: `)\n` is a token of many.
ANSWER_TAGS = (
    PLAIN_TAGS,
    AnswerTags(f"{ANSWER_OPEN}\n", f" {ANSWER_CLOSE}"),
    AnswerTags(f"{ANSWER_OPEN}\n", f"\n{ANSWER_CLOSE}"),
)

# Answers as they come in benchmarks, and as they could be: a tokenizer must merge none of them with the tags around it.
TRIAL_ANSWERS = (
    *"0 7 42 007 1234567 -5 +5 −5 .5 0.25 -3.14 1,234 12,345.67 1e-5 3/4 50% 3\\% $5 5cm 30° 12:30 #1 1;2".split(),
    *r"A B C D E (A) (B) A. A) [A] \text{A} yes no Yes. No True false Paris it's e.g. a_1 'a' `a` *b* <b>".split(),
    *r"x x+1 x^2 2x-1 f(x) {1} [0,1) \frac{1}{2} \sqrt{2} \boxed{42} $x$ $\pi$ \(x\) \left(1\right) 2^{n} n!".split(),
    *"< > / \\ = - _ | ~ & @ ? : ; , . ! ( ) [ ] { } * ^ # % + \" '".split(),
    *"你好 é π ½ √2 ≤3 😀 да ٣ e\u0301".split(),
    *("A, C", "the red cube", "x = 5", "(1, 2)", "(-\\infty, 3]", "5 cm", "10 km/h", "1 000", "two\nlines"),
)

_STEP = re.compile(r"^### Step [0-9]+:", re.MULTILINE)
_LINE_END = re.compile(r"[^\S\n]*\n")


class Span(NamedTuple):
    """Characters [start, end) of a completion."""

    start: int
    end: int


class Response(NamedTuple):
    """Where the parts of a completion are.

    cuts: `[K+1]` where the answer can be asked for, before the first step and after each: behind the think tag when the
      completion opens with it, else 0; then the end of each step. The one line break that ends the line belongs to
      what stands before the cut, because tokens such as `.\\n` cannot be cut in two.
    cot: the reasoning, between the think tags as far as they are there.
    steps: ordered and disjoint, inside `cot`, each from its header to its last visible character.
    answer: what the one answer block behind `cot` holds; None when there is none, or nothing in it, or several blocks
      (a volley of answers is no answer).
    format_error: why the response is not well formed, in a few words; None when it is.
    """

    cuts: tuple[int, ...]
    cot: Span
    steps: tuple[Span, ...]
    answer: str | None
    format_error: str | None

    @property
    def is_well_formed(self) -> bool:
        return self.format_error is None


def system_prompt(tags: AnswerTags = PLAIN_TAGS) -> str:
    """What asks for this format, and shows it."""
    return (
        "Solve the problem step by step. Reply in exactly this format, with as many steps as needed:\n"
        f"{THINK_OPEN}\n### Step 1: ...\n### Step 2: ...\n{tags.lead_in}only the final answer{tags.close}"
    )


def render_prompt(
    question: str, *, system: str, n_images: int = 0, choices: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The chat messages that ask a question, images first, choices last; without a system message when it is empty."""
    question = "\n".join([question, *(f"{letter}. {choice}" for letter, choice in choices_by_letter(choices).items())])
    messages = [{"role": "system", "content": system}] if system else []
    # A plain string without images: templates of models that cannot see know nothing else.
    content = [*[{"type": "image"}] * n_images, {"type": "text", "text": question}] if n_images else question
    return [*messages, {"role": "user", "content": content}]


def choices_by_letter(choices: Sequence[str]) -> dict[str, str]:
    """The choices by their letters: A, B, …"""
    return {chr(ord("A") + n): choice for n, choice in enumerate(choices)}


def render_response(steps: Sequence[str], answer: str, tags: AnswerTags = PLAIN_TAGS) -> str:
    """The well-formed response with these steps and this answer, as demonstrations need it.

    Raises:
      ValueError: reading the response would not give them back: no steps, a tag or a step's header inside one, or
        nothing for an answer.
    """
    lines = [f"### Step {number}: {step.strip()}" for number, step in enumerate(steps, start=1)]
    thinking = "\n".join([THINK_OPEN, *lines])
    response = f"{thinking}\n{tags.lead_in}{answer.strip()}{tags.close}"
    read = parse_response(response)
    if not read.is_well_formed or len(read.steps) != len(lines):
        raise ValueError(f"not a demonstration ({read.format_error or 'a step within a step'}): {response!r}")
    return response


def parse_response(completion: str, *, is_truncated: bool = False) -> Response:
    """Find the parts of a completion, well formed or not. Never raises.

    Args:
      completion: text without its end-of-sequence.
      is_truncated: it was cut off by the length limit, hence is not well formed.
    """
    before, opening, _ = completion.partition(THINK_OPEN)
    cot_start = len(before) + len(opening) if opening else 0
    ends = (completion.find(tag, cot_start) for tag in (THINK_CLOSE, ANSWER_OPEN))
    cot = Span(cot_start, next((end for end in ends if end >= 0), len(completion)))
    steps = _find_steps(completion, cot)
    answer = _find_answer(completion[cot.end :])
    format_error = "cut off by the length limit" if is_truncated else _find_format_error(completion, steps, answer)
    begins_with_tag = opening and not before.strip()
    first = _behind_line_end(completion, cot_start) if begins_with_tag else 0
    cuts = (first, *(_behind_line_end(completion, step.end) for step in steps))
    return Response(cuts, cot, steps, answer, format_error)


def _find_steps(completion: str, cot: Span) -> tuple[Span, ...]:
    reasoning = completion[cot.start : cot.end]
    starts = [header.start() for header in _STEP.finditer(reasoning)]
    return tuple(
        Span(cot.start + start, cot.start + start + len(reasoning[start:end].rstrip()))
        for start, end in zip(starts, [*starts, len(reasoning)][1:], strict=True)
    )


def _behind_line_end(completion: str, position: int) -> int:
    """Behind the line break that follows with at most blanks before it; the position itself when there is none.

    A completion that is cut off, or that closes the think block on the line of its last step, has none. The lead-in is
    then glued to the step: a probe that no policy would write quite so, but those steps are malformed or nearly so.
    """
    line_end = _LINE_END.match(completion, position)
    return line_end.end() if line_end else position


def _find_answer(tail: str) -> str | None:
    """The content of the only answer block; None when it is empty or not the only one."""
    if tail.count(ANSWER_OPEN) != 1 or tail.count(ANSWER_CLOSE) != 1:
        return None
    content, closing, _ = tail.partition(ANSWER_OPEN)[2].partition(ANSWER_CLOSE)
    return content.strip() or None if closing else None


def _find_format_error(completion: str, steps: tuple[Span, ...], answer: str | None) -> str | None:
    """Return why a completion is not well formed, or None when it is."""
    counts = {tag: completion.count(tag) for tag in TAGS}
    for tag, count in counts.items():
        if count != 1:
            return f"{tag} {count} times" if count else f"no {tag}"
    places = [completion.find(tag) for tag in TAGS]
    if places != sorted(places):
        return "tags out of order"
    outside = (
        completion[: places[0]],
        completion[places[1] + len(THINK_CLOSE) : places[2]],
        completion[places[3] + len(ANSWER_CLOSE) :],
    )
    if any(text.strip() for text in outside):
        return "text outside the blocks"
    if not steps:
        return "no step"
    return None if answer else "no answer"
