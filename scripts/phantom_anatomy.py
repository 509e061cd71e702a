"""The procedural skeleton of `petbone.phantom` as anatomies to train on: other proportions, other curves."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from petbone.net.anatomies import Anatomy, Tissue
from petbone.phantom.body import TISSUES
from petbone.phantom.patient import PhantomSpec, anatomy
from petbone.phantom.skeleton import Shape

SPACING_MM = 2.0
STATURE_MM = 1670.0  # that of the mesh skeleton, in whose frame places are told
# Standard mm of the phantom's origin (the top of its sacrum), where there is no mesh skeleton to compare.
ORIGIN_MM = np.array([0.0, -117.0, 968.0])
SHAPES = {
    "phantom_up": Shape(arms_up=True),
    "phantom_up_flat": Shape(kyphosis=0.6, lordosis=0.7, arms_up=True),
    "phantom_down": Shape(kyphosis=1.3, lordosis=1.2, arms_up=False),
}
KINDS = {
    "air": Tissue.FAT,
    "fat": Tissue.FAT,
    "muscle": Tissue.MUSCLE,
    "lung": Tissue.LUNG,
    "blood": Tissue.HEART,
    "liver": Tissue.LIVER,
    "kidney": Tissue.KIDNEY,
    "spleen": Tissue.SPLEEN,
    "bladder": Tissue.BLADDER,
    "bowel": Tissue.BOWEL,
    "gas": Tissue.BOWEL,
    "cartilage": Tissue.CARTILAGE,
    "disc": Tissue.DISC,
    "brain": Tissue.BRAIN,
    "cord": Tissue.CANAL,
    "bone": Tissue.MUSCLE,
    "salivary": Tissue.MUSCLE,
    "prostate": Tissue.MUSCLE,
    "visceral": Tissue.BOWEL,
}


def centres_mm(labels: np.ndarray, low_mm: np.ndarray, spacing_mm: float) -> dict[int, np.ndarray]:
    """Mean position of every bone."""
    found = [int(n) for n in np.unique(labels) if n]
    index = ndimage.center_of_mass(labels > 0, labels, found)
    return {n: low_mm + (np.array(at) + 0.5) * spacing_mm for n, at in zip(found, index, strict=True)}


def shift_mm(
    name: str, labels: np.ndarray, low_mm: np.ndarray, spacing_mm: float, standard: Anatomy
) -> np.ndarray:
    """(3,) from the phantom's frame to the standard one: the median over vertebrae and pelvis."""
    own = centres_mm(labels, low_mm, spacing_mm)
    bone = (standard.cortex.astype(int) + standard.spongiosa) > 100
    theirs = centres_mm(np.where(bone, standard.labels, 0), np.array(standard.low_mm), standard.spacing_mm)
    trunk = [n for n in own if n in theirs and (n <= 17 or 47 <= n <= 56)]
    gaps = np.array([theirs[n] - own[n] for n in trunk])
    shift = np.asarray(np.median(gaps, 0))
    print(f"{name}: rest after the shift, largest {np.abs(gaps - shift).max(0).round()} mm")
    return shift


def build(
    name: str, standard: Anatomy | None, shape: Shape | None = None, spacing_mm: float = SPACING_MM
) -> Anatomy:
    """One phantom, shifted so that its spine and pelvis lie where those of `standard` do (else: nearly)."""
    shape = shape or SHAPES[name]
    spec = PhantomSpec(
        ct_spacing_mm=(spacing_mm,) * 3, stature_mm=STATURE_MM, shape=shape, tracers=(), hotspots=()
    )
    body = anatomy(spec)
    labels = np.ascontiguousarray(body.bones)
    solid = labels > 0
    # The painted HU says how much of a bone's voxel is compact.
    cortex = np.where(solid, ((body.hu - 200.0) / 800.0).clip(0, 1), 0).astype(np.float32)
    whole = ndimage.gaussian_filter(solid.astype(np.float32), 0.6)
    cortex = np.minimum(ndimage.gaussian_filter(cortex, 0.6), whole)
    tissue = np.zeros(256, np.uint8)
    for kind, value in TISSUES.items():
        tissue[value] = KINDS[kind]
    inner = (body.tissues != TISSUES["air"]) & (body.tissues != TISSUES["fat"])
    inner = ndimage.binary_closing(inner, iterations=2) | inner
    outside = ndimage.distance_transform_edt(~inner, sampling=spacing_mm)
    distance, nearest = ndimage.distance_transform_edt(~solid, sampling=spacing_mm, return_indices=True)
    low = np.array([axis[0] for axis in (body.axes.x, body.axes.y, body.axes.z)]) - spacing_mm / 2
    low = low + (ORIGIN_MM if standard is None else shift_mm(name, labels, low, spacing_mm, standard))
    return Anatomy(
        name=name,
        low_mm=(float(low[0]), float(low[1]), float(low[2])),
        spacing_mm=spacing_mm,
        labels=np.where(distance <= 6, labels[tuple(nearest)], 0).astype(np.uint8),
        cortex=np.round(cortex * 255).astype(np.uint8),
        spongiosa=np.round((whole - cortex) * 255).astype(np.uint8),
        tissue=tissue[np.ascontiguousarray(body.tissues)],
        outside_mm=outside.clip(0, 255).astype(np.uint8),
    )
