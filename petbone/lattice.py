"""Whether two images hold the same voxels, whatever the order of their axes, and what one does not reach."""

from __future__ import annotations

import numpy as np

from petbone.volume import Grid, Volume

SAME_MM = 0.1
"""Headers of two tools round; voxels that are nearer to each other than this are the same."""

ROUNDING = 1e-6
"""Of an index."""


def in_order_of(volume: Volume, grid: Grid) -> Volume | None:
    """The very voxels of `volume` in the order of `grid`, without a copy; None where they are other voxels.

    Flips and permutations of axes are undone. The same lattice with another extent is not the same voxels.
    """
    turn = np.rint(grid.ijk_from_mm[:3, :3] @ volume.grid.mm_from_ijk[:3, :3])
    if not np.array_equal(np.abs(turn).sum(axis=0), np.ones(3)) or abs(round(np.linalg.det(turn))) != 1:
        return None
    axes = [int(axis) for axis in np.abs(turn).argmax(axis=1)]  # of `volume`, in the order of `grid`
    if tuple(volume.grid.shape[axis] for axis in axes) != grid.shape:
        return None
    flipped = [bool(turn[n, axis] < 0) for n, axis in enumerate(axes)]
    own_from_grid = np.eye(4)  # indices
    own_from_grid[:3, :3] = 0
    for n, axis in enumerate(axes):
        own_from_grid[axis, n] = -1 if flipped[n] else 1
        own_from_grid[axis, 3] = grid.shape[n] - 1 if flipped[n] else 0
    if not Grid(grid.shape, volume.grid.mm_from_ijk @ own_from_grid).same_as(grid, SAME_MM):
        return None
    turned = volume.data.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flipped)]
    return Volume(turned, grid, volume.unit)


def share_outside(labels: Volume, grid: Grid) -> dict[int, float]:
    """Part (above 0, to 1) of each label (uint8 map) that is outside of the field of `grid`, if any is."""
    own_from_label = grid.ijk_from_mm @ labels.grid.mm_from_ijk  # indices
    last = np.array(grid.shape) - 0.5 + ROUNDING
    counts = np.zeros((2, 256), np.int64)
    for k in range(labels.grid.shape[2]):
        i, j = np.nonzero(labels.data[:, :, k])
        found = labels.data[i, j, k]
        ijk = np.stack([i, j, np.full(len(i), k)], axis=1) @ own_from_label[:3, :3].T + own_from_label[:3, 3]
        beyond = ((ijk < -0.5 - ROUNDING) | (ijk > last)).any(axis=1)
        counts += [np.bincount(some, minlength=256) for some in (found, found[beyond])]
    return {int(n): float(counts[1, n] / counts[0, n]) for n in np.flatnonzero(counts[1])}
