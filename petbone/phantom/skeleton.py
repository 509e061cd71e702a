"""All 62 bones as solids, with named places inside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petbone.anatomy import BY_NAME
from petbone.phantom import head as head_
from petbone.phantom import pelvis, thorax
from petbone.phantom import shoulder as shoulder_
from petbone.phantom.solids import Array, Part, Solid, mirror_image
from petbone.phantom.spine import Vertebra, stack, vertebra


@dataclass(frozen=True)
class Shape:
    """How one skeleton differs from the next: curves of the spine and position of the arms."""

    kyphosis: float = 1.0
    lordosis: float = 1.0
    scoliosis_deg: float = 0.0
    arms_up: bool = True


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Solids of every bone by label, places (mm) well inside them by name, and what hangs on them."""

    solids: dict[int, list[Solid]]
    places: dict[str, Array]
    spine: dict[str, Vertebra]
    sternum: thorax.Sternum
    shoulder: shoulder_.Shoulder
    head: head_.Head
    cartilages: tuple[tuple[Part, ...], ...]
    rib_lines: dict[str, Array]


def build(shape: Shape) -> Skeleton:
    """The skeleton of a person of 1.75 m; world millimetres, RAS, origin at the top of the sacrum."""
    spine = stack(shape.kyphosis, shape.lordosis, shape.scoliosis_deg)
    breast = thorax.sternum_frame(spine)
    shoulder = shoulder_.shoulder(spine, shape.arms_up)
    skull = head_.head(spine["C1"])
    named: dict[str, list[Solid]] = {name: vertebra(v) for name, v in spine.items()}
    named |= {"sacrum": pelvis.sacrum(), "sternum": thorax.sternum(breast)}
    named |= {"skull": head_.skull(skull), "mandible": head_.mandible(skull)}
    lines, cartilages = {}, []
    for side, word in ((1, "right"), (-1, "left")):
        for n in range(1, 13):
            named[f"rib_{word}_{n}"] = thorax.rib(n, side, spine[f"T{n}"], breast)
            lines[f"rib_{word}_{n}"] = thorax.rib_line(n, side, spine[f"T{n}"], breast)
        mirror = np.array([side, 1, 1])
        named[f"clavicle_{word}"] = shoulder_.clavicle(side, breast, shoulder.acromion * mirror)
        cartilages += thorax.cartilages(side, spine, breast)
    right = {
        "scapula": shoulder_.scapula(shoulder),
        "humerus": shoulder_.humerus(shoulder),
        "hip": pelvis.hip(),
        "femur": pelvis.femur(),
    }
    for name, solid in right.items():
        named[f"{name}_right"], named[f"{name}_left"] = solid, mirror_image(solid)
    places = _places(spine, breast, shoulder, skull, lines)
    solids = {BY_NAME[name].id: list(parts) for name, parts in named.items()}
    return Skeleton(
        dict(sorted(solids.items())), places, spine, breast, shoulder, skull, tuple(cartilages), lines
    )


def _places(
    spine: dict[str, Vertebra],
    breast: thorax.Sternum,
    shoulder: shoulder_.Shoulder,
    skull: head_.Head,
    lines: dict[str, Array],
) -> dict[str, Array]:
    places = {name: v.at.origin for name, v in spine.items()}
    places |= {"sternum": breast.at.mm([0, -2, -70]), "sacrum": np.array([36.0, -20, -28])}
    places |= {"skull": skull.mm(0, -90, 10), "mandible": skull.mm(0, 88, -114)}
    places |= {name: line[4] for name, line in lines.items()}
    for side, word in ((1, "right"), (-1, "left")):
        mirror = np.array([side, 1, 1])
        places[f"hip_{word}"] = np.array([84.0, 0, -70]) * mirror
        places[f"femur_{word}"] = (pelvis.HIP_JOINT + np.array([46.0, -8, -35])) * mirror
        places[f"humerus_{word}"] = shoulder.head * mirror
        places[f"scapula_{word}"] = shoulder.at.mm([92, -6, 0]) * mirror
    return places
