"""Window order and M-RoPE positions: the table of the docstring, invariants, and a token-by-token reference."""

import numpy as np
import pytest

from mig_jax.models import image_layout
from mig_jax.models.image_layout import Grid
from mig_jax.models.qwen2_vl import VisionConfig

CONFIG = VisionConfig(width=8, layers=1, heads=1, mlp_width=8, full_layers=(), patch_size=4, window_size=16)
GRIDS = [Grid(2, 2), Grid(4, 4), Grid(6, 10), Grid(10, 6), Grid(2, 14), Grid(12, 8)]
WIDE = VisionConfig(width=8, layers=1, heads=1, mlp_width=8, full_layers=(), patch_size=2, merge_size=3, window_size=18)


def test_docstring_table():
    layout = image_layout.build_layout(Grid(6, 10), CONFIG)
    no = -1
    want = [0, 1, 5, 6, 2, 3, 7, 8, 4, no, 9, no, 10, 11, no, no, 12, 13, no, no, 14, no, no, no]
    np.testing.assert_array_equal(layout.patch_j[::4] // 4, want)
    np.testing.assert_array_equal(layout.unit_i, [want.index(unit) for unit in range(15)])
    # The patches of unit 6, in the second row and second column of units.
    np.testing.assert_array_equal(layout.patch_j[12:16], [24, 25, 26, 27])
    np.testing.assert_array_equal(layout.position_j2[12:16], [[2, 2], [2, 3], [3, 2], [3, 3]])


@pytest.mark.parametrize("grid", GRIDS)
def test_window_order(grid):
    layout = image_layout.build_layout(grid, CONFIG)
    valid_n = layout.patch_j >= 0
    assert len(layout.patch_j) == image_layout.count_slots(grid, CONFIG)
    assert len(layout.unit_i) == image_layout.count_units(grid, CONFIG)
    assert sorted(layout.patch_j[valid_n]) == list(range(grid.rows * grid.columns))
    for slots in np.arange(len(layout.patch_j)).reshape(-1, CONFIG.patches_per_window):
        window_of_patch = {tuple(position // 4) for position in layout.position_j2[slots][valid_n[slots]]}
        assert len(window_of_patch) == 1
    for unit, slot in enumerate(layout.unit_i):
        row, column = divmod(unit, grid.columns // 2)
        want = [(2 * row + i, 2 * column + j) for i in range(2) for j in range(2)]
        assert [tuple(position) for position in layout.position_j2[4 * slot : 4 * slot + 4]] == want
        np.testing.assert_array_equal(layout.patch_j[4 * slot : 4 * slot + 4], 4 * unit + np.arange(4))


def test_units_of_nine_patches():
    layout = image_layout.build_layout(Grid(6, 12), WIDE)
    assert WIDE.patches_per_window == 81 and len(layout.patch_j) == 2 * 81
    np.testing.assert_array_equal(layout.unit_i, [0, 1, 2, 9, 3, 4, 5, 12])
    np.testing.assert_array_equal(layout.position_j2[9 * 9 + 1], [0, 10])


@pytest.mark.parametrize("grid", [Grid(0, 2), Grid(3, 4), Grid(4, 5)])
def test_grids_without_whole_units_are_rejected(grid):
    with pytest.raises(ValueError, match=f"{grid.rows} × {grid.columns}"):
        image_layout.build_layout(grid, CONFIG)


def slow_positions(is_image_s, grids):
    """Count positions token by token."""
    positions, at, grids = [], 0, list(grids)
    slot = 0
    while slot < len(is_image_s):
        if not is_image_s[slot]:
            positions.append([at] * 3)
            at, slot = at + 1, slot + 1
            continue
        grid = grids.pop(0)
        for row in range(grid.rows // 2):
            for column in range(grid.columns // 2):
                positions.append([at, at + row, at + column])
                slot += 1
        at = 1 + max(max(position) for position in positions)
    return np.array(positions).reshape(-1, 3), at


def test_positions_of_text_around_an_image():
    is_image_s = np.array([0, 0, 1, 1, 1, 1, 1, 1, 0, 0], bool)
    position_s3, after = image_layout.prompt_positions(is_image_s, [Grid(4, 6)], 2)
    np.testing.assert_array_equal(position_s3[:, 0], [0, 1, 2, 2, 2, 2, 2, 2, 5, 6])
    np.testing.assert_array_equal(position_s3[:, 1], [0, 1, 2, 2, 2, 3, 3, 3, 5, 6])
    np.testing.assert_array_equal(position_s3[:, 2], [0, 1, 2, 3, 4, 2, 3, 4, 5, 6])
    assert after == 7


@pytest.mark.parametrize("seed", range(8))
def test_positions_equal_slow_reference(seed):
    rng = np.random.default_rng(seed)
    grids = [GRIDS[i] for i in rng.integers(len(GRIDS), size=rng.integers(0, 4))]
    parts = [np.zeros(rng.integers(0, 4), bool)]
    for grid in grids:  # sometimes without text between images
        parts += [np.ones(grid.rows * grid.columns // 4, bool), np.zeros(rng.integers(0, 3), bool)]
    is_image_s = np.concatenate(parts)
    position_s3, after = image_layout.prompt_positions(is_image_s, grids, 2)
    want_s3, want_after = slow_positions(is_image_s, grids)
    np.testing.assert_array_equal(position_s3, want_s3)
    assert after == want_after


def test_image_tokens_must_match_units():
    with pytest.raises(ValueError, match="3 image tokens in the prompt, 4 units in 1 images"):
        image_layout.prompt_positions(np.array([1, 1, 1, 0], bool), [Grid(4, 4)], 2)
