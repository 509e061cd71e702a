"""Clavicles, scapulae and humeri, for arms above the head or beside the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petbone.phantom.solids import Array, Frame, Solid, ball, ellipsoid, frame, plate, smooth_polygon, tube
from petbone.phantom.spine import Vertebra
from petbone.phantom.thorax import Sternum


def clavicle(side: int, s: Sternum, shoulder: Array) -> list[Solid]:
    """S-shaped bone from the manubrium to `shoulder` (3,), the acromion's front."""
    start = s.at.mm([side * 33.0, 2, 56])
    along = 0.96 * (shoulder - start)  # stops short of the acromion
    bow = np.array([0.0, 1.0, 0.5])
    line = [
        start,
        start + 0.3 * along + 9 * bow,
        start + 0.55 * along + 2 * bow,
        start + 0.8 * along - 7 * bow,
        start + along,
    ]
    sizes = [(10.0, 11.0), (6.0, 6.5), (5.2, 6.0), (5.0, 7.5), (4.5, 9.0)]
    return [Solid(tube(line, sizes, (0, 0, 1.0), step_mm=9.0), 1.8)]


@dataclass(frozen=True, eq=False)
class Shoulder:
    """Frame of a right scapula (e1 from its inner border to the glenoid, e2 up, e3 backwards), and arm."""

    at: Frame
    arm: Array  # direction of the humerus, (3,)

    @property
    def head(self) -> Array:
        """Middle of the humeral head."""
        return self.at.mm([128, -4, -6])

    @property
    def acromion(self) -> Array:
        """Front of the acromion, where the clavicle ends."""
        return self.at.mm([113, 45, -2])


def shoulder(spine: dict[str, Vertebra], arms_up: bool) -> Shoulder:
    """The right shoulder for arms above the head or beside the body."""
    t3 = spine["T3"].at.origin
    turn = np.radians(34.0 if arms_up else 4.0)
    across, up = np.array([0.80, 0.60, 0.0]), np.array([0.0, 0.10, 1.0])
    e1 = np.cos(turn) * across + np.sin(turn) * up
    e2 = np.cos(turn) * up - np.sin(turn) * across
    at = frame(t3 + np.array([74.0, -70.0 if arms_up else -78.0, 0.0]), e1, e2)
    arm = np.array([0.14, 0.22, 0.96]) if arms_up else np.array([0.22, -0.05, -0.97])
    # e1 x e2 of the right side points backwards only if the frame is left-handed.
    axes = at.axes * np.array([[1.0], [1.0], [np.sign(-at.axes[2, 1])]])
    return Shoulder(Frame(at.origin, axes), arm / np.linalg.norm(arm))


def scapula(sh: Shoulder) -> list[Solid]:
    """Right scapula: blade, its thick outer border, spine with acromion, coracoid and glenoid."""
    at = sh.at
    blade = smooth_polygon(
        [
            (0, 0),
            (4, 24),
            (14, 42),
            (30, 44),
            (55, 32),
            (78, 22),
            (92, 12),
            (96, -14),
            (84, -32),
            (60, -66),
            (38, -98),
            (20, -112),
            (8, -100),
            (1, -50),
        ]
    )

    def bow(u: Array, v: Array) -> Array:
        return 7.0 - 9.0 * ((u - 45) / 50) ** 2 * 0.6 - 6.0 * ((v + 40) / 75) ** 2

    def thick(u: Array, v: Array, edge: Array) -> Array:
        outer = np.exp(-((((u - 62) * 0.79 + (v + 62) * -0.61) / 7.0) ** 2)) * (u > 15)
        return (
            3.6
            + 6.0 * outer
            + 1.5 * np.exp(-((edge / 4) ** 2))
            + 7.0 * np.exp(-(((u - 98) / 14) ** 2 + ((v + 2) / 20) ** 2))
        )

    ridge = tube(
        at.mm([(2, 4, 6), (30, 10, 12), (60, 18, 19), (84, 26, 23)]),
        [(3, 5), (3.2, 8), (3.4, 10), (4.5, 8)],
        at.axes[1],
        8.0,
    )
    acromion = tube(
        at.mm([(84, 26, 23), (104, 34, 22), (116, 40, 10)]), [(4.5, 9), (4.5, 11), (4.0, 9)], at.axes[1], 8.0
    )
    coracoid = tube(
        at.mm([(90, 10, -4), (95, 18, -18), (106, 14, -34)]),
        [(7.5, 7.5), (6.5, 6.0), (5.5, 5.0)],
        at.axes[0],
        8.0,
    )
    glenoid = ellipsoid(Frame(at.mm([96.5, -4, -3]), at.axes), (6.0, 19.0, 14.0))
    return [
        Solid((plate(at, blade, bow, thick, 1.2),), 1.3),
        Solid(ridge, 1.5),
        Solid(acromion, 1.5),
        Solid(coracoid, 1.3),
        Solid((glenoid,), 1.3),
        Solid((ball(sh.head, 26.5),), 1.3, carve=True),
    ]


def humerus(sh: Shoulder) -> list[Solid]:
    """Right humerus: head, tubercles, shaft and a plain lower end."""
    head, arm = sh.head, sh.arm
    out = sh.at.axes[0]
    top = head + 9 * out + 6 * arm
    elbow = top + 285 * arm
    side_axis = np.cross(arm, (0, 1, 0))
    shaft = tube(
        [top + 12 * arm, top + 60 * arm, top + 190 * arm, elbow - 25 * arm],
        [(16, 16), (11.5, 11.5), (10.5, 10.5), (14, 10)],
        side_axis,
    )
    lower = tube([elbow - 25 * arm, elbow], [(14, 10), (28, 10)], side_axis)
    tubercles = ellipsoid(frame(top + 2 * out, out, (0, 1, 0)), (17, 18, 18))
    return [
        Solid((ball(head, 23.0), tubercles), 1.2),
        Solid(shaft, 4.0, hollow=True),
        Solid(lower, 1.6),
    ]
