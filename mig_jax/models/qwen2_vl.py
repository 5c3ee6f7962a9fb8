"""The vision tower of Qwen2.5-VL: patches of images to what stands in the place of image tokens.

A pre-norm transformer over patches with rotary positions in row and column. Most layers attend within windows of an
image, a few to the whole image; at the end each square of merge_size² neighbouring patches becomes one token:

    feature_qid = tower(pixels)                  # decoder.Decoder.vision; I = N / merge_size² merged units

Patches stand in **window order** and every window keeps all its slots, those beyond the edge of the image as padding
(`image_layout` lays them so). Windows are then a reshape, and the patches of a merged unit are neighbours.

Source: Qwen2.5-VL (arXiv 2502.13923).
"""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mig_jax.distributed import sharding
from mig_jax.models import remat, rope
from mig_jax.models.attention import attend_within
from mig_jax.models.layers import Initializer, rms_norm
from mig_jax.models.rope import Rope

THETA = 10_000.0  # of the rotary positions; no config.json of the family has another


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """The shape of a vision tower; its output is as wide as the decoder.

    width, layers, heads, mlp_width: D, L, N, F of the tower.
    full_layers: the layers that attend to the whole image, from 0; the others attend within windows.
    patch_size: pixels a side.
    temporal_patch_size: frames of a patch; an image is that many equal frames.
    merge_size: patches a side that become one token.
    window_size: pixels a side of a window.
    channels: colours of a pixel.
    norm_eps: added to the mean square in every RMSNorm.
    image_token_id: stands in a prompt once for every merged unit of an image.
    start_token_id, end_token_id: stand before and behind the units of an image.

    Raises:
      ValueError: sizes do not divide, or a layer is not there; all of it is listed.
    """

    width: int
    layers: int
    heads: int
    mlp_width: int
    full_layers: tuple[int, ...]
    patch_size: int = 14
    temporal_patch_size: int = 2
    merge_size: int = 2
    window_size: int = 112
    channels: int = 3
    norm_eps: float = 1e-6
    image_token_id: int = 151_655
    start_token_id: int = 151_652
    end_token_id: int = 151_653

    def __post_init__(self):
        problems = []
        if self.width % (4 * self.heads):
            problems.append(f"width={self.width} must be a multiple of 4 · heads, heads={self.heads}")
        if self.window_size % (self.patch_size * self.merge_size):
            problems.append(
                f"window_size={self.window_size} must be a multiple of patch_size={self.patch_size} · "
                f"merge_size={self.merge_size}"
            )
        if absent := [layer for layer in self.full_layers if not 0 <= layer < self.layers]:
            problems.append(f"full_layers={self.full_layers} names {absent}, there are layers 0 to {self.layers - 1}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def patch_numbers(self) -> int:
        """C: the numbers of a patch."""
        return self.channels * self.temporal_patch_size * self.patch_size**2

    @property
    def merge_slots(self) -> int:
        """Patches of a merged unit."""
        return self.merge_size**2

    @property
    def window_slots(self) -> int:
        """Patches of a window."""
        return (self.window_size // self.patch_size) ** 2


class Pixels(NamedTuple):
    """The patches of Q questions' images, N slots each, in window order; see `image_layout`.

    patch_qnc: `[Q, N, C]` the numbers of each patch; 0 at padding.
    position_qn2: `[Q, N, 2]` row and column of each patch in its image.
    image_qn: `[Q, N]` int32 which of its question's images a patch belongs to; −1: padding.
    """

    patch_qnc: jax.Array
    position_qn2: jax.Array
    image_qn: jax.Array


class Images(NamedTuple):
    """What Q prompts of S' slots need of their images; each prompt's are shared by all that is answered to it.

    index_qs: `[Q, S']` int32 which merged unit stands at each slot of the prompt; −1: the token itself.
    position_qs3: `[Q, S', 3]` int32 position of each slot in time, height and width (M-RoPE); 0 at padding.
    next_q: `[Q]` int32 position, on all three axes, of the first token behind the prompt.
    pixels: the images; None where features are enough.
    feature_qid: `[Q, I, D]` what the tower makes of them; None where it has not looked yet.
    """

    index_qs: jax.Array
    position_qs3: jax.Array
    next_q: jax.Array
    pixels: Pixels | None = None
    feature_qid: jax.Array | None = None


def patch_angles(position_qn2: jax.Array, head_size: int) -> Rope:
    """Rotary cos and sin, each `[Q, N, H/2]`: the first half of the frequencies turns by row, the other by column."""
    frequency_f = rope.frequencies(head_size // 2, THETA)
    # A third axis without frequencies, so that the tower's rotary positions are the decoder's.
    sections = (len(frequency_f), len(frequency_f), 0)
    return rope.angles(position_qn2, np.tile(frequency_f, 2), sections)


class Attention(nnx.Module):
    """Projections around `attend_within`; patch slots are T here. Holds all layers' parameters, is called on one's."""

    def __init__(self, config: VisionConfig, init: Initializer, kernel: str):
        self.config, self.kernel, width = config, kernel, config.width
        heads = (config.heads, width // config.heads)
        self.qkv = init.normal((width, 3, *heads), ("embed", "qkv", "heads", "head_size"), inputs=width)
        self.qkv_bias = init.constant(0, (3, *heads), ("qkv", "heads", "head_size"))
        self.out = init.residual((*heads, width), ("heads", "head_size", "embed"), inputs=width)
        self.out_bias = init.constant(0, (width,), ("embed",))

    def __call__(self, x_btd: jax.Array, turn: Rope, image_bt: jax.Array, is_full: jax.Array) -> jax.Array:
        qkv = jnp.einsum("btd,dpnh->pbtnh", x_btd, self.qkv) + self.qkv_bias[:, None, None]
        q_btnh, k_btnh = (rope.rotate(x, turn) for x in qkv[:2])
        slots = self.config.window_slots

        def within_images(q, k, v):
            return attend_within(q, k, v, image_bt, is_causal=False, kernel=self.kernel)

        def within_windows(*qkv):
            # No window holds patches of two images. Windows are too short for a kernel to gain by its tiles.
            q, k, v = (x.reshape(-1, slots, *x.shape[2:]) for x in qkv)
            mixed = attend_within(q, k, v, image_bt.reshape(-1, slots), is_causal=False, kernel="xla")
            return mixed.reshape(qkv[0].shape)

        mixed_btnh = jax.lax.cond(is_full, within_images, within_windows, q_btnh, k_btnh, qkv[2])
        return jnp.einsum("btnh,nhd->btd", mixed_btnh, self.out) + self.out_bias[None, None]


class Mlp(nnx.Module):
    """W_down(silu(W_gate x) ⊙ W_up x), all with biases; parameters as in `Attention`."""

    def __init__(self, config: VisionConfig, init: Initializer):
        shape, axes = (config.width, config.mlp_width), ("embed", "mlp")
        self.gate, self.up = (init.normal(shape, axes, inputs=config.width) for _ in range(2))
        self.gate_bias, self.up_bias = (init.constant(0, shape[1:], axes[1:]) for _ in range(2))
        self.down = init.residual(shape[::-1], axes[::-1], inputs=config.mlp_width)
        self.down_bias = init.constant(0, shape[:1], axes[:1])

    def __call__(self, x_btd: jax.Array) -> jax.Array:
        gate_btf = jnp.einsum("btd,df->btf", x_btd, self.gate) + self.gate_bias[None, None]
        up_btf = jnp.einsum("btd,df->btf", x_btd, self.up) + self.up_bias[None, None]
        return jnp.einsum("btf,fd->btd", jax.nn.silu(gate_btf) * up_btf, self.down) + self.down_bias[None, None]


class Layer(nnx.Module):
    """Attention and MLP, each behind its norm and added to the stream; parameters as in `Attention`."""

    def __init__(self, config: VisionConfig, init: Initializer, kernel: str):
        self.norm_eps = config.norm_eps
        self.attention, self.mlp = Attention(config, init, kernel), Mlp(config, init)
        self.attention_norm = init.constant(1, (config.width,), ("embed",))
        self.mlp_norm = init.constant(1, (config.width,), ("embed",))

    def __call__(self, x_btd: jax.Array, turn: Rope, image_bt: jax.Array, is_full: jax.Array) -> jax.Array:
        y_btd = rms_norm(x_btd, self.attention_norm, self.norm_eps)
        x_btd = x_btd + self.attention(y_btd, turn, image_bt, is_full)
        return x_btd + self.mlp(rms_norm(x_btd, self.mlp_norm, self.norm_eps))


class Merger(nnx.Module):
    """The merge_size² patches of a unit, normalised and side by side, through an MLP to the decoder's width."""

    def __init__(self, config: VisionConfig, out_width: int, init: Initializer):
        self.config = config
        width = config.width * config.merge_slots
        self.norm = init.constant(1, (config.width,), ("embed",))
        self.hidden = init.normal((width, width), ("embed", "mlp"), inputs=width)
        self.hidden_bias = init.constant(0, (width,), ("mlp",))
        self.out = init.normal((width, out_width), ("mlp", "embed"), inputs=width)
        self.out_bias = init.constant(0, (out_width,), ("embed",))

    def __call__(self, x_qnd: jax.Array) -> jax.Array:
        c = self.config
        x_qnd = rms_norm(x_qnd, self.norm, c.norm_eps)
        x_qif = x_qnd.reshape(x_qnd.shape[0], -1, c.merge_slots * c.width)
        hidden_qif = jnp.einsum("qif,fg->qig", x_qif, self.hidden) + self.hidden_bias[None, None]
        hidden_qif = jax.nn.gelu(hidden_qif, approximate=False)
        return jnp.einsum("qif,fd->qid", hidden_qif, self.out) + self.out_bias[None, None]


class VisionTower(nnx.Module):
    """Patches to features, one for each merged unit; see the module.

    Args:
      out_width: D of the decoder.
      dtype: of activations; norms, rotary angles and softmax are float32.
      param_dtype: of the parameters.
      remat: what the backward pass computes again, see `remat.POLICIES`.
      attention: the kernel for layers that attend to whole images.
    """

    def __init__(
        self,
        config: VisionConfig,
        out_width: int,
        rngs: nnx.Rngs,
        *,
        dtype: str,
        param_dtype: str,
        remat: str = "none",
        attention: str = "xla",
    ):
        self.config, self.dtype, self.remat = config, dtype, remat
        init = Initializer(rngs, param_dtype)
        patch = (config.patch_numbers, config.width)
        self.patch_embedding = init.normal(patch, ("patch", "embed"), inputs=patch[0])
        self.layers = Layer(config, Initializer(rngs, param_dtype, config.layers), attention)
        self.merger = Merger(config, out_width, init)

    def __call__(self, pixels: Pixels) -> jax.Array:
        """Features `[Q, I, D]` of the merged units, in the order of their slots; arbitrary but finite at padding.

        Raises:
          AssertionError: the slots are no whole windows, or a patch has other numbers than the config says.
        """
        c = self.config
        questions, slots, _ = pixels.patch_qnc.shape
        chex.assert_shape(pixels.patch_qnc, (questions, slots, c.patch_numbers))
        chex.assert_is_divisible(slots, c.window_slots)
        x_qnd = self.embed(pixels.patch_qnc)
        turn = patch_angles(pixels.position_qn2, c.width // c.heads)
        x_qnd = self.run_layers(x_qnd, turn, pixels.image_qn)
        merger = jax.tree.map(lambda x: x.astype(self.dtype), self.merger)
        return merger(x_qnd)

    def embed(self, patch_qnc: jax.Array) -> jax.Array:
        """`[Q, N, D]` of each patch alone."""
        patch_qnc, matrix_cd = (x.astype(self.dtype) for x in (patch_qnc, self.patch_embedding))
        return sharding.constrain_batch(jnp.einsum("qnc,cd->qnd", patch_qnc, matrix_cd))

    def run_layers(self, x_qnd: jax.Array, turn: Rope, image_qn: jax.Array) -> jax.Array:
        """All layers, scanned."""
        graphdef, params = nnx.split(self.layers)
        is_full_l = np.isin(np.arange(self.config.layers), self.config.full_layers)

        def run_layer(x_qnd, params_and_kind):
            layer_params, is_full = params_and_kind
            layer = nnx.merge(graphdef, jax.tree.map(lambda x: x.astype(self.dtype), layer_params))
            return sharding.constrain_batch(layer(x_qnd, turn, image_qn, is_full)), None

        return jax.lax.scan(remat.checkpoint(run_layer, self.remat), x_qnd, (params, is_full_l))[0]
