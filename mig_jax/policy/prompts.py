"""Problems → prompts: the chat template's ids and, where the model sees, the images that stand in them."""

from collections.abc import Sequence
from typing import NamedTuple

from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.models.sampler import Prompts
from mig_jax.policy import encoding, images
from mig_jax.policy.load import Policy


class PromptBatch(NamedTuple):
    """Problems, and on the host, ready for the accelerator, the prompts of those whose rows this process holds."""

    problems: list[Problem]
    prompts: Prompts


def encode_prompts(policy: Policy, config: Config, problems: list[Problem]) -> PromptBatch:
    """Problems with their prompts. Touches no accelerator, so that it may run ahead in a thread."""
    here = sharding.local_row_indices(policy.mesh, len(problems))
    return PromptBatch(problems, tokenize_prompts(policy, config, [problems[q] for q in here]))


def tokenize_prompts(policy: Policy, config: Config, problems: Sequence[Problem]) -> Prompts:
    """Prompts on the host, padded on the left to `data.max_prompt_tokens`."""
    read = [encode_prompt(policy, config, problem) for problem in problems]
    return stack_prompts(policy, read, config.data.max_prompt_tokens)


def stack_prompts(policy: Policy, read: Sequence[images.Prompt], width: int) -> Prompts:
    """Prompts padded on the left to `width` tokens."""
    padded = encoding.pad_left([prompt.ids for prompt in read], width, policy.tokenizer.pad_id)
    return Prompts(*padded, policy.image_reader.stack(read, width) if policy.image_reader else None)


def encode_prompt(policy: Policy, config: Config, problem: Problem) -> images.Prompt:
    """One problem's prompt.

    Raises:
      ValueError: an image cannot be read, or is too large.
    """
    return add_images(policy, _template_ids(policy, config, problem), problem.images)


def add_images(policy: Policy, ids: list[int], shown: Sequence[bytes]) -> images.Prompt:
    """A prompt's ids with what they show, for a model that sees.

    Raises:
      ValueError: an image cannot be read, or is too large.
    """
    return policy.image_reader.read(ids, shown) if policy.image_reader else images.Prompt(ids)


def measure_prompt(policy: Policy, config: Config, problem: Problem) -> images.PromptSize:
    """How many tokens and patches its prompt takes, without cutting its images up.

    Raises:
      ValueError: an image cannot be read, or there are images that the model cannot see.
    """
    ids = _template_ids(policy, config, problem)
    if policy.image_reader:
        return policy.image_reader.measure(ids, problem.images)
    if problem.images:
        raise ValueError("an image, but the model has no vision tower")
    return images.PromptSize(len(ids), 0)


def _template_ids(policy: Policy, config: Config, problem: Problem) -> list[int]:
    return encoding.prompt_ids(policy.tokenizer, problem, system_prompt=config.data.system_prompt)
