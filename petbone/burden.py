"""The tables of one PET: a row per bone, a row per hotspot.

Absent, cut and zero are three different answers: a value that does not exist is empty, never 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from petbone.anatomy import ALL_BONES, BONES, BY_ID, LOW_CONFIDENCE
from petbone.completeness import Seen
from petbone.hotspots import core
from petbone.indices import BONE_SETS, seen_fraction
from petbone.peak import EANM_RADIUS_MM, IBSI_RADIUS_MM, Spheres
from petbone.resample import Occupancy
from petbone.volume import Box, Grid, Volume

BONE_COLUMNS = (
    "id name side group status seen_fraction name_confidence volume_ml pet_volume_ml suv_mean suv_sd "
    "suv_median suv_max suv_peak hotspot_count hotspot_volume_ml hotspot_fraction hotspot_tlu_g shift_mm "
    "shift_uncertainty_mm cut_by suv_peak_eanm seen_low seen_high suv_mean_pvc suv_mean_shift_low "
    "suv_mean_shift_high suv_max_shift_low suv_max_shift_high hotspot_volume_ml_shift_low "
    "hotspot_volume_ml_shift_high"
).split()

HOTSPOT_COLUMNS = (
    "hotspot bone bone_share name_confidence other_bones volume_ml suv_max suv_mean suv_peak tlu_g "
    "x_mm y_mm z_mm hu_mean suv_peak_local suv_peak_eanm suv_mean_pvc flags"
).split()

REGION_COLUMNS = (
    "region bones_seen seen_fraction pet_volume_ml suv_mean suv_max hotspot_count hotspot_volume_ml "
    "hotspot_fraction hotspot_tlu_g"
).split()

DEFINITIONS: dict[str, str] = {
    "status": "complete; cut (touches the border of the bone map, or reaches out of the PET); or absent",
    "seen_fraction": "part of the bone inside both images; for a cut bone an estimate, at most 0.99: its "
    "volume beside that of its complete twin, or of the standard skeleton's bone scaled to the complete "
    "bones of its group, or of the patient",
    "seen_low": "nine times out of ten the seen part lies between seen_low and seen_high",
    "seen_high": "see seen_low",
    "cut_by": "through which side of the bone map the bone leaves, or pet",
    "name_confidence": "chance that the bone's name is right, by the network; below "
    f"{LOW_CONFIDENCE:g} the report says what the bone may be instead; empty for masks made elsewhere",
    "volume_ml": "voxels of the bone x voxel volume, on the grid of the bone map (for hotspots: sum of "
    "occupancy x PET voxel volume, occupancy by any bone of the rule)",
    "pet_volume_ml": "sum of occupancy x PET voxel volume; equals volume_ml unless the bone reaches "
    "out of the PET",
    "suv_mean": "occupancy-weighted mean of SUVbw on the PET's own grid",
    "suv_mean_pvc": "mean SUV without the blur of the PET (geometric transfer matrix; each hotspot, and the "
    "rest of each bone, taken as uniform); only with --psf-mm, whose value stands in the facts",
    "suv_sd": "occupancy-weighted population standard deviation",
    "suv_median": "occupancy-weighted median",
    "suv_max": "highest SUV of the voxels that are at least half bone (the fullest, where none is)",
    "suv_peak": "IBSI global peak: highest mean over a sphere of 6.2 mm radius (1 cm3) centred on a voxel "
    "of the region that counts for suv_max; the sphere may leave the region, so a hotter "
    "neighbour can lift it",
    "suv_peak_local": "IBSI local peak: the same sphere at the voxel of SUVmax",
    "suv_peak_eanm": "as suv_peak, with the EANM sphere of 12 mm diameter",
    "hotspot_count": "hotspots of which this bone holds the largest share; empty, as are the next columns, "
    "for bones that the rule does not search",
    "hotspot_volume_ml": "sum of occupancy by this bone x voxel volume, over the voxels of all hotspots",
    "hotspot_fraction": "hotspot_volume_ml / pet_volume_ml",
    "hotspot_tlu_g": "sum of SUV x occupancy by this bone x voxel volume, over the voxels of all hotspots",
    "shift_mm": "distance of the PET from the CT at this bone, measured in both images; empty where the bone "
    "tells too little. With --align rigid what is left after the correction",
    "shift_uncertainty_mm": "half-width of the 95 % interval of shift_mm",
    "suv_mean_shift_low": "least value if the PET lay 3 mm aside, to either side along each axis",
    "suv_mean_shift_high": "greatest value if the PET lay 3 mm aside",
    "suv_max_shift_low": "see suv_mean_shift_low",
    "suv_max_shift_high": "see suv_mean_shift_high",
    "hotspot_volume_ml_shift_low": "see suv_mean_shift_low; hotspots are searched anew at each place",
    "hotspot_volume_ml_shift_high": "see suv_mean_shift_high",
    "bone_share": "part of the hotspot's occupancy that this bone has",
    "other_bones": "further bones of the hotspot with their shares",
    "tlu_g": "total lesion uptake: sum of SUV x occupancy x voxel volume",
    "x_mm": "position of the voxel with SUVmax, RAS millimetres",
    "hu_mean": "mean HU of the bone's CT voxels whose centre lies in a voxel of the hotspot",
    "flags": "why by its place it may be no tumour: it faces a joint or a disc, or lies beside hotter soft "
    "tissue or an injected vein; geometry, no diagnosis, and nothing is left out for it; empty without any",
}


def bone_table(
    suv: Volume,
    occupied: Occupancy,
    hotspots: Volume,
    seen: dict[int, Seen],
    searched: tuple[int, ...],
    confidence: dict[int, float] | None = None,
) -> pd.DataFrame:
    """A row per bone (all 62, and the variants that occur), the columns of `BONE_COLUMNS`.

    `searched` are the labels of the rule that found the hotspots; other bones have no hotspot columns.
    """
    values = suv.data.reshape(-1)
    numbers = hotspots.data.reshape(-1)
    owners = _shares(occupied, hotspots, searched).argmax(axis=1)
    spheres = Spheres(suv, occupied.voxel)
    rows = []
    for bone in ALL_BONES:
        state = seen[bone.id]
        if bone not in BONES and state.status == "absent":
            continue
        row: dict[str, Any] = dict.fromkeys(BONE_COLUMNS)
        row |= {"id": bone.id, "name": bone.name, "side": bone.side, "group": bone.group}
        row |= {"status": state.status, "seen_fraction": state.fraction, "cut_by": state.cut_by}
        row |= {"volume_ml": state.volume_ml, "seen_low": state.low, "seen_high": state.high}
        if state.status != "absent" and confidence is not None:
            row["name_confidence"] = confidence.get(bone.id)
        entries = occupied.of(bone.id)
        voxel, fraction = occupied.voxel[entries], occupied.fraction[entries]
        if voxel.size:
            value = values[voxel].astype(np.float64)
            row |= _uptake(suv, spheres, voxel, fraction, value)
            if bone.id in searched:
                hot = numbers[voxel] > 0
                volume_ml = float(fraction[hot].sum() * suv.grid.voxel_ml)
                row["hotspot_count"] = int((owners == bone.id).sum())
                row["hotspot_volume_ml"] = volume_ml
                row["hotspot_fraction"] = volume_ml / row["pet_volume_ml"]
                row["hotspot_tlu_g"] = float((fraction[hot] * value[hot]).sum() * suv.grid.voxel_ml)
        rows.append(row)
    table = pd.DataFrame(rows, columns=BONE_COLUMNS)
    table["hotspot_count"] = table["hotspot_count"].astype("Int64")
    return table


def _uptake(
    suv: Volume,
    spheres: Spheres,
    voxel: npt.NDArray[np.int64],
    fraction: npt.NDArray[np.float64],
    value: npt.NDArray[np.float64],
) -> dict[str, float]:
    """Occupancy-weighted statistics of one region; at least one voxel."""
    weight = float(fraction.sum())
    mean = float((fraction * value).sum() / weight)
    counts = core(fraction)
    return {
        "pet_volume_ml": weight * suv.grid.voxel_ml,
        "suv_mean": mean,
        "suv_sd": float(np.sqrt((fraction * (value - mean) ** 2).sum() / weight)),
        "suv_median": weighted_median(value, fraction),
        "suv_max": float(value[counts].max()),
        "suv_peak": float(spheres.means(voxel[counts], IBSI_RADIUS_MM).max()),
        "suv_peak_eanm": float(spheres.means(voxel[counts], EANM_RADIUS_MM).max()),
    }


def region_table(bones: pd.DataFrame) -> pd.DataFrame:
    """A row per part of the skeleton (`BONE_SETS`), the columns of `REGION_COLUMNS`, from the bones' rows.

    Hotspots are those of the rule that the bones' rows hold; a region that it does not search has none.
    """
    seen = dict(zip(bones["id"], bones["seen_fraction"].fillna(0.0), strict=True))
    rows = []
    for name, labels in BONE_SETS.items():
        part = bones[bones["id"].isin(labels) & bones["pet_volume_ml"].notna()]
        searched = part[part["hotspot_volume_ml"].notna()]
        row: dict[str, Any] = dict.fromkeys(REGION_COLUMNS)
        row |= {"region": name, "bones_seen": len(part), "seen_fraction": seen_fraction(labels, seen)}
        if len(part):
            row["pet_volume_ml"] = part["pet_volume_ml"].sum()
            row["suv_mean"] = np.average(part["suv_mean"], weights=part["pet_volume_ml"])
            row["suv_max"] = part["suv_max"].max()
        if len(searched):
            for column in ("hotspot_count", "hotspot_volume_ml", "hotspot_tlu_g"):
                row[column] = searched[column].sum()
            row["hotspot_fraction"] = row["hotspot_volume_ml"] / searched["pet_volume_ml"].sum()
        rows.append(row)
    table = pd.DataFrame(rows, columns=REGION_COLUMNS)
    table["hotspot_count"] = table["hotspot_count"].astype("Int64")
    return table


def weighted_median(value: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]) -> float:
    """Where the running weight reaches half; between two values when it does so exactly (numpy's median)."""
    order = np.argsort(value, kind="stable")
    running = np.cumsum(weight[order])
    half = running[-1] / 2
    at = int(np.searchsorted(running, half * (1 - 1e-12)))
    middle = float(value[order[at]])
    if at + 1 < value.size and abs(running[at] - half) <= 1e-12 * running[-1]:
        return (middle + float(value[order[at + 1]])) / 2
    return middle


def _shares(occupied: Occupancy, hotspots: Volume, searched: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """(n, 256) sum of occupancy of each hotspot by label, of the searched labels."""
    number = hotspots.data.reshape(-1)[occupied.voxel].astype(np.int64)
    inside = (number > 0) & np.isin(occupied.label, searched)
    n = int(hotspots.data.max(initial=0))
    key = (number[inside] - 1) * 256 + occupied.label[inside]
    shares = np.bincount(key, occupied.fraction[inside], minlength=n * 256).astype(np.float64)
    return shares.reshape(n, 256)


def hotspot_table(
    suv: Volume,
    occupied: Occupancy,
    hotspots: Volume,
    searched: tuple[int, ...],
    confidence: dict[int, float] | None = None,
    hu_mean: dict[int, float] | None = None,
) -> pd.DataFrame:
    """A row per hotspot, hottest first, the columns of `HOTSPOT_COLUMNS`.

    `searched` are the labels of the rule that found them; other bones do not count towards volume.
    """
    values = suv.data.reshape(-1)
    voxel, fraction = occupied.total(searched)
    number = hotspots.data.reshape(-1)[voxel]
    inside = np.flatnonzero(number)
    inside = inside[np.argsort(number[inside], kind="stable")]
    starts = np.searchsorted(number[inside], np.arange(1, int(hotspots.data.max(initial=0)) + 2))
    shares = _shares(occupied, hotspots, searched)
    parts = [inside[start:stop] for start, stop in zip(starts[:-1], starts[1:], strict=True)]
    cores = [np.flatnonzero(core(fraction[part])) for part in parts]
    spots = [voxel[part[counts]] for part, counts in zip(parts, cores, strict=True)]
    # The spheres of all hotspots at once: one by one, most of the time would go to small arrays.
    every, ends = np.concatenate([voxel[:0], *spots]), np.cumsum([spot.size for spot in spots])[:-1]
    spheres = Spheres(suv, occupied.voxel)
    ibsi, eanm = (np.split(spheres.means(every, r), ends) for r in (IBSI_RADIUS_MM, EANM_RADIUS_MM))
    rows = []
    for n, (part, counts, spot) in enumerate(zip(parts, cores, spots, strict=True), start=1):
        value = values[voxel[part]].astype(np.float64)
        full = fraction[part]
        peaks = ibsi[n - 1]
        hottest = np.flatnonzero(value[counts] == value[counts].max())
        at = hottest[peaks[hottest].argmax()]
        x, y, z = suv.grid.mm(np.unravel_index(spot[at], suv.grid.shape))
        share = shares[n - 1] / shares[n - 1].sum()
        owners = np.argsort(-share, kind="stable")
        owner = BY_ID[int(owners[0])]
        tlu_g = float((full * value).sum() * suv.grid.voxel_ml)
        volume_ml = float(full.sum() * suv.grid.voxel_ml)
        rows.append(
            {
                "hotspot": n,
                "bone": owner.name,
                "bone_share": float(share[owner.id]),
                "name_confidence": None if confidence is None else confidence.get(owner.id),
                "other_bones": " ".join(
                    f"{BY_ID[int(b)].name}:{share[b]:.2f}" for b in owners[1:] if share[b] >= 0.005
                ),
                "volume_ml": volume_ml,
                "suv_max": float(value[counts].max()),
                "suv_mean": tlu_g / volume_ml,
                "suv_peak": float(peaks.max()),
                "tlu_g": tlu_g,
                "x_mm": float(x),
                "y_mm": float(y),
                "z_mm": float(z),
                "hu_mean": None if hu_mean is None else hu_mean.get(n),
                "suv_peak_local": float(peaks[at]),
                "suv_peak_eanm": float(eanm[n - 1].max()),
            }
        )
    return pd.DataFrame(rows, columns=HOTSPOT_COLUMNS)


def hotspot_hu(ct: Volume, bones: Volume, hotspots: Volume, searched: tuple[int, ...]) -> dict[int, float]:
    """Mean HU of the searched bones' CT voxels whose centre lies in a voxel of each hotspot.

    A hotspot without such a voxel is missing from the answer. Raises ValueError if the grids of CT and
    bones differ.
    """
    if not ct.grid.same_as(bones.grid):
        raise ValueError("the CT and the bones lie on different grids")
    means = {}
    wanted = np.zeros(256, dtype=bool)
    wanted[list(searched)] = True
    pet_from_ct = hotspots.grid.ijk_from_mm @ ct.grid.mm_from_ijk
    for number, box in enumerate(ndimage.find_objects(hotspots.data), start=1):
        if box is None:
            continue
        inside = _box_on(ct.grid, hotspots.grid, box)
        if inside is None:
            continue
        ijk = np.array(np.nonzero(wanted[bones.data[inside]]))
        start = np.array([[s.start] for s in inside])
        at = np.rint(pet_from_ct[:3, :3] @ (ijk + start) + pet_from_ct[:3, 3:]).astype(np.int64)
        known = ((at >= 0) & (at < np.array(hotspots.grid.shape)[:, None])).all(axis=0)
        hit = np.flatnonzero(known)[hotspots.data[tuple(at[:, known])] == number]
        if hit.size:
            means[number] = float(ct.data[inside][tuple(ijk[:, hit])].mean())
    return means


def _box_on(grid: Grid, other: Grid, box: Box) -> Box | None:
    """Box of `grid` that holds the box `box` of `other`; None if they do not meet."""
    ends = np.stack(np.meshgrid(*[(s.start - 0.5, s.stop - 0.5) for s in box], indexing="ij"), axis=-1)
    corners = grid.ijk(other.mm(ends.reshape(8, 3)))
    low = np.clip(np.floor(corners.min(axis=0)), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, grid.shape).astype(int)
    if (high <= low).any():
        return None
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])
