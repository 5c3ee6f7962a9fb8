"""The vision tower of Qwen2.5-VL (arXiv 2502.13923): image patches to features that replace image tokens.

A pre-norm transformer over patches, with rotary positions in row and column. Most layers attend within windows of an
image, a few to the whole image. At the end each square of merge_size² neighboring patches becomes one feature:

    feature_qid = tower(pixels)                  # decoder.Decoder.vision; I = J / merge_size² merged units

Patches are in **window order**, and every window keeps all of its slots; those beyond the edge of the image are padding
(`image_layout` builds this order). So windows are a reshape, and the patches of a merged unit are neighbors.

J counts patch slots. In `Attention` and `Mlp` they are the tokens T.
"""

import dataclasses
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mig_jax.distributed import sharding
from mig_jax.errors import UserError
from mig_jax.models import image_layout, remat
from mig_jax.models.attention import attend_within
from mig_jax.models.layers import Initializer, rms_norm
from mig_jax.models.rope import Rope, apply_rope, make_rope, rope_frequencies
from mig_jax.models.vision import Grid, ImageLayout, Pixels

ROPE_THETA = 10_000.0  # no config.json of the family has another


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """Shape of a vision tower; its output has the width of the decoder.

    width, layers, heads, mlp_width: D, L, N, F of the tower.
    full_layers: indices, from 0, of layers that attend to the whole image; the others attend within windows.
    patch_size: pixels per side of a patch.
    temporal_patch_size: frames per patch; an image is repeated for this many frames.
    merge_size: patches per side of a merged unit.
    window_size: pixels per side of a window.
    channels: color channels of a pixel.
    norm_eps: added to the mean square in every RMSNorm.
    image_token_id: token in the prompt for each merged unit of an image.
    start_token_id, end_token_id: tokens before and after the units of an image.

    Raises:
      UserError: sizes are not divisible, or a layer does not exist. Lists every error.
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
        errors = []
        if self.width % (4 * self.heads):
            errors.append(f"width={self.width} must be a multiple of 4 · heads, heads={self.heads}")
        if self.window_size % (self.patch_size * self.merge_size):
            errors.append(
                f"window_size={self.window_size} must be a multiple of patch_size={self.patch_size} · "
                f"merge_size={self.merge_size}"
            )
        if absent := [layer for layer in self.full_layers if not 0 <= layer < self.layers]:
            errors.append(f"full_layers={self.full_layers} names {absent}, there are layers 0 to {self.layers - 1}")
        if errors:
            raise UserError("; ".join(errors))

    @property
    def values_per_patch(self) -> int:
        """C, the number of pixel values of a patch."""
        return self.channels * self.temporal_patch_size * self.patch_size**2

    @property
    def patches_per_unit(self) -> int:
        """Number of patches of a merged unit."""
        return self.merge_size**2

    @property
    def patches_per_window(self) -> int:
        """Number of patch slots of a window."""
        return (self.window_size // self.patch_size) ** 2

    def build(
        self, out_width: int, rngs: nnx.Rngs, *, dtype: str, param_dtype: str, remat: str, attention: str
    ) -> "VisionTower":
        """Return the tower; this and what follows is that of `vision.VisionShape`."""
        options = {"dtype": dtype, "param_dtype": param_dtype, "remat": remat, "attention": attention}
        return VisionTower(self, out_width, rngs, **options)

    def count_units(self, grid: Grid) -> int:
        """Return the number of merged units of an image, which is the number of its tokens in the prompt."""
        return image_layout.count_units(grid, self)

    def count_slots(self, grid: Grid) -> int:
        """Return the number of slots of an image, with its windows padded."""
        return image_layout.count_slots(grid, self)

    def layout(self, grid: Grid) -> ImageLayout:
        """Return the window order of one image, see `image_layout.build_layout`."""
        return image_layout.build_layout(grid, self)

    def positions(self, is_image_s: np.ndarray, grids: Sequence[Grid]) -> tuple[np.ndarray, int]:
        """Return the M-RoPE positions of a prompt, see `image_layout.prompt_positions`."""
        return image_layout.prompt_positions(is_image_s, grids, self.merge_size)

    def count_pairs(self, patches: int) -> int:
        """Return how many patches one patch attends to, summed over layers, if a question has `patches` slots."""
        full = len(self.full_layers)
        return full * patches + (self.layers - full) * self.patches_per_window


def patch_rope(position_qj2: jax.Array, head_size: int) -> Rope:
    """Return rotary cos and sin, `[Q, J, H/2]` each: the first half of the frequencies uses rows, the rest columns."""
    frequencies = rope_frequencies(head_size // 2, ROPE_THETA)
    # A third axis without frequencies, so that `make_rope` takes patches as it takes M-RoPE positions.
    sections = (len(frequencies), len(frequencies), 0)
    return make_rope(position_qj2, np.tile(frequencies, 2), sections)


class Attention(nnx.Module):
    """Projections around `attend_within`. Holds the parameters of all layers; is called on the slice of one layer."""

    def __init__(self, config: VisionConfig, init: Initializer, kernel: str):
        self.config, self.kernel, width = config, kernel, config.width
        heads = (config.heads, width // config.heads)
        self.qkv = init.normal((width, 3, *heads), ("embed", "qkv", "heads", "head_size"), inputs=width)
        self.qkv_bias = init.constant(0, (3, *heads), ("qkv", "heads", "head_size"))
        self.out = init.residual((*heads, width), ("heads", "head_size", "embed"), inputs=width)
        self.out_bias = init.constant(0, (width,), ("embed",))

    def __call__(self, x_btd: jax.Array, rope: Rope, image_bt: jax.Array, is_full: jax.Array) -> jax.Array:
        qkv_3btnh = jnp.einsum("btd,dpnh->pbtnh", x_btd, self.qkv) + self.qkv_bias[:, None, None]
        q_btnh, k_btnh = (apply_rope(x_btnh, rope) for x_btnh in qkv_3btnh[:2])
        slots = self.config.patches_per_window

        def within_images(q, k, v):
            return attend_within(q, k, v, image_bt, is_causal=False, kernel=self.kernel)

        def within_windows(*qkv):
            # No window holds patches of two images. Windows are too short for a tiled kernel to be faster.
            q, k, v = (x.reshape(-1, slots, *x.shape[2:]) for x in qkv)
            out = attend_within(q, k, v, image_bt.reshape(-1, slots), is_causal=False, kernel="xla")
            return out.reshape(qkv[0].shape)

        out_btnh = jax.lax.cond(is_full, within_images, within_windows, q_btnh, k_btnh, qkv_3btnh[2])
        return jnp.einsum("btnh,nhd->btd", out_btnh, self.out) + self.out_bias[None, None]


class Mlp(nnx.Module):
    """W_down(silu(W_gate x) ⊙ W_up x), each projection with a bias; parameters as in `Attention`."""

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
    """Pre-norm attention and MLP with residual connections; parameters as in `Attention`."""

    def __init__(self, config: VisionConfig, init: Initializer, kernel: str):
        self.norm_eps = config.norm_eps
        self.attention, self.mlp = Attention(config, init, kernel), Mlp(config, init)
        self.attention_norm = init.constant(1, (config.width,), ("embed",))
        self.mlp_norm = init.constant(1, (config.width,), ("embed",))

    def __call__(self, x_btd: jax.Array, rope: Rope, image_bt: jax.Array, is_full: jax.Array) -> jax.Array:
        y_btd = rms_norm(x_btd, self.attention_norm, self.norm_eps)
        x_btd = x_btd + self.attention(y_btd, rope, image_bt, is_full)
        return x_btd + self.mlp(rms_norm(x_btd, self.mlp_norm, self.norm_eps))


class Merger(nnx.Module):
    """An MLP from the concatenated, normalized patches of a merged unit to the width of the decoder."""

    def __init__(self, config: VisionConfig, out_width: int, init: Initializer):
        self.config = config
        width = config.width * config.patches_per_unit
        self.norm = init.constant(1, (config.width,), ("embed",))
        self.hidden = init.normal((width, width), ("embed", "mlp"), inputs=width)
        self.hidden_bias = init.constant(0, (width,), ("mlp",))
        self.out = init.normal((width, out_width), ("mlp", "embed"), inputs=width)
        self.out_bias = init.constant(0, (out_width,), ("embed",))

    def __call__(self, x_qjd: jax.Array) -> jax.Array:
        c = self.config
        x_qjd = rms_norm(x_qjd, self.norm, c.norm_eps)
        unit_qie = x_qjd.reshape(x_qjd.shape[0], -1, c.patches_per_unit * c.width)
        hidden_qif = jnp.einsum("qie,ef->qif", unit_qie, self.hidden) + self.hidden_bias[None, None]
        hidden_qif = jax.nn.gelu(hidden_qif, approximate=False)
        return jnp.einsum("qif,fd->qid", hidden_qif, self.out) + self.out_bias[None, None]


class VisionTower(nnx.Module):
    """Patches to features, one for each merged unit; see the module docstring.

    Args:
      config: shape of the tower.
      out_width: D of the decoder.
      rngs: source of initial parameters.
      dtype: of activations; norms, rotary angles and softmax are float32.
      param_dtype: of the parameters.
      remat: what the backward pass recomputes, a key of `remat.POLICIES`.
      attention: kernel of layers that attend to whole images, a key of `attention.KERNELS`.
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
        patch = (config.values_per_patch, config.width)
        self.patch_embedding = init.normal(patch, ("patch", "embed"), inputs=patch[0])
        self.layers = Layer(config, Initializer(rngs, param_dtype, config.layers), attention)
        self.merger = Merger(config, out_width, init)

    def __call__(self, pixels: Pixels) -> jax.Array:
        """Return features `[Q, I, D]` of the merged units, in slot order; arbitrary but finite at padding.

        Raises:
          AssertionError: the slots are not whole windows, or patches do not have C values.
        """
        c = self.config
        questions, slots, _ = pixels.patch_qjc.shape
        chex.assert_shape(pixels.patch_qjc, (questions, slots, c.values_per_patch))
        chex.assert_is_divisible(slots, c.patches_per_window)
        x_qjd = self.embed(pixels.patch_qjc)
        rope = patch_rope(pixels.position_qj2, c.width // c.heads)
        x_qjd = self.run_layers(x_qjd, rope, pixels.image_qj)
        merger = jax.tree.map(lambda x: x.astype(self.dtype), self.merger)
        return merger(x_qjd)

    def embed(self, patch_qjc: jax.Array) -> jax.Array:
        """Return the embedding of each patch, `[Q, J, D]`."""
        patch_qjc, matrix_cd = (x.astype(self.dtype) for x in (patch_qjc, self.patch_embedding))
        return sharding.constrain_batch(jnp.einsum("qnc,cd->qnd", patch_qjc, matrix_cd))

    def run_layers(self, x_qjd: jax.Array, rope: Rope, image_qj: jax.Array) -> jax.Array:
        """Scan over all layers."""
        graphdef, params = nnx.split(self.layers)
        is_full_l = np.isin(np.arange(self.config.layers), self.config.full_layers)

        def run_layer(x_qjd, params_and_is_full):
            layer_params, is_full = params_and_is_full
            layer = nnx.merge(graphdef, jax.tree.map(lambda x: x.astype(self.dtype), layer_params))
            return sharding.constrain_batch(layer(x_qjd, rope, image_qj, is_full)), None

        return jax.lax.scan(remat.checkpoint(run_layer, self.remat), x_qjd, (params, is_full_l))[0]
