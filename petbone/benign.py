"""What by its place may be no tumour: uptake at joints and discs, and heat from soft tissue beside the bone.

A *flag* is geometry and no diagnosis. Nothing is removed for it: a hotspot with a flag stays a hotspot, and a
hotspot without one is not therefore a metastasis.

* *uptake* : here, of a voxel, SUV x occupancy by the searched bones
* *faces*  : uptake faces a joint or a disc where it lies near to both of its sides
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from petbone.anatomy import BY_ID
from petbone.endplates import COLUMN, Body, Disc, find_bodies, find_discs
from petbone.hotspots import CORE_OCCUPANCY
from petbone.joints import JOINTS, LONGEST_REACH_MM, Joint
from petbone.nearby import nearby_mm
from petbone.resample import Occupancy
from petbone.spill import VEIN, SoftTissue, Spill
from petbone.volume import Volume

Code = Literal["joint", "disc", "spill_in", "injection"]
Floats = npt.NDArray[np.float64]

LEAST_SHARE = 0.5
"""Part of a hotspot's uptake that must face a joint or a disc."""

LARGEST_ML = 150.0
"""A larger hotspot has no flag: what faces a joint, at the hip some 60 mL, is less than half of it."""

DISC_REACH_MM = 8.0
"""Uptake this near to an endplate faces its disc: as at a joint, the blur of the PET and some bone."""

DISC_OF_BODY = 0.4
"""But no more than this part of a body's height, so that the middle of a flat body faces no disc."""

LEAST_SIDE = 0.2
"""A hotspot spans a disc if either side holds this part of what faces the disc."""

OPPOSITE_MM = 12.0
"""So near along a disc hotspots in neighbouring bodies lie opposite each other: two blurs of the PET."""


@dataclass(frozen=True)
class Flag:
    """One reason to look twice: `name` in words without a bone's name, `figure` with its number."""

    code: Code
    name: str
    figure: str

    @property
    def text(self) -> str:
        """As it stands in tables; the part before the colon is enough where there is little room."""
        return f"{self.name}: {self.figure}"


Flags = dict[int, tuple[Flag, ...]]
"""By number, the flags of the hotspots that have any."""


def flag_texts(flags: Mapping[int, tuple[Flag, ...]], numbers: Iterable[int]) -> list[str | None]:
    """The flags of each hotspot as one text, None where it has none."""
    return ["; ".join(flag.text for flag in flags.get(int(n), ())) or None for n in numbers]


@dataclass(frozen=True, eq=False)
class _Spots:
    """The voxels of hotspots, ordered by number; `total` is by number."""

    number: npt.NDArray[np.int64]
    voxel: npt.NDArray[np.int64]  # flat index
    mm: Floats  # (n, 3)
    uptake: Floats
    near_mm: npt.NDArray[np.float16]  # (256, n) by label
    near: tuple[npt.NDArray[np.intp], ...]  # by label, the rows that are near it
    total: Floats
    hottest: dict[int, int]  # number: row of the voxel with SUVmax
    edge_mm: float  # of a voxel

    def shares(self, rows: npt.NDArray[np.intp], part: Floats) -> Floats:
        """By number, the share of the hotspot's uptake in a `part` (0 to 1) of each of these rows."""
        held = np.bincount(self.number[rows], part * self.uptake[rows], self.total.size).astype(np.float64)
        return np.divide(held, self.total, out=np.zeros_like(held), where=self.total > 0)

    def within(self, away_mm: npt.NDArray[np.floating], reach_mm: float) -> Floats:
        """Part (0 to 1) of voxels within `reach_mm`, whose middles are `away_mm`: none is cut off at once."""
        return np.asarray(np.clip(0.5 + (reach_mm - away_mm) / self.edge_mm, 0.0, 1.0), dtype=np.float64)

    def middle_mm(self, rows: npt.NDArray[np.intp]) -> Floats:
        """(3,) middle of the uptake of these rows."""
        return np.asarray(np.average(self.mm[rows], axis=0, weights=self.uptake[rows]))


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What lies round the hotspots of one PET: SUV, the bones on its grid, and the bone map.

    Raises ValueError when `occupied` belongs to another grid than `suv`.
    """

    suv: Volume
    occupied: Occupancy
    bones: Volume

    def __post_init__(self) -> None:
        if not self.suv.grid.same_as(self.occupied.grid):
            raise ValueError("the occupancy belongs to another grid than the SUV image")

    def flags(self, hotspots: Volume, searched: tuple[int, ...]) -> Flags:
        """The flags of each hotspot that has any; `searched` are the labels of the rule that found them.

        Raises ValueError when the hotspots lie on another grid than the SUV image.
        """
        if not hotspots.grid.same_as(self.suv.grid):
            raise ValueError("the hotspots lie on another grid than the SUV image")
        spots = self._spots(hotspots, searched)
        found: dict[int, list[Flag]] = {number: [] for number in spots.hottest}
        for joint in JOINTS:
            for number, flag in self._at_joint(joint, spots).items():
                found[number].append(flag)
        for disc in self._discs_near(spots):
            for number, flag in _at_disc(disc, spots).items():
                found[number].append(flag)
        for number, row in spots.hottest.items():
            owner = searched[int(spots.near_mm[searched, row].argmin())]
            spill = self._tissue.spill(int(spots.voxel[row]), owner)
            if spill is not None:
                found[number].append(_of_spill(spill))
        return {number: tuple(flags) for number, flags in found.items() if flags}

    def _spots(self, hotspots: Volume, searched: tuple[int, ...]) -> _Spots:
        """The voxels of the hotspots that may have flags."""
        voxel, fraction = self.occupied.total(searched)
        number = hotspots.data.reshape(-1)[voxel].astype(np.int64)
        volume_ml = np.bincount(number, fraction) * self.suv.grid.voxel_ml
        kept = np.flatnonzero((number > 0) & (volume_ml[number] <= LARGEST_ML))
        kept = kept[np.argsort(number[kept], kind="stable")]
        number, voxel, fraction = number[kept], voxel[kept], fraction[kept]
        value = self.suv.data.reshape(-1)[voxel].astype(np.float64)
        # A trace, so that what is all zero or below has a middle, too.
        uptake = np.maximum(value, 1e-9) * fraction
        fullest = np.zeros(volume_ml.size)
        np.maximum.at(fullest, number, fraction)
        core = np.flatnonzero(fraction >= np.minimum(CORE_OCCUPANCY, fullest[number]) - 1e-9)
        core = core[np.lexsort((-value[core], number[core]))]
        numbers, first = np.unique(number[core], return_index=True)
        mm = self.suv.grid.mm(np.array(np.unravel_index(voxel, self.suv.grid.shape)).T)
        edge_mm = float(self.suv.grid.spacing_mm.mean())
        near_mm = nearby_mm(self.bones, mm, LONGEST_REACH_MM + edge_mm / 2)
        return _Spots(
            number,
            voxel,
            mm,
            uptake,
            near_mm,
            tuple(np.flatnonzero(row) for row in np.isfinite(near_mm)),
            np.bincount(number, uptake, volume_ml.size).astype(np.float64),
            dict(zip(numbers.tolist(), core[first].tolist(), strict=True)),
            edge_mm,
        )

    @cached_property
    def _tissue(self) -> SoftTissue:
        return SoftTissue(self.suv, self.occupied)

    @cached_property
    def _bodies(self) -> dict[int, Body]:
        return find_bodies(self.bones, self.occupied)

    @cached_property
    def _discs(self) -> list[Disc]:
        return find_discs(self.bones, self._bodies, np.unique(self.occupied.label).tolist())

    def _at_joint(self, joint: Joint, spots: _Spots) -> dict[int, Flag]:
        """By number, a flag for the two bones of this kind of joint that most of the uptake faces."""
        best: dict[int, tuple[float, int, int]] = {}
        for one, other in joint.pairs():
            if not (spots.near[one].size and spots.near[other].size):
                continue
            rows = spots.near[one][np.isfinite(spots.near_mm[other, spots.near[one]])]
            for label in {one, other} & self._bodies.keys() if joint.behind and rows.size else ():
                rows = rows[self._bodies[label].is_behind(spots.mm[rows])]
            away_mm = np.maximum(spots.near_mm[one, rows], spots.near_mm[other, rows])
            shares = spots.shares(rows, spots.within(away_mm, joint.reach_mm))
            for number in np.flatnonzero(shares >= LEAST_SHARE).tolist():
                here = (float(shares[number]), one, other)
                best[number] = max(best.get(number, here), here)
        return {number: _of_joint(joint, *here) for number, here in best.items()}

    def _discs_near(self, spots: _Spots) -> list[Disc]:
        """Those that a hotspot may face; without a hotspot near the column none is looked for."""
        if not any(spots.near[label].size for label in COLUMN):
            return []
        return [disc for disc in self._discs if spots.near[disc.upper].size and spots.near[disc.lower].size]


def _at_disc(disc: Disc, spots: _Spots) -> dict[int, Flag]:
    """By number, a flag for hotspots that span a disc, and for those with another opposite, across it."""
    reach_mm = min(DISC_REACH_MM, DISC_OF_BODY * disc.height_mm)
    rows = np.union1d(spots.near[disc.upper], spots.near[disc.lower])
    above, below = (cdist(spots.mm[rows], end).min(axis=1) for end in (disc.upper_mm, disc.lower_mm))
    part = spots.within(np.minimum(above, below), reach_mm)
    upper = spots.shares(rows, np.where(above <= below, part, 0.0))
    lower = spots.shares(rows, np.where(above > below, part, 0.0))
    faces = np.flatnonzero(upper + lower >= LEAST_SHARE).tolist()
    facing = rows[part > 0]
    middles = {n: disc.across(spots.middle_mm(facing[spots.number[facing] == n])) for n in faces}
    found = {}
    for n in faces:
        share, said = upper[n] + lower[n], ""
        if min(upper[n], lower[n]) < LEAST_SIDE * share:
            # All on one side: only with another opposite.
            others = [m for m in faces if (upper[m] > lower[m]) != (upper[n] > lower[n])]
            apart_mm = {m: float(np.linalg.norm(middles[m] - middles[n])) for m in others}
            partner = min(others, key=apart_mm.__getitem__, default=None)
            if partner is None or apart_mm[partner] > OPPOSITE_MM:
                continue
            said = f", hotspot {partner} opposite"
        bones = f"{BY_ID[disc.upper].name} and {BY_ID[disc.lower].name}"
        figure = f"{100 * share:.0f} % of its uptake within {reach_mm:.2g} mm of the endplates of {bones}"
        found[n] = Flag("disc", "disc", figure + said)
    return found


def _of_joint(joint: Joint, share: float, one: int, other: int) -> Flag:
    bones = f"{BY_ID[one].name} and {BY_ID[other].name}"
    figure = f"{100 * share:.0f} % of its uptake within {joint.reach_mm:g} mm of {bones}"
    return Flag("joint", joint.name, figure)


def _of_spill(spill: Spill) -> Flag:
    figure = f"SUV {spill.suv:.1f} outside bone, {spill.away_mm:.0f} mm from its own SUVmax"
    figure += f" of {spill.own_suv:.1f}"
    if spill.place == VEIN:
        return Flag("injection", VEIN, figure)
    return Flag("spill_in", f"spill-in from {spill.place}", figure)
