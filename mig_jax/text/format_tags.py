"""The tags of a format in a text: the answers between them or in boxes, what is wrong with them, and their patterns."""

import functools
import re

from mig_jax.text.step_format import StepFormat

# \boxed{ and other braces, to be matched; escaped braces also match, to be skipped.
_BRACE = re.compile(r"\\boxed ?\{|\\[\\{}]|[{}]")
_BOX = re.compile(r"\\boxed ?\{")


def find_answers(tail: str, format: StepFormat) -> tuple[list[str], str | None]:
    """Return the answers of the text after the reasoning, none of them empty, and what is wrong with them."""
    if format.is_boxed:
        return _find_boxed(tail)
    opening, closing = format.answer
    if tail.count(opening) != 1 or tail.count(closing) != 1:
        return [], "no answer"
    content, found, _ = tail.partition(opening)[2].partition(closing)
    answers = [content.strip()] if found and content.strip() else []
    return answers, None if answers else "no answer"


def _find_boxed(tail: str) -> tuple[list[str], str | None]:
    """Return the distinct contents of boxes, without boxes inside of boxes, and what is wrong with them."""
    opened: list[int | None] = []  # for each open brace: where the content of its box starts, or None
    n_boxes, contents = 0, []
    for brace in _BRACE.finditer(tail):
        if brace[0] == "{":
            opened.append(None)
        elif brace[0] == "}":
            start = opened.pop() if opened else None
            n_boxes -= start is not None
            if start is not None and not n_boxes:
                contents.append(tail[start : brace.start()].strip())
        elif len(brace[0]) > 2:
            opened.append(brace.end())
            n_boxes += 1
    if n_boxes:
        return [], "\\boxed{ is not closed"
    answers = list(dict.fromkeys(filter(None, contents)))
    if not answers:
        return [], "no answer" if contents else "no \\boxed{}"
    return answers, None if len(answers) == 1 else "several boxes that differ"


def find_tag_error(text: str, format: StepFormat) -> str | None:
    """Return what is wrong with the tags of a completion and with the text outside of them, or None."""
    tags = format.tags
    for tag in tags:
        count = text.count(tag)
        if count != 1:
            return f"{tag} {count} times" if count else f"no {tag}"
    positions = [text.find(tag) for tag in tags]
    if positions != sorted(positions):
        return "tags out of order"
    outside = [text[: positions[0]]] if format.think else []
    if not format.is_boxed:
        *_, opening, closing = positions
        outside.append(text[closing + len(tags[-1]) :])
        if format.think:
            outside.append(text[positions[1] + len(tags[1]) : opening])
    return "text outside the blocks" if any(map(str.strip, outside)) else None


def answer_opening(format: StepFormat) -> re.Pattern:
    """Return the pattern of what opens an answer."""
    return _BOX if format.is_boxed else _any_of(format.answer[0])


def reasoning_closing(format: StepFormat) -> re.Pattern:
    """Return the pattern of what closes the reasoning. A box does so only where there are no think tags."""
    if format.think is None:
        return answer_opening(format)
    return _any_of(format.think[1]) if format.is_boxed else _any_of(format.think[1], format.answer[0])


@functools.cache
def _any_of(*texts: str) -> re.Pattern:
    return re.compile("|".join(map(re.escape, texts)))
