"""Humerus or scapula: the head of the humerus is a ball, and nothing of a scapula is so thick.

With the arms over the head the net takes the head of the humerus, and the part of the shaft near it, for
scapula. Its marrow may be as dark as fat: then only a ring of it is found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.anatomy import BY_NAME
from petbone.components import connected, holes_in_slices, label_boxes

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ShoulderRule:
    """Lengths in mm.

    A head is where bone, its marrow filled, is `ball` or more deep; it reaches as far as `core` + `rim`
    from what is deeper than `core`. A grown man's has a radius of some 24 mm; the neck of a scapula is
    less than 11 deep. Depths are measured on voxels of `thin_mm` or more.
    """

    ball: float = 16.0
    core: float = 12.0
    rim: float = 4.0
    thin_mm: float = 2.0
    head_mm: float = 50.0  # a head ends so near to the scapula


def name_heads(
    labels: U8, boxes: dict[int, tuple[slice, ...]], spacing_mm: F64, rule: ShoulderRule
) -> dict[int, int]:
    """Name the heads of the humeri so in `labels` (X, Y, Z), voxels of `spacing_mm` (3,), their marrow too.

    `boxes` hold every label. Pieces beyond a head that are mostly humerus are named so as a whole. Without a
    ball nothing changes. Returns the humeri that have a ball, each with the scapula of its side.
    """
    found = {}
    for side in ("left", "right"):
        scapula, humerus = BY_NAME[f"scapula_{side}"].id, BY_NAME[f"humerus_{side}"].id
        if scapula not in boxes:
            continue
        both = [boxes[scapula], boxes.get(humerus, boxes[scapula])]
        box = tuple(
            slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*both, strict=True)
        )
        names = labels[box]
        part = (names == scapula) | (names == humerus)
        # What of the humerus is further away than its head is shaft.
        grow = np.ceil(rule.head_mm / spacing_mm).astype(int)
        near = tuple(
            slice(max(0, s.start - n - outer.start), min(outer.stop, s.stop + n) - outer.start)
            for s, n, outer in zip(boxes[scapula], grow, box, strict=True)
        )
        cut = [
            (outer.start + s.start == 0, outer.start + s.stop == n)
            for s, outer, n in zip(near, box, labels.shape, strict=True)
        ]
        head = np.zeros_like(part)
        head[near] = _head(part[near], cut, spacing_mm, rule) & (part[near] | (names[near] == 0))
        if not head.any():
            continue
        pieces = connected(part & ~head, 26)
        arm = np.bincount(pieces[names == humerus], minlength=int(pieces.max()) + 1)
        whole = np.bincount(pieces.ravel(), minlength=len(arm))
        mostly = 2 * arm > whole
        mostly[0] = False
        names[head | mostly[pieces]] = humerus
        found[humerus] = scapula
    return found


def _head(bone: Mask, cut: list[tuple[bool, bool]], spacing_mm: F64, rule: ShoulderRule) -> Mask:
    """The ball in `bone`, which is one side's scapula and humerus, with its marrow; nothing if there is none.
    `cut`: at which ends of each axis the field ends; the bone goes on there."""
    head = np.zeros_like(bone)
    # A ball is large: it is looked for on thinner data.
    skip = np.maximum(rule.thin_mm // spacing_mm, 1).astype(int)
    near = _ball(_pooled(bone, skip), cut, spacing_mm * skip, rule)
    if near is None:
        return head
    near = near[np.ix_(*[np.arange(n) // k for n, k in zip(bone.shape, skip, strict=True)])]
    box = label_boxes(near.astype(np.uint8))[1]
    head[box] = near[box] & _filled(_filled(bone[box]))
    return head


def _filled(bone: Mask) -> Mask:
    """What closes a ring in one slice may close that of another when it is done again."""
    return np.asarray(bone | holes_in_slices(bone))


def _pooled(bone: Mask, skip: npt.NDArray[np.int_]) -> Mask:
    """Whether there is any bone in blocks of `skip` voxels: a ring stays closed."""
    for axis, n in enumerate(skip):
        bone = np.logical_or.reduceat(bone, np.arange(0, bone.shape[axis], n), axis)
    return bone


def _ball(bone: Mask, cut: list[tuple[bool, bool]], step_mm: F64, rule: ShoulderRule) -> Mask | None:
    """Where a ball of bone may reach; None where there is none. Rings are filled until there is one."""
    beyond = [
        tuple(int(rule.ball // step) + 1 if end else 0 for end in ends)
        for ends, step in zip(cut, step_mm, strict=True)
    ]
    inside = tuple(slice(low + 1, low + 1 + n) for (low, _), n in zip(beyond, bone.shape, strict=True))
    for fill in (False, True, True):
        bone = _filled(bone) if fill else bone
        wide = np.pad(np.pad(bone, beyond, "edge"), 1)
        depth_mm = ndimage.distance_transform_edt(wide, sampling=step_mm)[inside]
        if depth_mm.max(initial=0.0) >= rule.ball:
            cores = connected(depth_mm > rule.core, 26)
            core = cores == cores[np.unravel_index(int(depth_mm.argmax()), depth_mm.shape)]
            away_mm = ndimage.distance_transform_edt(~core, sampling=step_mm)
            return np.asarray(away_mm <= rule.core + rule.rim)
    return None
