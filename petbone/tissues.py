"""What a CT holds besides bone, on the grid of a PET: soft tissue, fat and gas, as parts of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from petbone.volume import Grid, Volume

F32 = npt.NDArray[np.float32]

GAS_HU, FAT_HU = -300.0, -30.0
"""Below the first is gas (lung, bowel, air), from there to the second fat, above it soft tissue."""
_CHUNK = 100_000


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
    of_bones = _Places.of(bones, grid)
    of_ct = of_bones if ct is None else _Places.of(ct, grid)
    apart = not of_ct.same_as(of_bones)
    # In the order in which the label map lies in memory, so that what is read next is near.
    strides = [abs(of_bones.step[int(np.abs(of_bones.matrix[:3, axis]).argmax())]) for axis in range(3)]
    order = [int(axis) for axis in np.argsort(strides)[::-1]]
    back = np.argsort(order)
    every = np.ones(grid.shape, bool) if wanted is None else wanted
    turned = np.flatnonzero(every.transpose(order))
    shape = [grid.shape[axis] for axis in order]
    # Most of it stays empty and is never written to, so that the system gives no memory for it.
    parts = np.zeros((4, every.size), np.float32)
    one_of_each = np.left_shift(1, 8 * np.arange(4), dtype=np.int64)  # four counts in one number
    for start in range(0, turned.size, _CHUNK):
        chunk = turned[start : start + _CHUNK]
        found = np.unravel_index(chunk, shape)
        ijk = [found[axis] for axis in back]
        counts = np.zeros(chunk.size, np.int64)
        for offset in offsets:
            at = of_bones.at(ijk, offset)
            in_ct = of_ct.at(ijk, offset) if apart else at
            inside = (at >= 0) & (in_ct >= 0)
            if not inside.all():
                at, in_ct = at[inside], in_ct[inside]
            kind = np.ones(at.size, np.uint8)
            if ct is not None:
                hu = of_ct.values[in_ct]
                kind += hu < FAT_HU
                kind += hu < GAS_HU
            kind[of_bones.values[at] > 0] = 0
            counts[inside] += one_of_each[kind]
        here = np.ravel_multi_index(ijk, grid.shape)
        for n in range(4):
            parts[n, here] = ((counts >> (8 * n)) & 255) / np.float32(len(offsets))
    return Tissues(grid, *parts.reshape(4, *grid.shape))


@dataclass(frozen=True, eq=False)
class _Places:
    """Where points in the voxels of a grid lie in the memory of an image."""

    values: npt.NDArray[Any]  # (n,) in the order of memory
    shape: tuple[int, int, int]
    step: tuple[int, ...]  # from one voxel to the next along each axis, in values
    matrix: npt.NDArray[np.float64]  # image_ijk_from_grid_ijk
    extent: tuple[int, int, int]  # shape of the grid

    @classmethod
    def of(cls, image: Volume, grid: Grid) -> _Places:
        data = image.data
        if not (data.flags.c_contiguous or data.flags.f_contiguous):
            data = np.ascontiguousarray(data)
        step = tuple(stride // data.itemsize for stride in data.strides)
        matrix = image.grid.ijk_from_mm @ grid.mm_from_ijk
        return cls(data.ravel(order="K"), image.grid.shape, step, matrix, grid.shape)

    def same_as(self, other: _Places) -> bool:
        return (self.shape, self.step) == (other.shape, other.step) and np.array_equal(
            self.matrix, other.matrix
        )

    def at(
        self, ijk: Sequence[npt.NDArray[np.intp]], offset: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int64]:
        """(n,) place of the points `offset` from the middle of voxels `ijk`; negative beyond the image."""
        shift = self.matrix[:3, :3] @ offset + self.matrix[:3, 3]
        beyond = -4 * self.values.size
        place = np.zeros(ijk[0].size, np.int64)
        if (np.abs(self.matrix[:3, :3]) > 1e-6).sum() == 3:  # parallel axes: each has its part in the place
            for target, index in enumerate(ijk):
                source = int(np.abs(self.matrix[:3, target]).argmax())
                along = np.rint(self.matrix[source, target] * np.arange(self.extent[target]) + shift[source])
                inside = (along >= 0) & (along < self.shape[source])
                place += np.where(inside, along * self.step[source], beyond).astype(np.int64)[index]
            return place
        points = np.array(ijk, np.float32)
        for source in range(3):
            along = np.rint(self.matrix[source, :3].astype(np.float32) @ points + np.float32(shift[source]))
            inside = (along >= 0) & (along < self.shape[source])
            place += np.where(inside, along * self.step[source], beyond).astype(np.int64)
        return place


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
