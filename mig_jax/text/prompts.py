"""Prompts: the chat messages that ask a question, and whether the chat template writes them as they are.

A style says what is written around a question. `check_style` renders a trial question with it, and moves the
instructions to the user turn where the template drops or changes system messages.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mig_jax.errors import UserError
from mig_jax.text.response_format import choices_by_letter

# Where an image stands in the text of a question.
IMAGE_MARK = "<image>"
# What a template of the user turn may name.
USER_FIELDS = ("question", "choices", "instructions")
# Asked once at load. It has what careless templates change: braces, backslashes, tags and line breaks.
TRIAL_QUESTION = "Is $\\frac{1}{2} < 0.7$ & \"x\" > 'y' {z}?\nAnswer yes or no."

# Stands for the system message of a row.
TRIAL_INSTRUCTIONS = "Answer in one word."

_TEMPLATE_PART = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


class Turn(NamedTuple):
    """A message of a chat: its role, such as "system" or "assistant", and its text."""

    role: str
    text: str


@dataclasses.dataclass(frozen=True)
class PromptStyle:
    """What is written around a question.

    instructions: how to answer; "" for none.
    in_user_turn: instructions, or the system message of a row, begin the first user turn, because the template does not
      write system messages.
    user_templates: text of the user turn by the source of a problem; "" is for all other sources. {question},
      {choices} and {instructions} are replaced, {{ and }} are braces. Without {choices}, lettered choices end the
      question. With {instructions}, there is no system message.
    template_args: further arguments of the chat template, such as `enable_thinking`.
    date: ISO date that the chat template prints as today's.
    """

    instructions: str = ""
    in_user_turn: bool = False
    user_templates: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"": "{question}"})
    template_args: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    date: str = "2025-01-01"

    def messages(
        self,
        question: str,
        *,
        choices: Sequence[str] = (),
        n_images: int = 0,
        history: Sequence[tuple[str, str]] = (),
        source: str = "",
    ) -> list[dict[str, Any]]:
        """Return the chat messages that ask a question.

        Args:
          question: its text. `IMAGE_MARK` is where an image stands, if there are as many as images.
          choices: texts to choose from, each shown on its own line as "A. …".
          n_images: number of images. Without marks they come before all text.
          history: earlier turns, as (role, text). A system message among them is left out if there are instructions.
          source: of the problem.
        """
        template = self.user_templates.get(source, self.user_templates[""])
        turns = [Turn(*turn) for turn in history if turn[0] != "system"]
        turns.append(Turn("user", self._user_text(template, question, choices)))
        system = self.instructions or "\n\n".join(text for role, text in history if role == "system")
        if self.instructions and "instructions" in named_fields(template):
            system = ""  # it is in the user turn already
        if system and self.in_user_turn:
            first = next(n for n, turn in enumerate(turns) if turn.role == "user")
            turns[first] = turns[first]._replace(text=f"{system}\n\n{turns[first].text}")
        elif system:
            turns.insert(0, Turn("system", system))
        return _place_images(turns, n_images)

    def texts(self, question: str, history: Sequence[tuple[str, str]] = ()) -> list[str]:
        """Return the texts of a problem that must be in its prompt word for word; answers of earlier turns need not."""
        roles = ("user",) if self.instructions else ("user", "system")
        return [question, *(text for role, text in history if role in roles)]

    def _user_text(self, template: str, question: str, choices: Sequence[str]) -> str:
        lines = "\n".join(f"{letter}. {choice}" for letter, choice in choices_by_letter(choices).items())
        if lines and "choices" not in named_fields(template):
            question = f"{question}\n{lines}"
        values = {"question": question, "choices": lines, "instructions": self.instructions}
        return fill_template(template, values.__getitem__)


def fill_template(template: str, value: Callable[[str], str]) -> str:
    """Return a template with `value(name)` for each {name}, and single braces for {{ and }}."""
    return _TEMPLATE_PART.sub(lambda part: value(part[1]) if part[1] else part[0][0], template)


def named_fields(template: str) -> list[str]:
    """Return the names in braces of a template, in order."""
    return [part[1] for part in _TEMPLATE_PART.finditer(template) if part[1]]


def check_style(style: PromptStyle, render: Callable[[list[dict[str, Any]]], str]) -> tuple[PromptStyle, list[str]]:
    """Check that instructions and question are in a prompt, word for word.

    Args:
      style: to check.
      render: returns the prompt of chat messages.

    Returns:
      The style, with the instructions in the user turn if the template does not write them as a system message; and
      what should be reported about it.

    Raises:
      UserError: the template changes the question, or the instructions in both places.
    """
    # Without instructions, rows may still have system messages of their own.
    trial = style if style.instructions else dataclasses.replace(style, instructions=TRIAL_INSTRUCTIONS)
    if not _missing_texts(trial, render):
        return style, []
    moved = dataclasses.replace(style, in_user_turn=True)
    if not _missing_texts(dataclasses.replace(trial, in_user_turn=True), render):
        notice = (
            "the chat template does not write system messages as they are: the instructions begin the user turn instead"
        )
        return moved, [notice] if style.instructions else []
    if missing := _missing_texts(style, render):
        raise UserError(
            f"the chat template changes {' and '.join(missing)}, so the model would not read what it is asked; choose "
            "instructions that it keeps (data.system_prompt, response_format), or another template "
            "(chat_template.jinja beside tokenizer.json)"
        )
    return style, []


def is_verbatim(texts: Sequence[str], prompt: str) -> bool:
    """Return whether texts with images are in a prompt word for word; whitespace around them may differ."""
    return all(part.strip() in prompt for text in texts for part in text.split(IMAGE_MARK))


def _missing_texts(style: PromptStyle, render: Callable[[list[dict[str, Any]]], str]) -> list[str]:
    """Return what of a trial prompt of some source is not written: "the instructions", "the question"."""
    try:
        prompts = [render(style.messages(TRIAL_QUESTION, source=source)) for source in style.user_templates]
    except UserError:
        if not style.instructions or style.in_user_turn:
            raise
        return ["the instructions"]  # it refuses system messages
    texts = {"the instructions": style.instructions, "the question": TRIAL_QUESTION}
    return [name for name, text in texts.items() if not all(text.strip() in prompt for prompt in prompts)]


def _place_images(turns: Sequence[Turn], n_images: int) -> list[dict[str, Any]]:
    """Return turns as messages, with images where they are marked, else before the text of the last turn."""
    has_marks = n_images > 0 and sum(turn.text.count(IMAGE_MARK) for turn in turns) == n_images
    messages = []
    for turn in turns:
        # Without images the content is a plain string, because templates of text-only models accept nothing else.
        content: Any = turn.text
        if n_images and has_marks and IMAGE_MARK in turn.text:
            content = []
            for n, text in enumerate(turn.text.split(IMAGE_MARK)):
                content += [{"type": "image"}] * bool(n) + [{"type": "text", "text": text}] * bool(text)
        elif n_images and not has_marks and turn is turns[-1]:
            content = [*[{"type": "image"}] * n_images, {"type": "text", "text": turn.text}]
        messages.append({"role": turn.role, "content": content})
    return messages
