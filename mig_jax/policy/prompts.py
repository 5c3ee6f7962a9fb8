"""Problems to prompts: chat-template ids and images; `text/response_format.py` writes the system prompt."""

from collections.abc import Sequence
from typing import NamedTuple

from mig_jax.config import Config
from mig_jax.data.problem import Problem
from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models.sampler import Prompts
from mig_jax.policy import encoding, images
from mig_jax.policy.load import Policy


class PromptBatch(NamedTuple):
    """A batch of problems and their prompts.

    problems: all Q problems, the same on every process.
    prompts: host arrays of the rows that this process holds.
    """

    problems: list[Problem]
    prompts: Prompts


def encode_prompts(policy: Policy, config: Config, problems: list[Problem]) -> PromptBatch:
    """Encode the prompts of this process's rows. Uses no accelerator, so it may run ahead in a thread."""
    rows = sharding.local_row_indices(policy.mesh, len(problems))
    encoded = [encode_prompt(policy, config, problems[row]) for row in rows]
    return PromptBatch(problems, stack_prompts(policy, encoded, config.data.max_prompt_tokens))


def stack_prompts(policy: Policy, prompts: Sequence[images.Prompt], width: int) -> Prompts:
    """Stack encoded prompts, padded on the left to `width` tokens."""
    token_qs, start_q = encoding.pad_left([prompt.ids for prompt in prompts], width, policy.tokenizer.pad_id)
    stacked = policy.image_reader.stack(prompts, width) if policy.image_reader else None
    return Prompts(token_qs, start_q, stacked)


def encode_prompt(policy: Policy, config: Config, problem: Problem) -> images.Prompt:
    """Encode the prompt of one problem.

    Raises:
      UserError: an image cannot be read, or is too large.
    """
    return add_images(policy, _template_ids(policy, config, problem), problem.images)


def add_images(policy: Policy, ids: list[int], image_files: Sequence[bytes]) -> images.Prompt:
    """Add images to a prompt's ids; without a vision tower the ids stay as they are.

    Raises:
      UserError: an image cannot be read, or is too large.
    """
    return policy.image_reader.read(ids, image_files) if policy.image_reader else images.Prompt(ids)


def measure_prompt(policy: Policy, config: Config, problem: Problem) -> images.PromptSize:
    """Return how many tokens and patches a prompt takes, without cutting its images into patches.

    Raises:
      UserError: an image cannot be read, or the model has no vision tower.
    """
    ids = _template_ids(policy, config, problem)
    if policy.image_reader:
        return policy.image_reader.measure(ids, problem.images)
    if problem.images:
        raise UserError("it has an image, but the model has no vision tower")
    return images.PromptSize(len(ids), 0)


def _template_ids(policy: Policy, config: Config, problem: Problem) -> list[int]:
    return encoding.prompt_ids(policy.tokenizer, problem, system_prompt=config.data.system_prompt)
