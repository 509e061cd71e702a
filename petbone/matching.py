"""Which hotspot of one PET is which of another: two tracers, or two dates, in one frame of reference.

* *overlap* : shared volume over the volume of the smaller of two hotspots
* *gap*     : distance between the nearest voxel centres of two hotspots that share nothing
* *matched* : one to one, so that the sum of scores is highest (linear assignment); a score is Dice's, or, for
  two hotspots of one bone that share nothing but are within `NEAR_MM`, a little, the less the wider the gap
* *split*   : a hotspot of the second PET that is left and lies mostly in one of the first that is matched
* *merged*  : the reverse, a hotspot of the first that has gone into a larger one of the second

Of two days the patient lies otherwise: then every hotspot of the second is brought to the first by the motion
of its bone (`bone_motion`) before anything is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from petbone.anatomy import BY_NAME
from petbone.bone_motion import BoneMotion
from petbone.volume import Volume

NEAR_MM = 8.0
"""Two voxels of a usual PET: what breathing and the reading of two PETs move a focus by."""
MOSTLY = 0.5

COLUMNS = (
    "relation hotspot_1 hotspot_2 bone_1 bone_2 overlap distance_mm volume_ml_1 volume_ml_2 suv_max_1 "
    "suv_max_2 suv_max_ratio volume_ratio tlu_ratio"
).split()
RELATIONS = ("matched", "split", "merged", "first only", "second only")

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Move = tuple[Array, Numbers]
"""first_mm_from_second_mm (4, 4), and the hotspots of the second PET that it brings."""


def match_hotspots(
    first: Volume,
    second: Volume,
    first_table: pd.DataFrame,
    second_table: pd.DataFrame,
    motions: Mapping[int, BoneMotion] | None = None,
) -> pd.DataFrame:
    """A row per pair, and per hotspot that has no partner; the columns of `COLUMNS`.

    `first`, `second`: hotspot numbers on the grids of their PETs; the tables are theirs
    (`burden.hotspot_table`). Ratios are second over first. `distance_mm` is between the middles. In rows of
    `split` and `merged` ratios are empty: their partner is in another row, too.

    Without `motions` the two lie in one frame (RAS mm). With them (`bone_motion.bone_motions`, by label) each
    hotspot of the second PET is brought to the first by the motion of the bone that it is in. Where that bone
    has none, all motions are asked, and the one that comes nearest to their median is taken. With an empty
    mapping no way between the two is known, and nothing is matched.
    """
    points = [_points(volume) for volume in (first, second)]
    moves = _moves(points[1], second_table, motions)
    points[1] = points[1][0], _brought(*points[1], moves)
    shared_ml = _shared_ml(first, second, points, moves)
    sizes = [
        np.bincount(number, minlength=shared_ml.shape[n] + 1)[1:] for n, (number, _) in enumerate(points)
    ]
    volumes = [size * volume.grid.voxel_ml for size, volume in zip(sizes, (first, second), strict=True)]
    middles = [_middles(number, mm, size.size) for (number, mm), size in zip(points, sizes, strict=True)]
    parts = [shared_ml / volumes[0][:, None], shared_ml / volumes[1][None, :]]
    overlap = np.minimum(np.maximum(*parts), 1.0)
    dice = 2 * shared_ml / (volumes[0][:, None] + volumes[1][None, :])
    score = dice + (_nearness(points, overlap, first_table, second_table) if moves else 0.0)
    from scipy.optimize import linear_sum_assignment  # paid for by those who have two examinations

    rows, columns = linear_sum_assignment(-score)
    partner = {int(i): int(j) for i, j in zip(rows, columns, strict=True) if score[i, j] > 0}
    pairs = [("matched", i, j) for i, j in partner.items()]
    for j in sorted(set(range(overlap.shape[1])) - set(partner.values())):
        into = shared_ml[:, j] / volumes[1][j]
        whole = int(into.argmax()) if into.size else 0
        is_part = into.size and into[whole] >= MOSTLY
        pairs.append(("split", whole, j) if is_part else ("second only", -1, j))
    for i in sorted(set(range(overlap.shape[0])) - set(partner)):
        into = shared_ml[i] / volumes[0][i]
        whole = int(into.argmax()) if into.size else 0
        is_part = into.size and into[whole] >= MOSTLY
        pairs.append(("merged", i, whole) if is_part else ("first only", i, -1))
    records = [_row(*pair, overlap, middles, first_table, second_table) for pair in pairs]
    table = pd.DataFrame(records, columns=COLUMNS)
    table["relation"] = pd.Categorical(table["relation"], RELATIONS)
    table = table.sort_values(["relation", "hotspot_1", "hotspot_2"], ignore_index=True)
    for column in ("hotspot_1", "hotspot_2"):
        table[column] = table[column].astype("Int64")
    return table.astype({"relation": str})


def shared_volumes(
    first: Volume, second: Volume, second_table: pd.DataFrame, motions: Mapping[int, BoneMotion] | None = None
) -> tuple[Array, Array, Array]:
    """(n, m) mL that every two hotspots share, and (n,), (m,) mL of each by its voxels.

    As in `match_hotspots`: counted on the finer of the two grids, with the motions of the bones if given.
    """
    points = [_points(volume) for volume in (first, second)]
    moves = _moves(points[1], second_table, motions)
    points[1] = points[1][0], _brought(*points[1], moves)
    shared_ml = _shared_ml(first, second, points, moves)
    volumes = [
        np.asarray(np.bincount(number, minlength=count + 1)[1:] * volume.grid.voxel_ml, np.float64)
        for (number, _), count, volume in zip(points, shared_ml.shape, (first, second), strict=True)
    ]
    return shared_ml, volumes[0], volumes[1]


def _points(hotspots: Volume) -> tuple[Numbers, Array]:
    """(number, RAS mm) of every voxel of a hotspot."""
    ijk = np.argwhere(hotspots.data > 0)
    return hotspots.data[tuple(ijk.T)].astype(np.int64), hotspots.grid.mm(ijk)


def _middles(number: Numbers, mm: Array, count: int) -> Array:
    """(count, 3) mean place of each hotspot's voxels."""
    sums = np.stack(
        [np.bincount(number, axis, minlength=count + 1)[1:] for axis in mm.reshape(-1, 3).T], axis=1
    )
    return sums / np.maximum(np.bincount(number, minlength=count + 1)[1:, None], 1)


def _moves(
    points: tuple[Numbers, Array], table: pd.DataFrame, motions: Mapping[int, BoneMotion] | None
) -> list[Move]:
    """Every motion in use with the hotspots that it brings; every hotspot once, or none without any way."""
    if motions is None:
        return [(np.eye(4), np.arange(1, len(table) + 1, dtype=np.int64))]
    if not motions:
        return []
    labels = list(motions)
    inverse = {label: _inverse(motions[label].second_mm_from_first_mm) for label in labels}
    groups: dict[int, list[int]] = {}
    for number, name in enumerate(table["bone"], start=1):
        bone = BY_NAME.get(name)
        label = bone.id if bone is not None else 0
        if label not in inverse:
            middle = points[1][points[0] == number].mean(axis=0)
            places = np.stack([_placed(middle, inverse[n]) for n in labels])
            away = np.linalg.norm(places - np.median(places, axis=0), axis=1)
            label = labels[int(away.argmin())]
        groups.setdefault(label, []).append(number)
    return [(inverse[label], np.array(numbers, np.int64)) for label, numbers in groups.items()]


def _inverse(motion: Array) -> Array:
    return np.asarray(np.linalg.inv(motion), np.float64)


def _placed(mm: Array, motion: Array) -> Array:
    return mm @ motion[:3, :3].T + motion[:3, 3]


def _brought(number: Numbers, mm: Array, moves: list[Move]) -> Array:
    """The points of hotspots, each by its own motion."""
    brought = mm.copy()
    for motion, numbers in moves:
        if not np.array_equal(motion, np.eye(4)):
            chosen = np.isin(number, numbers)
            brought[chosen] = _placed(mm[chosen], motion)
    return brought


def _shared_ml(
    first: Volume,
    second: Volume,
    points: list[tuple[Numbers, Array]],
    moves: list[Move],
) -> Array:
    """(n, m) volume that each two hotspots share, by the voxels of the finer grid.

    `points`: those of both in the frame of the first, to which `moves` brought the second.
    """
    shared = np.zeros((int(first.data.max(initial=0)), int(second.data.max(initial=0))))
    if moves and first.grid.voxel_ml > second.grid.voxel_ml:
        number, mm = points[1]
        theirs = _at(first, mm)
        np.add.at(shared, (theirs[theirs > 0] - 1, number[theirs > 0] - 1), second.grid.voxel_ml)
        return shared
    for motion, numbers in moves:
        number, mm = points[0]
        if not np.array_equal(motion, np.eye(4)):
            there = points[1][1][np.isin(points[1][0], numbers)]
            margin = second.grid.spacing_mm.sum()
            near = ((mm >= there.min(axis=0) - margin) & (mm <= there.max(axis=0) + margin)).all(axis=1)
            number, mm = number[near], _placed(mm[near], _inverse(motion))
        theirs = _at(second, mm)
        here = np.isin(theirs, numbers)
        np.add.at(shared, (number[here] - 1, theirs[here] - 1), first.grid.voxel_ml)
    return shared


def _at(hotspots: Volume, mm: Array) -> Numbers:
    """The hotspot at each point, 0 for none and outside of the field of view."""
    ijk = np.rint(hotspots.grid.ijk(mm)).astype(np.int64)
    inside = ((ijk >= 0) & (ijk < np.array(hotspots.grid.shape))).all(axis=1)
    number = np.zeros(len(mm), np.int64)
    number[inside] = hotspots.data[tuple(ijk[inside].T)]
    return number


def _nearness(
    points: list[tuple[Numbers, Array]],
    overlap: Array,
    first_table: pd.DataFrame,
    second_table: pd.DataFrame,
) -> Array:
    """(n, m) up to 0.1 for hotspots of one bone that share nothing and are near; else 0."""
    near = np.zeros(overlap.shape)
    if not near.size:
        return near
    same_bone = first_table["bone"].to_numpy()[:, None] == second_table["bone"].to_numpy()[None, :]
    trees = [
        [cKDTree(mm[number == n]) for n in range(1, count + 1)]
        for (number, mm), count in zip(points, overlap.shape, strict=True)
    ]
    for i, j in np.argwhere(same_bone & (overlap == 0)):
        gaps, _ = trees[0][i].query(trees[1][j].data, distance_upper_bound=NEAR_MM)
        if gaps.min() <= NEAR_MM:
            near[i, j] = 0.1 * (1 - gaps.min() / (2 * NEAR_MM))
    return near


def _row(
    relation: str,
    i: int,
    j: int,
    overlap: Array,
    middles: list[Array],
    first_table: pd.DataFrame,
    second_table: pd.DataFrame,
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row["relation"] = relation
    for suffix, at, table in (("1", i, first_table), ("2", j, second_table)):
        if at >= 0:
            spot = table.iloc[at]
            row |= {f"hotspot_{suffix}": int(spot["hotspot"]), f"bone_{suffix}": spot["bone"]}
            row |= {f"{name}_{suffix}": float(spot[name]) for name in ("volume_ml", "suv_max")}
    if i >= 0 and j >= 0:
        row["overlap"] = float(overlap[i, j])
        row["distance_mm"] = float(np.linalg.norm(middles[0][i] - middles[1][j]))
    if relation == "matched":
        for name, column in (("suv_max", "suv_max"), ("volume", "volume_ml"), ("tlu", "tlu_g")):
            row[f"{name}_ratio"] = float(second_table.iloc[j][column] / first_table.iloc[i][column])
    return row
