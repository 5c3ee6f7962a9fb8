"""What the decoder, the sampler, the reader of images and ahead-of-time compilation know of a vision tower.

`VisionShape` is what a tower has to have; `qwen2_vl.VisionConfig` and `qwen3_vl.VisionConfig` are two. A family with
another tower has another class, and nothing else names it. An image goes through these steps:

    grid → layout, on the host                    slots of its patches, and the unit of each of its tokens
    pixels → build(...), on the devices           features, one for each merged unit, which replace the image tokens
    grids → positions, on the host                of each token of the prompt, in time, height and width

With deepstack (arXiv 2406.04334) a unit has 1 + E features, one after the other on the last axis. The first replaces
the image token; each of the others is added to the token's hidden state after one of the decoder's first E layers.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import jax
import numpy as np
from flax import nnx


class Grid(NamedTuple):
    """Size of an image in patches, top to bottom and left to right."""

    rows: int
    columns: int


class ImageLayout(NamedTuple):
    """The slots of one image, in the order of the tower; J is their number, I that of its merged units.

    patch_j: `[J]` index of the patch in each slot, in the order of Hugging Face's image processor (unit by unit in
      reading order, the patches of a unit one after the other); −1 at padding.
    position_j2: `[J, 2]` row and column of the patch; 0 at padding.
    unit_i: `[I]` slot unit that holds each merged unit of the image, in reading order.
    """

    patch_j: np.ndarray
    position_j2: np.ndarray
    unit_i: np.ndarray


class Pixels(NamedTuple):
    """Patches of the images of Q questions, J slots each, in the order of `VisionShape.layout`.

    patch_qjc: `[Q, J, C]` pixel values of each patch; 0 at padding.
    position_qj2: `[Q, J, 2]` row and column of each patch in its image.
    image_qj: `[Q, J]` int32 index of the image, among those of the question, that a patch belongs to; −1 at padding.
    """

    patch_qjc: jax.Array
    position_qj2: jax.Array
    image_qj: jax.Array


class Images(NamedTuple):
    """Images of Q prompts of S' slots; all completions of a prompt share them.

    index_qs: `[Q, S']` int32 index of the merged unit that replaces each token of the prompt; −1 for text.
    position_qs3: `[Q, S', 3]` int32 position of each token in time, height and width (M-RoPE); 0 at padding.
    next_q: `[Q]` int32 position, on all three axes, of the first token after the prompt.
    pixels: input of the vision tower; None where features are enough.
    feature_qid: `[Q, I, D]` output of the vision tower, `[Q, I, (1 + E)·D]` with deepstack; None before it has run.
    """

    index_qs: jax.Array
    position_qs3: jax.Array
    next_q: jax.Array
    pixels: Pixels | None = None
    feature_qid: jax.Array | None = None


class VisionShape(Protocol):
    """Shape of a vision tower: a frozen dataclass, part of `DecoderConfig`, that lays out images and builds the tower.

    width: D of the tower.
    patch_size, temporal_patch_size, merge_size, channels: pixels per side and frames of a patch, patches per side of a
      merged unit, color channels of a pixel.
    image_token_id: token in the prompt for each merged unit of an image.
    start_token_id, end_token_id: tokens before and after the units of an image.
    values_per_patch: C, the number of pixel values of a patch.
    patches_per_unit: number of patches of a merged unit.
    patches_per_window: the number of slots of all images of a prompt is a multiple of this, and of `patches_per_unit`.
    """

    @property
    def width(self) -> int: ...
    @property
    def patch_size(self) -> int: ...
    @property
    def temporal_patch_size(self) -> int: ...
    @property
    def merge_size(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def image_token_id(self) -> int: ...
    @property
    def start_token_id(self) -> int: ...
    @property
    def end_token_id(self) -> int: ...
    @property
    def values_per_patch(self) -> int: ...
    @property
    def patches_per_unit(self) -> int: ...
    @property
    def patches_per_window(self) -> int: ...

    def build(
        self, out_width: int, rngs: nnx.Rngs, *, dtype: str, param_dtype: str, remat: str, attention: str
    ) -> Callable[[Pixels], jax.Array]:
        """Return the tower, an `nnx.Module` from pixels to features `[Q, I, D]`, `[Q, I, (1 + E)·D]` with deepstack.

        Args:
          out_width: D of the decoder.
          rngs: source of initial parameters.
          dtype, param_dtype: of activations and parameters.
          remat, attention: see `DecoderConfig`.
        """
        ...

    def count_units(self, grid: Grid) -> int:
        """Return the number of merged units of an image, which is the number of its tokens in the prompt."""
        ...

    def count_slots(self, grid: Grid) -> int:
        """Return the number of slots of an image, padding included."""
        ...

    def layout(self, grid: Grid) -> ImageLayout:
        """Return the order of the patches of one image.

        Raises:
          ValueError: the grid is empty, or merged units do not cover it exactly.
        """
        ...

    def positions(self, is_image_s: np.ndarray, grids: Sequence[Grid]) -> tuple[np.ndarray, int]:
        """Return the positions of a prompt, `[S, 3]` in time, height and width, and the position of the next token.

        Args:
          is_image_s: `[S]` bool, True at image tokens.
          grids: sizes of the images, in order.

        Raises:
          ValueError: the number of image tokens is not the number of units.
        """
        ...

    def count_pairs(self, patches: int) -> int:
        """Return how many patches one patch attends to, summed over layers, if a question has `patches` slots."""
        ...
