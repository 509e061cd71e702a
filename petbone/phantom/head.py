"""Skull and mandible, placed on the atlas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petbone.phantom.solids import WORLD, Array, Frame, Part, Solid, block, drum, ellipsoid, frame, tube
from petbone.phantom.spine import Vertebra


@dataclass(frozen=True, eq=False)
class Head:
    """Middle of the brain case (3,) mm; the head is upright and looks to the front."""

    centre: Array

    def mm(self, x: float, y: float, z: float) -> Array:
        """World position relative to the middle of the brain case."""
        return np.asarray(self.centre + np.array([x, y, z], dtype=float))

    def at(self, x: float, y: float, z: float) -> Frame:
        """Upright frame at a position relative to the middle of the brain case."""
        return Frame(self.mm(x, y, z), WORLD)


def head(atlas: Vertebra) -> Head:
    """The foramen magnum lies above the canal of the atlas."""
    return Head(atlas.at.origin + np.array([0.0, 6.0, 74.0]))


BRAIN_MM = (68.0, 86.0, 64.0)


def brain(h: Head) -> tuple[Part, ...]:
    """Inside of the brain case: the hemispheres and the posterior fossa."""
    return (ellipsoid(h.at(0, -2, 4), BRAIN_MM), ellipsoid(h.at(0, -32, -26), (52, 48, 34)))


def skull(h: Head) -> list[Solid]:
    """Brain case, base, face and cheek bones; jaw and teeth of the upper jaw included."""
    case = ellipsoid(h.at(0, -2, 4), tuple(r + 6.5 for r in BRAIN_MM))
    fossa = ellipsoid(h.at(0, -32, -26), (57.5, 53.5, 39.5))
    solids = [Solid((case, fossa), 2.0)]
    for side in (1, -1):
        solids.append(Solid((ellipsoid(h.at(side * 57, -23, -46), (12, 17, 25)),), 1.5))  # mastoid, petrous
        petrous = tube([h.mm(side * 55, -8, -42), h.mm(side * 22, 14, -40)], 9.0)
        solids.append(Solid(petrous, 2.5))
        cheek = tube(
            [
                h.mm(side * 66, 8, -40),
                h.mm(side * 66, 38, -40),
                h.mm(side * 54, 66, -40),
                h.mm(side * 36, 76, -48),
            ],
            [(3.0, 5), (2.6, 5), (5, 9), (6, 10)],
            (1, 0, 0),
            step_mm=12,
        )
        solids.append(Solid(cheek, 1.5))
        solids.append(
            Solid(tube([h.mm(side * 54, 66, -40), h.mm(side * 54, 66, -8)], (5, 5)), 1.5)
        )  # orbit's side
        solids.append(
            Solid(tube([h.mm(side * 24, 26, -42), h.mm(side * 22, 24, -74)], (3.5, 10), (1, 0, 0)), 1.2)
        )
    solids += [
        Solid((block(h.at(0, 30, -40), (26, 26, 7), 4),), 1.4),  # sphenoid
        Solid(tube([h.mm(0, 6, -58), h.mm(0, 26, -40)], (14, 7), (1, 0, 0)), 1.4),  # clivus
        Solid((drum(h.at(0, 62, -58), (38, 34, 26), 0.0, 0.9, 6.0),), 1.2),  # upper jaw
        Solid((drum(h.at(0, 62, -84), (29, 32, 9), 0.0, 0.6, 4.0),), 2.0),  # tooth row
        Solid(tube([h.mm(0, 88, -26), h.mm(0, 99, -42)], (7, 5), (1, 0, 0)), 1.5),  # nose
        Solid((block(h.at(0, 72, -20), (46, 14, 9), 5),), 1.5),  # brow
    ]
    holes: list[Part] = [*brain(h), ellipsoid(h.at(0, -24, -66), (15, 18, 22))]  # foramen magnum
    for side in (1, -1):
        socket = frame(h.mm(side * 31, 66, -28), (side * 0.35, 0.94, -0.1), (0, 0.1, 1))
        holes += [ellipsoid(socket, (28, 17.5, 18)), ellipsoid(h.at(side * 23, 60, -62), (12, 16, 15))]
    holes += [ellipsoid(h.at(0, 62, -60), (9, 42, 20)), ellipsoid(h.at(0, 32, -42), (14, 12, 5))]
    # Below the teeth the palate is open to the mouth.
    holes.append(ellipsoid(h.at(0, 52, -94), (20, 30, 13)))
    return [*solids, Solid(tuple(holes), 1.4, carve=True)]


def mandible(h: Head) -> list[Solid]:
    """Condyles, rami and a U-shaped body with its teeth."""
    arch = [
        h.mm(47, 12, -100),
        h.mm(42, 34, -108),
        h.mm(30, 66, -112),
        h.mm(14, 84, -114),
        h.mm(0, 88, -114),
        h.mm(-14, 84, -114),
        h.mm(-30, 66, -112),
        h.mm(-42, 34, -108),
        h.mm(-47, 12, -100),
    ]
    outward = np.array([[1, 0.2, 0], [1, 0.2, 0], [0.9, 0.5, 0], [0.5, 0.9, 0], [0, 1, 0]], float)
    normals = np.concatenate([outward, outward[-2::-1] * [-1, 1, 1]])
    solids = [Solid(tube(arch, (5.5, 13.5), normals, step_mm=8), 2.2)]
    for side in (1, -1):
        ramus = tube([h.mm(side * 47, 10, -98), h.mm(side * 49, 8, -62)], (4.5, 16), (1, 0, 0))
        condyle = tube([h.mm(side * 49, 2, -76), h.mm(side * 49, 0, -61)], (7, 5), (1, 0, 0))
        coronoid = tube([h.mm(side * 48, 20, -70), h.mm(side * 47, 24, -50)], (3, 6), (1, 0, 0))
        solids += [Solid(ramus, 1.8), Solid(condyle, 1.4), Solid(coronoid, 1.4)]
    return solids
