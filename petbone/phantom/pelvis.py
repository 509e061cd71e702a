"""Sacrum, hip bones and femora, in the frame of the sacrum's end plate; left is the mirror of right."""

from __future__ import annotations

import numpy as np

from petbone.phantom.solids import (
    WORLD,
    Array,
    Frame,
    Part,
    Solid,
    ball,
    block,
    drum,
    ellipsoid,
    frame,
    grown,
    mirrored,
    plate,
    smooth_polygon,
    tube,
)
from petbone.phantom.spine import tilted_axes

HIP_JOINT = np.array(
    [88.0, 23.0, -105.0]
)  # of the right side; the pelvis leans so that ASIS is over the pubis
_WING = smooth_polygon(
    [
        (-92, 42),  # posterior superior spine
        (-86, 16),
        (-70, 6),
        (-48, 8),  # greater sciatic notch
        (-30, -14),
        (0, -24),
        (26, -18),
        (40, -4),  # anterior inferior spine
        (45, 14),
        (64, 34),  # anterior superior spine
        (56, 62),
        (30, 90),
        (0, 102),
        (-32, 98),
        (-62, 80),
        (-84, 62),
    ]
)


def _mm(x: float, y: float, z: float) -> Array:
    return np.array([x, y, z], dtype=float)


def _wing() -> Part:
    """The wing of the right ilium."""
    at = frame((90, 15, -70), (0.494, 0.869, 0.0), (0.32, -0.14, 0.94))

    def bow(u: Array, v: Array) -> Array:
        # In front the wing curves towards the midline slowly, behind it bends to meet the sacrum.
        ahead, behind = -15.0 * (u / 75) ** 2, -17.0 * (1 - np.exp(-((u / 38) ** 2)))
        return np.where(u > 0, ahead, behind) - 4.0 * ((v - 45) / 55) ** 2 + 4.0

    def thick(u: Array, v: Array, edge: Array) -> Array:
        crest = 9.0 * np.exp(-((edge / 7) ** 2)) * (v > 25)
        root = 20.0 * np.exp(-(((u - 2) / 32) ** 2 + ((v + 18) / 26) ** 2))
        behind = 13.0 * np.exp(-(((u + 68) / 30) ** 2 + ((v - 38) / 30) ** 2))
        pillar = 4.0 * np.exp(-(((u - 22) / 14) ** 2))
        return 6.6 + crest + root + behind + pillar

    return plate(at, _WING, bow, thick, 2.0)


def hip() -> list[Solid]:
    """Right ilium, acetabulum, ischium and pubis, fused."""
    wing = _wing()
    joint, opening = HIP_JOINT, np.array([0.80, 0.30, -0.52])
    cup = ball(joint - 3.5 * opening, 34.5)
    column = tube(
        [(86, -4, -122), (74, -14, -152), (66, -16, -172)], [(17, 18), (14, 15), (15, 18)], (1, 0, 0)
    )
    tuber = ellipsoid(frame((61, -12, -180), (1, 0, 0), (0, 0.8, 0.6)), (13, 17, 17))
    ramus = tube(
        [(58, -4, -184), (40, 18, -172), (20, 38, -152)], [(8, 11), (5.5, 9), (6, 9)], (0.5, 0.4, 0.75)
    )
    pubis = tube([(82, 42, -104), (56, 55, -104), (30, 61, -114)], [(13, 13), (8, 8.5), (8, 9.5)], (0, 1, 0))
    body = block(frame((15.0, 53, -131), (1, 0, 0), (0, 0.94, 0.34)), (12.5, 8.5, 20.0), 5.0)
    return [
        Solid((wing,), 1.4),
        Solid((cup,), 1.4),
        Solid(column, 1.8),
        Solid((tuber,), 1.6),
        Solid(ramus, 1.6),
        Solid(pubis, 1.6),
        Solid((body,), 1.4),
        # The socket, and the way out of it for the neck of the femur.
        Solid((ball(joint, 27.0), *tube([joint, joint + 60 * opening], [25.5, 34])), 1.6, carve=True),
        # Nothing of it crosses the midline: the symphysis is 5 mm wide.
        Solid((block(frame((-47.5, 50, -130), (1, 0, 0), (0, 1, 0)), (50, 60, 60), 1.0),), 1.2, carve=True),
    ]


def femur() -> list[Solid]:
    """Right femur: head, neck, trochanters, bowed shaft and a plain lower end 455 mm below the joint."""
    joint = HIP_JOINT
    out = np.array([0.80, -0.18, -0.56])
    base = joint + 55 * out  # the axis of the shaft
    neck = tube([joint + 8 * out, joint + 26 * out, base], [(17, 19), (14, 16.5), (16, 21)], (0, 1, 0))
    greater = ellipsoid(frame(base + _mm(9, -6, 14), (1, 0, 0), (0, 1, 0)), (14, 19, 21))
    lesser = ellipsoid(frame(base + _mm(-17, -14, -34), (1, 0, 0), (0, 1, 0)), (9, 9, 12))
    line = [
        base + _mm(2, 0, -8),
        base + _mm(0, 2, -45),
        base + _mm(-10, 12, -150),
        base + _mm(-26, 10, -270),
        base + _mm(-36, 0, -350),
    ]
    shaft = tube(line, [(19, 19), (15.5, 16), (14, 14.5), (14.5, 15), (22, 19)], (1, 0, 0), step_mm=20)
    end = base + _mm(-42, -8, -392)
    condyles = (
        ellipsoid(frame(end + _mm(21, -4, 0), (1, 0, 0), (0, 1, 0)), (17, 30, 22)),
        ellipsoid(frame(end + _mm(-21, -4, 0), (1, 0, 0), (0, 1, 0)), (17, 30, 22)),
    )
    flare = tube([line[-1], end], [(24, 18), (36, 20)], (1, 0, 0))
    return [
        Solid((ball(joint, 24.0),), 1.0),
        Solid(neck, 1.8),
        Solid((greater,), 1.2),
        Solid((lesser,), 1.4),
        Solid(shaft, 5.5, hollow=True),
        Solid((*condyles, *flare), 1.4),
    ]


def sacrum() -> list[Solid]:
    """Five fused bodies with their wings as one curved plate, median crest, canal, foramina, coccyx.

    The middle of the end plate of S1 is the origin; the plate's axes are e1 right, e2 up along the bone and
    e3 backwards.
    """
    at = frame((0, -9, -9), (1, 0, 0), (0, 0.343, 0.939))
    right = [(26, 1), (45, -7), (57, -20), (56, -42), (47, -58), (38, -72), (30, -86), (21, -98), (11, -106)]
    outline = smooth_polygon([(0, 2), *right, (0, -108), *((-u, v) for u, v in right[::-1])])

    def front(u: Array, v: Array) -> Array:
        """The hollow pelvic face; the wings lie a little behind the bodies."""
        hollow = 15.0 * (1 - ((v + 52) / 52) ** 2)
        return np.asarray(hollow - np.interp(v, [-104, 0], [5.0, 15.0]) + 6.0 * (u / 50) ** 2)

    def deep(u: Array, v: Array) -> Array:
        middle = np.interp(v, [-108, -80, -50, -10, 5], [11.0, 21.0, 37.0, 47.0, 44.0])
        aside = np.clip((np.abs(u) - 14) / 20, 0, 1)
        return np.asarray(middle * (1 - 0.36 * aside**2 * (3 - 2 * aside)))

    bulk = plate(at, outline, lambda u, v: front(u, v) + deep(u, v) / 2, lambda u, v, _: deep(u, v), 6.0)
    top = drum(Frame(np.array([0.0, -7.0, -8.5]), tilted_axes(38.0, 0.0)), (26.0, 17.5, 9.0), 0.03, 0.9)
    crest = tube(
        at.mm([(0, -12, 32), (0, -40, 45), (0, -66, 42), (0, -88, 30)]), [(4, 6), (4, 7), (4, 6), (3, 4)]
    )
    coccyx = tube(at.mm([(0, -104, 4), (0, -116, -2), (0, -130, -14)]), [(10, 5.5), (8, 5), (4, 3.5)])
    solids = [Solid((bulk,), 1.3), Solid((top,), 1.0), Solid(crest, 1.2), Solid(coccyx, 1.0)]
    canal = tube(
        at.mm([(0, 20, 20), (0, -10, 22), (0, -40, 33), (0, -70, 31), (0, -92, 21)]),
        [(12, 6.5), (12, 6.5), (10, 5), (7, 3.5), (4, 2)],
    )
    holes: list[Part] = list(canal)
    joint = grown(_wing(), 2.0)  # the sacroiliac gap
    for side in (1, -1):
        holes.append(joint if side > 0 else mirrored(joint))
        facet = ellipsoid(Frame(np.array([side * 22.0, -38.0, 0.0]), WORLD), (6.0, 5.0, 9.0))
        solids.append(Solid((facet,), 1.2))
        for u, v, radius in ((21, -24, 4.5), (19, -46, 4.2), (17, -66, 3.6), (15, -84, 3.0)):
            back = float(front(np.array(u), np.array(v)) + deep(np.array(u), np.array(v)))
            holes += tube(
                at.mm([(side * (u + 3), v, back - 46), (side * u, v, back - 10), (side * u, v, back + 8)]),
                radius,
            )
    return [*solids, Solid(tuple(holes), 1.0, carve=True)]
