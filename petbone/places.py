"""The place of a hotspot at the other date: was it in the field of view, and what was its uptake there?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from petbone.anatomy import BY_NAME
from petbone.label_counts import label_counts
from petbone.volume import Grid, Volume

COLUMNS = ("bone_there", "way_known", "seen_there", "suv_max_there")

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OtherDate:
    """What is looked into: SUV and bones of the other date, the bones that its PET saw, and the way there.

    `mm_from_own_mm`: by label, (4, 4) from the world of the hotspots to that of the other date. `near`: the
    labels whose way is the bone's own or that of real neighbours (`BoneMotion.near`).
    """

    suv: Volume
    bones: Volume
    seen: frozenset[int]
    mm_from_own_mm: Mapping[int, Array]
    near: frozenset[int] = frozenset()


def look_up(hotspots: Volume, table: pd.DataFrame, other: OtherDate) -> pd.DataFrame:
    """A row per hotspot of `table`, in its order, the columns of `COLUMNS`.

    ``bone_there``: the other date saw the bone; ``way_known``: its way is its own or its neighbours';
    ``seen_there``: part of the hotspot's voxels in both its PET and its bone map, NaN where no motion of the
    bone is known; ``suv_max_there``: highest SUV there, of voxels whose middle lies in bone where there are
    any.
    """
    ijk = np.argwhere(hotspots.data > 0)
    number = hotspots.data[tuple(ijk.T)].astype(np.int64)
    order = np.argsort(number, kind="stable")
    ijk, number = ijk[order], number[order]
    rows = []
    for spot in table.to_dict("records"):
        start, stop = np.searchsorted(number, [spot["hotspot"], spot["hotspot"] + 1])
        bone = BY_NAME[spot["bone"]].id
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {"bone_there": bone in other.seen, "way_known": bone in other.near}
        way = other.mm_from_own_mm.get(bone)
        if way is not None and stop > start:
            mm = hotspots.grid.mm(ijk[start:stop]) @ way[:3, :3].T + way[:3, 3]
            # A voxel at the rim of a field counts by its part of bone, even where its middle lies beyond.
            row |= _at(mm, other, float(hotspots.grid.spacing_mm.max()) / 2)
        rows.append(row)
    found = pd.DataFrame(rows, columns=COLUMNS)
    kinds = {"bone_there": bool, "way_known": bool, "seen_there": float, "suv_max_there": float}
    return found.astype(kinds)


def _at(mm: Array, other: OtherDate, slack_mm: float) -> dict[str, float]:
    at, in_pet = _voxels(other.suv.grid, mm, slack_mm)
    at_bone, in_map = _voxels(other.bones.grid, mm, slack_mm)
    seen = in_pet & in_map
    if not seen.any():
        return {"seen_there": 0.0}
    in_bone = other.bones.data[tuple(at_bone[seen].T)] > 0
    suv = other.suv.data[tuple(at[seen].T)]
    return {
        "seen_there": float(seen.mean()),
        "suv_max_there": float((suv[in_bone] if in_bone.any() else suv).max()),
    }


def _voxels(grid: Grid, mm: Array, slack_mm: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The nearest voxels of points, and whether these lie in the field or at most `slack_mm` beyond it."""
    at = grid.ijk(mm)
    last = np.array(grid.shape) - 1
    beyond_mm = np.maximum(np.maximum(-0.5 - at, at - last - 0.5), 0) * grid.spacing_mm
    nearest = np.clip(np.rint(at), 0, last).astype(np.int64)
    return nearest, (beyond_mm <= slack_mm + 1e-6).all(axis=1)


def middles_mm(bones: Volume) -> dict[int, Array]:
    """By label, the mean place of the bone in RAS mm."""
    sums = np.zeros((256, 4))
    # Slice by slice: the indices of all bone at once would be larger than the image.
    for k in range(bones.grid.shape[2]):
        plane = bones.data[:, :, k]
        i, j = np.nonzero(plane)
        label = plane[i, j]
        for column, weights in enumerate((i, j, np.full(i.size, k), None)):
            sums[:, column] += np.bincount(label, weights, minlength=256)
    found = np.flatnonzero(sums[:, 3])
    return {int(n): bones.grid.mm(sums[n, :3] / sums[n, 3]) for n in found}


def labels_of(bones: Volume) -> frozenset[int]:
    """The labels, 1 to 255, that a label map holds."""
    return frozenset(int(n) for n in np.flatnonzero(label_counts(bones.data)) if n)
