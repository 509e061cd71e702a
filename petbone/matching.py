"""Which hotspot of one PET is which of another: two tracers, or two dates, in one frame of reference.

* *overlap* : shared volume over the volume of the smaller of two hotspots
* *gap*     : distance between the nearest voxel centres of two hotspots that share nothing
* *matched* : one to one, so that the sum of scores is highest (linear assignment); a score is Dice's, or, for
  two hotspots of one bone that share nothing but are within `NEAR_MM`, a little, the less the wider the gap
* *split*   : a hotspot of the second PET that is left and lies mostly in one of the first that is matched
* *merged*  : the reverse, a hotspot of the first that has gone into a larger one of the second
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

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


def match_hotspots(
    first: Volume,
    second: Volume,
    first_table: pd.DataFrame,
    second_table: pd.DataFrame,
    motions: dict[int, Any] | None = None,  # noqa: ARG001  stand-in: not yet used
) -> pd.DataFrame:
    """A row per pair, and per hotspot that has no partner; the columns of `COLUMNS`.

    `first`, `second`: hotspot numbers on the grids of their PETs, in one frame (RAS mm); the tables are
    theirs (`burden.hotspot_table`). Ratios are second over first. `distance_mm` is between the middles. In
    rows of `split` and `merged` ratios are empty: their partner is in another row, too.
    """
    points = [_points(volume) for volume in (first, second)]
    shared_ml = _shared_ml(first, second)
    sizes = [
        np.bincount(number, minlength=shared_ml.shape[n] + 1)[1:] for n, (number, _) in enumerate(points)
    ]
    volumes = [size * volume.grid.voxel_ml for size, volume in zip(sizes, (first, second), strict=True)]
    middles = [_middles(number, mm, size.size) for (number, mm), size in zip(points, sizes, strict=True)]
    parts = [shared_ml / volumes[0][:, None], shared_ml / volumes[1][None, :]]
    overlap = np.minimum(np.maximum(*parts), 1.0)
    dice = 2 * shared_ml / (volumes[0][:, None] + volumes[1][None, :])
    score = dice + _nearness(points, overlap, first_table, second_table)
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


def _points(hotspots: Volume) -> tuple[npt.NDArray[np.int64], Array]:
    """(number, RAS mm) of every voxel of a hotspot."""
    ijk = np.argwhere(hotspots.data > 0)
    return hotspots.data[tuple(ijk.T)].astype(np.int64), hotspots.grid.mm(ijk)


def _middles(number: npt.NDArray[np.int64], mm: Array, count: int) -> Array:
    """(count, 3) mean place of each hotspot's voxels."""
    sums = np.stack(
        [np.bincount(number, axis, minlength=count + 1)[1:] for axis in mm.reshape(-1, 3).T], axis=1
    )
    return sums / np.maximum(np.bincount(number, minlength=count + 1)[1:, None], 1)


def _shared_ml(first: Volume, second: Volume) -> Array:
    """(n, m) volume that each two hotspots share, by the voxels of the finer grid."""
    n, m = (int(volume.data.max(initial=0)) for volume in (first, second))
    fine, other = (first, second) if first.grid.voxel_ml <= second.grid.voxel_ml else (second, first)
    ijk = np.argwhere(fine.data > 0)
    number = fine.data[tuple(ijk.T)].astype(np.int64)
    at = np.rint(other.grid.ijk(fine.grid.mm(ijk))).astype(np.int64)
    inside = ((at >= 0) & (at < np.array(other.grid.shape))).all(axis=1)
    theirs = other.data[tuple(at[inside].T)].astype(np.int64)
    number, theirs = number[inside][theirs > 0], theirs[theirs > 0]
    pairs = (number, theirs) if fine is first else (theirs, number)
    shared = np.zeros((n, m))
    np.add.at(shared, (pairs[0] - 1, pairs[1] - 1), fine.grid.voxel_ml)
    return shared


def _nearness(
    points: list[tuple[npt.NDArray[np.int64], Array]],
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
