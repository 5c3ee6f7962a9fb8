"""The vision tower of Qwen3-VL (arXiv 2511.21631): image patches to features that replace image tokens, or add to them.

A pre-norm transformer with LayerNorms, in which every patch attends to its whole image. A patch has a learned position,
interpolated from a square grid to the size of the image, and rotary positions in row and column. At the end each square
of merge_size² neighboring patches becomes one feature. So it does after E earlier layers ("deepstack", 2406.04334):

    feature_qid = tower(pixels)                  # `[Q, I, (1 + E)·D]`: the last one first, then in order of the layers

Patches are in the order of the image processor, unit by unit, so that the patches of a unit are neighbors. An image has
no padding of its own. J counts patches; in `Attention` and `Mlp` they are the tokens T.
"""

import dataclasses
import math
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
from mig_jax.models.layers import Initializer, LayerNorm
from mig_jax.models.qwen2_vl import patch_rope
from mig_jax.models.rope import Rope, apply_rope
from mig_jax.models.vision import Grid, ImageLayout, Pixels


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """Shape of a vision tower; its output has (1 + E) times the width of the decoder.

    width, layers, heads, mlp_width: D, L, N, F of the tower.
    deepstack_layers: the E layers, from 0, whose outputs become features too, in this order.
    learned_positions: number of learned positions, a square.
    patch_size: pixels per side of a patch.
    temporal_patch_size: frames per patch; an image is repeated for this many frames.
    merge_size: patches per side of a merged unit.
    channels: color channels of a pixel.
    norm_eps: added to the variance in every LayerNorm.
    image_token_id: token in the prompt for each merged unit of an image.
    start_token_id, end_token_id: tokens before and after the units of an image.

    Raises:
      UserError: sizes are not divisible, or a layer does not exist or is out of order. Lists every error.
    """

    width: int
    layers: int
    heads: int
    mlp_width: int
    deepstack_layers: tuple[int, ...]
    learned_positions: int = 2304
    patch_size: int = 16
    temporal_patch_size: int = 2
    merge_size: int = 2
    channels: int = 3
    norm_eps: float = 1e-6
    image_token_id: int = 151_655
    start_token_id: int = 151_652
    end_token_id: int = 151_653

    def __post_init__(self):
        errors, taken = [], self.deepstack_layers
        if self.width % (4 * self.heads):
            errors.append(f"width={self.width} must be a multiple of 4 · heads, heads={self.heads}")
        if math.isqrt(self.learned_positions) ** 2 != self.learned_positions:
            errors.append(f"learned_positions={self.learned_positions} must be a square")
        if list(taken) != sorted({*taken} & {*range(self.layers)}):
            errors.append(f"deepstack_layers={taken} must increase, there are layers 0 to {self.layers - 1}")
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
        """Number of patches of a merged unit: there are no windows."""
        return self.patches_per_unit

    def build(
        self, out_width: int, rngs: nnx.Rngs, *, dtype: str, param_dtype: str, remat: str, attention: str
    ) -> "VisionTower":
        """Return the tower; this and what follows is that of `vision.VisionShape`."""
        options = {"dtype": dtype, "param_dtype": param_dtype, "remat": remat, "attention": attention}
        return VisionTower(self, out_width, rngs, **options)

    def count_units(self, grid: Grid) -> int:
        """Return the number of merged units of an image, which is the number of its tokens in the prompt."""
        return grid.rows * grid.columns // self.patches_per_unit

    def count_slots(self, grid: Grid) -> int:
        """Return the number of patches of an image."""
        return grid.rows * grid.columns

    def layout(self, grid: Grid) -> ImageLayout:
        """Return the order of the image processor, see `image_layout.build_unit_order`."""
        return image_layout.build_unit_order(grid, self.merge_size)

    def positions(self, is_image_s: np.ndarray, grids: Sequence[Grid]) -> tuple[np.ndarray, int]:
        """Return the M-RoPE positions of a prompt, see `image_layout.prompt_positions`."""
        return image_layout.prompt_positions(is_image_s, grids, self.merge_size)

    def count_pairs(self, patches: int) -> int:
        """Return how many patches one patch attends to, summed over layers, if a question has `patches` slots."""
        return self.layers * patches


def image_sizes(position_qj2: jax.Array, image_qj: jax.Array) -> jax.Array:
    """Return the rows and columns of the image of each patch, `[Q, J, 2]`: those of its last patch + 1."""
    is_same_qjj = image_qj[:, :, None] == image_qj[:, None, :]
    return 1 + jnp.max(jnp.where(is_same_qjj[..., None], position_qj2[:, None], 0), axis=2)


def interpolate(table_pd: jax.Array, position_qj2: jax.Array, size_qj2: jax.Array) -> jax.Array:
    """Return the learned position of each patch, float32 `[Q, J, D]`: bilinear, corners of image and grid aligned.

    Args:
      table_pd: `[P, D]` learned positions of a square grid, in reading order.
      position_qj2: `[Q, J, 2]` row and column of each patch.
      size_qj2: `[Q, J, 2]` rows and columns of its image.
    """
    side = math.isqrt(len(table_pd))
    place_qj2 = position_qj2.astype(jnp.float32) * (side - 1) / jnp.maximum(size_qj2 - 1, 1)
    low_qj2 = jnp.floor(place_qj2).astype(jnp.int32)
    ends = low_qj2, jnp.minimum(low_qj2 + 1, side - 1)
    weights = 1 - (place_qj2 - low_qj2), place_qj2 - low_qj2

    def corner(row: int, column: int) -> jax.Array:
        vector_qjd = table_pd[ends[row][..., 0] * side + ends[column][..., 1]].astype(jnp.float32)
        return vector_qjd * (weights[row][..., 0] * weights[column][..., 1])[..., None]

    return corner(0, 0) + corner(0, 1) + corner(1, 0) + corner(1, 1)


class Attention(nnx.Module):
    """Projections around `attend_within`. Holds the parameters of all layers; is called on the slice of one layer."""

    def __init__(self, config: VisionConfig, init: Initializer, kernel: str):
        self.kernel, width = kernel, config.width
        heads = (config.heads, width // config.heads)
        self.qkv = init.normal((width, 3, *heads), ("embed", "qkv", "heads", "head_size"), inputs=width)
        self.qkv_bias = init.constant(0, (3, *heads), ("qkv", "heads", "head_size"))
        self.out = init.residual((*heads, width), ("heads", "head_size", "embed"), inputs=width)
        self.out_bias = init.constant(0, (width,), ("embed",))

    def __call__(self, x_btd: jax.Array, rope: Rope, image_bt: jax.Array) -> jax.Array:
        qkv_3btnh = jnp.einsum("btd,dpnh->pbtnh", x_btd, self.qkv[...]) + self.qkv_bias[:, None, None]
        q_btnh, k_btnh = (apply_rope(x_btnh, rope) for x_btnh in qkv_3btnh[:2])
        out_btnh = attend_within(q_btnh, k_btnh, qkv_3btnh[2], image_bt, is_causal=False, kernel=self.kernel)
        return jnp.einsum("btnh,nhd->btd", out_btnh, self.out[...]) + self.out_bias[None, None]


class Mlp(nnx.Module):
    """W_out σ(W_hidden x), σ an approximation of gelu, each projection with a bias; parameters as in `Attention`."""

    def __init__(self, config: VisionConfig, init: Initializer):
        self.hidden = init.normal((config.width, config.mlp_width), ("embed", "mlp"), inputs=config.width)
        self.hidden_bias = init.constant(0, (config.mlp_width,), ("mlp",))
        self.out = init.residual((config.mlp_width, config.width), ("mlp", "embed"), inputs=config.mlp_width)
        self.out_bias = init.constant(0, (config.width,), ("embed",))

    def __call__(self, x_btd: jax.Array) -> jax.Array:
        hidden_btf = jnp.einsum("btd,df->btf", x_btd, self.hidden[...]) + self.hidden_bias[None, None]
        hidden_btf = jax.nn.gelu(hidden_btf, approximate=True)
        return jnp.einsum("btf,fd->btd", hidden_btf, self.out[...]) + self.out_bias[None, None]


class Layer(nnx.Module):
    """Pre-norm attention and MLP with residual connections; parameters as in `Attention`."""

    def __init__(self, config: VisionConfig, init: Initializer, kernel: str):
        self.attention, self.mlp = Attention(config, init, kernel), Mlp(config, init)
        self.attention_norm, self.mlp_norm = (LayerNorm(config.width, config.norm_eps, init) for _ in range(2))

    def __call__(self, x_btd: jax.Array, rope: Rope, image_bt: jax.Array) -> jax.Array:
        x_btd = x_btd + self.attention(self.attention_norm(x_btd), rope, image_bt)
        return x_btd + self.mlp(self.mlp_norm(x_btd))


class Merger(nnx.Module):
    """An MLP from the concatenated patches of a merged unit to the width of the decoder.

    Args:
      config: shape of the tower.
      out_width: D of the decoder.
      init: of one merger, or of the stacked ones after earlier layers.
      norm_units: normalize whole units instead of patches.
    """

    def __init__(self, config: VisionConfig, out_width: int, init: Initializer, *, norm_units: bool):
        self.norm_units, self.unit_width = norm_units, config.width * config.patches_per_unit
        self.norm = LayerNorm(self.unit_width if norm_units else config.width, config.norm_eps, init)
        self.hidden = init.normal((self.unit_width, self.unit_width), ("embed", "mlp"), inputs=self.unit_width)
        self.hidden_bias = init.constant(0, (self.unit_width,), ("mlp",))
        self.out = init.normal((self.unit_width, out_width), ("mlp", "embed"), inputs=self.unit_width)
        self.out_bias = init.constant(0, (out_width,), ("embed",))

    def __call__(self, x_qjd: jax.Array) -> jax.Array:
        shape = (x_qjd.shape[0], -1, self.unit_width)
        unit_qie = self.norm(x_qjd.reshape(shape)) if self.norm_units else self.norm(x_qjd).reshape(shape)
        hidden_qif = jnp.einsum("qie,ef->qif", unit_qie, self.hidden[...]) + self.hidden_bias[None, None]
        hidden_qif = jax.nn.gelu(hidden_qif, approximate=False)
        return jnp.einsum("qif,fd->qid", hidden_qif, self.out[...]) + self.out_bias[None, None]


class VisionTower(nnx.Module):
    """Patches to features, 1 + E for each merged unit; see the module docstring.

    Args:
      config: shape of the tower.
      out_width: D of the decoder.
      rngs: source of initial parameters.
      dtype: of activations; norms, rotary angles, interpolation and softmax are float32.
      param_dtype: of the parameters.
      remat: what the backward pass recomputes, a key of `remat.POLICIES`.
      attention: a key of `attention.KERNELS`.
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
        patch, positions = (config.values_per_patch, config.width), (config.learned_positions, config.width)
        self.patch_embedding = init.normal(patch, ("patch", "embed"), inputs=patch[0])
        self.patch_bias = init.constant(0, patch[1:], ("embed",))
        self.position_embedding = init.normal(positions, ("patch", "embed"), inputs=config.width)
        self.layers = Layer(config, Initializer(rngs, param_dtype, config.layers), attention)
        self.merger = Merger(config, out_width, init, norm_units=False)
        if config.deepstack_layers:
            stacked = Initializer(rngs, param_dtype, len(config.deepstack_layers))
            self.deepstack_mergers = Merger(config, out_width, stacked, norm_units=True)

    def __call__(self, pixels: Pixels) -> jax.Array:
        """Return features `[Q, I, (1 + E)·D]` of the merged units, in slot order; arbitrary but finite at padding.

        Raises:
          AssertionError: the slots are not whole units, or patches do not have C values.
        """
        c = self.config
        questions, slots, _ = pixels.patch_qjc.shape
        chex.assert_shape(pixels.patch_qjc, (questions, slots, c.values_per_patch))
        chex.assert_is_divisible(slots, c.patches_per_unit)
        rope = patch_rope(pixels.position_qj2, c.width // c.heads)
        x_qjd, taken_qejd = self.run_layers(self.embed(pixels), rope, pixels.image_qj)
        merger = jax.tree.map(lambda x: x.astype(self.dtype), self.merger)
        features = [merger(x_qjd)]
        if c.deepstack_layers:
            graphdef, params = nnx.split(jax.tree.map(lambda x: x.astype(self.dtype), self.deepstack_mergers))
            merge = jax.vmap(lambda params, x_qjd: nnx.merge(graphdef, params)(x_qjd), in_axes=(0, 1), out_axes=2)
            features.append(merge(params, taken_qejd).reshape(*features[0].shape[:2], -1))
        return jnp.concatenate(features, axis=-1)

    def embed(self, pixels: Pixels) -> jax.Array:
        """Return the embedding of each patch with its learned position, `[Q, J, D]`."""
        patch_qjc, matrix_cd, bias_d, table_pd = (
            x.astype(self.dtype)
            for x in (pixels.patch_qjc, self.patch_embedding, self.patch_bias, self.position_embedding)
        )
        size_qj2 = image_sizes(pixels.position_qj2, pixels.image_qj)
        position_qjd = interpolate(table_pd, pixels.position_qj2, size_qj2).astype(self.dtype)
        x_qjd = jnp.einsum("qnc,cd->qnd", patch_qjc, matrix_cd) + bias_d[None, None] + position_qjd
        return sharding.constrain_batch(x_qjd)

    def run_layers(self, x_qjd: jax.Array, rope: Rope, image_qj: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Scan over all layers; return the output of the last one, and `[Q, E, J, D]` those of `deepstack_layers`."""
        graphdef, params = nnx.split(self.layers)
        taken = self.config.deepstack_layers
        # The other layers write to a last row, which nobody reads.
        row_l = np.array([taken.index(n) if n in taken else len(taken) for n in range(self.config.layers)])
        empty = jnp.zeros((x_qjd.shape[0], len(taken) + 1, *x_qjd.shape[1:]), x_qjd.dtype)

        def run_layer(carry, params_and_row):
            (x_qjd, taken_qejd), (layer_params, row) = carry, params_and_row
            layer = nnx.merge(graphdef, jax.tree.map(lambda x: x.astype(self.dtype), layer_params))
            x_qjd = sharding.constrain_batch(layer(x_qjd, rope, image_qj))
            taken_qejd = jax.lax.dynamic_update_index_in_dim(taken_qejd, x_qjd, row, axis=1)
            return (x_qjd, sharding.constrain_batch(taken_qejd)), None

        start = x_qjd, sharding.constrain_batch(empty)
        (x_qjd, taken_qejd), _ = jax.lax.scan(remat.checkpoint(run_layer, self.remat), start, (params, row_l))
        return x_qjd, taken_qejd[:, :-1]
