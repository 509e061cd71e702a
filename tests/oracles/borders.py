"""Distances between borders by all pairs of points, in plain loops: an oracle for small masks."""

from itertools import product

import numpy as np


def boundary_voxels(mask: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in mm and weights."""
    padded = np.pad(mask, 1)
    steps = [s * np.eye(mask.ndim, dtype=int)[a] for a in range(mask.ndim) for s in (-1, 1)]
    points = [
        i for i in np.ndindex(mask.shape) if mask[i] and not all(padded[tuple(i + s + 1)] for s in steps)
    ]
    return np.array(points, float).reshape(-1, mask.ndim) * spacing, np.ones(len(points))


def surface_elements(mask: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in mm and areas in mm2 of a 3-D mask: each cell by the vertices of its own surface."""
    padded = np.pad(mask, 1)
    points, areas = [], []
    for place in np.ndindex(*(n - 1 for n in padded.shape)):
        cell = padded[tuple(slice(p, p + 2) for p in place)]
        if cell.any() and not cell.all():
            points.append(place)
            areas.append(cell_area(cell, spacing))
    return np.array(points, float).reshape(-1, mask.ndim) * spacing, np.array(areas)


def cell_area(cell: np.ndarray, spacing: np.ndarray) -> float:
    """Area by closed forms of every kind of group, not by triangles."""
    few = {i for i in product((0, 1), repeat=3) if cell[i] == (cell.sum() <= 4)}
    total = 0.0
    while few:
        group = {few.pop()}
        while more := {f for f in few for g in group if sum(map(abs, np.subtract(f, g))) == 1}:
            group |= more
            few -= more
        total += group_area(group, spacing)
    return total


def group_area(group: set, spacing: np.ndarray) -> float:
    def joined(corner: tuple) -> list[int]:
        return [a for a in range(3) if tuple(c ^ (i == a) for i, c in enumerate(corner)) in group]

    faces = spacing.prod() / spacing  # area of the side of a cell across each axis
    corner = np.linalg.norm(faces) / 8  # triangle that cuts a corner off
    across = [np.hypot(*np.delete(faces, a)) / 2 for a in range(3)]  # rectangle along an edge
    degrees = sorted(len(joined(c)) for c in group)
    if len(group) == 1:
        return corner
    if len(group) == 2:
        return across[joined(next(iter(group)))[0]]
    if len(group) == 3:  # half the face and a trapezoid: three corner triangles
        middle = next(c for c in group if len(joined(c)) == 2)
        return faces[next(a for a in range(3) if a not in joined(middle))] / 2 + 3 * corner
    if degrees == [2, 2, 2, 2]:
        used = joined(next(iter(group)))
        return faces[next(a for a in range(3) if a not in used)]
    if degrees == [1, 1, 1, 3]:  # the hexagon is six corner triangles
        return 6 * corner
    # A bent path: half the rectangle along each outer edge, and four corner triangles.
    outer = [joined(c)[0] for c in group if len(joined(c)) == 1]
    return sum(across[a] for a in outer) / 2 + 4 * corner


def figures(one: np.ndarray, two: np.ndarray, spacing: np.ndarray, kind: str, tolerance: float) -> dict:
    """Hausdorff, HD95, ASSD, MASD and surface Dice of two masks that both hold something."""
    find = surface_elements if kind == "surface elements" else boundary_voxels
    (a, wa), (b, wb) = find(one, spacing), find(two, spacing)
    pairs = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    to_b, to_a = pairs.min(axis=1), pairs.min(axis=0)
    means = [(d * w).sum() / w.sum() for d, w in ((to_b, wa), (to_a, wb))]
    near = wa[to_b <= tolerance + 1e-9].sum() + wb[to_a <= tolerance + 1e-9].sum()
    return {
        "hausdorff_mm": max(to_b.max(), to_a.max()),
        "hd95_mm": max(percentile(d, w, kind) for d, w in ((to_b, wa), (to_a, wb))),
        "assd_mm": ((to_b * wa).sum() + (to_a * wb).sum()) / (wa.sum() + wb.sum()),
        "masd_mm": sum(means) / 2,
        "surface_dice": near / (wa.sum() + wb.sum()),
    }


def percentile(mm: np.ndarray, weight: np.ndarray, kind: str) -> float:
    if kind == "boundary voxels":
        return float(np.percentile(mm, 95))
    return min(d for d in mm if weight[mm <= d + 1e-9].sum() >= (0.95 - 1e-9) * weight.sum())
