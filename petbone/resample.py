"""Carry an image to another grid.

Two ways, for two purposes. `resample` interpolates values and is for looking and for registration; no
measurement of PET goes through it. `occupancy` carries labels to the grid of a PET without interpolating
anything: it says what fraction of each PET voxel every bone fills, and loses no volume on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.volume import Box, Grid, Unit, Volume

_SNAP_VOXELS = 1e-3  # grids whose voxels are nearer to each other than this coincide
_NOISE = 1e-9
_SLAB_VOXELS = 4_000_000  # label voxels looked at at a time where axes are parallel: bounds the memory
_CHUNK = 2_000_000
# Oblique label voxels are cut until no part is wider than this many target voxels. Deep inside a bone a voxel
# is then full to 2 % at the worst (5 % with 1.0, at an eighth of the work).
_OBLIQUE_PART = 0.5


def resample(volume: Volume, grid: Grid, *, source_mm_from_target_mm: npt.ArrayLike | None = None) -> Volume:
    """`volume` on another grid: nearest neighbour for labels, linear for everything else.

    `source_mm_from_target_mm` is a (4, 4) rigid or affine motion, identity if not given. Outside the field
    of view the result is ``volume.unit.fill``. Resampling to a grid that differs by whole voxels, flips or
    permutations of axes returns the very same values (craft of the identity: rounding noise is snapped, so
    that no border voxel falls outside).
    """
    motion = np.eye(4) if source_mm_from_target_mm is None else np.asarray(source_mm_from_target_mm)
    source_from_target = volume.grid.ijk_from_mm @ motion @ grid.mm_from_ijk
    source_from_target = _snapped(source_from_target, grid.shape)
    is_label = volume.unit is Unit.LABEL
    data = ndimage.affine_transform(
        volume.data,
        source_from_target[:3, :3],
        source_from_target[:3, 3],
        grid.shape,
        order=0 if is_label else 1,
        mode="grid-constant",
        cval=volume.unit.fill,
        output=volume.data.dtype if is_label else np.float32,
    )
    return Volume(data, grid, volume.unit)


@dataclass(frozen=True, eq=False)
class Occupancy:
    """What fraction of each voxel of `grid` every label fills; an entry per (label, voxel) that meet.

    Entries are ordered by label, then by voxel. Sum of `fraction` x ``grid.voxel_ml`` over a label is the
    volume of that label on its own grid, less what lies outside `grid`.
    """

    grid: Grid
    label: npt.NDArray[np.uint8]  # (M,)
    voxel: npt.NDArray[np.int64]  # (M,) flat index into an array of grid.shape, C order
    fraction: npt.NDArray[np.float64]  # (M,) in (0, 1] for labels that tile space

    def of(self, label: int) -> slice:
        """The entries of one label, as a slice of the arrays; empty when the label does not occur."""
        start, stop = np.searchsorted(self.label, [label, label + 1])
        return slice(int(start), int(stop))

    def total(
        self, labels: npt.ArrayLike | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Voxels touched by any of `labels` (all if None), ascending, and how much of each they fill."""
        chosen = slice(None) if labels is None else np.isin(self.label, np.asarray(labels))
        voxel, fraction = self.voxel[chosen], self.fraction[chosen]
        order = np.argsort(voxel, kind="stable")
        voxel, fraction = voxel[order], fraction[order]
        first = np.flatnonzero(np.diff(voxel, prepend=-1))
        return voxel[first], np.add.reduceat(fraction, first) if first.size else fraction

    def cropped(self, box: Box) -> Occupancy:
        """What lies inside `box`, on the grid of the box. Raises ValueError for steps other than 1."""
        grid = self.grid.cropped(box)
        low = np.array([s.indices(n)[0] for s, n in zip(box, self.grid.shape, strict=True)])
        ijk = np.array(np.unravel_index(self.voxel, self.grid.shape)) - low[:, None]
        inside = ((ijk >= 0) & (ijk < np.array(grid.shape)[:, None])).all(axis=0)
        voxel = np.ravel_multi_index(tuple(ijk[:, inside]), grid.shape).astype(np.int64)
        return Occupancy(grid, self.label[inside], voxel, self.fraction[inside])

    def volumes_ml(self, n_labels: int = 256) -> npt.NDArray[np.float64]:
        """(n_labels,) volume of each label on this grid."""
        filled = np.bincount(self.label, self.fraction, minlength=n_labels).astype(np.float64)
        return filled * self.grid.voxel_ml


Pieces = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""(label, place of the target voxel in some order of the axes, filled part of it), one of each per piece."""
Runs = tuple[npt.NDArray[Any], ...]
"""(label, slow, middle, first, after last) along the array's axes from the slowest to the fastest."""


def occupancy(
    labels: Volume, grid: Grid, *, grid_mm_from_labels_mm: npt.ArrayLike | None = None
) -> Occupancy:
    """Fraction of each voxel of `grid` that every label of `labels` fills.

    Volume is conserved exactly, but for grids that nearly fit: they count as fitting, so that noise in a
    header makes no slivers of voxels (over the whole array less than a thousandth of a voxel).

    Each label voxel is a box; its volume is shared among the voxels of `grid` that the box overlaps. When
    the axes of the two grids are parallel (any flip or permutation) the overlap is exact. When they are
    oblique, the box is replaced by one parallel to `grid` with the same centre, volume and, along each axis,
    the same variance: volume stays exact, and a voxel deep inside a bone is full to about 1 %. One pass over
    the labelled voxels (over runs of equal label when the axes are parallel), no loop over labels.

    Parameters
    ----------
    labels: Volume of Unit.LABEL, 0 is background, values up to 255
    grid: where to (the PET)
    grid_mm_from_labels_mm: (4, 4) motion applied to the labels, identity if None

    Raises ValueError when `labels` is no label map with values 0 to 255.
    """
    motion = np.eye(4) if grid_mm_from_labels_mm is None else np.asarray(grid_mm_from_labels_mm, np.float64)
    return next(occupancies(labels, grid, [motion]))


def occupancies(
    labels: Volume, grid: Grid, motions: Iterable[npt.NDArray[np.float64]]
) -> Iterator[Occupancy]:
    """`occupancy` at one place after the other, (4, 4) grid_mm_from_labels_mm each; labels are read once.

    Raises ValueError as `occupancy` does.
    """
    fits = labels.data.dtype == np.uint8 or (
        labels.data.max(initial=0) < 256 and labels.data.min(initial=0) >= 0
    )
    if labels.unit is not Unit.LABEL or not fits:
        raise ValueError(f"occupancy needs a label map with values 0 to 255, got unit {labels.unit.value}")
    runs: list[Runs] = []
    for motion in motions:
        matrix = _snapped(grid.ijk_from_mm @ motion @ labels.grid.mm_from_ijk, labels.grid.shape)
        if (matrix[:3, :3] != 0).sum() > 3:
            yield _summed(_gathered(_oblique_pieces(labels, matrix, grid)), grid, (0, 1, 2))
            continue
        runs = runs or list(_runs_of(labels))
        # Source axes from the slowest to the fastest in memory, and the target axis that each runs along.
        sources = (0, 1, 2) if labels.data.flags.c_contiguous else (2, 1, 0)
        targets = [int(np.flatnonzero(matrix[:3, source])[0]) for source in sources]
        yield _summed(_parallel_pieces(runs, matrix, grid, sources, targets), grid, targets)


def _summed(heaps: Iterable[Pieces], grid: Grid, order: Sequence[int]) -> Occupancy:
    """Pieces added up; `order` are the axes of `grid` from the slowest to the fastest of their places."""
    sums = [_summed_heap(heap) for heap in heaps if heap[0].size]
    if not sums:
        return Occupancy(grid, np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0))
    label, place, filled = (np.concatenate(arrays) for arrays in zip(*sums, strict=True))
    at = np.unravel_index(place, [grid.shape[axis] for axis in order])
    voxel = np.ravel_multi_index([at[axis] for axis in np.argsort(order)], grid.shape)
    key = label * np.int64(np.prod(grid.shape)) + voxel
    by_key = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[by_key], prepend=-1))
    kept = by_key[first]
    return Occupancy(grid, label[kept], voxel[kept], np.add.reduceat(filled[by_key], first))


def _gathered(pieces: Iterator[Pieces]) -> Iterator[Pieces]:
    """The same pieces in fewer heaps, of some `_CHUNK`: those of oblique voxels come in many small ones."""
    heap: list[Pieces] = []
    for one in pieces:
        heap.append(one)
        if sum(label.size for label, _, _ in heap) >= _CHUNK:
            yield _joined(heap)
            heap = []
    if heap:
        yield _joined(heap)


def _joined(heap: list[Pieces]) -> Pieces:
    label, place, share = (np.concatenate(arrays) for arrays in zip(*heap, strict=True))
    return label, place, share


def _summed_heap(pieces: Pieces) -> Pieces:
    """The same with one piece for each label and place, summed in an array over those that occur.

    That is several times faster than sorting. Pieces of runs are near to each other in their order, and the
    array is small: memory that is touched for the first time costs more than the sum.
    """
    label, place, share = pieces
    low = place.min()
    near = place - low
    touched = np.zeros(int(near.max()) + 1, dtype=bool)
    touched[near] = True
    places = np.flatnonzero(touched)
    rank = np.empty(touched.size, dtype=np.int32)
    rank[places] = np.arange(places.size, dtype=np.int32)
    labels = np.flatnonzero(np.bincount(label))
    row = np.empty(256, dtype=np.int64)
    row[labels] = np.arange(labels.size) * places.size
    filled = np.bincount(row[label] + rank[near], share).astype(np.float64, copy=False)
    entry = np.flatnonzero(filled)
    which, cell = np.divmod(entry, places.size)
    return labels[which].astype(np.uint8), places[cell] + low, filled[entry]


def _runs_of(labels: Volume) -> Iterator[Runs]:
    """Runs of equal label, slab by slab."""
    data = labels.data if labels.data.flags.c_contiguous else labels.data.T
    slab = max(1, _SLAB_VOXELS // (data.shape[1] * data.shape[2]))
    for start in range(0, data.shape[0], slab):
        label, slow, middle, first, after = _runs(data[start : start + slab])
        if label.size:
            yield label, slow + start, middle, first, after


def _parallel_pieces(
    runs: Iterable[Runs],
    matrix: npt.NDArray[np.float64],
    grid: Grid,
    sources: Sequence[int],
    targets: Sequence[int],
) -> Iterator[Pieces]:
    """Pieces of runs of equal label along the array's fastest axis; exact when the axes are parallel.

    Places are in the order of `targets`, from the slowest axis to the fastest, as the runs are.
    """
    for label, slow, middle, first, after in runs:
        ends = [(slow, slow + 1), (middle, middle + 1), (first, after)]
        source = np.arange(label.size)
        place = np.zeros(label.size, dtype=np.int64)
        share = np.ones(label.size)
        for (low, high), source_axis, target in zip(ends, sources, targets, strict=True):
            scale, shift = matrix[target, source_axis], matrix[target, 3]
            edges = np.sort(np.stack([scale * (end - 0.5) + shift for end in (low, high)]), axis=0)
            at, part, which = _overlaps(edges[0][source], edges[1][source], grid.shape[target])
            source, place, share = source[which], place[which] * grid.shape[target] + at, share[which] * part
        yield label[source], place, share


def _runs(data: npt.NDArray[np.generic]) -> Runs:
    """Runs of equal non-zero label along the last axis: (label, slow, middle, first, after last)."""
    flat = np.ascontiguousarray(data).reshape(-1)
    n = data.shape[2]
    change = np.empty(flat.size + 1, dtype=bool)
    np.not_equal(flat[1:], flat[:-1], out=change[1:-1])
    change[::n] = True  # a run ends with its row
    bounds = np.flatnonzero(change)
    label = flat[bounds[:-1]]
    kept = np.flatnonzero(label)
    first, after = bounds[kept], bounds[kept + 1]
    row, column = np.divmod(first, n)
    slow, middle = np.divmod(row, data.shape[1])
    return label[kept].astype(np.uint8), slow, middle, column, column + after - first


def _overlaps(
    low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], n: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Voxels 0 to n-1 that intervals meet: (voxel, length of overlap, which interval).

    Voxel v reaches from v - 1/2 to v + 1/2.
    """
    # An interval that reaches into a voxel by rounding noise only does not touch it.
    first = np.floor(low + 0.5 + _NOISE).astype(np.int64)
    count = np.ceil(high + 0.5 - _NOISE).astype(np.int64) - first
    which = np.repeat(np.arange(low.size), count)
    voxel = first[which] + np.arange(which.size) - np.repeat(np.cumsum(count) - count, count)
    part = np.minimum(high[which], voxel + 0.5) - np.maximum(low[which], voxel - 0.5)
    inside = (voxel >= 0) & (voxel < n)
    return voxel[inside], part[inside], which[inside]


def _oblique_pieces(labels: Volume, matrix: npt.NDArray[np.float64], grid: Grid) -> Iterator[Pieces]:
    """Pieces of single label voxels, each a box parallel to the target grid.

    Label voxels that are wide in terms of target voxels are cut into equal parts first.
    """
    parts = _parts(matrix[:3, :3])
    linear = matrix[:3, :3] / np.array(parts)
    half = np.sqrt((linear**2).sum(axis=1)) / 2
    voxel_share = labels.grid.voxel_ml / grid.voxel_ml / np.prod(parts)
    strides = np.array([grid.shape[1] * grid.shape[2], grid.shape[2], 1])
    cuts = [(np.arange(n) + 0.5) / n - 0.5 for n in parts]
    inner = np.stack(np.meshgrid(*cuts, indexing="ij"), axis=-1).reshape(-1, 3)
    index = np.array(np.nonzero(labels.data))
    for start in range(0, index.shape[1], _CHUNK):
        ijk = index[:, start : start + _CHUNK]
        label = labels.data[tuple(ijk)].astype(np.uint8)
        for offset in inner:
            centre = matrix[:3, :3] @ (ijk + offset[:, None]) + matrix[:3, 3:]
            source = np.arange(label.size)
            voxel = np.zeros(label.size, dtype=np.int64)
            share = np.full(label.size, voxel_share)
            for axis in range(3):
                middle = centre[axis, source]
                at, part, which = _overlaps(middle - half[axis], middle + half[axis], grid.shape[axis])
                source, voxel = source[which], voxel[which] + at * strides[axis]
                share = share[which] * part / (2 * half[axis])
            yield label[source], voxel, share


def _snapped(matrix: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """`matrix` without rounding noise: entries that are whole numbers but for less than a hair become so.

    NIfTI stores affines in single precision, so two grids that agree differ by some 1e-5 of a voxel.
    """
    reach_voxels = np.abs(matrix - np.round(matrix)) * np.array([*shape, 1.0])
    return np.where(reach_voxels < _SNAP_VOXELS, np.round(matrix), matrix)


def _parts(linear: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    """Into how many equal parts a label voxel is cut along each axis, for `_OBLIQUE_PART`."""
    parts = np.ones(3)
    while True:
        widths = np.sqrt(((linear / parts) ** 2).sum(axis=1))
        if widths.max() <= _OBLIQUE_PART + 1e-9:
            return int(parts[0]), int(parts[1]), int(parts[2])
        widest_axis = np.abs(linear[widths.argmax()] / parts).argmax()
        parts[widest_axis] += 1
