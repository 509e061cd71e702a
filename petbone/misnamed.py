"""Bones that two dates may have named otherwise: a whole column one level off looks like foci gone and new.

Every bone goes with the bone of its name, so a series of vertebrae misnamed by one level at one date goes by
one level, and its hotspots with it. The ribs beside them tell, where they are named rightly.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from scipy.spatial import cKDTree

from petbone.anatomy import BY_ID, BY_NAME, family
from petbone.bone_motion import BoneMotion
from petbone.matching import NEAR_MM
from petbone.volume import Volume

AROUND_MM = 120.0
"""Farther away another bone's motion is no guide."""
APART_MM = 12.0
"""Half a level: by more than this a vertebra does not part from its own ribs."""
_FEWEST = 3  # levels
_TRUNK = ("sternum", "sacrum", "hip_left", "hip_right")

Array = npt.NDArray[np.float64]


def perhaps_same(
    hotspots: tuple[Volume, Volume],
    numbers: tuple[list[int], list[int]],
    motions: Mapping[int, BoneMotion],
    middles_mm: Mapping[int, Array],
) -> list[tuple[int, int]]:
    """Pairs of the hotspots `numbers` that come within `matching.NEAR_MM` by the motion of another bone.

    `middles_mm`: of the bones at the first date. Tried are the nearest vertebrae, ribs and other bones of the
    trunk, two of each kind and within `AROUND_MM`; a hotspot has one partner at most, the nearest.
    """
    if not numbers[0] or not numbers[1]:
        return []
    firsts, seconds = (_points(volume, some) for volume, some in zip(hotspots, numbers, strict=True))
    trees = [cKDTree(mm) for mm in seconds]
    low = np.array([mm.min(axis=0) for mm in seconds]) - NEAR_MM
    high = np.array([mm.max(axis=0) for mm in seconds]) + NEAR_MM
    score = np.zeros((len(firsts), len(seconds)))
    for i, mm in enumerate(firsts):
        for motion in _guides(mm.mean(axis=0), motions, middles_mm):
            there = _moved(mm, motion)
            near = (there.max(axis=0) >= low).all(axis=1) & (there.min(axis=0) <= high).all(axis=1)
            for j in np.flatnonzero(near):
                gap = float(trees[j].query(there, distance_upper_bound=NEAR_MM)[0].min())
                score[i, j] = max(score[i, j], 1 - gap / (2 * NEAR_MM) if gap <= NEAR_MM else 0)
    from scipy.optimize import linear_sum_assignment  # paid for by those who have two examinations

    rows, columns = linear_sum_assignment(-score)
    pairs = zip(rows, columns, strict=True)
    return [(numbers[0][i], numbers[1][j]) for i, j in pairs if score[i, j] > 0]


def column_note(motions: Mapping[int, BoneMotion], middles_mm: Mapping[int, Array]) -> str:
    """What to warn of where the vertebrae went elsewhere than the ribs of their levels; else empty.

    Of at least three levels whose vertebra and rib were laid by themselves, the median distance between where
    the vertebra and where its ribs take the middle of the vertebra must be above `APART_MM`.
    """
    away = []
    for level in range(1, 13):
        vertebra = BY_NAME[f"T{level}"].id
        ribs = [BY_NAME[f"rib_{side}_{level}"].id for side in ("left", "right")]
        laid = [motions[n].second_mm_from_first_mm for n in ribs if n in motions and motions[n].own]
        if laid and vertebra in middles_mm and vertebra in motions and motions[vertebra].own:
            middle = middles_mm[vertebra]
            by_ribs = np.mean([_moved(middle, motion) for motion in laid], axis=0)
            away.append(_moved(middle, motions[vertebra].second_mm_from_first_mm) - by_ribs)
    if len(away) < _FEWEST:
        return ""
    apart_mm = float(np.linalg.norm(np.median(away, axis=0)))
    if apart_mm <= APART_MM:
        return ""
    return (
        f"THE VERTEBRAE WENT {apart_mm:.0f} mm ELSEWHERE THAN THE RIBS OF THEIR LEVELS: one of the two is "
        "perhaps named a level off in one of the CTs, and hotspots in them may have the wrong partners or "
        "seem new or gone"
    )


def noted(changes: pd.DataFrame, pairs: list[tuple[int, int]]) -> pd.DataFrame:
    """The rows of `change.hotspot_changes` with ``perhaps_same`` (the other date's number) and a note."""
    table = changes.copy()
    partner = {"1": dict(pairs), "2": {two: one for one, two in pairs}}
    for suffix, date in (("1", "second"), ("2", "first")):
        alone = table["relation"] == ("first only" if suffix == "1" else "second only")
        for at in table.index[alone]:
            other = partner[suffix].get(int(table[f"hotspot_{suffix}"].loc[at]))
            if other is None:
                continue
            said = (
                f"perhaps the same focus as hotspot {other} of the {date} date: they lie within "
                f"{NEAR_MM:g} mm by the motion of other bones, and names of bones may differ"
            )
            note = table.at[at, "note"]
            table.at[at, "note"] = f"{said}; {note}" if isinstance(note, str) else said
            table.at[at, "perhaps_same"] = other
    return table


def _guides(middle: Array, motions: Mapping[int, BoneMotion], middles_mm: Mapping[int, Array]) -> list[Array]:
    """Motions of the two nearest vertebrae, ribs, and other bones of the trunk that were laid themselves."""
    near: dict[str, list[tuple[float, int]]] = {}
    for label, motion in motions.items():
        if not motion.own or label not in middles_mm or label not in BY_ID:
            continue
        kind = family([label])
        away = float(np.linalg.norm(middles_mm[label] - middle))
        if away <= AROUND_MM and (kind != "bone" or BY_ID[label].name in _TRUNK):
            near.setdefault(kind, []).append((away, label))
    return [motions[n].second_mm_from_first_mm for some in near.values() for _, n in sorted(some)[:2]]


def _points(hotspots: Volume, numbers: list[int]) -> list[Array]:
    """(n, 3) RAS mm of the voxels of each of these hotspots."""
    boxes = ndimage.find_objects(hotspots.data)
    found = []
    for number in numbers:
        box = boxes[number - 1]
        start = [edge.start for edge in box]
        found.append(hotspots.grid.mm(np.argwhere(hotspots.data[box] == number) + start))
    return found


def _moved(mm: Array, motion: Array) -> Array:
    return mm @ motion[:3, :3].T + motion[:3, 3]
