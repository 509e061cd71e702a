"""Tissue of the same patient that a threshold leans on: liver or muscle, found in the CT, read in the PET.

Neither is segmented. A place is looked for that, seen from the bones, can hardly be anything else: what is
deepest in solid tissue right of the lower chest is the liver's right lobe, and what is soft behind the bones
of the pelvis, away from bone and fat, is muscle. Where there is no such place there is a reason, no number.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.anatomy import BY_NAME
from petbone.thinned import Thinned, thinned, upright
from petbone.volume import Box, Grid, Unit, Volume

TISSUES = {"liver": "the liver", "muscle": "muscle"}
"""What a rule may lean on, and how it is spoken of."""

Array = npt.NDArray[np.float64]

SPHERE_RADIUS_MM = 15.0  # PERCIST: a sphere of 3 cm diameter in the right lobe
LIVER_HU = (20.0, 220.0)  # after a blur; more than water, with and without contrast medium
LIVER_DEEP_MM = 30.0  # the sphere, and what the PET and breathing blur round it; more than a kidney has
LIVER_ASIDE_MM = 45.0  # to the right of the middle of the spine: beyond heart and great vessels
LIVER_FRONT_MM = 0.0  # of the middle of the vertebrae, arches and all: what lies behind is muscle of the back
SLAB_MM = 80.0  # more than any place is deep
LIVER_LEVELS = ("T8", "T9", "T10", "T11", "T12", "L1", "L2")

MUSCLE_HU = (20.0, 90.0)  # after a blur
HARD_HU = 180.0  # bone that has no label: a hand beside the hip
FROM_BONE_MM = 10.0
FROM_FAT_MM = 7.0
LEAST_ML = 5.0
VERTEBRA_ML = 20.0

MOST_SPREAD = {"liver": 0.3, "muscle": 0.4}  # SD / mean; muscle takes up little, so noise weighs more
MOST_BETWEEN_SIDES = 0.25  # of the mean of both medians
MEDIAN_APART = 0.1


@dataclass(frozen=True)
class Reference:
    """A region of reference: where it is and its uptake.

    `places_mm` are RAS: the middle of the sphere, or of the muscle the middle of each side. SUV in g/mL, of
    the PET's voxels whose centre lies in the region; the SD is that of the population.
    """

    tissue: str
    site: str
    places_mm: tuple[tuple[float, float, float], ...]
    volume_ml: float
    mean: float
    sd: float
    median: float

    def remark(self) -> str | None:
        """A warning where the median says that the mean is not that of healthy tissue; else None."""
        apart = self.median / self.mean - 1
        if abs(apart) <= MEDIAN_APART:
            return None
        return (
            f"the median SUV of {TISSUES[self.tissue]} ({self.median:.3g}) lies {100 * apart:+.0f} % from "
            f"the mean ({self.mean:.3g}) on which thresholds lean: disease in it? Look at {self.places}"
        )

    @property
    def places(self) -> str:
        """Where the region lies, in words."""
        points = ("(" + ", ".join(f"{c:.0f}" for c in place) + ")" for place in self.places_mm)
        return f"{' and '.join(points)} mm (RAS)"


@dataclass(frozen=True)
class NoReference:
    """Why there is no region of reference."""

    tissue: str
    reason: str


def reference_regions(
    tissues: Collection[str], suv: Volume, ct: Volume | None, bones: Volume
) -> dict[str, Reference | NoReference]:
    """Each of `tissues`, found in `ct` by the label map `bones` and read in `suv`, or why it cannot be.

    `tissues` are of `TISSUES`. The three images lie in one frame, on any grids. Raises ValueError when `suv`
    is not SUV.
    """
    if suv.unit is not Unit.SUV:
        raise ValueError(f"reference regions are read in SUV, got {suv.unit.value}")
    if not tissues:
        return {}
    if ct is None:
        return {tissue: NoReference(tissue, "there is no CT to find it in") for tissue in tissues}
    scan = upright(thinned(ct, bones), bones)
    find = {"liver": _liver, "muscle": _muscle}
    return {tissue: find[tissue](scan, suv) for tissue in tissues}


def _labels(*names: str) -> list[int]:
    return [BY_NAME[name].id for name in names]


def _liver(scan: Thinned, suv: Volume) -> Reference | NoReference:
    """A sphere at the deepest place of solid tissue right of the spine."""
    place = _deepest_right(scan, suv.grid)
    if isinstance(place, str):
        return NoReference("liver", place)
    voxels, mm = _voxels_between(suv.grid, place - SPHERE_RADIUS_MM, place + SPHERE_RADIUS_MM)
    inside = np.linalg.norm(mm - place, axis=1) <= SPHERE_RADIUS_MM + 1e-6
    site = f"sphere of {2 * SPHERE_RADIUS_MM:g} mm in the right lobe of the liver"
    return _read("liver", site, (place,), suv, voxels[inside])


def _deepest_right(scan: Thinned, pet: Grid) -> Array | str:
    """Where (RAS mm) a sphere lies deepest in the liver and inside the PET, or why it lies nowhere."""
    levels = np.argwhere(np.isin(scan.labels, _labels(*LIVER_LEVELS)))
    if len(levels) * scan.voxel_ml < VERTEBRA_ML:
        return "the bone map holds no vertebra of T8 to L2, beside which the liver is looked for"
    reach = int(np.ceil(SLAB_MM / scan.spacing_mm[2]))
    slab = scan.cropped(
        (slice(None), slice(None), slice(max(levels[:, 2].min() - reach, 0), levels[:, 2].max() + 1 + reach))
    )
    depth = slab.solid_depth_mm(LIVER_HU)
    ijk = np.argwhere(depth > SPHERE_RADIUS_MM)
    # What lies outside the image is not known to be solid.
    from_border = (np.minimum(ijk, np.array(depth.shape) - 1 - ijk) + 0.5) * slab.spacing_mm
    deep = np.minimum(depth[tuple(ijk.T)], from_border.min(axis=1))
    mm, spine = slab.grid.mm(ijk), scan.grid.mm(levels)
    aside, ahead = (mm - np.median(spine, axis=0))[:, :2].T
    beside = (ahead > LIVER_FRONT_MM) & (mm[:, 2] >= spine[:, 2].min()) & (mm[:, 2] <= spine[:, 2].max())
    on_right = np.where(beside & (aside > LIVER_ASIDE_MM), deep, 0.0)
    right, left = (float(d.max(initial=0)) for d in (on_right, deep[beside & (aside < -LIVER_ASIDE_MM)]))
    if left > max(right, LIVER_DEEP_MM):
        return (
            f"tissue is solid to a greater depth left of the spine ({left:.0f} mm) than right of it "
            f"({right:.0f} mm): left and right may be swapped, or the liver is not in the field"
        )
    if right < LIVER_DEEP_MM:
        return (
            f"nothing right of the spine at T8 to L2 lies {LIVER_DEEP_MM:g} mm deep in solid tissue "
            f"({right:.0f} mm at most): the liver is not in the field, small, or fatty (below "
            f"{LIVER_HU[0]:g} HU)"
        )
    # In the same organ, even where its middle is outside of the PET.
    organs, _ = ndimage.label(depth >= LIVER_DEEP_MM)
    organ = organs[tuple(ijk.T)]
    on_right[(organ != organ[on_right.argmax()]) | ~_sphere_inside(pet, mm)] = 0
    best = int(on_right.argmax())
    if on_right[best] < LIVER_DEEP_MM:
        return "the liver lies outside the PET, or at its border"
    return np.asarray(mm[best])


def _sphere_inside(grid: Grid, mm: Array) -> npt.NDArray[np.bool_]:
    """Whether the whole sphere round each of these places lies in the field of view."""
    reach = SPHERE_RADIUS_MM * np.linalg.norm(grid.ijk_from_mm[:3, :3], axis=1)
    ijk = grid.ijk(mm)
    return np.asarray(((ijk - reach >= -0.5) & (ijk + reach <= np.array(grid.shape) - 0.5)).all(axis=1))


@dataclass(frozen=True)
class _Site:
    """Muscle behind `cover`, in the rows of `rows`, at least `aside_mm` from the middle of `middle`."""

    name: str
    cover: list[int]
    rows: list[int]
    middle: list[int]
    aside_mm: float


_HIPS = _labels("hip_left", "hip_right")
_LOIN = _labels("L1", "L2", "L3", "L4")
# No organ, no vessel of size and no contrast medium lies behind the bones of the pelvis. Nearer to the middle
# is the cleft between the buttocks.
SITES = (
    _Site(
        "gluteal muscle",
        [*_HIPS, *_labels("femur_left", "femur_right", "sacrum")],
        _HIPS,
        _labels("sacrum"),
        40.0,
    ),
    _Site("muscle of the back beside L1 to L4", _LOIN, _LOIN, _LOIN, 15.0),
)


def _muscle(scan: Thinned, suv: Volume) -> Reference | NoReference:
    """The first site whose muscle can be read."""
    reasons = []
    for site in SITES:
        found = _muscle_at(site, scan, suv)
        if isinstance(found, Reference):
            return found
        reasons.append(f"{site.name}: {found}")
    return NoReference("muscle", "; ".join(reasons))


def _muscle_at(site: _Site, scan: Thinned, suv: Volume) -> Reference | str:
    cover = np.isin(scan.labels, site.cover)
    middle = np.argwhere(np.isin(scan.labels, site.middle))
    rows = np.flatnonzero(np.isin(scan.labels, site.rows).any(axis=(0, 1)))
    if len(middle) * scan.voxel_ml < VERTEBRA_ML or not rows.size:
        return "its bones are not in the bone map"
    middle_mm = float(np.median(scan.grid.mm(middle)[:, 0]))
    cover[:, :, : rows[0]] = cover[:, :, rows[-1] + 1 :] = False
    box = _box_behind(cover, scan.spacing_mm)
    part = scan.cropped(box)
    ijk = np.argwhere(_muscle_behind(part, cover[box]))
    mm = part.grid.mm(ijk)
    aside = np.abs(mm[:, 0] - middle_mm) >= site.aside_mm
    if aside.sum() * scan.voxel_ml < LEAST_ML:
        return f"less than {LEAST_ML:g} mL lie {FROM_BONE_MM:g} mm from bone and {FROM_FAT_MM:g} mm from fat"
    voxels, at = _voxels_in(ijk[aside], part.grid, suv.grid)
    sides = [at[:, 0] < middle_mm, at[:, 0] >= middle_mm]
    places = tuple(_middle(at[side]) for side in sides if side.any())
    found = _read("muscle", site.name, places, suv, voxels)
    if isinstance(found, NoReference):
        return found.reason
    # Disease in a muscle shows in its twin, so both are needed.
    left_ml, right_ml = (float(side.sum() * suv.grid.voxel_ml) for side in sides)
    if min(left_ml, right_ml) < LEAST_ML / 2:
        return f"it can be read on one side only (left {left_ml:.1f} mL, right {right_ml:.1f} mL)"
    left, right = (float(np.median(suv.data.reshape(-1)[voxels[side]])) for side in sides)
    if abs(left - right) > MOST_BETWEEN_SIDES * (left + right) / 2:
        return f"left and right differ (median SUV {left:.3g} and {right:.3g})"
    return found


def _box_behind(cover: npt.NDArray[np.bool_], spacing_mm: Array) -> Box:
    """The bones, what is behind them and what is near."""
    used = np.argwhere(cover)
    margin = np.ceil(2 * FROM_BONE_MM / spacing_mm).astype(int)
    low, high = (
        np.maximum(used.min(axis=0) - margin, 0),
        np.minimum(used.max(axis=0) + 1 + margin, cover.shape),
    )
    return slice(low[0], high[0]), slice(0, high[1]), slice(low[2], high[2])


def _muscle_behind(part: Thinned, cover: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Muscle with bone of `cover` before it (in its line from back to front), away from bone and fat."""
    spacing = part.spacing_mm
    behind = cover.any(axis=1, keepdims=True) & ~np.logical_or.accumulate(cover, axis=1)
    smooth = ndimage.gaussian_filter(part.hu, 3.0 / spacing)
    bone = (part.labels != 0) | (part.hu > HARD_HU)
    muscle = (smooth > MUSCLE_HU[0]) & (smooth < MUSCLE_HU[1]) & ~bone
    region = np.asarray(behind & muscle)
    if region.any():
        region &= ndimage.distance_transform_edt(~bone, sampling=spacing) >= FROM_BONE_MM
        region &= ndimage.distance_transform_edt(muscle | bone, sampling=spacing) >= FROM_FAT_MM
    return region


def _voxels_in(ijk: npt.NDArray[np.int64], grid: Grid, other: Grid) -> tuple[npt.NDArray[np.int64], Array]:
    """The voxels of `other` whose centre lies in one of these voxels of `grid`: flat indices and places."""
    chosen = np.zeros(grid.shape, dtype=bool)
    chosen[tuple(ijk.T)] = True
    mm, step = grid.mm(ijk), grid.spacing_mm.max()
    voxels, at = _voxels_between(other, mm.min(axis=0) - step, mm.max(axis=0) + step)
    nearest = np.rint(grid.ijk(at)).astype(int)
    near = np.flatnonzero(((nearest >= 0) & (nearest < grid.shape)).all(axis=1))
    within = near[chosen[tuple(nearest[near].T)]]
    return voxels[within], at[within]


def _middle(mm: Array) -> Array:
    """The one of these places that is nearest to their mean."""
    return np.asarray(mm[np.linalg.norm(mm - mm.mean(axis=0), axis=1).argmin()])


def _voxels_between(grid: Grid, low_mm: Array, high_mm: Array) -> tuple[npt.NDArray[np.int64], Array]:
    """Flat indices of the voxels (all of them, and on an oblique grid more) whose centres lie between two
    corners, and the places of the centres (N, 3)."""
    ends = np.stack([low_mm, high_mm])
    corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(8, 3)
    ijk = grid.ijk(corners)
    low = np.clip(np.floor(ijk.min(axis=0)).astype(int), 0, grid.shape)
    high = np.clip(np.ceil(ijk.max(axis=0)).astype(int) + 1, 0, grid.shape)
    index = np.indices(np.maximum(high - low, 0)).reshape(3, -1) + low[:, None]
    flat = np.ravel_multi_index(tuple(index), grid.shape) if index.size else np.zeros(0, np.int64)
    return np.asarray(flat, np.int64), grid.mm(index.T)


def _read(
    tissue: str, site: str, places: tuple[Array, ...], suv: Volume, voxels: npt.NDArray[np.int64]
) -> Reference | NoReference:
    """The uptake of these voxels, or what is wrong with it."""
    volume_ml = len(voxels) * suv.grid.voxel_ml
    if volume_ml < LEAST_ML:
        return NoReference(tissue, f"the PET holds {volume_ml:.1f} mL of it; {LEAST_ML:g} mL are needed")
    values = suv.data.reshape(-1)[voxels].astype(np.float64)
    mean, sd = float(values.mean()), float(values.std())
    if not mean > 0:
        return NoReference(tissue, f"it takes up nothing (mean SUV {mean:.3g})")
    if sd > MOST_SPREAD[tissue] * mean:
        return NoReference(tissue, f"its uptake is not homogeneous (SUV {mean:.3g}, SD {sd:.3g})")
    at = tuple((float(x), float(y), float(z)) for x, y, z in places)
    return Reference(tissue, site, at, volume_ml, mean, sd, float(np.median(values)))
