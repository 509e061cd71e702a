"""Hip bones and femora. Built on the right in the frame of the sacrum's end plate, then mirrored."""

from __future__ import annotations

import numpy as np

from petbone.phantom.solids import (
    Array,
    Solid,
    ball,
    block,
    ellipsoid,
    frame,
    mirrored,
    plate,
    smooth_polygon,
    tube,
)

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


def _on_side(solids: list[Solid], side: int) -> list[Solid]:
    return [Solid(tuple(mirrored(p, side) for p in s.parts), s.cortex_mm, s.carve) for s in solids]


def hip(side: int) -> list[Solid]:
    """Ilium, acetabulum, ischium and pubis, fused."""
    at = frame((90, 15, -70), (0.494, 0.869, 0.0), (0.32, -0.14, 0.94))

    def bow(u: Array, v: Array) -> Array:
        return -15.0 * (u / 75) ** 2 - 4.0 * ((v - 45) / 55) ** 2 + 4.0

    def thick(u: Array, v: Array, edge: Array) -> Array:
        crest = 9.0 * np.exp(-((edge / 7) ** 2)) * (v > 25)
        root = 20.0 * np.exp(-(((u - 2) / 32) ** 2 + ((v + 18) / 26) ** 2))
        behind = 13.0 * np.exp(-(((u + 78) / 24) ** 2 + ((v - 38) / 30) ** 2))
        pillar = 4.0 * np.exp(-(((u - 22) / 14) ** 2))
        return 6.0 + crest + root + behind + pillar

    wing = plate(at, _WING, bow, thick, 2.0)
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
    body = block(frame((14.0, 53, -131), (1, 0, 0), (0, 0.94, 0.34)), (11.0, 8.5, 19.0), 5.0)
    solids = [
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
    return _on_side(solids, side)


def femur(side: int) -> list[Solid]:
    """Head, neck, trochanters, bowed shaft and a plain lower end 455 mm below the joint."""
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
    solids = [
        Solid((ball(joint, 24.0),), 1.0),
        Solid(neck, 1.8),
        Solid((greater,), 1.2),
        Solid((lesser,), 1.4),
        Solid(shaft, 5.5),
        Solid((*condyles, *flare), 1.4),
    ]
    return _on_side(solids, side)
