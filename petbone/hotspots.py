"""Hotspots: connected voxels of high uptake inside bone, on the grid of the PET.

A voxel can belong to a hotspot if any bone of the rule fills a part of it; how large that part is decides
how much the voxel counts in every volume and sum. A *core* voxel is at least half bone, or, where a bone is
thinner than that, no neighbour holds more bone than it. A hotspot holds a core voxel: what is hot at the
fringe of bone alone is the neighbour's heat (a bladder beside the sacrum). SUVmax is read from voxels at
least half bone, from the fullest where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.anatomy import SKELETON_49, SPINE_AND_RIB_VARIANTS
from petbone.background import Reference
from petbone.components import connected
from petbone.resample import Occupancy
from petbone.volume import Box, Unit, Volume

Operator = Literal[">=", ">"]
Method = Literal["fixed", "fraction_of_max", "a50"]

CORE_OCCUPANCY = 0.5
_BACKGROUND_REACH_MM = 60.0  # a focus of up to 35 mm radius, and 25 mm around it


@dataclass(frozen=True)
class HotspotRule:
    """How hotspots are delineated. Data, so that a report can print all of it.

    * ``fixed``: voxels `operator` `threshold`.
    * ``fraction_of_max``: those, then around each the connected voxels of bone at or above
      `fraction` x its SUVmax.
    * ``a50``: those, then around each the connected voxels of bone at or above 50 % of (its SUVmax + the
      local background), background being the mean over a shell one voxel thick, 25 mm outside the isocontour
      of 70 % of SUVmax, without voxels above SUV 2.5 (Oprea-Lager).

    `relative_to`: empty, and `threshold` is an SUV; or ``bone``, and it is a multiple of the patient's own
    bone (`bone_background`), with which `absolute` turns the rule into one of SUV; or ``liver`` or
    ``muscle``, and the threshold is `threshold` x mean + `sd_multiple` x SD of that tissue (`against`).

    `split`: a hotspot with several peaks is parted where the saddle between two lies at least this share
    below the lower one, along the valley (`foci.parted`); 0: never.

    Raises ValueError on values outside their range.
    """

    name: str
    threshold: float
    operator: Operator = ">="
    method: Method = "fixed"
    fraction: float = 0.5
    connectivity: Literal[6, 18, 26] = 26
    min_volume_ml: float = 0.0
    split: float = 0.0
    relative_to: Literal["", "bone", "liver", "muscle"] = ""
    sd_multiple: float = 0.0
    bones: tuple[int, ...] = SKELETON_49 + SPINE_AND_RIB_VARIANTS

    def __post_init__(self) -> None:
        if not np.isfinite(self.threshold):
            raise ValueError(f"rule {self.name}: threshold must be a number, got {self.threshold}")
        if self.operator not in (">=", ">"):
            raise ValueError(f"rule {self.name}: operator must be >= or >, got {self.operator!r}")
        if self.method not in ("fixed", "fraction_of_max", "a50"):
            raise ValueError(f"rule {self.name}: unknown method {self.method!r}")
        if self.relative_to not in ("", "bone", "liver", "muscle"):
            raise ValueError(
                f"rule {self.name}: relative_to must be bone, liver, muscle or empty, "
                f"got {self.relative_to!r}"
            )
        if not (np.isfinite(self.sd_multiple) and self.sd_multiple >= 0):
            raise ValueError(f"rule {self.name}: sd_multiple must not be negative, got {self.sd_multiple}")
        if self.sd_multiple and self.relative_to not in ("liver", "muscle"):
            raise ValueError(f"rule {self.name}: sd_multiple needs relative_to liver or muscle")
        if self.relative_to and self.threshold <= 0:
            raise ValueError(f"rule {self.name}: a multiple above 0 is needed, got {self.threshold}")
        if self.connectivity not in (6, 18, 26):
            raise ValueError(f"rule {self.name}: connectivity must be 6, 18 or 26, got {self.connectivity}")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"rule {self.name}: fraction must be in (0, 1], got {self.fraction}")
        if not 0 <= self.split < 1:
            raise ValueError(f"rule {self.name}: split must be in [0, 1), got {self.split}")
        if self.split and self.threshold <= 0:
            raise ValueError(f"rule {self.name}: split needs a threshold above 0, got {self.threshold}")
        if self.method != "fixed" and self.threshold <= 0:
            raise ValueError(
                f"rule {self.name}: {self.method} needs a threshold above 0, got {self.threshold}"
            )
        if not self.min_volume_ml >= 0:
            raise ValueError(
                f"rule {self.name}: min_volume_ml must not be negative, got {self.min_volume_ml}"
            )

    def above(self, suv: npt.NDArray[np.floating], threshold: float | None = None) -> npt.NDArray[np.bool_]:
        """Where `suv` passes the threshold of the rule (or another one), by its operator."""
        value = np.float32(self.threshold if threshold is None else threshold)
        return suv >= value if self.operator == ">=" else suv > value


def core(fraction: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which voxels count for a maximum: at least half full, or the fullest where none is."""
    if fraction.size == 0:
        return np.zeros(0, dtype=bool)
    return fraction >= min(CORE_OCCUPANCY, float(fraction.max())) - 1e-9


def bone_background(suv: Volume, bones: Occupancy, labels: tuple[int, ...]) -> float | None:
    """Median SUV over the voxels that these bones fill by at least half; None where there is none.

    As a median it is that of healthy bone as long as less than half of what was seen is diseased.
    """
    voxel, fraction = bones.total(labels)
    inside = voxel[fraction >= CORE_OCCUPANCY - 1e-6]
    return float(np.median(suv.data.reshape(-1)[inside])) if inside.size else None


def absolute(rule: HotspotRule, suv: Volume, bones: Occupancy) -> HotspotRule:
    """The rule with its threshold as an SUV. Without bone, or where it takes up nothing, nothing is hot.

    Raises ValueError for a rule relative to another tissue than bone: `against` resolves it.
    """
    if not rule.relative_to:
        return rule
    if rule.relative_to != "bone":
        raise ValueError(f"rule {rule.name}: the {rule.relative_to} must be read before hotspots are found")
    background = bone_background(suv, bones, rule.bones)
    out_of_reach = float(np.finfo(np.float32).max)
    threshold = rule.threshold * background if background and background > 0 else out_of_reach
    return replace(rule, threshold=threshold, relative_to="")


def against(rule: HotspotRule, reference: Reference) -> HotspotRule:
    """The rule with its threshold as an SUV: `threshold` x mean + `sd_multiple` x SD of its tissue.

    PERCIST's form is 1.5 x mean + 2 x SD of the liver. Raises ValueError when `reference` is another tissue.
    """
    if rule.relative_to != reference.tissue:
        raise ValueError(
            f"rule {rule.name} is relative to {rule.relative_to or 'nothing'}, not to {reference.tissue}"
        )
    threshold = rule.threshold * reference.mean + rule.sd_multiple * reference.sd
    return replace(rule, threshold=threshold, relative_to="", sd_multiple=0.0)


def reach_mm(rule: HotspotRule) -> float:
    """How far from bone voxels lie that may decide on a hotspot."""
    return 0.0 if rule.method == "fixed" else _BACKGROUND_REACH_MM


def find_hotspots(suv: Volume, bones: Occupancy, rule: HotspotRule) -> Volume:
    """Hotspot numbers on the grid of `suv`, uint16, 1 = highest SUVmax; 0 elsewhere.

    What passes the threshold at the fringe of bone only is no hotspot; `left_out_ml` says how much that is.
    Raises ValueError when `suv` is not SUV or lies on another grid than `bones`.
    """
    if suv.unit is not Unit.SUV:
        raise ValueError(f"hotspots are found in SUV, got {suv.unit.value}")
    if not suv.grid.same_as(bones.grid):
        raise ValueError("the occupancy belongs to another grid than the SUV image")
    rule = absolute(rule, suv, bones)
    hotspots = np.zeros(suv.grid.shape, dtype=np.uint16)
    voxel, fraction = bones.total(rule.bones)
    seeds = rule.above(suv.data.reshape(-1)[voxel])
    if seeds.any():
        # Hot voxels are few: everything happens in a box round them. Where they can grow it holds all bone
        # and the surroundings from which the background is taken.
        ijk = np.array(np.unravel_index(voxel, suv.grid.shape))
        wanted = ijk[:, seeds] if rule.method == "fixed" else ijk
        margin = np.ceil(reach_mm(rule) / suv.grid.spacing_mm).astype(int) + 1
        low = np.maximum(wanted.min(axis=1) - margin, 0)
        high = np.minimum(wanted.max(axis=1) + margin + 1, suv.grid.shape)
        box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        near = ((ijk >= low[:, None]) & (ijk < high[:, None])).all(axis=0)
        inside = tuple(ijk[:, near] - low[:, None])
        occupied = np.zeros(high - low, dtype=np.float32)
        occupied[inside] = fraction[near]
        hot = np.zeros(occupied.shape, dtype=bool)
        hot[inside] = seeds[near]
        found = _without_fringe(connected(hot, rule.connectivity).astype(np.int32), occupied)
        if rule.method != "fixed":
            found = _regrown(suv.cropped(box), occupied, found, rule)
        if rule.split:
            from petbone.foci import parted  # scikit-image is paid for by those who need it

            parts = parted(found, suv.data[box], rule.split, rule.connectivity)
            found = _without_fringe(parts, occupied)
        hotspots[box] = _ranked(found, suv.cropped(box), inside, fraction[near], rule)
    return suv.with_data(hotspots, Unit.LABEL)


def left_out_ml(suv: Volume, bones: Occupancy, rule: HotspotRule, hotspots: Volume) -> float:
    """Volume of bone past the threshold that is in no hotspot: at the fringe of bone, or too small."""
    voxel, fraction = bones.total(rule.bones)
    rule = absolute(rule, suv, bones)
    lost = rule.above(suv.data.reshape(-1)[voxel]) & (hotspots.data.reshape(-1)[voxel] == 0)
    return float(fraction[lost].sum() * suv.grid.voxel_ml)


def _without_fringe(found: npt.NDArray[np.int32], occupied: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """The components that hold a core voxel."""
    fullest_near = ndimage.maximum_filter(occupied, size=3, mode="constant")
    is_core = (occupied >= CORE_OCCUPANCY - 1e-6) | (occupied >= fullest_near - 1e-6)
    kept = np.zeros(int(found.max(initial=0)) + 1, dtype=bool)
    kept[found[is_core & (occupied > 0)]] = True
    return np.where(kept[found], found, 0)


def _bounding_box(mask: npt.NDArray[np.bool_]) -> Box:
    sides = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        sides.append(slice(int(used[0]), int(used[-1]) + 1))
    return sides[0], sides[1], sides[2]


def _ranked(
    found: npt.NDArray[np.int32],
    suv: Volume,
    bone: tuple[npt.NDArray[np.int64], ...],
    fraction: npt.NDArray[np.float64],
    rule: HotspotRule,
) -> npt.NDArray[np.uint16]:
    """Components renumbered by falling SUVmax, those below the smallest volume left out.

    `bone` are the indices of the voxels that bone fills by `fraction`.
    """
    number = found[bone]
    inside = np.flatnonzero(number)
    number, full, value = number[inside], fraction[inside], suv.data[bone][inside]
    n = int(number.max(initial=0)) + 1
    volume_ml = np.bincount(number, full, minlength=n) * suv.grid.voxel_ml
    fullest = np.zeros(n)
    np.maximum.at(fullest, number, full)
    counts = full >= np.minimum(CORE_OCCUPANCY, fullest)[number] - 1e-9
    highest = np.full(n, -np.inf)
    np.maximum.at(highest, number[counts], value[counts])
    kept = np.flatnonzero((volume_ml >= rule.min_volume_ml - 1e-9) & (volume_ml > 0))
    kept = kept[np.argsort(-highest[kept], kind="stable")]
    if kept.size > np.iinfo(np.uint16).max:
        raise ValueError(
            f"rule {rule.name} finds {kept.size} hotspots; its threshold cannot be meant for this image"
        )
    rank = np.zeros(n, dtype=np.uint16)
    rank[kept] = np.arange(1, kept.size + 1)
    return rank[found]


def _regrown(
    suv: Volume, occupied: npt.NDArray[np.float32], seeds: npt.NDArray[np.int32], rule: HotspotRule
) -> npt.NDArray[np.int32]:
    """Each seed grown or shrunk to its own threshold; the hotter seed keeps a voxel that two want."""
    grown = np.zeros_like(seeds)
    peaks = []
    for number, box in enumerate(ndimage.find_objects(seeds), start=1):
        if box is None:
            continue
        inside = (seeds[box] == number) & core_mask(occupied[box], seeds[box] == number)
        at = np.unravel_index(np.where(inside, suv.data[box], -np.inf).argmax(), inside.shape)
        place = tuple(int(a) + s.start for a, s in zip(at, box, strict=True))
        peaks.append((float(suv.data[place]), place, number))
    for highest, place, number in sorted(peaks, reverse=True):
        if grown[place]:
            continue  # a hotter focus has taken this one in
        threshold = rule.fraction * highest
        if rule.method == "a50":
            threshold = 0.5 * (highest + local_background(suv, place))
        threshold = min(threshold, highest)  # the hottest voxel always belongs to its hotspot
        region, box = _connected_at(suv, occupied, place, threshold, rule)
        region &= grown[box] == 0
        grown[box][region] = number
    return grown


def core_mask(occupied: npt.NDArray[np.float32], region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The core voxels of a region, given how full of bone every voxel is."""
    highest = min(CORE_OCCUPANCY, float(occupied[region].max()))
    return occupied >= highest - 1e-6


def _connected_at(
    suv: Volume,
    occupied: npt.NDArray[np.float32],
    place: tuple[int, ...],
    threshold: float,
    rule: HotspotRule,
) -> tuple[npt.NDArray[np.bool_], Box]:
    """Voxels of bone at or above `threshold` connected to `place`, in a box grown to hold them."""
    margin = np.ceil(40.0 / suv.grid.spacing_mm).astype(int)
    while True:
        box = _box_around(place, margin, suv.grid.shape)
        mask = (suv.data[box] >= np.float32(threshold)) & (occupied[box] > 0)
        labels = connected(mask, rule.connectivity)
        region = labels == labels[tuple(p - s.start for p, s in zip(place, box, strict=True))]
        region &= mask
        used = _bounding_box(region)
        clipped = any(
            (u.start == 0 and b.start > 0) or (u.stop == n and b.stop < whole)
            for u, b, n, whole in zip(used, box, region.shape, suv.grid.shape, strict=True)
        )
        if not clipped:
            return region, box
        margin = margin * 2


def _box_around(place: tuple[int, ...], margin: npt.NDArray[np.int_], shape: tuple[int, int, int]) -> Box:
    low = [max(int(p - m), 0) for p, m in zip(place, margin, strict=True)]
    high = [min(int(p + m) + 1, n) for p, m, n in zip(place, margin, shape, strict=True)]
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def local_background(suv: Volume, place: tuple[int, ...]) -> float:
    """Background of the A50 rule for the focus whose hottest voxel is `place`.

    Mean SUV of the voxels on a shell one voxel thick, 25 mm outside the isocontour of 70 % of the maximum,
    leaving out those above SUV 2.5; 0 when none is left. Oprea-Lager, as cited in the documentation.
    """
    margin = np.ceil(_BACKGROUND_REACH_MM / suv.grid.spacing_mm).astype(int)
    box = _box_around(place, margin, suv.grid.shape)
    values = suv.data[box]
    hot = values >= 0.7 * suv.data[place]
    labels = connected(hot, 26)
    focus = labels == labels[tuple(p - s.start for p, s in zip(place, box, strict=True))]
    away_mm = ndimage.distance_transform_edt(~focus, sampling=suv.grid.spacing_mm)
    shell = np.abs(away_mm - 25.0) <= suv.grid.spacing_mm.mean() / 2
    cold = values[shell & (values <= 2.5)]
    return float(cold.mean()) if cold.size else 0.0
