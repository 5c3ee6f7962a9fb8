"""One decoder for Llama, Qwen, SmolLM3, Gemma 3 and relatives, with rotary embeddings and grouped-query attention.

    x ← x + Attention(RMSNorm(x))        x ← x + W_down(silu(W_gate y) ⊙ W_up y),  y = RMSNorm(x)

The families differ only in flags of `DecoderConfig`. Parameters are a nested dict of arrays. Those of the layers are
stacked on a leading axis L and scanned over, so that the size of the program does not depend on depth:

    params = decoder.init_params(config, key)
    model = decoder.bind(config, params)                  # inside jit and grad, with params as an argument
    hidden_rtd, new_kv = model(token_rt, position_rt, visible_rt)
    unembed_dv = model.unembed_dv()

Sources: Llama (arXiv 2302.13971), Qwen2 (2407.10671), Qwen3 (2505.09388), RoPE (2104.09864), GQA (2305.13245).
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util

from mig_jax.distributed import sharding
from mig_jax.models import adapters, image_features, remat
from mig_jax.models.attention import attend
from mig_jax.models.cache import GrowingCache, GrowingPart, KeyValue, KVCache, cache_slots
from mig_jax.models.decoder_config import DecoderConfig
from mig_jax.models.experts import Experts, RouterLoad
from mig_jax.models.image_features import ImageFeatures
from mig_jax.models.layers import ACTIVATIONS, Initializer, rms_norm
from mig_jax.models.rope import Rope, apply_rope, attention_factor, make_rope, rope_frequencies
from mig_jax.models.window import Window, make_window

# ------------------------------------------------------------------------------------------------------------- modules


class Attention(nnx.Module):
    """Projections around `attend`. Holds the parameters of all layers; is called on the slice of one layer."""

    def __init__(self, config: DecoderConfig, init: Initializer):
        c = self.config = config
        queries, keys = (c.heads, c.head_size), (c.kv_heads, c.head_size)
        self.query = init.normal((c.width, *queries), ("embed", "heads", "head_size"), inputs=c.width)
        self.key = init.normal((c.width, *keys), ("embed", "kv_heads", "head_size"), inputs=c.width)
        self.value = init.normal((c.width, *keys), ("embed", "kv_heads", "head_size"), inputs=c.width)
        self.out = init.residual((*queries, c.width), ("heads", "head_size", "embed"), inputs=math.prod(queries))
        if c.qkv_bias:
            self.query_bias = init.constant(0, queries, ("heads", "head_size"))
            self.key_bias = init.constant(0, keys, ("kv_heads", "head_size"))
            self.value_bias = init.constant(0, keys, ("kv_heads", "head_size"))
        if c.o_bias:
            self.out_bias = init.constant(0, (c.width,), ("embed",))
        if c.qk_norm:
            self.query_norm = init.norm(c.head_size, "head_size", is_shifted=c.shifted_norms)
            self.key_norm = init.norm(c.head_size, "head_size", is_shifted=c.shifted_norms)

    def __call__(
        self,
        x_btd: jax.Array,
        rope: Rope,
        visible_bx: jax.Array,
        kv_cache: tuple[KeyValue | GrowingPart, ...],
        window: Window | None = None,
    ) -> tuple[jax.Array, KeyValue]:
        c = self.config
        q_btnh = jnp.einsum("btd,dnh->btnh", x_btd, self.query[...])
        k_btmh = jnp.einsum("btd,dmh->btmh", x_btd, self.key[...])
        v_btmh = jnp.einsum("btd,dmh->btmh", x_btd, self.value[...])
        if c.qkv_bias:
            q_btnh += self.query_bias[None, None]
            k_btmh += self.key_bias[None, None]
            v_btmh += self.value_bias[None, None]
        if c.qk_norm:
            q_btnh = rms_norm(q_btnh, self.query_norm, c.norm_eps, is_shifted=c.shifted_norms)
            k_btmh = rms_norm(k_btmh, self.key_norm, c.norm_eps, is_shifted=c.shifted_norms)
        k_btmh = apply_rope(k_btmh, rope)
        out_btnh = attend(
            apply_rope(q_btnh, rope),
            (k_btmh, v_btmh),
            kv_cache,
            visible_bx,
            kernel=c.attention,
            scale=None if c.score_divisor is None else c.score_divisor**-0.5,
            window=window,
        )
        out_btd = jnp.einsum("btnh,nhd->btd", out_btnh, self.out[...])
        if c.o_bias:
            out_btd += self.out_bias[None, None]
        return out_btd, (k_btmh.swapaxes(1, 2), v_btmh.swapaxes(1, 2))


class Mlp(nnx.Module):
    """W_down(σ(W_gate x) ⊙ W_up x), σ silu or another of `ACTIVATIONS`; parameters as in `Attention`."""

    def __init__(self, config: DecoderConfig, init: Initializer):
        self.activation = config.activation
        shape, axes = (config.width, config.mlp_width), ("embed", "mlp")
        self.gate, self.up = (init.normal(shape, axes, inputs=config.width) for _ in range(2))
        self.down = init.residual(shape[::-1], axes[::-1], inputs=config.mlp_width)

    def __call__(self, x_btd: jax.Array) -> jax.Array:
        gate_btf = jnp.einsum("btd,df->btf", x_btd, self.gate[...])
        up_btf = jnp.einsum("btd,df->btf", x_btd, self.up[...])
        return jnp.einsum("btf,fd->btd", ACTIVATIONS[self.activation](gate_btf) * up_btf, self.down[...])


class Layer(nnx.Module):
    """Attention and MLP with norms and residual connections; parameters as in `Attention`."""

    def __init__(self, config: DecoderConfig, init: Initializer):
        self.config = config
        self.attention = Attention(config, init)
        self.mlp = Experts(config.experts, config.width, init) if config.experts else Mlp(config, init)
        norm = functools.partial(init.norm, config.width, "embed", is_shifted=config.shifted_norms)
        self.attention_norm, self.mlp_norm = norm(), norm()
        if config.post_norms:
            self.attention_post_norm, self.mlp_post_norm = norm(), norm()

    def __call__(
        self,
        x_btd: jax.Array,
        rope: Rope,
        visible_bx: jax.Array,
        kv_cache: tuple[KeyValue | GrowingPart, ...],
        window: Window | None = None,
        counted_bt: jax.Array | None = None,
    ) -> tuple[jax.Array, KeyValue, RouterLoad | None]:
        c = self.config
        norm = functools.partial(rms_norm, eps=c.norm_eps, is_shifted=c.shifted_norms)
        y_btd, new_kv = self.attention(norm(x_btd, self.attention_norm), rope, visible_bx, kv_cache, window)
        x_btd = x_btd + (norm(y_btd, self.attention_post_norm) if c.post_norms else y_btd)
        y_btd = norm(x_btd, self.mlp_norm)
        y_btd, load = self.mlp(y_btd, counted_bt) if isinstance(self.mlp, Experts) else (self.mlp(y_btd), None)
        return x_btd + (norm(y_btd, self.mlp_post_norm) if c.post_norms else y_btd), new_kv, load


class Decoder(nnx.Module):
    """Tokens to hidden states. Logits are computed where they are needed (`rewards.logprobs`), in chunks."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        init = Initializer(rngs, config.param_dtype)
        self.embedding = init.normal((config.vocab_size, config.width), ("vocab", "embed"), inputs=config.width)
        self.layers = Layer(config, Initializer(rngs, config.param_dtype, config.layers))
        self.norm = init.norm(config.width, "embed", is_shifted=config.shifted_norms)
        if not config.tied_head:
            self.head = init.normal((config.width, config.vocab_size), ("embed", "vocab"), inputs=config.width)
        if config.vision:
            self.vision = config.vision.build(
                config.width,
                rngs,
                dtype=config.dtype,
                param_dtype=config.param_dtype,
                remat=config.remat,
                attention=config.attention,
            )
        if config.lora:  # drawn last, so that adapters do not change the other initial parameters
            self.layers = adapters.adapt(self.layers, config.lora, rngs)

    def __call__(
        self,
        token_bt: jax.Array,
        position_bt: jax.Array,
        visible_bx: jax.Array,
        kv_cache: tuple[KVCache, ...] = (),
        *,
        features: ImageFeatures | None = None,
        growing: GrowingCache | None = None,
        layers: Sequence[Any] | None = None,
    ) -> tuple[jax.Array, KVCache]:
        """Run B sequences of T new tokens, each causal in itself, after the tokens of the cache.

        Args:
          token_bt: `[B, T]` ids.
          position_bt: `[B, T]` positions, used by the rotary embedding only; `[B, T, 3]` if there are images.
          visible_bx: `[B, S]` bool, which of the S cached tokens of all parts each sequence sees. Without a cache
            `[B, T]`: which of its own tokens are not padding.
          kv_cache: parts in the order of their tokens; not modified. A part may have fewer rows than there are
            sequences: neighboring sequences then share a row, as samples share their prompt.
          features: outputs of `vision` that replace image tokens, and add to their hidden states.
          growing: the last part of the cache, if it is not full.
          layers: from `split_layers`, of the same `kv_cache`, to unroll the layers; None to scan over them.

        Returns:
          `[B, T, D]` hidden states after the final norm, and the keys and values of the T new tokens only.
        """
        options: dict[str, Any] = {"features": features, "growing": growing, "layers": layers}
        return self.run(token_bt, position_bt, visible_bx, kv_cache, **options)[:2]

    def run(
        self,
        token_bt: jax.Array,
        position_bt: jax.Array,
        visible_bx: jax.Array,
        kv_cache: tuple[KVCache, ...] = (),
        *,
        features: ImageFeatures | None = None,
        growing: GrowingCache | None = None,
        layers: Sequence[Any] | None = None,
        counted_bt: jax.Array | None = None,
    ) -> tuple[jax.Array, KVCache, RouterLoad | None]:
        """Run the decoder as `__call__` does, and return the load of the routers, too.

        Args:
          counted_bt: `[B, T]` bool, which tokens the load counts; None: no load is computed.

        Returns:
          What `__call__` returns, and the load with a leading axis L; None without `counted_bt` or
          `DecoderConfig.experts`.
        """
        has_cache = bool(kv_cache or growing)
        slots = cache_slots(kv_cache) + (growing.widths[-1] if growing else 0)
        chex.assert_shape(visible_bx, (token_bt.shape[0], slots if has_cache else token_bt.shape[1]))
        c = self.config
        frequencies = rope_frequencies(c.head_size, c.rope_theta, c.rope_scaling)
        factor, is_interleaved = attention_factor(c.rope_scaling), c.interleaved_sections
        rope = make_rope(position_bt, frequencies, c.rope_sections, factor, is_interleaved=is_interleaved)
        window_rope, window = self._window(position_bt, visible_bx, has_cache=has_cache)
        needs_index = growing or image_features.count_deepstack(features, c.width)
        graphdef, _ = nnx.split(self.layers)

        def run_layer(x_btd, inputs):
            layer_params, layer_cache, is_rotated, has_window, layer_index = inputs
            layer = nnx.merge(graphdef, jax.tree.map(lambda x: x.astype(c.dtype), layer_params))
            layer_rope = rope if window_rope is None else _select(has_window, window_rope, rope)
            layer_rope = layer_rope if is_rotated is None else _rotate_if(is_rotated, layer_rope)
            layer_window = window and window._replace(is_on=has_window)
            if growing:
                layer_cache = *layer_cache, growing.of_layer(layer_index)
            x_btd, new_kv, load = layer(x_btd, layer_rope, visible_bx, layer_cache, layer_window, counted_bt)
            if features is not None and layer_index is not None:
                x_btd = image_features.add_deepstack(x_btd, features, layer_index)
            return sharding.constrain_batch(x_btd), (new_kv, load)

        x_btd = sharding.embed_lookup(self.embedding[...], token_bt, c.dtype)
        if c.scaled_embedding:
            x_btd *= jnp.asarray(c.width**0.5, x_btd.dtype)
        x_btd = sharding.constrain_batch(x_btd if features is None else image_features.insert(x_btd, features))
        if layers is None:
            per_layer = self._layer_inputs(kv_cache, needs_index=bool(needs_index))
            x_btd, (new_kv, load) = jax.lax.scan(remat.checkpoint(run_layer, c.remat), x_btd, per_layer)
        else:
            outputs = []
            for inputs in layers:
                x_btd, output = run_layer(x_btd, inputs)
                outputs.append(output)
            new_kv, load = jax.tree.map(lambda *xs: jnp.stack(xs), *outputs)
        return rms_norm(x_btd, self.norm, c.norm_eps, is_shifted=c.shifted_norms), KVCache(*new_kv), load

    def _layer_inputs(self, kv_cache: tuple[KVCache, ...], *, needs_index: bool) -> Any:
        """Return what the layers differ in, with a leading axis L."""
        c, layer_l = self.config, np.arange(self.config.layers)
        # None, not an array, where all layers are alike: the program is then the same as without these fields.
        is_rotated_l = ~np.isin(layer_l, c.no_rope_layers) if c.no_rope_layers else None
        has_window_l = ~np.isin(layer_l, c.full_layers) if c.window and c.full_layers else None
        return nnx.split(self.layers)[1], kv_cache, is_rotated_l, has_window_l, layer_l if needs_index else None

    def split_layers(self, kv_cache: tuple[KVCache, ...]) -> list[Any]:
        """Return parameters and cache of each layer, to slice them once, before a loop over tokens."""
        inputs = self._layer_inputs(kv_cache, needs_index=True)
        return [jax.tree.map(lambda x, n=n: x[n], inputs) for n in range(self.config.layers)]

    def _window(
        self, position_bt: jax.Array, visible_bx: jax.Array, *, has_cache: bool
    ) -> tuple[Rope | None, Window | None]:
        """Return the rotary embedding and the window of layers with a window; None if they have no other."""
        c, length = self.config, position_bt.shape[1]
        window = make_window(c.window, length, visible_bx, has_cache=has_cache)
        if c.window_rope_theta is None:
            return None, window
        return make_rope(position_bt, rope_frequencies(c.head_size, c.window_rope_theta)), window

    def unembed_dv(self) -> jax.Array:
        """Return the output matrix `[D, V]`, in the dtype of activations."""
        matrix = self.embedding.T if self.config.tied_head else self.head
        return matrix.astype(self.config.dtype)


def _select(condition: jax.Array | None, x: Rope, y: Rope) -> Rope:
    """Return `x` where the condition is true or None, else `y`."""
    return x if condition is None else Rope(*(jnp.where(condition, a, b) for a, b in zip(x, y, strict=True)))


def _rotate_if(is_rotated: jax.Array, rope: Rope) -> Rope:
    """Return `rope`, or an embedding that rotates nothing (angle 0) if `is_rotated` is false."""
    return Rope(jnp.where(is_rotated, rope.cos, 1), jnp.where(is_rotated, rope.sin, 0))


# ---------------------------------------------------------------------------------------------------------- parameters


@functools.cache
def _abstract_decoder(config: DecoderConfig) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0))))


def init_params(config: DecoderConfig, key: jax.Array) -> dict[str, Any]:
    """Return initial parameters, a nested dict of arrays: normal with variance 1 / inputs, norms 1, biases 0."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(params=key))))


def abstract_params(config: DecoderConfig) -> dict[str, Any]:
    """Return the shape and dtype of every parameter as `jax.ShapeDtypeStruct`; allocates nothing."""
    return nnx.to_pure_dict(_abstract_decoder(config)[1])


def param_axes(config: DecoderConfig) -> dict[str, Any]:
    """Return the logical axes of every parameter, such as ("layers", "embed", "mlp"); see `sharding.RULES`."""
    flat = nnx.to_flat_state(_abstract_decoder(config)[1])
    return traverse_util.unflatten_dict({path: param.get_metadata()["axes"] for path, param in flat})


def bind(config: DecoderConfig, params: dict[str, Any]) -> Decoder:
    """Return the decoder with these parameters. It is pure if `params` are arguments of the jitted function."""
    return nnx.merge(_abstract_decoder(config)[0], params)
