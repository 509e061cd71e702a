"""Closed triangle meshes -> voxel fractions of compact and spongy bone. numpy and scipy only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

FINE_MM = 1.0


@dataclass(frozen=True)
class Frame:
    """Axis-aligned voxel grid in RAS mm; `low_mm` is the outer corner of voxel (0, 0, 0)."""

    low_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    spacing_mm: float

    def axis_mm(self, axis: int) -> np.ndarray:
        """Voxel centres along an axis."""
        return self.low_mm[axis] + (np.arange(self.shape[axis]) + 0.5) * self.spacing_mm


def read_stl(path: Path) -> np.ndarray:
    """Triangles of a binary STL file, (n, 3, 3) float64 in the file's frame."""
    raw = path.read_bytes()
    count = int(np.frombuffer(raw[80:84], "<u4")[0])
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    if len(raw) < 84 + record.itemsize * count:
        raise ValueError(f"{path.name} is cut short: {len(raw)} bytes for {count} triangles")
    return np.frombuffer(raw, record, count, 84)["corners"].astype(np.float64)


def inside(triangles: np.ndarray, low_mm: np.ndarray, shape: tuple[int, ...], step_mm: float) -> np.ndarray:
    """Voxel centres inside a closed mesh, by the parity of the surface crossings below them (along z).

    Every crossing flips all voxels above it; a running exclusive-or along z does the flipping.
    """
    flips = np.zeros((*shape[:2], shape[2] + 1), bool)
    # An irrational part of a voxel keeps the rays off vertices and edges of round coordinates.
    corners = (triangles - low_mm) / step_mm - 0.5 + np.array([0.000177, 0.000311, 0])
    for a, b, c in corners:
        first = np.ceil(np.minimum(np.minimum(a, b), c)[:2]).astype(int).clip(0)
        last = np.floor(np.maximum(np.maximum(a, b), c)[:2]).astype(int)
        if (last < first).any():
            continue
        x, y = np.mgrid[first[0] : last[0] + 1, first[1] : last[1] + 1]
        double_area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if double_area == 0:
            continue
        u = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / double_area
        v = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / double_area
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (x < shape[0]) & (y < shape[1])
        z = np.ceil(a[2] + u[hit] * (b[2] - a[2]) + v[hit] * (c[2] - a[2])).astype(int)
        np.logical_xor.at(flips, (x[hit], y[hit], z.clip(0, shape[2])), True)
    return np.logical_xor.accumulate(flips, axis=2)[..., :-1]


def inside_by_vote(
    triangles: np.ndarray, low_mm: np.ndarray, shape: tuple[int, ...], step_mm: float
) -> np.ndarray:
    """As `inside`, along all three axes, and the majority: small holes in the mesh then do no harm."""
    votes = np.zeros(shape, np.uint8)
    for axis in range(3):
        order = [(axis + 1) % 3, (axis + 2) % 3, axis]
        turned = inside(triangles[..., order], low_mm[order], [shape[n] for n in order], step_mm)
        votes += turned.transpose(np.argsort(order))
    return votes >= 2


def bone_fractions(
    triangles: np.ndarray, frame: Frame, cortex_mm: float, wall_mm: float | None = None
) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray]:
    """Fractions of compact and of spongy bone on the frame, inside the bone's box.

    Made at 1 mm, blurred by the half width of a 4 mm voxel's box, and averaged to the frame's spacing, so
    that a linear look-up at 4 mm behaves like the partial volume of a CT. `wall_mm` hollows the bone out
    deeper than that: the mesh of the skull is its outer surface only.
    """
    ratio = round(frame.spacing_mm / FINE_MM)
    low = np.floor((triangles.min((0, 1)) - frame.low_mm) / frame.spacing_mm).astype(int) - 3
    high = np.ceil((triangles.max((0, 1)) - frame.low_mm) / frame.spacing_mm).astype(int) + 3
    low, high = low.clip(0), np.minimum(high, frame.shape)
    low_mm = np.array(frame.low_mm) + low * frame.spacing_mm
    shape = tuple(int(n) for n in (high - low) * ratio)
    solid = inside_by_vote(triangles, low_mm, shape, FINE_MM)
    depth_mm = ndimage.distance_transform_edt(solid) * FINE_MM
    if wall_mm is not None:
        solid &= depth_mm <= wall_mm
    shell = (solid & (depth_mm <= cortex_mm + 0.01)).astype(np.float32)
    parts = []
    for part in (shell, solid.astype(np.float32) - shell):
        soft = ndimage.gaussian_filter(part, 1.1 / FINE_MM)
        parts.append(
            soft.reshape(shape[0] // ratio, ratio, shape[1] // ratio, ratio, -1, ratio).mean((1, 3, 5))
        )
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return box, parts[0], parts[1]


def grow_labels(labels: np.ndarray, sure: np.ndarray, spacing_mm: float, reach_mm: float) -> np.ndarray:
    """Every voxel within `reach_mm` of a bone takes the label of the nearest bone."""
    distance, nearest = ndimage.distance_transform_edt(~sure, sampling=spacing_mm, return_indices=True)
    return np.where(distance <= reach_mm, labels[tuple(nearest)], 0).astype(np.uint8)
