"""Chat templates: the text of a prompt, and the text that ends a turn."""

from typing import TYPE_CHECKING, Any, cast

from mig_jax.errors import UserError
from mig_jax.text.response_format import THINK_OPEN

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


def prompt_text(fast: "PreTrainedTokenizerFast", messages: list[dict[str, Any]]) -> str:
    """Render a chat up to the start of the assistant's turn.

    The templates of some reasoning models open the think block themselves. The prompt then ends before that tag: the
    policy has to generate it, or its responses would not parse.

    Raises:
      UserError: the template refuses these messages.
    """
    from jinja2 import TemplateError

    try:
        text = _render(fast, messages, add_generation_prompt=True)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise UserError(f"the chat template of {fast.name_or_path!r} refuses a chat of {roles}: {error}") from error
    return text[: text.rindex(THINK_OPEN)] if text.rstrip().endswith(THINK_OPEN) else text


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
        _, found, end = _render(fast, messages, add_generation_prompt=False).rpartition(reply)
    except TemplateError as error:
        raise UserError(f"its chat template refuses a question and an answer: {error}") from error
    if not found:
        raise UserError("its chat template leaves out the assistant's messages")
    if not end.strip():
        raise UserError("its chat template writes nothing after an assistant's message, so turns have no end")
    return end.lstrip()


def _render(fast: "PreTrainedTokenizerFast", messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
    """Render messages with the chat template."""
    return cast(str, fast.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, tokenize=False))
