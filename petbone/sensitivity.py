"""What a bone's numbers would be if the PET lay a little aside: the least and the most over six shifts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.hotspots import CORE_OCCUPANCY, HotspotRule, find_hotspots, reach_mm
from petbone.resample import Occupancy, occupancies
from petbone.volume import Box, Volume

SHIFT_MM = 3.0
NAMES = ("suv_mean", "suv_max", "hotspot_volume_ml")
COLUMNS = tuple(f"{name}_shift_{end}" for name in NAMES for end in ("low", "high"))

Array = npt.NDArray[np.float64]


def shifted_ranges(suv: Volume, bones: Volume, rule: HotspotRule, unshifted: Occupancy) -> pd.DataFrame:
    """By label (index 0 to 255), the columns of `COLUMNS`; NaN for what a bone does not have.

    The bones are moved by `SHIFT_MM` to either side along each axis of the patient; voxels of the PET stay
    where they are. The unshifted values belong to the range. `rule` has its threshold as an SUV; bones that
    it does not search have no hotspot volume. Raises ValueError as `find_hotspots` does.
    """
    motions = []
    for axis in range(3):
        for side in (-SHIFT_MM, SHIFT_MM):
            motion = np.eye(4)
            motion[axis, 3] = side
            motions.append(motion)

    box = _near(unshifted, SHIFT_MM + reach_mm(rule))
    near = suv.cropped(box)
    near = near.with_data(np.ascontiguousarray(near.data))
    places = [unshifted.cropped(box), *occupancies(bones, near.grid, motions)]
    found = [_numbers(near, occupied, rule) for occupied in places]
    low, high = np.fmin.reduce(found), np.fmax.reduce(found)
    missing = np.isnan(found[0])
    table: dict[str, Any] = {}
    for n, name in enumerate(NAMES):
        table[f"{name}_shift_low"] = np.where(missing[n], np.nan, low[n])
        table[f"{name}_shift_high"] = np.where(missing[n], np.nan, high[n])
    return pd.DataFrame(table)


def _near(bones: Occupancy, distance_mm: float) -> Box:
    """The bones and all that is not further from them: a small part of most PETs."""
    ijk = np.array(np.unravel_index(bones.voxel, bones.grid.shape))
    margin = np.ceil(distance_mm / bones.grid.spacing_mm).astype(int) + 1
    low = np.maximum(ijk.min(axis=1) - margin, 0)
    high = np.minimum(ijk.max(axis=1) + margin + 1, bones.grid.shape)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _numbers(suv: Volume, occupied: Occupancy, rule: HotspotRule) -> Array:
    """(3, 256) weighted mean, maximum over core voxels, and hotspot volume in mL, by label."""
    label, fraction = occupied.label, occupied.fraction
    value = suv.data.reshape(-1)[occupied.voxel].astype(np.float64)
    weight = np.bincount(label, fraction, minlength=256)
    found = np.full((3, 256), np.nan)
    seen = weight > 0
    found[0, seen] = np.bincount(label, fraction * value, minlength=256)[seen] / weight[seen]
    fullest = np.zeros(256)
    np.maximum.at(fullest, label, fraction)
    counts = fraction >= np.minimum(CORE_OCCUPANCY, fullest)[label] - 1e-9
    highest = np.full(256, -np.inf)
    np.maximum.at(highest, label[counts], value[counts])
    found[1, seen] = highest[seen]
    hot = find_hotspots(suv, occupied, rule).data.reshape(-1)[occupied.voxel] > 0
    hot_ml = np.bincount(label[hot], fraction[hot], minlength=256) * suv.grid.voxel_ml
    searched = seen & np.isin(np.arange(256), rule.bones)
    found[2, searched] = hot_ml[searched]
    return found
