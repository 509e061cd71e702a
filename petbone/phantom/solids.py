"""Solid shapes as signed distances, and how they are painted onto a grid.

A shape is a list of *parts*; a part is a box outside which it is never near, and a function giving the
signed distance (mm, negative inside) of broadcastable coordinates. Distances of ellipses are the usual
first-order estimate k0 (k0 - 1) / k1 with k0 = |p / r| and k1 = |p / r^2|, exact on the surface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.interpolate import CubicSpline

from petbone.volume import Box

Array = npt.NDArray[Any]
Distance = Callable[[Array, Array, Array], Array]
MARGIN_MM = 6.0  # every part's box is its surface and this much more, for cortex, blend and antialiasing
FAR_MM = np.float32(1e3)


@dataclass(frozen=True, eq=False)
class Part:
    """`distance_mm(x, y, z)` and the box (``low`` to ``high``, each (3,) mm) where it is worth asking."""

    low: Array
    high: Array
    distance_mm: Distance


@dataclass(frozen=True, eq=False)
class Solid:
    """Union of `parts`, with a cortex `cortex_mm` thick.

    `carve` marks a solid that is taken away from those listed before it in the same bone; a `hollow` one
    holds fatty marrow instead of spongy bone (the shaft of a long bone).
    """

    parts: tuple[Part, ...]
    cortex_mm: float = 1.4
    carve: bool = False
    hollow: bool = False


@dataclass(frozen=True, eq=False)
class Axes:
    """World coordinates (mm, increasing) of the voxel centres of an axis-aligned grid."""

    x: Array
    y: Array
    z: Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        return len(self.x), len(self.y), len(self.z)

    def box(self, low: npt.ArrayLike, high: npt.ArrayLike) -> Box:
        """Index ranges of the voxels whose centres lie between two corners (may be empty)."""
        pairs = zip((self.x, self.y, self.z), np.asarray(low), np.asarray(high), strict=True)
        starts_stops = [(np.searchsorted(a, lo), np.searchsorted(a, hi, "right")) for a, lo, hi in pairs]
        first, second, third = [slice(int(a), int(max(a, b))) for a, b in starts_stops]
        return first, second, third

    def open(self, box: Box) -> tuple[Array, Array, Array]:
        """Coordinates of a box as three float32 arrays that broadcast against each other."""
        x, y, z = (a[s].astype(np.float32) for a, s in zip((self.x, self.y, self.z), box, strict=True))
        return x[:, None, None], y[None, :, None], z[None, None, :]


@dataclass(frozen=True, eq=False)
class Frame:
    """Local axes: `origin` (3,) mm and `axes` (3, 3) with the unit vectors e1, e2, e3 as rows."""

    origin: Array
    axes: Array

    def mm(self, local: npt.ArrayLike) -> Array:
        """World position of local coordinates; (..., 3) in, (..., 3) out."""
        return np.asarray(self.origin + np.asarray(local, dtype=float) @ self.axes)

    def local(self, x: Array, y: Array, z: Array) -> list[Array]:
        """The three local coordinates of broadcastable world coordinates."""
        dx, dy, dz = (v - np.float32(o) for v, o in zip((x, y, z), self.origin, strict=True))
        return [np.float32(e[0]) * dx + np.float32(e[1]) * dy + np.float32(e[2]) * dz for e in self.axes]

    def bounds(self, half: npt.ArrayLike) -> tuple[Array, Array]:
        """Corners of the world box round the local box of half sizes `half`, with the margin."""
        reach = np.abs(self.axes).T @ np.asarray(half, dtype=float) + MARGIN_MM
        return self.origin - reach, self.origin + reach


WORLD = np.eye(3)


def frame(origin: npt.ArrayLike, e1: npt.ArrayLike, e2: npt.ArrayLike) -> Frame:
    """Frame from an origin and two directions; e2 is made orthogonal to e1, e3 = e1 x e2."""
    first = np.asarray(e1, dtype=float) / np.linalg.norm(e1)
    second = np.asarray(e2, dtype=float) - np.dot(e2, first) * first
    second /= np.linalg.norm(second)
    return Frame(np.asarray(origin, dtype=float), np.stack([first, second, np.cross(first, second)]))


def _ellipse(coordinates: Sequence[Array], radii: Sequence[Array | float]) -> Array:
    lengths = [np.asarray(r, dtype=np.float32) for r in radii]
    squares = [(c / r) ** 2 for c, r in zip(coordinates, lengths, strict=True)]
    k0 = np.sqrt(np.asarray(sum(squares)) + np.float32(1e-9))
    k1 = np.sqrt(np.asarray(sum(s / r**2 for s, r in zip(squares, lengths, strict=True))) + np.float32(1e-12))
    return np.asarray(k0 * (k0 - 1) / k1)


def _rounded(first: Array, second: Array, rounding: float) -> Array:
    """Intersection of two distances with a rounded edge."""
    a, b = first + np.float32(rounding), second + np.float32(rounding)
    outside = np.hypot(np.maximum(a, 0), np.maximum(b, 0))
    return np.asarray(outside + np.minimum(np.maximum(a, b), 0) - np.float32(rounding))


def ellipsoid(at: Frame, radii: Sequence[float]) -> Part:
    """Ellipsoid with semi-axes `radii` (mm) along the frame."""
    return Part(*at.bounds(radii), lambda x, y, z: _ellipse(at.local(x, y, z), radii))


def ball(centre: npt.ArrayLike, radius: float) -> Part:
    """Sphere."""
    at = Frame(np.asarray(centre, dtype=float), WORLD)

    def distance(x: Array, y: Array, z: Array) -> Array:
        dx, dy, dz = at.local(x, y, z)
        return np.asarray(np.sqrt(dx * dx + dy * dy + dz * dz) - np.float32(radius))

    return Part(*at.bounds([radius] * 3), distance)


def block(at: Frame, half: Sequence[float], rounding: float = 2.0) -> Part:
    """Box of half sizes `half` with rounded edges."""

    def distance(x: Array, y: Array, z: Array) -> Array:
        q = [np.abs(c) - np.float32(h - rounding) for c, h in zip(at.local(x, y, z), half, strict=True)]
        outside = np.sqrt(sum(np.maximum(c, 0) ** 2 for c in q))
        inside = np.minimum(np.maximum(np.maximum(q[0], q[1]), q[2]), 0)
        return np.asarray(outside + inside - np.float32(rounding))

    return Part(*at.bounds(half), distance)


def drum(at: Frame, half: Sequence[float], waist: float, back: float = 1.0, rounding: float = 2.0) -> Part:
    """Elliptic cylinder along e3, narrowed by the fraction `waist` half way up (a vertebral body).

    `back` < 1 cuts it flat at that fraction of its half depth on the side of -e2.
    """

    def distance(x: Array, y: Array, z: Array) -> Array:
        u, v, w = at.local(x, y, z)
        narrow = 1 - np.float32(waist) * (1 - np.minimum((w / np.float32(half[2])) ** 2, 1))
        side = _ellipse([u / narrow, v / narrow], half[:2])
        if back < 1:
            side = _rounded(side, -v - np.float32(back * half[1]), 3.0)
        return _rounded(side, np.abs(w) - np.float32(half[2]), rounding)

    return Part(*at.bounds(half), distance)


def _segment(ends: Array, radii: Array, normal: Array) -> Part:
    """One round-ended piece of a tube between two `ends`; `radii` (2, 2) along `normal` (3,) and across."""
    start, along = ends[0], ends[1] - ends[0]
    length = float(np.linalg.norm(along))
    tangent = along / length
    reach = float(radii.max()) + MARGIN_MM
    low, high = ends.min(axis=0) - reach, ends.max(axis=0) + reach
    at = Frame(start, np.stack([tangent, normal, np.cross(tangent, normal)]))

    def distance(x: Array, y: Array, z: Array) -> Array:
        t, u, v = at.local(x, y, z)
        share = np.clip(t / np.float32(length), 0, 1)
        beyond = t - share * np.float32(length)
        r1 = np.float32(radii[0, 0]) + share * np.float32(radii[1, 0] - radii[0, 0])
        r2 = np.float32(radii[0, 1]) + share * np.float32(radii[1, 1] - radii[0, 1])
        flat = np.minimum(r1, r2)
        return _ellipse((beyond, u, v), (flat, r1, r2))

    return Part(low, high, distance)


def tube(
    points: npt.ArrayLike,
    radii: npt.ArrayLike,
    normal: npt.ArrayLike = (1.0, 0.0, 0.0),
    step_mm: float | None = None,
) -> tuple[Part, ...]:
    """Tube of elliptic section through `points` (n, 3).

    `radii` (mm): one, one pair, or one pair per point; the first of a pair is along `normal`, which is one
    direction or one per point (made orthogonal to the tube). With `step_mm` the points become the knots of
    a cubic spline that is followed in steps of about that length.
    """
    knots = np.asarray(points, dtype=float)
    pairs = np.broadcast_to(np.asarray(radii, dtype=float), (len(knots), 2)) if np.ndim(radii) else None
    sizes = np.full((len(knots), 2), float(np.asarray(radii))) if pairs is None else pairs
    normals = np.broadcast_to(np.asarray(normal, dtype=float), (len(knots), 3))
    if step_mm is not None:
        s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
        fine = np.linspace(0, s[-1], max(2, round(s[-1] / step_mm) + 1))
        knots = CubicSpline(s, knots)(fine)
        sizes = np.stack([np.interp(fine, s, sizes[:, k]) for k in range(2)], axis=1)
        normals = np.stack([np.interp(fine, s, normals[:, k]) for k in range(3)], axis=1)
    parts = []
    for i in range(len(knots) - 1):
        tangent = knots[i + 1] - knots[i]
        tangent = tangent / np.linalg.norm(tangent)
        n = normals[i] + normals[i + 1]
        n = n - np.dot(n, tangent) * tangent
        n = n / np.linalg.norm(n)
        parts.append(_segment(knots[i : i + 2], sizes[i : i + 2], n))
    return tuple(parts)


def _polygon_distance(polygon: Array, u: Array, v: Array) -> Array:
    """Signed distance of points to a closed polygon (n, 2), negative inside; even-odd rule."""
    distance = np.full(np.broadcast(u, v).shape, np.inf)
    inside = np.zeros(distance.shape, dtype=bool)
    for (u0, v0), (u1, v1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        eu, ev = u1 - u0, v1 - v0
        share = np.clip(((u - u0) * eu + (v - v0) * ev) / (eu * eu + ev * ev), 0, 1)
        distance = np.minimum(distance, np.hypot(u - u0 - share * eu, v - v0 - share * ev))
        crosses = (v0 > v) != (v1 > v)
        inside ^= crosses & (u < u0 + (v - v0) * eu / (ev if ev else 1e-9))
    return np.where(inside, -distance, distance)


def smooth_polygon(corners: npt.ArrayLike, points: int = 90) -> Array:
    """Closed periodic spline through `corners` (n, 2), as a polygon of `points` corners."""
    knots = np.asarray(corners, dtype=float)
    knots = np.concatenate([knots, knots[:1]])
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    return np.asarray(
        CubicSpline(s, knots, bc_type="periodic")(np.linspace(0, s[-1], points, endpoint=False))
    )


def plate(
    at: Frame,
    outline: Array,
    height: Callable[[Array, Array], Array],
    thickness: Callable[[Array, Array, Array], Array],
    rounding: float = 1.5,
) -> Part:
    """Curved plate over the (e1, e2) plane inside the polygon `outline` (n, 2).

    `height(u, v)` is the mid surface along e3; `thickness(u, v, edge)` may depend on the distance `edge`
    (mm, negative inside) to the outline.
    """
    step = 0.5
    low = np.floor(outline.min(axis=0) - MARGIN_MM - 2)
    size = np.ceil((outline.max(axis=0) + MARGIN_MM + 2 - low) / step).astype(int)
    u = low[0] + step * np.arange(size[0])[:, None]
    v = low[1] + step * np.arange(size[1])[None, :]
    coarse = 4  # the distance to the outline is smooth enough to be worked out at every fourth point
    rough = _polygon_distance(outline, u[::coarse], v[:, ::coarse])
    at_u, at_v = np.meshgrid(*(np.arange(n) / coarse for n in size), indexing="ij", sparse=True)
    edge = ndimage.map_coordinates(rough, np.broadcast_arrays(at_u, at_v), order=1, mode="nearest")
    mid = np.broadcast_to(height(u, v), edge.shape)
    half = np.broadcast_to(thickness(u, v, edge), edge.shape) / 2
    slope = np.hypot(*np.gradient(mid, step))
    tables = np.stack([edge, mid, half, 1 / np.hypot(1, slope)], axis=-1).astype(np.float32)
    near = edge < MARGIN_MM
    w_low, w_high = (mid - half)[near].min(), (mid + half)[near].max()
    ends = [(low[0], low[0] + step * size[0]), (low[1], low[1] + step * size[1]), (w_low, w_high)]
    corners = at.mm(np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(8, 3))

    def distance(x: Array, y: Array, z: Array) -> Array:
        a, b, w = at.local(x, y, z)
        i = np.clip(np.rint((a - low[0]) / step), 0, size[0] - 1).astype(np.int32)
        j = np.clip(np.rint((b - low[1]) / step), 0, size[1] - 1).astype(np.int32)
        found = tables.reshape(-1, 4)[i * size[1] + j]
        across = np.abs(w - found[..., 1]) * found[..., 3] - found[..., 2]
        return _rounded(across, found[..., 0], rounding)

    return Part(corners.min(axis=0) - MARGIN_MM, corners.max(axis=0) + MARGIN_MM, distance)


def mirrored(part: Part) -> Part:
    """Mirror image in the plane x = 0."""
    flip = np.array([-1.0, 1.0, 1.0])
    low, high = np.minimum(part.low * flip, part.high * flip), np.maximum(part.low * flip, part.high * flip)
    return Part(low, high, lambda x, y, z: part.distance_mm(-x, y, z))


def mirror_image(solids: Sequence[Solid]) -> list[Solid]:
    """The left bone, given the right one."""
    return [replace(s, parts=tuple(mirrored(p) for p in s.parts)) for s in solids]


def grown(part: Part, by_mm: float) -> Part:
    """The part with its surface moved outwards."""
    return Part(
        part.low - by_mm, part.high + by_mm, lambda x, y, z: part.distance_mm(x, y, z) - np.float32(by_mm)
    )


@dataclass(frozen=True, eq=False)
class Field:
    """Signed distances (mm, float32) on the `box` of a grid: to the bone, its spongy part, its hollow."""

    box: Box
    bone: Array
    spongy: Array
    hollow: Array


def field(solids: Sequence[Solid], axes: Axes, blend_mm: float = 3.0) -> Field:
    """One bone on the part of a grid where it lies, which may be empty.

    Solids are joined with a smooth minimum of width `blend_mm`.
    """
    low, high = extent_mm(solids)
    box = axes.box(low, high)
    shape = tuple(s.stop - s.start for s in box)
    bone, spongy, hollow = (np.full(shape, FAR_MM) for _ in range(3))
    if 0 in shape:
        return Field(box, bone, spongy, hollow)
    for solid in solids:
        one = _union(solid.parts, axes, (low, high), box)
        within = one + np.float32(solid.cortex_mm)
        if solid.carve:
            bone = np.maximum(bone, -one)
            spongy = np.maximum(spongy, np.float32(solid.cortex_mm) - one)
            continue
        overlap = np.maximum(np.float32(blend_mm) - np.abs(bone - one), 0)
        bone = np.minimum(bone, one) - overlap**2 / np.float32(4 * blend_mm)
        if solid.hollow:
            hollow = np.minimum(hollow, within)
        else:
            spongy = np.minimum(spongy, within)
    return Field(box, bone, spongy, hollow)


def _union(parts: Sequence[Part], axes: Axes, limits: tuple[Array, Array], box: Box) -> Array:
    """Smallest distance to any of `parts` on `box`; each is asked only in its own box within `limits`."""
    one = np.full(tuple(s.stop - s.start for s in box), FAR_MM)
    for part in parts:
        near = axes.box(np.maximum(part.low, limits[0]), np.minimum(part.high, limits[1]))
        within = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(near, box, strict=True))
        if one[within].size:
            one[within] = np.minimum(one[within], part.distance_mm(*axes.open(near)))
    return one


def extent_mm(solids: Sequence[Solid]) -> tuple[Array, Array]:
    """Corners of a box that holds the whole of a bone."""
    parts = [p for s in solids if not s.carve for p in s.parts]
    return np.min([p.low for p in parts], axis=0), np.max([p.high for p in parts], axis=0)
