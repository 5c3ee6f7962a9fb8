"""Problems to prompts: chat-template ids and images, in the style that `data` of a config describes."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.distributed import multihost, sharding
from mig_jax.errors import UserError
from mig_jax.models.sampler import Prompts
from mig_jax.policy import encoding, images
from mig_jax.policy.load import Policy
from mig_jax.text import chat_template, prompt_options, prompts
from mig_jax.text.step_format import find_format
from mig_jax.text.tokenizer import Tokenizer


class PromptBatch(NamedTuple):
    """A batch of problems and their prompts.

    problems: all Q problems, the same on every process.
    prompts: host arrays of the rows that this process holds.
    """

    problems: list[Problem]
    prompts: Prompts


def with_style(policy: Policy, config: Config) -> Policy:
    """Return the policy with the response format and the style of prompts of a config; print what is special about it.

    Raises:
      UserError: the chat template does not write the prompt as it should be read, or lacks an argument.
    """
    tokenizer, notices = style_tokenizer(policy.tokenizer, config)
    for notice in notices if multihost.is_main_process() else ():
        print(f"prompts: {notice}", file=sys.stderr)
    return dataclasses.replace(policy, tokenizer=tokenizer)


def style_tokenizer(tokenizer: Tokenizer, config: Config) -> tuple[Tokenizer, list[str]]:
    """Return the tokenizer with the style of prompts of a config, checked by a trial question, and what to report.

    Its format knows what the chat template has written of a response. Prompts are those that a server of the exported
    model makes with the same arguments.

    Raises:
      UserError: see `with_style`.
    """
    data, tokenizer = config.data, tokenizer.with_format(find_format(config.response_format))
    style = prompts.PromptStyle(
        instructions=_instructions(tokenizer, data.system_prompt),
        user_templates={**data.user_templates, "": data.user_template},
        template_args=prompt_options.parse_template_args(data.template_args),
        date=data.template_date,
    )
    chat_template.check_args(tokenizer.fast, style.template_args)

    def render(messages: list[dict[str, Any]]) -> str:
        return chat_template.prompt_text(tokenizer.fast, messages, style)

    style, notices = prompts.check_style(style, render)
    prompt = render(style.messages(prompts.TRIAL_QUESTION))
    if notice := chat_template.describe_opening(prompt, tokenizer.format):
        notices.append(notice)
    if chat_template.prints_date(tokenizer.fast):
        notices.append(f"the chat template may print today's date; here it is always {style.date} (data.template_date)")
    format = chat_template.format_after(prompt, tokenizer.format)
    return dataclasses.replace(tokenizer, style=style, format=format), notices


def _instructions(tokenizer: Tokenizer, system_prompt: str) -> str:
    is_format = system_prompt == prompt_options.FORMAT_PROMPT
    return tokenizer.format.system_prompt() if is_format else system_prompt.strip()


def encode_prompts(policy: Policy, config: Config, problems: list[Problem]) -> PromptBatch:
    """Encode the prompts of this process's rows. Uses no accelerator, so it may run ahead in a thread."""
    rows = sharding.local_row_indices(policy.mesh, len(problems))
    encoded = [encode_prompt(policy, problems[row]) for row in rows]
    return PromptBatch(problems, stack_prompts(policy, encoded, config.data.max_prompt_tokens))


def stack_prompts(policy: Policy, prompts: Sequence[images.Prompt], width: int) -> Prompts:
    """Stack encoded prompts, padded on the left to `width` tokens."""
    token_qs, start_q = encoding.pad_left([prompt.ids for prompt in prompts], width, policy.tokenizer.pad_id)
    stacked = policy.image_reader.stack(prompts, width) if policy.image_reader else None
    return Prompts(token_qs, start_q, stacked)


def encode_prompt(policy: Policy, problem: Problem) -> images.Prompt:
    """Encode the prompt of one problem.

    Raises:
      UserError: an image cannot be read, or is too large.
    """
    return add_images(policy, encoding.prompt_ids(policy.tokenizer, problem), problem.images)


def add_images(policy: Policy, ids: list[int], image_files: Sequence[bytes]) -> images.Prompt:
    """Add images to a prompt's ids; without a vision tower the ids stay as they are.

    Raises:
      UserError: an image cannot be read, or is too large.
    """
    return policy.image_reader.read(ids, image_files) if policy.image_reader else images.Prompt(ids)


def measure_prompt(policy: Policy, problem: Problem) -> images.PromptSize:
    """Return how many tokens and patches a prompt takes, without cutting its images into patches.

    Raises:
      UserError: an image cannot be read, or the model has no vision tower.
    """
    ids = encoding.prompt_ids(policy.tokenizer, problem)
    if policy.image_reader:
        return policy.image_reader.measure(ids, problem.images)
    if problem.images:
        raise UserError(
            "it has an image, but this model is read without a vision tower; those of Qwen2.5-VL and Qwen3-VL are read"
        )
    return images.PromptSize(len(ids), 0)
