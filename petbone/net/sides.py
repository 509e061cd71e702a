"""Whether left and right of a CT may be swapped: the liver is on the right, aorta and heart on the left.

A skeleton is nearly symmetric, so its names cannot tell a CT from its mirror image. The liver can, where it
is in the field: the one organ that is solid so deep. In a chest the descending aorta can, which runs down
beside the vertebrae between spine and lung, and most of the heart with it. Where neither is, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petbone.anatomy import BY_NAME
from petbone.thinned import Thinned, thinned
from petbone.volume import Volume

SOLID_HU = (30.0, 220.0)  # after a blur; with and without contrast medium
DEEP_MM = 28.0  # from all that is not solid
ASIDE_MM = 15.0  # of the middle of the spine
FRONT_MM = -30.0  # of the middle of the spine: what lies behind is muscle of the back
LEAST_ML = 25.0
RATIO = 4.0
LIVER_LEVELS = tuple(BY_NAME[name].id for name in (*(f"T{n}" for n in range(7, 13)), "L1", "L2", "L3"))
"""Where the liver is; one level of doubt does no harm."""

AORTA_LEVELS = tuple(BY_NAME[f"T{n}"].id for n in range(4, 11))
TISSUE_HU = -150.0  # more than lung, whatever its contrast medium
# Where the descending aorta lies, and where the heart does with it: mm to the side of the middle of a
# vertebra, mm in front of the front of its body.
AORTA_MM = ((12.0, 42.0), (-12.0, 28.0))
HEART_MM = ((12.0, 80.0), (-10.0, 110.0))
LEAST_AORTA_ML = 6.0
AORTA_RATIO = 3.0
HEART_RATIO = 1.5


@dataclass(frozen=True)
class Sides:
    """mL on the left and on the right of a patient."""

    left: float
    right: float


def liver_ml(scan: Thinned) -> Sides:
    """What is deep in solid tissue beside the lower chest and upper loin."""
    spacing = scan.spacing_mm
    middle = np.argwhere(np.isin(scan.labels, LIVER_LEVELS))
    if len(middle) * np.prod(spacing) < 20_000:  # a vertebra
        return Sides(0.0, 0.0)
    rows = slice(middle[:, 2].min(), middle[:, 2].max() + 1)
    x, y = (
        (np.arange(n) - np.median(middle[:, axis])) * spacing[axis]
        for axis, n in enumerate(scan.hu.shape[:2])
    )
    deep = (scan.solid_depth_mm(SOLID_HU) > DEEP_MM)[:, :, rows]
    deep &= (y > FRONT_MM)[None, :, None]
    left, right = (np.count_nonzero(deep[side]) for side in (x < -ASIDE_MM, x > ASIDE_MM))
    return Sides(float(left * scan.voxel_ml), float(right * scan.voxel_ml))


def aorta_ml(scan: Thinned) -> tuple[Sides, Sides]:
    """What is no lung and no bone where the descending aorta lies or would lie, and where the heart does,
    beside the middles of the vertebrae of the chest."""
    tissue = (scan.hu > TISSUE_HU) & (scan.labels == 0)
    found = np.zeros((2, 2))  # aorta and heart; left and right
    for level in AORTA_LEVELS:
        where = np.argwhere(scan.labels == level)
        if len(where) * scan.voxel_ml < 5.0:  # less than half of a vertebra
            continue
        middle = np.median(where[:, 0])
        front = np.percentile(where[:, 1], 90)
        low, high = np.percentile(where[:, 2], [25, 75]).round().astype(int)
        part = tissue[:, :, low : high + 1]
        x = (np.arange(part.shape[0]) - middle) * scan.spacing_mm[0]
        y = (np.arange(part.shape[1]) - front) * scan.spacing_mm[1]
        for n, (aside, ahead) in enumerate((AORTA_MM, HEART_MM)):
            rows = part[:, (y > ahead[0]) & (y < ahead[1])]
            for side, sign in enumerate((-1, 1)):
                found[n, side] += np.count_nonzero(rows[(sign * x > aside[0]) & (sign * x < aside[1])])
    aorta, heart = (found * scan.voxel_ml).tolist()
    return Sides(*aorta), Sides(*heart)


def side_note(ct: Volume, bones: Volume) -> str | None:
    """A warning where liver, or aorta and heart, seem to lie on the wrong side; None where they do not, or
    cannot be told."""
    scan = thinned(ct, bones)
    liver = liver_ml(scan)
    if liver.right >= LEAST_ML and liver.right >= RATIO * liver.left:
        return None
    if liver.left >= LEAST_ML and liver.left >= RATIO * liver.right:
        return _note(
            f"the liver seems to lie on the left ({liver.left:.0f} mL deep in solid tissue there, "
            f"{liver.right:.0f} mL on the right)"
        )
    aorta, heart = aorta_ml(scan)
    swapped = aorta.right >= LEAST_AORTA_ML and aorta.right >= AORTA_RATIO * aorta.left
    if swapped and heart.right >= HEART_RATIO * heart.left:
        return _note(
            f"aorta and heart seem to lie on the right ({heart.right:.0f} mL of tissue beside the vertebrae "
            f"of the chest there, {heart.left:.0f} mL on the left)"
        )
    return None


def _note(seen: str) -> str:
    return f"left and right may be swapped: {seen}; check the orientation of the CT (or situs inversus)"
