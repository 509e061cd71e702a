"""Which bones are near a point, and how far away: read off the bone map round the point itself.

Nothing is made for the whole image: only the surroundings of the points that are asked for are looked at.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from petbone.volume import Volume

STEP_MM = 2.5  # how densely the surroundings are looked at, at least: half of a PET's resolution


def labels_at(bones: Volume, points_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """(...,) label of the voxel that holds each point (..., 3); 0 outside the map."""
    ijk = np.rint(bones.grid.ijk(points_mm)).astype(np.intp)
    inside = ((ijk >= 0) & (ijk < bones.grid.shape)).all(axis=-1)
    found = np.zeros(inside.shape, np.uint8)
    found[inside] = bones.data[tuple(ijk[inside].T)]
    return found


def nearby_mm(bones: Volume, points_mm: npt.NDArray[np.float64], reach_mm: float) -> npt.NDArray[np.float16]:
    """(256, n) distance of the nearest voxel of every label from each point (n, 3); inf beyond `reach_mm`.

    0 for the label at the point itself. Between centres of voxels, at most `STEP_MM` apart where the map's
    are: good to about 1 mm on a CT. A bone that leaves the map is taken to go on a little.
    """
    grid, data = bones.grid, bones.data
    offsets, lengths = _ball(bones, reach_mm)
    ijk = np.rint(grid.ijk(points_mm)).astype(np.intp)
    margin = np.abs(offsets).max(axis=0, initial=0)
    inner = ((ijk >= margin) & (ijk < grid.shape - margin)).all(axis=1)
    if not (data.flags.c_contiguous or data.flags.f_contiguous):
        inner[:] = False
    found = np.full((256, len(points_mm)), np.inf, np.float16)
    if inner.any():
        # Deep in the map a step is one addition to the place in memory.
        columns, memory = np.flatnonzero(inner), data.reshape(-1, order="A")
        strides = np.array(data.strides) // data.itemsize
        base = ijk[columns] @ strides
        for step, length in zip(offsets @ strides, lengths, strict=True):
            found[memory[base + step], columns] = length
    if not inner.all():
        columns, last = np.flatnonzero(~inner), np.array(grid.shape) - 1
        for offset, length in zip(offsets, lengths, strict=True):
            i, j, k = np.clip(ijk[columns] + offset, 0, last).T
            found[data[i, j, k], columns] = length
    found[0] = np.inf
    return found


def _ball(bones: Volume, reach_mm: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Steps (m, 3) in voxels of the map and their lengths, from afar inwards: the last written is nearest."""
    grid = bones.grid
    stride = np.maximum(1, np.floor(STEP_MM / grid.spacing_mm)).astype(np.intp)
    # The rows of the inverse say how many voxels a length can reach along each axis, sheared or not.
    most = np.floor(reach_mm * np.linalg.norm(grid.ijk_from_mm[:3, :3], axis=1) / stride).astype(np.intp)
    lines = [n * np.arange(-m, m + 1) for m, n in zip(most, stride, strict=True)]
    offsets = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = np.linalg.norm(offsets @ grid.mm_from_ijk[:3, :3].T, axis=1)
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] <= reach_mm]
    return offsets[order], lengths[order]
