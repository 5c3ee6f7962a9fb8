"""Order of image patches on the host: slots in window or unit order, merged units in the prompt, M-RoPE positions.

An image of 6 × 10 patches with merge_size 2 and windows of 4 × 4 patches. Merged units are numbered in reading order,
which is their order in the prompt:

     0  1 |  2  3 |  4 ·         window by window, each with all of its slots:
     5  6 |  7  8 |  9 ·
    ------+-------+----          0 1 5 6 | 2 3 7 8 | 4 · 9 · | 10 11 · · | 12 13 · · | 14 · · ·
    10 11 | 12 13 | 14 ·
     ·  · |  ·  · |  · ·         · is padding: no patch, masked everywhere

The merge_size² patches of a unit are neighbors in both orders. Patches are never reordered back: each token of the
prompt holds the index of its unit. Without windows the slots are in reading order of the units, with no padding.

Sources: Qwen2.5-VL (arXiv 2502.13923) for windows, Qwen2-VL (2409.12191) section 2.1 for M-RoPE.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mig_jax.models.vision import Grid, ImageLayout

if TYPE_CHECKING:
    from mig_jax.models.qwen2_vl import VisionConfig


def count_units(grid: Grid, config: "VisionConfig") -> int:
    """Return the number of merged units of an image, which is the number of its tokens in the prompt."""
    return grid.rows * grid.columns // config.patches_per_unit


def count_slots(grid: Grid, config: "VisionConfig") -> int:
    """Return the number of slots of an image, with its windows padded."""
    side = config.window_size // config.patch_size
    return -(-grid.rows // side) * -(-grid.columns // side) * config.patches_per_window


def build_layout(grid: Grid, config: "VisionConfig") -> ImageLayout:
    """Return the window order of one image.

    Raises:
      ValueError: the grid is empty, or squares of merge_size × merge_size patches do not cover it exactly.
    """
    merge = config.merge_size
    _check_units(grid, merge)
    by_unit = np.arange(grid.rows * grid.columns).reshape(grid.rows // merge, grid.columns // merge, merge, merge)
    patch_rc = by_unit.transpose(0, 2, 1, 3).reshape(grid)
    row_rc, column_rc = np.indices(grid)
    patch_j = _to_window_order(patch_rc, config, fill=-1)
    position_j2 = np.stack([_to_window_order(x, config, fill=0) for x in (row_rc, column_rc)], axis=-1)
    unit_of_slot = patch_j[:: config.patches_per_unit] // config.patches_per_unit
    is_unit = unit_of_slot >= 0
    unit_i = np.flatnonzero(is_unit)[np.argsort(unit_of_slot[is_unit])]
    return ImageLayout(patch_j, position_j2.astype(np.int32), unit_i.astype(np.int32))


def build_unit_order(grid: Grid, merge_size: int) -> ImageLayout:
    """Return the order of an image without windows: that of the image processor.

    Raises:
      ValueError: see `build_layout`.
    """
    _check_units(grid, merge_size)
    blocks = (2, grid.rows // merge_size, merge_size, grid.columns // merge_size, merge_size)
    position_2j = np.indices(grid).reshape(blocks).swapaxes(2, 3).reshape(2, -1)
    patches = np.arange(position_2j.shape[1])
    units = np.arange(len(patches) // merge_size**2, dtype=np.int32)
    return ImageLayout(patches, position_2j.T.astype(np.int32), units)


def _check_units(grid: Grid, merge: int) -> None:
    if min(grid) < 1 or grid.rows % merge or grid.columns % merge:
        raise ValueError(
            f"an image of {grid.rows} × {grid.columns} patches cannot be divided into units of {merge} × {merge}"
        )


def _to_window_order(x_rc: np.ndarray, config: "VisionConfig", *, fill: int) -> np.ndarray:
    """Flatten `[rows, columns]` to `[J]`: by windows, within them by units, within them by patches, each row-major."""
    side, merge = config.window_size // config.patch_size, config.merge_size
    padded = np.pad(x_rc, [(0, -size % side) for size in x_rc.shape], constant_values=fill)
    rows, columns = padded.shape
    units = side // merge
    split = padded.reshape(rows // side, units, merge, columns // side, units, merge)
    return split.transpose(0, 3, 1, 4, 2, 5).reshape(-1)


def prompt_positions(is_image_s: np.ndarray, grids: Sequence[Grid], merge_size: int) -> tuple[np.ndarray, int]:
    """Return the M-RoPE positions of a prompt.

    The positions of text increase by 1 on all three axes. For an image that begins at position p, the unit in row r and
    column c has time p, height p + r and width p + c. Text after it continues at its largest position + 1.

    Args:
      is_image_s: `[S]` bool, True at image tokens.
      grids: sizes of the images, in order.
      merge_size: patches per side of a unit.

    Returns:
      `[S, 3]` positions in time, height and width, and the position of the next token.

    Raises:
      ValueError: the number of image tokens is not the number of units.
    """
    sizes = [(grid.rows // merge_size, grid.columns // merge_size) for grid in grids]
    units = [rows * columns for rows, columns in sizes]
    image_slots = np.flatnonzero(is_image_s)
    if len(image_slots) != sum(units):
        raise ValueError(
            f"{len(image_slots)} image tokens in the prompt, {sum(units)} units in {len(grids)} images; "
            "each unit needs one token"
        )
    position_s3 = np.empty((len(is_image_s), 3), np.int32)
    slot, position = 0, 0
    for first, (rows, columns) in zip(image_slots[np.cumsum([0, *units[:-1]])] if units else (), sizes, strict=True):
        position = _count_up(position_s3[slot:first], position)
        slot = first + rows * columns
        row, column = np.indices((rows, columns)).reshape(2, -1)
        position_s3[first:slot] = position + np.stack([np.zeros_like(row), row, column], axis=-1)
        position += max(rows, columns)
    return position_s3, _count_up(position_s3[slot:], position)


def _count_up(text_s3: np.ndarray, position: int) -> int:
    """Write the positions of text that begins at `position` into `text_s3`; return the position after it."""
    text_s3[:] = position + np.arange(len(text_s3))[:, None]
    return position + len(text_s3)
