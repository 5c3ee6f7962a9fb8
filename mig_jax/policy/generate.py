"""Sample completions: cast and gather parameters, encode images, prefill, decode. Everything here is compiled."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from mig_jax.config import RolloutConfig
from mig_jax.distributed import sharding
from mig_jax.models import decoder, leaving, sampler
from mig_jax.policy.load import Policy


def rollout_param_specs(policy: Policy, *, gather: bool) -> Any:
    """Return shape, dtype and sharding of the parameters used to sample and score, in the compute dtype.

    Returns `policy.params` itself when there is nothing to cast or gather.

    Args:
      policy: the policy whose parameters are trained.
      gather: replicate the parameters over the mesh axis `fsdp`, instead of gathering them again for every token.
    """
    dtype = policy.config.dtype
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), policy.params)
    rules = sharding.RULES | ({"embed": None} if gather else {})
    axes = decoder.param_axes(policy.config)
    specs = sharding.with_shardings(shapes, sharding.shardings(shapes, axes, policy.mesh, rules=rules))

    def is_ready(param, spec):
        return param.dtype == spec.dtype and param.sharding.is_equivalent_to(spec.sharding, param.ndim)

    return policy.params if all(jax.tree.leaves(jax.tree.map(is_ready, policy.params, specs))) else specs


def make_rollout_params_fn(policy: Policy, *, gather: bool) -> Callable[[Any], Any]:
    """Return a compiled function: params -> params as `rollout_param_specs` describes them."""
    specs = rollout_param_specs(policy, gather=gather)
    if specs is policy.params:
        return lambda params: params

    def compile_cast(spec):
        return jax.jit(lambda param: param.astype(spec.dtype), out_shardings=spec.sharding)

    # One program per parameter: while a parameter is gathered, its old and new copy are in memory together.
    casts = jax.tree.map(compile_cast, specs)
    return lambda params: jax.tree.map(lambda cast, param: cast(param), casts, params)


def make_encode_images_fn(policy: Policy) -> Callable[[Any, sampler.Prompts], sampler.Prompts]:
    """Return a compiled function: (params, prompts) -> prompts with image features, computed once per prompt.

    Pixels are kept only if the vision tower is trained, since the update must then run the tower again.
    """

    @jax.jit
    def encode(params: Any, prompts: sampler.Prompts) -> sampler.Prompts:
        prompts = encode_images(decoder.bind(policy.config, params), prompts)
        if prompts.images is None or not policy.freeze_vision:
            return prompts
        return prompts._replace(images=prompts.images._replace(pixels=None))

    return lambda params, prompts: encode(params, prompts) if prompts.images else prompts


def encode_images(model: decoder.Decoder, prompts: sampler.Prompts) -> sampler.Prompts:
    """Add the vision tower's features to the prompts, unless they have features already or no images."""
    if prompts.images is None or prompts.images.feature_qid is not None or prompts.images.pixels is None:
        return prompts
    return prompts._replace(images=prompts.images._replace(feature_qid=model.vision(prompts.images.pixels)))


class Sampler:
    """Samples `group_size` completions of every prompt: (params, prompts, key) -> `sampler.Completions`.

    Rows that have ended leave as soon as few enough are open (`models.leaving`), so that a few long completions do not
    cost what as many as there are rows would. The KV cache grows in chunks, each about as long as all before it. So
    short completions do not take the memory of the longest possible one.

    Args:
      policy: the policy's shape, tokenizer and mesh.
      group_size: completions per prompt.
      max_new_tokens: limit of a completion, in tokens.
      temperature: divides the logits; 0 is greedy.
      kv_cache_chunks: maximum number of chunks. Each compiles one program for every number of rows.
    """

    def __init__(
        self, policy: Policy, *, group_size: int, max_new_tokens: int, temperature: float, kv_cache_chunks: int
    ):
        self.widths, tokenizer = chunk_widths(max_new_tokens, kv_cache_chunks), policy.tokenizer
        prefill_prompts = functools.partial(
            sampler.prefill, group_size=group_size, max_new_tokens=max_new_tokens, pad_id=tokenizer.pad_id
        )
        decode_tokens = functools.partial(
            sampler.decode,
            temperature=temperature,
            stop_ids=tokenizer.eos_ids,
            pad_id=tokenizer.pad_id,
            is_token_v=policy.is_token_v,
            platform=policy.mesh.devices.flat[0].platform,
        )

        @jax.jit
        def prefill(params: Any, prompts: sampler.Prompts):
            model = decoder.bind(policy.config, params)
            return prefill_prompts(model, encode_images(model, prompts))

        @functools.partial(jax.jit, static_argnames=("leave_at", "shards"), donate_argnames=("state", "chunk"))
        def decode(
            params: Any, state: sampler.DecodeState, cache: tuple, chunk: Any, key: jax.Array, *, leave_at, shards
        ):
            model = decoder.bind(policy.config, params)
            state, chunk = decode_tokens(model, state, cache, chunk, key, leave_at=leave_at, shards=shards)
            return state, chunk, (state.t, sampler.count_open(state.is_open_b, shards=shards))

        self.prefill, self.decode = prefill, decode
        self.empty_chunk = jax.jit(sampler.empty_chunk, static_argnames=("rows", "width"))
        self.leave = jax.jit(leaving.leave, static_argnames=("shards", "size"))
        self.rejoin_state = jax.jit(leaving.rejoin_state, donate_argnames="state")
        self.rejoin_chunk = jax.jit(leaving.rejoin_chunk, donate_argnames="chunk")

    def __call__(self, params: Any, prompts: sampler.Prompts, key: jax.Array) -> sampler.Completions:
        return self.start(params, prompts, key)()

    def start(self, params: Any, prompts: sampler.Prompts, key: jax.Array) -> Callable[[], sampler.Completions]:
        """Start sampling, and return a function that waits for the completions.

        Until that is called, the accelerator decodes as far as all rows go together, and the host is free.
        """
        state, prompt_cache = self.prefill(params, prompts)
        shards, rows = sharding.batch_parts(prompts.start_q.shape[0]), state.row_b.shape[0]
        sizes = leaving.subset_sizes(rows // shards)

        def decode(state: sampler.DecodeState, cache: tuple) -> tuple[sampler.DecodeState, tuple, Any]:
            leave_at = max((size for size in sizes if size * shards < state.row_b.shape[0]), default=0)
            state, chunk, progress = self.decode(
                params, state, cache[:-1], cache[-1], key, leave_at=leave_at, shards=shards
            )
            return state, (*cache[:-1], chunk), progress

        def add_chunk(state: sampler.DecodeState, cache: tuple, n: int) -> tuple:
            rows = state.row_b.shape[0]
            return *cache, self.empty_chunk(prompt_cache, rows=rows, width=self.widths[n])

        first = decode(state, add_chunk(state, (prompt_cache,), 0))

        def finish() -> sampler.Completions:
            (state, cache, progress), everyone = first, None
            while True:
                t, n_open = jax.device_get(progress)
                chunks = len(cache) - 1
                is_full = t == sum(self.widths[:chunks])
                if n_open == 0 or (is_full and chunks == len(self.widths)):
                    break
                if is_full:
                    cache = add_chunk(state, cache, chunks)
                else:
                    if everyone:
                        state, cache = self._rejoin(everyone, state, cache)
                    size = min(size for size in sizes if size >= n_open)
                    few, few_cache, index_sb = self.leave(state, cache, shards=shards, size=size)
                    everyone, state, cache = (state, cache, index_sb), few, few_cache
                state, cache, progress = decode(state, cache)
            if everyone:
                state, cache = self._rejoin(everyone, state, cache)
            return sampler.to_completions(state, cache)

        return finish

    def _rejoin(self, everyone: tuple, few: sampler.DecodeState, few_cache: tuple) -> tuple[Any, tuple]:
        """Return the state and cache of all rows, with what has become of the few since they were taken."""
        state, cache, index_sb = everyone
        *same, chunk = cache  # only chunks from the last one on have changed
        chunks = []
        for few_chunk in few_cache[len(same) :]:
            if chunk is None:
                width = decoder.cache_slots((few_chunk,))
                chunk = self.empty_chunk(few_chunk, rows=state.row_b.shape[0], width=width)
            chunks.append(self.rejoin_chunk(chunk, few_chunk, index_sb))
            chunk = None
        return self.rejoin_state(state, few, index_sb), (*same, *chunks)


def make_sampler(policy: Policy, rollout: RolloutConfig, *, group_size: int, temperature: float) -> Sampler:
    """Return a sampler with the limits of `config.rollout` but its own group size and temperature."""
    return Sampler(
        policy,
        group_size=group_size,
        max_new_tokens=rollout.max_new_tokens,
        temperature=temperature,
        kv_cache_chunks=rollout.kv_cache_chunks,
    )


def chunk_widths(tokens: int, chunks: int) -> list[int]:
    """Return the widths of the KV cache's chunks: 2048 tokens in 4 chunks are 256, 256, 512, 1024.

    There are fewer chunks if there are fewer tokens.
    """
    ends = [0, *sorted({-(-tokens // 2**n) for n in range(chunks)})]
    return [end - start for start, end in zip(ends, ends[1:], strict=False)]
