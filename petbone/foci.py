"""Hotspots that hold several foci, parted along the valleys between them.

* *peak*       : a voxel, or several of one value, higher than all round it
* *saddle*     : the highest level at which two peaks are still connected
* *prominence* : 1 - saddle / lower peak; two peaks are two foci if it reaches what is asked for
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import morphology, segmentation

_LEVELS = 1e-9  # h_maxima wants strictly more than h; a peak of just the prominence asked for counts


def parted(
    found: npt.NDArray[np.int32], suv: npt.NDArray[np.floating], prominence: float, connectivity: int
) -> npt.NDArray[np.int32]:
    """`found` (numbers of connected hotspots, 0 elsewhere) with each parted into its foci, renumbered.

    A watershed from the peaks of enough prominence: every voxel goes to the peak it runs up to, and none is
    lost. `suv` must be above 0 in hotspots. `prominence` in (0, 1); `connectivity` 6, 18 or 26.
    """
    footprint = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    # Of logarithms, so that one difference means one ratio.
    height = -np.log1p(-prominence) - _LEVELS
    parts = np.zeros_like(found)
    count = 0
    for number, box in enumerate(ndimage.find_objects(found), start=1):
        if box is None:
            continue
        inside = found[box] == number
        level = np.where(inside, np.log(np.where(inside, suv[box], 1.0)), 0.0)
        # Far below all of them, and a border of it, so that no peak leans on the side of the box.
        floor = float(level[inside].min()) - 10.0
        padded = np.pad(np.where(inside, level, floor), 1, constant_values=floor)
        peaks = morphology.h_maxima(padded, height, footprint)  # type: ignore[no-untyped-call]
        peaks = peaks[1:-1, 1:-1, 1:-1].astype(bool) & inside
        markers, many = ndimage.label(peaks, footprint)
        if many < 2:
            parts[box][inside] = count + 1
            count += 1
            continue
        own = segmentation.watershed(  # type: ignore[no-untyped-call]
            -level, markers, connectivity=footprint, mask=inside
        )
        parts[box][inside] = own[inside] + count
        count += many
    return parts
