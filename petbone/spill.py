"""Hot soft tissue beside bone: a bladder, a kidney, an injected vein, whose blur makes a hotspot in the bone.

* *outside* : a voxel that the bones, searched or not, fill by less than a twentieth
* *slope*   : the voxels that rise from a hotspot without a valley; they lead to where the heat comes from
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.anatomy import BY_NAME
from petbone.components import connected
from petbone.endplates import COLUMN, SACRUM
from petbone.resample import Occupancy
from petbone.volume import Volume

OUTSIDE_OCCUPANCY = 0.05

REACH_MM = 20.0
"""How far from a hotspot's hottest voxel hotter soft tissue is looked for."""

CLEAR_MM = 8.0
"""So far from any bone it must be hotter: where PET and CT do not fit, bone shows hotter beside its mask."""

SADDLE = 0.9
"""On the way there the SUV never falls below this part of the hotspot's: else it is a focus of its own."""

VEIN = "injection arm or vein"
_UPPER_LIMB = tuple(
    BY_NAME[f"{bone}_{side}"].id for bone in ("humerus", "clavicle", "scapula") for side in ("left", "right")
)
_HUMERI = _UPPER_LIMB[:2]
_HIPS = (BY_NAME["hip_left"].id, BY_NAME["hip_right"].id)
_KIDNEY_LEVELS = tuple(BY_NAME[name].id for name in ("T11", "T12", "T13", "L1", "L2", "L3"))
_KIDNEY_ASIDE_MM = (20.0, 85.0)  # to the side of the vertebra's middle
_KIDNEY_DEPTH_MM = 45.0  # before or behind it

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spill:
    """Hotter soft tissue on whose slope a hotspot lies, and what may lie there: `place`, in words."""

    place: str
    suv: float  # the highest outside bone within `REACH_MM`
    away_mm: float  # of that from the hotspot's hottest voxel
    own_suv: float  # the hotspot's SUVmax


@dataclass(frozen=True, eq=False)
class SoftTissue:
    """The PET outside bone; `suv` and `occupied` lie on one grid."""

    suv: Volume
    occupied: Occupancy

    def spill(self, voxel: int, owner: int) -> Spill | None:
        """Where the heat of a hotspot comes from, if from outside; `voxel` (flat) is its hottest one.

        `owner` is the label of the bone that holds most of it.
        """
        grid = self.suv.grid
        at = np.array(np.unravel_index(voxel, grid.shape))
        start = np.maximum(at - self._reach, 0)
        box = tuple(slice(a, b) for a, b in zip(start, at + self._reach + 1, strict=True))
        suv, outside = self.suv.data[box], self._is_outside[box]
        place = tuple(at - start)
        highest = float(suv[place])
        if not ((suv > highest) & outside).any():
            return None
        slope = connected(suv >= SADDLE * highest, 26)
        hotter = (suv > highest) & outside & (slope == slope[place])
        hotter &= ndimage.distance_transform_edt(outside, sampling=grid.spacing_mm) >= CLEAR_MM
        ijk = np.argwhere(hotter) + start
        away_mm = np.linalg.norm(grid.mm(ijk) - grid.mm(at), axis=1)
        ijk, away_mm = ijk[away_mm <= REACH_MM], away_mm[away_mm <= REACH_MM]
        if not len(ijk):
            return None
        values = self.suv.data[tuple(ijk.T)]
        n = int(values.argmax())
        where = grid.mm(ijk[n])
        named = VEIN if self._is_vein(where, owner) else self._organ(where)
        return Spill(named, float(values[n]), float(away_mm[n]), highest)

    @cached_property
    def _reach(self) -> npt.NDArray[np.int64]:
        """Voxels along each axis that hold `REACH_MM`, sheared or not."""
        reach = REACH_MM * np.linalg.norm(self.suv.grid.ijk_from_mm[:3, :3], axis=1)
        return np.asarray(np.ceil(reach), dtype=np.int64)

    @cached_property
    def _is_outside(self) -> npt.NDArray[np.bool_]:
        outside = np.ones(self.suv.grid.shape, dtype=bool)
        voxel, fraction = self.occupied.total()
        outside.reshape(-1)[voxel[fraction >= OUTSIDE_OCCUPANCY]] = False
        return outside

    @cached_property
    def _middles(self) -> dict[int, Floats]:
        """The middle (3,) of every bone that the PET holds, mm."""
        found = {}
        for label in np.unique(self.occupied.label).tolist():
            entries = self.occupied.of(label)
            ijk = np.array(np.unravel_index(self.occupied.voxel[entries], self.suv.grid.shape))
            middle = np.average(ijk, axis=1, weights=self.occupied.fraction[entries])
            found[label] = self.suv.grid.mm(middle)
        return found

    @cached_property
    def _midline_mm(self) -> float:
        """x of the middle of the patient: that of the column, else of all bones."""
        column = [middle[0] for label, middle in self._middles.items() if label in COLUMN]
        return float(np.mean(column or [middle[0] for middle in self._middles.values()]))

    def _is_vein(self, where: Floats, owner: int) -> bool:
        """In the arm, or further from the middle of the patient than the bone of the shoulder that is hot."""
        if owner not in _UPPER_LIMB:
            return False
        aside = abs(where[0] - self._midline_mm)
        return owner in _HUMERI or bool(aside > abs(self._middles[owner][0] - self._midline_mm))

    def _organ(self, where: Floats) -> str:
        """What may lie there, by the bones round it: bladder, kidney (right: or liver), or soft tissue."""
        x, y, z = where
        hips = [self._middles[label] for label in _HIPS if label in self._middles]
        if hips:
            # Without a sacrum its place is taken from the hips.
            behind = min(hip[1] for hip in hips) - 30
            above = max(hip[2] for hip in hips) + 30
            sacrum = self._middles.get(SACRUM, np.array([0.0, behind, above]))
            between = abs(x - self._midline_mm) < max(abs(hip[0] - self._midline_mm) for hip in hips)
            if between and y > sacrum[1] and z < sacrum[2] + 30:
                return "bladder"
        levels = [self._middles[label] for label in _KIDNEY_LEVELS if label in self._middles]
        if levels:
            beside = min(levels, key=lambda level: abs(level[2] - z))
            aside, deep = abs(x - beside[0]), abs(y - beside[1])
            if abs(z - beside[2]) <= 20 and deep < _KIDNEY_DEPTH_MM:
                least, most = _KIDNEY_ASIDE_MM
                if least < aside < most:
                    return "kidney or liver" if x > self._midline_mm else "kidney"
        return "soft tissue"
