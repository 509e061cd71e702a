"""Borders of masks by two definitions, and the distances between two borders. Arrays and spacings only.

* `surface elements` : a mask is cut into cells of 2 x 2 x 2 neighbouring voxel centres (2 x 2 in 2-D). A cell
  with voxels inside and outside holds a piece of surface, and weighs as much as that piece has area in mm2
  (length in mm in 2-D). Its place is the middle of the cell. So does DeepMind's surface-distance (Nikolov et
  al., J Med Internet Res 23:e26151, 2021); `cell_areas` tells how the areas come about.
* `boundary voxels` : voxels of a mask that have at least one of their face neighbours outside: the mask minus
  its erosion by the element of connectivity 1, as in MetricsReloaded (Maier-Hein et al., Nat Methods 21:195,
  2024). Every one weighs 1.

By both, what lies beyond the end of the array is outside: a bone cut by the field of view has a border there.
Distances are those between the middles of cells or voxels, on a grid with right angles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

Mask = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]
Corner = tuple[int, ...]
Definition = Literal["surface elements", "boundary voxels"]

DEFINITIONS: tuple[Definition, ...] = ("surface elements", "boundary voxels")
ROUNDING = 1e-9  # a distance that equals the tolerance is within it; a share that equals 95 % has reached it


@dataclass(frozen=True)
class Directed:
    """From every element of one border to the nearest one of the other: (n,) mm, and (n,) weights."""

    mm: F64
    weight: F64
    definition: Definition

    def mean_mm(self) -> float:
        """Mean by weight."""
        return float(self.mm @ self.weight / self.weight.sum())

    def percentile_mm(self, percent: float) -> float:
        """The distance that `percent` of the border do not pass.

        Surface elements: the shortest one that is reached by this share of the area. Boundary voxels: between
        two, linearly (numpy's default). So do the two sources, each for its own definition; but that a share
        which equals `percent` counts as reached here, however its sum is rounded.
        """
        if self.definition == "boundary voxels":
            return float(np.percentile(self.mm, percent))
        order = np.argsort(self.mm, kind="stable")
        share = np.cumsum(self.weight[order])
        first = int(np.searchsorted(share / share[-1], percent / 100 - ROUNDING))
        return float(self.mm[order[min(first, len(order) - 1)]])

    def within(self, tolerance_mm: float) -> float:
        """Weight of the border that is within the tolerance of the other."""
        return float(self.weight[self.mm <= tolerance_mm * (1 + ROUNDING) + ROUNDING].sum())


@dataclass(frozen=True)
class Distances:
    """Between the borders of two masks that both hold something."""

    from_one: Directed
    from_two: Directed

    def percentile_mm(self, percent: float) -> float:
        """The larger of both directed percentiles; 100 is the Hausdorff distance, 95 is HD95."""
        return max(self.from_one.percentile_mm(percent), self.from_two.percentile_mm(percent))

    def assd_mm(self) -> float:
        """Mean over the elements of both borders together (average symmetric surface distance)."""
        one, two = self.from_one, self.from_two
        return float((one.mm @ one.weight + two.mm @ two.weight) / (one.weight.sum() + two.weight.sum()))

    def masd_mm(self) -> float:
        """Mean of the two directed means (mean average surface distance)."""
        return (self.from_one.mean_mm() + self.from_two.mean_mm()) / 2

    def surface_dice(self, tolerance_mm: float) -> float:
        """Share of both borders that is within the tolerance of the other (NSD)."""
        near = self.from_one.within(tolerance_mm) + self.from_two.within(tolerance_mm)
        return near / float(self.from_one.weight.sum() + self.from_two.weight.sum())


def distances(one: Mask, two: Mask, spacing_mm: F64, definition: Definition) -> Distances | None:
    """Between the borders of two masks of one shape (2-D or 3-D); None where one of them is empty."""
    on_one, weight_one = _border(one, spacing_mm, definition)
    on_two, weight_two = _border(two, spacing_mm, definition)
    if not len(weight_one) or not len(weight_two):
        return None
    return Distances(
        Directed(_to_nearest_mm(on_one, on_two, spacing_mm), weight_one, definition),
        Directed(_to_nearest_mm(on_two, on_one, spacing_mm), weight_two, definition),
    )


def boundary(mask: Mask) -> Mask:
    """The boundary voxels of a mask."""
    core = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim, 1))
    edge: Mask = mask & ~core
    return edge


def cell_areas(spacing_mm: F64) -> F64:
    """(256,) mm2 of surface in a cell of 2 x 2 x 2 voxel centres, by its code; (16,) mm of line in 2-D.

    Bit i + 2 j + 4 k of the code is set where the voxel at corner (i, j, k) is inside. As in marching cubes
    (Lorensen and Cline, Comput Graph 21:163, 1987) the surface passes the middles of the edges between inside
    and outside. The corners that are in the minority (the inside, at 4 to 4) are cut off, every group of them
    that edges join by itself. Two kinds of outline do not lie in a plane: three corners in an L, and four in
    a bent path. They are cut into flat pieces: a trapezoid with one triangle or two.
    """
    simplices, cell = _pieces(len(spacing_mm))
    sides = np.diff(simplices * spacing_mm, axis=1)
    if len(spacing_mm) == 2:
        size = np.linalg.norm(sides[:, 0], axis=1)
    else:
        size = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) / 2
    areas = np.zeros(1 << 2 ** len(spacing_mm))
    np.add.at(areas, cell, size)
    return areas


def _border(mask: Mask, spacing_mm: F64, definition: Definition) -> tuple[Mask, F64]:
    """Where the border is, and the weight of its elements in the order of the array."""
    if definition == "boundary voxels":
        edge = boundary(mask)
        return edge, np.ones(np.count_nonzero(edge))
    codes: npt.NDArray[Any] = np.pad(mask, 1).view(np.uint8)
    for axis in range(mask.ndim):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(mask.ndim))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(mask.ndim))
        codes = codes[low] | (codes[high] << (1 << axis))
    areas = cell_areas(spacing_mm)
    edge = (codes > 0) & (codes < len(areas) - 1)
    return edge, areas[codes[edge]]


def _to_nearest_mm(edge: Mask, other: Mask, spacing_mm: F64) -> F64:
    """(n,) from every element of a border to the nearest one of the other."""
    mm = np.zeros(np.count_nonzero(edge))
    apart = ~other[edge]  # what both share is at 0 mm: with two good masks, that is most of it
    if apart.any():
        tree = cKDTree(np.argwhere(other) * spacing_mm, balanced_tree=False)
        mm[apart] = tree.query(np.argwhere(edge & ~other) * spacing_mm)[0]
    return mm


@cache
def _pieces(axes: int) -> tuple[F64, npt.NDArray[np.intp]]:
    """(n, axes, axes) triangles (segments in 2-D) in a cell with sides of 1, and (n,) the codes."""
    corners = [corner[::-1] for corner in product((0, 1), repeat=axes)]
    simplices, cells = [], []
    for code in range(1, (1 << len(corners)) - 1):
        inside = {corner for bit, corner in enumerate(corners) if code >> bit & 1}
        few = inside if 2 * len(inside) <= len(corners) else set(corners) - inside
        for group in _groups(few):
            own = _flattest(_outline(group))
            simplices += own
            cells += [code] * len(own)
    return np.array(simplices), np.array(cells)


def _neighbours(corner: Corner) -> list[Corner]:
    return [tuple(1 - c if a == axis else c for a, c in enumerate(corner)) for axis in range(len(corner))]


def _groups(corners: set[Corner]) -> list[set[Corner]]:
    """Corners that edges of the cell join."""
    left, groups = set(corners), []
    while left:
        group, front = set(), {min(left)}
        while front:
            group |= front
            front = {n for corner in front for n in _neighbours(corner) if n in left} - group
        groups.append(group)
        left -= group
    return groups


def _outline(group: set[Corner]) -> list[F64]:
    """The middles of the edges that lead out of a group, each next to one on the same face of the cell."""
    middles = [
        tuple((a + b) / 2 for a, b in zip(corner, n, strict=True))
        for corner in sorted(group)
        for n in _neighbours(corner)
        if n not in group
    ]
    outline = [middles.pop(0)]
    while middles:
        last = outline[-1]
        following = next(
            (m for m in middles if any(a == b != 0.5 for a, b in zip(m, last, strict=True))), middles[0]
        )
        middles.remove(following)
        outline.append(following)
    return [np.array(point) for point in outline]


def _flattest(outline: list[F64]) -> list[list[F64]]:
    """Triangles of an outline. Of all ways to draw them, the largest in area has the flat pieces."""
    if len(outline) <= 3:
        return [outline]
    return max(_triangulations(outline), key=lambda triangles: sum(map(_unit_area, triangles)))


def _unit_area(triangle: list[F64]) -> float:
    a, b, c = triangle
    return float(np.linalg.norm(np.cross(b - a, c - a)))


def _triangulations(outline: list[F64]) -> list[list[list[F64]]]:
    """Every way to cut a polygon into triangles by lines between its corners."""
    if len(outline) < 3:
        return [[]]
    return [
        [*before, *after, [outline[0], outline[k], outline[-1]]]
        for k in range(1, len(outline) - 1)
        for before in _triangulations(outline[: k + 1])
        for after in _triangulations(outline[k:])
    ]
