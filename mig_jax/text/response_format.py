"""Responses in a format: the parser, and responses written so that it reads them.

    <think>
    ### Step 1: …
    ### Step 2: …
    </think>
    <answer>…</answer>

This is the format `mig`; `FORMATS` has others. A response is *well formed* if it has the tags of its format once and in
order, at least one step, no line that is almost a step header, and one answer. Only whitespace may be outside of the
tags, unless the answer is in a box. A step has text after its header. The parser also finds the steps of malformed
responses. It never raises, and its time is linear in the length.
"""

import dataclasses
import os.path
import re
from collections.abc import Sequence
from typing import NamedTuple

from absl import logging

from mig_jax.errors import UserError
from mig_jax.parts import user_traceback
from mig_jax.text.format_tags import answer_opening, find_answers, find_tag_error, reasoning_closing
from mig_jax.text.splitters import SENTENCE_ENDS
from mig_jax.text.step_format import ANSWER_CLOSE, ANSWER_OPEN, FORMATS, MIG, THINK_OPEN, StepFormat, find_format

__all__ = [
    "ANSWER_CLOSE", "ANSWER_OPEN", "FORMATS", "MIG", "THINK_OPEN", "TRIAL_ANSWERS", "TRUNCATED", "CharSpan",
    "Response", "StepFormat", "choices_by_letter", "find_format", "parse_response", "render_response",
]  # fmt: skip

# Format error of a response that reached the length limit, whatever else is wrong with it.
TRUNCATED = "truncated by the length limit"
# Characters of a line in a format error.
SHOWN_CHARACTERS = 30

# Answers as in benchmarks, and edge cases. A tokenizer must not merge any of them with the tags around it.
TRIAL_ANSWERS = (
    *"0 7 42 007 1234567 -5 +5 −5 .5 0.25 -3.14 1,234 12,345.67 1e-5 3/4 50% 3\\% $5 5cm 30° 12:30 #1 1;2".split(),
    *r"A B C D E (A) (B) A. A) [A] \text{A} yes no Yes. No True false Paris it's e.g. a_1 'a' `a` *b* <b>".split(),
    *r"x x+1 x^2 2x-1 f(x) {1} [0,1) \frac{1}{2} \sqrt{2} \boxed{42} $x$ $\pi$ \(x\) \left(1\right) 2^{n} n!".split(),
    *"< > / \\ = - _ | ~ & @ ? : ; , . ! ( ) [ ] { } * ^ # % + \" '".split(),
    *"你好 é π ½ √2 ≤3 😀 да ٣ e\u0301".split(),
    *("A, C", "the red cube", "x = 5", "(1, 2)", "(-\\infty, 3]", "5 cm", "10 km/h", "1 000", "two\nlines"),
)

_LINE_END = re.compile(r"[^\S\n]*+\n")


class CharSpan(NamedTuple):
    """The characters [start, end) of a completion."""

    start: int
    end: int


class Response(NamedTuple):
    """The parts of a completion. All positions are in characters.

    cuts: positions where a probe may ask for the answer, one after each step. A cut comes after the line break that
      ends its line, because tokens such as `.\\n` cannot be split.
    cot: the reasoning: the text between the think tags, where present; in a format without them, that before the line
      of the answer.
    open_spans: at most two spans; the reasoning is open before a character inside them, see `_find_open_spans`.
    steps: ordered and disjoint, inside `cot`, each from its first to its last visible character. A header without
      text of its own begins no step, and belongs to the step before it.
    answer: the content of the only answer block after `cot`; None if there is no block, an empty one, or several
      (several answers count as none). Boxes with the same content are one.
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
        """Return whether the response has exactly its format."""
        return self.format_error is None


def choices_by_letter(choices: Sequence[str]) -> dict[str, str]:
    """Return the choices keyed by their letters: A, B, …"""
    return {chr(ord("A") + n): choice for n, choice in enumerate(choices)}


def render_response(steps: Sequence[str], answer: str, format: StepFormat = MIG) -> str:
    """Return the well-formed response with these steps and this answer, as SFT needs it.

    It begins after what the prompt has written of it (`StepFormat.prompt_opening`). Where steps have no headers,
    what is read may divide otherwise: a step of several paragraphs, lines or sentences is several.

    Raises:
      UserError: the response would not parse back to its parts: there are no steps, a step is empty or contains a tag
        or a step header, or the answer is empty.
    """
    whole = dataclasses.replace(format, prompt_opening="")
    response = whole.write([step.strip() for step in steps], answer.strip())
    parsed = parse_response(response, whole)
    is_empty = not all(map(str.strip, steps)) or (format.headers and len(parsed.steps) < len(steps))
    if not parsed.is_well_formed or is_empty or (format.headers and len(parsed.steps) > len(steps)):
        reason = parsed.format_error or ("a step without text" if is_empty else "a step inside a step")
        raise UserError(
            f"this solution cannot be written as a response ({reason}); it needs steps and an answer, none of them "
            f"empty, without tags or step headers inside them: {response!r}"
        )
    return without_opening(response, format)


def without_opening(response: str, format: StepFormat) -> str:
    """Return what a policy writes of a whole response: what the prompt has written is left out.

    After an empty think block, the response has no tags of its own. A response that does not begin with what the prompt
    has written stays as it is.
    """
    if not format.think or not format.prompt_opening:
        return response
    opened, closed = format.think
    if closed in format.prompt_opening:
        begun = response.lstrip().removeprefix(opened)
        if begun == response.lstrip():
            return response
        return re.sub(rf"\s*{re.escape(closed)}", "", begun.lstrip(), count=1)
    if response.startswith(format.prompt_opening):
        return response.removeprefix(format.prompt_opening)
    # Other whitespace around the tag.
    return response.lstrip().removeprefix(opened).lstrip() if response.lstrip().startswith(opened) else response


def with_opening(response: str, format: StepFormat) -> str:
    """Return a response with the tag that opens its think block, if the prompt of another model had written it.

    That is so where the block closes without having been opened, and prompts here do not open it.
    """
    if not format.think or format.prompt_opening:
        return response
    opened, closed = format.think
    before, found, _ = response.partition(closed)
    return f"{opened}\n{response.lstrip()}" if found and opened not in before else response


def parse_response(completion: str, format: StepFormat = MIG, *, is_truncated: bool = False) -> Response:
    """Split a completion into its parts, well formed or not. Never raises.

    Args:
      completion: the text without its end-of-sequence token.
      format: the format to read it in.
      is_truncated: whether it was truncated by the length limit; it is then not well formed.
    """
    written = format.prompt_opening
    response = _parse(written + completion, format)
    if is_truncated:
        response = response._replace(format_error=TRUNCATED)
    return _shift(response, len(written)) if written else response


def place_steps(completion: str, response: Response, steps: Sequence[str], format: StepFormat) -> Response:
    """Return a response with given steps in place of those that the format finds.

    Args:
      completion: the whole text.
      response: its parts.
      steps: text of each step, in the order in which they occur.
      format: its format.

    Raises:
      UserError: a step does not occur after the one before it, or is empty.
    """
    spans, position = [], 0
    for number, step in enumerate(steps, start=1):
        start = completion.find(step.strip(), position) if step.strip() else -1
        if start < 0:
            reason = "does not occur in the response" if position == 0 else f"does not occur after step {number - 1}"
            raise UserError(f"step {number} {reason if step.strip() else 'is empty'}: {step[:SHOWN_CHARACTERS]!r}")
        position = start + len(step.strip())
        spans.append(CharSpan(start, position))
    cuts = tuple(_after_line_breaks(completion, span.end, format.line_breaks) for span in spans)
    format_error = None if response.format_error == "no step" else response.format_error
    return response._replace(steps=tuple(spans), cuts=cuts, format_error=format_error)


def suggest_format(completions: Sequence[str]) -> str | None:
    """Return the name of the format in which most of these completions are well formed; None if none is in any."""
    counts = {
        name: sum(parse_response(text, format).is_well_formed for text in completions)
        for name, format in FORMATS.items()
    }
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None


def lead_in_prefix(completion: str, position: int, format: StepFormat) -> str:
    """Return what a probe writes between a cut and `format.lead_in`; "" unless the format fits it to its cut.

    Args:
      completion: the whole text.
      position: of the cut, in characters.
      format: its format.
    """
    if not format.fits_lead_in:
        return ""
    line_break = "" if completion[:position].endswith(("\n",)) or not position else "\n"
    closes = format.think is not None and (
        format.think[1] in format.prompt_opening or format.think[1] in completion[:position]
    )
    return line_break + ("" if closes else format.closing)


def _parse(text: str, format: StepFormat) -> Response:
    cot = _find_reasoning(text, format)
    steps = _find_steps(text, cot, format)
    answers, answer_error = find_answers(text[cot.end :], format)
    format_error = (
        find_tag_error(text, format)
        or (None if steps else "no step")
        or answer_error
        or _find_near_miss(text[cot.start : cot.end], format)
    )
    cuts = tuple(_after_line_breaks(text, step.end, format.line_breaks) for step in steps)
    answer = answers[0] if len(answers) == 1 else None
    return Response(cuts, cot, _find_open_spans(text, format), steps, answer, format_error)


def _shift(response: Response, n: int) -> Response:
    """Return the response with positions in the text without its first n characters."""

    def moved(span: CharSpan) -> CharSpan:
        return CharSpan(max(0, span.start - n), max(0, span.end - n))

    return response._replace(
        cuts=tuple(max(0, cut - n) for cut in response.cuts),
        cot=moved(response.cot),
        open_spans=tuple(map(moved, response.open_spans)),
        steps=tuple(map(moved, response.steps)),
    )


def _find_reasoning(text: str, format: StepFormat) -> CharSpan:
    """Return the text between the think tags; without such tags, that before the line of the answer."""
    if format.think is None:
        return CharSpan(0, _find_answer_line(text, 0, format))
    think_open, think_close = format.think
    before, opening, _ = text.partition(think_open)
    start = len(before) + len(opening) if opening else 0
    end = text.find(think_close, start)
    if end < 0 and format.is_boxed:
        # A box is no sign that the reasoning has ended: there may be some in the reasoning, too.
        return CharSpan(start, len(text) if opening else _find_answer_line(text, 0, format))
    if end < 0:
        end = text.find(format.answer[0], start)
        return CharSpan(start, end if end >= 0 else len(text))
    if format.reads_empty_think and not text[start:end].strip():
        start = end + len(think_close)
        return CharSpan(start, _find_answer_line(text, start, format))
    return CharSpan(start, end)


def _find_answer_line(text: str, start: int, format: StepFormat) -> int:
    """Return where the line of the first answer begins; if only whitespace is before that, where the answer begins."""
    opening = answer_opening(format).search(text, start)
    if not opening:
        return len(text)
    line = text.rfind("\n", start, opening.start()) + 1
    return line if text[start:line].strip() else opening.start()


def _find_steps(text: str, cot: CharSpan, format: StepFormat) -> tuple[CharSpan, ...]:
    """Return the span of each step that has text, from its first to its last visible character."""
    reasoning, steps, last = text[cot.start : cot.end], [], 0
    for start, end in _split(reasoning, format):
        start, end = max(start, last), min(end, len(reasoning))
        step = reasoning[start:end]
        if step.strip():
            first, last = cot.start + start + len(step) - len(step.lstrip()), end
            steps.append(CharSpan(first, first + len(step.strip())))
    # In a single line, the last words before the answer announce it.
    if len(steps) > 1 and "\n" not in reasoning.strip() and answer_opening(format).match(text, cot.end):
        if text[steps[-1].end - 1] not in SENTENCE_ENDS:
            steps.pop()
    return tuple(steps)


def _split(reasoning: str, format: StepFormat) -> list[tuple[int, int]]:
    """Return the spans of the steps; none, with a warning, if a user's splitter fails."""
    try:
        return [(int(start), int(end)) for start, end in format.split(reasoning)]
    except Exception as error:  # any error of the user's code; a run should not end by one response
        logging.log_first_n(
            logging.WARNING, "the splitter of response_format fails, so responses are without steps: %s", 1,
            user_traceback(error),
        )  # fmt: skip
        return []


def _find_open_spans(text: str, format: StepFormat) -> tuple[CharSpan, ...]:
    """Return where the reasoning is open: before such a character, a policy chooses how it goes on or ends.

    Whether it is open before a character depends on the text before that character alone. A policy gradient that is
    summed over tokens chosen in this way has no bias: no choice is left out because of what was chosen.

    The reasoning opens after a think tag at the beginning; whitespace and the tag are outside. Where the completion
    begins with anything else, the reasoning opens as soon as that is certain, because a think tag may never come. It
    closes after the first tag that ends it. If the first think tag comes later, it opens once more. Where no tag closes
    it, the span includes the position after the last character, that of the end-of-sequence. Without think tags, the
    reasoning is open from the beginning to the first tag that opens an answer.
    """
    if format.think is None:
        return (CharSpan(0, _find_closing_end(text, 0, format)),)
    think_open = format.think[0]
    blank = len(text) - len(text.lstrip())
    begun = len(os.path.commonprefix([text[blank : blank + len(think_open)], think_open]))
    if begun == len(think_open):
        start = blank + begun
        return (CharSpan(start, _find_closing_end(text, start, format)),)
    first = CharSpan(blank + begun + 1, _find_closing_end(text, 0, format))
    opening = text.find(think_open)
    if opening < first.end:
        return (first,)
    start = opening + len(think_open)
    return first, CharSpan(start, _find_closing_end(text, start, format))


def _find_closing_end(text: str, start: int, format: StepFormat) -> int:
    """Return the end of the first tag after `start` that closes the reasoning; one more than the length if none."""
    closing = reasoning_closing(format).search(text, start)
    if closing and format.reads_empty_think and not text[start : closing.start()].strip():
        closing = answer_opening(format).search(text, closing.end())
    return closing.end() if closing else len(text) + 1


def _after_line_breaks(text: str, position: int, n: int) -> int:
    """Return the position after up to n line breaks if only blanks precede them, else `position` itself.

    There is none if the completion is truncated, or closes the think block on the line of its last step. The lead-in
    of the probe then directly follows the step. No policy would write exactly that, but such responses are malformed or
    nearly so.
    """
    for _ in range(n):
        if not (line_end := _LINE_END.match(text, position)):
            break
        position = line_end.end()
    return position


def _find_near_miss(reasoning: str, format: StepFormat) -> str | None:
    """Return an error if the reasoning has a line that is almost a step header."""
    near_miss = next(format.headers.near_misses(reasoning), None) if format.headers else None
    return near_miss and f"almost a step header: {near_miss[:SHOWN_CHARACTERS]!r}"
