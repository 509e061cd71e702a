"""Ribs tied to their vertebrae, sternum and costal cartilage.

Everything is built from the frames of the vertebrae, so that it follows when the spine is bent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petbone.phantom.solids import (
    Array,
    Frame,
    Part,
    Solid,
    frame,
    plate,
    smooth_polygon,
    tube,
)
from petbone.phantom.spine import Vertebra

# rib: half width of the chest at its side, how far its angle lies behind the middle of the body,
# drop from its head to its side, section (thickness, height); all mm
_RIBS = np.array(
    [
        [58, 40, 14, 5.8, 11.6],
        [86, 48, 30, 6.8, 11.6],
        [105, 54, 38, 7.3, 12.1],
        [118, 59, 43, 7.8, 13.1],
        [127, 63, 48, 8.1, 14.1],
        [134, 66, 53, 8.3, 14.6],
        [139, 68, 57, 8.5, 15.1],
        [142, 69, 60, 8.5, 15.1],
        [142, 68, 60, 8.3, 14.6],
        [139, 66, 58, 7.8, 13.6],
        [117, 62, 58, 7.3, 12.6],
        [106, 58, 58, 6.3, 11.1],
    ]
)
# how far the front ends lie to the side of the midline, and how far below the sternal angle (ribs 1-7)
_END_X = (36, 58, 70, 80, 90, 98, 104, 111, 118, 124)
_JOINT_DOWN = (-38, 0, 25, 48, 67, 83, 97)
_CLIMB = (-4, 2, 4, 8, 18, 34, 54)


@dataclass(frozen=True, eq=False)
class Sternum:
    """Frame of the sternum: origin at the sternal angle, e1 right, e2 to the front, e3 up."""

    at: Frame


def sternum_frame(spine: dict[str, Vertebra]) -> Sternum:
    """The sternal angle lies in front of the disc between T4 and T5, the notch before T2 and T3."""
    level = 0.5 * (spine["T4"].at.origin + spine["T5"].at.origin)
    origin = level + np.array([0.0, 98.0, 0.0])
    return Sternum(frame(origin, (1, 0, 0), (0, 0.956, 0.292)))


def sternum(s: Sternum) -> list[Solid]:
    """Manubrium, body and xiphoid process, fused."""
    manubrium = smooth_polygon(
        [
            (-13, 0),
            (-20, 18),
            (-31, 34),
            (-27, 46),
            (-14, 50),
            (0, 45),
            (14, 50),
            (27, 46),
            (31, 34),
            (20, 18),
            (13, 0),
        ]
    )
    body = smooth_polygon(
        [
            (-12, 4),
            (-14, -15),
            (-16, -40),
            (-20, -68),
            (-19, -88),
            (-11, -103),
            (0, -106),
            (11, -103),
            (19, -88),
            (20, -68),
            (16, -40),
            (14, -15),
            (12, 4),
        ]
    )
    face = frame(s.at.origin, s.at.axes[0], s.at.axes[2])  # e3 = e1 x up points backwards
    parts = (
        plate(face, manubrium, lambda u, v: 0 * u + 0.12 * v, lambda u, v, _: 13.5 + 0 * u + 0 * v, 4.0),
        plate(face, body, lambda u, v: 0.0008 * v**2 + 0 * u, lambda u, v, _: 11.5 + 0 * u + 0 * v, 4.0),
    )
    xiphoid = tube(s.at.mm([(0, -8, -100), (0, -12, -128)]), [(8, 4), (5, 3)], s.at.axes[0])
    return [Solid(parts, 1.0), Solid(xiphoid, 1.0)]


def rib_line(n: int, side: int, v: Vertebra, s: Sternum) -> Array:
    """Knots of rib `n` (1-12) from its head to its front end; (k, 3) world mm."""
    half, back, drop = _RIBS[n - 1, :3]
    head_z = v.height / 2 + 1 if 2 <= n <= 10 else 2.0
    head = v.mm(side * (v.width / 2 + 3.5), -v.depth / 2 + 5, head_z)
    reach = 37.0 - 0.8 * n if n < 11 else 24.0
    tubercle = v.mm(side * (reach + 2), -v.depth / 2 - 17.0, head_z - 2 if n > 1 else 7.0)
    centre = v.at.origin
    behind = centre[1] - back
    front = _front_end(n, side, v, s)
    middle_y = 0.5 * (behind + front[1]) if n < 11 else centre[1] + 22
    deep = middle_y - behind
    lateral_z = head[2] - drop

    def ring(angle_deg: float, share: float) -> Array:
        """Point of the ring round the chest; 0 deg behind, 90 deg at the side; `share` of the drop."""
        a = np.radians(angle_deg)
        x = centre[0] + side * half * abs(np.sin(a)) ** 0.85
        y = middle_y - deep * np.sign(np.cos(a)) * abs(np.cos(a)) ** 0.85
        return np.array([x, y, head[2] - share * drop])

    knots = [head, tubercle]
    if n == 1:
        return np.array([*knots, ring(62, 0.2), ring(95, 0.7), ring(125, 1.2), front])
    knots += [ring(31, 0.22), ring(58, 0.6)]
    if n == 12:
        return np.array([*knots, ring(66, 0.85)])
    knots += [ring(90, 1.0)] if n < 11 else [ring(82, 1.05)]
    if n == 11:
        return np.array([*knots, ring(97, 1.35)])
    # From the side to the front end along the ring, the drop going on smoothly.
    end_angle = 180 - np.degrees(np.arcsin(min(abs(front[0] - centre[0]) / half, 1.0) ** (1 / 0.85)))
    for part in (0.35, 0.7):
        point = ring(90 + part * (end_angle - 90), 1.0)
        point[2] = lateral_z + part * (front[2] - lateral_z)
        knots.append(point)
    return np.array([*knots, front])


def _front_end(n: int, side: int, v: Vertebra, s: Sternum) -> Array:
    """Where the bone of a rib ends and its cartilage begins."""
    if n <= 7:
        joint = s.at.mm([0, 0, -_JOINT_DOWN[n - 1]])
        back = (4, 7, 10, 14, 19, 25, 33)[n - 1]
        return np.array([joint[0] + side * _END_X[n - 1], joint[1] - back, joint[2] - _CLIMB[n - 1]])
    below = v.at.origin[2] - {8: 104, 9: 100, 10: 88}.get(n, 0)
    low_end = s.at.mm([0, 0, -97])
    back = {8: 46, 9: 62, 10: 82}.get(n, 0)
    return np.array([low_end[0] + side * _END_X[min(n, 10) - 1], low_end[1] - back, below])


def rib(n: int, side: int, v: Vertebra, s: Sternum) -> list[Solid]:
    """One rib: a tube of elliptic section along `rib_line`, thinner at the neck."""
    knots = rib_line(n, side, v, s)
    thick, tall = _RIBS[n - 1, 3:] / 2
    sizes = np.full((len(knots), 2), (thick, tall))
    sizes[0], sizes[1] = (4.2, 5.0), (min(thick, 4.2), min(tall, 5.5))
    sizes[-1] = (thick, tall)
    # The thin direction points away from the middle of the chest; rib 1 lies flat, thin along z.
    middle = np.array([v.at.origin[0], knots[:, 1].mean(), 0.0])
    normals = (knots - middle) * np.array([1.0, 1.0, 0.0])
    if n == 1:
        normals = np.array([[0.0, 0.3, 1.0]] * len(knots))
    return [Solid(tube(knots, sizes, normals, step_mm=7.0), 1.0)]


def cartilages(side: int, spine: dict[str, Vertebra], s: Sternum) -> list[tuple[Part, ...]]:
    """Costal cartilage of ribs 1 to 10 of one side."""
    found = []
    ends = {n: rib_line(n, side, spine[f"T{n}"], s)[-1] for n in range(1, 11)}
    width = (27, 13, 16, 18, 20, 20, 13)
    for n in range(1, 8):
        joint = s.at.mm([side * (width[n - 1] + 3.0), -2, -_JOINT_DOWN[n - 1]])
        middle = 0.5 * (ends[n] + joint) - np.array([0, 0, 0.35 * max(_CLIMB[n - 1], 0)])
        found.append(tube([ends[n], middle, joint], (4.0, 6.0), (0, 1, 0.0), step_mm=8.0))
    for n in range(8, 11):
        found.append(
            tube(
                [
                    ends[n],
                    0.45 * ends[n] + 0.55 * ends[n - 1] + [-side * 10, 4, -4],
                    ends[n - 1] + [-side * 20.0, 6, -2],
                ],
                (4.0, 5.0),
                (0, 1, 0.0),
            )
        )
    return found
