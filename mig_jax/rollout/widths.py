"""Widths of batches: prompts and completions are cut to the longest of a batch, in few sizes, so that few are compiled.

A batch of short rows takes neither the time nor the memory of the longest possible ones:

          limit: max_prompt_tokens │ max_new_tokens                       cut
          · · · · · · p p p p p p p│c c c c · · · · · · · ·       · p p p p p p p│c c c c · ·
          · · · · · · · · p p p p p│c c c c c · · · · · · ·   →   · · · p p p p p│c c c c c ·

Numbers are the same to rounding. A width depends on the lengths of the batch alone, so that a resumed run, and every
process of a run, takes the same one.
"""

import jax
import jax.numpy as jnp

from mig_jax.distributed import multihost
from mig_jax.learning.losses import Batch
from mig_jax.models.sampler import Prompts

# Shares of a limit that a width may be, besides the limit.
SHARES = (1 / 8, 1 / 4, 1 / 2, 3 / 4)

# A smaller width would save less than its programs take to compile.
SMALLEST = 64


def possible_widths(limit: int) -> tuple[int, ...]:
    """Return all widths of a side whose longest possible row has `limit` tokens, in ascending order."""
    shares = (-int(-limit * share // 1) for share in SHARES)
    return (*(width for width in shares if width >= SMALLEST), limit)


def choose_width(longest: int, limit: int) -> int:
    """Return the smallest of `possible_widths` that has room for `longest` tokens.

    Raises:
      ValueError: `longest` is more than `limit`.
    """
    if longest > limit:
        raise ValueError(f"{longest} tokens do not fit into {limit}")
    return next(width for width in possible_widths(limit) if width >= longest)


def longest_of_all(*lengths: int) -> list[int]:
    """Return the maximum over all processes of each length; every process must call this."""
    return [max(of_one) for of_one in zip(*multihost.all_gather_objects(list(lengths)), strict=True)]


def longest_prompt(prompts: Prompts) -> int:
    """Return the length of the longest prompt, in tokens, of host arrays."""
    return prompts.token_qs.shape[1] - int(min(prompts.start_q))


def cut_prompts(prompts: Prompts, longest: int) -> Prompts:
    """Return prompts of at most `longest` tokens with a width of `choose_width`; the limit is their width now."""
    slots = prompts.token_qs.shape[1]
    cut = slots - choose_width(longest, slots)
    images = prompts.images
    if images is not None:
        images = images._replace(index_qs=images.index_qs[:, cut:], position_qs3=images.position_qs3[:, cut:])
    return prompts._replace(token_qs=prompts.token_qs[:, cut:], start_q=prompts.start_q - cut, images=images)


def widths_of(batch: Batch) -> tuple[int, int]:
    """Return the widths of the prompts and of the completions of a batch."""
    completion = batch.full_mask_bt.shape[1]
    return batch.token_bs.shape[1] - completion, completion


def widen(batch: Batch, prompt: int, completion: int) -> Batch:
    """Return the batch with padding up to these widths."""
    left, right = prompt - widths_of(batch)[0], completion - widths_of(batch)[1]

    def pad(x: jax.Array, before: int, after: int, value: int = 0) -> jax.Array:
        sides = [(0, 0), (before, after), *[(0, 0)] * (x.ndim - 2)]
        return jnp.pad(x, sides, constant_values=value)

    images = batch.images
    if images is not None:
        index_qs, position_qs3 = pad(images.index_qs, left, 0, -1), pad(images.position_qs3, left, 0)
        images = images._replace(index_qs=index_qs, position_qs3=position_qs3)
    of_tokens = {name: getattr(batch, name) for name in batch._fields if name.endswith("_bt")}
    padded = {name: pad(x, 0, right) for name, x in of_tokens.items() if x is not None}
    token_bs = pad(batch.token_bs, left, right)
    return batch._replace(token_bs=token_bs, start_b=batch.start_b + left, images=images, **padded)
