"""How much tracer is where, and what a PET of it looks like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from petbone.phantom.solids import Array

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))


@dataclass(frozen=True)
class Hotspot:
    """A sphere of raised uptake, limited to one bone.

    `place` names a bone (or a place in it); `offset_mm` moves the middle from there (RAS). `suv` gives the
    true SUV by tracer; a tracer that is not in it does not see the hotspot. `sclerosis_hu` is added to
    the CT.
    """

    bone: str
    diameter_mm: float
    suv: dict[str, float]
    offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sclerosis_hu: float = 0.0


HOTSPOTS: tuple[Hotspot, ...] = (
    Hotspot("L3", 24, {"naf": 30, "choline": 9}, (4, 1, 0), 350),
    Hotspot("T8", 16, {"naf": 40}, (-5, 2, 0), 600),
    Hotspot("hip_right", 30, {"naf": 26, "choline": 8}, (0, 0, 0), 300),
    Hotspot("sacrum", 24, {"naf": 14, "choline": 5}, (0, 0, 0), 150),
    Hotspot("rib_left_7", 20, {"naf": 45, "choline": 7}, (0, 0, 0), 300),
    Hotspot("sternum", 22, {"naf": 21}, (0, 0, 0), 200),
    Hotspot("scapula_right", 16, {"choline": 8}),
    Hotspot("femur_left", 24, {"naf": 24}, (0, 0, 0), 250),
    Hotspot("T4", 8, {"choline": 12}),
    Hotspot("humerus_right", 35, {"naf": 12.5, "choline": 6}, (0, 0, 0), 150),
    Hotspot("hip_left", 20, {"choline": 9}, (22, -8, -94)),
    Hotspot("L5", 12, {"naf": 13}, (-12, 0, 0), 200),
)
"""The default disease: seen by NaF alone, by choline alone, or by both; 8 to 35 mm."""

BONE_SUV: dict[str, dict[str, float]] = {
    "naf": {
        "thoracic_spine": 5.0,
        "lumbar_spine": 5.0,
        "ribs": 2.4,
        "sternum": 3.0,
        "shoulder": 2.4,
        "pelvis": 3.8,
        "cervical_spine": 4.2,
        "head": 2.0,
        "limbs": 1.6,
    },
    "choline": {
        "thoracic_spine": 1.3,
        "lumbar_spine": 1.3,
        "ribs": 0.9,
        "sternum": 1.1,
        "shoulder": 0.8,
        "pelvis": 1.1,
        "cervical_spine": 1.2,
        "head": 0.7,
        "limbs": 0.6,
    },
}
"""SUV of normal bone by tracer and group; NaF near Etchebehere et al. 2015 (T12 SUVmax about 6.6)."""

TISSUE_SUV: dict[str, dict[str, float]] = {
    "naf": {
        "fat": 0.3,
        "visceral": 0.3,
        "muscle": 0.6,
        "lung": 0.3,
        "blood": 1.0,
        "liver": 0.9,
        "kidney": 6.0,
        "spleen": 0.9,
        "bladder": 20.0,
        "bowel": 0.7,
        "cartilage": 1.0,
        "disc": 1.2,
        "brain": 0.2,
        "cord": 0.6,
        "salivary": 1.0,
        "prostate": 1.2,
    },
    "choline": {
        "fat": 0.3,
        "visceral": 0.3,
        "muscle": 0.7,
        "lung": 0.4,
        "blood": 1.2,
        "liver": 9.0,
        "kidney": 13.0,
        "spleen": 5.0,
        "bladder": 6.0,
        "bowel": 2.5,
        "cartilage": 0.6,
        "disc": 0.5,
        "brain": 0.2,
        "cord": 0.6,
        "salivary": 6.0,
        "prostate": 5.0,
    },
}
"""SUV of the soft tissues by tracer; air and gas hold none."""


def psf_matrix(pet_mm: Array, pet_step: float, ct_mm: Array, ct_step: float, fwhm_mm: float) -> Array:
    """Weights of CT voxels in PET voxels along one axis; (n_pet, n_ct) float32.

    The activity is constant within each CT voxel; it is blurred with a Gaussian of `fwhm_mm` and averaged
    over each PET voxel. Both integrals are exact: with Q(t) = t Phi(t / s) + s phi(t / s), the second
    integral of the Gaussian, a weight is a second difference of Q over the four voxel edges, divided by
    the PET voxel. Columns sum to ct_step / pet_step, so activity is conserved.
    """
    sigma = max(fwhm_mm / FWHM_PER_SIGMA, 1e-6)
    pet_edges = np.append(pet_mm - pet_step / 2, pet_mm[-1] + pet_step / 2)
    ct_edges = np.append(ct_mm - ct_step / 2, ct_mm[-1] + ct_step / 2)
    t = (pet_edges[:, None] - ct_edges[None, :]) / sigma
    q = sigma * (t * ndtr(t) + np.exp(-0.5 * t * t) / np.sqrt(2 * np.pi))
    weights = q[1:, :-1] - q[:-1, :-1] - q[1:, 1:] + q[:-1, 1:]
    return np.asarray(np.maximum(weights, 0) / pet_step, dtype=np.float32)


def image(activity: Array, matrices: list[Array]) -> npt.NDArray[np.float32]:
    """Apply one `psf_matrix` per axis to an array of activity concentration (SUV)."""
    along_x, along_y, along_z = matrices
    # The phantom's arrays have x fastest: seen as (z, y, x), the first product runs without a copy of them.
    turned = np.asarray(activity).T
    found = (turned.reshape(-1, turned.shape[2]) @ along_x.T).reshape(*turned.shape[:2], len(along_x))
    found = np.tensordot(along_z, found, (1, 0))  # (pet z, y, pet x)
    found = np.tensordot(along_y, found, (1, 1))  # (pet y, pet z, pet x)
    return np.ascontiguousarray(found.transpose(2, 0, 1), dtype=np.float32)


def with_noise(suv: Array, level: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Noise whose standard deviation is `level` x sqrt(SUV), as of counts; never below zero."""
    if not level:
        return suv
    spread = level * np.sqrt(np.maximum(suv, 0.02))
    return np.maximum(suv + spread * rng.standard_normal(suv.shape, dtype=np.float32), 0).astype(np.float32)
