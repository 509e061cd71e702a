"""The disc between two vertebral bodies, found in the CT: where one ends and the next begins.

Along the column HU rise to an end plate, fall to the disc, rise to the other end plate, and fall to the
marrow, however dark the marrow or calcified the disc. A net that was shown dark discs between bright marrow
takes a thin bright disc for bone and puts the border at its upper plate; its names tell where to look.

Everything is in mm along the CT's canonical axes: to the right, to the front, to the head.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from petbone.anatomy import BY_NAME
from petbone.components import label_boxes
from petbone.net.border import NOT_BONE, FineGuide

F64 = npt.NDArray[np.floating[Any]]
RIM = 0.03  # of a body's voxels lie beyond its end
FROM_HEAD = [*(f"T{n}" for n in range(1, 14)), *(f"L{n}" for n in range(1, 7))]
"""Below the neck, whose discs are too thin and slanted for this."""
RARE = ("T13", "L6")


@dataclass(frozen=True)
class DiscRule:
    """Lengths in mm.

    A disc is looked for up to `reach` from the border of the names, within `radius` of the bodies' middle.
    Its end plates lie `half` to both sides, marrow starts `marrow` beyond them, and its plane may slope
    against the column by `slopes`. End plates are brighter than disc and marrow by `contrast_hu` or more; of
    two places the one further from the border of the names by `spread` needs `unlikely_hu` / 2 more.
    Bodies are what lies in front of `behind` behind the middles of the vertebrae. What is nearer to the
    plates than `plate` stays bone.
    """

    reach: float = 10.0
    radius: float = 9.0
    half: tuple[float, ...] = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
    marrow: float = 5.0
    slopes: tuple[float, ...] = (-0.3, -0.15, 0.0, 0.15, 0.3)
    contrast_hu: float = 25.0
    spread: float = 6.0
    unlikely_hu: float = 20.0
    behind: float = 3.0
    plate: float = 2.5
    least_voxels: int = 60  # of a vertebra, on the fine grid


@dataclass(frozen=True, eq=False)
class Disc:
    """`middle_mm` (3,), `across` (3,) of length 1 through the disc to the head, `half_mm` from its middle to
    its end plates, `contrast_hu` of these."""

    middle_mm: F64
    across: F64
    half_mm: float
    contrast_hu: float


def find_disc(
    view: npt.NDArray[np.generic],
    spacing_mm: F64,
    start_mm: F64,
    directions: tuple[F64, F64, F64],
    rule: DiscRule,
) -> Disc | None:
    """The disc near `start_mm`, the middle of the bodies at the border of the names; None where no pair of
    end plates is seen.

    `directions`, (3,) of length 1 each: along the column to the head, across it to the front, to the right.
    """
    up, front, right = directions
    side = np.arange(-rule.radius, rule.radius + 0.1, 2.0)
    to_right, to_front = (v.ravel() for v in np.meshgrid(side, side, indexing="ij"))
    inside = to_right**2 + to_front**2 <= rule.radius**2
    to_right, to_front = to_right[inside], to_front[inside]
    far = np.ceil(rule.reach + max(rule.half) + rule.marrow + 2 * max(rule.slopes) * rule.radius)
    along = np.arange(-far, far + 1)
    beside = to_right[:, None] * right + to_front[:, None] * front
    hu = _hu_at(view, (start_mm + along[:, None, None] * up + beside) / spacing_mm)
    where = np.arange(-rule.reach, rule.reach + 0.1, 0.5)
    found: list[tuple[float, Disc]] = []
    for slope_right in rule.slopes:
        for slope_front in rule.slopes:
            profile = _profile(hu, along, slope_right * to_right + slope_front * to_front)
            across = up - slope_right * right - slope_front * front
            across /= np.linalg.norm(across)
            for half in rule.half:
                contrast = _contrast(profile, along, where, half, rule.marrow)
                score = contrast - rule.unlikely_hu / 2 * (where / rule.spread) ** 2
                k = int(score.argmax())
                disc = Disc(start_mm + where[k] * up, across, half, float(contrast[k]))
                found.append((float(score[k]), disc))
    best = max(found, key=lambda one: one[0])[1]
    return best if best.contrast_hu >= rule.contrast_hu else None


def _hu_at(view: npt.NDArray[np.generic], places: F64) -> npt.NDArray[np.float32]:
    """HU at voxels `places` (..., 3), limited to what bone has; past the CT its border goes on."""
    flat = places.reshape(-1, 3)
    last = np.array(view.shape) - 1
    low = np.floor(flat.min(0)).astype(int).clip(0, last)
    high = np.ceil(flat.max(0)).astype(int).clip(0, last) + 1
    part = np.asarray(view[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], np.float32)
    part = np.nan_to_num(part, nan=-200.0).clip(-200, 600)
    at = np.moveaxis(places - low, -1, 0)
    return np.asarray(ndimage.map_coordinates(part, at, np.float32, order=1, mode="nearest"))


def _profile(hu: npt.NDArray[np.float32], along: F64, shift: F64) -> F64:
    """Mean HU (places along the column,) of lines (places, lines) that are `shift` (lines,) mm too high."""
    at = np.arange(len(along))[:, None] + shift / (along[1] - along[0])
    low = np.floor(at).astype(np.intp).clip(0, len(along) - 2)
    part = (at - low).clip(0, 1)
    line = np.arange(hu.shape[1])
    return np.asarray(((1 - part) * hu[low, line] + part * hu[low + 1, line]).mean(1))


def _contrast(profile: F64, along: F64, where: F64, half: float, marrow: float) -> F64:
    """By how much the darker of two end plates outshines the mean of disc and marrow, at each of `where`."""

    def at(places: F64) -> F64:
        return np.interp(places, along, profile)

    plates = np.minimum(at(where - half), at(where + half))
    bodies = (at(where - half - marrow) + at(where + half + marrow)) / 2
    return np.asarray(plates - (at(where) + bodies) / 2)


def part_at_discs(
    view: npt.NDArray[np.generic], spacing_mm: F64, fine: FineGuide, rule: DiscRule
) -> FineGuide:
    """`fine` with the bodies of thoracic and lumbar vertebrae parted at their discs, which are no bone.

    What lies behind the bodies keeps its name: arches and processes overlap the next vertebra.
    """
    boxes = label_boxes(fine.labels)
    labels, logit = fine.labels.copy(), fine.logit.copy()
    for upper, lower in pairwise(_levels(boxes)):
        if upper not in boxes or lower not in boxes:
            continue
        voxels = [
            np.argwhere(fine.labels[box] == label) + [s.start for s in box]
            for label, box in ((upper, boxes[upper]), (lower, boxes[lower]))
        ]
        if min(len(index) for index in voxels) < rule.least_voxels:
            continue
        pair_mm = [(index - fine.offset) / fine.scale * spacing_mm for index in voxels]
        way_mm = pair_mm[0].mean(0) - pair_mm[1].mean(0)
        middle_mm = pair_mm[1].mean(0) + way_mm / 2
        directions = _directions(way_mm)
        start_mm = _start_mm(pair_mm, middle_mm, directions, rule)
        if start_mm is None:
            continue
        disc = find_disc(view, spacing_mm, start_mm, directions, rule)
        if disc is None:
            continue
        for other, sign, index, own_mm in zip((lower, upper), (1, -1), voxels, pair_mm, strict=True):
            height_mm = sign * ((own_mm - disc.middle_mm) @ disc.across)
            body = (own_mm - middle_mm) @ directions[1] > -rule.behind
            labels[tuple(index[body & (height_mm < 0)].T)] = other
            logit[tuple(index[body & (np.abs(height_mm) < disc.half_mm - rule.plate)].T)] = NOT_BONE
    return replace(fine, labels=labels, logit=logit)


def _levels(found: Container[int]) -> list[int]:
    """Labels of `FROM_HEAD`; of the levels that most people lack those that were found."""
    labels = [(name, BY_NAME[name].id) for name in FROM_HEAD]
    return [label for name, label in labels if name not in RARE or label in found]


def _start_mm(
    pair_mm: Sequence[F64], middle_mm: F64, directions: tuple[F64, F64, F64], rule: DiscRule
) -> F64 | None:
    """The middle of two vertebrae's bodies at the border between their names; None where there is no body.

    `pair_mm`: voxels (n, 3) of the upper and the lower one.
    """
    up, front, right = directions
    bodies = [mm - middle_mm for mm in pair_mm]
    bodies = [mm[mm @ front > 0] for mm in bodies]
    if min(len(mm) for mm in bodies) < rule.least_voxels:
        return None
    border = (np.quantile(bodies[0] @ up, RIM) + np.quantile(bodies[1] @ up, 1 - RIM)) / 2
    both = np.concatenate(bodies)
    return np.asarray(
        middle_mm + border * up + np.median(both @ front) * front + np.median(both @ right) * right
    )


def _directions(way_mm: F64) -> tuple[F64, F64, F64]:
    """Along a `way_mm` to the head, and across it to the front and to the right."""
    up = way_mm / np.linalg.norm(way_mm)
    front = np.array([0.0, 1.0, 0.0]) - up[1] * up
    front /= np.linalg.norm(front)
    return up, front, np.cross(front, up)
