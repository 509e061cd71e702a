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
    """Tissues on `grid`, counted at evenly spaced points of each voxel (of each `wanted` one).

    `points` is their number along each edge; for 2 it is four points, the corners of a tetrahedron.

    `bones` is a label map, on the grid of `ct` or another. Without a CT all that is no bone counts as soft
    tissue. Raises ValueError for less than 1 and more than 6 points.
    """
    if not 1 <= points <= 6:
        raise ValueError(f"1 to 6 points along each edge of a voxel can be counted, got {points}")
    edges = (np.arange(points) + 0.5) / points - 0.5
    offsets = np.stack(np.meshgrid(edges, edges, edges, indexing="ij"), axis=-1).reshape(-1, 3)
    if points == 2:
        # Four corners of the cube, no two of them neighbours, tell nearly as much as all eight.
        offsets = offsets[np.prod(offsets, axis=1) > 0]
    of_bones = bones.grid.ijk_from_mm @ grid.mm_from_ijk
    apart = ct is not None and not ct.grid.same_as(bones.grid)
    of_ct = ct.grid.ijk_from_mm @ grid.mm_from_ijk if ct is not None else of_bones
    # In the order in which the label map lies in memory, so that what is read next is near.
    strides = [abs(bones.data.strides[int(np.abs(of_bones[:3, axis]).argmax())]) for axis in range(3)]
    order = [int(axis) for axis in np.argsort(strides)[::-1]]
    every = np.ones(grid.shape, bool) if wanted is None else wanted
    turned = np.flatnonzero(every.transpose(order))
    shape = [grid.shape[axis] for axis in order]
    parts = np.zeros((4, int(np.prod(shape))), np.float32)
    one_of_each = np.left_shift(1, 8 * np.arange(4), dtype=np.int64)  # four counts in one number
    for start in range(0, turned.size, _CHUNK):
        chunk = turned[start : start + _CHUNK]
        ijk = np.array(np.unravel_index(chunk, shape), np.float32)[np.argsort(order)]
        counts = np.zeros(chunk.size, np.int64)
        for offset in offsets:
            at, inside = _at(ijk, offset, of_bones, bones.grid.shape)
            in_ct = at
            if apart and ct is not None:
                in_ct, both = _at(ijk, offset, of_ct, ct.grid.shape)
                inside &= both
            if not inside.all():
                at, in_ct = at[:, inside], in_ct[:, inside]
            kind = np.ones(at.shape[1], np.uint8)
            if ct is not None:
                hu = ct.data[tuple(in_ct)]
                kind += hu < FAT_HU
                kind += hu < GAS_HU
            kind[bones.data[tuple(at)] > 0] = 0
            counts[inside] += one_of_each[kind]
        for n in range(4):
            parts[n, chunk] = (counts >> (8 * n)) & 255
    parts /= len(offsets)
    back = np.argsort(order)
    return Tissues(grid, *(np.ascontiguousarray(part.reshape(shape).transpose(back)) for part in parts))


def _at(
    ijk: F32, offset: npt.NDArray[np.float64], matrix: npt.NDArray[np.float64], shape: tuple[int, int, int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Voxels of an image in which points of another's voxels lie, and which of them are inside."""
    shift = matrix[:3, :3] @ offset + matrix[:3, 3]
    at = np.rint(matrix[:3, :3].astype(np.float32) @ ijk + shift[:, None].astype(np.float32)).astype(np.int32)
    return at, np.all((at >= 0) & (at < np.array(shape)[:, None]), axis=0)


def gradient_at(image: F32, here: tuple[npt.NDArray[np.int64], ...]) -> npt.NDArray[np.float64]:
    """(n, 3) change per voxel along each axis at some voxels; by one side only at the rim."""
    found = np.zeros((here[0].size, 3))
    for axis, at in enumerate(here):
        low, high = np.maximum(at - 1, 0), np.minimum(at + 1, image.shape[axis] - 1)
        before, after = list(here), list(here)
        before[axis], after[axis] = low, high
        found[:, axis] = (image[tuple(after)] - image[tuple(before)]) / np.maximum(high - low, 1)
    return found


def gradient(image: F32) -> F32:
    """(..., 3) change per voxel along each axis; 0 along an axis of one voxel."""
    along = [
        np.gradient(image, axis=n) if image.shape[n] > 1 else np.zeros_like(image) for n in range(image.ndim)
    ]
    return np.stack(along, axis=-1)
