"""A CT and its bones on a coarse grid, for what needs no detail.

Terms: the *canonical* view of an array has its axes permuted and flipped so that they run closest to right,
front, head; it is a view, no copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.resample import resample
from petbone.volume import Box, Grid, Unit, Volume

F32 = npt.NDArray[np.float32]
AIR_HU = -1000.0
STEP_MM = 5.0
MAX_TILT_DEG = 3.0


def canonical(volume: Volume) -> tuple[npt.NDArray[np.generic], Grid, tuple[int, ...], tuple[int, ...]]:
    """View along axes closest to RAS, its grid, and the axes and signs that made it.

    Undo with `uncanonical`.
    """
    directions = volume.grid.mm_from_ijk[:3, :3] / volume.grid.spacing_mm
    axes = _closest_axes(directions)
    signs = tuple(int(np.sign(directions[row, axes[row]]) or 1) for row in range(3))
    turn = np.eye(4)
    turn[:3, :3] = 0
    shape = [volume.data.shape[a] for a in axes]
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        turn[old, new] = sign
        turn[old, 3] = 0 if sign > 0 else shape[new] - 1
    view = volume.data.transpose(axes)[tuple(slice(None, None, s) for s in signs)]
    return view, Grid((shape[0], shape[1], shape[2]), volume.grid.mm_from_ijk @ turn), axes, signs


def uncanonical(
    data: npt.NDArray[np.generic], axes: tuple[int, ...], signs: tuple[int, ...]
) -> npt.NDArray[np.generic]:
    """View of a canonical array along the original axes."""
    return data[tuple(slice(None, None, s) for s in signs)].transpose(np.argsort(axes))


def _closest_axes(directions: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """Array axis for each world axis, the assignment with the largest sum of cosines."""
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    scores = [round(sum(abs(directions[row, axis]) for row, axis in enumerate(o)), 6) for o in orders]
    return orders[int(np.argmax(scores))]


def block_means(view: npt.NDArray[np.generic], factors: tuple[int, int, int]) -> F32:
    """Means of whole blocks, clipped to CT's range; a part block at the end is averaged as it is.

    Reads one thick slice at a time along the axis with the largest stride, so that neither a float copy
    of the CT nor a walk against memory order is needed.
    """
    slow = int(np.argmax(np.abs(view.strides)))
    others = [a for a in range(3) if a != slow]
    out_shape = [-(-n // f) for n, f in zip(view.shape, factors, strict=True)]
    out = np.empty(out_shape, np.float32)
    starts = [np.arange(0, view.shape[a], factors[a]) for a in range(3)]
    counts = [np.diff(np.append(s, n)).astype(np.float32) for s, n in zip(starts, view.shape, strict=True)]
    for n, start in enumerate(starts[slow]):
        part = [slice(None)] * 3
        part[slow] = slice(start, start + factors[slow])
        flat = np.nan_to_num(view[tuple(part)].clip(-1024, 3071), nan=AIR_HU).mean(slow, dtype=np.float32)
        for axis, other in enumerate(others):
            if factors[other] > 1:
                flat = np.add.reduceat(flat, starts[other], axis=axis)
                flat /= counts[other].reshape([-1 if a == axis else 1 for a in range(2)])
        index: list[int | slice] = [slice(None)] * 3
        index[slow] = n
        out[tuple(index)] = flat
    return out


@dataclass(frozen=True, eq=False)
class Thinned:
    """A CT and its bones on a grid of about `STEP_MM`, x to the right, y to the front."""

    hu: F32
    labels: npt.NDArray[np.generic]
    grid: Grid

    @property
    def spacing_mm(self) -> npt.NDArray[np.float64]:
        """(3,) voxel edges."""
        return self.grid.spacing_mm

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return self.grid.voxel_ml

    def cropped(self, box: Box) -> Thinned:
        """The part inside `box`."""
        return Thinned(self.hu[box], self.labels[box], self.grid.cropped(box))

    def solid_depth_mm(self, hu: tuple[float, float]) -> npt.NDArray[np.float64]:
        """How far each voxel is from what is bone or, after a blur, not between two HU."""
        smooth = ndimage.gaussian_filter(self.hu, 4.0 / self.spacing_mm)
        solid = (smooth > hu[0]) & (smooth < hu[1]) & (self.labels == 0)
        return np.asarray(ndimage.distance_transform_edt(solid, sampling=self.spacing_mm))


def thinned(ct: Volume, bones: Volume) -> Thinned:
    """Means of blocks of the CT, and the label of `bones` (on any grid of its frame) in the middle of each.

    Of voxels smaller than half a step not all are looked at: it is reading them that takes the time.
    """
    view, grid, _, _ = canonical(ct)
    skip = np.maximum(STEP_MM / 2 // grid.spacing_mm, 1).astype(int)
    thin = view[tuple(slice(None, None, int(n)) for n in skip)]
    factor = np.maximum(np.round(STEP_MM / (grid.spacing_mm * skip)), 1).astype(int)
    hu = block_means(thin, (int(factor[0]), int(factor[1]), int(factor[2])))
    # The middle of a block is that of the voxels that were looked at.
    turn = np.diag([*(skip * factor).astype(float), 1.0])
    turn[:3, 3] = skip * (factor - 1) / 2
    coarse = Grid((hu.shape[0], hu.shape[1], hu.shape[2]), grid.mm_from_ijk @ turn)
    return Thinned(hu, resample(bones, coarse).data, coarse)


def upright(scan: Thinned, bones: Volume) -> Thinned:
    """The same along the axes of the world; as it is where its own are within `MAX_TILT_DEG` of them."""
    directions = scan.grid.mm_from_ijk[:3, :3] / scan.spacing_mm
    if np.degrees(np.arccos(np.diag(directions).clip(-1, 1))).max() <= MAX_TILT_DEG:
        return scan
    corners = scan.grid.corners_mm()
    low, high = corners.min(axis=0), corners.max(axis=0)
    count = np.ceil((high - low) / STEP_MM).astype(int)
    matrix = np.diag([STEP_MM, STEP_MM, STEP_MM, 1.0])
    matrix[:3, 3] = low + STEP_MM / 2
    grid = Grid((int(count[0]), int(count[1]), int(count[2])), matrix)
    hu = resample(Volume(scan.hu, scan.grid, Unit.HU), grid).data
    return Thinned(hu, resample(bones, grid).data, grid)
