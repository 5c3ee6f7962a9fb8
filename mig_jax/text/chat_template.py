"""Chat templates: the text of a prompt, and the text that ends a turn."""

import dataclasses
import datetime
import functools
import os.path
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from mig_jax.errors import UserError
from mig_jax.text.prompt_options import RESERVED_ARGS
from mig_jax.text.prompts import PromptStyle
from mig_jax.text.step_format import THINK_CLOSE, THINK_OPEN, StepFormat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# The template of the character tokenizer. It writes an image as Qwen2-VL does.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}"
    "{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# The codes of strftime that templates may ask for.
_DATE_CODES = ("-d", "-m", "Y", "y", "m", "d", "e", "B", "b", "h", "A", "a", "j", "F", "D", "H", "M", "S", "I", "p")


def prompt_text(fast: "PreTrainedTokenizerFast", messages: list[dict[str, Any]], style: PromptStyle) -> str:
    """Render a chat up to the start of the assistant's turn, with what the template writes of that: `opened_block`.

    Raises:
      UserError: the template refuses these messages.
    """
    from jinja2 import TemplateError

    try:
        return _render(fast, messages, style, add_generation_prompt=True)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise UserError(f"the chat template of {fast.name_or_path!r} refuses a chat of {roles}: {error}") from error


def turn_end(fast: "PreTrainedTokenizerFast") -> str:
    """Return the text that the template writes after the assistant's words, without leading blanks.

    Raises:
      UserError: there is no template, it fails, or it writes nothing after the assistant's words.
    """
    from jinja2 import TemplateError

    if not fast.chat_template:
        raise UserError(
            "it has no chat template: add chat_template.jinja beside tokenizer.json (in a GGUF file the template is "
            "tokenizer.chat_template), or use an instruct model"
        )
    reply = "The answer is 42"
    messages = [{"role": "user", "content": "What is 6 times 7?"}, {"role": "assistant", "content": reply}]
    try:
        _, found, end = _render(fast, messages, PromptStyle(), add_generation_prompt=False).rpartition(reply)
    except TemplateError as error:
        raise UserError(f"its chat template refuses a question and an answer: {error}") from error
    if not found:
        raise UserError("its chat template leaves out the assistant's messages")
    if not end.strip():
        raise UserError("its chat template writes nothing after an assistant's message, so turns have no end")
    return end.lstrip()


def describe_opening(prompt: str, format: StepFormat) -> str | None:
    """Return what should be reported about a think block that a prompt writes for the response; None if it has none.

    Args:
      prompt: as the chat template writes it.
      format: of whole responses.
    """
    if not (block := opened_block(prompt, format.think or (THINK_OPEN, THINK_CLOSE))):
        if not (block := opened_block(prompt, (THINK_OPEN, THINK_CLOSE))):
            return None
    elif format.think and format.think[1] in block and not format.reads_empty_think:
        return f"the chat template writes an empty think block, {block!r}; responses follow it with one of their own"
    elif format.think:
        return f"the chat template writes {block!r} before the response, which goes on from there"
    state = "" if THINK_CLOSE in block else ", which the response format never closes; choose one with these tags"
    return f"the chat template writes {block!r} before the response{state}"


def check_args(fast: "PreTrainedTokenizerFast", args: Mapping[str, Any]) -> None:
    """Check that the template reads each of the arguments.

    Raises:
      UserError: it does not; lists the arguments that it reads.
    """
    known = _variables(_source(fast))
    if unknown := [name for name in args if name not in known]:
        of = f" of {fast.name_or_path}" if fast.name_or_path else ""
        raise UserError(
            f"data.template_args: the chat template{of} has no argument {unknown[0]!r}; it has "
            f"{', '.join(sorted(known)) or 'none'}"
        )


def opened_block(prompt: str, think: tuple[str, str]) -> str:
    """Return the think block that a prompt ends with, opened or opened and closed, with its whitespace; "" if none.

    Args:
      prompt: of a chat template.
      think: the tags of the block.
    """
    opened, closed = map(re.escape, think)
    found = re.search(rf"{opened}\s*(?:{closed}\s*)?\Z", prompt)
    return found[0] if found else ""


def format_after(prompt: str, format: StepFormat) -> StepFormat:
    """Return the format of responses to a prompt that may have written the beginning of them.

    A block that the prompt has closed, too, is no part of a response, unless the format reads what follows an empty
    block as the reasoning.

    Args:
      prompt: as the chat template writes it.
      format: of whole responses.
    """
    block = opened_block(prompt, format.think) if format.think else ""
    if format.think and format.think[1] in block:
        written = format.whole_opening if format.reads_empty_think else ""
    else:  # other whitespace after the tag is read alike
        written = os.path.commonprefix([block, format.whole_opening])
    return dataclasses.replace(format, prompt_opening=written)


def prints_date(fast: "PreTrainedTokenizerFast") -> bool:
    """Return whether the template may print today's date."""
    return "strftime_now" in _source(fast)


def _source(fast: "PreTrainedTokenizerFast") -> str:
    """Return the template itself; a tokenizer may have several."""
    return cast(str, fast.get_chat_template())


@functools.cache
def _variables(source: str) -> frozenset[str]:
    """Return the arguments that a template reads, without those that every template is given."""
    from jinja2 import Environment, TemplateError, meta

    given = {*RESERVED_ARGS, "raise_exception", "strftime_now", "bos_token", "eos_token", "pad_token", "unk_token"}
    try:
        parsed = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_without_generation_tags(source))
    except TemplateError as error:
        raise UserError(f"the chat template is not a Jinja template: {error}") from error
    return frozenset(meta.find_undeclared_variables(parsed) - given)


def _without_generation_tags(source: str) -> str:
    """Return a template without {% generation %}, which marks the assistant's text and is not part of Jinja."""
    return re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", source)


def _render(
    fast: "PreTrainedTokenizerFast", messages: list[dict[str, Any]], style: PromptStyle, *, add_generation_prompt: bool
) -> str:
    """Render messages with the chat template.

    Raises:
      jinja2.TemplateError: the template refuses these messages, or needs tools.
    """
    from jinja2 import TemplateError

    source = _source(fast)
    if "strftime_now" in source:
        source = _fixed_date(style.date) + source

    def render(args: Mapping[str, Any]) -> str:
        options = {"chat_template": source, "add_generation_prompt": add_generation_prompt, "tokenize": False}
        return cast(str, fast.apply_chat_template(messages, **options, **args))

    try:
        return render(style.template_args)
    except TypeError:  # some templates take for granted that there is a list of tools or documents
        try:
            return render({"tools": [], "documents": [], **style.template_args})
        except TypeError as error:
            raise TemplateError(str(error)) from error


@functools.cache
def _fixed_date(iso_date: str) -> str:
    """Return a macro `strftime_now` for the beginning of a template, which prints a fixed date in place of today's."""
    date = datetime.datetime.fromisoformat(iso_date)
    filters = "".join(f' | replace("%{code}", "{date.strftime(f"%{code}")}")' for code in _DATE_CODES)
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro +%}}"
