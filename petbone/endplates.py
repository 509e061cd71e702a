"""Bodies of vertebrae and the endplates that face each other across a disc, from the bone map alone.

The map has one label per vertebra. Its *body* is found as its thickest part; the body's walls are found along
lines that leave it. World is RAS mm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.anatomy import BY_NAME
from petbone.nearby import labels_at
from petbone.resample import Occupancy
from petbone.volume import Box, Grid, Volume

Points = npt.NDArray[np.float64]

SACRUM = BY_NAME["sacrum"].id
COLUMN: tuple[int, ...] = (*range(50, 57), *range(1, 13), 63, *range(13, 18), 64, SACRUM)
"""C1 to the sacrum from above downwards, T13 and L6 in their places."""

NEIGHBOURS_MM = 70.0  # bodies further apart than this have a missing one between them
_STEP_MM = 2.5
_LINE_MM = 60.0  # no body is deeper or taller than this from its middle
_GAP_MM = 4  # a line has left a bone after so many mm outside it: a vein's canal is no wall
_DISC_MM = 25.0  # no disc is higher
_MIDDLE_MM = 5.0  # half width of the strip behind which the canal lies, between the pedicles
_LATTICE_MM = 4.0  # how far apart the points on an endplate are


@dataclass(frozen=True, eq=False)
class Body:
    """The body of one vertebra: its middle, its axes (unit vectors) and its walls, from the middle."""

    label: int
    centre_mm: Points
    up: Points  # to the next vertebra above
    back: Points  # to the spinal canal
    rear_mm: float  # from the middle to the canal
    height_mm: float

    def is_behind(self, points_mm: Points) -> npt.NDArray[np.bool_]:
        """Which points (n, 3) lie behind the rear wall, among the pedicles, joints and processes."""
        return np.asarray((points_mm - self.centre_mm) @ self.back > self.rear_mm)


@dataclass(frozen=True, eq=False)
class Disc:
    """Two endplates that face each other, as points (n, 3) at opposite ends of lines through the disc."""

    upper: int  # the label above
    lower: int
    upper_mm: Points
    lower_mm: Points
    height_mm: float  # of the flatter of the two bodies; of the upper one where the lower is the sacrum

    def across(self, point_mm: Points) -> Points:
        """The part of a point (3,) that counts along the disc: freed of the way from endplate to endplate."""
        way = (self.lower_mm - self.upper_mm).mean(axis=0)
        way = way / np.linalg.norm(way)
        return np.asarray(point_mm - (point_mm @ way) * way)


def find_bodies(bones: Volume, occupied: Occupancy) -> dict[int, Body]:
    """The bodies of the vertebrae that the PET holds, by label; a vertebra without one is left out.

    C1 has none. What is cut by the field, or a mere fragment, may have a wrong one.
    """
    middles = {}
    for label in COLUMN[1:-1]:
        middle = _thickest(bones, occupied, label)
        if middle is not None:
            middles[label] = middle
    found = {}
    for label, (centre, whole) in middles.items():
        up = _up(label, {other: middle for other, (middle, _) in middles.items()})
        back = (whole - centre) - ((whole - centre) @ up) * up
        if np.linalg.norm(back) < 1.0:
            continue  # nothing behind the body: no vertebra, or a sliver of one
        back /= np.linalg.norm(back)
        aside = np.cross(up, back)
        strip = centre + np.linspace(-_MIDDLE_MM, _MIDDLE_MM, 5)[:, None] * aside
        rear = _exits_mm(bones, label, np.concatenate([strip - 3 * up, strip, strip + 3 * up]), back)
        heights = [_exits_mm(bones, label, strip, way) for way in (up, -up)]
        if np.isnan(rear).all() or any(np.isnan(height).all() for height in heights):
            continue
        height = sum(float(np.nanmedian(way)) for way in heights)
        found[label] = Body(label, centre, up, back, float(np.nanmedian(rear)), height)
    return found


def find_discs(bones: Volume, bodies: dict[int, Body], present: Iterable[int]) -> list[Disc]:
    """The discs between neighbours of `present` (labels), where lines from one body meet the next bone."""
    present = set(present)
    found = []
    for upper, lower in pairwise([label for label in COLUMN if label in present]):
        if upper not in bodies or (lower != SACRUM and lower not in bodies):
            continue
        body = bodies[upper]
        down = -body.up if lower == SACRUM else bodies[lower].centre_mm - body.centre_mm
        if np.linalg.norm(down) > NEIGHBOURS_MM:
            continue
        down = down / np.linalg.norm(down)
        starts = _lattice(body)
        starts = starts[labels_at(bones, starts) == upper]
        leaves = _exits_mm(bones, upper, starts, down)
        steps = np.arange(1.0, _DISC_MM)
        beyond = starts[:, None] + (leaves[:, None] + steps)[..., None] * down
        meets = labels_at(bones, np.nan_to_num(beyond, nan=1e9)) == lower
        hit = meets.any(axis=1) & ~np.isnan(leaves)
        if hit.sum() < 3:
            continue
        height = body.height_mm if lower == SACRUM else min(body.height_mm, bodies[lower].height_mm)
        found.append(
            Disc(
                upper,
                lower,
                starts[hit] + leaves[hit, None] * down,
                beyond[hit, meets[hit].argmax(axis=1)],
                height,
            )
        )
    return found


def box_of(grid: Grid, points_mm: Points, margin_mm: float) -> Box:
    """Box of `grid` that holds points (n, 3) with a margin; empty where they lie outside."""
    ijk = grid.ijk(points_mm)
    margin = margin_mm * np.linalg.norm(grid.ijk_from_mm[:3, :3], axis=1)
    low = np.clip(np.floor(ijk.min(axis=0) - margin), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(ijk.max(axis=0) + margin) + 1, low, grid.shape).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _thickest(bones: Volume, occupied: Occupancy, label: int) -> tuple[Points, Points] | None:
    """The middle of the thickest part of a bone and the middle of all of it (mm)."""
    entries = occupied.of(label)
    if entries.start == entries.stop:
        return None
    grid = occupied.grid
    where = grid.mm(np.array(np.unravel_index(occupied.voxel[entries], grid.shape)).T)
    box = box_of(bones.grid, where, float(grid.spacing_mm.max()))
    stride = np.maximum(1, np.rint(_STEP_MM / bones.grid.spacing_mm)).astype(int)
    steps = tuple(slice(s.start, s.stop, int(n)) for s, n in zip(box, stride, strict=True))
    mask = bones.data[steps] == label
    if not mask.any():
        return None
    spacing = stride * bones.grid.spacing_mm
    # Half as wide as a cube of the bone's volume: processes do not fill that, a body does.
    side_mm = 0.5 * (np.count_nonzero(mask) * float(np.prod(spacing))) ** (1 / 3)
    size = 2 * np.rint(np.maximum(side_mm / spacing - 1, 0) / 2).astype(int) + 1  # odd: no shift
    full = ndimage.uniform_filter(mask.astype(np.float32), tuple(size), mode="constant") * mask
    ijk = [np.argwhere(part) * stride + [s.start for s in box] for part in (full >= 0.9 * full.max(), mask)]
    return bones.grid.mm(ijk[0].mean(axis=0)), bones.grid.mm(ijk[1].mean(axis=0))


def _up(label: int, middles: dict[int, Points]) -> Points:
    """Unit vector along the column at a vertebra, from its neighbours' middles; world's up without any."""
    order = [other for other in COLUMN if other in middles]
    n = order.index(label)
    near = [
        middles[other]
        for other in order[max(n - 1, 0) : n + 2]
        if np.linalg.norm(middles[other] - middles[label]) <= NEIGHBOURS_MM
    ]
    way = near[0] - near[-1]
    length = float(np.linalg.norm(way))
    return np.asarray(way / length) if length > 1.0 else np.array([0.0, 0.0, 1.0])


def _lattice(body: Body) -> Points:
    """Points (n, 3) on the plane through the middle of a body, in front of its rear wall."""
    line = np.arange(-32.0, 32.1, _LATTICE_MM)
    aside, behind = np.meshgrid(line, line[line <= body.rear_mm], indexing="ij")
    across = np.cross(body.up, body.back)
    return np.asarray(body.centre_mm + aside.reshape(-1, 1) * across + behind.reshape(-1, 1) * body.back)


def _exits_mm(bones: Volume, label: int, starts_mm: Points, way: Points) -> Points:
    """(n,) how far along `way` each line from `starts_mm` (n, 3) leaves the bone; NaN where it does not."""
    steps = np.arange(0.0, _LINE_MM + 1)
    outside = labels_at(bones, starts_mm[:, None] + steps[:, None] * way) != label
    gone = outside.copy()
    for later in range(1, _GAP_MM):
        gone[:, :-later] &= outside[:, later:]
    first = gone.argmax(axis=1)
    return np.where(gone.any(axis=1) & (first > 0), steps[first] - 0.5, np.nan)
