"""Two arrays of one lattice whose axes run otherwise: brought to each other without interpolation."""

from __future__ import annotations

import numpy as np

from petbone.volume import Grid, Volume


def turned_to(volume: Volume, grid: Grid, atol_mm: float = 1e-3) -> Volume | None:
    """`volume` with its axes flipped and permuted so that it lies on `grid`; None where no such turn does it.

    Every voxel keeps its value and its place in the world, within `atol_mm`. The data is a view.
    """
    if volume.grid.same_as(grid, atol_mm):
        return volume
    steps = np.linalg.solve(volume.grid.mm_from_ijk[:3, :3], grid.mm_from_ijk[:3, :3])
    turn = np.rint(steps)
    # One entry of 1 or -1 in every row and column, or it is no turn of axes.
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        return None
    axes = tuple(int(axis) for axis in np.abs(turn).argmax(axis=0))
    signs = [int(turn[axis, n]) for n, axis in enumerate(axes)]
    shape = tuple(volume.grid.shape[axis] for axis in axes)
    ours_from_new = np.eye(4)
    ours_from_new[:3, :3] = turn
    for axis, sign, count in zip(axes, signs, shape, strict=True):
        ours_from_new[axis, 3] = 0 if sign > 0 else count - 1
    turned = Grid((shape[0], shape[1], shape[2]), volume.grid.mm_from_ijk @ ours_from_new)
    if not turned.same_as(grid, atol_mm):
        return None
    data = volume.data.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
    return Volume(data, grid, volume.unit)
