"""How alike two masks are: overlap, and the distance between their borders. Arrays and spacings only.

* *border* : voxels of a mask that have at least one of their face neighbours (six in 3-D) outside the mask:
  the mask minus its erosion by the 6-connected element, as in MetricsReloaded (Maier-Hein et al., Nat Methods
  21:195, 2024). What lies beyond the end of the array is outside, so a bone cut by the field of view has a
  border there. Every border voxel counts once; tools that weigh surface elements by their area (DeepMind's
  surface-distance) give slightly other figures.
* *distance* : between voxel centres, on a grid with right angles.
* *empty masks* : two empty masks have nothing to compare, the answer is NaN and is to be left out of means;
  one empty mask against one that is not is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

Mask = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]

LABELS = 256
_BLOCK_VOXELS = 1 << 22
_ROUNDING = 1e-9  # a distance that equals the tolerance is within it


def dice(one: Mask, two: Mask) -> float:
    """Twice the overlap divided by the sum of both masks (Dice, Ecology 26:297, 1945).

    Empty masks: see the module. Raises ValueError if the shapes differ.
    """
    _same_shape(one, two)
    both = int(np.count_nonzero(one & two))
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(two))
    return 2 * both / total if total else float("nan")


def surface_dice(one: Mask, two: Mask, spacing_mm: Sequence[float] | F64, tolerance_mm: float) -> float:
    """Share of both borders that lies within `tolerance_mm` of the other one (normalised surface Dice).

    Nikolov et al., J Med Internet Res 23:e26151, 2021, with border voxels in place of surface elements.
    No distance is rounded. Border and empty masks: see the module. Raises ValueError if the shapes differ, a
    spacing is not positive or the tolerance is negative.
    """
    _same_shape(one, two)
    spacing = _checked(one, spacing_mm, tolerance_mm)
    first, second = border(one) * spacing, border(two) * spacing
    if not len(first) and not len(second):
        return float("nan")
    # Trees of border points, not distance maps: a label scattered over a CT would need gigabytes of map.
    close = _near(first, second, tolerance_mm).sum() + _near(second, first, tolerance_mm).sum()
    return float(close) / (len(first) + len(second))


def border(mask: Mask) -> npt.NDArray[np.intp]:
    """(n, axes) indices of the border voxels of `mask`."""
    box = _bounding_box(mask)
    if box is None:
        return np.zeros((0, mask.ndim), np.intp)
    inside = mask[box]
    core = ndimage.binary_erosion(inside, ndimage.generate_binary_structure(mask.ndim, 1))
    index: npt.NDArray[np.intp] = np.argwhere(inside & ~core) + np.array([s.start for s in box])
    return index


def count_farther(mask: Mask, other: Mask, spacing_mm: Sequence[float] | F64, distance_mm: float) -> int:
    """How many voxels of `mask` are farther than `distance_mm` from every voxel of `other`.

    Raises ValueError as `surface_dice` does.
    """
    _same_shape(mask, other)
    spacing = _checked(mask, spacing_mm, distance_mm)
    # The voxel of `other` that is nearest to one outside it is always on its border.
    candidates = np.argwhere(mask & ~other) * spacing
    return len(candidates) - int(_near(candidates, border(other) * spacing, distance_mm).sum())


def overlaps(reference: npt.NDArray[Any], found: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(256, 256) voxels by label in `reference` (rows) and in `found` (columns); [0, 0] is left 0.

    Both are maps of labels 0 to 255. Raises ValueError if the shapes differ.
    """
    _same_shape(reference, found)
    counts = np.zeros(LABELS * LABELS, np.int64)
    slow = int(np.argmax(np.abs(reference.strides)))
    step = max(1, _BLOCK_VOXELS * reference.shape[slow] // max(reference.size, 1))
    for start in range(0, reference.shape[slow], step):
        box = tuple(slice(start, start + step) if axis == slow else slice(None) for axis in range(found.ndim))
        rows, columns = reference[box], found[box]
        some = (rows > 0) | (columns > 0)
        code = rows[some].astype(np.intp) * LABELS + columns[some]
        counts += np.bincount(code, minlength=LABELS * LABELS)
    return counts.reshape(LABELS, LABELS)


def _near(points_mm: F64, others_mm: F64, distance_mm: float) -> Mask:
    """(n,) whether each point has one of the others within the distance."""
    if not len(points_mm) or not len(others_mm):
        return np.zeros(len(points_mm), bool)
    reach = distance_mm * (1 + _ROUNDING) + _ROUNDING
    nearest, _ = cKDTree(others_mm).query(points_mm, distance_upper_bound=reach)
    near: Mask = np.isfinite(nearest)
    return near


def _bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    """The smallest box that holds the mask, None for an empty one."""
    box = []
    for axis in range(mask.ndim):
        seen = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(seen):
            return None
        box.append(slice(int(seen[0]), int(seen[-1]) + 1))
    return tuple(box)


def _same_shape(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> None:
    if one.shape != two.shape:
        raise ValueError(f"masks of one grid are compared, got shapes {one.shape} and {two.shape}")


def _checked(mask: Mask, spacing_mm: Sequence[float] | F64, distance_mm: float) -> F64:
    spacing = np.asarray(spacing_mm, np.float64)
    if spacing.shape != (mask.ndim,) or not (spacing > 0).all():
        raise ValueError(
            f"expected {mask.ndim} positive spacings in mm, one for each axis, got {spacing.tolist()}"
        )
    if not distance_mm >= 0:
        raise ValueError(f"a distance is 0 mm or more, got {distance_mm}")
    return spacing
