"""Aorta and inferior caval vein along the spine: bright tubes that touch the vertebrae.

Full of contrast medium they are brighter than marrow, and no gap parts them from bone. Their way is drawn for
each sample, in standard coordinates, along the front of the vertebral bodies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from petbone.anatomy import BY_NAME
from petbone.net.anatomies import Anatomy, Tissue

TOP, FOOT = BY_NAME["T4"].id, BY_NAME["L4"].id
HALF_BODY_MM = 8.0  # a vertebral body is at its deepest this near to its middle


@dataclass(frozen=True, eq=False)
class Front:
    """Where the vertebral bodies end in front: `y_mm` (Z,) at each z voxel of an anatomy, `x_mm` their
    middle, `foot_mm` and `top_mm` the z of L4 and T4."""

    y_mm: npt.NDArray[np.float32]
    x_mm: float
    foot_mm: float
    top_mm: float

    @staticmethod
    def of(anatomy: Anatomy) -> Front | None:
        """None for an anatomy without T4 or L4."""
        labels = np.asarray(anatomy.labels)
        vertebra = ((labels > 0) & (labels <= 17)) | ((labels >= 50) & (labels <= 56))
        vertebra &= (anatomy.cortex.astype(np.int16) + anatomy.spongiosa) > 100
        x_mm, y_mm, z_mm = (
            anatomy.low_mm[axis] + (np.arange(n) + 0.5) * anatomy.spacing_mm
            for axis, n in enumerate(labels.shape)
        )
        ends = [(vertebra & (labels == label)).any((0, 1)) for label in (FOOT, TOP)]
        if not all(end.any() for end in ends):
            return None
        across = vertebra.sum((1, 2))
        middle = float((across * x_mm).sum() / across.sum())
        flat = np.asarray(vertebra[np.abs(x_mm - middle) < HALF_BODY_MM].any(0))
        seen = np.flatnonzero(flat.any(0))
        front = y_mm[flat.shape[0] - 1 - flat[::-1, seen].argmax(0)]
        line = np.interp(np.arange(len(z_mm)), seen, front)
        smooth = ndimage.gaussian_filter1d(line, 10.0 / anatomy.spacing_mm, mode="nearest")
        foot, top = (float(z_mm[end].mean()) for end in ends)
        return Front(smooth.astype(np.float32), middle, foot, top)


@dataclass(frozen=True)
class Vessels:
    """Radii in mm (0: not drawn), where the vessels lie beside and before the bodies, and how they wind."""

    aorta_mm: float = 0.0
    cava_mm: float = 0.0
    aside_mm: float = 20.0  # of the aorta at T4, to the left
    touch_mm: float = 2.0  # of bone and aorta
    wind_mm: float = 0.0
    phase: float = 0.0


def draw_vessels(rng: np.random.Generator) -> Vessels:
    """The vessels of a sample; a fifth have none but those of the anatomy."""
    there = rng.random() < 0.8
    return Vessels(
        aorta_mm=float(rng.uniform(8, 17)) if there else 0.0,
        cava_mm=float(rng.uniform(7, 13)) if there else 0.0,
        aside_mm=float(rng.uniform(10, 28)),
        touch_mm=float(rng.uniform(-4, 5)),
        wind_mm=float(rng.uniform(0, 7)),
        phase=float(rng.uniform(0, 6.28)),
    )


def with_vessels(
    vessels: Vessels, front: Front | None, tissue: Tensor, standard: Tensor, anatomy: Anatomy
) -> Tensor:
    """`tissue` (X, Y, Z) with the vessels drawn at `standard` (3, X, Y, Z), mm."""
    if front is None or not vessels.aorta_mm:
        return tissue
    x, y, z = standard
    part = (z - front.foot_mm) / (front.top_mm - front.foot_mm)
    line = torch.from_numpy(front.y_mm).to(z.device)
    at = ((z - anatomy.low_mm[2]) / anatomy.spacing_mm - 0.5).round().long().clamp(0, len(line) - 1)
    before = y - line[at]
    wind = vessels.wind_mm * torch.sin(5 * part + vessels.phase)
    upper = part.clamp(0, 1)
    # Down the chest the aorta lies to the left of the bodies, in the loin before them; the vein to its right.
    left = x - front.x_mm + 4 + vessels.aside_mm * upper.sqrt() + wind
    deep = before - (vessels.aorta_mm - vessels.touch_mm) * (1 - 0.9 * upper)
    aorta = (left.square() + deep.square() < vessels.aorta_mm**2) & (part > -0.15) & (part < 1.0)
    right = x - front.x_mm - 0.5 * vessels.aorta_mm - vessels.cava_mm - 4 + wind
    flat = (before - 0.7 * vessels.cava_mm + vessels.touch_mm) / 0.7
    cava = (right.square() + flat.square() < vessels.cava_mm**2) & (part > -0.15) & (part < 0.6)
    tissue = torch.where(cava, torch.full_like(tissue, int(Tissue.VEIN)), tissue)
    return torch.where(aorta, torch.full_like(tissue, int(Tissue.ARTERY)), tissue)
