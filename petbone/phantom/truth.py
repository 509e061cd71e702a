"""What is known of a phantom: per bone, per hotspot, and the indices that a correct program must find.

Written with plain numpy on the phantom's own arrays: nothing here calls the code that it is to judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from petbone.anatomy import BONES, BY_NAME, SKELETON_49
from petbone.phantom.solids import Array, Axes, extent_mm, field

if TYPE_CHECKING:
    from petbone.phantom.patient import Anatomy, PhantomSpec, Sphere

SAMPLES = 8  # points per PET voxel edge when the part of a voxel that is bone is counted


def describe(
    spec: PhantomSpec, body: Anatomy, pet_axes: Axes, clean: dict[str, Array], spots: list[Sphere]
) -> dict[str, Any]:
    """All that is known, as plain dicts, lists, numbers and texts."""
    skeleton = _skeleton(spec, body, pet_axes)
    return {
        "definitions": {
            "coordinates": "RAS mm",
            "expected_suv_max": "highest noise-free voxel within radius + 1 voxel of centre_mm + shift_mm",
            "true_suv": "uptake inside the hotspot before blur",
            "volume_ml (hotspot)": "sphere within its bone, from 125 points per CT voxel",
            "indices": "from the noise-free PET; part of a voxel that is bone by "
            f"{SAMPLES}^3 points per PET voxel, in the frame of reference of the scanner (shift not undone)",
        },
        "seed": spec.seed,
        "shift_mm": list(spec.shift_mm),
        "psf_fwhm_mm": spec.psf_fwhm_mm,
        "bones": _bones(spec, body),
        "hotspots": _hotspots(spec, pet_axes, clean, spots),
        "indices": {t: _indices(t, spec, body, (pet_axes, skeleton), suv) for t, suv in clean.items()},
    }


def _bones(spec: PhantomSpec, body: Anatomy) -> dict[str, Any]:
    """Status (complete, cut, absent), volume and seen part of every bone on the CT grid."""
    voxel_ml = float(np.prod(spec.ct_spacing_mm)) / 1000
    counts = np.bincount(body.bones[body.bones > 0], minlength=256)
    at_face = np.zeros(256, bool)
    b = body.bones
    for face in (b[0], b[-1], b[:, 0], b[:, -1], b[:, :, 0], b[:, :, -1]):
        at_face[face.ravel()] = True
    found = {}
    for bone in BONES:
        seen_ml = float(counts[bone.id]) * voxel_ml
        status = "absent" if not seen_ml else "cut" if at_face[bone.id] else "complete"
        whole_ml = _whole_ml(bone.id, spec, body) if status == "cut" else seen_ml or None
        found[bone.name] = {
            "id": bone.id,
            "status": status,
            "volume_ml": seen_ml,
            "whole_volume_ml": whole_ml,
            "seen_fraction": seen_ml / whole_ml if whole_ml else 0.0,
        }
    return found


def _whole_ml(label: int, spec: PhantomSpec, body: Anatomy) -> float:
    """Volume of a bone with nothing cut off, on a grid of its own with the spacing of the CT."""
    parts = body.skeleton.solids[label]
    low, high = extent_mm(parts)
    steps = np.asarray(spec.ct_spacing_mm) / body.scale
    axes = Axes(*(np.arange(a, b + s, s) for a, b, s in zip(low, high, steps, strict=True)))
    return float(np.count_nonzero(field(parts, axes).bone < 0) * np.prod(spec.ct_spacing_mm)) / 1000


def _hotspots(
    spec: PhantomSpec, pet_axes: Axes, clean: dict[str, Array], spots: list[Sphere]
) -> list[dict[str, Any]]:
    voxel_ml = float(np.prod(spec.ct_spacing_mm)) / 1000
    rows = []
    for spot, (_, share, centre) in zip(spec.hotspots, spots, strict=True):
        reach = spot.diameter_mm / 2 + max(spec.pet_spacing_mm)
        seen_at = centre + np.asarray(spec.shift_mm)
        box = pet_axes.box(seen_at - reach, seen_at + reach)
        x, y, z = pet_axes.open(box)
        near = (x - seen_at[0]) ** 2 + (y - seen_at[1]) ** 2 + (z - seen_at[2]) ** 2 <= reach**2
        for tracer, suv in spot.suv.items():
            if tracer in clean:
                rows.append(
                    {
                        "tracer": tracer,
                        "bone": spot.bone,
                        "bone_id": BY_NAME[spot.bone].id,
                        "centre_mm": [round(float(c), 3) for c in centre],
                        "radius_mm": spot.diameter_mm / 2,
                        "true_suv": float(suv),
                        "volume_ml": float(share.sum()) * voxel_ml,
                        "expected_suv_max": float(clean[tracer][box][near].max()) if near.any() else None,
                    }
                )
    return rows


def _among(labels: tuple[int, ...]) -> Array:
    """(256,) true at `labels`."""
    table = np.zeros(256, bool)
    table[list(labels)] = True
    return table


def occupancy(
    bones: Array,
    ct_axes: Axes,
    pet_axes: Axes,
    voxels: Array,
    labels: tuple[int, ...],
    samples: int = SAMPLES,
) -> Array:
    """Part of each PET voxel (n, 3 indices) that is bone, by brute force; (n,) 0 to 1.

    Each PET voxel is sampled at samples^3 evenly spaced points; a point takes the CT voxel it falls into.
    """
    wanted = _among(labels)
    total = np.zeros(len(voxels))
    rows, inside = [], []
    lines = zip((ct_axes.x, ct_axes.y, ct_axes.z), (pet_axes.x, pet_axes.y, pet_axes.z), strict=True)
    for axis, (ct, pet) in enumerate(lines):
        ct_step, pet_step = ct[1] - ct[0], pet[1] - pet[0]
        within = pet_step * ((np.arange(samples) + 0.5) / samples - 0.5)
        points = pet[voxels[:, axis]][None, :] + within[:, None]
        index = np.rint((points - ct[0]) / ct_step).astype(np.int64)
        inside.append((index >= 0) & (index < len(ct)))
        rows.append(np.clip(index, 0, len(ct) - 1))
    for i, j, k in np.ndindex(samples, samples, samples):
        seen = wanted[bones[rows[0][i], rows[1][j], rows[2][k]]]
        total += seen & inside[0][i] & inside[1][j] & inside[2][k]
    return np.asarray(total / samples**3)


def _indices(
    tracer: str, spec: PhantomSpec, body: Anatomy, pet: tuple[Axes, tuple[Array, Array]], suv: Array
) -> dict[str, Any]:
    """Expected value, tolerance and reason of the indices of one tracer."""
    pet_axes, skeleton = pet
    voxel_ml = float(np.prod(spec.pet_spacing_mm)) / 1000
    whole_ml = (
        float(np.count_nonzero(_among(SKELETON_49)[body.bones])) * float(np.prod(spec.ct_spacing_mm)) / 1000
    )
    found: dict[str, Any] = _plain(spec, skeleton, suv)
    found["skeleton_49_ml"] = {"value": whole_ml, "unit": "mL", "relative_tolerance": 1e-6, "why": _WHY_EXACT}
    rules = {"naf": (("PET15", 15.0), ("FTV10", 10.0), ("TLF10", 10.0)), "choline": (("SUV3", 3.0),)}
    for name, threshold in rules.get(tracer, ()):
        voxels = np.argwhere(suv >= threshold)
        values = suv[tuple(voxels.T)].astype(float)
        share = occupancy(body.bones, body.axes, pet_axes, voxels, SKELETON_49, SAMPLES)
        volume_ml, tlu_g = float(share.sum()) * voxel_ml, float((share * values).sum()) * voxel_ml
        value, unit = {"PET15": (100 * volume_ml / max(whole_ml, 1e-9), "%"), "TLF10": (tlu_g, "g")}.get(
            name, (volume_ml, "mL")
        )
        found[name] = {
            "value": value,
            "unit": unit,
            "threshold": threshold,
            "volume_ml": volume_ml,
            "relative_tolerance": 0.02 if not spec.noise else 0.05,
            "why": _WHY_HOT,
        }
    return found


_WHY_EXACT = "volume is conserved when bones are carried to the PET grid"
_WHY_HOT = (
    "a point of the count stands for 1/512 of a PET voxel, which averages out; noise of 6 % x sqrt(SUV) "
    "moves voxels that lie near the threshold across it"
)
_WHY_PLAIN = "each voxel counts by its part of bone, from 64 points; noise averages out"


def _skeleton(spec: PhantomSpec, body: Anatomy, pet_axes: Axes) -> tuple[Array, Array]:
    """PET voxels (n, 3) that may hold one of the 49 bones, and the part of each that does (n,)."""
    lines = zip(
        (body.axes.x, body.axes.y, body.axes.z),
        (pet_axes.x, pet_axes.y, pet_axes.z),
        spec.pet_spacing_mm,
        np.nonzero(_among(SKELETON_49)[body.bones]),
        strict=True,
    )
    # Candidates: PET voxels within one voxel of the centre of a CT voxel of bone.
    near = np.zeros([n + 2 for n in pet_axes.shape], bool)
    near[
        tuple(
            np.clip(np.rint((ct - pet[0]) / s) + 1, 0, len(pet) + 1).astype(int)[n] for ct, pet, s, n in lines
        )
    ] = True
    voxels = np.argwhere(ndimage.binary_dilation(near, np.ones((3, 3, 3)))[1:-1, 1:-1, 1:-1])
    return voxels, occupancy(body.bones, body.axes, pet_axes, voxels, SKELETON_49, 4)


def _plain(spec: PhantomSpec, skeleton: tuple[Array, Array], suv: Array) -> dict[str, Any]:
    """SUVmean and SUVmax of the 49 bones; the maximum among voxels that are at least half bone."""
    voxels, share = skeleton
    values = suv[tuple(voxels.T)].astype(float)
    core = values[share >= 0.5]
    mean = float((share * values).sum() / share.sum()) if share.any() else None
    return {
        "skeletal_suv_mean": {"value": mean, "unit": "g/mL", "relative_tolerance": 0.01, "why": _WHY_PLAIN},
        "skeletal_suv_max": {
            "value": float(core.max()) if core.size else None,
            "unit": "g/mL",
            "relative_tolerance": 0.02 if not spec.noise else 0.08,
            "why": "one voxel: its noise is not averaged, and a few may be half bone by one count only",
        },
    }
