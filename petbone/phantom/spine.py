"""The spine: a stack of vertebrae along a curve, and the shape of each, from tables of usual sizes.

Sizes are round numbers near the usual measurements of adult men. Local axes of a vertebra: e1 to the
patient's right, e2 to the front, e3 up; origin in the middle of the body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petbone.phantom.solids import (
    Array,
    Frame,
    Part,
    Solid,
    drum,
    ellipsoid,
    tube,
)

# name: body width, depth, height; disc above; tilt to the front (degrees, supine)
_SIZES = """
L5 55 37 27  8  24
L4 54 37 28 10  12
L3 53 37 29 10   2
L2 51 36 29 10  -6
L1 48 35 28  9 -12
T12 44 34 26  7 -16
T11 41 33 24  6 -17
T10 38 33 23  5 -16
T9 36 32 22  5 -13
T8 35 31 21  5  -9
T7 34 30 21  4  -4
T6 33 29 20  4   1
T5 32 27 20  4   6
T4 31 26 19  4  11
T3 31 23 18  4  16
T2 32 21 18  4  20
T1 33 19 17  5  23
C7 28 18 15  5  22
C6 26 18 14  5  19
C5 24 17 14  5  14
C4 23 17 14  5   8
C3 22 16 14  4   3
C2 22 16 20 15   0
C1 20 12 10  4   0
"""


@dataclass(frozen=True, eq=False)
class Vertebra:
    """One vertebra: its frame in the world and its body's width, depth and height (mm)."""

    name: str
    at: Frame
    width: float
    depth: float
    height: float
    disc_above: float

    def mm(self, x: float, y: float, z: float) -> Array:
        """World position of local coordinates (mm)."""
        return self.at.mm([x, y, z])


def stack(kyphosis: float = 1.0, lordosis: float = 1.0, scoliosis_deg: float = 0.0) -> dict[str, Vertebra]:
    """Vertebrae from L5 up to C1, each rigid, on the end plate of the sacrum at the origin.

    `kyphosis` and `lordosis` multiply the tilts of the thoracic and of the other vertebrae about that of
    T12 and T1; `scoliosis_deg` is the largest tilt to the side of a single S-shaped bend.
    """
    rows = [line.split() for line in _SIZES.split("\n") if line]
    below, position = tilted_axes(38.0 * (0.5 + 0.5 * lordosis), 0.0), np.zeros(3)
    gap = 9.0  # the disc on the sacrum
    found = {}
    for n, (name, *texts) in enumerate(rows):
        width, depth, height, disc, tilt = (float(t) for t in texts)
        factor = kyphosis if name[0] == "T" else lordosis
        pivot = {"L": -16.0, "T": 0.0, "C": 15.0}[name[0]]
        tilt = pivot + (tilt - pivot) * factor
        axes = tilted_axes(tilt, scoliosis_deg * np.sin(2 * np.pi * n / (len(rows) - 1)))
        position = position + 0.5 * gap * (below[2] + axes[2])
        centre = position + 0.5 * height * axes[2]
        found[name] = Vertebra(name, Frame(centre, axes), width, depth, height, disc)
        position, below, gap = centre + 0.5 * height * axes[2], axes, disc
    return found


def tilted_axes(tilt_deg: float, lean_deg: float) -> Array:
    """Rows right, front and up of a vertebra tilted to the front and leaning to the right (degrees)."""
    tilt, lean = np.radians([tilt_deg, lean_deg])
    up = np.array([np.sin(lean), np.cos(lean) * np.sin(tilt), np.cos(lean) * np.cos(tilt)])
    front = np.array([0, np.cos(tilt), -np.sin(tilt)])
    return np.stack([np.cross(front, up), front, up])


def vertebra(v: Vertebra) -> list[Solid]:
    """Body, pedicles, laminae, spinous, transverse and articular processes."""
    if v.name == "C1":
        return _atlas(v)
    body = drum(v.at, (v.width / 2, v.depth / 2, v.height / 2), waist=0.1, back=0.82)
    solids = [Solid((body,), 1.0)]
    if v.name == "C2":
        dens = tube([v.mm(0, 1, 5), v.mm(0, 1, v.height / 2 + 16)], 5.0)
        solids.append(Solid(dens, 1.2))
    shape = {"L": _lumbar, "T": _thoracic, "C": _cervical}[v.name[0]]
    for side in (1, -1):
        solids.extend(Solid(parts, 1.3) for parts in shape(v, side))
    solids.append(Solid(_spinous(v), 1.3))
    return solids


def _place(v: Vertebra, side: int, *local: tuple[float, float, float]) -> Array:
    return v.at.mm([(side * x, y, z) for x, y, z in local])


def _lumbar(v: Vertebra, side: int) -> list[tuple[Part, ...]]:
    back, px, e1 = -v.depth / 2, 0.20 * v.width + 7.5, v.at.axes[0]
    top = v.height / 2
    pedicle = tube(_place(v, side, (px, back + 9, 5), (px, back - 15, 5)), (5.2, 8.0), e1)
    # A lamina is a plate: thin along its normal (backwards), tall along the spine.
    lamina = tube(_place(v, side, (px + 2, back - 15, -1), (2, back - 25, -5)), (4.2, 11.0), v.at.axes[1])
    reach = {"L3": 48.0, "L4": 46.0, "L5": 45.0}.get(v.name, 43.0)
    transverse = tube(
        _place(v, side, (px, back - 13, 4), (px + 12, back - 15, 4), (reach, back - 20, 6)),
        [(5.0, 7.5), (3.8, 6.0), (3.2, 5.5)],
        v.at.axes[1],
    )
    # The joints of L4 with L5 are close together because the spine bends most there.
    upper_mm = (5.2, 4.2, 7.5) if v.name == "L5" else (5.2, 5.0, 9.0)
    upper = ellipsoid(Frame(_place(v, side, (px + 5, back - 12, top + 1))[0], v.at.axes), upper_mm)
    lower = ellipsoid(Frame(_place(v, side, (px - 3, back - 24, -top - 5))[0], v.at.axes), (5.2, 4.2, 11.0))
    return [pedicle, lamina, transverse, (upper,), (lower,)]


def _thoracic(v: Vertebra, side: int) -> list[tuple[Part, ...]]:
    back, px, e1 = -v.depth / 2, 13.0, v.at.axes[0]
    top, number = v.height / 2, int(v.name[1:])
    px = {1: 14.5, 2: 13.5, 11: 14.0, 12: 15.0}.get(number, px)
    pedicle = tube(_place(v, side, (px - 1, back + 7, 4), (px, back - 14, 4)), (3.8, 6.8), e1)
    lamina = tube(_place(v, side, (px + 1, back - 14, 0), (2, back - 22, -4)), (3.8, 10.0), v.at.axes[1])
    reach = 36.0 - 0.8 * number if number < 11 else 22.0
    tip = (reach, back - 27.0, 7.0) if number < 11 else (reach, back - 18.0, 4.0)
    transverse = tube(
        _place(v, side, (px, back - 14, 3), tip), [(5.5, 7.0), (6.0, 6.5)] if number < 11 else (5, 6), e1
    )
    upper = ellipsoid(Frame(_place(v, side, (px - 0, back - 11.5, top + 1))[0], v.at.axes), (5.0, 3.2, 6.5))
    lower = ellipsoid(Frame(_place(v, side, (px - 1, back - 19.5, -top - 3))[0], v.at.axes), (5.0, 3.2, 6.5))
    return [pedicle, lamina, transverse, (upper,), (lower,)]


def _cervical(v: Vertebra, side: int) -> list[tuple[Part, ...]]:
    back, half, e1, e2, e3 = -v.depth / 2, v.width / 2, *v.at.axes
    pillar_x = half + 7
    pedicle = tube(_place(v, side, (half - 2, back + 3, 1), (pillar_x, back - 5, 1)), (3.2, 3.6), e3)
    # The transverse foramen lies between this front bar and the pedicle.
    front = tube(
        _place(v, side, (half - 2, 3, -1), (half + 9, 1, -3), (half + 12, -3, -3), (pillar_x, back - 5, 0)),
        2.6,
        e3,
    )
    pillar = ellipsoid(Frame(_place(v, side, (pillar_x, back - 7, 0))[0], v.at.axes), (6.0, 5.5, 7.5))
    lamina = tube(_place(v, side, (pillar_x - 2, back - 9, -1), (2, back - 20, -3)), (2.6, 6.0), e2)
    if v.name == "C7":
        bar = tube(_place(v, side, (pillar_x, back - 7, 1), (32, back - 11, 2)), (4.0, 4.5), e1)
        return [pedicle, (pillar,), lamina, bar]
    return [pedicle, front, (pillar,), lamina]


def _spinous(v: Vertebra) -> tuple[Part, ...]:
    back, e1 = -v.depth / 2, v.at.axes[0]
    if v.name[0] == "L":
        line = [(0.0, back - 24, -6.0), (0.0, back - 40, -8.0), (0.0, back - 53, -9.0)]
        radii = [(4.2, 10.0), (3.6, 11.0), (4.4, 11.5)]
        if v.name == "L5":
            line = [(0.0, back - 24, -5.0), (0.0, back - 44, -6.0)]
            radii = [(4.0, 8.0), (4.0, 8.0)]
    elif v.name[0] == "T":
        number = int(v.name[1:])
        drop = [8, 12, 16, 20, 24, 27, 28, 26, 20, 14, 10, 8][number - 1]
        line = [(0.0, back - 21, -4.0), (0.0, back - 34, -4 - 0.5 * drop), (0.0, back - 47, -4.0 - drop)]
        radii = [(4.0, 8.0), (3.2, 6.0), (3.6, 5.0)] if number < 11 else [(4.0, 9.0), (3.4, 9.0), (3.8, 9.0)]
    else:
        length = {"C2": 36, "C3": 32, "C4": 33, "C5": 35, "C6": 42, "C7": 55}[v.name]
        line = [(0.0, back - 19, -3.0), (0.0, back - length + 4.0, -7.0)]
        radii = [(2.8, 5.0), (4.0, 4.5)]
    return tube(v.at.mm(line), radii, e1)


def _atlas(v: Vertebra) -> list[Solid]:
    # The front arch passes before the dens, the back arch behind the cord.
    front = tube(
        v.at.mm([(-17, 3, 0), (-10, 11, 0), (0, 13.5, 0), (10, 11, 0), (17, 3, 0)]), (3.4, 4.8), v.at.axes[1]
    )
    back = tube(
        v.at.mm(
            [(-17, -6, 0), (-15, -18, 0), (-8, -28, 0), (0, -31, 0), (8, -28, 0), (15, -18, 0), (17, -6, 0)]
        ),
        (3.0, 4.5),
        v.at.axes[1],
    )
    solids = [Solid(front, 1.2), Solid(back, 1.2)]
    for side in (1, -1):
        mass = ellipsoid(Frame(v.mm(side * 19, -1, 0), v.at.axes), (7.5, 10.0, 8.5))
        wing = tube(_place(v, side, (20, -2, 0), (37, -4, -1)), (4.0, 4.0))
        solids += [Solid((mass,), 1.2), Solid(wing, 1.2)]
    return solids
