"""Whether left and right of a CT may be swapped: the liver is on the right.

A skeleton is nearly symmetric, so its names cannot tell a CT from its mirror image. The liver can, where it
is in the field: the one organ that is solid so deep. Where it is not, nothing is said.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from petbone.anatomy import BY_NAME
from petbone.net.coarse import block_means, canonical
from petbone.volume import Volume

STEP_MM = 5.0
SOLID_HU = (30.0, 220.0)  # after a blur; with and without contrast medium
DEEP_MM = 28.0  # from all that is not solid
ASIDE_MM = 15.0  # of the middle of the spine
FRONT_MM = -30.0  # of the middle of the spine: what lies behind is muscle of the back
LEAST_ML = 25.0
RATIO = 4.0
LEVELS = tuple(BY_NAME[name].id for name in (*(f"T{n}" for n in range(7, 13)), "L1", "L2", "L3"))
"""Where the liver is; one level of doubt does no harm."""


def solid_ml(ct: Volume, bones: Volume) -> tuple[float, float]:
    """Volume deep in solid tissue beside the lower chest and upper loin, on the left and on the right.

    `bones` on the grid of `ct`, as a network or anybody named them.
    """
    view, grid, _, _ = canonical(ct)
    labels, _, _, _ = canonical(bones)
    skip = np.maximum(STEP_MM / 2 // grid.spacing_mm, 1).astype(int)
    thin = tuple(slice(None, None, int(n)) for n in skip)
    factor = np.maximum(np.round(STEP_MM / (grid.spacing_mm * skip)), 1).astype(int)
    hu = block_means(view[thin], (int(factor[0]), int(factor[1]), int(factor[2])))
    labels = labels[thin][tuple(slice(None, None, int(n)) for n in factor)]
    spacing = grid.spacing_mm * skip * factor
    middle = np.argwhere(np.isin(labels, LEVELS))
    if len(middle) * np.prod(spacing) < 20_000:  # a vertebra
        return 0.0, 0.0
    rows = slice(middle[:, 2].min(), middle[:, 2].max() + 1)
    x, y = (
        (np.arange(n) - np.median(middle[:, axis])) * spacing[axis] for axis, n in enumerate(hu.shape[:2])
    )
    smooth = ndimage.gaussian_filter(hu, 4.0 / spacing)
    solid = (smooth > SOLID_HU[0]) & (smooth < SOLID_HU[1]) & (labels == 0)
    deep = (ndimage.distance_transform_edt(solid, sampling=spacing) > DEEP_MM)[:, :, rows]
    deep &= (y > FRONT_MM)[None, :, None]
    voxel_ml = float(np.prod(spacing)) / 1000
    left, right = (float(np.count_nonzero(deep[side])) * voxel_ml for side in (x < -ASIDE_MM, x > ASIDE_MM))
    return left, right


def side_note(ct: Volume, bones: Volume) -> str | None:
    """A warning where the liver seems to lie on the left; None where it does not, or cannot be told."""
    left, right = solid_ml(ct, bones)
    if left < LEAST_ML or left < RATIO * right:
        return None
    return (
        f"left and right may be swapped: the liver seems to lie on the left ({left:.0f} mL deep in solid "
        f"tissue there, {right:.0f} mL on the right); check the orientation of the CT (or situs inversus)"
    )
