"""Where the patches of images go: slots in window order, merged units in the prompt, and M-RoPE positions; on the host.

An image of 6 × 10 patches, merge_size 2, windows of 4 × 4 patches. Merged units, numbered in reading order, as they
stand in the prompt:

     0  1 |  2  3 |  4 ·         window by window, each with all its slots:
     5  6 |  7  8 |  9 ·
    ------+-------+----          0 1 5 6 | 2 3 7 8 | 4 · 9 · | 10 11 · · | 12 13 · · | 14 · · ·
    10 11 | 12 13 | 14 ·
     ·  · |  ·  · |  · ·         · is padding: no patch, seen by none

A unit's merge_size² patches are neighbours in both orders. Nothing is ever put back into reading order: each slot of
the prompt says which unit stands there.

Sources: Qwen2.5-VL (arXiv 2502.13923) for windows, Qwen2-VL (2409.12191) section 2.1 for M-RoPE.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mig_jax.models.qwen2_vl import VisionConfig


class Grid(NamedTuple):
    """How many patches an image has, from top to bottom and from left to right."""

    rows: int
    columns: int


class Layout(NamedTuple):
    """The slots of one image, N of them, in window order.

    patch_n: `[N]` which patch stands in each slot, as the image processor of Hugging Face counts them (unit by unit in
      reading order, each unit's patches one after the other); −1: padding.
    position_n2: `[N, 2]` its row and column; 0 at padding.
    unit_i: `[I]` at which merged unit of the slots each of the image's units stands, in reading order.
    """

    patch_n: np.ndarray
    position_n2: np.ndarray
    unit_i: np.ndarray


def count_units(grid: Grid, config: VisionConfig) -> int:
    """Merged units of an image: how often the image token stands in the prompt."""
    return grid.rows * grid.columns // config.merge_slots


def count_slots(grid: Grid, config: VisionConfig) -> int:
    """Slots that an image takes, its windows filled up."""
    side = config.window_size // config.patch_size
    return -(-grid.rows // side) * -(-grid.columns // side) * config.window_slots


def lay_image(grid: Grid, config: VisionConfig) -> Layout:
    """Window order of one image.

    Raises:
      ValueError: the grid is empty, or its merge_size × merge_size squares do not cover it exactly.
    """
    merge = config.merge_size
    if min(grid) < 1 or grid.rows % merge or grid.columns % merge:
        raise ValueError(f"an image of {grid.rows} × {grid.columns} patches has no whole units of {merge} × {merge}")
    by_unit = np.arange(grid.rows * grid.columns).reshape(grid.rows // merge, grid.columns // merge, merge, merge)
    patch_rc = by_unit.transpose(0, 2, 1, 3).reshape(grid)
    row_rc, column_rc = np.indices(grid)
    patch_n = _window_order(patch_rc, config, fill=-1)
    position_n2 = np.stack([_window_order(x, config, fill=0) for x in (row_rc, column_rc)], axis=-1)
    unit_of_slot = patch_n[:: config.merge_slots] // config.merge_slots
    is_unit = unit_of_slot >= 0
    unit_i = np.flatnonzero(is_unit)[np.argsort(unit_of_slot[is_unit])]
    return Layout(patch_n, position_n2.astype(np.int32), unit_i.astype(np.int32))


def _window_order(x_rc: np.ndarray, config: VisionConfig, *, fill: int) -> np.ndarray:
    """`[rows, columns]` to `[N]`: window by window, in it unit by unit, in it patch by patch, each row by row."""
    side, merge = config.window_size // config.patch_size, config.merge_size
    padded = np.pad(x_rc, [(0, -size % side) for size in x_rc.shape], constant_values=fill)
    rows, columns = padded.shape
    units = side // merge
    split = padded.reshape(rows // side, units, merge, columns // side, units, merge)
    return split.transpose(0, 3, 1, 4, 2, 5).reshape(-1)


def prompt_positions(is_image_s: np.ndarray, grids: Sequence[Grid], merge_size: int) -> tuple[np.ndarray, int]:
    """M-RoPE: position in time, height and width `[S, 3]` of each token of a prompt, and that of the next token.

    Text counts up on all three axes at once. An image that begins at position p stands at time p, its unit in row r and
    column c at height p + r and width p + c; the text behind it goes on from the greatest position + 1.

    Args:
      is_image_s: `[S]` bool, where image tokens are.
      grids: the images, in order.

    Raises:
      ValueError: there are more or fewer image tokens than units.
    """
    sizes = [(grid.rows // merge_size, grid.columns // merge_size) for grid in grids]
    units = [rows * columns for rows, columns in sizes]
    image_slots = np.flatnonzero(is_image_s)
    if len(image_slots) != sum(units):
        raise ValueError(f"{len(image_slots)} image tokens in the prompt, {sum(units)} units in {len(grids)} images")
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
    """Fill in the positions of text that begins at `position`; returns the one behind it."""
    text_s3[:] = position + np.arange(len(text_s3))[:, None]
    return position + len(text_s3)
