"""Sampling from a policy: weights made ready for it, images looked at, completions drawn; compiled."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from mig_jax.config import RolloutConfig
from mig_jax.distributed import sharding
from mig_jax.models import decoder, sampler
from mig_jax.policy.load import Policy


def rollout_param_specs(policy: Policy, *, gather: bool) -> Any:
    """Shape, dtype and place of the weights that sample and score: rounded to the compute dtype.

    Where nothing is to be rounded nor gathered they are `policy.params` themselves.

    Args:
      gather: they are whole over the mesh's `fsdp`, too, instead of being sent again for every token.
    """
    dtype = policy.config.dtype
    rounded = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), policy.params)
    rules = sharding.RULES | ({"embed": None} if gather else {})
    axes = decoder.param_axes(policy.config)
    weights = sharding.with_shardings(rounded, sharding.shardings(rounded, axes, policy.mesh, rules=rules))

    def is_ready(param, weight):
        return param.dtype == weight.dtype and param.sharding.is_equivalent_to(weight.sharding, param.ndim)

    return policy.params if all(jax.tree.leaves(jax.tree.map(is_ready, policy.params, weights))) else weights


def make_rollout_params(policy: Policy, *, gather: bool) -> Callable:
    """(params) → `rollout_param_specs`, compiled."""
    weights = rollout_param_specs(policy, gather=gather)
    if weights is policy.params:
        return lambda params: params

    def compiled(weight):
        return jax.jit(lambda param: param.astype(weight.dtype), out_shardings=weight.sharding)

    # A program for each, because what is gathered is there twice until it lies where it belongs.
    prepare = jax.tree.map(compiled, weights)
    return lambda params: jax.tree.map(lambda one, param: one(param), prepare, params)


def make_encode_images(policy: Policy) -> Callable:
    """Compiled (weights, prompts) → prompts whose images are features: what the tower sees, once for each prompt.

    Pixels go on only where the tower is trained, which must see them again.
    """

    @jax.jit
    def encode(weights: Any, prompts: sampler.Prompts) -> sampler.Prompts:
        prompts = encode_images(decoder.bind(policy.config, weights), prompts)
        return prompts._replace(images=prompts.images._replace(pixels=None)) if policy.freeze_vision else prompts

    return lambda weights, prompts: encode(weights, prompts) if prompts.images else prompts


def encode_images(model: decoder.Decoder, prompts: sampler.Prompts) -> sampler.Prompts:
    """The prompts with what the tower makes of their images, unless that is there or there are none."""
    if prompts.images is None or prompts.images.feature_qid is not None:
        return prompts
    return prompts._replace(images=prompts.images._replace(feature_qid=model.vision(prompts.images.pixels)))


class Sampler:
    """Compiled (weights, prompts, key) → `sampler.Completions`, of `group_size` completions of every prompt.

    The cache grows by parts, each of which makes it about twice as long: between them the host asks whether all
    completions have ended, so that short ones neither take the memory nor the time of the longest.

    Args:
      cache_parts: how many parts there are at most; a program is compiled for each.
    """

    def __init__(
        self, policy: Policy, *, group_size: int, max_new_tokens: int, temperature: float, kv_cache_chunks: int
    ):
        self.widths, tokenizer = chunk_widths(max_new_tokens, kv_cache_chunks), policy.tokenizer
        prefill_prompts = functools.partial(
            sampler.prefill, group_size=group_size, max_new_tokens=max_new_tokens, pad_id=tokenizer.pad_id
        )
        decode_chunk = functools.partial(
            sampler.decode, temperature=temperature, stop_ids=tokenizer.eos_ids, pad_id=tokenizer.pad_id
        )

        @jax.jit
        def prefill(weights: Any, prompts: sampler.Prompts):
            model = decoder.bind(policy.config, weights)
            return prefill_prompts(model, encode_images(model, prompts))

        @functools.partial(jax.jit, static_argnames="width", donate_argnames="state")
        def decode(weights: Any, state: sampler.DecodeState, cache: tuple, key: jax.Array, *, width: int):
            state, part = decode_chunk(decoder.bind(policy.config, weights), state, cache, key, width=width)
            return state, part, state.is_open_b.any()

        self.prefill, self.decode = prefill, decode

    def __call__(self, weights: Any, prompts: sampler.Prompts, key: jax.Array) -> sampler.Completions:
        state, prompt = self.prefill(weights, prompts)
        cache, are_open = (prompt,), True
        for width in self.widths:
            if len(cache) > 1 and not jax.device_get(are_open):
                break
            state, part, are_open = self.decode(weights, state, cache, key, width=width)
            cache = (*cache, part)
        return sampler.to_completions(state, cache)


def make_sampler(policy: Policy, rollout: RolloutConfig, *, group_size: int, temperature: float) -> Sampler:
    """As `config.rollout` says, but with so many completions of a prompt, at this temperature."""
    return Sampler(
        policy,
        group_size=group_size,
        max_new_tokens=rollout.max_new_tokens,
        temperature=temperature,
        kv_cache_chunks=rollout.kv_cache_chunks,
    )


def chunk_widths(tokens: int, parts: int) -> list[int]:
    """Of 2048 tokens in 4 parts: 256, 256, 512, 1024; fewer parts where there are fewer tokens."""
    ends = [0, *sorted({-(-tokens // 2**n) for n in range(parts)})]
    return [end - start for start, end in zip(ends, ends[1:], strict=False)]
