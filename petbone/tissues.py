"""What a CT holds besides bone, on the grid of a PET: soft tissue, fat and gas, as parts of voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petbone.volume import Grid, Volume

F32 = npt.NDArray[np.float32]

GAS_HU, FAT_HU = -300.0, -30.0
"""Below the first is gas (lung, bowel, air), from there to the second fat, above it soft tissue."""
_CHUNK = 500_000


@dataclass(frozen=True, eq=False)
class Tissues:
    """Parts, 0 to 1, of each voxel of `grid` that are bone, soft tissue, fat and gas.

    Where they add up to less than 1 the CT does not show the voxel, or nobody asked for it.
    """

    grid: Grid
    bone: F32
    soft: F32
    fat: F32
    gas: F32

    @property
    def shown(self) -> F32:
        """Part of each voxel that is known."""
        return self.bone + self.soft + self.fat + self.gas


def tissues(
    ct: Volume | None, bones: Volume, grid: Grid, points: int, wanted: npt.NDArray[np.bool_] | None = None
) -> Tissues:
    """Tissues on `grid`, counted at `points`^3 evenly spaced points of each voxel (of each `wanted` one).

    `bones` is the label map on the grid of `ct`. Without a CT all that is no bone counts as soft tissue.
    Raises ValueError when CT and bones lie on different grids, and for more than 6 points.
    """
    if not 1 <= points <= 6:
        raise ValueError(f"1 to 6 points along each edge of a voxel can be counted, got {points}")
    if ct is not None and not ct.grid.same_as(bones.grid):
        raise ValueError("the CT and the bones lie on different grids")
    edges = (np.arange(points) + 0.5) / points - 0.5
    offsets = np.stack(np.meshgrid(edges, edges, edges, indexing="ij"), axis=-1).reshape(-1, 3)
    source_from_target = bones.grid.ijk_from_mm @ grid.mm_from_ijk
    turn = source_from_target[:3, :3].astype(np.float32)
    voxels = np.arange(np.prod(grid.shape)) if wanted is None else np.flatnonzero(wanted)
    parts = np.zeros((4, int(np.prod(grid.shape))), np.float32)
    limit = np.array(bones.grid.shape)[:, None]
    one_of_each = np.left_shift(1, 8 * np.arange(4), dtype=np.int64)  # four counts in one number
    for start in range(0, voxels.size, _CHUNK):
        chunk = voxels[start : start + _CHUNK]
        middle = turn @ np.array(np.unravel_index(chunk, grid.shape), np.float32)
        counts = np.zeros(chunk.size, np.int64)
        for offset in offsets:
            shift = source_from_target[:3, :3] @ offset + source_from_target[:3, 3]
            at = np.rint(middle + shift[:, None].astype(np.float32)).astype(np.int32)
            inside = ((at >= 0) & (at < limit)).all(axis=0)
            where = tuple(at) if inside.all() else tuple(at[:, inside])
            kind = np.ones(where[0].size, np.uint8)
            if ct is not None:
                hu = ct.data[where]
                kind += hu < FAT_HU
                kind += hu < GAS_HU
            kind[bones.data[where] > 0] = 0
            counts[inside] += one_of_each[kind]
        for n in range(4):
            parts[n, chunk] = (counts >> (8 * n)) & 255
    parts /= points**3
    return Tissues(grid, *(part.reshape(grid.shape) for part in parts))


def gradient(image: F32) -> F32:
    """(..., 3) change per voxel along each axis; 0 along an axis of one voxel."""
    along = [
        np.gradient(image, axis=n) if image.shape[n] > 1 else np.zeros_like(image) for n in range(image.ndim)
    ]
    return np.stack(along, axis=-1)
