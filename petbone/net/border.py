"""From coarse names to the border of every bone on the CT's own voxels.

The net knows where bone is to about 4 mm, the CT where it is bright. A voxel is bone when the two together
say so: logit of the net's chance (upsampled) + shift + (HU - threshold) / softness > 0. Deep in a bone dark
marrow passes, at its rim only bright voxels do, and a bright vessel a few mm away does not.

Everything works in thick slices along the CT's slowest axis, on integer copies of one slice at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from petbone.anatomy import ALL_BONES, BONES
from petbone.components import connected, holes_in_slices, label_boxes
from petbone.thinned import F32

Box = tuple[slice, ...]
Mask = npt.NDArray[np.bool_]
U8 = npt.NDArray[np.uint8]
MARROW_ALONE = frozenset(
    bone.id for bone in BONES if bone.name.split("_")[0] in ("sternum", "clavicle", "humerus", "femur")
)
"""Bones that surround nothing but their own marrow, which may be as dark as fat."""
VERTEBRAE = frozenset(bone.id for bone in ALL_BONES if bone.group.endswith("_spine"))

FINE_STEPS = 16  # per unit of logit in `FineGuide`
NOT_BONE = -128  # in `FineGuide`: not asked, or known not to be


@dataclass(frozen=True)
class BorderRule:
    """`softness_hu`: how many HU weigh as much as one unit of logit; `chance_shift`: added to the logit;
    `threshold_part`: where the threshold lies between muscle (0) and spongy bone (1). Volumes in mL.

    Dice of bone or not on a real chest changes by less than 0.01 for shifts from 0 to 2: the shift chooses
    between missing bone and taking in its surroundings. A lesion missed is worse here. With a fine net
    `fine_shift` takes the place of `chance_shift`, and bright HU weigh `fine_hu_most` units of logit at most:
    it has seen that a vessel is bright (decision 0008).
    """

    softness_hu: float = 60.0
    chance_shift: float = 1.0
    threshold_hu: tuple[float, float] = (80.0, 160.0)
    muscle_hu: float = 60.0
    threshold_part: float = 0.3
    reach_voxels: float = 1.5  # of the coarse grid, round what the coarse net calls bone
    slab: int = 16
    hole_ml: float = 3.0
    island_share: float = 0.02
    island_ml: float = 0.05
    fine_hu_most: float = 2.0
    fine_shift: float = 0.5


@dataclass(frozen=True, eq=False)
class Guide:
    """Coarse answer along the CT's canonical axes: voxel (i, j, k) of the CT is at
    `scale * (i, j, k) + offset` of these arrays."""

    logit: F32
    labels: U8
    scale: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FineGuide:
    """The fine net's bone logit x `FINE_STEPS`, int8, `NOT_BONE` where it was not asked, and its names, 0
    where it leaves the coarse one.

    Voxel (i, j, k) of the CT is at `scale * (i, j, k) + offset` of the arrays.
    """

    logit: npt.NDArray[np.int8]
    labels: U8
    scale: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]

    def at(self, box: Box) -> F32:
        """Logit at the voxels of a box of the CT."""
        where, part = [], []
        for axis, voxels in enumerate(box):
            places = self.scale[axis] * np.arange(voxels.start, voxels.stop) + self.offset[axis]
            places = places.clip(0, self.logit.shape[axis] - 1)
            first = int(places[0])
            part.append(slice(first, int(places[-1]) + 2))
            where.append(places - first)
        logit: F32 = self.logit[tuple(part)].astype(np.float32) / np.float32(FINE_STEPS)
        for axis in np.argsort(self.scale)[::-1]:
            logit = linear_along(logit, where[axis], int(axis))
        return logit

    def names_at(self, box: Box) -> U8:
        """Nearest names at the voxels of a box of the CT."""
        near = []
        for axis, voxels in enumerate(box):
            places = self.scale[axis] * np.arange(voxels.start, voxels.stop) + self.offset[axis]
            near.append(places.round().astype(np.intp).clip(0, self.labels.shape[axis] - 1))
        return self.labels[np.ix_(*near)]


def threshold_of(hu: F32, bone: F32, rule: BorderRule) -> float:
    """HU between muscle and this person's spongy bone, nearer to muscle, within limits."""
    core = hu[bone > 0.9]
    if core.size < 50:
        return float(np.mean(rule.threshold_hu))
    above_muscle = rule.threshold_part * (np.median(core) - rule.muscle_hu)
    return float(np.clip(rule.muscle_hu + above_muscle, *rule.threshold_hu))


def grown(labels: U8, rule: BorderRule) -> U8:
    """Names carried outwards to wherever the border may lie."""
    most = int(rule.reach_voxels)
    shifts = np.indices((2 * most + 1,) * 3).reshape(3, -1).T - most
    far = np.linalg.norm(shifts, axis=1)
    padded = np.pad(labels, most)
    out = labels.copy()
    for n in np.argsort(far, kind="stable"):
        if 0 < far[n] <= rule.reach_voxels:
            near = padded[
                tuple(
                    slice(most + d, most + d + size) for d, size in zip(shifts[n], labels.shape, strict=True)
                )
            ]
            np.copyto(out, near, where=out == 0)
    return out


def linear_along(values: F32, where: npt.NDArray[np.float64], axis: int) -> F32:
    """Linear look-up along one axis; the ends go on."""
    where = where.clip(0, values.shape[axis] - 1)
    low = np.minimum(where.astype(np.intp), max(values.shape[axis] - 2, 0))
    high = np.minimum(low + 1, values.shape[axis] - 1)
    part = (where - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    first = np.take(values, low, axis)
    return np.asarray(first + part * (np.take(values, high, axis) - first))


def draw_border(
    view: npt.NDArray[np.generic],
    guide: Guide,
    out: U8,
    threshold_hu: float,
    rule: BorderRule,
    progress: Callable[[float], None] | None = None,
    fine: FineGuide | None = None,
    workers: int = 1,
) -> None:
    """Fill `out` (canonical view, zeros) with the label of every bone voxel of the CT `view`.

    With `fine` its logit and its names take the place of the coarse ones. `workers` are threads; how many
    they are changes nothing.
    """
    slow = int(np.argmax(np.abs(view.strides)))
    where = [guide.scale[a] * np.arange(view.shape[a]) + guide.offset[a] for a in range(3)]
    nearest = [w.round().astype(np.intp).clip(0, guide.labels.shape[a] - 1) for a, w in enumerate(where)]

    def draw(start: int) -> int:
        part = slice(start, min(start + rule.slab, view.shape[slow]))
        box = _slab_box(guide.labels, nearest, slow, part)
        if box is not None:
            out[box] = _drawn(view[box], box, guide, where, nearest, threshold_hu, rule, fine)
        return int(part.stop)

    with ThreadPoolExecutor(workers) as pool:
        for done in pool.map(draw, range(0, view.shape[slow], rule.slab)):
            if progress is not None:
                progress(done / view.shape[slow])


def _drawn(
    hu: npt.NDArray[np.generic],
    box: Box,
    guide: Guide,
    where: list[npt.NDArray[np.float64]],
    nearest: list[npt.NDArray[np.intp]],
    threshold_hu: float,
    rule: BorderRule,
    fine: FineGuide | None,
) -> U8:
    """The labels of the voxels of a box of the CT, whose HU are `hu`."""
    near = guide.labels[np.ix_(*[nearest[a][box[a]] for a in range(3)])]
    if fine is not None:
        logit, most, shift = fine.at(box), rule.fine_hu_most, rule.fine_shift
        named = fine.names_at(box)
        near = np.where((near > 0) & (named > 0), named, near)
    else:
        logit, most, shift = guide.logit, np.inf, rule.chance_shift
        # The axis with the fewest voxels first: the array stays small for longest.
        for axis in np.argsort([s.stop - s.start for s in box]):
            logit = linear_along(logit, where[axis][box[axis]], int(axis))
    with np.errstate(invalid="ignore"):
        above = (hu.astype(np.float32) - threshold_hu) / rule.softness_hu
        np.minimum(above, most, out=above)
        bone = logit > -above - shift
    return np.asarray(near * bone)


def _slab_box(
    labels: U8, nearest: list[npt.NDArray[np.intp]], slow: int, part: slice
) -> tuple[slice, slice, slice] | None:
    """Box of the CT's voxels in a slab that can be bone."""
    low, high = sorted((int(nearest[slow][part][0]), int(nearest[slow][part][-1])))
    slab = np.take(labels, range(low, high + 1), slow) > 0
    box = [slice(0, 0)] * 3
    for axis in range(3):
        if axis == slow:
            box[axis] = part
            continue
        seen = np.asarray(slab.any(tuple(a for a in range(3) if a != axis)))[nearest[axis]]
        hits = np.flatnonzero(seen)
        if len(hits) == 0:
            return None
        box[axis] = slice(int(hits[0]), int(hits[-1]) + 1)
    return box[0], box[1], box[2]


def _marrow(vertebra: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Holes of a vertebra in front of its middle, y to the front; what its arch surrounds is the canal."""
    pieces = connected(holes_in_slices(vertebra), 6)
    along_y = np.arange(vertebra.shape[1])
    middle = np.average(along_y, weights=vertebra.sum((0, 2)))
    keep = np.zeros(int(pieces.max()) + 1, bool)
    for piece, box in label_boxes(pieces).items():
        depth = np.count_nonzero(pieces[box] == piece, axis=(0, 2))
        keep[piece] = np.average(along_y[box[1]], weights=depth) > middle
    return np.asarray(keep[pieces])


def tidy(out: U8, voxel_ml: float, rule: BorderRule, workers: int = 1) -> dict[int, Box]:
    """Bone by bone, in its box: fill small holes, and marrow; drop crumbs. Changes `out`; returns the boxes
    of its labels, all of which it keeps. `workers` are threads; how many they are changes nothing."""
    boxes = label_boxes(out)

    def look(label: int) -> tuple[Mask, Mask]:
        # Others change no voxel of this label meanwhile: they fill what has none.
        return _crumbs_and_holes(out[boxes[label]] == label, label, voxel_ml, rule)

    with ThreadPoolExecutor(workers) as pool:
        for label, (crumbs, hole) in zip(boxes, pool.map(look, boxes), strict=True):
            part = out[boxes[label]]
            part[crumbs] = 0
            part[hole & (part == 0)] = label
    return boxes


def _crumbs_and_holes(here: Mask, label: int, voxel_ml: float, rule: BorderRule) -> tuple[Mask, Mask]:
    """What of a bone is too small a piece of it, and what it surrounds."""
    pieces = connected(here, 26)
    sizes = np.bincount(pieces.ravel(order="K"))
    sizes[0] = 0
    keep = sizes >= max(rule.island_share * sizes.max(), rule.island_ml / voxel_ml)
    keep[sizes.argmax()] = True
    keep[0] = False
    whole = keep[pieces]
    gaps = connected(~whole, 6)
    space = np.bincount(gaps.ravel(order="K"))
    fill = space * voxel_ml <= rule.hole_ml
    fill[0] = False
    # A gap that reaches the side of the box is not a hole.
    for axis in range(3):
        for end in (0, -1):
            fill[np.moveaxis(gaps, axis, 0)[end]] = False
    hole = fill[gaps]
    if label in MARROW_ALONE:
        hole |= holes_in_slices(whole)
    elif label in VERTEBRAE:
        hole |= _marrow(whole)
    return here & ~whole, hole
