"""Contrast medium in the heart, in large vessels and in organs, which is as bright as bone.

Bone is never even: a cube of 12 mm in it holds compact and spongy bone, or the border of one of them. Blood
full of contrast medium is even, and its inside is far from what the net takes for bone; only its rim, where
it touches the spine, is not. So what is even and bright and for the most part no bone to the net is no bone
at all, out to its rim. A sclerotic metastasis lies in bone, and stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.components import connected

F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MediumRule:
    """`spread_hu`: standard deviation within 3 x 3 x 3 voxels of 4 mm, at most. Pieces below `least_ml`, and
    those of which more than `bone_share` is bone to the net, stay. Its rim is what follows within
    `rim_voxels`, brighter than `rim_part` of the inside."""

    hu: tuple[float, float] = (150.0, 800.0)
    spread_hu: float = 40.0
    least_ml: float = 10.0
    bone_share: float = 0.3
    rim_voxels: int = 2
    rim_part: float = 0.6


def contrast_medium(hu: F32, bone: F32, voxel_ml: float, rule: MediumRule) -> Mask:
    """Where it lies; `hu` and the net's chance of `bone` on the net's grid, (X, Y, Z)."""
    mean = ndimage.uniform_filter(hu, 3)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(hu * hu, 3) - mean * mean, 0))
    pieces = connected((hu > rule.hu[0]) & (hu < rule.hu[1]) & (spread < rule.spread_hu), 6)
    flat = pieces.ravel()
    sizes = np.bincount(flat)
    taken = np.bincount(flat, weights=(bone > 0.5).ravel())
    out = np.zeros(hu.shape, bool)
    for piece in np.flatnonzero(sizes * voxel_ml >= rule.least_ml):
        if piece == 0 or taken[piece] > rule.bone_share * sizes[piece]:
            continue
        inside = pieces == piece
        bright = hu > rule.rim_part * float(hu[inside].mean())
        out |= ndimage.binary_dilation(inside, iterations=rule.rim_voxels, mask=bright)
    return out
