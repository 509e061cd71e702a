"""Humerus or scapula: the head of the humerus is a ball, and nothing of a scapula is so thick.

With the arms over the head the net takes the head of the humerus, and the part of the shaft near it, for
scapula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.anatomy import BY_NAME
from petbone.components import connected, holes_in_slices, label_boxes

U8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ShoulderRule:
    """Lengths in mm.

    A head is where bone, its marrow filled, is `ball` or more deep; it reaches as far as `core` + `rim`
    from what is deeper than `core`. A grown man's has a radius of some 24 mm; the neck of a scapula is
    less than 11 deep.
    """

    ball: float = 16.0
    core: float = 12.0
    rim: float = 5.0


def with_heads(labels: U8, step_mm: float, rule: ShoulderRule) -> U8:
    """`labels` (X, Y, Z) on a grid of `step_mm`, the heads of the humeri named so.

    Pieces beyond a head that are mostly humerus are named so as a whole. Without a ball nothing changes.
    """
    out = labels.copy()
    for side in ("left", "right"):
        scapula, humerus = BY_NAME[f"scapula_{side}"].id, BY_NAME[f"humerus_{side}"].id
        both = np.isin(labels, (scapula, humerus)).astype(np.uint8)
        box = label_boxes(both).get(1)
        if box is None:
            continue
        names, part = out[box], both[box] > 0
        head = _head(part, step_mm, rule) & part
        if not head.any():
            continue
        pieces = connected(part & ~head, 26)
        arm = np.bincount(pieces[names == humerus], minlength=int(pieces.max()) + 1)
        whole = np.bincount(pieces.ravel(), minlength=len(arm))
        mostly = 2 * arm > whole
        mostly[0] = False
        names[head | mostly[pieces]] = humerus
    return out


def _head(bone: Mask, step_mm: float, rule: ShoulderRule) -> Mask:
    """The ball in `bone`, which is one side's scapula and humerus; nothing if there is none."""
    solid = np.pad(bone | holes_in_slices(bone), 1)
    depth_mm = ndimage.distance_transform_edt(solid, sampling=step_mm)[1:-1, 1:-1, 1:-1]
    if depth_mm.max() < rule.ball:
        return np.zeros_like(bone)
    cores = connected(depth_mm > rule.core, 26)
    core = cores == cores[np.unravel_index(int(depth_mm.argmax()), depth_mm.shape)]
    away_mm = ndimage.distance_transform_edt(~core, sampling=step_mm)
    return np.asarray(away_mm <= rule.core + rule.rim)
