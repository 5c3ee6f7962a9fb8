"""One decoder for the Llama, Qwen2, Qwen2.5 and Qwen3 family: a pre-norm transformer with rotary, grouped attention.

    x ← x + Attention(RMSNorm(x))        x ← x + W_down(silu(W_gate y) ⊙ W_up y),  y = RMSNorm(x)

The families differ by flags of `DecoderConfig` alone. The parameters are a nested dict of arrays, each layer's stacked
on a leading axis L and scanned over, so that the program does not grow with depth:

    params = decoder.init_params(config, key)
    model = decoder.bind(config, params)                  # inside jit and grad: params are their arguments
    hidden_rtd, cache = model(token_rt, position_rt, visible_rt)
    unembed_dv = model.unembed_dv()

Sources: Llama (arXiv 2302.13971), Qwen2 (2407.10671), Qwen3 (2505.09388), RoPE (2104.09864), GQA (2305.13245).
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from mig_jax.distributed import sharding
from mig_jax.models import adapters, qwen2_vl, remat, rope
from mig_jax.models.adapters import LoraConfig
from mig_jax.models.attention import KeyValue, attend
from mig_jax.models.layers import Initializer, rms_norm
from mig_jax.models.qwen2_vl import VisionConfig
from mig_jax.models.rope import Rope, RopeScaling


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder, and how it is computed.

    vocab_size, width, layers, heads, kv_heads, head_size, mlp_width: V, D, L, N, M, H, F of the README; M divides N.
    rope_theta: base of the rotary wavelengths, 2π to 2π·theta tokens.
    rope_scaling: how the wavelengths were changed for longer contexts; None: not at all.
    rope_sections: frequencies that belong to time, height and width (M-RoPE of Qwen2.5-VL); () for text alone.
    norm_eps: added to the mean square in every RMSNorm.
    tied_head: the output matrix is the transposed embedding.
    qkv_bias: queries, keys and values have biases (Qwen2; Llama with `attention_bias`).
    o_bias: so has the output of attention (Llama with `attention_bias`).
    qk_norm: queries and keys are normalised per head (Qwen3).
    vision: the tower that turns images into what stands in the place of their tokens; None for text alone.
    lora: which projections have adapters; None for none.
    max_positions: what the model was trained for, in tokens; for information.
    dtype: of activations and caches; "float32" or "bfloat16". Norms, rotary angles and softmax are float32 always.
    param_dtype: of the parameters.
    remat: what the backward pass computes again instead of keeping it, see `remat.POLICIES`.
    attention: the kernel for sequences without a cache, one of `attention.KERNELS`.

    Raises:
      ValueError: kv_heads does not divide heads, or head_size is odd.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    mlp_width: int
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rope_sections: tuple[int, ...] = ()
    norm_eps: float = 1e-6
    tied_head: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: bool = False
    vision: VisionConfig | None = None
    lora: LoraConfig | None = None
    max_positions: int = 32_768
    dtype: str = "float32"
    param_dtype: str = "float32"
    remat: str = "none"
    attention: str = "xla"

    def __post_init__(self):
        if self.heads % self.kv_heads or self.head_size % 2:
            raise ValueError(
                f"heads={self.heads} must be a multiple of kv_heads={self.kv_heads}, head_size={self.head_size} even"
            )


class ImageFeatures(NamedTuple):
    """What images contribute to the tokens of B rows, B / Q rows to a question.

    feature_qid: `[Q, I, D]` the images of each question, one behind the other.
    index_bt: `[B, T]` which of them stands in the place of each token; −1: the token itself.
    """

    feature_qid: jax.Array
    index_bt: jax.Array


class KVCache(NamedTuple):
    """Keys, already rotated, and values of S tokens of B rows: each `[L, B, S, M, H]`."""

    key_lbsmh: jax.Array
    value_lbsmh: jax.Array


def cache_slots(cache: tuple[KVCache, ...]) -> int:
    """S of all parts together."""
    return sum(part.key_lbsmh.shape[2] for part in cache)


class Attention(nnx.Module):
    """Projections around `attend`. Holds the parameters of all layers; is called on a slice of them, one layer's."""

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
            self.query_norm = init.constant(1, (c.head_size,), ("head_size",))
            self.key_norm = init.constant(1, (c.head_size,), ("head_size",))

    def __call__(self, x_btd: jax.Array, turn: Rope, visible_bx: jax.Array, past: tuple[KeyValue, ...]):
        c = self.config
        q_btnh = jnp.einsum("btd,dnh->btnh", x_btd, self.query[...])
        k_btmh = jnp.einsum("btd,dmh->btmh", x_btd, self.key[...])
        v_btmh = jnp.einsum("btd,dmh->btmh", x_btd, self.value[...])
        if c.qkv_bias:
            q_btnh += self.query_bias[None, None]
            k_btmh += self.key_bias[None, None]
            v_btmh += self.value_bias[None, None]
        if c.qk_norm:
            q_btnh = rms_norm(q_btnh, self.query_norm, c.norm_eps)
            k_btmh = rms_norm(k_btmh, self.key_norm, c.norm_eps)
        new = rope.rotate(k_btmh, turn), v_btmh
        mixed_btnh = attend(rope.rotate(q_btnh, turn), new, past, visible_bx, kernel=c.attention)
        out_btd = jnp.einsum("btnh,nhd->btd", mixed_btnh, self.out[...])
        return out_btd + self.out_bias[None, None] if c.o_bias else out_btd, new


class Mlp(nnx.Module):
    """W_down(silu(W_gate x) ⊙ W_up x); parameters as in `Attention`."""

    def __init__(self, config: DecoderConfig, init: Initializer):
        shape, axes = (config.width, config.mlp_width), ("embed", "mlp")
        self.gate, self.up = (init.normal(shape, axes, inputs=config.width) for _ in range(2))
        self.down = init.residual(shape[::-1], axes[::-1], inputs=config.mlp_width)

    def __call__(self, x_btd: jax.Array) -> jax.Array:
        gate_btf = jnp.einsum("btd,df->btf", x_btd, self.gate[...])
        up_btf = jnp.einsum("btd,df->btf", x_btd, self.up[...])
        return jnp.einsum("btf,fd->btd", jax.nn.silu(gate_btf) * up_btf, self.down[...])


class Layer(nnx.Module):
    """Attention and MLP, each behind its norm and added to the stream; parameters as in `Attention`."""

    def __init__(self, config: DecoderConfig, init: Initializer):
        self.norm_eps = config.norm_eps
        self.attention, self.mlp = Attention(config, init), Mlp(config, init)
        self.attention_norm = init.constant(1, (config.width,), ("embed",))
        self.mlp_norm = init.constant(1, (config.width,), ("embed",))

    def __call__(self, x_btd: jax.Array, turn: Rope, visible_bx: jax.Array, past: tuple[KeyValue, ...]):
        mixed_btd, new = self.attention(rms_norm(x_btd, self.attention_norm, self.norm_eps), turn, visible_bx, past)
        x_btd = x_btd + mixed_btd
        return x_btd + self.mlp(rms_norm(x_btd, self.mlp_norm, self.norm_eps)), new


class Decoder(nnx.Module):
    """Tokens to hidden states; the logits are left to who needs them (`rewards.likelihood`), in chunks."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        init = Initializer(rngs, config.param_dtype)
        self.embedding = init.normal((config.vocab_size, config.width), ("vocab", "embed"), inputs=config.width)
        self.layers = Layer(config, Initializer(rngs, config.param_dtype, config.layers))
        self.norm = init.constant(1, (config.width,), ("embed",))
        if not config.tied_head:
            self.head = init.normal((config.width, config.vocab_size), ("embed", "vocab"), inputs=config.width)
        if config.vision:
            self.vision = qwen2_vl.VisionTower(
                config.vision,
                config.width,
                rngs,
                dtype=config.dtype,
                param_dtype=config.param_dtype,
                remat=config.remat,
                attention=config.attention,
            )
        if config.lora:  # drawn last, so that all else is drawn as without them
            self.layers = adapters.adapt(self.layers, config.lora, rngs)

    def __call__(
        self,
        token_bt: jax.Array,
        position_bt: jax.Array,
        visible_bx: jax.Array,
        cache: tuple[KVCache, ...] = (),
        *,
        features: ImageFeatures | None = None,
    ) -> tuple[jax.Array, KVCache]:
        """Hidden states of B sequences of T new tokens, each causal in itself, behind what is cached.

        Args:
          token_bt: `[B, T]` ids.
          position_bt: `[B, T]` position of each, for the rotary embedding alone; `[B, T, 3]` where there are images.
          visible_bx: `[B, S]` bool, which of the S cached tokens of all parts each sequence sees. Without a cache
            `[B, T]`: which of its own tokens are no padding.
          cache: parts, one behind the other; read, never written. Each may have fewer rows than there are sequences:
            neighbouring ones share a row then, as samples share their prompt.
          features: what stands in the place of image tokens, from `vision`.

        Returns:
          `[B, T, D]` hidden states after the final norm, and the keys and values of the T new tokens alone.
        """
        slots = cache_slots(cache) if cache else token_bt.shape[1]
        chex.assert_shape(visible_bx, (token_bt.shape[0], slots))
        c = self.config
        frequency_f = rope.frequencies(c.head_size, c.rope_theta, c.rope_scaling)
        turn = rope.angles(position_bt, frequency_f, c.rope_sections, rope.magnitude(c.rope_scaling))
        graphdef, params = nnx.split(self.layers)

        def run_layer(x_btd, params_and_past):
            layer_params, past = params_and_past
            layer = nnx.merge(graphdef, jax.tree.map(lambda x: x.astype(c.dtype), layer_params))
            x_btd, new = layer(x_btd, turn, visible_bx, past)
            return sharding.constrain_batch(x_btd), new

        x_btd = sharding.embed_lookup(self.embedding[...], token_bt, c.dtype)
        x_btd = sharding.constrain_batch(x_btd if features is None else _insert_features(x_btd, features))
        x_btd, new = jax.lax.scan(remat.checkpoint(run_layer, c.remat), x_btd, (params, cache))
        return rms_norm(x_btd, self.norm, c.norm_eps), KVCache(*new)

    def unembed_dv(self) -> jax.Array:
        """The output matrix `[D, V]`, in the dtype of the activations."""
        matrix = self.embedding.T if self.config.tied_head else self.head
        return matrix.astype(self.config.dtype)


def _insert_features(x_btd: jax.Array, features: ImageFeatures) -> jax.Array:
    """Embeddings, with image features where `index_bt` says so; a question's features are not repeated for its rows."""
    questions = features.feature_qid.shape[0]
    index_qn = features.index_bt.reshape(questions, -1)
    picked_qnd = jnp.take_along_axis(features.feature_qid, jnp.maximum(index_qn, 0)[..., None], axis=1)
    picked_btd = picked_qnd.reshape(x_btd.shape).astype(x_btd.dtype)
    return jnp.where((features.index_bt >= 0)[..., None], picked_btd, x_btd)


@functools.cache
def _abstract(config: DecoderConfig) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0))))


def init_params(config: DecoderConfig, key: jax.Array) -> dict[str, Any]:
    """Fresh parameters: normal with variance 1 / inputs, norms 1, biases 0; a nested dict of arrays."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(params=key))))


def abstract_params(config: DecoderConfig) -> dict[str, Any]:
    """Shape and dtype of every parameter, as `jax.ShapeDtypeStruct`; allocates nothing."""
    return nnx.to_pure_dict(_abstract(config)[1])


def param_axes(config: DecoderConfig) -> dict[str, Any]:
    """Logical axes of every parameter, e.g. ("layers", "embed", "mlp"); see `sharding.RULES`."""
    flat = nnx.to_flat_state(_abstract(config)[1])
    return traverse_util.unflatten_dict({path: param.get_metadata("axes") for path, param in flat})


def bind(config: DecoderConfig, params: dict[str, Any]) -> Decoder:
    """The decoder with these parameters, pure as long as `params` are arguments of what is jitted."""
    return nnx.merge(_abstract(config)[0], params)
