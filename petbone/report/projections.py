"""Projections of a volume through the patient, on one frame in millimetres. Arrays only.

Any grid is allowed: it is seen with its axes in the closest RAS order (a view, no copy), and what remains
oblique is handled by the shear-warp factorisation (Lacroute and Levoy, SIGGRAPH 1994): the slices are shifted
by whole voxels while they are merged, and the merged two-dimensional image is then warped onto the frame.
The volume is read once for both views, block by block in the order of its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby, permutations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.volume import Grid, Volume

AnyArray = npt.NDArray[Any]
FloatPicture = npt.NDArray[np.float32]
BLOCK_VOXELS = 1 << 19  # a block of int16 and its int32 key stay in a second-level cache

_SEEN = 1 << 30  # bits of the key by which the front-most label is found: seen, priority, rank, label
_PRIORITY = 1 << 28
_RANKS = 1 << 20


class View(Enum):
    """From where the patient is looked at.

    Coronal: from the front, the patient's right on the left of the picture (radiological convention).
    Sagittal: from the patient's left, the front of the patient on the left of the picture.
    """

    CORONAL = "coronal"
    SAGITTAL = "sagittal"

    @property
    def across(self) -> int:
        """World axis that falls along a row of the picture, from its high end to its low end."""
        return 0 if self is View.CORONAL else 1

    @property
    def through(self) -> int:
        """World axis along which the volume is projected."""
        return 1 - self.across

    @property
    def nearest_is_high(self) -> bool:
        """True when the end nearest to the eye has the highest coordinate: front is +y, left is -x."""
        return self is View.CORONAL


@dataclass(frozen=True)
class Frame:
    """The box in RAS mm that every picture shows, and the edge of its square pixels."""

    lower_mm: tuple[float, float, float]
    upper_mm: tuple[float, float, float]
    pixel_mm: float

    def size_mm(self, view: View) -> tuple[float, float]:
        """Width and height of a picture."""
        width = self.upper_mm[view.across] - self.lower_mm[view.across]
        return width, self.upper_mm[2] - self.lower_mm[2]

    def shape(self, view: View) -> tuple[int, int]:
        """Rows and columns of a picture."""
        width, height = self.size_mm(view)
        return max(1, round(height / self.pixel_mm)), max(1, round(width / self.pixel_mm))

    def picture_mm(self, view: View, mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """World positions (..., 3) to (..., 2): mm from the left and from the top of the picture."""
        points = np.asarray(mm, dtype=np.float64)
        right, top = self.upper_mm[view.across], self.upper_mm[2]
        return np.stack([right - points[..., view.across], top - points[..., 2]], axis=-1)

    def pixel(self, view: View, mm: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """World positions (..., 3) to the (row, column) of the pixel that contains them."""
        inside = self.picture_mm(view, mm)[..., ::-1] / self.pixel_mm
        return np.floor(inside).astype(np.intp)

    def trimmed(self, view: View, columns: slice) -> Frame:
        """The frame of ``picture[:, columns]``."""
        start, stop, _ = columns.indices(self.shape(view)[1])
        lower, upper = list(self.lower_mm), list(self.upper_mm)
        upper[view.across] = self.upper_mm[view.across] - start * self.pixel_mm
        lower[view.across] = self.upper_mm[view.across] - stop * self.pixel_mm
        return replace(self, lower_mm=_triple(lower), upper_mm=_triple(upper))


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z


def frame_around(grids: Sequence[Grid], rows: int = 900, finest_mm: float = 0.8) -> Frame:
    """The frame that holds all `grids`, at most about `rows` pixels high and no finer than `finest_mm`."""
    corners = np.concatenate([grid.corners_mm() for grid in grids])
    lower, upper = corners.min(axis=0), corners.max(axis=0)
    pixel_mm = max(float(upper[2] - lower[2]) / rows, finest_mm)
    # Whole pixels, so that a position is the same in the frame and in the picture.
    upper = lower + np.ceil((upper - lower) / pixel_mm - 1e-6).clip(1) * pixel_mm
    return Frame(_triple(lower), _triple(upper), pixel_mm)


def closest_ras(volume: Volume) -> Volume:
    """The same voxels with the array axes in the order and direction closest to right, front, head.

    A view: nothing is copied and every voxel keeps its world position.
    """
    matrix = volume.grid.mm_from_ijk
    cosines = np.abs(matrix[:3, :3] / volume.grid.spacing_mm)
    order = max(permutations(range(3)), key=lambda p: float(np.prod(cosines[range(3), p])))
    data = volume.data.transpose(order)
    columns = matrix[:3, :3][:, order].copy()
    origin = matrix[:3, 3].copy()
    for axis in range(3):
        if columns[axis, axis] < 0:
            data = np.flip(data, axis)
            origin += columns[:, axis] * (data.shape[axis] - 1)
            columns[:, axis] *= -1
    turned = np.eye(4)
    turned[:3, :3], turned[:3, 3] = columns, origin
    return Volume(data, Grid(_shape3(data), turned), volume.unit)


def strided(volume: Volume, finest_mm: float) -> Volume:
    """Every n-th voxel along each axis, so that voxels are about `finest_mm` apart but never farther.

    A view; voxels that remain keep their positions.
    """
    steps = np.maximum(1, np.floor(finest_mm / volume.grid.spacing_mm + 1e-6)).astype(int)
    data = volume.data[:: steps[0], :: steps[1], :: steps[2]]
    matrix = volume.grid.mm_from_ijk.copy()
    matrix[:3, :3] *= steps
    return Volume(data, Grid(_shape3(data), matrix), volume.unit)


def _shape3(data: AnyArray) -> tuple[int, int, int]:
    a, b, c = data.shape
    return a, b, c


@dataclass(frozen=True, eq=False)
class Sheet:
    """A projection before it is warped onto a frame.

    `image` is (across, head-foot) in voxels of the sheared grid, `mm_from_ab` (2, 3) takes its indices to
    (across, head-foot) mm, `runs` are the stretches of slices that share one shift.
    """

    view: View
    image: AnyArray
    mm_from_ab: npt.NDArray[np.float64]
    runs: tuple[tuple[int, int, int, int], ...]  # first slice, end, shift across, shift head-foot

    def take(self, block: AnyArray, start: tuple[int, int, int]) -> None:
        """Merge the block whose first voxel is `start` into `image` by the maximum."""
        axis = self.view.through
        if len(self.runs) > 1 and abs(block.strides[axis]) == block.itemsize:
            # Short runs along the fastest axis are slow to reduce; turn it away from the fastest place.
            block = np.ascontiguousarray(block)
        for first, end, shift_across, shift_z in self.runs:
            low, high = max(first, start[axis]), min(end, start[axis] + block.shape[axis])
            if low >= high:
                continue
            part = slice(low - start[axis], high - start[axis])
            flat = (block[:, part] if axis == 1 else block[part]).max(axis=axis)
            a, b = start[self.view.across] + shift_across, start[2] + shift_z
            window = self.image[a : a + flat.shape[0], b : b + flat.shape[1]]
            np.maximum(window, flat, out=window)

    def cover(self, shape: tuple[int, int, int]) -> None:
        """Mark everything that a grid of `shape` reaches as seen and empty: 0."""
        for _, _, a, b in self.runs:
            self.image[a : a + shape[self.view.across], b : b + shape[2]] = 0


def _sheet(grid: Grid, view: View, dtype: npt.DTypeLike) -> Sheet:
    """An empty sheet for a grid in closest-RAS order."""
    plane, matrix = [view.across, 2], grid.mm_from_ijk
    in_plane = matrix[np.ix_(plane, plane)]
    shear = np.linalg.solve(in_plane, matrix[plane, view.through])  # voxels of shift per slice
    shifts = np.rint(np.outer(np.arange(grid.shape[view.through]), shear)).astype(int)
    least = shifts.min(axis=0)
    shifts -= least
    runs, first = [], 0
    for (across, z), members in groupby(map(tuple, shifts.tolist())):
        end = first + len(list(members))
        runs.append((first, end, across, z))
        first = end
    size = np.array(grid.shape)[plane] + shifts.max(axis=0)
    mm_from_ab = np.column_stack([in_plane, matrix[plane, 3] + in_plane @ least])
    return Sheet(view, np.full(size, _unseen(np.dtype(dtype)), dtype), mm_from_ab, tuple(runs))


def _unseen(dtype: np.dtype[np.generic]) -> float | int:
    """Value of a place that no voxel has reached: the least of its type."""
    return int(np.iinfo(dtype.name).min) if np.issubdtype(dtype, np.integer) else -np.inf


def _blocks(data: AnyArray) -> Iterator[tuple[AnyArray, tuple[int, int, int]]]:
    """The array in pieces along the axis that is slowest in memory, each with its first index."""
    slow = int(np.argmax(np.abs(data.strides)))
    step = max(1, BLOCK_VOXELS * data.shape[slow] // data.size)
    for begin in range(0, data.shape[slow], step):
        box, start = [slice(None)] * 3, [0, 0, 0]
        box[slow], start[slow] = slice(begin, begin + step), begin
        yield data[tuple(box)], (start[0], start[1], start[2])


def maximum(volume: Volume) -> dict[View, Sheet]:
    """Maximum-intensity projection of any volume, both views in one reading of the voxels."""
    ras = closest_ras(volume)
    dtype = np.int16 if ras.data.dtype.kind in "ub" and ras.data.dtype.itemsize == 1 else ras.data.dtype
    sheets = {view: _sheet(ras.grid, view, np.dtype(dtype).newbyteorder("=")) for view in View}
    for block, start in _blocks(ras.data):
        for sheet in sheets.values():
            sheet.take(block, start)
    return sheets


def frontmost(labels: Volume, first: Callable[[View], Sequence[int]] = lambda _view: ()) -> dict[View, Sheet]:
    """The label nearest to the eye along each line of sight, coded with its depth; see `labels_on`.

    `first(view)` names labels that are drawn over all others, however deep they lie. Labels are 0 to 255 and
    the grid has fewer than 2^20 / 256 slices along any axis.
    """
    ras = closest_ras(labels)
    if max(ras.grid.shape) >= _RANKS // 256:
        raise ValueError(f"a label projection takes fewer than {_RANKS // 256} slices, got {ras.grid.shape}")
    sheets = {view: _sheet(ras.grid, view, np.int32) for view in View}
    codes, ranks, shifts = {}, {}, {}
    for view, sheet in sheets.items():
        sheet.cover(ras.grid.shape)
        codes[view] = _SEEN + np.arange(256, dtype=np.int32)
        codes[view][list(first(view))] += _PRIORITY
        rank = np.arange(ras.grid.shape[view.through], dtype=np.int32) << 8
        ranks[view] = rank if view.nearest_is_high else rank[::-1]
        shifts[view] = np.repeat(
            [run[2:] for run in sheet.runs], [run[1] - run[0] for run in sheet.runs], axis=0
        )
    for ijk, label in _labelled(ras.data):
        for view, sheet in sheets.items():
            slices = ijk[view.through]
            across = ijk[view.across] + shifts[view][slices, 0]
            height = ijk[2] + shifts[view][slices, 1]
            key = codes[view][label] + ranks[view][slices]
            np.maximum.at(sheet.image.reshape(-1), across * sheet.image.shape[1] + height, key)
    return sheets


def _labelled(data: AnyArray) -> Iterator[tuple[list[npt.NDArray[np.intp]], npt.NDArray[np.intp]]]:
    """Indices and labels of the voxels that are not 0, block by block: bones are few among the voxels."""
    order = np.argsort(-np.abs(data.strides), kind="stable")
    for block, start in _blocks(data):
        turned = block.transpose(order)  # rows in the order of memory, which is what makes this fast
        found = np.unravel_index(np.flatnonzero(turned != 0), turned.shape)
        ijk = [found[int(np.flatnonzero(order == axis)[0])] + start[axis] for axis in range(3)]
        yield ijk, turned[found].astype(np.intp)


Positions = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Indices into the two axes of an image that broadcast to (rows, columns)."""


def _positions(sheet: Sheet, frame: Frame, finer: int) -> Positions:
    """Continuous indices into the sheet of the (sub-)pixel centres, (rows x finer, columns x finer).

    Where the grid is not oblique they are (1, columns) and (rows, 1), which is much less to work on.
    """
    rows, columns = frame.shape(sheet.view)
    step = frame.pixel_mm / finer
    across = frame.upper_mm[sheet.view.across] - (np.arange(columns * finer) + 0.5) * step
    z = frame.upper_mm[2] - (np.arange(rows * finer) + 0.5) * step
    ab_from_mm = np.linalg.inv(sheet.mm_from_ab[:, :2])
    along = ab_from_mm[:, :1] * (across - sheet.mm_from_ab[0, 2])
    down = ab_from_mm[:, 1:] * (z - sheet.mm_from_ab[1, 2])
    if not ab_from_mm[0, 1] and not ab_from_mm[1, 0]:
        return along[0, None, :], down[1, :, None]
    return along[0] + down[0, :, None], along[1] + down[1, :, None]


def _nearest(sheet: Sheet, positions: Positions) -> AnyArray:
    """Values at the nearest index; the least of the type outside."""
    inside, index = [], []
    for along, count in zip(positions, sheet.image.shape, strict=True):
        at = np.floor(along + 0.5).astype(np.intp)
        inside.append((at >= 0) & (at < count))
        index.append(at.clip(0, count - 1))
    return np.where(inside[0] & inside[1], sheet.image[index[0], index[1]], _unseen(sheet.image.dtype))


def picture(sheet: Sheet, frame: Frame) -> FloatPicture:
    """The maximum on the frame, (rows, columns); NaN where no voxel lies along the line of sight.

    Linear between voxels. Where a pixel is larger than a voxel it takes the largest of several samples, so
    that a maximum stays a maximum.
    """
    edges = np.linalg.norm(sheet.mm_from_ab[:, :2], axis=0)
    finer = max(1, int(np.ceil(frame.pixel_mm / edges.min() - 1e-6)))
    positions = _positions(sheet, frame, finer)
    unseen = sheet.image == _unseen(sheet.image.dtype)
    values = sheet.image.astype(np.float32)
    values[unseen] = values[~unseen].min() if not unseen.all() else 0
    every = np.broadcast_arrays(*positions)
    fine = ndimage.map_coordinates(values, every, order=1, mode="nearest", output=np.float32)
    fine[_nearest(sheet, positions) == _unseen(sheet.image.dtype)] = np.nan
    rows, columns = frame.shape(sheet.view)
    largest: FloatPicture = np.fmax.reduce(fine.reshape(rows, finer, columns, finer), axis=(1, 3))
    return largest


def labels_on(sheet: Sheet, frame: Frame) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """The front-most labels on the frame and their rank in slices: the larger, the nearer to the eye.

    The rank is 0 where there is no label and -1 outside the field of view.
    """
    key = _nearest(sheet, _positions(sheet, frame, 1)).astype(np.int32)
    seen = key >= _SEEN
    rank = np.where(seen, (key >> 8) & (_RANKS // 256 - 1), np.where(key < 0, -1, 0))
    return np.where(seen, key & 255, 0).astype(np.uint8), rank.astype(np.int32)


def numbers_on(sheet: Sheet, frame: Frame) -> npt.NDArray[np.int64]:
    """The maximum on the frame without interpolation, 0 outside: for a projection of whole numbers."""
    return np.maximum(_nearest(sheet, _positions(sheet, frame, 1)), 0).astype(np.int64)


def centres_mm(labels: Volume, sample_mm: float = 3.0) -> dict[int, npt.NDArray[np.float64]]:
    """Mean position in RAS mm of every label, from voxels about `sample_mm` apart."""
    coarse = strided(labels, sample_mm)
    sums = np.zeros((256, 4))
    for ijk, label in _labelled(coarse.data):
        for column, weights in enumerate((*ijk, None)):
            sums[:, column] += np.bincount(label, weights=weights, minlength=256)
    return {int(n): coarse.grid.mm(sums[n, :3] / sums[n, 3]) for n in np.flatnonzero(sums[:, 3])}
