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
from typing import NamedTuple

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
TAGS = (THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE)

# What a probe puts between the steps and an answer. ANSWER_CLOSE follows the answer and is scored with it.
ANSWER_LEAD_IN = f"\n{THINK_CLOSE}\n{ANSWER_OPEN}"

SYSTEM_PROMPT = """\
Solve the problem step by step. Reply in exactly this format, with as many steps as needed:
<think>
### Step 1: ...
### Step 2: ...
</think>
<answer>only the final answer</answer>"""

_STEP = re.compile(r"^### Step [0-9]+:", re.MULTILINE)


class Span(NamedTuple):
    """Characters [start, end) of a completion."""

    start: int
    end: int


class Response(NamedTuple):
    """Where the parts of a completion are.

    start: where the first step could begin, so what stands before it is no step yet: behind the think tag when the
      completion opens with it, else 0.
    cot: the reasoning, between the think tags as far as they are there.
    steps: ordered and disjoint, inside `cot`, each from its header to its last visible character.
    answer: what the one answer block behind `cot` holds; None when there is none, or nothing in it, or several blocks
      (a volley of answers is no answer).
    problem: "" when well formed, else the reason in a few words.
    """

    start: int
    cot: Span
    steps: tuple[Span, ...]
    answer: str | None
    problem: str

    @property
    def is_well_formed(self) -> bool:
        return not self.problem


def render_prompt(question: str, *, system: str = SYSTEM_PROMPT) -> list[dict[str, str]]:
    """The chat messages that ask a question; without a system message when `system` is empty."""
    messages = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": question}]


def render_response(steps: Sequence[str], answer: str) -> str:
    """The well-formed response with these steps and this answer, as demonstrations need it.

    Raises:
      ValueError: reading the response would not give them back: no steps, a tag or a step's header inside one, or
        nothing for an answer.
    """
    lines = [f"### Step {number}: {step.strip()}" for number, step in enumerate(steps, start=1)]
    thinking = "\n".join([THINK_OPEN, *lines, THINK_CLOSE])
    response = f"{thinking}\n{ANSWER_OPEN}{answer.strip()}{ANSWER_CLOSE}"
    read = parse_response(response)
    if not read.is_well_formed or len(read.steps) != len(lines):
        raise ValueError(f"not a demonstration ({read.problem or 'a step within a step'}): {response!r}")
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
    problem = "cut off by the length limit" if is_truncated else _find_problem(completion, steps, answer)
    return Response(0 if before.strip() else cot_start, cot, steps, answer, problem)


def _find_steps(completion: str, cot: Span) -> tuple[Span, ...]:
    reasoning = completion[cot.start : cot.end]
    starts = [header.start() for header in _STEP.finditer(reasoning)]
    return tuple(
        Span(cot.start + start, cot.start + start + len(reasoning[start:end].rstrip()))
        for start, end in zip(starts, [*starts, len(reasoning)][1:], strict=True)
    )


def _find_answer(tail: str) -> str | None:
    """The content of the only answer block; None when it is empty or not the only one."""
    if tail.count(ANSWER_OPEN) != 1 or tail.count(ANSWER_CLOSE) != 1:
        return None
    content, closing, _ = tail.partition(ANSWER_OPEN)[2].partition(ANSWER_CLOSE)
    return content.strip() or None if closing else None


def _find_problem(completion: str, steps: tuple[Span, ...], answer: str | None) -> str:
    """Why a completion is not well formed, "" when it is."""
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
    return "" if answer else "no answer"
