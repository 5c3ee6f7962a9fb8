"""What a tokenizer's chat template makes of messages: the prompt, and how it ends a turn."""

from typing import TYPE_CHECKING, Any

from mig_jax.text.response_format import THINK_OPEN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Of the character tokenizer. An image is written as Qwen2-VL writes it.
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
    """A chat up to where the assistant begins to speak.

    Templates of some reasoning models open the think block themselves. That is for the policy to write, whose
    responses could not be read otherwise: such a prompt ends before the tag.

    Raises:
      ValueError: the template refuses these messages.
    """
    from jinja2 import TemplateError

    try:
        text = fast.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ValueError(f"the chat template of {fast.name_or_path!r} refuses a chat of {roles}: {error}") from error
    return text[: text.rindex(THINK_OPEN)] if text.rstrip().endswith(THINK_OPEN) else text


def turn_end(fast: "PreTrainedTokenizerFast") -> str:
    """What the template writes behind the words of the assistant, blanks in front left out.

    Raises:
      ValueError: nothing; or there is no template, or it is broken.
    """
    from jinja2 import TemplateError

    if not fast.chat_template:
        raise ValueError(
            "it has no chat template: put one into chat_template.jinja beside tokenizer.json (in a GGUF file it is "
            "tokenizer.chat_template), or take an instruct model"
        )
    words = "The answer is 42"
    messages = [{"role": "user", "content": "What is 6 times 7?"}, {"role": "assistant", "content": words}]
    try:
        _, found, end = fast.apply_chat_template(messages, tokenize=False).rpartition(words)
    except TemplateError as error:
        raise ValueError(f"its chat template refuses a question and an answer: {error}") from error
    if not found:
        raise ValueError("its chat template leaves out what the assistant says")
    if not end.strip():
        raise ValueError("its chat template writes nothing behind what the assistant says, so turns have no end")
    return end.lstrip()
