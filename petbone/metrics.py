"""How alike two masks or two maps of labels are: overlap, volumes, distance of borders. Arrays only.

`petbone.surfaces` has the two definitions of a border. `compare_labels` takes either, by its name in the
`Ruler`; `surface_dice` and `count_farther` are those of boundary voxels.

What has no value is NaN, and is to be left out of means (`mean_of` does, and tells how many are left):

| of the two masks     | Dice, surface Dice | difference (mL) | difference (%) | every distance |
|----------------------|--------------------|-----------------|----------------|----------------|
| both hold something  | a value            | a value         | a value        | a value        |
| one is empty         | 0                  | a value         | 200            | NaN            |
| both are empty       | NaN                | 0               | NaN            | NaN            |

A missed bone is thus a 0 in Dice, and is not seen in a distance: a mean of distances needs its n beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from petbone.surfaces import DEFINITIONS, ROUNDING, Definition, boundary, distances

Mask = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
Box = tuple[slice, ...]

LABELS = 256
_BLOCK_VOXELS = 1 << 22
_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class Ruler:
    """How two maps are measured: voxel spacing along every axis, tolerance of surface Dice, kind of border.

    Raises ValueError if a spacing is not positive, the tolerance is negative or the border has no such name.
    """

    spacing_mm: tuple[float, ...]
    tolerance_mm: float
    border: Definition = "surface elements"

    def __post_init__(self) -> None:
        _checked(len(self.spacing_mm), self.spacing_mm, self.tolerance_mm)
        if self.border not in DEFINITIONS:
            raise ValueError(f"a border is one of {', '.join(DEFINITIONS)}, got {self.border!r}")


@dataclass(frozen=True)
class Likeness:
    """One label in two maps. Empty masks: see the module."""

    dice: float  # SDI, twice the overlap divided by the sum of both
    volume_one_ml: float
    volume_two_ml: float
    difference_ml: float  # two minus one
    difference_percent: float  # 100 |one - two| / ((one + two) / 2)
    surface_dice: float  # NSD, share of both borders within the tolerance
    hausdorff_mm: float
    hd95_mm: float  # the larger one of both directed 95th percentiles
    assd_mm: float  # mean over the elements of both borders together
    masd_mm: float  # mean of the two below
    one_to_two_mm: float  # mean from the border of one to that of two
    two_to_one_mm: float


def compare_labels(
    one: npt.NDArray[Any], two: npt.NDArray[Any], ruler: Ruler, labels: Iterable[int] | None = None
) -> dict[int, Likeness]:
    """Every label of two maps on one grid (2-D or 3-D), in rising order; or `labels`, in their order.

    Maps hold whole numbers, 0 where there is no label. Only the box of a label is looked at, so that the time
    is that of the labels and not of the grid. Raises ValueError if the shapes differ, the ruler has another
    number of axes, the grid has not 2 or 3 of them, a map holds other than whole numbers from 0, or a label
    below 1 is asked for.
    """
    _same_shape(one, two)
    if one.ndim not in (2, 3) or len(ruler.spacing_mm) != one.ndim:
        raise ValueError(
            f"a ruler of {len(ruler.spacing_mm)} axes does not fit a grid of {one.ndim} (2 or 3)"
        )
    first, second = _boxes(one), _boxes(two)
    wanted = sorted(first.keys() | second.keys()) if labels is None else list(labels)
    if any(label < 1 for label in wanted):
        raise ValueError(f"labels to compare count from 1, got {min(wanted)}")
    found = {}
    for label in wanted:
        box = _joined([boxes[label] for boxes in (first, second) if label in boxes], one.ndim)
        found[label] = _likeness(one[box] == label, two[box] == label, ruler)
    return found


def mean_of(values: Iterable[float]) -> tuple[float, int]:
    """Mean of those that have a value, and how many they are; NaN and 0 if none has."""
    known = [value for value in values if not np.isnan(value)]
    return (float(np.mean(known)), len(known)) if known else (float("nan"), 0)


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

    Nikolov et al., J Med Internet Res 23:e26151, 2021, with boundary voxels in place of surface elements.
    No distance is rounded. Empty masks: see the module. Raises ValueError if the shapes differ, a
    spacing is not positive or the tolerance is negative.
    """
    _same_shape(one, two)
    spacing = _checked(one.ndim, spacing_mm, tolerance_mm)
    first, second = border(one) * spacing, border(two) * spacing
    if not len(first) and not len(second):
        return float("nan")
    # Trees of border points, not distance maps: a label scattered over a CT would need gigabytes of map.
    close = _near(first, second, tolerance_mm).sum() + _near(second, first, tolerance_mm).sum()
    return float(close) / (len(first) + len(second))


def border(mask: Mask) -> npt.NDArray[np.intp]:
    """(n, axes) indices of the boundary voxels of `mask`."""
    box = _bounding_box(mask)
    if box is None:
        return np.zeros((0, mask.ndim), np.intp)
    index: npt.NDArray[np.intp] = np.argwhere(boundary(mask[box])) + np.array([s.start for s in box])
    return index


def count_farther(mask: Mask, other: Mask, spacing_mm: Sequence[float] | F64, distance_mm: float) -> int:
    """How many voxels of `mask` are farther than `distance_mm` from every voxel of `other`.

    Raises ValueError as `surface_dice` does.
    """
    _same_shape(mask, other)
    spacing = _checked(mask.ndim, spacing_mm, distance_mm)
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


def _likeness(one: Mask, two: Mask, ruler: Ruler) -> Likeness:
    voxel_ml = float(np.prod(ruler.spacing_mm)) / _MM3_PER_ML
    volumes = [np.count_nonzero(mask) * voxel_ml for mask in (one, two)]
    both_ml = sum(volumes)
    between = distances(one, two, np.array(ruler.spacing_mm, np.float64), ruler.border)
    none = float("nan")
    return Likeness(
        dice=dice(one, two),
        volume_one_ml=volumes[0],
        volume_two_ml=volumes[1],
        difference_ml=volumes[1] - volumes[0],
        difference_percent=200 * abs(volumes[0] - volumes[1]) / both_ml if both_ml else none,
        surface_dice=between.surface_dice(ruler.tolerance_mm) if between else 0.0 if both_ml else none,
        hausdorff_mm=between.percentile_mm(100) if between else none,
        hd95_mm=between.percentile_mm(95) if between else none,
        assd_mm=between.assd_mm() if between else none,
        masd_mm=between.masd_mm() if between else none,
        one_to_two_mm=between.from_one.mean_mm() if between else none,
        two_to_one_mm=between.from_two.mean_mm() if between else none,
    )


def _boxes(labels: npt.NDArray[Any]) -> dict[int, Box]:
    """The box of every label of a map."""
    if labels.dtype == bool:
        labels = labels.view(np.uint8)
    if not np.issubdtype(labels.dtype, np.integer) or (labels.size and labels.min() < 0):
        raise ValueError("a map of labels holds whole numbers from 0")
    # Axes from the slowest to the fastest in memory: NIfTI stores the first one fastest.
    order = sorted(range(labels.ndim), key=lambda axis: -abs(labels.strides[axis]))
    found = ndimage.find_objects(labels.transpose(order))
    back = np.argsort(order)
    return {n: tuple(box[axis] for axis in back) for n, box in enumerate(found, start=1) if box is not None}


def _joined(boxes: list[Box], axes: int) -> Box:
    """The smallest box that holds all of them; an empty one for none."""
    return tuple(
        slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes)) if boxes else slice(0, 0)
        for axis in range(axes)
    )


def _near(points_mm: F64, others_mm: F64, distance_mm: float) -> Mask:
    """(n,) whether each point has one of the others within the distance."""
    if not len(points_mm) or not len(others_mm):
        return np.zeros(len(points_mm), bool)
    reach = distance_mm * (1 + ROUNDING) + ROUNDING
    nearest, _ = cKDTree(others_mm).query(points_mm, distance_upper_bound=reach)
    near: Mask = np.isfinite(nearest)
    return near


def _bounding_box(mask: Mask) -> Box | None:
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


def _checked(axes: int, spacing_mm: Sequence[float] | F64, distance_mm: float) -> F64:
    spacing = np.asarray(spacing_mm, np.float64)
    if spacing.shape != (axes,) or not ((spacing > 0) & np.isfinite(spacing)).all():
        raise ValueError(
            f"expected {axes} positive spacings in mm, one for each axis, got {spacing.tolist()}"
        )
    if not distance_mm >= 0:
        raise ValueError(f"a distance is 0 mm or more, got {distance_mm}")
    return spacing
